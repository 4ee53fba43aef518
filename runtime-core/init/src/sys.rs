//! System calls, made directly: init has no C library.
//!
//! One function per call, named as in section 2 of the man pages, safe to use from
//! outside this file. Numbers and structures are those of the kernel's UAPI headers.

use core::arch::asm;
use core::ffi::CStr;

mod clone;
mod file;
mod memory;
mod mount;
mod numbers;
mod process;
mod socket;

pub use clone::*;
pub use file::*;
pub use memory::*;
pub use mount::*;
pub use process::*;
pub use socket::*;

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
    pub const ESRCH: i32 = 3;
    pub const EINTR: i32 = 4;
    pub const EIO: i32 = 5;
    pub const EBADF: i32 = 9;
    pub const EAGAIN: i32 = 11;
    pub const EACCES: i32 = 13;
    pub const EBUSY: i32 = 16;
    pub const EEXIST: i32 = 17;
    pub const EXDEV: i32 = 18;
    pub const ENODEV: i32 = 19;
    pub const ENOTDIR: i32 = 20;
    pub const EISDIR: i32 = 21;
    pub const EINVAL: i32 = 22;
    pub const ENAMETOOLONG: i32 = 36;
    pub const ENOSYS: i32 = 38;
    pub const ENOTEMPTY: i32 = 39;
    pub const ELOOP: i32 = 40;
    pub const EPIPE: i32 = 32;
    pub const EDQUOT: i32 = 122;
}

/// Flags of the calls below; values of the UAPI headers.
#[allow(missing_docs, reason = "names of the man pages")]
pub mod flag {
    pub const O_RDONLY: u64 = 0;
    pub const O_WRONLY: u64 = 1;
    pub const O_CREAT: u64 = 0o100;
    pub const O_EXCL: u64 = 0o200;
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

    pub const RESOLVE_NO_XDEV: u64 = 0x01;
    pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;
    pub const RESOLVE_BENEATH: u64 = 0x08;
    pub const RESOLVE_IN_ROOT: u64 = 0x10;

    pub const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
    pub const AT_REMOVEDIR: u64 = 0x200;
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
    pub const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    pub const FSOPEN_CLOEXEC: u64 = 1;
    pub const FSMOUNT_CLOEXEC: u64 = 1;
    pub const FSCONFIG_SET_FLAG: u64 = 0;
    pub const FSCONFIG_SET_STRING: u64 = 1;
    pub const FSCONFIG_CMD_CREATE: u64 = 6;
    pub const FSCONFIG_CMD_RECONFIGURE: u64 = 7;
    pub const FSPICK_CLOEXEC: u64 = 1;
    pub const FSPICK_EMPTY_PATH: u64 = 8;
    pub const MS_REC: u64 = 0x4000;
    pub const MS_PRIVATE: u64 = 1 << 18;
    pub const MS_SLAVE: u64 = 1 << 19;
    pub const MNT_DETACH: u64 = 2;

    pub const S_IFMT: u32 = 0o170_000;
    pub const S_IFREG: u32 = 0o100_000;
    pub const S_IFDIR: u32 = 0o040_000;
    pub const S_IFCHR: u32 = 0o020_000;
    pub const S_IFBLK: u32 = 0o060_000;
    pub const S_IFLNK: u32 = 0o120_000;
    pub const S_IFIFO: u32 = 0o010_000;

    pub const CLONE_VM: u64 = 0x100;
    pub const CLONE_PARENT: u64 = 0x8000;
    pub const CLONE_PARENT_SETTID: u64 = 0x10_0000;
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

#[cfg(test)]
mod tests;
