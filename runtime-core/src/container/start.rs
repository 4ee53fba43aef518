//! `start`: lets init go on, and learns whether the program runs.
//!
//! Two fifos: a byte into exec.fifo wakes init; the end of file on `done` says that init
//! is over, by `execve(2)` or by its death. The report tells the two apart.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;

use super::create::wrong_state;
use super::delete::LIMIT;
use super::dir::{DONE, EXEC_FIFO};
use super::{Container, Status};
use crate::error::Error;
use crate::run::{Report, killed_in, sentence};
use crate::sys::{ipc, process};

impl Container {
    /// Starts the program of a *created* container.
    ///
    /// Comes back when the program runs, or with the reason why it can't, also when the
    /// process that created the container is long gone.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongState`] if it was started before; otherwise what kept
    /// the program from being executed. The container is then stopped.
    pub fn start(&mut self) -> Result<(), Error> {
        let _lock = self.dir.lock()?;
        match self.status()? {
            Status::Created => {}
            Status::Stopped => {
                return Err(wrong_state("cannot start a container that has stopped"));
            }
            Status::Running => {
                return Err(wrong_state("cannot start an already running container"));
            }
            Status::Paused => {
                return Err(wrong_state("cannot start a container in the paused state"));
            }
        }
        let done = ipc::open_fifo(self.dir.fd(), DONE, OFlags::RDONLY)
            .map_err(|errno| self.dir.failed(DONE, "open", errno))?;
        let failed = |errno| self.dir.failed(EXEC_FIFO, "write", errno);
        let exec = ipc::open_fifo(self.dir.fd(), EXEC_FIFO, OFlags::WRONLY).map_err(failed)?;
        ipc::write_all(exec.as_fd(), &[0]).map_err(failed)?;
        drop(exec);
        self.wait_done(&done)?;
        self.outcome().inspect_err(|_| self.wait_end())?;
        self.dir.unlink(EXEC_FIFO)?;
        self.dir.unlink(DONE)
    }

    /// Waits until no init holds `done`, or there is no process any more.
    fn wait_done(&self, done: &OwnedFd) -> Result<(), Error> {
        let pidfd = self.as_fd();
        process::poll_in(&[done.as_fd(), pidfd], None)
            .map(drop)
            .map_err(|errno| self.dir.failed(DONE, "poll", errno))
    }

    /// Init that has failed is about to end: whoever is told of the failure finds the
    /// container stopped.
    fn wait_end(&self) {
        let Some(pidfd) = &self.pidfd else { return };
        match process::has_ended(pidfd.as_fd(), Some(LIMIT)) {
            Ok(true) => {}
            // The failure itself is the error to tell.
            other => log::warn!("{}: init has failed and not ended: {other:?}", self.id()),
        }
    }

    /// What the report says about the steps behind the wait.
    fn outcome(&self) -> Result<(), Error> {
        let failed = |errno| self.dir.failed("report", "read", errno);
        let steps = self.saved.init_steps;
        let report = Report::open(self.dir.fd(), steps).map_err(failed)?;
        let late = |index| {
            self.saved
                .late_steps
                .iter()
                .find(move |step| step.index == index)
        };
        if let Some(failure) = report.failure().map_err(failed)? {
            let step = late(failure.index)
                .ok_or_else(|| Error::other("init reports a step that start does not know"))?;
            return Err(sentence(step, &failure, self.saved.steps));
        }
        let current = report.current().map_err(failed)?;
        match current.and_then(late) {
            // The last step is execve: without a record of failure it succeeded.
            Some(step) if step.index + 1 == steps => Ok(()),
            Some(step) => Err(killed_in(step, self.saved.steps)),
            None => Err(Error::other(
                "init was killed before it could start the program",
            )),
        }
    }
}
