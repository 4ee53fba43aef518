//! The library as a program that embeds it sees it: real containers, made by calls of
//! the public API only.
//!
//! Each test runs in a native lane of its own (`corten_conformance::lane`), so in a
//! process of its own too, and may change what is process-wide. At its end nothing may
//! be left of its containers: see [`lab`].
//!
//! # Layout
//! - [`lab`]: what a test is given; [`snapshot`]: what is process-wide, to compare;
//!   [`sys`]: the calls that need `unsafe`
//! - [`begun`]: what is begun before a bundle is read
//! - [`calloff`]: creations that hang
//! - [`cgroup`]: a cgroup that somebody else has, or wants
//! - [`embedder`]: what the program itself keeps: its state, its memory
//! - [`exec`]: one more process in a container
//! - [`hooks`]: hooks on the host, whatever the program does with its children
//! - [`hung`]: a process that no signal reaches
//! - [`init`]: what a created container holds, and what it does not
//! - [`killed`]: creators that are killed, or fail, at every system call
//! - [`lifecycle`]: start, kill, delete, also by another process than the creator
//! - [`options`]: what a caller chooses besides config.json
//! - [`pause`]: pause, resume, and what was used
//! - [`update`]: other limits, all of them or none
//! - [`watch`]: what is told of a container while it runs
//! - [`wait`]: how a container ended, for its parent and for others

mod begun;
mod calloff;
mod cgroup;
mod check;
mod embedder;
mod exec;
mod hooks;
mod hung;
mod init;
mod killed;
mod lab;
mod lifecycle;
mod options;
mod pause;
mod resctrl;
mod snapshot;
#[allow(
    unsafe_code,
    reason = "the one module of the tests that talks to the kernel"
)]
mod sys;
mod update;
mod wait;
mod watch;
