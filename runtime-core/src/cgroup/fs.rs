//! One cgroup in the file system: made, opened, filled with limits, stopped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::settings::{Absent, Setting};
use super::stuck::Stuck;
use super::walk::{Visit, walk};
use super::{CgroupError, below_root, enable, io, is_gone};
use crate::sys::ipc::FileLock;
use crate::sys::{call, file};

/// A cgroup, held open.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
    made: Vec<PathBuf>,
    /// From `create` on: no other creation takes the cgroup before a process is in it.
    #[allow(dead_code, reason = "held for its drop")]
    lock: Option<FileLock>,
}

/// What `cgroup.events` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events {
    /// A process lives in the cgroup or below it.
    pub(crate) populated: bool,
    /// The cgroup stands still, by its own `cgroup.freeze` or one above it.
    pub(crate) frozen: bool,
}

impl Cgroup {
    /// Makes the cgroup `path` of the hierarchy on `mount`, with what `settings` need.
    ///
    /// Makes the missing directories and switches controllers on down the path; writes
    /// no limit yet. A cgroup that is there already must be empty, not frozen, and not about
    /// to be used by another creation: it is locked for as long as this value lives. After
    /// an error nothing that was made is left.
    pub(crate) fn create(
        mount: &Path,
        path: &Path,
        settings: &[Setting],
    ) -> Result<Cgroup, CgroupError> {
        // A neighbour's `remove` may take a common ancestor away between two steps.
        const ATTEMPTS: usize = 32;
        let mut attempt = 1;
        loop {
            let mut made = Vec::new();
            match Cgroup::create_once(mount, path, settings, &mut made) {
                Ok((dir, lock)) => {
                    return Ok(Cgroup {
                        path: path.to_owned(),
                        dir,
                        made,
                        lock: Some(lock),
                    });
                }
                Err(CgroupError::Io { errno, .. }) if is_gone(errno) && attempt < ATTEMPTS => {
                    undo(mount, &made);
                }
                Err(error) => {
                    if matches!(error, CgroupError::Taken { .. }) {
                        // Whoever has it relies on it by now, even if it was made here.
                        made.retain(|dir| dir != path);
                    }
                    undo(mount, &made);
                    return Err(error);
                }
            }
            attempt += 1;
        }
    }

    fn create_once(
        mount: &Path,
        path: &Path,
        settings: &[Setting],
        made: &mut Vec<PathBuf>,
    ) -> Result<(OwnedFd, FileLock), CgroupError> {
        let root = file::open_dir_at(CWD, mount).map_err(io("open", mount))?;
        let above = path.parent().unwrap_or(path);
        let above = match file::open_dir_at(&root, below_root(above)) {
            // The usual case: a neighbour's create has done all there is to do.
            Ok(dir) if enable::gives_all(dir.as_fd(), above, settings)? => dir,
            Ok(_) | Err(Errno::NOENT) => Cgroup::descend(root, above, settings, made)?,
            Err(errno) => return Err(io("open", above)(errno)),
        };
        let dir = make(above.as_fd(), path, made)?;
        let lock = lock(dir.as_fd(), path)?;
        refuse_used(dir.as_fd(), path)?;
        Ok((dir, lock))
    }

    /// Makes what is missing from `root` to `path`, all with their controllers for what
    /// comes below.
    fn descend(
        root: OwnedFd,
        path: &Path,
        settings: &[Setting],
        made: &mut Vec<PathBuf>,
    ) -> Result<OwnedFd, CgroupError> {
        let mut at = PathBuf::from("/");
        let mut dir = root;
        let mut offered = enable::offered(dir.as_fd(), &at, settings)?;
        offered = enable::enable(dir.as_fd(), &at, offered, settings)?;
        for name in path.iter().skip(1) {
            at.push(name);
            dir = make(dir.as_fd(), &at, made)?;
            offered = enable::enable(dir.as_fd(), &at, offered, settings)?;
        }
        Ok(dir)
    }

