//! The command line of `conformance`.

mod machine;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use crate::report::Format;
use crate::{bench, check, compare, immune, lane, leaks, mutate, runner, runtime, spec, table};

const HELP: &str = "\
conformance: checks of an OCI runtime by running it

  conformance run [--lane LANE] [--runtime FILE] [--jobs N] [--quiet]
                  [--fail-fast] [--format text|json|junit|tap] [--expect-skips N]
                  [WORD...]
      runs the checks whose name contains a WORD (all without) and ends with
      `N passed, N failed`. With --expect-skips any other number of skips fails. The
      runtime is FILE, else $CORTEN_TEST_RUNTIME, else the corten that was built beside
      this program. LANE is native (this machine's kernel), uml, with a --kernel, or full;
      in a lane's machine FILE is a static binary, or lane:/usr/sbin/runc for one that
      the machine has
  conformance immune [OPTION...]
      runs the checks of flaws that other runtimes had, see docs/immune.md
  conformance list [WORD...]
      prints a line per check, with tabs between: its name, its facility, what it needs
      that not every lane has (or -), what it is by in the specification
  conformance compare --runtime FILE --runtime FILE... [--suite] [BUNDLE...]
      runs each BUNDLE, with a probe as its process, under every runtime, and tells
      what the probe saw differently; --suite adds a built-in list of bundles
  conformance table --runtime FILE --runtime FILE... [--jobs N] [--output FILE]
      runs all checks with every runtime, the first being ours, and writes a page in
      Markdown. 1 if ours fails one, or if all others fail one that has no note
  conformance bench [--runtime FILE]... [--rounds N] [--format text|json] [--svg DIR]
                    [--output DIR] [--list] [WORD...]
      measures what containers cost: the corten built beside this program and the peers
      of scripts/peers.sh (or these runtimes, the first being ours), and a program that
      makes the same containers by system calls alone. For release builds. The groups
      whose name contains a WORD (all without), told by --list. DIR gets a picture per
      measurement, and with --output the report in both formats too
  conformance leaks [--limit SECONDS] [--settle SECONDS] -- COMMAND...
  conformance leaks --here [--settle SECONDS] -- COMMAND...
      runs a command in the native lane and fails if it leaves anything behind, there or
      on this machine, where others may have such things too: what is still there after
      the time to settle, 60 s. With --here it is no lane, and its processes count
  conformance mutate [--lane LANE] [--runtime FILE] [--jobs N] [--list] [WORD...]
      builds a corten that can leave a step out of its plans (or takes FILE, built so),
      leaves out each step that a check's plan has (those whose name contains a WORD; all
      without) and runs the checks that have it: a step that none misses has survived.
      1 if any has. In a machine without WORDs only steps that the native lane lacks
  conformance native [--read-only] [--leaks] [--limit SECONDS] -- COMMAND...
      runs a command in the native lane: private namespaces with cgroup v2 and a
      /dev and /run of their own. --read-only protects the machine's files, --leaks
      fails if anything is left behind, --limit kills all of it after a time
  conformance lane build LANE [--kernel 6.1|newest]
      makes what the lane's machine needs, kept in ~/.cache/corten/lanes: uml is User
      Mode Linux, 6.1 or Debian's newest, with cgroup v2 and its controllers; full is
      QEMU, with systemd, container engines and every controller. Installs missing
      packages, and removes what an older recipe made
  conformance lane run LANE [--kernel 6.1|newest] [--runtime FILE] [--limit SECONDS]
                  -- COMMAND...
      boots the machine and runs a command in it. /host has corten (or FILE), probe and
      conformance. Returns the command's exit code, 124 after the limit (600 s), 125 if
      the machine broke; both with the last lines of its console
";

/// Runs the command line, and returns the exit code.
#[must_use]
pub fn main(arguments: &[OsString]) -> i32 {
    let words: Vec<&str> = arguments
        .iter()
        .map(|word| word.to_str().unwrap_or("?"))
        .collect();
    let outcome = match words.as_slice() {
        ["run", rest @ ..] => run(rest),
        ["immune", rest @ ..] => run(&[rest, &immune::checks()].concat()),
        ["lane", ..] => machine::lane(&arguments[1..]),
        ["list", rest @ ..] => {
            list(rest);
            Ok(0)
        }
        ["compare", ..] => compare::run(&arguments[1..]),
        ["bench", rest @ ..] => bench(rest),
        ["bench-here", rest @ ..] => bench::in_lane(rest).map(|()| 0),
        ["compare-here", rest @ ..] => compare_here(rest),
        ["leaks", ..] => native(&arguments[1..], Around::WatchedLane),
        ["mutate", rest @ ..] => mutate(rest),
        ["table", rest @ ..] => table(rest),
        ["native", ..] => native(&arguments[1..], Around::Lane),
        // Not for people: how the program calls itself.
        ["lane-init", ..] => lane::inside::run(&arguments[1..]).map_err(|e| e.to_string()),
        ["check", path] => one(path),
        ["libtest", rest @ ..] => libtest(rest),
        ["die-with-parent", ..] => machine::die_with_parent(&arguments[1..]),
        ["on-tty", ..] => on_tty(&arguments[1..]),
        ["help" | "--help" | "-h", ..] => {
            print!("{HELP}");
            Ok(0)
        }
        _ => Err(format!("no such command\n{HELP}")),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("conformance: {error}");
        1
    })
}

