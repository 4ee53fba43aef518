//! System calls that rustix does not have or has only as unsafe.
//!
//! The only unsafe code of the library. One wrapper per call, named like its man page.
#![allow(
    unsafe_code,
    reason = "raw system calls; every block says why it is sound"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::thread::UnshareFlags;

fn check(rc: libc::c_long) -> io::Result<()> {
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `clock_gettime(2)`: the seconds of a clock. Not by rustix, which panics on User Mode Linux
/// 7.2 for want of a function in the vDSO.
pub(crate) fn clock_seconds(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure lives through the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec
}

/// `ioctl(NS_GET_USERNS)`: the inode of the user namespace that owns the one of this file.
pub(crate) fn namespace_owner(path: &str) -> io::Result<u64> {
    use std::os::fd::FromRawFd as _;
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    let file = std::fs::File::open(path)?;
    // SAFETY: the request takes no argument.
    let owner = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_USERNS) };
    check(owner.into())?;
    // SAFETY: the kernel has just made this fd.
    let owner = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(owner) });
    Ok(std::os::linux::fs::MetadataExt::st_ino(&owner.metadata()?))
}

/// `unshare(2)` for namespaces. The fd table can't be unshared with it.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    assert!(
        !flags.contains(UnshareFlags::FILES),
        "fds may not be unshared"
    );
    // SAFETY: only CLONE_FILES can break the I/O safety of other threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// `mount_setattr(2)`: makes a mount and all below it read-only.
pub(crate) fn mount_setattr_read_only(path: &CStr) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: path and attributes live through the call, the size is the structure's.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// `SIOCSIFFLAGS` of netdevice(7): brings the loopback interface up.
pub(crate) fn loopback_up(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = 1; // IFF_UP
    // SAFETY: the request lives through the call and its name ends in a zero byte.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    check(rc.into())
}

/// `bpf(BPF_PROG_GET_NEXT_ID)`: the ids of all programs; none where that is not allowed.
pub(crate) fn bpf_programs() -> Vec<u32> {
    const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
    let mut ids = Vec::new();
    // start_id, next_id, open_flags: the first members of union bpf_attr.
    let mut attributes = [0_u32; 3];
    loop {
        // SAFETY: the kernel reads and writes the three words, whose size is given.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_GET_NEXT_ID,
                attributes.as_mut_ptr(),
                size_of_val(&attributes),
            )
        };
        let [_, next, _] = attributes;
        if check(rc).is_err() || ids.last() == Some(&next) {
            return ids;
        }
        ids.push(next);
        attributes = [next, 0, 0];
    }
}
