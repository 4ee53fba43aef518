//! Taking a cgroup away, with all that a container made below it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::fs::Watch;
use super::stuck::Stuck;
use super::walk::{Visit, walk};
use super::{Cgroup, CgroupError, below_root, io, is_gone};
use crate::sys::{call, file};

/// Removes the cgroup `path` and those of `made` above it, as [`remove`] does, if nobody is in
/// it or below it: the kernel itself looks, and lets nobody in meanwhile. False if it could
/// not be removed, for whatever reason.
pub(crate) fn remove_unused(mount: &Path, path: &Path, made: &[PathBuf]) -> bool {
    let removed = rmdir(CWD, &mount.join(below_root(path))).is_ok();
    if removed {
        remove_above(mount, path, made);
    }
    removed
}

/// Removes the cgroup `path`, then those of `made` above it that are empty.
///
/// Kills nothing: while the kernel has not yet let go of the last process (`EBUSY`) it
/// tries again, up to `timeout`. What is gone already is no error.
pub(crate) fn remove(
    mount: &Path,
    path: &Path,
    made: &[PathBuf],
    timeout: Duration,
) -> Result<(), CgroupError> {
    let until = Instant::now() + timeout;
    let root = match file::open_dir_at(CWD, mount) {
        Err(errno) if is_gone(errno) => return Ok(()),
        root => root.map_err(io("open", mount))?,
    };
    match rmdir(root.as_fd(), below_root(path)) {
        Ok(()) => {}
        Err(Errno::BUSY) => remove_busy(mount, root.as_fd(), path, until, timeout)?,
        // Also the answer for a cgroup that is not there, on a read-only mount.
        Err(errno @ (Errno::ROFS | Errno::ACCESS | Errno::PERM)) => {
            match file::open_dir_at(&root, below_root(path)) {
                Err(gone) if is_gone(gone) => {}
                _ => return Err(io("rmdir", path)(errno)),
            }
        }
        Err(errno) => return Err(io("rmdir", path)(errno)),
    }
    remove_above(mount, path, made);
    Ok(())
}

/// Removes the cgroups above `path` that were made for it and are empty.
fn remove_above(mount: &Path, path: &Path, made: &[PathBuf]) {
    let above = made
        .iter()
        .rev()
        .filter(|dir| path.starts_with(dir) && *dir != path);
    for dir in above {
        // Another container's cgroup is in it: that one is left as it is.
        if let Err(errno) = rmdir(CWD, &mount.join(below_root(dir))) {
            log::debug!("cgroup {}: left: {errno}", dir.display());
            break;
        }
    }
}

/// Removes what is below `path`, then `path`, until the time is over.
fn remove_busy(
    mount: &Path,
    root: BorrowedFd<'_>,
    path: &Path,
    until: Instant,
    timeout: Duration,
) -> Result<(), CgroupError> {
    let cgroup = match Cgroup::open(mount, path) {
        Err(error) if error.errno().is_some_and(is_gone) => return Ok(()),
        cgroup => cgroup?,
    };
    let mut watch = match Watch::new(cgroup.dir(), timeout) {
        Err(errno) if is_gone(errno) => return Ok(()),
        watch => watch.map_err(io("open cgroup.events", path))?,
    };
    loop {
        match walk(cgroup.dir(), &mut Below { until }) {
            Err(errno) if !is_gone(errno) && errno != Errno::BUSY => {
                return Err(io("rmdir below", path)(errno));
            }
            _ => {}
        }
        match rmdir(root, below_root(path)) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(io("rmdir", path)(errno)),
        }
        let goes_on = match watch.wait() {
            Err(errno) if is_gone(errno) => true,
            goes_on => goes_on.map_err(io("wait on cgroup.events", path))?,
        };
        if !goes_on {
            return Err(CgroupError::NotRemoved {
                path: path.to_owned(),
                timeout,
                processes: Stuck::all(&cgroup.procs()?),
            });
        }
    }
}

/// Removes each cgroup after all below it.
struct Below {
    until: Instant,
}

impl Visit for Below {
    fn enter(&mut self, _: BorrowedFd<'_>) -> Result<(), Errno> {
        // However many cgroups a container made, this ends.
        if Instant::now() > self.until {
            return Err(Errno::BUSY);
        }
        Ok(())
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        match rmdir(parent, Path::new(name)) {
            // Still has processes: the next round comes by again.
            Err(Errno::BUSY) => Ok(()),
            removed => removed,
        }
    }
}

/// rmdir(2), where gone already is as good.
fn rmdir(dir: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    match call("unlinkat", || {
        rustix::fs::unlinkat(dir, path, AtFlags::REMOVEDIR)
    }) {
        Err(errno) if is_gone(errno) => Ok(()),
        removed => removed,
    }
}
