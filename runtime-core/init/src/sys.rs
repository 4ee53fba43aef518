//! System calls, made directly: init has no C library.
//!
//! One function per call, named as in section 2 of the man pages, safe to use from
//! outside this file. Numbers and structures are those of the kernel's UAPI headers.

use core::arch::asm;
use core::ffi::CStr;

mod numbers;
use numbers as nr;

/// A file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub i32);

/// The current working directory, where a directory is asked for.
pub const CWD: Fd = Fd(-100);

/// The error number of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// Error numbers that steps look at.
#[allow(missing_docs, reason = "names of errno(3)")]
pub mod errno {
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const EINTR: i32 = 4;
    pub const EIO: i32 = 5;
    pub const EBADF: i32 = 9;
    pub const EAGAIN: i32 = 11;
    pub const EACCES: i32 = 13;
    pub const EEXIST: i32 = 17;
    pub const EXDEV: i32 = 18;
    pub const ENODEV: i32 = 19;
    pub const ENOTDIR: i32 = 20;
    pub const EISDIR: i32 = 21;
    pub const EINVAL: i32 = 22;
    pub const ENAMETOOLONG: i32 = 36;
    pub const ENOSYS: i32 = 38;
    pub const ELOOP: i32 = 40;
    pub const EPIPE: i32 = 32;
    pub const EDQUOT: i32 = 122;
}

/// Flags of the calls below; values of the UAPI headers.
#[allow(missing_docs, reason = "names of the man pages")]
pub mod flag {
    pub const O_RDONLY: u64 = 0;
    pub const O_RDWR: u64 = 2;
    pub const O_NOCTTY: u64 = 0o400;
    pub const O_NONBLOCK: u64 = 0o4000;
    #[cfg(target_arch = "x86_64")]
    pub const O_DIRECTORY: u64 = 0o200_000;
    #[cfg(target_arch = "aarch64")]
    pub const O_DIRECTORY: u64 = 0o40_000;
    #[cfg(target_arch = "x86_64")]
    pub const O_NOFOLLOW: u64 = 0o400_000;
    #[cfg(target_arch = "aarch64")]
    pub const O_NOFOLLOW: u64 = 0o100_000;
    pub const O_CLOEXEC: u64 = 0o2_000_000;
    pub const O_PATH: u64 = 0o10_000_000;

    pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;
    pub const RESOLVE_BENEATH: u64 = 0x08;
    pub const RESOLVE_IN_ROOT: u64 = 0x10;

    pub const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
    pub const AT_EACCESS: u64 = 0x200;
    pub const AT_EMPTY_PATH: u64 = 0x1000;
    pub const AT_RECURSIVE: u64 = 0x8000;

    pub const OPEN_TREE_CLONE: u64 = 1;
    pub const OPEN_TREE_CLOEXEC: u64 = O_CLOEXEC;
    pub const MOVE_MOUNT_F_EMPTY_PATH: u64 = 0x4;
    pub const MOVE_MOUNT_T_EMPTY_PATH: u64 = 0x40;
    pub const MOUNT_ATTR_RDONLY: u64 = 1;
    pub const MOUNT_ATTR_NOSUID: u64 = 2;
    pub const MOUNT_ATTR_NODEV: u64 = 4;
    pub const MOUNT_ATTR_NOEXEC: u64 = 8;
    pub const FSOPEN_CLOEXEC: u64 = 1;
    pub const FSMOUNT_CLOEXEC: u64 = 1;
    pub const FSCONFIG_SET_FLAG: u64 = 0;
    pub const FSCONFIG_SET_STRING: u64 = 1;
    pub const FSCONFIG_CMD_CREATE: u64 = 6;
    pub const MS_REC: u64 = 0x4000;
    pub const MS_PRIVATE: u64 = 1 << 18;
    pub const MNT_DETACH: u64 = 2;

