//! Checks of an OCI runtime by running it: real processes, seen from inside the
//! container by the probe program and from outside by the host.
//!
//! # Layout
//!
//! | module | what it owns |
//! |---|---|
//! | [`check`] | what a check is; `checks/` beside `src/` holds them, a file per facility |
//! | [`lab`] | what a check is given: the runtime, fresh bundles, containers that go away |
//! | [`cgroup_files`] | the forms of a cgroup's files, to read limits back |
//! | [`facts`] | looking things up in what the probe told |
//! | [`bundle`], [`runtime`], [`console`], [`agent`] | a bundle on disk; the driver of a runtime binary; terminals; the other end of a seccomp listener |
//! | [`config`] | the fields of a config.json |
//! | [`lane`] | the native lane: private namespaces in which a runtime can't hurt the machine |
//! | [`leaks`] | what a command left behind |
//! | [`runner`], [`report`], [`cli`] | runs checks in parallel; tells the outcome; the command line |
//! | [`compare`] | what a container sees under several runtimes |
//! | [`table`], [`spec`] | the page with the outcome of several runtimes; what a check is by |
//! | [`bench`](mod@bench) | what containers cost, beside other runtimes and a floor |
//! | `immune` | the checks of flaws that other runtimes had |
//! | [`mutate`] | leaves steps out of the plans: does a check miss them? |
//! | `supervise` | stops a runtime at each call that takes a path, for races |
//! | [`wait`] | every wait has a limit |
//!
//! The probe is a program of its own, `src/bin/probe`.

pub mod agent;
pub mod bench;
pub mod bundle;
pub mod cgroup_files;
pub mod check;
pub mod cli;
pub mod compare;
pub mod config;
pub mod console;
pub mod facts;
mod immune;
pub mod lab;
pub mod lane;
pub mod leaks;
pub mod mutate;
pub mod report;
pub mod runner;
pub mod runtime;
pub mod spec;
mod supervise;
mod sys;
pub mod table;
pub mod wait;

#[path = "../checks/mod.rs"]
mod checks;

use std::path::PathBuf;

/// A program that cargo built beside this one, `name` in the same target directory.
///
/// # Errors
///
/// Says what to build if it is not there.
pub fn built(name: &str) -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    // Test binaries are one folder further down, in `deps`.
    let found = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name));
    found
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| {
            format!(
                "{name} is not built beside {}: cargo build --workspace",
                this.display()
            )
        })
}
