//! A cgroup and all below it.
//!
//! A container with a writable cgroup mount decides how many there are and how deep:
//! neither may cost fds, stack or a path's length. So one fd goes down and up (`..`), and
//! names are kept level by level.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::is_gone;
use crate::sys::file;

/// What a walk does on its way.
pub(super) trait Visit {
    /// At a cgroup, before those below it.
    fn enter(&mut self, cgroup: BorrowedFd<'_>) -> Result<(), Errno>;

    /// At `parent`, after all below `parent/name`.
    fn leave(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno>;
}

/// Walks `top` and all below it; cgroups that go away meanwhile are passed over.
///
/// `leave` is not called for `top` itself.
pub(super) fn walk(top: BorrowedFd<'_>, visit: &mut impl Visit) -> Result<(), Errno> {
    let mut here = file::open_dir_at(top, Path::new("."))?;
    visit.enter(here.as_fd())?;
    // The names still to do in each level, and those on the way down to `here`.
    let mut levels = vec![children(here.as_fd())?];
    let mut way: Vec<OsString> = Vec::new();
    while let Some(names) = levels.last_mut() {
        if let Some(name) = names.pop() {
            let below = match file::open_dir_at(&here, Path::new(&name)) {
                Err(errno) if is_gone(errno) => continue,
                opened => opened?,
            };
            unless_gone(visit.enter(below.as_fd()))?;
            levels.push(unless_gone(children(below.as_fd()))?);
            way.push(name);
            here = below;
        } else {
            levels.pop();
            if let Some(name) = way.pop() {
                here = file::open_dir_at(&here, Path::new(".."))?;
                visit.leave(here.as_fd(), &name)?;
            }
        }
    }
    Ok(())
}

/// The names of the cgroups directly below `cgroup`.
pub(super) fn children(cgroup: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let entries = file::read_dir(cgroup)?;
    Ok(entries
        .into_iter()
        .filter(|entry| entry.file_type == FileType::Directory)
        .map(|entry| entry.name)
        .collect())
}

fn unless_gone<T: Default>(result: Result<T, Errno>) -> Result<T, Errno> {
    match result {
        Err(errno) if is_gone(errno) => Ok(T::default()),
        result => result,
    }
}
