//! `create`: everything up to the program's start. `run` begins the same way.

use std::os::fd::RawFd;
use std::path::Path;
use std::{env, fs, process};

use corten_core::{Bundle, Container, CreateOptions, Delete, Trace};

use super::{bundle, id, path};
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::parse::Matches;
use crate::{notify, pid_file, sys};

/// Whether this program stays while the container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    Foreground,
    Detached,
}

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    become_subreaper()?;
    let container = create(app, matches, Stay::Detached)?;
    match write_trace(&container, matches).and_then(|()| write_pid_file(container.pid(), matches)) {
        Ok(()) => Ok(0),
        Err(failure) => Err(undo(container, failure)),
    }
}

/// Makes the container; the library logs its warnings itself.
fn create(app: &App, matches: &Matches, stay: Stay) -> Result<Container, Failure> {
    make(app, matches, stay, |_| false).map(|(container, _)| container)
}

/// Makes the container, and starts it if nobody has anything to do before that: then the answer
/// is true.
pub(super) fn begin(
    app: &App,
    matches: &Matches,
    stay: Stay,
) -> Result<(Container, bool), Failure> {
    // A terminal gets its size, and a service manager its socket. The trace of a start that
    // fails is the container's.
    let has_more = notify::is_wanted() || matches.value("trace").is_some();
    make(app, matches, stay, |bundle| {
        !(has_more || stay == Stay::Foreground && wants_terminal(bundle))
    })
}

fn make(
    app: &App,
    matches: &Matches,
    stay: Stay,
    at_once: impl Fn(&Bundle) -> bool,
) -> Result<(Container, bool), Failure> {
    let listen = listen_fds(|name| env::var(name).ok())?;
    check_preserved(listen.saturating_add(matches.number("preserve-fds")))?;
    let runtime = app.runtime()?;
    let bundle = runtime.load_and_begin(bundle(matches))?;
    check_terminal(app.program, wants_terminal(&bundle), matches, stay)?;
    let (id, options, at_once) = (id(matches), options(matches, listen), at_once(&bundle));
    let made = match at_once {
        true => runtime.run(&id, &bundle, options),
        false => runtime.create(&id, &bundle, options),
    };
    let container = made.map_err(|error| Failure::not_started(&error))?;
    Ok((container, at_once))
}

fn options(matches: &Matches, listen_fds: u32) -> CreateOptions {
    let mut options = CreateOptions::default();
    options.console_socket = path(matches, "console-socket");
    options.pidfd_socket = path(matches, "pidfd-socket");
    options.listen_fds = listen_fds;
    options.notify_socket = notify::is_wanted();
    options.preserve_fds = matches.number("preserve-fds");
    options.no_pivot = matches.switch("no-pivot");
    options.no_new_keyring = matches.switch("no-new-keyring");
    options.trace = matches.value("trace").is_some();
    options
}

fn wants_terminal(bundle: &Bundle) -> bool {
    bundle
        .spec()
        .process
        .as_ref()
        .is_some_and(|process| process.terminal)
}

/// How many sockets a service manager has opened for this program, see sd_listen_fds(3).
fn listen_fds(variable: impl Fn(&str) -> Option<String>) -> Result<u32, Failure> {
    let for_us = variable("LISTEN_PID").is_some_and(|pid| pid == process::id().to_string());
    let Some(count) = variable("LISTEN_FDS").filter(|_| for_us) else {
        return Ok(0);
    };
    let wrong = |_| Failure::new(format_args!("LISTEN_FDS: {count:?} is no number"));
    count.parse().map_err(wrong)
}

/// Files to pass on must be the caller's: this program's own log file or signalfd would be open too.
pub(super) fn check_preserved(count: u32) -> Result<(), Failure> {
    let number = |index: u32| RawFd::try_from(index).ok()?.checked_add(3);
    match (0..count).find(|index| !number(*index).is_some_and(sys::is_inherited)) {
        None => Ok(()),
        Some(index) => {
            let number = u64::from(index) + 3;
            Err(Failure::new(format_args!(
                "preserve-fds: descriptor {number} is not open"
            )))
        }
    }
}

