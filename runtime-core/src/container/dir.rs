//! The state directory of a container, `<root>/<id>/`, and its lock.
//!
//! Modes do not depend on the umask: 0700 for the root, 0711 for a container. The lock
//! is flock(2) on the directory itself, so it ends with the process that holds it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::notify;
use super::state::{Intent, Saved};
use crate::cgroup::Stuck;
use crate::error::{Cause, Error};
use crate::plan::TREES;
use crate::run::{call_off, is_init};
use crate::sys::ipc::FileLock;
use crate::sys::{call, file, ipc};

/// How long somebody else may hold the lock.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

pub(super) const STATE: &str = "state.json";
/// The same until the program of a container runs that is made and started in one go.
pub(super) const EARLY_STATE: &str = "state.early.json";
pub(super) const INTENT: &str = "intent.json";
/// The container's configuration.
pub(super) const CONFIG: &str = "config.json";
pub(super) const EXEC_FIFO: &str = "exec.fifo";
pub(super) const DONE: &str = "done";
const REPORT: &str = "report";

/// An open state directory.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    fd: OwnedFd,
}

/// exec.fifo, by which a container is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartFifo {
    /// Init has it open: the container is *created*.
    Held,
    /// Nobody has.
    Left,
    /// A `start` has removed it, or there was none.
    Gone,
}

/// The lock on a state directory; given back when dropped.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "held for its drop")] FileLock);

/// Whether `id` may name a container: the characters of runc, and no path.
pub(super) fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id == "." || id == ".." || id.len() > 255 || !id.chars().all(allowed) {
        return Err(Cause::InvalidId(id.to_owned()).into());
    }
    Ok(())
}

/// Makes the directory of all containers, and those above it.
pub(super) fn make_root(root: &Path) -> Result<(), Error> {
    match make_dir(root, 0o700) {
        Ok(()) | Err(Errno::EXIST) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(Error::call(root.display().to_string(), "mkdir", errno)),
    }
    let parent = root
        .parent()
        .ok_or_else(|| Error::other("the root has no parent"))?;
    make_root(parent)?;
    match make_dir(root, 0o700) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(Error::call(root.display().to_string(), "mkdir", errno)),
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode);
    call("mkdir", || rustix::fs::mkdir(path, mode))?;
    // The embedder's umask may have taken bits away.
    call("chmod", || rustix::fs::chmod(path, mode))
}

impl StateDir {
    /// Makes the directory of a new container.
    pub(super) fn make(root: &Path, id: &str) -> Result<StateDir, Error> {
        let path = root.join(id);
        let failed =
            |what| move |errno| Error::call(root.join(id).display().to_string(), what, errno);
        let mode = Mode::from_raw_mode(0o711);
        match call("mkdir", || rustix::fs::mkdir(&path, mode)) {
            Err(Errno::EXIST) => return Err(Cause::AlreadyExists.into()),
            other => other.map_err(failed("mkdir"))?,
        }
        // The embedder's umask may have taken bits away.
        call("chmod", || rustix::fs::chmod(&path, mode))
            .map_err(failed("chmod"))
            .and_then(|()| StateDir::open(root, id))
            .inspect_err(|_| {
                if let Err(errno) = call("rmdir", || rustix::fs::rmdir(&path)) {
                    log::warn!("{}: not removed: {errno}", path.display());
                }
            })
    }

