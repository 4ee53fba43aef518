//! Namespaces that are joined, and those that are made after the clone.
//!
//! See setns(2), unshare(2), ioctl_ns(2), time_namespaces(7).

use crate::abi::{Kind, Slot, Span};
use crate::execute::{Failure, Init, Outcome};
use crate::sys::{self, CWD, errno, flag};

/// NSFS_MAGIC of linux/magic.h.
const NSFS_MAGIC: u64 = 0x6e73_6673;
const CLONE_NEWTIME: u64 = 0x80;

pub(crate) fn unshare(flags: u64) -> Outcome {
    Ok(sys::unshare(flags)?)
}

/// What is no namespace is never opened for reading: a fifo would hang, a device would do
/// what it does.
pub(crate) fn open(init: &mut Init, path: Span, kind: u64, into: Slot) -> Outcome {
    let path = init.text(path)?;
    let found = sys::openat2(CWD, path, flag::O_PATH, 0)?;
    let magic = sys::fs_magic(found)?;
    sys::close(found)?;
    if magic != NSFS_MAGIC {
        return Err(OTHER);
    }
    let flags = flag::O_RDONLY | flag::O_NONBLOCK | flag::O_NOCTTY;
    let namespace = sys::openat2(CWD, path, flags, 0)?;
    init.store(into, namespace)?;
    if sys::fs_magic(namespace)? == NSFS_MAGIC && sys::namespace_kind(namespace)? == kind {
        Ok(())
    } else {
        Err(OTHER)
    }
}

const OTHER: Failure = Failure {
    errno: errno::EINVAL,
    kind: Kind::NotThatNamespace,
};

pub(crate) fn join(init: &mut Init, from: Slot, kinds: u64) -> Outcome {
    let before = sys::monotonic();
    sys::setns(init.slot(from)?, kinds)?;
    if kinds & CLONE_NEWTIME != 0 {
        init.clock_moved(before);
    }
    init.close(from)
}

/// The host's /proc, while it is in reach: who joins a mount namespace finds another one.
pub(crate) fn open_proc(init: &mut Init, into: Slot) -> Outcome {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    // PROC_ROOT_INO of linux/proc_fs.h.
    const ROOT: u64 = 1;
    let proc = sys::openat2(CWD, c"/proc", flag::O_PATH | flag::O_DIRECTORY, 0)?;
    init.store(into, proc)?;
    if sys::fs_magic(proc)? == PROC_SUPER_MAGIC && sys::stat(proc, c"")?.inode == ROOT {
        Ok(())
    } else {
        Err(init.detail(Kind::Impostor, errno::ENODEV, &[b"/proc"]))
    }
}

/// unshare(2) makes a time namespace for children only. Its offsets are set by now, and are
/// fixed from here on.
pub(crate) fn enter_time(init: &mut Init, proc: Slot) -> Outcome {
    let path = c"self/ns/time_for_children";
    let namespace = sys::openat2(init.slot(proc)?, path, flag::O_RDONLY, 0)?;
    let before = sys::monotonic();
    sys::setns(namespace, CLONE_NEWTIME)?;
    init.clock_moved(before);
    sys::close(namespace)?;
    init.close(proc)
}
