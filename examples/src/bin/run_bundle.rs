//! Runs a bundle in the foreground and ends as its process does: `run_bundle BUNDLE` (as root).

use std::error::Error;
use std::process::ExitCode;

use corten_core::{Bundle, CreateOptions, Delete, ExitStatus, Runtime};

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // `{:#}` is the whole chain on one line: which field or object, what, why.
        eprintln!("run_bundle: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let bundle = std::env::args_os()
        .nth(1)
        .ok_or("usage: run_bundle BUNDLE")?;
    let runtime = Runtime::builder().root("/run/corten-example").build()?;
    let bundle = Bundle::load(bundle)?;
    // Everything is set up and checked here; the process waits just before its execve.
    let mut container = runtime.create("run_bundle", &bundle, CreateOptions::default())?;
    container.start()?;
    let exit = container.wait()?;
    container.delete(Delete::IfStopped)?;
    Ok(match exit.status {
        ExitStatus::Code(code) => ExitCode::from(u8::try_from(code)?),
        ExitStatus::Signal(signal) => ExitCode::from(128 + u8::try_from(signal)?),
        // Somebody else reaped the process, and the kernel does not tell.
        _ => ExitCode::FAILURE,
    })
}
