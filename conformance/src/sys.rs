//! System calls that rustix does not have or has only as unsafe.
//!
//! The only unsafe code of the library. One wrapper per call, named like its man page.
#![allow(
    unsafe_code,
    reason = "raw system calls; every block says why it is sound"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::thread::UnshareFlags;

mod trace;

pub(crate) use trace::peak_memory;

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
        *to = *from as std::ffi::c_char;
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

/// `bpf(BPF_OBJ_GET_INFO_BY_FD)`: the name of a program; empty if it has none or is gone.
pub(crate) fn bpf_program_name(id: u32) -> String {
    const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
    /// Offset and size of `name` in struct bpf_prog_info.
    const NAME: std::ops::Range<usize> = 64..80;
    let mut attributes = [id, 0, 0];
    // SAFETY: the kernel reads the three words, whose size is given.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_GET_FD_BY_ID,
            attributes.as_mut_ptr(),
            size_of_val(&attributes),
        )
    };
    let Some(fd) = i32::try_from(fd).ok().filter(|fd| *fd >= 0) else {
        return String::new();
    };
    // SAFETY: the kernel has just made this descriptor for us alone.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = [0_u8; NAME.end];
    let mut attributes = BpfInfo {
        bpf_fd: program.as_raw_fd().cast_unsigned(),
        info_len: 80,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel reads the structure, whose size is given, and writes at most
    // info_len bytes to info, which live through the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw mut attributes,
            size_of::<BpfInfo>(),
        )
    };
    if check(rc).is_err() {
        return String::new();
    }
    let name = info.get(NAME).unwrap_or_default();
    let name: Vec<u8> = name.iter().copied().take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&name).into_owned()
}

/// The members of union bpf_attr that `BPF_OBJ_GET_INFO_BY_FD` uses.
#[repr(C)]
struct BpfInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `bpf(BPF_PROG_QUERY)`: the ids of the programs at a cgroup; none where that is not
/// allowed.
pub(crate) fn bpf_programs_at(group: &impl AsFd) -> Vec<u32> {
    const BPF_PROG_QUERY: libc::c_long = 16;
    // enum bpf_attach_type: those for cgroups, device rules among them.
    const TYPES: [u32; 17] = [0, 1, 2, 3, 6, 8, 9, 10, 11, 12, 13, 14, 15, 18, 19, 20, 21];
    let mut all = Vec::new();
    for kind in TYPES {
        let mut ids = [0_u32; 64];
        let mut attributes = BpfQuery {
            target_fd: group.as_fd().as_raw_fd().cast_unsigned(),
            attach_type: kind,
            query_flags: 0,
            attach_flags: 0,
            prog_ids: ids.as_mut_ptr() as u64,
            prog_cnt: 64,
            padding: 0,
        };
        // SAFETY: the kernel reads and writes the structure, whose size is given, and
        // writes at most prog_cnt words to prog_ids, which live through the call.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_QUERY,
                &raw mut attributes,
                size_of::<BpfQuery>(),
            )
        };
        if check(rc).is_ok() {
            let count = usize::try_from(attributes.prog_cnt).unwrap_or(0);
            all.extend(ids.iter().take(count));
        }
    }
    all
}

/// The members of union bpf_attr that `BPF_PROG_QUERY` uses.
#[repr(C)]
struct BpfQuery {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// `seccomp(2)`: from here on every call of these numbers by this thread, and by all it
/// starts, waits for an answer through the descriptor.
pub(crate) fn seccomp_listener(calls: &[libc::c_long]) -> io::Result<OwnedFd> {
    // struct seccomp_data begins with the number of the call; see linux/bpf_common.h.
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let number = |call: &libc::c_long| u32::try_from(*call).unwrap_or(u32::MAX);
    let mut program = vec![step(LOAD_WORD, 0, 0)];
    for (index, call) in calls.iter().enumerate() {
        let behind = u8::try_from(calls.len() - index).expect("a list of few calls");
        program.push(step(JUMP_IF_EQUAL, behind, number(call)));
    }
    program.push(step(RETURN, 0, libc::SECCOMP_RET_ALLOW));
    program.push(step(RETURN, 0, libc::SECCOMP_RET_USER_NOTIF));
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("a list of few calls"),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program and its steps live through the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    check(fd)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// struct seccomp_notif: a call that waits for an answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notification {
    pub(crate) id: u64,
    pub(crate) pid: u32,
    flags: u32,
    /// The call's number.
    pub(crate) number: i32,
    architecture: u32,
    instruction: u64,
    pub(crate) arguments: [u64; 6],
}

/// struct seccomp_notif_resp.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NotificationAnswer {
    pub(crate) id: u64,
    pub(crate) value: i64,
    /// Negative.
    pub(crate) error: i32,
    pub(crate) flags: u32,
}

/// `ioctl(SECCOMP_IOCTL_NOTIF_RECV)`: waits for a call of a filtered process.
pub(crate) fn notification_receive(listener: &OwnedFd) -> io::Result<Notification> {
    const SECCOMP_IOCTL_NOTIF_RECV: libc::c_ulong = 0xc050_2100;
    let mut notification = Notification::default();
    let at = &raw mut notification;
    // SAFETY: the kernel writes the structure, whose size is in the request's number.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV, at) }.into())?;
    Ok(notification)
}

/// `ioctl(SECCOMP_IOCTL_NOTIF_SEND)`.
pub(crate) fn notification_send(listener: &OwnedFd, answer: NotificationAnswer) -> io::Result<()> {
    const SECCOMP_IOCTL_NOTIF_SEND: libc::c_ulong = 0xc018_2101;
    let at = &raw const answer;
    // SAFETY: the kernel reads the structure, whose size is in the request's number.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND, at) }.into())
}
