//! The calls of this program that Rust can't see to be safe.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, RawFd};

use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::io::{FdFlags, fcntl_getfd};

/// Gives SIGCHLD its default disposition.
///
/// A caller may have left it ignored; then the kernel reaps the container by itself and its exit
/// status is lost.
pub(crate) fn default_sigchld() -> nix::Result<()> {
    // SAFETY: the default disposition runs no code of ours in a signal handler, and no handler was
    // installed that could be lost.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}

/// Whether the caller of this program has left the file `number` open for it.
///
/// What this program opens itself is closed on exec; what came through an exec can't be.
pub(crate) fn is_inherited(number: RawFd) -> bool {
    // SAFETY: the number is only asked about, within this function; where nothing is open the
    // kernel says EBADF. It is not -1, which a `BorrowedFd` may not be.
    let fd = unsafe { BorrowedFd::borrow_raw(number.max(0)) };
    fcntl_getfd(fd).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_file_of_this_program_does_not_count_as_inherited() {
        let own = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_inherited(own.as_raw_fd()));
        rustix::io::fcntl_setfd(&own, FdFlags::empty()).unwrap();
        assert!(is_inherited(own.as_raw_fd()));
        assert!(!is_inherited(RawFd::MAX));
    }
}
