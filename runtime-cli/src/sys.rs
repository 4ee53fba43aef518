//! The one call of this program that Rust can't see to be safe.
#![allow(unsafe_code)]

use nix::sys::signal::{SigHandler, Signal, signal};

/// Gives SIGCHLD its default disposition.
///
/// A caller may have left it ignored; then the kernel reaps the container by itself and its exit
/// status is lost.
pub(crate) fn default_sigchld() -> nix::Result<()> {
    // SAFETY: the default disposition runs no code of ours in a signal handler, and no handler was
    // installed that could be lost.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}
