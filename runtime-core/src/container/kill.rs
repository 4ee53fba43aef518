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

    /// Sends a signal to every process of the container's cgroup; also when the first one
    /// has ended. If that has ended all of a pid namespace, who is in the cgroup now is
    /// somebody else, and gets nothing.
    ///
    /// # Errors
    /// When the cgroup can't be read, or a process can't be signalled.
    pub fn kill_all(&self, signal: i32) -> Result<(), Error> {
        /// How many descriptors there may be at once.
        const BATCH: usize = 64;
        if self.saved.own_pid_namespace && self.has_ended() {
            return Ok(());
        }
        let Some(cgroup) = self.saved.open_cgroup() else {
            return self.signal(signal);
        };
        if signal == libc::SIGKILL {
            return Ok(cgroup.kill()?);
        }
        for pids in cgroup.procs()?.chunks(BATCH) {
            let mut opened = Vec::new();
            for pid in pids {
                match process::pidfd_open(*pid) {
                    Ok(pidfd) => opened.push((*pid, pidfd)),
                    Err(Errno::SRCH) => {}
                    Err(errno) => return Err(Error::call(pid.to_string(), "pidfd_open", errno)),
                }
            }
            // A pid may have become another process's before it was opened, but not after.
            let still = cgroup.procs()?;
            for (pid, pidfd) in opened.into_iter().filter(|(pid, _)| still.contains(pid)) {
                match process::pidfd_send_signal(pidfd.as_fd(), signal) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => {
                        return Err(Error::call(pid.to_string(), "pidfd_send_signal", errno));
                    }
                }
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
