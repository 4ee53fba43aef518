//! An OCI bundle in, a contained process out.
//!
//! ```no_run
//! use corten_core::{Bundle, CreateOptions, Delete, Runtime};
//!
//! let runtime = Runtime::builder().root("/run/corten").build()?;
//! let bundle = Bundle::load("/bundles/web")?;
//! let mut web = runtime.create("web", &bundle, CreateOptions::default())?;
//! web.start()?;
//! println!("{:?}", web.wait()?.status);
//! web.delete(Delete::IfStopped)?;
//! # Ok::<(), corten_core::Error>(())
//! ```
//!
//! The library never prints, never exits, never reads the environment, and changes
//! nothing of the process that it is part of; what [`Runtime::load_and_begin`] has begun it tells
//! itself. It may be used from any number of threads.
//!
//! # Layout
//! - [`bundle`](Bundle): finding and reading a bundle
//! - [`spec`]: config.json as data
//! - [`host`]: what planning must know of the machine and of the bundle
//! - [`plan`]: from config.json to a list of steps; pure
//! - `seccomp`: from a profile to one BPF program
//! - `run`: the runtime half, which walks a plan; init is a package of its own
//! - `cgroup`: limits
//! - `container`: the life of a container
//! - `check`: every problem of a bundle at once
//! - [`features`]: what is understood, as a document
//! - `sys`: system calls, the only unsafe code

mod bundle;
mod cgroup;
mod check;
mod container;
mod error;
mod features;
pub mod host;
pub mod plan;
mod run;
mod seccomp;
pub mod spec;
#[allow(unsafe_code, reason = "the one module that talks to the kernel")]
mod sys;

pub use bundle::Bundle;
pub use cgroup::stats;
pub use check::{Finding, Level};
pub use container::{
    Cgroups, Container, CreateOptions, Delete, Event, ExecOptions, ExecProcess, Exit, ExitStatus,
    OldSchemata, Runtime, RuntimeBuilder, Rusage, State, Status, Stdio, Watch,
};
pub use error::{Error, ErrorKind};
pub use features::features;
pub use run::Trace;
