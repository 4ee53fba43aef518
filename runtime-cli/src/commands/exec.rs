//! `exec`: one more process in a container, in the foreground or detached.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use corten_core::spec::{self, ConsoleSize, Process};
use corten_core::{Container, ExecOptions, ExecProcess, Exit};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::create::{Stay, check_preserved, check_terminal, save_trace, write_pid_file};
use super::run::{status, warn_of_filter};
use super::{container, path};
use crate::app::App;
use crate::console::{Console, Raw, size};
use crate::failure::{Failure, Outcome};
use crate::parse::Matches;
use crate::{foreground, signals, sys};

/// Exit status of an error before the program runs.
const NOT_RUN: u8 = 255;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    exec(app, matches).map_err(|failure| {
        let failure = failure.within("exec failed: ").with_code(NOT_RUN);
        Failure {
            lead: "exec failed: ",
            ..failure
        }
    })
}

fn exec(app: &App, matches: &Matches) -> Outcome {
    check_preserved(matches.number("preserve-fds"))?;
    let (_, container) = container(app, matches)?;
    let process = process(&container, matches)?;
    let stay = if matches.switch("detach") {
        Stay::Detached
    } else {
        Stay::Foreground
    };
    check_terminal(app.program, process.terminal, matches, stay)?;
    let options = options(matches)?;
    if stay == Stay::Detached {
        start(&container, process, options, matches).map(|_| 0)
    } else {
        attended(&container, process, options, matches)
    }
}

fn options(matches: &Matches) -> Result<ExecOptions, Failure> {
    let mut options = ExecOptions::default();
    options.console_socket = path(matches, "console-socket");
    options.pidfd_socket = path(matches, "pidfd-socket");
    options.preserve_fds = matches.number("preserve-fds");
    options.cgroup = cgroup(&matches.values("cgroup"))?;
    // Nothing is to be done here meanwhile.
    options.stay_on_cpu = true;
    options.trace = matches.value("trace").is_some();
    options.ignore_paused = matches.switch("ignore-paused");
    #[cfg(feature = "mutate")]
    {
        options.edit = Some(crate::mutate::edit_exec);
    }
    Ok(options)
}

/// Starts the process; one that can't be handed over is killed again.
fn start(
    container: &Container,
    process: Process,
    options: ExecOptions,
    matches: &Matches,
) -> Result<ExecProcess, Failure> {
    let started = container.exec(process, options);
    let mut started = started.map_err(|error| Failure::not_started(&error))?;
    let traced = save_trace(started.trace(), matches);
    match traced.and_then(|()| write_pid_file(started.pid(), matches)) {
        Ok(()) => Ok(started),
        Err(failure) => {
            let ended = started
                .kill(Signal::SIGKILL as i32)
                .and_then(|()| started.wait());
            if let Err(error) = ended {
                log::warn!("{error:#}");
            }
            Err(failure)
        }
    }
}

