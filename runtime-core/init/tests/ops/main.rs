//! Init's steps, run for real: the program itself with small plans made by hand, in fresh
//! namespaces, observed from outside. Needs root.
//!
//! # Layout
//! - `trial`: a plan of a few steps, and what became of it
//! - `flat`: such a plan as bytes, laid out here and not by the library
//! - `mounts_in_place`: options as one text, remounts, links; `trees`: sources opened outside
//! - `mounts`, `copy` (tmpcopyup), `root`, `devices`, `process`, `enter`, `namespaces`, `exec`, `console`,
//!   `hooks`, `procfs`: the tests, by facility
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a test's way to fail"
)]

mod console;
mod copy;
mod devices;
mod enter;
mod exec;
mod flat;
mod hooks;
mod mounts;
mod mounts_in_place;
mod namespaces;
mod process;
mod procfs;
mod root;
mod trees;
mod trial;