    pub const S_IFMT: u32 = 0o170_000;
    pub const S_IFREG: u32 = 0o100_000;
    pub const S_IFDIR: u32 = 0o040_000;
    pub const S_IFCHR: u32 = 0o020_000;

    pub const CLONE_PARENT: u64 = 0x8000;
    pub const CLONE_PIDFD: u64 = 0x1000;
    pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
}

type Result<T> = core::result::Result<T, Errno>;

#[cfg(target_arch = "x86_64")]
fn syscall6(number: u64, a: [u64; 6]) -> Result<u64> {
    let [a0, a1, a2, a3, a4, a5] = a;
    let ret: i64;
    // SAFETY: the kernel clobbers rcx and r11 and writes only to memory that the
    // arguments point to; each wrapper below answers for its own pointers.
    unsafe {
        asm!("syscall", inlateout("rax") number as i64 => ret, in("rdi") a0, in("rsi") a1,
             in("rdx") a2, in("r10") a3, in("r8") a4, in("r9") a5,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    check(ret)
}

#[cfg(target_arch = "aarch64")]
fn syscall6(number: u64, a: [u64; 6]) -> Result<u64> {
    let [a0, a1, a2, a3, a4, a5] = a;
    let ret: i64;
    // SAFETY: `svc 0` keeps every register but x0 and writes only to memory that the
    // arguments point to; each wrapper below answers for its own pointers.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a0 as i64 => ret, in("x1") a1,
             in("x2") a2, in("x3") a3, in("x4") a4, in("x5") a5, options(nostack));
    }
    check(ret)
}

fn check(ret: i64) -> Result<u64> {
    if (-4095..0).contains(&ret) {
        Err(Errno(ret.wrapping_neg() as i32))
    } else {
        Ok(ret as u64)
    }
}

fn call(number: u64, args: &[u64]) -> Result<u64> {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(args) {
        *to = *from;
    }
    syscall6(number, all)
}

fn path(name: &CStr) -> u64 {
    name.as_ptr() as u64
}

fn fd(fd: Fd) -> u64 {
    fd.0 as i64 as u64
}

fn to_fd(value: u64) -> Fd {
    Fd(value as i32)
}

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

/// `readlinkat(2)`: how many bytes of the buffer the target takes.
pub fn readlinkat(dir: Fd, name: &CStr, target: &mut [u8]) -> Result<usize> {
    let (at, len) = (target.as_mut_ptr() as u64, target.len() as u64);
    call(nr::READLINKAT, &[fd(dir), path(name), at, len]).map(|n| n as usize)
}

/// `fchmodat(2)`, which follows symbolic links.
pub fn fchmodat(dir: Fd, name: &CStr, mode: u32) -> Result<()> {
    call(nr::FCHMODAT, &[fd(dir), path(name), (mode & 0o7777) as u64]).map(drop)
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

/// What init asks of statx(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Type and permissions.
    pub mode: u32,
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
    // struct statx, 256 bytes: u16 stx_mode at 28, u64 stx_ino at 32, u64 stx_size at
    // 40, u32 stx_rdev_major and _minor at 128.
    let mut raw = [0u64; 32];
    const STATX_BASIC_STATS: u64 = 0x7ff;
    call(
        nr::STATX,
        &[
            fd(dir),
            path(name),
            flag::AT_EMPTY_PATH,
            STATX_BASIC_STATS,
            raw.as_mut_ptr() as u64,
        ],
    )?;
    let [
        _,
        _,
        _,
        mode,
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
        mode: (mode >> 32) as u32 & 0xffff,
        inode,
        size,
        major: rdev as u32,
        minor: (rdev >> 32) as u32,
    })
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

/// `open_tree(2)`.
pub fn open_tree(dir: Fd, name: &CStr, flags: u64) -> Result<Fd> {
    call(
        nr::OPEN_TREE,
        &[fd(dir), path(name), flags | flag::OPEN_TREE_CLOEXEC],
    )
    .map(to_fd)
}

