//! `start`: lets init go on, and learns whether the program runs.
//!
//! Two fifos: a byte into exec.fifo wakes init; the end of file on `done` says that init
//! is over, by `execve(2)` or by its death. The report tells the two apart.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::create::wrong_state;
use super::delete::LIMIT;
use super::dir::{DONE, EXEC_FIFO};
use super::{Container, Status};
use crate::error::{Error, ErrorKind};
use crate::host::Host;
use crate::run::{CALLED_OFF, CallOff, Record, Report, Trace, killed_in, sentence, wants_times};
use crate::sys::{ipc, process};

impl Container {
    /// Starts the program of a *created* container.
    ///
    /// Comes back when the program runs and the poststart hooks have ended, or with the
    /// reason why it can't, also when the process that created the container is long gone.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongState`] if it was started before; otherwise what kept
    /// the program from being executed, or the poststart hook that failed. The container
    /// is then stopped.
    pub fn start(&mut self) -> Result<(), Error> {
        let done = self.let_go()?;
        // Without the lock: startContainer hooks take their time, and whoever wants to
        // end that must be able to.
        self.wait_for(&[done.as_fd()])?;
        self.conclude()?;
        self.poststart()
    }

    /// Wakes init, and waits until it is awake: the container is not *created* any more.
    fn let_go(&self) -> Result<OwnedFd, Error> {
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
        // An error is an event too: nobody reads the fifo any more.
        self.wait_for(&[exec.as_fd(), done.as_fd()])?;
        Ok(done)
    }

    /// What became of it.
    fn conclude(&self) -> Result<(), Error> {
        let _lock = self.dir.lock()?;
        self.outcome().inspect_err(|_| self.wait_end())?;
        self.dir.unlink(EXEC_FIFO)?;
        self.dir.unlink(DONE)
    }

    /// A container whose poststart hook fails is killed: see runtime.md, "Lifecycle".
    fn poststart(&self) -> Result<(), Error> {
        let hooks = &self.saved.poststart;
        if hooks.is_empty() {
            return Ok(());
        }
        let state = self
            .saved
            .hook_state()
            .json("running", Some(self.saved.pid));
        let ran = Host::probe().and_then(|host| {
            let by = self.hooks(&host, CallOff::at_once(self.dir.fd()));
            let ran = by.run_all("poststart", hooks, &state);
            ran.map_err(Error::other)
        });
        ran.inspect_err(|_| match self.kill(libc::SIGKILL) {
            Ok(()) => self.wait_end(),
            Err(error) if error.kind() == ErrorKind::NotRunning => {}
            Err(error) => log::warn!("{error:#}"),
        })
    }

    /// Waits until something happens to one of these, or there is no process any more.
    fn wait_for(&self, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let call_off = CallOff::within(self.dir.fd());
        match call_off.wait(&[fds, &[self.as_fd()]].concat()) {
            Ok(_) => Ok(()),
            Err(Errno::CANCELED) => Err(Error::other(CALLED_OFF)),
            Err(errno) => Err(self.dir.failed(DONE, "poll", errno)),
        }
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

    /// What init did since the wait.
    fn tell_times(&self, records: &[Record]) {
        let late = self.saved.late_steps.iter();
        let late = late.filter_map(|step| {
            let told = (step.origin.clone(), step.what.clone());
            Some((told, *records.get(step.index)?))
        });
        let (steps, records): (Vec<_>, Vec<_>) = late.unzip();
        let mut trace = Trace::default();
        trace.add_init(&steps, &records);
        trace.log();
    }

    /// What the report says about the steps behind the wait.
    fn outcome(&self) -> Result<(), Error> {
        let failed = |errno| self.dir.failed("report", "read", errno);
        let steps = self.saved.init_steps;
        let report = Report::open(self.dir.fd(), steps).map_err(failed)?;
        if wants_times() {
            self.tell_times(&report.records().map_err(failed)?);
        }
        let late = |index| {
            self.saved
                .late_steps
                .iter()
                .find(move |step| step.index == index)
        };
        let (failure, current) = report.ending().map_err(failed)?;
        if let Some(failure) = failure {
            let step = late(failure.index)
                .ok_or_else(|| Error::other("init reports a step that start does not know"))?;
            return Err(sentence(step, &failure, self.saved.steps));
        }
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