/// How many checks at a time: they wait more than they compute.
fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn options(format: Format) -> runner::Options {
    runner::Options {
        jobs: default_jobs(),
        quiet: false,
        fail_fast: false,
        format,
        expected_skips: None,
    }
}

fn run(words: &[&str]) -> Result<i32, String> {
    if let Some(at) = words.iter().position(|word| *word == "--lane") {
        let lane = words.get(at + 1).ok_or("--lane needs a value")?;
        let rest = [&words[..at], &words[at + 2..]].concat();
        return match *lane {
            "native" => run(&rest),
            machine => machine::checks(machine, &rest),
        };
    }
    let mut options = options(Format::Text);
    let mut filters = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match *word {
            "--quiet" | "-q" => options.quiet = true,
            "--jobs" | "-j" => options.jobs = number(value()?)?,
            "--fail-fast" => options.fail_fast = true,
            "--expect-skips" => options.expected_skips = Some(number(value()?)?),
            "--format" => options.format = value()?.parse()?,
            "--runtime" => set_runtime(value()?)?,
            option if option.starts_with('-') => return Err(format!("{option}: unknown option")),
            filter => filters.push(filter.to_owned()),
        }
    }
    finish(&filters, &options)
}

fn finish(filters: &[String], options: &runner::Options) -> Result<i32, String> {
    let checks = check::matching(filters);
    if checks.is_empty() {
        return Err(format!("no check is named like {filters:?}"));
    }
    Ok(i32::from(!runner::run(&checks, options)?))
}

fn compare_here(words: &[&str]) -> Result<i32, String> {
    let mut options = compare::Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--suite" => options.suite = true,
            "--runtime" => {
                let path = words.next().ok_or("--runtime needs a value")?;
                let found = std::fs::canonicalize(path);
                let found = found.map_err(|error| format!("{path}: {error}"))?;
                options.runtimes.push(found);
            }
            option if option.starts_with('-') => return Err(format!("{option}: unknown option")),
            path => options.bundles.push(path.into()),
        }
    }
    Ok(i32::from(!compare::in_lane(&options)?))
}

fn table(words: &[&str]) -> Result<i32, String> {
    let mut options = table::Options {
        jobs: default_jobs(),
        ..table::Options::default()
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match *word {
            "--runtime" => options.runtimes.push(value()?.into()),
            "--output" => options.output = Some(value()?.into()),
            "--jobs" | "-j" => options.jobs = number(value()?)?,
            other => return Err(format!("{other}: unknown option")),
        }
    }
    Ok(i32::from(!table::run(&options)?))
}

fn bench(words: &[&str]) -> Result<i32, String> {
    let mut options = bench::Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match *word {
            "--list" => options.list = true,
            "--rounds" => options.rounds = number(value()?)?,
            "--svg" => options.svg = Some(value()?.into()),
            "--output" => options.output = Some(value()?.into()),
            "--runtime" => {
                let path = value()?;
                let found = std::fs::canonicalize(path);
                options
                    .runtimes
                    .push(found.map_err(|error| format!("{path}: {error}"))?);
            }
            "--format" => {
                options.json = match *value()? {
                    "json" => true,
                    "text" => false,
                    other => return Err(format!("{other}: text or json")),
                };
            }
            option if option.starts_with('-') => return Err(format!("{option}: unknown option")),
            word => options.words.push(word.to_owned()),
        }
    }
    bench::run(&options).map(|()| 0)
}