/// `move_mount(2)` of one descriptor's mount onto another descriptor's file.
pub fn move_mount(from: Fd, to: Fd) -> Result<()> {
    let flags = flag::MOVE_MOUNT_F_EMPTY_PATH | flag::MOVE_MOUNT_T_EMPTY_PATH;
    call(
        nr::MOVE_MOUNT,
        &[fd(from), path(c""), fd(to), path(c""), flags],
    )
    .map(drop)
}

/// `mount_setattr(2)` on a descriptor's mount.
pub fn mount_setattr(
    mount: Fd,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
) -> Result<()> {
    let attr = [set, clear, propagation, 0];
    let flags = flag::AT_EMPTY_PATH | if recursive { flag::AT_RECURSIVE } else { 0 };
    call(
        nr::MOUNT_SETATTR,
        &[
            fd(mount),
            path(c""),
            flags,
            attr.as_ptr() as u64,
            size_of_val(&attr) as u64,
        ],
    )
    .map(drop)
}

/// `mount(2)` that only changes the propagation of `/` and all below.
pub fn set_propagation(kind: u64) -> Result<()> {
    call(nr::MOUNT, &[0, path(c"/"), 0, kind | flag::MS_REC, 0]).map(drop)
}

/// `fsopen(2)`.
pub fn fsopen(kind: &CStr) -> Result<Fd> {
    call(nr::FSOPEN, &[path(kind), flag::FSOPEN_CLOEXEC]).map(to_fd)
}

/// `fsconfig(FSCONFIG_SET_FLAG)`.
pub fn fsconfig_flag(fs: Fd, key: &CStr) -> Result<()> {
    call(
        nr::FSCONFIG,
        &[fd(fs), flag::FSCONFIG_SET_FLAG, path(key), 0, 0],
    )
    .map(drop)
}

/// `fsconfig(FSCONFIG_SET_STRING)`.
pub fn fsconfig_string(fs: Fd, key: &CStr, value: &CStr) -> Result<()> {
    call(
        nr::FSCONFIG,
        &[fd(fs), flag::FSCONFIG_SET_STRING, path(key), path(value), 0],
    )
    .map(drop)
}

/// `fsconfig(FSCONFIG_CMD_CREATE)`.
pub fn fsconfig_create(fs: Fd) -> Result<()> {
    call(nr::FSCONFIG, &[fd(fs), flag::FSCONFIG_CMD_CREATE, 0, 0, 0]).map(drop)
}

/// `fsmount(2)` with `MOUNT_ATTR_*`.
pub fn fsmount(fs: Fd, attrs: u64) -> Result<Fd> {
    call(nr::FSMOUNT, &[fd(fs), flag::FSMOUNT_CLOEXEC, attrs]).map(to_fd)
}

/// `fchdir(2)`.
pub fn fchdir(dir: Fd) -> Result<()> {
    call(nr::FCHDIR, &[fd(dir)]).map(drop)
}

/// `chdir("/")`.
pub fn chdir_root() -> Result<()> {
    call(nr::CHDIR, &[path(c"/")]).map(drop)
}

/// `getcwd(2)`: whether the working directory can be reached from the root.
pub fn cwd_is_reachable() -> Result<bool> {
    let mut buffer = [0u8; 4096];
    call(
        nr::GETCWD,
        &[buffer.as_mut_ptr() as u64, buffer.len() as u64],
    )?;
    Ok(buffer.first() == Some(&b'/'))
}

/// `pivot_root(".", ".")`.
pub fn pivot_root_here() -> Result<()> {
    call(nr::PIVOT_ROOT, &[path(c"."), path(c".")]).map(drop)
}

/// `umount2(2)` with `MNT_DETACH`.
pub fn detach(place: &CStr) -> Result<()> {
    call(nr::UMOUNT2, &[path(place), flag::MNT_DETACH]).map(drop)
}

