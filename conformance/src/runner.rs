//! Runs checks, each in a lane of its own, several at a time, and tells the outcome.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::check::Check;
use crate::lab::Lab;
use crate::runtime::{self, Runtime};
use crate::{lane, wait};

/// The limit for one check in its lane.
const CHECK: Duration = Duration::from_secs(120);

/// How to run checks and how to tell about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many at a time.
    pub jobs: usize,
    /// Print no line for a check that passed.
    pub quiet: bool,
    /// End as libtest does, for tools that read that.
    pub libtest: bool,
}

/// Runs the checks and prints the outcome. True if all passed.
///
/// # Errors
///
/// If there is no runtime to test.
pub fn run(checks: &[Check], options: &Options) -> Result<bool, String> {
    let runtime = Runtime::program_to_test()?;
    let begin = Instant::now();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let output = Mutex::new(io::stdout());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, 64) {
            scope.spawn(|| {
                while let Some(check) = checks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let failure = one(check, &runtime).err();
                    failed.fetch_add(usize::from(failure.is_some()), Ordering::Relaxed);
                    let text = report(check, failure.as_deref(), begin.elapsed(), options);
                    let mut output = output.lock().expect("printing does not panic");
                    output
                        .write_all(text.as_bytes())
                        .expect("stdout is writable");
                }
            });
        }
    });
    let failed = failed.into_inner();
    let passed = checks.len() - failed;
    if options.libtest {
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
             0 filtered out; finished in {:.2}s",
            begin.elapsed().as_secs_f64()
        );
    } else {
        println!(
            "{}, {:.1} s",
            runtime.display(),
            begin.elapsed().as_secs_f64()
        );
        println!("{passed} passed, {failed} failed");
    }
    Ok(failed == 0)
}

fn report(check: &Check, failure: Option<&str>, took: Duration, options: &Options) -> String {
    let line = format!("{} ({:.2} s)\n", check.path(), took.as_secs_f64());
    match failure {
        Some(text) => format!("FAIL {line}{}\n", indented(text)),
        None if options.quiet => String::new(),
        None => format!("ok   {line}"),
    }
}

/// Indented, and without the rest of lines that are too long to be read.
fn indented(text: &str) -> String {
    let short = |line: &str| line.chars().take(2000).collect::<String>();
    text.lines()
        .map(|line| format!("     {}\n", short(line)))
        .collect()
}

/// Runs one check in a lane. The error is all that it printed.
fn one(check: &Check, runtime: &Path) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let this = std::env::current_exe().map_err(failed)?;
    let mut output = temporary_file().map_err(failed)?;
    let mut child = Command::new(&this)
        .args(["native", "--read-only", "--leaks", "--limit"])
        .arg(CHECK.as_secs().to_string())
        .arg("--")
        .arg(&this)
        .args(["check", &check.path()])
        .env(runtime::VARIABLE, runtime)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(output.try_clone().map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    // The lane has the real limit; this one is for a lane that hangs itself.
    let status = wait::child(&mut child, CHECK + Duration::from_secs(60)).map_err(failed)?;
    if status.is_none() {
        child.kill().map_err(failed)?;
    }
    if status.is_some_and(|status: ExitStatus| status.success()) {
        return Ok(());
    }
    let mut text = String::new();
    output
        .rewind()
        .and_then(|()| output.read_to_string(&mut text))
        .map_err(failed)?;
    Err(text)
}

fn temporary_file() -> io::Result<File> {
    let fd = rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(File::from(fd))
}

/// The inside of [`one`]: the check itself, in the lane. Panics if it fails.
///
/// # Errors
///
/// If there is no lab for it.
pub fn in_lane(check: &Check) -> Result<(), String> {
    lane::require();
    let folder = PathBuf::from("/run/lab");
    let lab = Lab::new(Runtime::program_to_test()?, folder)?;
    (check.run)(&lab);
    Ok(())
}