    /// Refuses a cgroup that is there already and has processes, or is frozen. The
    /// cgroups from the top down to it that are not there yet.
    ///
    /// For before anything is recorded about it: what a record names, a clean-up kills.
    pub(crate) fn refuse_used(mount: &Path, path: &Path) -> Result<Vec<PathBuf>, CgroupError> {
        let open = |path: &Path| file::open_dir_at(CWD, &mount.join(below_root(path)));
        match open(path) {
            Err(errno) if is_gone(errno) => {}
            dir => {
                refuse_used(dir.map_err(io("open", path))?.as_fd(), path)?;
                return Ok(Vec::new());
            }
        }
        let is_missing = |path: &&Path| open(path).is_err_and(is_gone);
        let above = path.ancestors().skip(1).take_while(is_missing);
        let missing = std::iter::once(path).chain(above).map(Path::to_owned);
        let mut missing: Vec<PathBuf> = missing.collect();
        missing.reverse();
        Ok(missing)
    }

    /// Opens the cgroup `path` that systemd made, with what `settings` need.
    ///
    /// systemd enables only the controllers that it knows; those that are missing are
    /// switched on here, down the path.
    pub(crate) fn adopt(
        mount: &Path,
        path: &Path,
        settings: &[Setting],
    ) -> Result<Cgroup, CgroupError> {
        let cgroup = Cgroup::open_with(mount, path, settings)?;
        if cgroup.events()?.frozen {
            let path = path.to_owned();
            return Err(CgroupError::Frozen { path });
        }
        Ok(cgroup)
    }

    /// Opens the cgroup `path`, and switches on what `settings` need and is missing.
    pub(crate) fn open_with(
        mount: &Path,
        path: &Path,
        settings: &[Setting],
    ) -> Result<Cgroup, CgroupError> {
        let cgroup = Cgroup::open(mount, path)?;
        if !enable::has_needed(cgroup.dir(), path, settings)? {
            let root = file::open_dir_at(CWD, mount).map_err(io("open", mount))?;
            let above = path.parent().unwrap_or(path);
            Cgroup::descend(root, above, settings, &mut Vec::new())?;
        }
        Ok(cgroup)
    }

    /// Opens the cgroup `path` of the hierarchy on `mount`.
    pub(crate) fn open(mount: &Path, path: &Path) -> Result<Cgroup, CgroupError> {
        let dir =
            file::open_dir_at(CWD, &mount.join(below_root(path))).map_err(io("open", path))?;
        Ok(Cgroup {
            path: path.to_owned(),
            dir,
            made: Vec::new(),
            lock: None,
        })
    }

    /// Its path below the root of the hierarchy.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, for `CLONE_INTO_CGROUP` and bpf(2).
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The cgroups that `create` made, this one last; for [`super::remove`].
    pub(crate) fn made(&self) -> &[PathBuf] {
        &self.made
    }

    /// Writes the settings, in their order.
    ///
    /// One that the kernel refuses while another still has its old value (burst above the
    /// new quota) is tried again after the others.
    pub(crate) fn apply(&self, settings: &[Setting]) -> Result<(), CgroupError> {
        let mut later = Vec::new();
        for setting in settings {
            self.refuse_used_up(setting)?;
            match self.write_setting(setting) {
                Err(Errno::INVAL) => later.push(setting),
                done => done.map_err(|errno| self.not_applied(setting, errno))?,
            }
        }
        for setting in later {
            self.write_setting(setting)
                .map_err(|errno| self.not_applied(setting, errno))?;
        }
        Ok(())
    }

    fn write_setting(&self, setting: &Setting) -> Result<(), Errno> {
        match (
            self.write_lines(&setting.file, &setting.value),
            &setting.absent,
        ) {
            (Err(Errno::NOENT), Absent::Fine) => Ok(()),
            (Err(Errno::NOENT), Absent::Instead { file, value }) => self.write_lines(file, value),
            (written, _) => written,
        }
    }

