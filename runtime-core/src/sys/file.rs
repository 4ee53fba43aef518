//! Whole files by directory fd: read, write, replace, list.
//!
//! All fds are close-on-exec. Nothing here creates a file except
//! [`write_new_atomic`]. See open(2), getdents(2), rename(2).

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use super::{call, ipc};

/// Makes a system call again for as long as a signal interrupts it.
fn uninterrupted<T>(
    name: &'static str,
    mut make: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    loop {
        match call(name, &mut make) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Opens `path` below `dir`, close-on-exec; never creates it.
pub(crate) fn open_at(dir: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let dir = dir.as_fd();
    uninterrupted("openat", || {
        rustix::fs::openat(dir, path, flags | OFlags::CLOEXEC, Mode::empty())
    })
}

/// Opens the directory `path` below `dir` so that it can be listed.
///
/// The last component is not followed if it is a symbolic link.
pub(crate) fn open_dir_at(dir: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open_at(dir, path, flags)
}

/// Opens `path` as a process would whose root is `root`: links and `..` stay below it.
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    loop {
        match call("openat2", || {
            rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
        }) {
            // A rename or a mount somewhere meanwhile.
            Err(Errno::INTR | Errno::AGAIN) => {}
            done => return done,
        }
    }
}

/// The first bytes of an open file, as many as there are up to `count`.
pub(crate) fn read_head(file: BorrowedFd<'_>, count: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; count];
    let read = uninterrupted("pread64", || rustix::io::pread(file, &mut bytes, 0))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// `mkdirat(2)`: a directory that only its owner may enter.
pub(crate) fn make_dir_at(dir: impl AsFd, path: &Path) -> Result<(), Errno> {
    call("mkdirat", || rustix::fs::mkdirat(&dir, path, Mode::RWXU))
}

/// The absolute path of an existing file, without symbolic links; as realpath(3).
pub(crate) fn real_path(path: &Path) -> Result<PathBuf, Errno> {
    path_of(&open_at(rustix::fs::CWD, path, OFlags::PATH)?)
}

/// The absolute path of an open file, as the kernel knows it.
pub(crate) fn path_of(file: &OwnedFd) -> Result<PathBuf, Errno> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let real = uninterrupted("readlinkat", || {
        rustix::fs::readlinkat(rustix::fs::CWD, &link, Vec::new())
    })?;
    Ok(PathBuf::from(OsString::from_vec(real.into_bytes())))
}

/// Reads all of `path`, which may be relative to the current directory.
///
/// The length is not bounded: for a file that somebody else can fill, see [`read_at_most`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Errno> {
    read_at(rustix::fs::CWD, path)
}

/// Reads all of `path` below `dir`.
pub(crate) fn read_at(dir: impl AsFd, path: &Path) -> Result<Vec<u8>, Errno> {
    read_at_most(dir, path, usize::MAX)
}

/// Reads all of `path` below `dir`, and answers `EFBIG` if it is longer than `limit`.
pub(crate) fn read_at_most(dir: impl AsFd, path: &Path, limit: usize) -> Result<Vec<u8>, Errno> {
    let file = open_at(dir, path, OFlags::RDONLY)?;
    read_open(file.as_fd(), limit)
}

/// Reads `path` below `dir` in one read(2) of at most 4096 bytes.
///
/// For the one-line files of the kernel, which give all they have at once.
pub(crate) fn read_once_at(dir: impl AsFd, path: &Path) -> Result<Vec<u8>, Errno> {
    let file = open_at(dir, path, OFlags::RDONLY)?;
    let mut bytes = Vec::with_capacity(4096);
    uninterrupted("read", || {
        rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes))
    })?;
    Ok(bytes)
}

