//! `update`: other limits for a container that is there.

use std::path::Path;

use super::dir;
use super::state::Saved;
use super::{Container, Status};
use crate::cgroup::{self, Cgroup, changes};
use crate::error::{Cause, Error};
use crate::spec::{DeviceRule, Resources, resource_problems};

impl Container {
    /// Changes the limits of the container to these; what they don't name stays as it is.
    ///
    /// Device rules are left alone, also where `resources` has some: they have
    /// [`Container::replace_devices`]. The new limits are kept in the state, for the next
    /// update.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotRunning`] if the container has ended; a limit that makes no
    /// sense, that the kernel refuses, or a memory limit below what is in use and can't be
    /// freed. The old limits hold then.
    pub fn update(&mut self, resources: &Resources) -> Result<(), Error> {
        let _lock = self.dir.lock()?;
        if self.status()? == Status::Stopped {
            return Err(Cause::NotRunning.into());
        }
        // Somebody else may have updated it since.
        let bytes = self.dir.read(dir::STATE)?.ok_or(Cause::NotFound)?;
        let mut saved = Saved::parse(&bytes, &self.dir.path().join(dir::STATE))?;
        if !resources.devices.is_empty() {
            log::warn!("linux.resources.devices: ignored, an update leaves device rules alone");
        }
        let old = self.limits(&saved)?;
        let mut new = old.updated(resources);
        if let Some(problem) = resource_problems(&new).into_iter().next() {
            return Err(problem.into());
        }
        let changes = changes(&old, resources, &mut new)?;
        saved.resources = new.to_json();
        let keep = || self.dir.write(dir::STATE, &saved.to_bytes());
        if changes.is_empty() {
            keep()?;
        } else {
            let path = saved.cgroup.as_deref();
            let path =
                path.ok_or_else(|| Error::other("a container without a cgroup has no limits"))?;
            let cgroup = Cgroup::open_with(Path::new(cgroup::MOUNT), path, &changes)?;
            let before = cgroup.update(saved.unit.as_ref(), &changes)?;
            keep().inspect_err(|_| cgroup.restore(saved.unit.as_ref(), &before))?;
        }
        self.saved.resources = saved.resources;
        Ok(())
    }

    /// Lets the container use these devices, as `linux.resources.devices` has them, and no
    /// others, but for those that every container has.
    ///
    /// The new rules take the place of all old ones in one step: what both allow is never
    /// denied, what both deny is never allowed. A descriptor that is open already stays so.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotRunning`] if the container has ended; a rule that makes no sense;
    /// what the kernel refuses. The old rules hold then.
    pub fn replace_devices(&self, rules: &[DeviceRule]) -> Result<(), Error> {
        let _lock = self.dir.lock()?;
        if self.status()? == Status::Stopped {
            return Err(Cause::NotRunning.into());
        }
        // A scope has no DeviceAllow: systemd attaches no program of its own to it, and has
        // nothing that would have to agree.
        let program = cgroup::other_device_program(rules)?;
        let path = self.saved.cgroup.as_deref();
        let path = path.ok_or_else(|| Error::other("a container without a cgroup has no rules"))?;
        let cgroup = Cgroup::open(Path::new(cgroup::MOUNT), path)?;
        Ok(cgroup::replace(cgroup.dir(), &program)?)
    }

    /// The limits that the container has: config.json's, until the first update.
    fn limits(&self, saved: &Saved) -> Result<Resources, Error> {
        if !saved.resources.is_empty() {
            return Ok(Resources::parse(saved.resources.as_bytes())?);
        }
        let resources = self.config()?.linux.and_then(|linux| linux.resources);
        Ok(Resources {
            // No update changes device rules.
            devices: Vec::new(),
            ..resources.map_or_else(Resources::default, |resources| *resources)
        })
    }
}
