//! Gives a cgroup to the user of a container, to divide it further.
//!
//! See cgroups(7), "Delegating a cgroup hierarchy": the directory and the files that
//! /sys/kernel/cgroup/delegate lists. Limits are not among them.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Uid};
use rustix::io::Errno;

use super::{Cgroup, CgroupError, io};
use crate::sys::{call, file};

/// What every kernel with cgroup v2 has, for where the list can't be read.
const FILES: &str = "cgroup.procs cgroup.threads cgroup.subtree_control";

/// Makes `uid`, as the host numbers it, the owner; the group stays.
pub(crate) fn delegate(cgroup: &Cgroup, uid: u32) -> Result<(), CgroupError> {
    let listed = file::read(Path::new("/sys/kernel/cgroup/delegate"));
    let listed = listed.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let files = listed.unwrap_or_else(|_| FILES.to_owned());
    let own = |name: &str| own(cgroup.dir(), name, uid);
    own(".").map_err(io("chown", cgroup.path()))?;
    for name in files.split_ascii_whitespace() {
        match own(name) {
            // Those of controllers that are not enabled here.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(io("chown the files of", cgroup.path())(errno)),
        }
    }
    Ok(())
}

fn own(cgroup: BorrowedFd<'_>, name: &str, uid: u32) -> Result<(), Errno> {
    let owner = Some(Uid::from_raw(uid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    call("fchownat", || {
        rustix::fs::chownat(cgroup, name, owner, None, flags)
    })
}
