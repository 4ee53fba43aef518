//! `pause` and `resume`: all processes of a container stand still, and go on.

use std::time::Duration;

use super::{Container, Status};
use crate::cgroup::Cgroup;
use crate::error::{Cause, Error};

/// Long enough for a machine that is very busy; a process that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(10);

impl Container {
    /// Stops every process of the container's cgroup, and waits until they stand still.
    ///
    /// See cgroups(7), `cgroup.freeze`. Signals sent meanwhile wait, save SIGKILL.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotRunning`] if the container has ended, or is paused. When a process does not
    /// stop within 10 s, all go on, and the error names that process and where in the
    /// kernel it waits.
    pub fn pause(&self) -> Result<(), Error> {
        let _lock = self.dir.lock()?;
        match self.status()? {
            Status::Created | Status::Running => Ok(self.freezer()?.freeze(LIMIT)?),
            Status::Paused | Status::Stopped => Err(Cause::NotRunning.into()),
        }
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongState`] if it is not paused.
    pub fn resume(&self) -> Result<(), Error> {
        let _lock = self.dir.lock()?;
        if self.status()? != Status::Paused {
            return Err(Cause::WrongState("container not paused".to_owned()).into());
        }
        Ok(self.freezer()?.thaw()?)
    }

    fn freezer(&self) -> Result<Cgroup, Error> {
        let cgroup = self.saved.open_cgroup();
        cgroup.ok_or_else(|| Error::other("a container without a cgroup can't be paused"))
    }
}
