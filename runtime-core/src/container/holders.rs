//! Who holds a container's exec.fifo open: an init whose creator was killed.
//!
//! Such an init is found by its cgroup as a rule. Without one, or before it is in it, it has
//! nothing else that tells whose it is. See proc_pid_fd(5).

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use super::delete::LIMIT;
use super::dir::{EXEC_FIFO, StartFifo, StateDir};
use crate::cgroup::Stuck;
use crate::error::Error;
use crate::sys::{call, file, process};

/// Kills every process that has the fifo open, and waits until they are gone.
pub(super) fn kill(dir: &StateDir) -> Result<(), Error> {
    // As a rule nobody has, and the others need not be looked at.
    if dir.start()? != StartFifo::Held {
        return Ok(());
    }
    let failed = |errno| dir.failed(EXEC_FIFO, "find who has it open", errno);
    let fifo = of_file(dir.fd(), Path::new(EXEC_FIFO)).map_err(failed)?;
    for (pid, pidfd) in holders(fifo).map_err(failed)? {
        process::kill(pidfd.as_fd()).map_err(failed)?;
        if !process::has_ended(pidfd.as_fd(), Some(LIMIT)).map_err(failed)? {
            let (stuck, seconds) = (Stuck::look(pid), LIMIT.as_secs());
            let text = format!("{stuck} was killed {seconds} s ago and is still there");
            return Err(Error::other(text));
        }
    }
    Ok(())
}

/// Device and inode.
type Identity = ((u32, u32), u64);

fn of_file(dir: BorrowedFd<'_>, path: &Path) -> Result<Identity, Errno> {
    // What the kernel knows already: a FUSE that does not answer is not asked.
    let flags = AtFlags::STATX_DONT_SYNC;
    let stat = call("statx", || {
        rustix::fs::statx(dir, path, flags, StatxFlags::INO)
    })?;
    Ok(((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino))
}

fn holders(wanted: Identity) -> Result<Vec<(i32, OwnedFd)>, Errno> {
    let proc = file::open_dir_at(CWD, Path::new("/proc"))?;
    let own = call("getpid", || Ok(rustix::process::getpid()))?.as_raw_nonzero();
    let pids = file::read_dir_names(&proc)?;
    let pids = pids.iter().filter_map(|name| name.to_str()?.parse().ok());
    let mut found = Vec::new();
    for pid in pids.filter(|pid| *pid != own.get()) {
        let Ok(pidfd) = process::pidfd_open(pid) else {
            continue;
        };
        // After the pidfd was opened: nobody else can have the pid while that one lives.
        if has_open(&proc, pid, wanted) && process::pidfd_send_signal(pidfd.as_fd(), 0).is_ok() {
            found.push((pid, pidfd));
        }
    }
    Ok(found)
}

/// Whether a process has this file open; what can't be looked into has not.
fn has_open(proc: &OwnedFd, pid: i32, wanted: Identity) -> bool {
    let list = |name: &OsStr| -> Option<bool> {
        let fds = file::open_dir_at(proc, Path::new(name)).ok()?;
        let names = file::read_dir_names(&fds).ok()?;
        // The link is read first: to follow one to somebody's dead FUSE would hang.
        let is_named = |name: &OsStr| {
            let link = call("readlinkat", || {
                rustix::fs::readlinkat(&fds, name, Vec::new())
            });
            link.is_ok_and(|link| link.to_bytes().ends_with(EXEC_FIFO.as_bytes()))
        };
        let is_it = |name: &OsString| {
            let name = name.as_os_str();
            is_named(name) && of_file(fds.as_fd(), Path::new(name)) == Ok(wanted)
        };
        Some(names.iter().any(is_it))
    };
    list(OsStr::new(&format!("{pid}/fd"))).unwrap_or(false)
}
