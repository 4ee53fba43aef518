//! Descriptors, directories and files.
//!
//! See openat2(2), statx(2), mknodat(2).

use core::ffi::CStr;

use super::numbers as nr;
use super::{CWD, Fd, Result, call, fd, flag, path, to_fd};

/// `close(2)`.
///
/// # Errors
/// The errno of the call, as for every function below.
pub fn close(which: Fd) -> Result<()> {
    call(nr::CLOSE, &[fd(which)]).map(drop)
}

/// `close_range(2)`: closes `first..=last`.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    call(nr::CLOSE_RANGE, &[first as u64, last as u64, 0]).map(drop)
}

/// `dup3(2)` without flags: `to` becomes a copy of `from` and survives execve.
pub fn dup_to(from: Fd, to: Fd) -> Result<()> {
    if from == to {
        const F_SETFD: u64 = 2;
        return call(nr::FCNTL, &[fd(from), F_SETFD, 0]).map(drop);
    }
    call(nr::DUP3, &[fd(from), fd(to), 0]).map(drop)
}

/// `fcntl(F_SETFD, FD_CLOEXEC)`.
pub fn set_cloexec(which: Fd) -> Result<()> {
    const F_SETFD: u64 = 2;
    call(nr::FCNTL, &[fd(which), F_SETFD, 1]).map(drop)
}

/// `read(2)`.
pub fn read(from: Fd, buffer: &mut [u8]) -> Result<usize> {
    // The pointer and length are those of a slice that lives through the call.
    call(
        nr::READ,
        &[fd(from), buffer.as_mut_ptr() as u64, buffer.len() as u64],
    )
    .map(|n| n as usize)
}

/// `write(2)`: how much of it was written.
pub fn write(to: Fd, bytes: &[u8]) -> Result<usize> {
    call(
        nr::WRITE,
        &[fd(to), bytes.as_ptr() as u64, bytes.len() as u64],
    )
    .map(|n| n as usize)
}

/// `lseek(2)` from the start.
pub fn seek(file: Fd, place: u64) -> Result<()> {
    const SEEK_SET: u64 = 0;
    call(nr::LSEEK, &[fd(file), place, SEEK_SET]).map(drop)
}

/// `getdents64(2)`: how many bytes of the buffer are entries; 0 at the end.
pub fn getdents(dir: Fd, buffer: &mut [u8]) -> Result<usize> {
    let (at, len) = (buffer.as_mut_ptr() as u64, buffer.len() as u64);
    call(nr::GETDENTS64, &[fd(dir), at, len]).map(|n| n as usize)
}

/// `pipe2(2)`: the end to read from and the end to write to.
pub fn pipe() -> Result<(Fd, Fd)> {
    let mut ends = [-1i32; 2];
    call(nr::PIPE2, &[ends.as_mut_ptr() as u64, flag::O_CLOEXEC])?;
    let [read, write] = ends;
    Ok((Fd(read), Fd(write)))
}

/// `memfd_create(2)`. `flags` get `MFD_CLOEXEC` and `MFD_ALLOW_SEALING`.
pub fn memfd_create(name: &CStr, flags: u32) -> Result<Fd> {
    call(nr::MEMFD_CREATE, &[path(name), flags as u64 | 3]).map(to_fd)
}

/// `fcntl(F_ADD_SEALS)`: no write, no change of size, no further seal.
pub fn seal(file: Fd) -> Result<()> {
    const F_ADD_SEALS: u64 = 1033;
    const ALL: u64 = 0xf;
    call(nr::FCNTL, &[fd(file), F_ADD_SEALS, ALL]).map(drop)
}

/// `openat2(2)`. `flags` get `O_CLOEXEC`.
pub fn openat2(dir: Fd, name: &CStr, flags: u64, resolve: u64) -> Result<Fd> {
    let how = [flags | flag::O_CLOEXEC, 0u64, resolve];
    call(
        nr::OPENAT2,
        &[
            fd(dir),
            path(name),
            how.as_ptr() as u64,
            size_of_val(&how) as u64,
        ],
    )
    .map(to_fd)
}

/// `mkdirat(2)`.
pub fn mkdirat(dir: Fd, name: &CStr, mode: u32) -> Result<()> {
    call(nr::MKDIRAT, &[fd(dir), path(name), mode as u64]).map(drop)
}

/// `mknodat(2)` with a device number made of `major` and `minor`.
pub fn mknodat(dir: Fd, name: &CStr, mode: u32, major: u32, minor: u32) -> Result<()> {
    call(
        nr::MKNODAT,
        &[fd(dir), path(name), mode as u64, device(major, minor)],
    )
    .map(drop)
}