/// `chroot(".")`.
pub fn chroot_here() -> Result<()> {
    call(nr::CHROOT, &[path(c".")]).map(drop)
}

/// `sethostname(2)`.
pub fn sethostname(name: &CStr) -> Result<()> {
    call(nr::SETHOSTNAME, &[path(name), name.count_bytes() as u64]).map(drop)
}

/// `setdomainname(2)`.
pub fn setdomainname(name: &CStr) -> Result<()> {
    call(nr::SETDOMAINNAME, &[path(name), name.count_bytes() as u64]).map(drop)
}

/// `unshare(2)`.
pub fn unshare(flags: u64) -> Result<()> {
    call(nr::UNSHARE, &[flags]).map(drop)
}

/// `setsid(2)`.
pub fn setsid() -> Result<()> {
    call(nr::SETSID, &[]).map(drop)
}

/// `rt_sigaction(2)`: `SIG_DFL` for one signal.
pub fn default_signal(signal: u32) -> Result<()> {
    let action = [0u64; 4];
    const SIGSET_BYTES: u64 = 8;
    call(
        nr::RT_SIGACTION,
        &[signal as u64, action.as_ptr() as u64, 0, SIGSET_BYTES],
    )
    .map(drop)
}

/// `rt_sigprocmask(2)`: nothing is blocked.
pub fn unblock_signals() -> Result<()> {
    let none = 0u64;
    const SIG_SETMASK: u64 = 2;
    let set = &raw const none as u64;
    call(nr::RT_SIGPROCMASK, &[SIG_SETMASK, set, 0, 8]).map(drop)
}

/// `umask(2)`.
pub fn umask(mask: u32) {
    // This call has no errors.
    call(nr::UMASK, &[mask as u64]).unwrap_or_default();
}

/// `setpriority(2)` of the calling process.
pub fn setpriority(nice: i32) -> Result<()> {
    call(nr::SETPRIORITY, &[0, 0, nice as i64 as u64]).map(drop)
}

/// `sched_setaffinity(2)` to all CPUs; the kernel keeps to the cpuset.
pub fn all_cpus() -> Result<()> {
    let mask = [u64::MAX; 128];
    call(
        nr::SCHED_SETAFFINITY,
        &[0, size_of_val(&mask) as u64, mask.as_ptr() as u64],
    )
    .map(drop)
}

/// `prctl(2)` with one argument.
pub fn prctl(option: u64, argument: u64) -> Result<u64> {
    call(nr::PRCTL, &[option, argument, 0, 0, 0])
}

/// `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)`.
pub fn raise_ambient(cap: u32) -> Result<()> {
    const PR_CAP_AMBIENT: u64 = 47;
    const PR_CAP_AMBIENT_RAISE: u64 = 2;
    call(
        nr::PRCTL,
        &[PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap as u64, 0, 0],
    )
    .map(drop)
}

/// `prctl(PR_SET_NAME)`.
pub fn set_name(name: &CStr) -> Result<()> {
    const PR_SET_NAME: u64 = 15;
    prctl(PR_SET_NAME, path(name)).map(drop)
}

/// `setgroups(2)` with gids as they lie in a plan.
pub fn setgroups(gids: &[u8]) -> Result<()> {
    call(
        nr::SETGROUPS,
        &[(gids.len() >> 2) as u64, gids.as_ptr() as u64],
    )
    .map(drop)
}

/// `setresgid(2)`.
pub fn setresgid(gid: u32) -> Result<()> {
    call(nr::SETRESGID, &[gid as u64; 3]).map(drop)
}

/// `setresuid(2)`.
pub fn setresuid(uid: u32) -> Result<()> {
    call(nr::SETRESUID, &[uid as u64; 3]).map(drop)
}

