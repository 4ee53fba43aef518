//! Attends a process that runs in the foreground, a container's first or one of `exec`, until it
//! has ended.
//!
//! Signals come through a signalfd(2) and go on to the container; its end shows on its pidfd; the
//! bytes of its terminal are moved in between. Without a terminal it has the caller's own stdio.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use corten_core::{Error, ErrorKind};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::console::{Console, End, resize};
use crate::failure::Failure;
use crate::signals;

/// A process that is attended.
pub(crate) struct Attended<'a> {
    pub(crate) pid: i32,
    pub(crate) pidfd: BorrowedFd<'a>,
    /// Sends it a signal.
    pub(crate) kill: &'a dyn Fn(i32) -> Result<(), Error>,
}

/// What happened while waiting.
struct Events {
    signals: bool,
    ended: bool,
    ready: Vec<End>,
}

/// Returns when the process has ended and its last output is written.
pub(crate) fn attend(
    attended: &Attended<'_>,
    taken: &SignalFd,
    mut console: Option<&mut Console<'_>>,
    hosts: &[BorrowedFd<'_>],
) -> Result<(), Failure> {
    loop {
        let events = wait(attended, taken, console.as_deref())?;
        if events.signals {
            let master = console.as_deref().map(|console| console.master());
            while let Some(signal) = next(taken)? {
                if signal == Signal::SIGCHLD as i32 {
                    reap_orphans(attended.pid);
                } else {
                    handle(attended, signal, master, hosts);
                }
            }
        }
        if let Some(console) = console.as_deref_mut() {
            console.advance(&events.ready);
        }
        if events.ended {
            return console.map_or(Ok(()), |console| finish(taken, console));
        }
    }
}

fn wait(
    attended: &Attended<'_>,
    taken: &SignalFd,
    console: Option<&Console<'_>>,
) -> Result<Events, Failure> {
    let (ends, files): (Vec<_>, Vec<_>) = console
        .map(Console::interests)
        .unwrap_or_default()
        .into_iter()
        .unzip();
    let mut fds = vec![
        PollFd::new(taken, PollFlags::IN),
        PollFd::new(&attended.pidfd, PollFlags::IN),
    ];
    fds.extend(files);
    poll_all(&mut fds, console.and_then(Console::timeout))?;
    let mut happened = fds.iter().map(|fd| !fd.revents().is_empty());
    let (signals, ended) = (happened.next() == Some(true), happened.next() == Some(true));
    let ready = ends
        .into_iter()
        .zip(happened)
        .filter(|(_, ready)| *ready)
        .map(|(end, _)| end);
    Ok(Events {
        signals,
        ended,
        ready: ready.collect(),
    })
}

/// Writes what the container has left in its terminal; a signal cuts that short.
fn finish(taken: &SignalFd, console: &mut Console<'_>) -> Result<(), Failure> {
    while console.remains() {
        let (ends, mut fds): (Vec<_>, Vec<_>) = console.interests().into_iter().unzip();
        fds.push(PollFd::new(taken, PollFlags::IN));
        poll_all(&mut fds, None)?;
        let ready = ends
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty());
        let ready: Vec<_> = ready
            .map(|(end, _)| *end)
            .filter(|end| *end == End::Output)
            .collect();
        console.advance(&ready);
        while let Some(signal) = next(taken)? {
            if signals::is_passed_on(signal) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn poll_all(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<(), Failure> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Failure::call("poll", errno)),
    }
}

/// The next signal that was sent to this program.
fn next(taken: &SignalFd) -> Result<Option<i32>, Failure> {
    let info = taken
        .read_signal()
        .map_err(|errno| Failure::call("signalfd", errno))?;
    Ok(info.and_then(|info| i32::try_from(info.ssi_signo).ok()))
}

fn handle(
    attended: &Attended<'_>,
    signal: i32,
    master: Option<BorrowedFd<'_>>,
    hosts: &[BorrowedFd<'_>],
) {
    if signal == Signal::SIGWINCH as i32
        && let Some(master) = master
    {
        resize(master, hosts);
    } else if signals::is_passed_on(signal) {
        log::debug!("signal {signal} goes on to the container");
        match (attended.kill)(signal) {
            Err(error) if error.kind() != ErrorKind::NotRunning => log::warn!("{error:#}"),
            _ => {}
        }
    }
}

/// Collects processes that became children of this subreaper, but never the container itself: its
/// exit status is the library's to read.
fn reap_orphans(container: i32) {
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    while let Ok(status) = waitid(Id::All, ended | WaitPidFlag::WNOWAIT) {
        match status.pid() {
            Some(pid) if pid.as_raw() != container => {
                if waitid(Id::Pid(pid), ended).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
