//! The shim as containerd sees it, by a containerd of our own.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::unwrap_used, reason = "a test program")]

mod bootstrap;
mod early;
mod end;
mod events;
mod exec;
mod fake;
mod flaws;
mod idle;
mod killed;
mod mounts;
mod sandbox;
mod scarce;
mod stdio;
mod task;
mod wire;
