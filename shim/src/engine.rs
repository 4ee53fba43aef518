//! [`Poller`]: which file became ready, and what it stands for; epoll(7).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// What a descriptor is waited for.
pub(crate) use rustix::event::epoll::EventFlags as Ready;

/// Most events that are taken at once.
const BATCH: usize = 64;

/// A process of a container: the first one, or one that was added by its exec id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) id: String,
    /// Empty for the first process.
    pub(crate) exec: String,
}

/// What a descriptor stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Somebody connects.
    Listener,
    /// A signal for the shim itself.
    Signals,
    /// A worker has finished.
    Workers,
    /// containerd's end of the events.
    Publisher,
    /// A caller; the token is its name.
    Connection,
    /// A pidfd.
    Exit(Key),
    /// Something of a container was killed for want of memory.
    Oom(String),
    /// An end of a stream of this number.
    Copy(u64),
}

/// A number that stands for one registration, and is never used again: an event that was
/// under way when its descriptor was closed finds nothing.
pub(crate) type Token = u64;

#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    next: Token,
    sources: BTreeMap<Token, Source>,
}

impl Poller {
    pub(crate) fn new() -> Result<Poller, Errno> {
        Ok(Poller {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            next: 0,
            sources: BTreeMap::new(),
        })
    }

    /// One that the kernel refuses every descriptor.
    #[cfg(test)]
    pub(crate) fn refusing() -> Poller {
        Poller {
            epoll: std::fs::File::open("/dev/null").unwrap().into(),
            next: 0,
            sources: BTreeMap::new(),
        }
    }

    pub(crate) fn add(
        &mut self,
        fd: impl AsFd,
        ready: Ready,
        source: Source,
    ) -> Result<Token, Errno> {
        let token = self.next;
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), ready)?;
        self.next += 1;
        self.sources.insert(token, source);
        Ok(token)
    }

    pub(crate) fn change(&self, fd: impl AsFd, token: Token, ready: Ready) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token), ready)
    }

    /// Before the descriptor is closed: a copy of it elsewhere would keep it registered.
    pub(crate) fn remove(&mut self, fd: impl AsFd, token: Token) {
        if self.sources.remove(&token).is_some()
            && let Err(errno) = epoll::delete(&self.epoll, fd)
        {
            log::warn!("epoll_ctl: {errno}");
        }
    }

    /// As [`Self::remove`], where one of these is registered.
    pub(crate) fn remove_any<const N: usize>(&mut self, fds: [BorrowedFd<'_>; N], token: Token) {
        if self.sources.remove(&token).is_some()
            && fds.iter().all(|fd| epoll::delete(&self.epoll, fd).is_err())
        {
            log::warn!("epoll_ctl: nothing to remove");
        }
    }

    /// What is ready, at the latest at `until`.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Result<Vec<(Token, Source)>, Errno> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map(timespec);
        let mut events = Vec::with_capacity(BATCH);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let found = events.iter().filter_map(|event| {
            let token = event.data.u64();
            Some((token, self.sources.get(&token)?.clone()))
        });
        Ok(found.collect())
    }

    /// Whether this registration is still there: what was handled before may have ended it.
    pub(crate) fn knows(&self, token: Token) -> bool {
        self.sources.contains_key(&token)
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        // Further away than any limit here.
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
