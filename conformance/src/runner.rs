//! Runs checks, each in a lane of its own, several at a time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::check::Check;
use crate::lab::Lab;
use crate::leaks::{self, Snapshot};
use crate::report::{Format, Reporter};
use crate::runtime::{self, Runtime};
use crate::{lane, wait};

/// The limit for one check in its lane.
const CHECK: Duration = Duration::from_secs(120);

/// What a check's process returns when it can't be tried, as test programs do.
const SKIPPED: i32 = 77;

/// How to run checks and how to tell about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many at a time.
    pub jobs: usize,
    /// Print no line for a check that passed.
    pub quiet: bool,
    /// Begin no further check once one has failed.
    pub fail_fast: bool,
    /// How the outcome is told.
    pub format: Format,
    /// How many may not be tried here, no more and no less; any number without.
    pub expected_skips: Option<usize>,
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The statement holds.
    Passed,
    /// It does not: all that was printed.
    Failed(String),
    /// It could not be tried here: why.
    Skipped(String),
}

/// A check that was run.
#[derive(Debug, Clone)]
pub struct Record {
    /// The check.
    pub check: Check,
    /// How it ended.
    pub outcome: Outcome,
    /// What it printed.
    pub output: String,
    /// How long it took.
    pub took: Duration,
}

/// Runs the checks and prints the outcome. True if none failed, and as many were skipped
/// as expected, and nothing is left on the machine.
///
/// # Errors
///
/// If there is no runtime to test.
pub fn run(checks: &[Check], options: &Options) -> Result<bool, String> {
    let runtime = Runtime::program_to_test()?;
    // Where a check is one of several tests, the others' are the same machine's.
    let alone = options.format != Format::Libtest;
    let before = alone.then(Snapshot::of_machine);
    let mut reporter = Reporter::new(options.format, options.quiet, &runtime, checks.len());
    each(checks, options.jobs, &Setting::of(&runtime), |record| {
        reporter.tell(record);
        match record.outcome {
            Outcome::Failed(_) if options.fail_fast => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    let passed = reporter.finish(options.expected_skips);
    let left = before.map_or(0, |before| leaks::report_machine(&before, leaks::OTHERS));
    Ok(passed && left == 0)
}

/// What a check is run with.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// The runtime under test.
    pub runtime: &'a Path,
    /// More of the environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// The limit for one check in its lane.
    pub limit: Duration,
}

impl<'a> Setting<'a> {
    /// The usual one.
    #[must_use]
    pub fn of(runtime: &'a Path) -> Self {
        Self {
            runtime,
            environment: &[],
            limit: CHECK,
        }
    }
}

/// Runs the checks, `jobs` at a time, and tells each as it ends; `tell` can stop it.
///
/// # Panics
///
/// If `tell` does.
pub fn each(
    checks: &[Check],
    jobs: usize,
    setting: &Setting<'_>,
    tell: impl FnMut(&Record) -> ControlFlow<()> + Send,
) {
    let stop = AtomicBool::new(false);
    let tell = Mutex::new(tell);
    let alone = |check: &&Check| check.runs_on_the_machine();
    let (alone, together): (Vec<&Check>, Vec<&Check>) = checks.iter().partition(alone);
    run_some(&together, jobs, setting, &stop, &tell);
    run_some(&alone, 1, setting, &stop, &tell);
}

fn run_some(
    checks: &[&Check],
    jobs: usize,
    setting: &Setting<'_>,
    stop: &AtomicBool,
    tell: &Mutex<impl FnMut(&Record) -> ControlFlow<()> + Send>,
) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, 64) {
            scope.spawn(|| {
                while let Some(check) = checks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let record = record(check, setting);
                    let mut tell = tell.lock().expect("telling does not panic");
                    if tell(&record).is_break() {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

fn record(check: &Check, setting: &Setting<'_>) -> Record {
    let begin = Instant::now();
    let (outcome, output) = match one(check, setting) {
        Ok((Some(0), output)) => (Outcome::Passed, output),
        Ok((Some(SKIPPED), output)) => (Outcome::Skipped(output.clone()), output),
        Ok((_, output)) => (Outcome::Failed(output.clone()), output),
        Err(error) => (Outcome::Failed(error.to_string()), String::new()),
    };
    Record {
        check: *check,
        outcome,
        output,
        took: begin.elapsed(),
    }
}

/// Runs one check in a lane: its exit code, and all that it printed.
fn one(check: &Check, setting: &Setting<'_>) -> io::Result<(Option<i32>, String)> {
    let this = std::env::current_exe()?;
    let mut output = temporary_file()?;
    let mut command = Command::new(&this);
    if check.runs_on_the_machine() {
        command.args(["leaks", "--here", "--settle", "20", "--"]);
        command.env(lane::VARIABLE, "native");
    } else {
        command.args(["native", "--read-only", "--leaks", "--limit"]);
        command.arg(setting.limit.as_secs().to_string()).arg("--");
    }
    let mut child = command
        .arg(&this)
        .args(["check", &check.path()])
        .env(runtime::VARIABLE, setting.runtime)
        .env("RUST_BACKTRACE", "0")
        // kill(2) of process 0 reaches a whole group, out of any pid namespace too.
        .process_group(0)
        .envs(setting.environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    // The lane has the real limit; this one is for a lane that hangs itself.
    let status = wait::child(&mut child, setting.limit + Duration::from_secs(60))?;
    if status.is_none() {
        let group = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
    }
    let mut text = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut text)?;
    let code = status.and_then(|status: ExitStatus| status.code());
    Ok((code, String::from_utf8_lossy(&text).into_owned()))
}

fn temporary_file() -> io::Result<File> {
    let fd = rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(File::from(fd))
}

/// The inside of [`one`]: the check itself, in the lane. Panics if it fails. Returns the
/// exit code for what else can happen.
///
/// # Errors
///
/// If there is no lab for it.
pub fn in_lane(check: &Check) -> Result<i32, String> {
    lane::require();
    if let Some(why) = check.obstacle() {
        println!("{why}");
        return Ok(SKIPPED);
    }
    let folder = Folder(PathBuf::from("/run/lab"));
    let lab = Lab::new(Runtime::program_to_test()?, folder.0.clone())?;
    (check.run)(&lab);
    // It is in the lab's folder.
    crate::mutate::print_steps();
    drop(lab);
    Ok(0)
}

/// A lab's folder. In a lane of its own it goes with the lane, on a machine not.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