    fn write_lines(&self, file: &str, value: &str) -> Result<(), Errno> {
        if value.is_empty() {
            // The kernel overlooks a write of nothing; it strips the newline.
            return self.write(file, b"\n");
        }
        // Files with a line per device take one line per write.
        let mut lines = value.lines();
        lines.try_for_each(|line| self.write(file, line.as_bytes()))
    }

    /// Refuses a limit that is used up already, where that was asked for.
    ///
    /// What can't be read has nothing to say against the limit.
    fn refuse_used_up(&self, setting: &Setting) -> Result<(), CgroupError> {
        let number = |text: &[u8]| str::from_utf8(text).ok()?.trim_ascii().parse::<u64>().ok();
        let used = setting.above.and_then(|name| {
            let bytes = file::read_once_at(&self.dir, Path::new(name)).ok()?;
            number(&bytes)
        });
        match (used, number(setting.value.as_bytes())) {
            (Some(used), Some(limit)) if limit <= used => Err(CgroupError::UsedUp {
                origin: setting.origin.clone(),
                limit,
                used,
                path: self.path.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn not_applied(&self, setting: &Setting, errno: Errno) -> CgroupError {
        CgroupError::Apply {
            origin: setting.origin.clone(),
            file: setting.file.clone(),
            value: setting.value.clone(),
            path: self.path.clone(),
            errno,
        }
    }

    /// Moves the process `pid`, with all its threads, into the cgroup.
    #[cfg(test)]
    pub(crate) fn enter(&self, pid: i32) -> Result<(), CgroupError> {
        use std::io::Write as _;
        let mut line = [0u8; 12];
        let mut rest = line.as_mut_slice();
        write!(rest, "{pid}").expect("an i32 has at most 11 characters");
        let length = 12 - rest.len();
        let line = &line[..length];
        self.write("cgroup.procs", line)
            .map_err(io("write cgroup.procs", &self.path))
    }

    /// What `cgroup.events` says now.
    pub(crate) fn events(&self) -> Result<Events, CgroupError> {
        read_events(self.dir()).map_err(io("read cgroup.events", &self.path))
    }

    /// Stops everything in the cgroup and below it, and waits until it stands still.
    ///
    /// If that takes longer than `timeout`, lets it go on again.
    pub(crate) fn freeze(&self, timeout: Duration) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", b"1")
            .map_err(io("write cgroup.freeze", &self.path))?;
        if self.wait_for(timeout, |events| events.frozen)? {
            return Ok(());
        }
        // Whom it waits for shows only while it waits.
        let processes = self.procs().map(|pids| Stuck::all(&pids));
        self.thaw()?;
        Err(CgroupError::NotFrozen {
            path: self.path.clone(),
            timeout,
            processes: processes?,
        })
    }

    /// Lets a frozen cgroup go on.
    pub(crate) fn thaw(&self) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", b"0")
            .map_err(io("write cgroup.freeze", &self.path))
    }

    /// Refuses a cgroup that others use, now that all of its container's processes are dead.
    pub(crate) fn refuse_strangers(&self) -> Result<(), CgroupError> {
        /// The kernel tells of an end a moment before it takes the process out of its cgroup.
        const MOMENT: Duration = Duration::from_secs(1);
        if self.wait_empty(MOMENT)? {
            return Ok(());
        }
        Err(CgroupError::Strangers {
            path: self.path.clone(),
            processes: Stuck::all(&self.procs()?),
        })
    }

    /// Kills everything in the cgroup and below it, and waits until it is gone.
    ///
    /// What is still there after `timeout` is named.
    pub(crate) fn end(&self, timeout: Duration) -> Result<(), CgroupError> {
        self.kill()?;
        if self.wait_empty(timeout)? {
            return Ok(());
        }
        Err(CgroupError::NotRemoved {
            path: self.path.clone(),
            timeout,
            processes: Stuck::all(&self.procs()?),
        })
    }

    /// Sends SIGKILL to everything in the cgroup and below it; does not wait.
    ///
    /// New processes can't slip through: by `cgroup.kill`, or, before Linux 5.14, one by
    /// one while the cgroup is frozen.
    pub(crate) fn kill(&self) -> Result<(), CgroupError> {
        match self.write("cgroup.kill", b"1") {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) if self.write("cgroup.freeze", b"1").is_ok() => self.kill_frozen(),
            Err(errno) if is_gone(errno) => Ok(()),
            Err(errno) => Err(io("write cgroup.kill", &self.path)(errno)),
        }
    }

    /// The way before Linux 5.14; the cgroup is being frozen.
    fn kill_frozen(&self) -> Result<(), CgroupError> {
        /// A process that hangs in the kernel never freezes, and its children can't exist.
        const TIMEOUT: Duration = Duration::from_millis(200);
        let frozen = self.wait_for(TIMEOUT, |events| events.frozen)?;
        log::debug!(
            "cgroup {}: frozen to be killed: {frozen}",
            self.path.display()
        );
        for pid in self.procs()? {
            let Some(pid) = Pid::from_raw(pid) else {
                continue;
            };
            match call("kill", || rustix::process::kill_process(pid, Signal::KILL)) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(io("kill a process", &self.path)(errno)),
            }
        }
        self.thaw()
    }