/// `capset(2)` of the calling process, version 3.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let header = [0x2008_0522u32, 0];
    let data = [
        effective as u32,
        permitted as u32,
        inheritable as u32,
        (effective >> 32) as u32,
        (permitted >> 32) as u32,
        (inheritable >> 32) as u32,
    ];
    call(nr::CAPSET, &[header.as_ptr() as u64, data.as_ptr() as u64]).map(drop)
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING)`.
pub fn join_session_keyring(name: &CStr) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: u64 = 1;
    call(nr::KEYCTL, &[KEYCTL_JOIN_SESSION_KEYRING, path(name)]).map(drop)
}

/// `clock_gettime(CLOCK_MONOTONIC)` in nanoseconds.
#[must_use]
pub fn monotonic() -> u64 {
    let mut time = [0u64; 2];
    // It fails only for an unknown clock; the time is then 0.
    call(nr::CLOCK_GETTIME, &[1, time.as_mut_ptr() as u64]).unwrap_or_default();
    let [seconds, nanos] = time;
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)
}

/// `socket(AF_UNIX, SOCK_DGRAM)`.
pub fn any_socket() -> Result<Fd> {
    const AF_UNIX: u64 = 1;
    const SOCK_DGRAM_CLOEXEC: u64 = 2 | flag::O_CLOEXEC;
    call(nr::SOCKET, &[AF_UNIX, SOCK_DGRAM_CLOEXEC, 0]).map(to_fd)
}

/// `ioctl(SIOCGIFFLAGS)` and `ioctl(SIOCSIFFLAGS)`: sets `IFF_UP` on `lo`.
pub fn loopback_up(socket: Fd) -> Result<()> {
    // struct ifreq, 40 bytes: the name in 16, then short ifr_flags.
    let mut request = [0u64; 5];
    let [name, _, flags, ..] = &mut request;
    *name = u64::from_ne_bytes(*b"lo\0\0\0\0\0\0");
    *flags = 0;
    let at = request.as_mut_ptr() as u64;
    call(nr::IOCTL, &[fd(socket), 0x8913, at])?;
    let [_, _, flags, ..] = &mut request;
    *flags |= 1;
    let at = request.as_ptr() as u64;
    call(nr::IOCTL, &[fd(socket), 0x8914, at]).map(drop)
}

/// `ioctl(TIOCSPTLCK)` and `ioctl(TIOCGPTPEER)`: the slave side of a pty.
pub fn pty_peer(master: Fd) -> Result<Fd> {
    let unlock = 0i32;
    call(
        nr::IOCTL,
        &[fd(master), 0x4004_5431, &raw const unlock as u64],
    )?;
    let flags = flag::O_RDWR | flag::O_NOCTTY | flag::O_CLOEXEC;
    call(nr::IOCTL, &[fd(master), 0x5441, flags]).map(to_fd)
}

/// `ioctl(TIOCSWINSZ)`.
pub fn set_window_size(tty: Fd, rows: u32, columns: u32) -> Result<()> {
    let size = [rows as u16, columns as u16, 0, 0];
    call(nr::IOCTL, &[fd(tty), 0x5414, size.as_ptr() as u64]).map(drop)
}

/// `ioctl(TIOCSCTTY)`.
pub fn set_controlling_terminal(tty: Fd) -> Result<()> {
    call(nr::IOCTL, &[fd(tty), 0x540e, 0]).map(drop)
}

/// `sendmsg(2)` of a short message, with a descriptor if there is one.
pub fn send(socket: Fd, message: &[u8], passed: Option<Fd>) -> Result<()> {
    let iov = [message.as_ptr() as u64, message.len() as u64];
    // struct cmsghdr: length 16 + 4, SOL_SOCKET (1), SCM_RIGHTS (1), the descriptor.
    let number = passed.map_or(0, |p| p.0 as u32 as u64);
    let control = [20u64, 1 | 1 << 32, number];
    let (at, len) = match passed {
        Some(_) => (control.as_ptr() as u64, size_of_val(&control) as u64),
        None => (0, 0),
    };
    // struct msghdr: name, namelen, iov, iovlen, control, controllen, flags.
    let header = [0u64, 0, iov.as_ptr() as u64, 1, at, len, 0];
    const MSG_NOSIGNAL: u64 = 0x4000;
    call(
        nr::SENDMSG,
        &[fd(socket), header.as_ptr() as u64, MSG_NOSIGNAL],
    )
    .map(drop)
}

/// `clone3(2)` as fork(2) does it, with namespaces, a pidfd and maybe a cgroup.
/// `None` in the child; pid and pidfd in the parent.
pub fn clone3(flags: u64, cgroup: Option<Fd>) -> Result<Option<(i32, Fd)>> {
    let mut pidfd = -1i32;
    let into = cgroup.map_or(0, |_| flag::CLONE_INTO_CGROUP);
    let args = [
        flags | flag::CLONE_PIDFD | into,
        &raw mut pidfd as u64,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        cgroup.map_or(0, fd),
    ];
    let pid = call(
        nr::CLONE3,
        &[args.as_ptr() as u64, size_of_val(&args) as u64],
    )?;
    Ok(if pid == 0 {
        None
    } else {
        Some((pid as i32, Fd(pidfd)))
    })
}

/// `execve(2)`: returns only an error. The tables end with a null.
#[must_use]
pub fn execve(program: &CStr, argv: Table<'_>, envp: Table<'_>) -> Errno {
    match call(
        nr::EXECVE,
        &[
            path(program),
            argv.0.as_ptr() as u64,
            envp.0.as_ptr() as u64,
        ],
    ) {
        Ok(_) => Errno(errno::EIO),
        Err(error) => error,
    }
}

/// `exit_group(2)`.
pub fn exit(code: u32) -> ! {
    loop {
        call(nr::EXIT_GROUP, &[code as u64]).unwrap_or_default();
    }
}

/// A table of pointers to strings that ends with a null: argv or envp.
///
/// Made only by [`Map::table`], which has turned offsets into pointers.
#[derive(Clone, Copy)]
pub struct Table<'a>(&'a [u64]);

impl<'a> Table<'a> {
    /// The strings, in order.
    pub fn iter(self) -> impl Iterator<Item = &'a CStr> {
        self.0.iter().take_while(|at| **at != 0).map(|at| {
            // SAFETY: `Map::table` and `Map::set_entry` store only addresses of strings
            // that end with a NUL and live as long as the process.
            unsafe { CStr::from_ptr(*at as *const core::ffi::c_char) }
        })
    }
}

/// A file mapped into memory, for the life of the process.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    base: u64,
    len: usize,
}

impl Map {
    /// `mmap(2)` of a whole file of `len` bytes, readable and writable.
    pub fn new(file: Fd, len: usize, shared: bool) -> Result<Map> {
        const PROT_READ_WRITE: u64 = 3;
        let kind = if shared { 1 } else { 2 };
        let base = call(
            nr::MMAP,
            &[0, len as u64, PROT_READ_WRITE, kind, fd(file), 0],
        )?;
        Ok(Map { base, len })
    }

    /// The bytes of `range`, or none if it is not all inside.
    #[must_use]
    pub fn bytes(&self, offset: usize, len: usize) -> Option<&'static [u8]> {
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        let at = (self.base as usize).wrapping_add(offset) as *const u8;
        // SAFETY: the range lies in the mapping, which is never unmapped; init writes
        // to the plan only in the tables, through `set_word`, and takes no byte slice
        // of those.
        Some(unsafe { core::slice::from_raw_parts(at, len) })
    }

    /// The word at a byte offset that is a multiple of 8.
    #[must_use]
    pub fn word(&self, offset: usize) -> Option<u64> {
        self.word_at(offset).map(|at| {
            // SAFETY: `word_at` gives an aligned address inside the mapping.
            unsafe { at.read_volatile() }
        })
    }

    /// Stores a word at a byte offset that is a multiple of 8.
    pub fn set_word(&self, offset: usize, word: u64) -> Option<()> {
        self.word_at(offset).map(|at| {
            // SAFETY: `word_at` gives an aligned address inside the mapping, which is
            // writable.
            unsafe { at.write_volatile(word) }
        })
    }

    /// Stores one byte.
    pub fn set_byte(&self, offset: usize, byte: u8) -> Option<()> {
        if offset >= self.len {
            return None;
        }
        let at = (self.base as usize).wrapping_add(offset) as *mut u8;
        // SAFETY: the address lies inside the mapping, which is writable.
        unsafe { at.write_volatile(byte) };
        Some(())
    }

    fn word_at(&self, offset: usize) -> Option<*mut u64> {
        if offset & 7 != 0 || offset.checked_add(8)? > self.len {
            return None;
        }
        Some((self.base as usize).wrapping_add(offset) as *mut u64)
    }

    /// Turns `count` offsets at `offset` into pointers, in place, and gives the table
    /// with its spare entries.
    pub fn table(&self, offset: usize, count: usize, spare: usize) -> Option<Table<'static>> {
        let entries = count.checked_add(spare)?;
        for index in 0..count {
            let at = offset.checked_add(index.checked_mul(8)?)?;
            let string = self.word(at)? as usize;
            // The string must lie in the mapping; it ends with a NUL by construction,
            // and the plan's last byte is one.
            self.bytes(string, 1)?;
            self.set_word(at, self.base.wrapping_add(string as u64))?;
        }
        self.table_again(offset, entries)
    }

    /// The table of `entries` pointers at `offset`, once [`Map::table`] has made it.
    #[must_use]
    pub fn table_again(&self, offset: usize, entries: usize) -> Option<Table<'static>> {
        self.word_at(offset)?;
        self.word_at(
            offset
                .checked_add(entries.checked_mul(8)?)?
                .checked_sub(8)?,
        )?;
        let at = (self.base as usize).wrapping_add(offset) as *const u64;
        // SAFETY: all entries lie inside the mapping and are aligned (checked above).
        // `set_entry` may store another pointer later: volatile, and only before the
        // table is read again.
        Some(Table(unsafe { core::slice::from_raw_parts(at, entries) }))
    }

    /// Stores a pointer to `string` at entry `index` of the table at `offset`.
    ///
    /// The buffer must be one that lives until `execve(2)`.
    pub fn set_entry(&self, offset: usize, index: usize, string: &'static CStr) -> Option<()> {
        let at = offset.checked_add(index.checked_mul(8)?)?;
        self.set_word(at, string.as_ptr() as u64)
    }
}

/// A fixed buffer that lives as long as the process and is written once.
pub struct Once<const N: usize>(core::cell::UnsafeCell<[u8; N]>);

// SAFETY: init has one thread.
unsafe impl<const N: usize> Sync for Once<N> {}

impl<const N: usize> Once<N> {
    /// A buffer of zeros.
    #[must_use]
    pub const fn new() -> Self {
        Once(core::cell::UnsafeCell::new([0; N]))
    }

    /// Fills the buffer with the concatenation of `parts` and gives it as a string;
    /// `None` when it does not fit.
    pub fn fill(&'static self, parts: &[&[u8]]) -> Option<&'static CStr> {
        // SAFETY: init has one thread and calls this once per buffer; no other
        // reference to the buffer is alive while this one is.
        let buffer = unsafe { &mut *self.0.get() };
        let mut cells = buffer.iter_mut();
        for byte in parts.iter().flat_map(|part| part.iter()) {
            *cells.next()? = *byte;
        }
        *cells.next()? = 0;
        // SAFETY: as above; the unique reference ends on the line before.
        let whole: &'static [u8; N] = unsafe { &*self.0.get() };
        CStr::from_bytes_until_nul(whole).ok()
    }
}

impl<const N: usize> Default for Once<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