    /// Opens the directory of an existing container.
    pub(super) fn open(root: &Path, id: &str) -> Result<StateDir, Error> {
        let path = root.join(id);
        match file::open_dir_at(CWD, &path) {
            Ok(fd) => Ok(StateDir { path, fd }),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Err(Cause::NotFound.into()),
            Err(errno) => Err(Error::call(path.display().to_string(), "open", errno)),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock, within a bounded time.
    ///
    /// `NotFound` if the directory was removed meanwhile: whoever still has it open must
    /// not touch a later container of the same id.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        self.lock_within(LOCK_LIMIT, || Ok(()))
    }

    /// The same for what ends the container anyway: who works on it is told to give up.
    pub(super) fn lock_by_force(&self, limit: Duration) -> Result<Lock, Error> {
        /// One that has just begun to wait can't be told yet.
        const EACH: Duration = Duration::from_millis(100);
        let mut next = Instant::now() + EACH;
        self.lock_within(limit, || {
            if Instant::now() < next {
                return Ok(());
            }
            next = Instant::now() + EACH;
            self.call_off()
        })
    }

    /// Ends what somebody waits for who works on this container.
    pub(super) fn call_off(&self) -> Result<(), Error> {
        call_off(self.fd()).map_err(|errno| self.failed("", "open a fifo", errno))
    }

    fn lock_within(
        &self,
        limit: Duration,
        mut meanwhile: impl FnMut() -> Result<(), Error>,
    ) -> Result<Lock, Error> {
        let failed = |errno| Error::call(self.path.display().to_string(), "flock", errno);
        // An open of its own: two threads of one program must exclude each other too.
        let mut fd = match file::open_dir_at(&self.fd, Path::new(".")) {
            Err(Errno::NOENT) => return Err(Cause::NotFound.into()),
            other => other.map_err(failed)?,
        };
        let mut deadline = None;
        let lock = loop {
            match FileLock::take(fd).map_err(failed)? {
                Ok(lock) => break lock,
                Err(taken) => fd = taken,
            }
            // As a rule it is free, and nobody asks for the time.
            if Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + limit) {
                let who = holder(fd.as_fd());
                let who = who.map_or_else(|| "another process".to_owned(), |who| who.to_string());
                let (path, seconds) = (self.path.display(), limit.as_secs());
                let text =
                    format!("{path}: {who} has been working on this container for {seconds} s");
                return Err(Cause::Locked(text).into());
            }
            meanwhile()?;
            std::thread::sleep(LOCK_PAUSE);
        };
        let stat = call("fstat", || rustix::fs::fstat(&lock)).map_err(failed)?;
        if stat.st_nlink == 0 {
            return Err(Cause::NotFound.into());
        }
        Ok(Lock(lock))
    }

    /// Waits, for a bounded time, while the state of a container whose program runs already has
    /// its early name: what the program prints may be known before its creator is awake.
    pub(super) fn settle(&self) -> Result<(), Error> {
        const LIMIT: Duration = Duration::from_secs(2);
        let Some(bytes) = self.read(EARLY_STATE)? else {
            return Ok(());
        };
        let saved = Saved::parse(&bytes, &self.path.join(EARLY_STATE))?;
        if is_init(saved.pid) {
            return Ok(());
        }
        match self.lock_within(LIMIT, || Ok(())) {
            Err(error) if !error.is_locked() => Err(error),
            _ => Ok(()),
        }
    }

