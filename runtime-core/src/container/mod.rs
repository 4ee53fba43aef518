//! Containers: their life from `create` to `delete`.
//!
//! # Layout
//! - `runtime`: [`Runtime`], where containers are kept
//! - `create`, `start`, `exec`, `kill`, `pause`, `stats`, `update`, `wait`, `watch`, `delete`:
//!   operations of [`Container`]
//! - `execs`: what `exec` has started and nobody has waited for
//! - `holders`: an init whose creator was killed
//! - `notify`: the socket for sd_notify(3)
//! - `state`: [`State`] and what is kept on disk
//! - `dir`: the state directory and its lock

mod create;
mod delete;
mod dir;
mod exec;
mod execs;
mod filters;
mod holders;
mod kill;
mod notify;
mod pause;
mod resctrl;
mod runtime;
mod start;
mod state;
mod stats;
mod update;
mod wait;
mod watch;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use crate::error::Error;
use crate::host::Host;
use crate::run::{CallOff, Hooks, InitProgram, Record, Report, Trace, is_init};
use crate::spec::Spec;
use dir::{StartFifo, StateDir};
use state::Saved;

pub use create::{CreateOptions, Stdio};
pub use delete::Delete;
pub use exec::{ExecOptions, ExecProcess};
pub use resctrl::OldSchemata;
pub use runtime::{Cgroups, Runtime, RuntimeBuilder};
pub use state::{State, Status};
pub use wait::{Exit, ExitStatus, Rusage};
pub use watch::{Event, Watch};

/// A container: created, running, or stopped and not yet deleted.
///
/// `AsFd` gives its pidfd, which is readable once the container's process has ended, so
/// that it fits any event loop. Dropping a `Container` does nothing to the container.
#[derive(Debug)]
pub struct Container {
    /// Shared with the runtime: hooks are run by it.
    program: Arc<InitProgram>,
    dir: StateDir,
    saved: Saved,
    /// The process; none when it was gone before this value was made.
    pidfd: Option<OwnedFd>,
    /// How it ended, once somebody has waited by this value.
    exit: Option<Exit>,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
    trace: Trace,
    /// Origin and words of init's steps, where this value made the container.
    steps: Vec<(String, String)>,
    /// Its configuration, from a look at its process until the `exec` that comes of it.
    config: Mutex<Option<Box<Spec>>>,
    /// Of these, where this value made and started the container in one go.
    records: Option<Vec<Record>>,
}

impl Container {
    /// The container's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.saved.id
    }

    /// Process id of the container's first process, in the caller's pid namespace; 0
    /// when it has ended.
    #[must_use]
    pub fn pid(&self) -> i32 {
        if self.has_ended() { 0 } else { self.saved.pid }
    }

    /// The same number, also when that process has ended: then somebody else may have it, as
    /// soon as the process was waited for.
    #[must_use]
    pub fn first_pid(&self) -> i32 {
        self.saved.pid
    }

    /// What the container is and does now.
    ///
    /// # Errors
    /// When the state directory can't be read.
    pub fn state(&self) -> Result<State, Error> {
        let status = self.status()?;
        Ok(self.saved.state(status))
    }

    /// The pty's master side, if config.json asks for a terminal and no console socket
    /// was given; only once, and only from the value that [`Runtime::create`] returned.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// What was done differently from what config.json says, and why.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// When each step of the start began and ended.
    ///
    /// Known only to the value that [`Runtime::create`] returned with
    /// [`CreateOptions::trace`]; for any other the trace is empty.
    ///
    /// # Errors
    /// When the report in the state directory can't be read.
    pub fn trace(&self) -> Result<Trace, Error> {
        let mut trace = self.trace.clone();
        if let Some(records) = &self.records {
            trace.add_init(&self.steps, records);
            return Ok(trace);
        }
        if self.steps.is_empty() {
            return Ok(trace);
        }
        let failed = |errno| self.dir.failed("report", "pread", errno);
        let report = Report::open(self.dir.fd(), self.saved.init_steps).map_err(failed)?;
        trace.add_init(&self.steps, &report.records().map_err(failed)?);
        Ok(trace)
    }

    /// What runs this container's hooks on the host.
    fn hooks<'a>(&'a self, host: &'a Host, call_off: CallOff<'a>) -> Hooks<'a> {
        Hooks {
            program: &self.program,
            host,
            bundle: &self.saved.bundle,
            rootfs: &self.saved.rootfs,
            call_off,
        }
    }

    fn has_ended(&self) -> bool {
        match &self.pidfd {
            // A pidfd can always be polled; if not, the process is not to be trusted.
            Some(pidfd) => {
                crate::sys::process::has_ended(pidfd.as_fd(), Some(std::time::Duration::ZERO))
                    .unwrap_or(true)
            }
            None => true,
        }
    }

    fn status(&self) -> Result<Status, Error> {
        if self.has_ended() {
            return Ok(Status::Stopped);
        }
        // Before the rest: a frozen init would not answer to a start.
        if self.saved.is_frozen() {
            return Ok(Status::Paused);
        }
        Ok(match self.dir.start()? {
            StartFifo::Held => Status::Created,
            StartFifo::Left if self.never_started() => Status::Stopped,
            _ => Status::Running,
        })
    }

    /// Whether init is about to end, or has just ended, and did not come to the program: it has
    /// let go of its fifo, and nobody has taken that away.
    fn never_started(&self) -> bool {
        // A `start` that was killed leaves the fifo too, and one that is under way.
        !is_init(self.saved.pid) && !self.has_executed()
    }

    /// Whether the report says that init came to its last step, which is execve; so does one
    /// that can't be read.
    fn has_executed(&self) -> bool {
        let report = Report::open(self.dir.fd(), self.saved.init_steps);
        let ended = report.and_then(|report| report.ending());
        ended.map_or(true, |(failed, current)| {
            let last = current.is_some_and(|current| current + 1 == self.saved.init_steps);
            failed.is_none() && last
        })
    }
}

impl AsFd for Container {
    /// The pidfd of the container's process.
    ///
    /// For a container that had ended before this value was made there is none: the
    /// state directory's descriptor stands in, which poll(2) calls readable as well.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd
            .as_ref()
            .map_or_else(|| self.dir.fd(), |pidfd| pidfd.as_fd())
    }
}
