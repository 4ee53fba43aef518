//! `update` of the shares of the cache and of the memory's bandwidth.
//!
//! They are those of a class of service, as `linux.intelRdt` has them, and so also of whoever
//! else is in the class: as with runc, who updates one container of it means them all.

use std::path::{Path, PathBuf};

use super::dir;
use super::state::Saved;
use super::{Container, Runtime, Status};
use crate::error::{Cause, Error};
use crate::plan::{Group, Ownership, schemata};
use crate::spec::IntelRdt;

const FIELD: &str = "linux.intelRdt";

/// What a container had before [`Runtime::update_schemata`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldSchemata {
    /// A class with these lines.
    Lines(Vec<String>),
    /// No class.
    None,
}

impl Runtime {
    /// Gives a container's class of service these shares: `l3_cache_schema`, `mem_bw_schema`
    /// and `schemata`, of which what is not named stays. Returns what it had before, for
    /// [`Runtime::restore_schemata`].
    ///
    /// A container without a class gets one of its own, with all its processes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotRunning`] if the container has ended; where there is no resctrl
    /// file system; what the kernel refuses. The old shares hold then.
    pub fn update_schemata(
        &self,
        container: &mut Container,
        rdt: &IntelRdt,
    ) -> Result<OldSchemata, Error> {
        let _lock = container.dir.lock()?;
        if container.status()? == Status::Stopped {
            return Err(Cause::NotRunning.into());
        }
        let bytes = container.dir.read(dir::STATE)?.ok_or(Cause::NotFound)?;
        let mut saved = Saved::parse(&bytes, &container.dir.path().join(dir::STATE))?;
        let lines = schemata(rdt);
        let failed = |why| Error::other(format!("{FIELD}: {why}"));
        if let Some(joined) = &saved.resctrl_joined {
            let class = group(class_of(joined), Ownership::Existing, lines);
            return class.rewrite().map(OldSchemata::Lines).map_err(failed);
        }
        let root = crate::host::resctrl(self.resctrl.as_deref())?;
        let root = root
            .ok_or_else(|| failed("no resctrl file system is mounted on this host".to_owned()))?;
        let own = group(root.join(&saved.id), Ownership::Own, lines);
        // Known before it is there: it is to be removed with the container.
        saved.resctrl = vec![own.dir.clone()];
        saved.resctrl_joined = Some(own.dir.clone());
        container.dir.write(dir::STATE, &saved.to_bytes())?;
        let mut made = Vec::new();
        let tasks = || tasks(&saved);
        let moved = own.make(&mut made).and_then(|()| own.join_all(tasks));
        if let Err(why) = moved {
            super::runtime::remove_resctrl(&made)?;
            container.dir.write(dir::STATE, &bytes)?;
            return Err(failed(why));
        }
        container.saved = saved;
        Ok(OldSchemata::None)
    }

    /// Takes an update back: for who has something else to do with it that failed. Who was put
    /// into a class that was made for it is in the kernel's default one then.
    ///
    /// # Errors
    /// When the kernel refuses, or the state can't be written.
    pub fn restore_schemata(
        &self,
        container: &mut Container,
        before: OldSchemata,
    ) -> Result<(), Error> {
        if let OldSchemata::Lines(schemata) = before {
            let rdt = IntelRdt {
                schemata,
                ..IntelRdt::default()
            };
            return self.update_schemata(container, &rdt).map(drop);
        }
        let _lock = container.dir.lock()?;
        let bytes = container.dir.read(dir::STATE)?.ok_or(Cause::NotFound)?;
        let mut saved = Saved::parse(&bytes, &container.dir.path().join(dir::STATE))?;
        super::runtime::remove_resctrl(&saved.resctrl)?;
        saved.resctrl = Vec::new();
        saved.resctrl_joined = None;
        container.dir.write(dir::STATE, &saved.to_bytes())?;
        container.saved = saved;
        Ok(())
    }
}

fn group(dir: PathBuf, ownership: Ownership, schemata: Vec<String>) -> Group {
    Group {
        dir,
        ownership,
        schemata,
        monitor: None,
    }
}

/// Of a monitoring group the class that it is in.
fn class_of(joined: &Path) -> PathBuf {
    let above = joined.parent().filter(|dir| dir.ends_with("mon_groups"));
    above.and_then(Path::parent).unwrap_or(joined).to_owned()
}

/// The threads of a container as they are now, in cgroups of its own too.
fn tasks(saved: &Saved) -> Vec<i32> {
    let threads = saved.open_cgroup().map(|cgroup| cgroup.threads());
    let mut all = match threads {
        Some(Ok(all)) => all,
        Some(Err(error)) => {
            log::warn!("{FIELD}: {error}");
            Vec::new()
        }
        None => Vec::new(),
    };
    if !all.contains(&saved.pid) {
        all.push(saved.pid);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_a_monitoring_group_are_those_of_its_class() {
        let class = |path: &str| class_of(Path::new(path));
        assert_eq!(class("/r/gold"), Path::new("/r/gold"));
        assert_eq!(class("/r/gold/mon_groups/web"), Path::new("/r/gold"));
        assert_eq!(class("/r/mon_groups/web"), Path::new("/r"));
        assert_eq!(class("/r"), Path::new("/r"));
    }
}
