//! What a creation costs a large program, against a small one.
//!
//! `cargo bench -p corten-core --bench resident [-- PAIRS]`, as root, prints a Markdown
//! table. Two programs, one of them with 2 GiB of small pages written to, create the same
//! container in turn, so that whatever else the machine does meets both. The time is that
//! of `Runtime::create` alone; a fork(2) by the same two programs is the control.
//!
//! Runs itself in a native lane: needs the `conformance` and `probe` binaries of the same
//! profile beside it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use corten_conformance::{bundle, lane};
use corten_core::{Bundle, CreateOptions, Delete, Runtime, spec};
use serde_json::{Value, json};

#[allow(
    unsafe_code,
    dead_code,
    reason = "the calls that the tests need, of which two are used"
)]
#[path = "../tests/library/sys.rs"]
mod sys;

const RESIDENT: usize = 2 << 30;
const PAIRS: usize = 500;
const WARM_UP: usize = 20;
/// Of the control, which takes much longer.
const FORKS: usize = 20;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let first = words.next();
    match first.as_deref() {
        Some("worker") => work(&words.next().expect("a size")),
        pairs if lane::inside() => {
            measure(pairs.map_or(PAIRS, |pairs| pairs.parse().expect("a number of pairs")));
        }
        pairs => {
            let conformance = corten_conformance::built("conformance");
            let mut command = Command::new(conformance.unwrap_or_else(|error| panic!("{error}")));
            command.args(["native", "--"]);
            command.arg(std::env::current_exe().expect("a running program has a path"));
            let status = command.args(pairs).status().expect("conformance starts");
            assert!(status.success(), "{status}");
        }
    }
}

/// One of the two programs, told what to do by lines.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(size: &str) -> Worker {
        let this = std::env::current_exe().expect("a running program has a path");
        let mut child = Command::new(this)
            .args(["worker", size])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let input = child.stdin.take().expect("it is a pipe");
        let output = BufReader::new(child.stdout.take().expect("it is a pipe"));
        Worker {
            child,
            input,
            output,
        }
    }

    /// How long it took, as the worker itself measured.
    fn time(&mut self, what: &str) -> Duration {
        writeln!(self.input, "{what}").expect("the worker listens");
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("the worker answers");
        Duration::from_nanos(line.trim().parse().expect("a number of ns"))
    }

    fn end(mut self) {
        drop(self.input);
        self.child.wait().expect("an own child");
    }
}

fn measure(pairs: usize) {
    let mut workers = ["0", &RESIDENT.to_string()].map(Worker::start);
    println!("| from a program with | creations | least | median | fork(2), median |");
    println!("|---|---|---|---|---|");
    let mut times = series(&mut workers, "create", WARM_UP + pairs);
    for times in &mut times {
        times.drain(..WARM_UP);
        times.sort();
    }
    let mut forks = series(&mut workers, "fork", FORKS);
    forks.iter_mut().for_each(|times| times.sort());
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    for ((name, times), forks) in ["little", "2 GiB resident"].iter().zip(&times).zip(&forks) {
        let (least, median, fork) = (times[0], times[times.len() / 2], forks[forks.len() / 2]);
        let (least, median, fork) = (us(least), us(median), us(fork));
        println!("| {name} | {pairs} | {least:.0} us | {median:.0} us | {fork:.0} us |");
    }
    let [small, large] = &times;
    let ratio = |at: usize| us(large[at]) / us(small[at]);
    println!();
    println!(
        "Large by small: {:.2} (least), {:.2} (median).",
        ratio(0),
        ratio(pairs / 2)
    );
    workers.into_iter().for_each(Worker::end);
}

/// In turn, each first half of the time.
fn series(workers: &mut [Worker; 2], what: &str, count: usize) -> [Vec<Duration>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..count {
        for turn in 0..2 {
            let at = (round + turn) % 2;
            times[at].push(workers[at].time(what));
        }
    }
    times
}

fn work(size: &str) {
    let folder = Path::new("/run").join(format!("resident-{size}"));
    let mut config: Value = serde_json::from_str(&spec::to_json(&spec::default_spec()))
        .expect("a configuration is JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/probe", "true"]);
    let probe = corten_conformance::built("probe").unwrap_or_else(|error| panic!("{error}"));
    let on_disk = bundle::Bundle::new(&folder, config, &probe).expect("/run is the lane's own");
    on_disk.write().expect("/run is the lane's own");
    let bundle = Bundle::load(&folder).unwrap_or_else(|error| panic!("{error:#}"));
    let runtime = Runtime::builder().root("/run/resident-state").build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error:#}"));

    let memory = sys::resident(size.parse().expect("a size"));
    for line in std::io::stdin().lines() {
        let time = match line.expect("lines are text").as_str() {
            "fork" => {
                let begin = Instant::now();
                sys::fork_and_wait();
                let time = begin.elapsed();
                // The next one is to find the memory as this one did.
                sys::touch(memory);
                time
            }
            _ => create(&runtime, size, &bundle),
        };
        println!("{}", time.as_nanos());
    }
}

fn create(runtime: &Runtime, id: &str, bundle: &Bundle) -> Duration {
    let begin = Instant::now();
    let container = runtime.create(id, bundle, CreateOptions::default());
    let time = begin.elapsed();
    let deleted = container.and_then(|container| container.delete(Delete::Force));
    deleted.unwrap_or_else(|error| panic!("{error:#}"));
    time
}
