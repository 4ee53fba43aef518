//! containerd's shim with the runtime inside: `containerd-shim-corten-v2`.
//!
//! containerd starts one shim for a container, or for all containers of a pod, and asks it
//! for everything by ttrpc, a protocol of small frames on a Unix socket. This shim does the
//! work by `corten_core` in its own process; no runtime binary is ever executed.
//!
//! One thread owns all state and waits with epoll(7): for calls, for ends of processes (by
//! pidfd), for bytes of standard input and output. What takes time (create, start, delete)
//! runs on a thread of its own that ends with it, and comes back as a message. So an idle
//! shim has one thread, and the order of events is the order of the code.
//!
//! # Layout
//! - `args`: the command line
//! - `start` (with `caller`), `delete`, `info`: what is done and over before the command returns
//! - `daemon`: what stays; `engine`: what it waits for; `worker`: its threads; `callers`: who asks
//! - `service`, `create` (with `make`, `calloff`, `runtimes`), `exec`, `end`: the calls; `task`: what
//!   they are about; `deadline`: until when they want an answer
//! - `exit`: ends of processes, and their order
//! - `sandbox`: the calls about a pod, and its process
//! - `stdio`, `mounts`, `stats`: one thing each
//! - [`frame`], `server`: ttrpc; `publisher`: events to containerd; `saved`, `deliver`: those that
//!   it had not taken when their shim ended
//! - `proto`: the messages
//! - `socket`: addresses
//! - `sys`: what needs `unsafe`

pub mod args;
mod bundle;
mod caller;
mod callers;
mod calloff;
mod create;
mod daemon;
mod deadline;
mod delete;
mod deliver;
mod end;
mod engine;
mod exec;
mod exit;
mod failure;
pub mod frame;
mod info;
mod logging;
mod make;
mod mounts;
pub mod proto;
mod publisher;
mod runtimes;
mod sandbox;
mod saved;
mod server;
mod service;
pub mod socket;
mod start;
mod stats;
mod stdio;
#[allow(unsafe_code, reason = "the one module that talks to the C library")]
mod sys;
mod task;
mod worker;

use std::process::ExitCode;

use args::{Action, Args};

/// The program, from its command line to its exit status.
#[must_use]
pub fn main() -> ExitCode {
    sys::few_arenas();
    let done = Args::parse(std::env::args_os().skip(1))
        .map_err(failure::Failure::from)
        .and_then(|args| run(&args));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // containerd takes what is printed as the reason.
            eprintln!("containerd-shim-corten-v2: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), failure::Failure> {
    if args.version {
        return info::version();
    }
    if args.info {
        return info::info();
    }
    if args.action == Action::Pause {
        return sandbox::pause();
    }
    if args.namespace.is_empty() {
        return Err(failure::Failure::invalid("shim namespace cannot be empty"));
    }
    match args.action {
        Action::Start => start::start(args),
        Action::Delete => delete::delete(args),
        Action::Publish => deliver::publish(args),
        Action::Daemon | Action::Pause => daemon::run(args),
    }
}