    /// Replaces a file of the directory.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        file::write_new_atomic(&self.fd, OsStr::new(name), bytes, 0o600)
            .map_err(|errno| self.failed(name, "write", errno))
    }

    /// Gives a file of the directory another name.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        call("renameat", || {
            rustix::fs::renameat(&self.fd, from, &self.fd, to)
        })
        .map_err(|errno| self.failed(from, "rename", errno))
    }

    /// Reads a file of the directory; none if it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match file::read_at(&self.fd, Path::new(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed(name, "read", errno)),
        }
    }

    pub(super) fn failed(&self, name: &str, what: &'static str, errno: Errno) -> Error {
        Error::call(self.path.join(name).display().to_string(), what, errno)
    }

    /// What a creation was about to make, as it wrote it down.
    pub(super) fn intent(&self) -> Result<Option<Intent>, Error> {
        let Some(bytes) = self.read(INTENT)? else {
            return Ok(None);
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map_err(|error| Error::other(format!("{INTENT}: {error}")))
    }

    /// Whether it was not removed since it was opened.
    pub(super) fn is_there(&self) -> Result<bool, Error> {
        let stat = call("fstat", || rustix::fs::fstat(&self.fd));
        let stat = stat.map_err(|errno| self.failed("", "fstat", errno))?;
        Ok(stat.st_nlink > 0)
    }

    /// What became of exec.fifo.
    pub(super) fn start(&self) -> Result<StartFifo, Error> {
        match ipc::open_fifo(self.fd(), EXEC_FIFO, OFlags::WRONLY) {
            Ok(_) => Ok(StartFifo::Held),
            Err(Errno::NXIO) => Ok(StartFifo::Left),
            Err(Errno::NOENT) => Ok(StartFifo::Gone),
            Err(errno) => Err(self.failed(EXEC_FIFO, "open", errno)),
        }
    }

    /// Removes one file; it may be gone already.
    pub(super) fn unlink(&self, name: &str) -> Result<(), Error> {
        self.was_unlinked(name).map(|_| ())
    }

    /// Whether there was such a file; there is none now.
    fn was_unlinked(&self, name: &str) -> Result<bool, Error> {
        match call("unlinkat", || {
            rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
        }) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed(name, "unlink", errno)),
        }
    }

    /// Removes the directory with its files. state.json goes last, so that a delete that
    /// was killed on the way can be repeated. Needs no descriptor, so that a creation that
    /// ran out of them leaves nothing.
    pub(super) fn remove(&self) -> Result<(), Error> {
        // `start` has removed both.
        if self.was_unlinked(EXEC_FIFO)? {
            self.unlink(DONE)?;
        }
        for name in [REPORT, CONFIG, INTENT, STATE] {
            self.unlink(name)?;
        }
        self.remove_with_rest(|| self.rmdir())
    }

    /// Removes the directory, and what is in it that is not always there.
    fn remove_with_rest(&self, rmdir: impl Fn() -> Result<(), Errno>) -> Result<(), Error> {
        // Who waits for a hook makes a fifo here, and has not the lock: one for each wait.
        const TRIES: u32 = 100;
        let mut removed = rmdir();
        for _ in 0..TRIES {
            if !matches!(removed, Err(Errno::NOTEMPTY | Errno::EXIST)) {
                break;
            }
            self.remove_trees()?;
            // What a writer that was killed had not yet renamed, too.
            self.unlink_all()?;
            removed = rmdir();
        }
        removed.map_err(|errno| self.failed("", "rmdir", errno))
    }

    /// The directory on which init mounted the sources of binds, in a namespace of its own.
    fn remove_trees(&self) -> Result<(), Error> {
        let path = self.path.join(TREES);
        match call("rmdir", || rustix::fs::rmdir(&path)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed(TREES, "rmdir", errno)),
        }
    }

    fn rmdir(&self) -> Result<(), Errno> {
        match call("rmdir", || rustix::fs::rmdir(&self.path)) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    fn unlink_all(&self) -> Result<(), Error> {
        let entries = file::read_dir(&self.fd).map_err(|errno| self.failed("", "read", errno))?;
        for entry in &entries {
            if entry.file_type != FileType::Directory {
                self.unlink(&entry.name.to_string_lossy())?;
            } else if entry.name == notify::NAME {
                self.unlink(notify::SOCKET)?;
                call("unlinkat", || {
                    rustix::fs::unlinkat(&self.fd, notify::NAME, AtFlags::REMOVEDIR)
                })
                .map_err(|errno| self.failed(notify::NAME, "rmdir", errno))?;
            }
        }
        Ok(())
    }
}

/// Who has the lock on a directory, as /proc/locks tells it; see proc_locks(5).
fn holder(dir: BorrowedFd<'_>) -> Option<Stuck> {
    let stat = call("fstat", || rustix::fs::fstat(dir)).ok()?;
    let locks = file::read(Path::new("/proc/locks")).ok()?;
    holder_in(&String::from_utf8_lossy(&locks), stat.st_ino).map(Stuck::look)
}

/// By the inode alone: some file systems show another device number than stat(2) does. One
/// that this pid namespace can't see is 0 or less.
fn holder_in(locks: &str, inode: u64) -> Option<i32> {
    let inode = inode.to_string();
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, pid) = (words.next()?, words.nth(2)?);
        let (_, its) = words.next()?.rsplit_once(':')?;
        let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
        (kind == "FLOCK" && its == inode).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_there_while_the_directory_is_removed_goes_too() {
        let root = std::env::temp_dir().join(format!("corten-remove-{}", std::process::id()));
        make_root(&root).unwrap();
        let dir = StateDir::make(&root, "web").unwrap();
        let left = std::cell::Cell::new(3);
        let removed = dir.remove_with_rest(|| {
            if left.get() > 0 {
                left.set(left.get() - 1);
                drop(ipc::make_fifo(dir.fd(), "calloff"));
            }
            dir.rmdir()
        });
        removed.unwrap();
        assert!(left.get() == 0 && !dir.path().exists());
        std::fs::remove_dir(&root).unwrap();
    }

    #[test]
    fn the_holder_of_a_lock_is_found_by_the_inode() {
        let locks = "1: FLOCK  ADVISORY  WRITE 17 00:2f:92 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 16 00:2f:91 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 18 00:2f:91 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE -1 00:2f:91 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 19 00:2f:91 0 EOF\n";
        assert_eq!(holder_in(locks, 91), Some(19));
        assert_eq!(holder_in(locks, 92), Some(17));
        assert_eq!(holder_in(locks, 9), None);
    }

    #[test]
    fn ids_are_names_and_no_paths() {
        for id in ["a", "web-1", "x_y+z.0", "...", "-"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "/a", "a b", "ä", "a\n", "a\0"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
    }
}
