//! `kill`: signals to a container's process, or to all of them.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::Container;
use crate::error::{Cause, Error};
use crate::sys::process;

impl Container {
    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotRunning`] if the process has ended; `EINVAL` for a number
    /// that is no signal.
    pub fn kill(&self, signal: i32) -> Result<(), Error> {
        // Without a pid namespace of its own, what the first process leaves lives on.
        if signal == libc::SIGKILL && !self.saved.own_pid_namespace && self.is_populated() {
            return self.kill_all(signal);
        }
        if self.has_ended() {
            return Err(Cause::NotRunning.into());
        }
        self.signal(signal)
    }

    fn is_populated(&self) -> bool {
        let events = self
            .saved
            .open_cgroup()
            .and_then(|cgroup| cgroup.events().ok());
        events.is_some_and(|events| events.populated)
    }

    fn signal(&self, signal: i32) -> Result<(), Error> {
        let pidfd = self.pidfd.as_ref().ok_or(Cause::NotRunning)?;
        send(pidfd.as_fd(), signal, || self.id().to_owned())
    }

    /// Sends a signal to every process of the container's cgroup, also when the first
    /// one has ended.
    ///
    /// # Errors
    /// When the cgroup can't be read, or a process can't be signalled.
    pub fn kill_all(&self, signal: i32) -> Result<(), Error> {
        let Some(cgroup) = self.saved.open_cgroup() else {
            return self.signal(signal);
        };
        if signal == libc::SIGKILL {
            return Ok(cgroup.kill()?);
        }
        for pid in cgroup.procs()? {
            let sent = process::pidfd_open(pid)
                .and_then(|pidfd| process::pidfd_send_signal(pidfd.as_fd(), signal));
            match sent {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::call(pid.to_string(), "pidfd_send_signal", errno)),
            }
        }
        Ok(())
    }
}

/// Sends a signal to a process of this name.
pub(super) fn send(
    pidfd: BorrowedFd<'_>,
    signal: i32,
    name: impl FnOnce() -> String,
) -> Result<(), Error> {
    match process::pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(()),
        Err(Errno::SRCH) => Err(Cause::NotRunning.into()),
        Err(errno) => Err(Error::call(name(), "pidfd_send_signal", errno)),
    }
}
