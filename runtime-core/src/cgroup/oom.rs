//! How many processes of a cgroup the kernel has killed for want of memory.
//!
//! The kernel counts a kill at the victim's cgroup and at all above it, whichever of them
//! was at its limit, and before the victim gets its signal: see `memory.events` in the
//! kernel's admin-guide/cgroup-v2. A cgroup that goes away takes its count along, so who
//! wants to know it for certain looks at each change.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use super::fs::value_of;
use super::{Cgroup, CgroupError, below_root, io, is_gone};
use crate::sys::{call, file};

/// The count of one cgroup and all below it.
#[derive(Debug)]
pub(crate) struct OomKills {
    /// None once the cgroup is gone.
    file: Option<OwnedFd>,
    known: u64,
}

impl OomKills {
    /// None where the cgroup has no memory controller, or is gone.
    pub(crate) fn of(cgroup: &Cgroup) -> Result<Option<OomKills>, CgroupError> {
        OomKills::open(cgroup.dir(), Path::new("")).map_err(io("open memory.events", cgroup.path()))
    }

    /// The same of the cgroup `path` of the hierarchy on `mount`.
    pub(crate) fn at(mount: &Path, path: &Path) -> Result<Option<OomKills>, CgroupError> {
        let open = OomKills::open(CWD, &mount.join(below_root(path)));
        open.map_err(io("open memory.events", path))
    }

    fn open(dir: impl AsFd, cgroup: &Path) -> Result<Option<OomKills>, Errno> {
        match file::open_at(dir, &cgroup.join("memory.events"), OFlags::RDONLY) {
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(errno),
            Ok(file) => {
                let file = Some(file);
                let mut kills = OomKills { file, known: 0 };
                kills.look();
                Ok(Some(kills))
            }
        }
    }

    /// The count now; of a cgroup that is gone the last that was seen.
    pub(crate) fn look(&mut self) -> u64 {
        let mut bytes = [0; 512];
        let Some(file) = &self.file else {
            return self.known;
        };
        // From the beginning: that is what arms the next notice.
        match call("pread64", || rustix::io::pread(file, &mut bytes, 0)) {
            Ok(length) => {
                let count = value_of(bytes.get(..length).unwrap_or_default(), "oom_kill");
                self.known = self.known.max(count.unwrap_or(0));
            }
            // Its file would tell of a change for ever.
            Err(_) => self.file = None,
        }
        self.known
    }

    /// Counts until the process has ended.
    pub(crate) fn look_until_end(&mut self, pidfd: BorrowedFd<'_>) -> Result<u64, Errno> {
        loop {
            self.look();
            let mut fds = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
            fds.extend(
                self.file
                    .iter()
                    .map(|file| PollFd::new(file, PollFlags::PRI)),
            );
            match call("ppoll", || rustix::event::poll(&mut fds, None)) {
                Ok(_) if fds.first().is_some_and(|fd| !fd.revents().is_empty()) => {
                    return Ok(self.look());
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// What tells of changes (`POLLPRI`), of these and of others.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }
}
