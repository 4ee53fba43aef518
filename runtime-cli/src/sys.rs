//! The calls of this program that Rust can't see to be safe.
#![allow(unsafe_code)]

#[cfg(target_env = "musl")]
mod memory;

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
#[cfg(not(test))]
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use rustix::io::{Errno, FdFlags, fcntl_getfd};

/// Where the C library starts the program.
///
/// Not Rust's own `main`: its runtime also installs a handler for stack overflows, for which
/// the C library reads /proc/self/maps with a scanner that alone is a twentieth of this
/// program. What else that runtime does is done here.
// SAFETY: this is the one definition of `main`, with the C signature.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: i32, argv: *const *const std::ffi::c_char) -> i32 {
    let word = |index| {
        // SAFETY: the C library passes `argc` strings, which live as long as the program.
        let word = unsafe { std::ffi::CStr::from_ptr(*argv.add(index)) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    };
    let count = usize::try_from(argc).unwrap_or_default();
    i32::from(program((0..count).map(word)))
}

/// The program, from its start to its exit status.
pub(crate) fn program(words: impl Iterator<Item = OsString>) -> u8 {
    if ignore_sigpipe().is_err() || fill_standard_files().is_err() {
        // Nothing could be told.
        return 1;
    }
    crate::app::main(words)
}

/// A reader that went away is an error of a write, and not the end of this program.
fn ignore_sigpipe() -> nix::Result<()> {
    // SAFETY: no code of ours runs in a signal handler, and no handler can be lost.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.map(drop)
}

/// What this program opens must never get a number that the container takes for its stdin,
/// stdout or stderr: where the caller has left one of these closed, /dev/null takes its place.
fn fill_standard_files() -> Result<(), Errno> {
    for number in 0..3 {
        // SAFETY: the number is only asked about; where nothing is open the kernel says EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        if fcntl_getfd(fd) == Err(Errno::BADF) {
            let flags = rustix::fs::OFlags::RDWR;
            let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
            // It has the lowest free number, which is this one.
            std::mem::forget(null);
        }
    }
    Ok(())
}

/// Gives SIGCHLD its default disposition.
///
/// A caller may have left it ignored; then the kernel reaps the container by itself and its exit
/// status is lost.
pub(crate) fn default_sigchld() -> nix::Result<()> {
    // SAFETY: the default disposition runs no code of ours in a signal handler, and no handler was
    // installed that could be lost.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}

/// All signals, as the kernel counts them. A C library leaves out those that it uses itself; of
/// musl's one is what programs for glibc know as their first real-time signal.
pub(crate) fn all_signals() -> SigSet {
    let mut set = MaybeUninit::<nix::libc::sigset_t>::uninit();
    // SAFETY: a set is an array of bits, any of which may be one.
    unsafe {
        set.as_mut_ptr().write_bytes(0xff, 1);
        SigSet::from_sigset_t_unchecked(set.assume_init())
    }
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

/// The stack of a panic can't be walked: a release build has no tables for it, see
/// scripts/no-unwind.ld. Said here and not found out by libgcc, it lets the linker leave out what
/// would print that stack, some 65 KB.
#[cfg(panic = "abort")]
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(
    _trace: *const std::ffi::c_void,
    _argument: *mut std::ffi::c_void,
) -> std::ffi::c_int {
    const URC_END_OF_STACK: std::ffi::c_int = 5;
    URC_END_OF_STACK
}
