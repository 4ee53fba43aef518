//! `watch`: tells when the kernel kills something of a container for want of memory, and
//! when the container has ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Container;
use crate::cgroup::OomKills;
use crate::error::Error;
use crate::sys::{call, epoll, file, ipc, process};

/// What happens in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The kernel has killed a process, or several, for want of memory. Always told before
    /// [`Event::Ended`].
    OomKill,
    /// All of the container's processes have ended.
    Ended,
}

/// Waits for what happens in a container; from [`Container::watch`].
///
/// `AsFd` gives a descriptor that is readable while there may be something to tell, for a
/// program with an event loop: it then calls [`Watch::next`] with a time of zero until that
/// answers `None`. Who wants to miss nothing keeps it from before the start on: the kernel
/// forgets what it counted as soon as the cgroup is gone, which systemd removes at once.
#[derive(Debug)]
pub struct Watch {
    epoll: OwnedFd,
    /// None once the process has ended.
    pidfd: Option<OwnedFd>,
    /// `cgroup.events`, where others may outlive the process.
    populated: Option<OwnedFd>,
    kills: Option<OomKills>,
    /// Those of before the container.
    before: u64,
    told: u64,
}

impl Container {
    /// Watches the container from now on, for as long as the value lives.
    ///
    /// OOM kills of before are not told, but counted in [`Watch::oom_killed`].
    ///
    /// # Errors
    /// When the container's cgroup can't be read.
    pub fn watch(&self) -> Result<Watch, Error> {
        let failed = |call| move |errno| Error::call(self.id(), call, errno);
        let epoll = epoll::new().map_err(failed("epoll_create1"))?;
        let mut watch = Watch {
            epoll,
            pidfd: None,
            populated: None,
            kills: None,
            before: self.saved.oom_kills_before,
            told: 0,
        };
        if let Some(cgroup) = self.saved.open_cgroup() {
            watch.kills = OomKills::of(&cgroup)?;
            // Those that are left of it end with the pid namespace.
            if !self.saved.own_pid_namespace {
                let name = Path::new("cgroup.events");
                let events = file::open_at(cgroup.dir(), name, OFlags::RDONLY);
                watch.populated = Some(events.map_err(failed("open"))?);
            }
        }
        if let Some(kills) = &mut watch.kills {
            watch.told = kills.look();
            if let Some(file) = kills.file() {
                epoll::add_changes(&watch.epoll, file).map_err(failed("epoll_ctl"))?;
            }
        }
        if let Some(events) = &watch.populated {
            epoll::add_changes(&watch.epoll, events).map_err(failed("epoll_ctl"))?;
        }
        if let Some(pidfd) = &self.pidfd {
            let own = ipc::copy_at_least(pidfd.as_fd(), 0).map_err(failed("fcntl"))?;
            epoll::add_in(&watch.epoll, &own).map_err(failed("epoll_ctl"))?;
            watch.pidfd = Some(own);
        }
        Ok(watch)
    }
}

impl Watch {
    /// Waits for the next event, at most for this time; `None`: as long as it takes.
    ///
    /// Answers `None` when the time is over, and [`Event::Ended`] again and again at the end.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        let failed = |errno| Error::call("watch", "poll", errno);
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let mut over = false;
        loop {
            // Before the look at the count: what is counted by the end is told.
            let ended = self.has_ended().map_err(failed)?;
            let kills = self.kills.as_mut().map_or(self.told, OomKills::look);
            if kills > self.told {
                self.told = kills;
                return Ok(Some(Event::OomKill));
            }
            if ended {
                return Ok(Some(Event::Ended));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let ready = process::poll_in(&[self.epoll.as_fd()], left).map_err(failed)?;
            // Readable at the end of the time: there is one more look to be had.
            if !ready.contains(&true) || std::mem::replace(&mut over, left == Some(Duration::ZERO))
            {
                return Ok(None);
            }
        }
    }

    /// Whether the kernel has killed a process of the container for want of memory, as far
    /// as this value has seen; `None` where nobody counts (no memory controller).
    #[must_use]
    pub fn oom_killed(&self) -> Option<bool> {
        self.kills.as_ref().map(|_| self.told > self.before)
    }

    fn has_ended(&mut self) -> Result<bool, Errno> {
        // Also while the process runs: an unread notice would be told for ever.
        let populated = self.is_populated();
        if let Some(pidfd) = &self.pidfd {
            if !process::has_ended(pidfd.as_fd(), Some(Duration::ZERO))? {
                return Ok(false);
            }
            // It would be readable for ever.
            epoll::remove(&self.epoll, pidfd)?;
            self.pidfd = None;
        }
        if populated {
            return Ok(false);
        }
        self.populated = None;
        Ok(true)
    }

    /// Looks through the descriptor that is watched: that is what arms its next notice.
    fn is_populated(&self) -> bool {
        let Some(events) = &self.populated else {
            return false;
        };
        let mut text = [0; 64];
        let read = call("pread64", || rustix::io::pread(events, &mut text, 0));
        let text = text.get(..read.unwrap_or(0)).unwrap_or_default();
        text.split(|byte| *byte == b'\n')
            .any(|line| line == b"populated 1")
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