/// Someone must hold the other end of the terminal: this program, or whoever has the socket.
pub(super) fn check_terminal(
    program: &str,
    terminal: bool,
    matches: &Matches,
    stay: Stay,
) -> Result<(), Failure> {
    let socket = matches
        .value("console-socket")
        .is_some_and(|path| !path.is_empty());
    match (terminal && stay == Stay::Detached, socket) {
        (true, false) => Err(Failure::new(format_args!(
            "cannot allocate tty if {program} will detach without setting console socket"
        ))),
        (false, true) => Err(Failure::new(format_args!(
            "cannot use console socket if {program} will not detach or allocate tty"
        ))),
        _ => Ok(()),
    }
}

/// Orphans of the container come to this program and not to the host's init.
pub(super) fn become_subreaper() -> Result<(), Failure> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| Failure::call("PR_SET_CHILD_SUBREAPER", errno))
}

pub(super) fn write_pid_file(pid: i32, matches: &Matches) -> Result<(), Failure> {
    match matches.value("pid-file").filter(|path| !path.is_empty()) {
        Some(path) => pid_file::write(Path::new(path), pid),
        None => Ok(()),
    }
}

pub(super) fn write_trace(container: &Container, matches: &Matches) -> Result<(), Failure> {
    match matches.value("trace") {
        Some(_) => save_trace(&container.trace()?, matches),
        None => Ok(()),
    }
}

/// Writes the file of `--trace`, if it is asked for.
pub(super) fn save_trace(trace: &Trace, matches: &Matches) -> Result<(), Failure> {
    let Some(path) = matches.value("trace").map(Path::new) else {
        return Ok(());
    };
    fs::write(path, trace.to_json()).map_err(|error| Failure::io(path, &error))
}

/// Takes back a container that can't be handed over; `failure` stays the error.
pub(super) fn undo(container: Container, failure: Failure) -> Failure {
    if let Err(error) = container.delete(Delete::Force) {
        log::warn!("{error:#}");
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::command;
    use crate::parse::{Place, parse};

    fn check(terminal: bool, line: &[&str], stay: Stay) -> Option<String> {
        let words = line.iter().map(std::ffi::OsString::from);
        let matches = parse(command("run").unwrap().flags, Place::Anywhere, words).unwrap();
        check_terminal("corten", terminal, &matches, stay)
            .err()
            .map(|failure| failure.message)
    }

    #[test]
    fn sockets_are_passed_on_that_are_meant_for_this_program() {
        let own = process::id().to_string();
        let count = |pid: &str, count: &str| {
            listen_fds(|name| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                _ => None,
            })
        };
        assert_eq!(count(&own, "2").ok(), Some(2));
        assert_eq!(count("1", "2").ok(), Some(0));
        let wrong = count(&own, "x").unwrap_err().message;
        assert_eq!(wrong, "LISTEN_FDS: \"x\" is no number");
        assert_eq!(listen_fds(|_| None).ok(), Some(0));
    }

    #[test]
    fn a_detached_terminal_needs_a_console_socket_and_nothing_else_takes_one() {
        let socket = &["--console-socket", "/s"];
        let missing = "cannot allocate tty if corten will detach without setting console socket";
        let useless = "cannot use console socket if corten will not detach or allocate tty";
        assert_eq!(check(true, &[], Stay::Detached).as_deref(), Some(missing));
        assert_eq!(check(true, socket, Stay::Detached), None);
        assert_eq!(check(true, &[], Stay::Foreground), None);
        assert_eq!(
            check(true, socket, Stay::Foreground).as_deref(),
            Some(useless)
        );
        assert_eq!(
            check(false, socket, Stay::Detached).as_deref(),
            Some(useless)
        );
        assert_eq!(
            check(false, socket, Stay::Foreground).as_deref(),
            Some(useless)
        );
        assert_eq!(check(false, &[], Stay::Detached), None);
    }
}