    /// The processes in the cgroup and below it, as this pid namespace numbers them.
    ///
    /// Those that can't be seen from here are left out.
    pub(crate) fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        self.collect("cgroup.procs")
    }

    /// The same of their threads.
    pub(crate) fn threads(&self) -> Result<Vec<i32>, CgroupError> {
        self.collect("cgroup.threads")
    }

    fn collect(&self, file: &'static str) -> Result<Vec<i32>, CgroupError> {
        let mut collect = Collect {
            file,
            found: Vec::new(),
        };
        match walk(self.dir(), &mut collect) {
            Err(errno) if !is_gone(errno) => Err(io("read processes", &self.path)(errno)),
            _ => Ok(collect.found),
        }
    }

    /// Waits until no process lives in the cgroup or below it; false after `timeout`.
    pub(crate) fn wait_empty(&self, timeout: Duration) -> Result<bool, CgroupError> {
        self.wait_for(timeout, |events| !events.populated)
    }

    /// Polls `cgroup.events` until `done`; false after `timeout`.
    fn wait_for(
        &self,
        timeout: Duration,
        done: impl Fn(Events) -> bool,
    ) -> Result<bool, CgroupError> {
        let failed = |errno| io("wait on cgroup.events", &self.path)(errno);
        let mut watch = match Watch::new(self.dir(), timeout) {
            Err(errno) if is_gone(errno) => return Ok(true),
            watch => watch.map_err(failed)?,
        };
        loop {
            match read_events(self.dir()) {
                Err(errno) if is_gone(errno) => return Ok(true),
                events if done(events.map_err(failed)?) => return Ok(true),
                _ => {}
            }
            match watch.wait() {
                Err(errno) if is_gone(errno) => return Ok(true),
                goes_on if !goes_on.map_err(failed)? => return Ok(false),
                _ => {}
            }
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Errno> {
        file::write_at(&self.dir, Path::new(name), bytes)
    }
}

/// Waits for changes of `cgroup.events`, up to a time.
pub(super) struct Watch {
    file: OwnedFd,
    until: Instant,
    slice: Duration,
}

impl Watch {
    pub(super) fn new(cgroup: BorrowedFd<'_>, timeout: Duration) -> Result<Watch, Errno> {
        Ok(Watch {
            file: file::open_at(cgroup, Path::new("cgroup.events"), OFlags::RDONLY)?,
            until: Instant::now() + timeout,
            slice: Duration::from_millis(1),
        })
    }

    /// Waits for a change, or a little while; false when the time is over.
    ///
    /// The kernel holds a notice back for up to 10 ms after the one before it, and gives
    /// none for what only delays rmdir(2). So waits begin at 1 ms and grow to 50.
    pub(super) fn wait(&mut self) -> Result<bool, Errno> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let wait = Timespec::try_from(left.min(self.slice)).map_err(|_| Errno::INVAL)?;
        self.slice = (self.slice * 2).min(Duration::from_millis(50));
        // Reading it is what arms the next notice.
        let mut seen = [0u8; 64];
        call("pread64", || rustix::io::pread(&self.file, &mut seen, 0))?;
        let mut fds = [PollFd::new(&self.file, PollFlags::PRI)];
        match call("ppoll", || rustix::event::poll(&mut fds, Some(&wait))) {
            Ok(_) | Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno),
        }
    }
}

