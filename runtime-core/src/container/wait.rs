//! `wait`: how a container's process ended.
//!
//! See waitid(2); for a process that is no child or was reaped by somebody else
//! proc_pid_stat(5) and ioctl_pidfd(2).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::Container;
use super::state::{self, Saved};
use crate::cgroup::{self, OomKills};
use crate::error::Error;
use crate::sys::process::{self, Ended, Usage};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// Nobody can say: it was reaped before this value of [`Container`] was made; or
    /// somebody else reaped it, or the caller ignores `SIGCHLD`, and the kernel is older
    /// than 6.15, which keeps the status at the pidfd.
    Unknown,
}

/// What a process and its waited-for children used; see getrusage(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rusage {
    /// Time in user mode.
    pub user: Duration,
    /// Time in the kernel.
    pub system: Duration,
    /// Largest resident set of one process, in bytes.
    pub max_rss: u64,
}

/// The end of a container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// How it ended.
    pub status: ExitStatus,
    /// Whether the kernel killed a process of the container for want of memory, at its own
    /// limit or at one above it; `None` where nobody can say (no memory controller, or the
    /// cgroup was gone before the wait began, as systemd's scopes soon are: then
    /// [`crate::Watch::oom_killed`] knows it).
    pub oom_killed: Option<bool>,
    /// What it used; `None` unless the caller is its parent.
    pub rusage: Option<Rusage>,
}

impl Container {
    /// Waits until the container's process has ended. Asked again, it says the same.
    ///
    /// A child of the caller is reaped. For any other process the kernel is asked, by
    /// /proc as long as nobody has reaped it, then by the pidfd; where it does not know
    /// (reaped already, and Linux before 6.15) the status is [`ExitStatus::Unknown`].
    /// Never waits for a process that is not the container's.
    ///
    /// # Errors
    /// When the process can't be waited for at all.
    pub fn wait(&mut self) -> Result<Exit, Error> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let exit = self.wait_once()?;
        self.exit = Some(exit);
        Ok(exit)
    }

    fn wait_once(&self) -> Result<Exit, Error> {
        let Some(pidfd) = &self.pidfd else {
            return Ok(Exit {
                status: ExitStatus::Unknown,
                oom_killed: None,
                rusage: None,
            });
        };
        let elsewhere = |pidfd: BorrowedFd<'_>| self.ended_elsewhere(pidfd);
        let id = self.saved.id.as_str();
        let oom_kills = self.oom_kills_until_end(pidfd.as_fd());
        let oom_kills = oom_kills.map_err(|errno| Error::call(id, "poll", errno))?;
        let exit = wait_for(pidfd.as_fd(), id, elsewhere)?;
        Ok(Exit {
            oom_killed: oom_kills.map(|kills| kills > self.saved.oom_kills_before),
            ..exit
        })
    }

    /// Waits for the end. Looks at the count on the way, since systemd removes a cgroup as
    /// soon as it is empty.
    fn oom_kills_until_end(&self, pidfd: BorrowedFd<'_>) -> Result<Option<u64>, Errno> {
        let kills = |path| OomKills::at(Path::new(cgroup::MOUNT), path).ok()?;
        // What can't be read nobody can say.
        match self.saved.cgroup.as_deref().and_then(kills) {
            Some(mut kills) => kills.look_until_end(pidfd).map(Some),
            None => Ok(None),
        }
    }

    /// How a process ended that is no child, or no longer one. The kernel moves what it
    /// knows from /proc to the pidfd when somebody reaps, which may be just now.
    fn ended_elsewhere(&self, pidfd: BorrowedFd<'_>) -> Option<Ended> {
        let Saved {
            pid, start_time, ..
        } = self.saved;
        process::ended_by_info(pidfd)
            .or_else(|| state::ended_unreaped(pid, start_time))
            .or_else(|| process::ended_by_info(pidfd))
    }
}

/// Waits for a process and reaps it if it is a child; `elsewhere` tells how one ended that
/// is not, or not any more.
pub(super) fn wait_for(
    pidfd: BorrowedFd<'_>,
    name: &str,
    elsewhere: impl FnOnce(BorrowedFd<'_>) -> Option<Ended>,
) -> Result<Exit, Error> {
    let failed = |call| move |errno| Error::call(name, call, errno);
    let (status, rusage) = match process::wait_child(pidfd) {
        Ok((ended, usage)) => (ended.into(), Some(usage.into())),
        Err(Errno::CHILD) => {
            process::has_ended(pidfd, None).map_err(failed("poll"))?;
            let ended = elsewhere(pidfd);
            (ended.map_or(ExitStatus::Unknown, ExitStatus::from), None)
        }
        Err(errno) => return Err(failed("waitid")(errno)),
    };
    Ok(Exit {
        status,
        oom_killed: None,
        rusage,
    })
}

impl From<Ended> for ExitStatus {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Code(code) => ExitStatus::Code(code),
            Ended::Signal(signal) => ExitStatus::Signal(signal),
        }
    }
}

impl From<Usage> for Rusage {
    fn from(usage: Usage) -> Self {
        let Usage {
            user,
            system,
            max_rss,
        } = usage;
        Rusage {
            user,
            system,
            max_rss,
        }
    }
}