/// Reads an open file from its current offset to its end.
pub(crate) fn read_open(file: BorrowedFd<'_>, limit: usize) -> Result<Vec<u8>, Errno> {
    // Most files read here (cgroup, procfs, state) fit into one block.
    let mut bytes = Vec::with_capacity(4096);
    loop {
        bytes.reserve(1);
        let spare = rustix::buffer::spare_capacity(&mut bytes);
        // One attempt by `call`: an interrupted read has taken nothing.
        match call("read", || rustix::io::read(file, spare)) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() > limit => return Err(Errno::FBIG),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes `bytes` to the existing file `path` below `dir` in one write(2).
///
/// That is what kernel files (cgroup, procfs, sysctl) want: each write is one command.
/// A short write is `EIO`. The file is not truncated.
pub(crate) fn write_at(dir: impl AsFd, path: &Path, bytes: &[u8]) -> Result<(), Errno> {
    let file = open_at(dir, path, OFlags::WRONLY)?;
    match uninterrupted("write", || rustix::io::write(&file, bytes))? {
        n if n == bytes.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Makes `name` in `dir` hold `bytes` with exactly `mode`, or leaves it as it was.
///
/// A reader sees the old content or the new, never a part. Not synced to disk: a state
/// directory does not outlive the machine.
pub(crate) fn write_new_atomic(
    dir: impl AsFd,
    name: &OsStr,
    bytes: &[u8],
    mode: u32,
) -> Result<(), Errno> {
    let dir = dir.as_fd();
    let (temporary, file) = temporary_file(dir, name, mode)?;
    let written = ipc::write_all(file.as_fd(), bytes).and_then(|()| {
        call("renameat", || {
            rustix::fs::renameat(dir, &temporary, dir, name)
        })
    });
    if written.is_err() {
        let removed = call("unlinkat", || {
            rustix::fs::unlinkat(dir, &temporary, AtFlags::empty())
        });
        if let Err(errno) = removed {
            // The first error is the one to report.
            log::debug!("{}: not removed: {errno}", temporary.display());
        }
    }
    written
}

/// Makes a file of its own for a file that is to become `name`.
fn temporary_file(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    mode: u32,
) -> Result<(OsString, OwnedFd), Errno> {
    /// Apart from threads of this process, only one left by a killed process of the
    /// same pid can be in the way.
    const ATTEMPTS: usize = 64;
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let pid = call("getpid", || Ok(rustix::process::getpid()))?.as_raw_nonzero();
    let mode = Mode::from_raw_mode(mode);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..ATTEMPTS {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".{pid}.{number}"));
        match uninterrupted("openat", || {
            rustix::fs::openat(dir, &temporary, flags, mode)
        }) {
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
            Ok(file) => {
                // The embedder's umask may have taken bits away.
                call("fchmod", || rustix::fs::fchmod(&file, mode))?;
                return Ok((temporary, file));
            }
        }
    }
    Err(Errno::EXIST)
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirEntry {
    /// The name, without the directory's path.
    pub(crate) name: OsString,
    /// What the directory says it is; `Unknown` on some file systems.
    pub(crate) file_type: FileType,
}

/// Lists `dir` without `.` and `..`, in the directory's own order.
///
/// `dir` must be readable (not `O_PATH`); its offset is left alone.
pub(crate) fn read_dir(dir: impl AsFd) -> Result<Vec<DirEntry>, Errno> {
    // A second open file description: getdents64 moves the offset.
    let list = open_dir_at(dir, Path::new("."))?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut raw = RawDir::new(&list, &mut buffer);
    let mut entries = Vec::new();
    loop {
        let entry = call("getdents64", || raw.next().transpose())?;
        let Some(entry) = entry else {
            return Ok(entries);
        };
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push(DirEntry {
                name: OsString::from_vec(name.to_vec()),
                file_type: entry.file_type(),
            });
        }
    }
}

/// Lists the names in `dir`, sorted, without `.` and `..`.
pub(crate) fn read_dir_names(dir: impl AsFd) -> Result<Vec<OsString>, Errno> {
    let mut names: Vec<OsString> = read_dir(dir)?.into_iter().map(|e| e.name).collect();
    names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> (std::path::PathBuf, OwnedFd) {
        let path = std::env::temp_dir().join(format!("corten-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let fd = open_dir_at(rustix::fs::CWD, &path).unwrap();
        (path, fd)
    }

    #[test]
    fn a_replaced_file_has_the_new_content_and_the_asked_mode_and_leaves_no_temporary() {
        use std::os::unix::fs::PermissionsExt;
        let (path, dir) = scratch("replace");
        write_new_atomic(&dir, OsStr::new("state"), b"one", 0o600).unwrap();
        write_new_atomic(&dir, OsStr::new("state"), &[b'x'; 10_000], 0o666).unwrap();
        assert_eq!(read_at(&dir, Path::new("state")).unwrap(), [b'x'; 10_000]);
        let mode = std::fs::metadata(path.join("state"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o666);
        assert_eq!(read_dir_names(&dir).unwrap(), ["state"]);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_replacement_that_fails_leaves_no_temporary() {
        let (path, dir) = scratch("fail");
        std::fs::create_dir(path.join("taken")).unwrap();
        let err = write_new_atomic(&dir, OsStr::new("taken"), b"x", 0o600).unwrap_err();
        assert_eq!(err, Errno::ISDIR);
        assert_eq!(read_dir_names(&dir).unwrap(), ["taken"]);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_real_path_is_absolute_and_has_no_symbolic_links() {
        let (path, _dir) = scratch("real");
        std::os::unix::fs::symlink(&path, path.join("loop")).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        let given = path.join("loop/./loop/../").join(path.file_name().unwrap());
        let real = path.canonicalize().unwrap();
        assert_eq!(real_path(&given).unwrap(), real);
        assert_eq!(
            real_path(&path.join("loop/file")).unwrap(),
            real.join("file")
        );
        assert_eq!(real_path(&path.join("absent")), Err(Errno::NOENT));
        assert_eq!(real_path(&path.join("file/x")), Err(Errno::NOTDIR));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_write_creates_no_file() {
        let (path, dir) = scratch("nocreate");
        let err = write_at(&dir, Path::new("absent"), b"1").unwrap_err();
        assert_eq!(err, Errno::NOENT);
        assert!(read_dir_names(&dir).unwrap().is_empty());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_file_longer_than_the_limit_is_refused() {
        let (path, dir) = scratch("long");
        write_new_atomic(&dir, OsStr::new("f"), &[0; 9000], 0o600).unwrap();
        assert_eq!(read_at_most(&dir, Path::new("f"), 8999), Err(Errno::FBIG));
        assert_eq!(
            read_at_most(&dir, Path::new("f"), 9000).unwrap().len(),
            9000
        );
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_directory_with_many_names_is_listed_whole_and_twice() {
        let (path, dir) = scratch("many");
        for n in 0..500 {
            std::fs::write(path.join(format!("a-rather-long-file-name-{n:04}")), "").unwrap();
        }
        assert_eq!(read_dir_names(&dir).unwrap().len(), 500);
        assert_eq!(read_dir(&dir).unwrap().len(), 500);
        std::fs::remove_dir_all(path).unwrap();
    }
}
