//! `delete`: nothing of a container is left.
//!
//! Bounded in time, and repeatable: state.json goes last.

use std::os::fd::AsFd;
use std::time::Duration;

use super::create::wrong_state;
use super::runtime::{remove_cgroup, remove_resctrl};
use super::{Container, Status};
use crate::cgroup::Stuck;
use crate::error::Error;
use crate::host::Host;
use crate::sys::process;

/// How long killed processes may take to be gone.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// What to do with a container that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delete {
    /// Refuse, unless it has stopped or was never started.
    IfStopped,
    /// Kill everything in it, and in its cgroup, whoever that is by now.
    Force,
}

impl Container {
    /// Removes the container: its processes, its cgroup, its state. Then its poststop
    /// hooks run, for as long as their timeouts let them.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongState`] if it runs and `how` does not allow that. When
    /// something can't be killed or removed in a bounded time, or is somebody else's and
    /// `how` is not [`Delete::Force`], the error names it, the state is kept, and a
    /// repeated call goes on.
    pub fn delete(self, how: Delete) -> Result<(), Error> {
        let _lock = self.dir.lock()?;
        self.delete_locked(how)
    }

    pub(super) fn delete_locked(&self, how: Delete) -> Result<(), Error> {
        // With its pid namespace all that was the container's is dead: who is in its cgroup
        // now is a stranger, as another container of the same path.
        let mut strangers = false;
        match self.status()? {
            Status::Stopped => {
                self.reap();
                strangers = self.saved.own_pid_namespace && how == Delete::IfStopped;
            }
            Status::Created => self.end()?,
            Status::Running | Status::Paused if how == Delete::Force => self.end()?,
            status => {
                let id = self.id();
                let text = format!("cannot delete container {id} that is not stopped: {status}");
                return Err(wrong_state(text));
            }
        }
        if let (true, Some(cgroup)) = (strangers, self.saved.open_cgroup()) {
            cgroup.refuse_strangers()?;
        }
        if let Some(path) = &self.saved.cgroup {
            remove_cgroup(path, &self.saved.made_cgroups, self.saved.unit.as_ref())?;
        }
        remove_resctrl(&self.saved.resctrl)?;
        self.dir.remove()?;
        self.poststop();
        Ok(())
    }

    /// The last that happens: one that fails is only a warning.
    fn poststop(&self) {
        if self.saved.poststop.is_empty() {
            return;
        }
        let state = self.saved.hook_state().json("stopped", None);
        match Host::probe() {
            Ok(host) => self.hooks(&host).poststop(&self.saved.poststop, &state),
            Err(error) => log::warn!("hooks.poststop: not run: {error:#}"),
        }
    }

    /// A child of the caller that has ended would stay a zombie, and keep its cgroup.
    fn reap(&self) {
        if let Some(pidfd) = &self.pidfd {
            process::reap(pidfd);
        }
    }

    /// Kills the container's processes and waits until the first one is gone.
    fn end(&self) -> Result<(), Error> {
        let Some(pidfd) = &self.pidfd else {
            return Ok(());
        };
        let id = self.saved.id.as_str();
        let failed = |call| move |errno| Error::call(id, call, errno);
        process::kill(pidfd.as_fd()).map_err(failed("pidfd_send_signal"))?;
        if let Some(cgroup) = self.saved.open_cgroup() {
            cgroup.kill()?;
        }
        if process::has_ended(pidfd.as_fd(), Some(LIMIT)).map_err(failed("poll"))? {
            self.reap();
            return Ok(());
        }
        let stuck = Stuck::look(self.saved.pid);
        Err(Error::other(format!(
            "{stuck} was killed {} s ago and is still there",
            LIMIT.as_secs()
        )))
    }
}