fn mutate(words: &[&str]) -> Result<i32, String> {
    if let Some(at) = words.iter().position(|word| *word == "--lane") {
        let lane = words.get(at + 1).ok_or("--lane needs a value")?;
        let rest = [&words[..at], &words[at + 2..]].concat();
        return match *lane {
            "native" => mutate(&rest),
            machine => machine::mutate(machine, &rest),
        };
    }
    let mut options = mutate::Options {
        jobs: default_jobs(),
        ..mutate::Options::default()
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match *word {
            "--list" => options.list = true,
            "--needy" => options.needy = true,
            "--jobs" | "-j" => options.jobs = number(value()?)?,
            "--runtime" => options.runtime = Some(value()?.into()),
            option if option.starts_with('-') => return Err(format!("{option}: unknown option")),
            word => options.words.push(word.to_owned()),
        }
    }
    Ok(i32::from(!mutate::run(&options)?))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// Re-executes with the variable set: setting it here would need unsafe code.
fn set_runtime(path: &str) -> Result<(), String> {
    let wanted = std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
    if std::env::var_os(runtime::VARIABLE).is_some_and(|now| now == wanted.as_os_str()) {
        return Ok(());
    }
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut again = Command::new(this);
    again
        .args(std::env::args_os().skip(1))
        .env(runtime::VARIABLE, wanted);
    Err(again.exec().to_string())
}

fn list(words: &[&str]) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    for check in check::matching(&words) {
        let needs: Vec<String> = check.needs.iter().map(ToString::to_string).collect();
        let needs = if needs.is_empty() {
            "-".to_owned()
        } else {
            needs.join(", ")
        };
        let (path, spec) = (check.path(), spec::sentence(&check));
        println!("{path}\t{}\t{needs}\t{spec}", check.facility);
    }
}

/// What surrounds a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Around {
    Lane,
    /// And what is left behind in it, or on the machine, is a failure.
    WatchedLane,
    /// Nothing, and what is left behind on the machine is a failure.
    Here,
}

fn native(arguments: &[OsString], mut around: Around) -> Result<i32, String> {
    let mut options = lane::Options::default();
    let mut settle = leaks::OTHERS;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut seconds = || {
            let value = arguments.next().and_then(|text| text.to_str());
            number(value.unwrap_or_default()).map(Duration::from_secs)
        };
        match argument.to_str() {
            Some("--read-only") => options.read_only = true,
            Some("--leaks") => options.leaks = true,
            Some("--limit") => options.limit = Some(seconds()?),
            Some("--here") if around == Around::WatchedLane => around = Around::Here,
            Some("--settle") if around != Around::Lane => settle = seconds()?,
            Some("--") => break,
            _ => return Err(format!("{}: unknown option", argument.display())),
        }
    }
    let command: Vec<OsString> = arguments.cloned().collect();
    if command.is_empty() {
        return Err("a command is needed, after --".to_owned());
    }
    if around == Around::Here {
        return leaks::watch(&command, settle).map_err(|error| error.to_string());
    }
    let watched = around == Around::WatchedLane;
    options.leaks |= watched;
    let before = watched.then(leaks::Snapshot::of_machine);
    let code = lane::native(&options, &command).map_err(|error| format!("native lane: {error}"))?;
    let left = before.map_or(0, |before| leaks::report_machine(&before, settle));
    Ok(if code == 0 { left } else { code })
}

fn one(path: &str) -> Result<i32, String> {
    let check = check::all().find(|check| check.path() == path);
    let check = check.ok_or_else(|| format!("{path}: no such check"))?;
    runner::in_lane(&check)
}

/// What cargo and nextest ask of a test binary: `--list`, `--exact`, filters.
fn libtest(words: &[&str]) -> Result<i32, String> {
    let mut options = options(Format::Libtest);
    let (mut filters, mut listing, mut exact) = (Vec::new(), false, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--list" => listing = true,
            "--exact" => exact = true,
            "--quiet" | "-q" => options.quiet = true,
            // No check is ignored.
            "--ignored" => return Ok(0),
            "--test-threads" => options.jobs = number(words.next().unwrap_or(&""))?,
            "--format" | "--color" | "--skip" | "-Z" => drop(words.next()),
            option if option.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    if listing {
        for check in check::matching(&filters) {
            println!("{}: test", check.path());
        }
        return Ok(0);
    }
    if exact {
        let checks: Vec<_> = check::all()
            .filter(|check| filters.contains(&check.path()))
            .collect();
        return Ok(i32::from(!runner::run(&checks, &options)?));
    }
    // Under `cargo test WORD` most test binaries have no test of that name.
    let checks = check::matching(&filters);
    Ok(i32::from(!runner::run(&checks, &options)?))
}

/// Makes stdin the controlling terminal of a new session and becomes the command.
fn on_tty(command: &[OsString]) -> Result<i32, String> {
    let [program, arguments @ ..] = command else {
        return Err("on-tty: no command".to_owned());
    };
    rustix::process::setsid().map_err(|error| format!("setsid: {error}"))?;
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
        .map_err(|error| format!("TIOCSCTTY: {error}"))?;
    Err(Command::new(program).args(arguments).exec().to_string())
}
