//! `delete`: nothing of a container is left.
//!
//! Bounded in time, and repeatable: state.json goes last.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::create::wrong_state;
use super::dir::{self, Lock, StateDir};
use super::runtime::{remove_cgroup, remove_resctrl};
use super::state::{Intent, Saved};
use super::{Container, Status, execs};
use crate::cgroup::{self, Cgroup, Stuck};
use crate::error::Error;
use crate::host::Host;
use crate::run::CallOff;
use crate::sys::process;

/// How long killed processes may take to be gone.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// How long whoever works on a container may take to give up.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(5);

/// What to do with a container that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delete {
    /// Refuse, unless it has stopped or was never started.
    IfStopped,
    /// Kill everything in it, and in its cgroup, whoever that is by now.
    Force,
}

/// The lock, for a deletion whatever the container does.
///
/// Who has it is told to give up, and takes back what it has made. One that does not is
/// stopped itself, or hangs in the kernel: then the container's processes are killed without
/// the lock, so that they at least are gone, and if that was no help either the error names
/// who has it.
pub(super) fn lock_by_force(dir: &StateDir) -> Result<Lock, Error> {
    match dir.lock_by_force(GIVE_UP_LIMIT) {
        Err(error) if error.is_locked() => {
            kill_recorded(dir)?;
            dir.lock_by_force(LIMIT)
        }
        locked => locked,
    }
}

/// Kills what the records in a state directory name, while somebody else has its lock.
fn kill_recorded(dir: &StateDir) -> Result<(), Error> {
    if let Some(bytes) = dir.read(dir::STATE)? {
        let saved = Saved::parse(&bytes, &dir.path().join(dir::STATE))?;
        if let Some(pidfd) = saved.open_process()? {
            let failed = |errno| Error::call(&*saved.id, "pidfd_send_signal", errno);
            process::kill(pidfd.as_fd()).map_err(failed)?;
        }
        return match saved.open_cgroup() {
            Some(cgroup) if dir.is_there()? => Ok(cgroup.kill()?),
            _ => Ok(()),
        };
    }
    let Some(Intent {
        cgroup: Some(path),
        made_cgroups,
        unit,
        ..
    }) = dir.intent()?
    else {
        return Ok(());
    };
    // One that was there before may be somebody else's, and has nothing of this creation
    // that ends with it.
    if !made_cgroups.contains(&path) && unit.is_none() {
        return Ok(());
    }
    match Cgroup::open(Path::new(cgroup::MOUNT), &path) {
        // Opened while the record is there, it is that creation's, whoever has the path later.
        Ok(cgroup) if dir.is_there()? => Ok(cgroup.kill()?),
        _ => Ok(()),
    }
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
        let _lock = match how {
            Delete::IfStopped => self.dir.lock()?,
            Delete::Force => lock_by_force(&self.dir)?,
        };
        self.delete_locked(how)
    }

    pub(super) fn delete_locked(&self, how: Delete) -> Result<(), Error> {
        if how == Delete::Force {
            // A `start` waits for its poststart hooks without the lock.
            self.dir.call_off()?;
        }
        // With its pid namespace all that was the container's is dead: who is in its cgroup
        // now is a stranger, as another container of the same path.
        let mut strangers = false;
        match self.status()? {
            Status::Stopped => {
                // Also one that has yet to end.
                if self.has_ended() {
                    self.reap();
                } else {
                    self.end()?;
                }
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
        if let Some(path) = &self.saved.cgroup {
            self.remove_cgroup(path, strangers)?;
        }
        remove_resctrl(&self.saved.resctrl)?;
        execs::forget();
        if how == Delete::Force {
            // One that has begun to wait only now.
            self.dir.call_off()?;
        }
        self.dir.remove()?;
        self.poststop();
        Ok(())
    }

    /// Removes its cgroup, and kills who is in it, unless nobody of the container's own can be.
    fn remove_cgroup(&self, path: &Path, strangers: bool) -> Result<(), Error> {
        let (made, unit) = (&self.saved.made_cgroups, self.saved.unit.as_ref());
        // As a rule nobody is.
        if unit.is_none() && cgroup::remove_unused(Path::new(cgroup::MOUNT), path, made) {
            return Ok(());
        }
        if let (true, Some(cgroup)) = (strangers, self.saved.open_cgroup()) {
            cgroup.refuse_strangers()?;
        }
        remove_cgroup(path, made, unit)
    }

    /// The last that happens: one that fails is only a warning.
    fn poststop(&self) {
        if self.saved.poststop.is_empty() {
            return;
        }
        let state = self.saved.hook_state().json("stopped", None);
        match Host::probe() {
            Ok(host) => self
                .hooks(&host, CallOff::Never)
                .poststop(&self.saved.poststop, &state),
            Err(error) => log::warn!("hooks.poststop: not run: {error:#}"),
        }
    }

    /// A child of the caller that has ended would stay a zombie, and keep its cgroup. One that
    /// was waited for is reaped.
    fn reap(&self) {
        if let (Some(pidfd), None) = (&self.pidfd, self.exit) {
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
        let container = (self.saved.pid, self.saved.start_time);
        if execs::end(pidfd, container, LIMIT).map_err(failed("poll"))? {
            self.reap();
            return Ok(());
        }
        let stuck = Stuck::look(self.saved.pid);
        let seconds = LIMIT.as_secs();
        let why = stuck.unreaped().unwrap_or_default();
        Err(Error::other(format!(
            "{stuck} was killed {seconds} s ago and is still there{why}"
        )))
    }
}