/// The ids in this file of each cgroup on the walk.
struct Collect {
    file: &'static str,
    found: Vec<i32>,
}

impl Visit for Collect {
    fn enter(&mut self, cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
        let bytes = match file::read_at(cgroup, Path::new(self.file)) {
            // A threaded cgroup lists threads only; the signal reaches their processes.
            Err(Errno::OPNOTSUPP) => file::read_at(cgroup, Path::new("cgroup.threads"))?,
            read => read?,
        };
        let pids = bytes
            .split(|byte| *byte == b'\n')
            .filter_map(|line| str::from_utf8(line).ok()?.parse::<i32>().ok())
            // 0 is a process that this pid namespace can't see; kill(0) would be our own group.
            .filter(|pid| *pid > 0);
        self.found.extend(pids);
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &std::ffi::OsStr) -> Result<(), Errno> {
        Ok(())
    }
}

fn read_events(cgroup: BorrowedFd<'_>) -> Result<Events, Errno> {
    let bytes = file::read_once_at(cgroup, Path::new("cgroup.events"))?;
    Ok(Events {
        populated: value_of(&bytes, "populated") == Some(1),
        frozen: value_of(&bytes, "frozen") == Some(1),
    })
}

/// The number after `key` in a file of `key number` lines.
pub(super) fn value_of(bytes: &[u8], key: &str) -> Option<u64> {
    str::from_utf8(bytes)
        .ok()?
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(name, value)| (name == key).then(|| value.trim().parse().ok())?)
}

/// Makes the cgroup `path` in `above`, or opens the one that is there.
fn make(
    above: BorrowedFd<'_>,
    path: &Path,
    made: &mut Vec<PathBuf>,
) -> Result<OwnedFd, CgroupError> {
    let name = Path::new(path.file_name().unwrap_or_default());
    let mode = Mode::from_raw_mode(0o755);
    match call("mkdirat", || rustix::fs::mkdirat(above, name, mode)) {
        Ok(()) => made.push(path.to_owned()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(io("mkdir", path)(errno)),
    }
    file::open_dir_at(above, name).map_err(io("open", path))
}

/// flock(2) on a cgroup, by an open of its own: init gets `dir` and would keep the lock.
fn lock(dir: BorrowedFd<'_>, path: &Path) -> Result<FileLock, CgroupError> {
    let own = file::open_dir_at(dir, Path::new(".")).map_err(io("open", path))?;
    let lock = FileLock::take(own).map_err(io("flock", path))?;
    lock.map_err(|_| CgroupError::Taken {
        path: path.to_owned(),
    })
}

fn refuse_used(dir: BorrowedFd<'_>, path: &Path) -> Result<(), CgroupError> {
    let path = path.to_owned();
    match read_events(dir) {
        Ok(Events {
            populated: true, ..
        }) => Err(CgroupError::NotEmpty { path }),
        Ok(Events { frozen: true, .. }) => Err(CgroupError::Frozen { path }),
        Ok(_) => Ok(()),
        Err(errno) => Err(io("read cgroup.events", &path)(errno)),
    }
}

/// Takes away what a failed `create` made.
fn undo(mount: &Path, made: &[PathBuf]) {
    for path in made.iter().rev() {
        let dir = mount.join(below_root(path));
        let removed = call("unlinkat", || {
            rustix::fs::unlinkat(CWD, &dir, AtFlags::REMOVEDIR)
        });
        if let Err(errno) = removed {
            // A neighbour has begun to use it: it is theirs now.
            log::debug!("cgroup {}: rmdir: {errno}", path.display());
        }
    }
}