/// The kernel's 32-bit form of a device number, see makedev(3).
#[must_use]
pub fn device(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    minor & 0xff | (major & 0xfff) << 8 | (minor & 0xfff00) << 12
}

/// `symlinkat(2)`.
pub fn symlinkat(target: &CStr, dir: Fd, name: &CStr) -> Result<()> {
    call(nr::SYMLINKAT, &[path(target), fd(dir), path(name)]).map(drop)
}

/// `unlinkat(2)`.
pub fn unlinkat(dir: Fd, name: &CStr, flags: u64) -> Result<()> {
    call(nr::UNLINKAT, &[fd(dir), path(name), flags]).map(drop)
}

/// `readlinkat(2)`: how many bytes of the buffer the target takes.
pub fn readlinkat(dir: Fd, name: &CStr, target: &mut [u8]) -> Result<usize> {
    let (at, len) = (target.as_mut_ptr() as u64, target.len() as u64);
    call(nr::READLINKAT, &[fd(dir), path(name), at, len]).map(|n| n as usize)
}

/// `fchownat(2)` that does not follow a symbolic link; an empty name is `dir` itself.
pub fn fchownat(dir: Fd, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    let flags = flag::AT_SYMLINK_NOFOLLOW | flag::AT_EMPTY_PATH;
    call(
        nr::FCHOWNAT,
        &[fd(dir), path(name), uid as u64, gid as u64, flags],
    )
    .map(drop)
}

/// `fchmodat(2)`, which follows symbolic links.
pub fn fchmodat(dir: Fd, name: &CStr, mode: u32) -> Result<()> {
    call(nr::FCHMODAT, &[fd(dir), path(name), mode as u64]).map(drop)
}

/// What init asks of statx(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Major number of a device node.
    pub major: u32,
    /// Minor number of a device node.
    pub minor: u32,
}

impl Stat {
    /// Whether the type is `S_IF*`.
    #[must_use]
    pub fn is(&self, kind: u32) -> bool {
        self.mode & flag::S_IFMT == kind
    }
}

/// `statx(2)` that follows symbolic links; an empty name is `dir` itself.
pub fn stat(dir: Fd, name: &CStr) -> Result<Stat> {
    statx(dir, name, 0)
}

/// The same without following a symbolic link at the end.
pub fn stat_link(dir: Fd, name: &CStr) -> Result<Stat> {
    statx(dir, name, flag::AT_SYMLINK_NOFOLLOW)
}

fn statx(dir: Fd, name: &CStr, flags: u64) -> Result<Stat> {
    // struct statx, 256 bytes: u32 stx_uid and _gid at 20, u16 stx_mode at 28, u64 stx_ino at 32, u64 stx_size at
    // 40, u32 stx_rdev_major and _minor at 128.
    let mut raw = [0u64; 32];
    const STATX_BASIC_STATS: u64 = 0x7ff;
    call(
        nr::STATX,
        &[
            fd(dir),
            path(name),
            flag::AT_EMPTY_PATH | flags,
            STATX_BASIC_STATS,
            raw.as_mut_ptr() as u64,
        ],
    )?;
    let [
        _,
        _,
        uid,
        gid_mode,
        inode,
        size,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        rdev,
        ..,
    ] = raw;
    Ok(Stat {
        mode: (gid_mode >> 32) as u32 & 0xffff,
        uid: (uid >> 32) as u32,
        gid: gid_mode as u32,
        inode,
        size,
        major: rdev as u32,
        minor: (rdev >> 32) as u32,
    })
}

/// `fsetxattr(2)`.
pub fn fsetxattr(file: Fd, name: &CStr, value: &[u8]) -> Result<()> {
    let (at, len) = (value.as_ptr() as u64, value.len() as u64);
    call(nr::FSETXATTR, &[fd(file), path(name), at, len, 0]).map(drop)
}

/// `fstatfs(2)`: the file system's magic number.
pub fn fs_magic(of: Fd) -> Result<u64> {
    let mut raw = [0u64; 16];
    call(nr::FSTATFS, &[fd(of), raw.as_mut_ptr() as u64])?;
    let [magic, ..] = raw;
    Ok(magic)
}

/// `faccessat2(2)` with the effective ids.
pub fn may_execute(name: &CStr) -> Result<()> {
    const X_OK: u64 = 1;
    call(
        nr::FACCESSAT2,
        &[fd(CWD), path(name), X_OK, flag::AT_EACCESS],
    )
    .map(drop)
}