/// Stays with the process; the caller's terminal is its own again on every way out.
fn attended(
    container: &Container,
    mut process: Process,
    mut options: ExecOptions,
    matches: &Matches,
) -> Outcome {
    sys::default_sigchld().map_err(|errno| Failure::call("SIGCHLD", errno))?;
    let taken = signals::take()?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let hosts: [BorrowedFd<'_>; 3] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let mut raw = None;
    if process.terminal {
        // Before the program runs: it may ask at once.
        process.console_size = process.console_size.or_else(|| console_size(&hosts));
        options.plain_console = true;
        raw = Raw::new(stdin.as_fd())?;
    }
    let mut started = start(container, process, options, matches)?;
    // From here on what went wrong is no reason to say that nothing ran.
    let exit = attend(&mut started, &taken, &hosts).and_then(|()| Ok(started.wait()?));
    drop(raw);
    let told = |exit: Exit| {
        warn_of_filter(container, &exit);
        status(&exit)
    };
    match exit.and_then(told) {
        Err(failure) => {
            started.kill(Signal::SIGKILL as i32).ok();
            Err(failure)
        }
        status => status,
    }
}

fn attend(
    process: &mut ExecProcess,
    taken: &SignalFd,
    hosts: &[BorrowedFd<'_>; 3],
) -> Result<(), Failure> {
    let [stdin, stdout, _] = hosts;
    let master = process.take_console();
    let mut console = master
        .map(|master| Console::new(master, *stdin, *stdout))
        .transpose()?;
    let attended = foreground::Attended {
        pid: process.pid(),
        pidfd: process.as_fd(),
        kill: &|signal| process.kill(signal),
    };
    foreground::attend(&attended, taken, console.as_mut(), hosts)
}

fn console_size(hosts: &[BorrowedFd<'_>]) -> Option<ConsoleSize> {
    let size = size(hosts)?;
    Some(ConsoleSize {
        height: size.ws_row.into(),
        width: size.ws_col.into(),
    })
}

/// The process of `--process`, or the container's own changed by the other flags.
fn process(container: &Container, matches: &Matches) -> Result<Process, Failure> {
    if let Some(path) = path(matches, "process") {
        return from_file(&path);
    }
    let mut process = container.process()?;
    let words = matches.arguments.iter().skip(1);
    process.args = words
        .map(|word| text("argument", word))
        .collect::<Result<_, _>>()?;
    for variable in matches.values("env") {
        process.env.push(text("--env", variable)?);
    }
    let given = |flag| matches.value(flag).filter(|value| !value.is_empty());
    if let Some(cwd) = given("cwd") {
        process.cwd = text("--cwd", cwd)?;
    }
    if let Some(profile) = given("apparmor") {
        process.apparmor_profile = Some(text("--apparmor", profile)?);
    }
    if let Some(label) = given("process-label") {
        process.selinux_label = Some(text("--process-label", label)?);
    }
    process.terminal = matches.switch("tty");
    if !process.terminal {
        process.console_size = None;
    }
    if matches.value("no-new-privs").is_some() {
        process.no_new_privileges = matches.switch("no-new-privs");
    }
    user(&mut process, matches)?;
    capabilities(&mut process, matches)?;
    Ok(process)
}

fn from_file(path: &Path) -> Result<Process, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::io(path, &error))?;
    spec::parse_process(&bytes)
        .map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))
}

fn text(what: &str, value: &OsStr) -> Result<String, Failure> {
    let shown = || format!("{what}: {:?} is not UTF-8", value.to_string_lossy());
    let text = value.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::new(shown()))
}

/// `--user` and `--additional-gids`: numbers, and nothing that another reader could take for
/// another number (CVE-2026-30892).
fn user(process: &mut Process, matches: &Matches) -> Result<(), Failure> {
    if let Some(user) = matches.value("user") {
        let user = user.to_string_lossy();
        let (uid, gid) = match user.split_once(':') {
            Some((uid, gid)) => (uid, Some(gid)),
            None => (&*user, None),
        };
        let number = |digits: &str| id("--user", &user, digits);
        process.user.uid = number(uid)?;
        if let Some(gid) = gid {
            process.user.gid = number(gid)?;
        }
    }
    for gid in matches.values("additional-gids") {
        let digits = gid.to_string_lossy();
        let gid = id("--additional-gids", &digits, &digits)?;
        process.user.additional_gids.push(gid);
    }
    Ok(())
}

fn id(flag: &str, given: &str, digits: &str) -> Result<u32, Failure> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    // The last number means "leave it as it is" to setresuid(2).
    let number = digits.parse().ok().filter(|id| plain && *id != u32::MAX);
    number.ok_or_else(|| {
        let expected = "expected numbers from 0 to 4294967294";
        Failure::new(format_args!("{flag}: {given:?}: {expected}"))
    })
}

/// `--cap`. As runc has it: ambient only where something is inheritable, which nothing becomes
/// here (CVE-2022-29162).
fn capabilities(process: &mut Process, matches: &Matches) -> Result<(), Failure> {
    for name in matches.values("cap") {
        let name = text("--cap", name)?;
        let sets = process.capabilities.get_or_insert_default();
        let ambient = Some(&mut sets.ambient).filter(|_| !sets.inheritable.is_empty());
        let all = [&mut sets.bounding, &mut sets.effective, &mut sets.permitted];
        for set in all.into_iter().chain(ambient) {
            set.push(name.clone());
        }
    }
    Ok(())
}

