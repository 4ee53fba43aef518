//! `run`: create, start, and in the foreground wait and delete.

use std::os::fd::{AsFd, BorrowedFd};

use corten_core::{Container, Delete, Exit, ExitStatus};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::create::{Stay, become_subreaper, begin, undo, write_pid_file, write_trace};
use super::id;
use crate::app::App;
use crate::console::{Console, Raw, resize};
use crate::failure::{Failure, Outcome};
use crate::notify::Notify;
use crate::parse::Matches;
use crate::{foreground, signals, sys};

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    if !matches.switch("no-subreaper") {
        become_subreaper()?;
    }
    if matches.switch("detach") {
        detached(app, matches)
    } else {
        attended(app, matches)
    }
}

fn detached(app: &App, matches: &Matches) -> Outcome {
    let (mut container, is_started) = begin(app, matches, Stay::Detached)?;
    let pid = container.first_pid();
    match start(&mut container, is_started, app, matches) {
        Ok(Some(notify)) => notify.relay(container.as_fd(), pid),
        Ok(None) => {}
        Err(failure) => return Err(undo(container, failure)),
    }
    Ok(0)
}

fn attended(app: &App, matches: &Matches) -> Outcome {
    sys::default_sigchld().map_err(|errno| Failure::call("SIGCHLD", errno))?;
    let taken = signals::take()?;
    let (mut container, is_started) = begin(app, matches, Stay::Foreground)?;
    let started = |container: &mut Container| start(container, is_started, app, matches);
    let exit = match attend(&mut container, &taken, started) {
        Ok(exit) => exit,
        Err(failure) => return Err(undo(container, failure)),
    };
    if !matches.switch("keep") {
        container.delete(Delete::IfStopped)?;
    }
    status(&exit)
}

/// Has the program started and stays with it; the caller's terminal is its own again on every way out.
fn attend(
    container: &mut Container,
    taken: &SignalFd,
    start: impl FnOnce(&mut Container) -> Result<Option<Notify>, Failure>,
) -> Result<Exit, Failure> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let hosts: [BorrowedFd<'_>; 3] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let master = container.take_console();
    let mut console = master
        .map(|master| Console::new(master, stdin.as_fd(), stdout.as_fd()))
        .transpose()?;
    let raw = match &console {
        Some(console) => {
            resize(console.master(), &hosts);
            Raw::new(stdin.as_fd())?
        }
        None => None,
    };
    let pid = container.first_pid();
    if let Some(notify) = start(container)? {
        relay_beside(notify, container)?;
    }
    let attended = foreground::Attended {
        pid,
        pidfd: container.as_fd(),
        kill: &|signal| container.kill(signal),
    };
    foreground::attend(&attended, taken, console.as_mut(), &hosts)?;
    drop(raw);
    let exit = container.wait()?;
    if exit.oom_killed == Some(true) {
        log::warn!(
            "{}: out of memory: the kernel has killed a process of it",
            container.id()
        );
    }
    warn_of_filter(container, &exit);
    Ok(exit)
}

/// A program that its filter has killed can't say so itself.
pub(super) fn warn_of_filter(container: &Container, exit: &Exit) {
    if exit.status == ExitStatus::Signal(Signal::SIGSYS as i32)
        && let Some(rules) = container.killed_by_filter()
    {
        let id = container.id();
        log::warn!("{id}: killed by SIGSYS, it may be because of {rules}");
    }
}

/// The manager's process is this one. It ends with the container, and the thread with it.
fn relay_beside(notify: Notify, container: &Container) -> Result<(), Failure> {
    let pidfd = container.as_fd().try_clone_to_owned();
    let pidfd = pidfd.map_err(|error| Failure::call("NOTIFY_SOCKET", error))?;
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    std::thread::spawn(move || notify.relay(pidfd.as_fd(), own));
    Ok(())
}

/// The trace is written also when the start fails: then it is wanted most.
fn start(
    container: &mut Container,
    is_started: bool,
    app: &App,
    matches: &Matches,
) -> Result<Option<Notify>, Failure> {
    if is_started {
        return write_pid_file(container.first_pid(), matches).map(|()| None);
    }
    let notify = Notify::bind(app.runtime()?.root(), &id(matches))?;
    let started = container
        .start()
        .map_err(|error| Failure::not_started(&error));
    let traced = write_trace(container, matches);
    started
        .and(traced)
        .and_then(|()| write_pid_file(container.first_pid(), matches))
        .map(|()| notify)
}

/// The exit status of a shell: the program's own, or 128 and the signal.
pub(super) fn status(exit: &Exit) -> Outcome {
    let code = match exit.status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => 128 + signal,
        _ => return Err(Failure::new("the exit status is not known")),
    };
    Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}
