//! The program that runs inside a new container before `execve(2)`.
//!
//! This library is the program's source as an ordinary member of the workspace, so
//! that it is linted and tested like the rest, and the program itself as bytes:
//! [`PROGRAM`]. The program is built apart by this package's build script.
//!
//! # Layout
//! - [`abi`]: the flat plan and the report, shared with `corten-core`
//! - [`execute`]: the loop over the steps
//! - [`head`]: who runs a program, also for `corten_core`'s check of a bundle
//! - [`ops`]: what each step does, by facility
//! - [`sys`]: system calls
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod abi;
pub mod execute;
pub mod head;
pub mod ops;
#[allow(unsafe_code, reason = "the one module that talks to the kernel")]
pub mod sys;

/// The program: a static ELF executable without a dynamic section.
pub static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/corten-init"));

/// Path of the same program with its symbols, for tests that look at them.
pub const UNSTRIPPED: &str = concat!(env!("OUT_DIR"), "/corten-init.unstripped");
