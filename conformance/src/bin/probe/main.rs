//! What a contained process sees, as one line of JSON: the program that the checks
//! run inside containers.
//!
//! `probe` alone prints the facts. The first argument can name something else to do;
//! `ACTIONS` lists it all. The program is static, so an empty root file system with
//! this one file is a bundle, and it needs no /proc: what only /proc could tell is
//! `null` then.
//!
//! Facts are grouped by file: `process` (ids, capabilities, limits, signals), `files`
//! (fds, mounts, devices), `surroundings` (namespaces, names, network, terminals).
#![no_main]

mod actions;
mod files;
mod process;
mod surroundings;
mod sys;

use std::ffi::OsString;
use std::io::Write as _;

use serde_json::{Value, json};

/// An exit code for wrong arguments that no container process would use by chance.
const USAGE: i32 = 64;

/// The program. Returns the exit code.
fn run() -> i32 {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| lossy(&argument))
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        // First, and without a look around: benchmarks run this.
        ["true"] => 0,
        [] | ["facts"] => print(&facts()),
        ["--write" | "-o", file] => write(file, &facts()),
        [action, rest @ ..] => actions::run(action, rest).unwrap_or_else(|| {
            eprintln!(
                "probe: {arguments:?}: no such action; there are: {}",
                actions::ACTIONS
            );
            USAGE
        }),
    }
}

fn lossy(text: &OsString) -> String {
    text.to_string_lossy().into_owned()
}

/// Everything the probe knows. The fds come first: looking further opens more.
fn facts() -> Value {
    let mut facts = json!({ "fds": files::fds() });
    for part in [process::facts(), files::facts(), surroundings::facts()] {
        if let (Value::Object(all), Value::Object(part)) = (&mut facts, part) {
            all.extend(part);
        }
    }
    facts
}

fn print(facts: &Value) -> i32 {
    i32::from(writeln!(std::io::stdout(), "{facts}").is_err())
}

fn write(file: &str, facts: &Value) -> i32 {
    // A temporary name: whoever waits for the file must not read half of it.
    let partial = format!("{file}.partial");
    let written = std::fs::write(&partial, format!("{facts}\n"))
        .and_then(|()| std::fs::rename(&partial, file));
    match written {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("probe: {file}: {error}");
            1
        }
    }
}
