//! What a namespace is, by its file.
//!
//! See ioctl_ns(2) and namespaces(7).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::{call, last_errno};

/// Of linux/magic.h.
const NSFS_MAGIC: i64 = 0x6e73_6673;

const NS_GET_USERNS: libc::Ioctl = 0xb701;
const NS_GET_PARENT: libc::Ioctl = 0xb702;
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// `fstatfs(2)`: whether a file is a namespace.
pub(crate) fn is_namespace(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let system = call("fstatfs", || rustix::fs::fstatfs(file))?;
    Ok(system.f_type == NSFS_MAGIC)
}

/// `ioctl(NS_GET_NSTYPE)`: the `CLONE_NEW*` of a namespace.
pub(crate) fn kind(namespace: BorrowedFd<'_>) -> Result<u64, Errno> {
    let kind = ioctl(namespace, NS_GET_NSTYPE)?;
    Ok(u64::from(kind.unsigned_abs()))
}

/// `ioctl(NS_GET_USERNS)`: the user namespace that owns a namespace. `EPERM` where that is
/// outside the caller's own.
pub(crate) fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    to_fd(ioctl(namespace, NS_GET_USERNS)?)
}

/// `ioctl(NS_GET_PARENT)`: the user namespace that a user namespace is in.
pub(crate) fn parent(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    to_fd(ioctl(namespace, NS_GET_PARENT)?)
}

fn ioctl(namespace: BorrowedFd<'_>, request: libc::Ioctl) -> Result<i32, Errno> {
    call("ioctl", || {
        // SAFETY: these requests take no argument and touch no memory of the caller.
        match unsafe { libc::ioctl(namespace.as_raw_fd(), request) } {
            -1 => Err(last_errno()),
            value => Ok(value),
        }
    })
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the tail of two calls that can fail"
)]
fn to_fd(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel has just made this descriptor (close-on-exec), and nothing else
    // owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
