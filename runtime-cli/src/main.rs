//! `corten`: a command line over `corten_core` that can stand in for runc.
//!
//! # Layout
//! `app` reads the line by the table in `flags` and runs one of `commands`, one file each.
//! `manual` draws manual pages and completions from that table, in tests.
//! `foreground` and `console` attend a container that `run` waits for. `sys` has the calls
//! that need `unsafe`, and `main`.
#![cfg_attr(not(test), no_main)]

mod app;
mod commands;
mod console;
mod failure;
mod flags;
mod foreground;
mod help;
mod logging;
#[cfg(test)]
mod manual;
#[cfg(feature = "mutate")]
mod mutate;
mod notify;
mod output;
mod parse;
mod pid_file;
mod root;
mod signals;
mod sys;
mod table;
mod time;

/// For libtest, which brings a `main` of its own; the program's is in [`sys`].
#[cfg(test)]
fn main() -> std::process::ExitCode {
    sys::program(std::env::args_os()).into()
}
