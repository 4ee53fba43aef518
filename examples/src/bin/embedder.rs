//! A program, small or large, that runs containers when told to: `embedder BUNDLE ROOT [THREADS MIB]` (as root).
//!
//! With numbers it first starts so many threads that sleep, and fills so many MiB. Then each line of its input is
//! something to do, and is answered with the nanoseconds it took: `library` creates, starts, waits for and deletes a
//! container; any other line is a command to be started and waited for. `conformance bench library` compares what the
//! same costs a small and a large program: it should be the same.

use std::error::Error;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use corten_core::{Bundle, CreateOptions, Delete, ExitStatus, Runtime};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embedder: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [path, root, size @ ..] = words.as_slice() else {
        return Err("usage: embedder BUNDLE ROOT [THREADS MIB]".into());
    };
    let memory = grow(size)?;
    let runtime = Runtime::builder().root(root).build()?;
    let bundle = Bundle::load(path)?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let time = match line.as_str() {
            "library" => library(&runtime, &bundle)?,
            command => spawn(command)?,
        };
        println!("{}", time.as_nanos());
    }
    // Until here it must not be given back.
    std::hint::black_box(&memory);
    Ok(())
}

/// Starts the threads and fills the memory.
fn grow(size: &[String]) -> Result<Vec<u8>> {
    let [threads, mib] = size else {
        return Ok(Vec::new());
    };
    for _ in 0..threads.parse::<usize>()? {
        thread::spawn(|| {
            loop {
                thread::park();
            }
        });
    }
    // Small pages: what a copy of the page tables costs grows with their number.
    rustix::thread::disable_transparent_huge_pages(true)?;
    Ok(vec![1; mib.parse::<usize>()? << 20])
}

fn library(runtime: &Runtime, bundle: &Bundle) -> Result<Duration> {
    let begin = Instant::now();
    let mut container = runtime.create("embedded", bundle, CreateOptions::default())?;
    container.start()?;
    let exit = container.wait()?;
    container.delete(Delete::IfStopped)?;
    let time = begin.elapsed();
    match exit.status {
        ExitStatus::Code(0) => Ok(time),
        other => Err(format!("the container's process: {other:?}").into()),
    }
}

fn spawn(line: &str) -> Result<Duration> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdout(Stdio::null());
    let begin = Instant::now();
    let status = command.status()?;
    let time = begin.elapsed();
    if status.success() {
        Ok(time)
    } else {
        Err(format!("{line}: {status}").into())
    }
}
