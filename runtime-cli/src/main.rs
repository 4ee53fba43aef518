//! `corten`: a command line over `corten_core` that can stand in for runc.
//!
//! # Layout
//! `app` reads the line by the table in `flags` and runs one of `commands`, one file each.
//! `foreground` and `console` attend a container that `run` waits for.

mod app;
mod commands;
mod console;
mod failure;
mod flags;
mod foreground;
mod help;
mod logging;
#[cfg(feature = "mutate")]
mod mutate;
mod output;
mod parse;
mod pid_file;
mod root;
mod signals;
mod sys;
mod table;
mod time;

fn main() -> std::process::ExitCode {
    app::main().into()
}
