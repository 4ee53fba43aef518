//! `linux.seccomp`: from the profile to one BPF program.
//!
//! Pure: nothing here calls the kernel, and a filter for any architecture is compiled on any
//! other. Loading it is init's. See seccomp(2) and, for the meaning of a profile, the OCI
//! runtime specification and what runc makes of it.
//!
//! # Layout
//! - `architecture`: names, audit tokens, word sizes
//! - `tables`: system call numbers, generated; `multiplexed`: calls that are reached through
//!   `socketcall(2)` and `ipc(2)` too
//! - `profile`: config.json to a [`Policy`], numbers instead of names
//! - `compile`: a [`Policy`] to instructions
//! - `flags`: what is asked of seccomp(2) besides
//! - `kept`: what was compiled, as bytes

mod architecture;
mod compile;
mod error;
mod flags;
mod kept;
mod multiplexed;
mod profile;
mod tables;

#[cfg(test)]
mod tests;

pub use architecture::Architecture;
pub(crate) use architecture::architectures;
pub(crate) use error::SeccompError;
pub(crate) use flags::{KNOWN_FLAGS, NEW_LISTENER, SPEC_ALLOW, TSYNC, WAIT_KILLABLE_RECV, flags};
pub(crate) use kept::{decode, encode, number};
pub(crate) use profile::{Decision, Effect, Policy};