/// `--cgroup`: a path below the container's cgroup. The controllers that cgroup v1 needed in
/// front of it are none that cgroup v2 could tell apart.
fn cgroup(given: &[&OsStr]) -> Result<Option<PathBuf>, Failure> {
    let refuse = |text: String| Err(Failure::new(text));
    for argument in given {
        let shown = argument.to_string_lossy();
        if let Some((controllers, _)) = shown.split_once(':') {
            let first = controllers.split(',').next().unwrap_or_default();
            return refuse(if first.is_empty() {
                format!("invalid --cgroup argument: {shown} (empty <controller> prefix)")
            } else {
                format!("--cgroup {shown}: unknown controller {first}: cgroup v2 has one path")
            });
        }
    }
    match given {
        [] => Ok(None),
        [path] => Ok(Some(PathBuf::from(path))),
        [first, ..] => refuse(format!(
            "invalid --cgroup argument: {} (missing <controller>: prefix)",
            first.to_string_lossy()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::flags::command;
    use crate::parse::{Place, parse};

    fn matches(line: &[&str]) -> Matches {
        let words = line.iter().map(OsString::from);
        parse(command("exec").unwrap().flags, Place::First, words).unwrap()
    }

    fn user_of(given: &str) -> Result<(u32, u32), String> {
        let mut process = Process::default();
        process.user.gid = 7;
        match user(&mut process, &matches(&["--user", given])) {
            Ok(()) => Ok((process.user.uid, process.user.gid)),
            Err(failure) => Err(failure.message),
        }
    }

    #[test]
    fn a_user_is_one_number_or_two() {
        assert_eq!(user_of("5"), Ok((5, 7)));
        assert_eq!(user_of("5:6"), Ok((5, 6)));
        assert_eq!(user_of("4294967294:0"), Ok((4_294_967_294, 0)));
        let wrong = [
            "",
            "5:",
            ":5",
            " 5",
            "5 ",
            "+5",
            "-1",
            "0x5",
            "5:6:7",
            "root",
            "4294967295",
            "4294967296",
            "1:4294967296",
            "99999999999999999999",
        ];
        for given in wrong {
            let text = user_of(given).unwrap_err();
            assert!(text.starts_with("--user: "), "{text}");
        }
    }

    #[test]
    fn what_follows_the_id_is_the_programs() {
        let matches = matches(&[
            "-t",
            "-e",
            "A=1",
            "--env=B=2",
            "web",
            "ls",
            "-t",
            "--",
            "-e",
        ]);
        assert_eq!(matches.values("env"), ["A=1", "B=2"]);
        assert_eq!(matches.arguments, ["web", "ls", "-t", "--", "-e"]);
    }

    #[test]
    fn a_capability_is_ambient_only_where_something_is_inheritable() {
        let matches = matches(&["--cap", "CAP_KILL", "-c", "CAP_CHOWN"]);
        let both = ["CAP_KILL", "CAP_CHOWN"].map(str::to_owned);
        let mut process = Process::default();
        capabilities(&mut process, &matches).unwrap();
        let sets = process.capabilities.unwrap();
        for set in [&sets.bounding, &sets.effective, &sets.permitted] {
            assert_eq!(*set, both);
        }
        assert!(sets.ambient.is_empty() && sets.inheritable.is_empty());
        let mut process = Process::default();
        let sets = process.capabilities.get_or_insert_default();
        sets.inheritable.push("CAP_FOWNER".to_owned());
        capabilities(&mut process, &matches).unwrap();
        assert_eq!(process.capabilities.unwrap().ambient, both);
    }

    #[test]
    fn a_cgroup_is_one_path() {
        let of = |given: &[&str]| {
            let given: Vec<&OsStr> = given.iter().map(OsStr::new).collect();
            cgroup(&given).map_err(|failure| failure.message)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["a/b"]), Ok(Some(PathBuf::from("a/b"))));
        for (given, text) in [
            (&["a", "b"][..], "missing <controller>: prefix"),
            (&[":a"], "empty <controller> prefix"),
            (&["cpu,memory:a"], "unknown controller cpu"),
        ] {
            assert!(of(given).unwrap_err().contains(text));
        }
    }
}
