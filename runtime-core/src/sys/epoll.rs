//! epoll(7), for values whose readiness a caller may put into an event loop of its own.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::call;

/// `epoll_create1(2)`, close-on-exec. The descriptor is readable while something of it is.
pub(crate) fn new() -> Result<OwnedFd, Errno> {
    call("epoll_create1", || epoll::create(CreateFlags::CLOEXEC))
}

/// Adds what is readable at its end, as a pidfd.
pub(crate) fn add_in(epoll: &OwnedFd, file: impl AsFd) -> Result<(), Errno> {
    add(epoll, file, EventFlags::IN)
}

/// Adds what tells of changes, as a file of a cgroup; reading it is what arms the next notice.
pub(crate) fn add_changes(epoll: &OwnedFd, file: impl AsFd) -> Result<(), Errno> {
    add(epoll, file, EventFlags::PRI)
}

fn add(epoll: &OwnedFd, file: impl AsFd, flags: EventFlags) -> Result<(), Errno> {
    call("epoll_ctl", || {
        epoll::add(epoll, &file, EventData::new_u64(0), flags)
    })
}

/// Takes one away again.
pub(crate) fn remove(epoll: &OwnedFd, file: impl AsFd) -> Result<(), Errno> {
    call("epoll_ctl", || epoll::delete(epoll, &file))
}
