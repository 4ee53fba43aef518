//! `update` of the shares of the cache and of the memory's bandwidth.
//!
//! They are those of a class of service, as `linux.intelRdt` has them, and so also of whoever
//! else is in the class: as with runc, who updates one container of it means them all.

use std::path::{Path, PathBuf};

use super::dir;
use super::state::Saved;
use super::{Container, Runtime, Status};
use crate::cgroup;
use crate::error::{Cause, Error};
use crate::plan::{Group, Ownership, schemata};
use crate::spec::IntelRdt;
use crate::sys::file;

const FIELD: &str = "linux.intelRdt";

impl Runtime {
    /// Gives a container's class of service these shares: `l3_cache_schema`, `mem_bw_schema`
    /// and `schemata`, of which what is not named stays. Returns the lines that it had before.
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
    ) -> Result<Vec<String>, Error> {
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
            return class.rewrite().map_err(failed);
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
        let tasks = || tasks(saved.cgroup.as_deref(), saved.pid);
        let moved = own.make(&mut made).and_then(|()| own.join_all(tasks));
        if let Err(why) = moved {
            super::runtime::remove_resctrl(&made)?;
            container.dir.write(dir::STATE, &bytes)?;
            return Err(failed(why));
        }
        container.saved = saved;
        Ok(Vec::new())
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

/// The threads of a container as they are now.
fn tasks(cgroup: Option<&Path>, pid: i32) -> Vec<i32> {
    let path = cgroup.map(|path| {
        let below = path.strip_prefix("/").unwrap_or(path);
        Path::new(cgroup::MOUNT).join(below).join("cgroup.threads")
    });
    let text = path.and_then(|path| file::read(&path).ok());
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    let found = text.lines().filter_map(|line| line.parse().ok());
    let mut all: Vec<i32> = found.collect();
    if !all.contains(&pid) {
        all.push(pid);
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
