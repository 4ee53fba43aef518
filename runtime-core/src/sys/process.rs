//! Processes by pidfd: wait, what became of them, signals, limits.
//!
//! See pidfd_open(2), waitid(2), prlimit(2) and linux/pidfd.h.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::{call, last_errno};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// `exit(2)` with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Ended {
    /// From the number that wait(2) and the kernel's files give.
    pub(crate) fn from_wait_status(status: i32) -> Ended {
        match status & 0x7f {
            0 => Ended::Code(status >> 8 & 0xff),
            signal => Ended::Signal(signal),
        }
    }
}

/// What a process used, see getrusage(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_rss: u64,
}

/// `clock_gettime(CLOCK_MONOTONIC)`.
///
/// By the C library: rustix panics where the vDSO does not have every function that it
/// looks for, as that of User Mode Linux 7.2, which lacks getcpu.
pub(crate) fn monotonic() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writes through the call. It fails only for an unknown
    // clock; the time is then 0.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    seconds + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// Whether the calling thread is the one that its program began with.
///
/// By the C library: rustix panics where a filter refuses one of these calls.
pub(crate) fn is_first_thread() -> bool {
    // SAFETY: neither takes or touches any memory.
    let (thread, first) = unsafe { (libc::gettid(), libc::getpid()) };
    thread == first
}

/// `waitid(P_PIDFD, WEXITED)`: reaps a child, with its usage.
///
/// `ECHILD` when the process is no child of the caller, or was reaped by somebody else.
pub(crate) fn wait_child(pidfd: BorrowedFd<'_>) -> Result<(Ended, Usage), Errno> {
    loop {
        match call("waitid", || waitid(pidfd)) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn waitid(pidfd: BorrowedFd<'_>) -> Result<(Ended, Usage), Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both structures are valid for writes through the call; the raw call is
    // used since the C library's waitid has no rusage.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            info.as_mut_ptr(),
            libc::WEXITED,
            usage.as_mut_ptr(),
        )
    };
    if rc != 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has filled both; zero is a valid value of every field too.
    let (info, usage) = unsafe { (info.assume_init(), usage.assume_init()) };
    // SAFETY: waitid fills the child's fields of the union.
    let status = unsafe { info.si_status() };
    let ended = if info.si_code == libc::CLD_EXITED {
        Ended::Code(status)
    } else {
        Ended::Signal(status)
    };
    let time = |tv: libc::timeval| {
        Duration::from_secs(tv.tv_sec.unsigned_abs())
            + Duration::from_micros(tv.tv_usec.unsigned_abs())
    };
    let usage = Usage {
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
        max_rss: usage.ru_maxrss.unsigned_abs() * 1024,
    };
    Ok((ended, usage))
}

/// Reaps a child that has ended or is about to. Somebody else may have done it: the
/// embedder ignores `SIGCHLD`, or waits for all children. Either way it is gone.
pub(crate) fn reap(pidfd: &OwnedFd) {
    if let Err(errno) = wait_child(pidfd.as_fd()) {
        log::debug!("a child was reaped by somebody else: {errno}");
    }
}

/// Whether this is a child of the caller that nobody has reaped.
pub(crate) fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    call("waitid", || waitid(WaitId::PidFd(pidfd), options)).is_ok()
}

/// `ioctl(PIDFD_GET_INFO)`: how a reaped process ended, where the kernel keeps that
/// (Linux 6.15 and newer); `None` where it does not, or nobody has reaped it yet.
pub(crate) fn ended_by_info(pidfd: BorrowedFd<'_>) -> Option<Ended> {
    /// `struct pidfd_info` up to `exit_code`, 64 bytes.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup_id: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xff, 11, 64)
    const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;
    let mut info = Info {
        mask: PIDFD_INFO_EXIT,
        ..Info::default()
    };
    call("ioctl", || {
        // SAFETY: the structure has the size that the request's number tells.
        match unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) } {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    })
    .ok()?;
    if info.mask & PIDFD_INFO_EXIT == 0 {
        return None;
    }
    Some(Ended::from_wait_status(info.exit_code))
}

/// Whether the process has ended; waits for it no longer than `timeout` (`None`: for as
/// long as it takes).
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<bool, Errno> {
    let ready = poll_in(&[pidfd], timeout)?;
    Ok(ready.first().is_some_and(|ready| *ready))
}

/// `poll(2)` for input: which of the descriptors have it, or are at their end. All false
/// when the time is over.
pub(crate) fn poll_in(
    fds: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> Result<Vec<bool>, Errno> {
    let deadline = timeout.map(|timeout| std::time::Instant::now() + timeout);
    loop {
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let left = deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match call("ppoll", || rustix::event::poll(&mut polled, left.as_ref())) {
            Ok(_) => return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// `getuid(2)`.
pub(crate) fn getuid() -> Result<u32, Errno> {
    call("getuid", || Ok(rustix::process::getuid().as_raw()))
}

/// `getegid(2)`.
pub(crate) fn getegid() -> Result<u32, Errno> {
    call("getegid", || Ok(rustix::process::getegid().as_raw()))
}

/// `geteuid(2)`.
pub(crate) fn geteuid() -> Result<u32, Errno> {
    call("geteuid", || Ok(rustix::process::geteuid().as_raw()))
}

/// `pidfd_open(2)`; a number that is no pid is `ESRCH`.
///
/// Also one that is only a process group's or a session's any more, because the process
/// it was is gone and others of the group are not: Linux 6.1 calls that `EINVAL`.
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    let pid = Some(pid).filter(|pid| *pid > 0);
    let pid = pid.and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let opened = call("pidfd_open", || {
        rustix::process::pidfd_open(pid, PidfdFlags::empty())
    });
    opened.map_err(|errno| match errno {
        Errno::INVAL => Errno::SRCH,
        other => other,
    })
}

/// The path of the file that a process executes, as proc_pid_exe(5) tells it to who may trace
/// the process; `ENOENT` for a zombie.
pub(crate) fn program(pid: i32) -> Result<Vec<u8>, Errno> {
    let path = call("readlinkat", || {
        rustix::fs::readlink(format!("/proc/{pid}/exe"), Vec::new())
    });
    path.map(std::ffi::CString::into_bytes)
}

/// The inode of a pidfd, which no other process since boot has: of pidfs, so on Linux 6.9
/// and newer.
pub(crate) fn pidfd_inode(pidfd: BorrowedFd<'_>) -> Result<Option<u64>, Errno> {
    /// Of linux/magic.h.
    const PID_FS_MAGIC: i64 = 0x5049_4446;
    let system = call("fstatfs", || rustix::fs::fstatfs(pidfd))?;
    let stat = call("fstat", || rustix::fs::fstat(pidfd))?;
    Ok((system.f_type == PID_FS_MAGIC).then_some(stat.st_ino))
}

/// The highest capability that the kernel knows: `prctl(PR_CAPBSET_READ)` takes no other.
///
/// Asked so because /proc/sys/kernel/cap_last_cap has to be opened, read and closed.
pub(crate) fn last_cap() -> Result<u32, Errno> {
    // CAP_CHECKPOINT_RESTORE, the last one for many years.
    let mut cap = 40;
    while cap > 0 && !knows_cap(cap)? {
        cap -= 1;
    }
    while cap < 63 && knows_cap(cap + 1)? {
        cap += 1;
    }
    Ok(cap)
}

fn knows_cap(cap: u32) -> Result<bool, Errno> {
    // SAFETY: only numbers are passed.
    let ask = || match unsafe { libc::prctl(libc::PR_CAPBSET_READ, cap) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    };
    match call("prctl", ask) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether `pidfd_getfd(2)` is there: it is asked for a descriptor of nobody.
pub(crate) fn has_pidfd_getfd() -> bool {
    // SAFETY: only numbers are passed, and -1 is no descriptor.
    let nobody = || match unsafe { libc::syscall(libc::SYS_pidfd_getfd, -1, 0, 0) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    };
    call("pidfd_getfd", nobody) == Err(Errno::BADF)
}

/// `pidfd_getfd(2)`: a copy of another process's descriptor.
pub(crate) fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: i32) -> Result<OwnedFd, Errno> {
    let flags = rustix::process::PidfdGetfdFlags::empty();
    call("pidfd_getfd", || {
        rustix::process::pidfd_getfd(pidfd, number, flags)
    })
}

/// `pidfd_send_signal(2)`, with any number that the kernel takes.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    call("pidfd_send_signal", || {
        // SAFETY: only numbers and a null pointer are passed.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// `SIGKILL` by pidfd; a process that is gone already is no error.
pub(crate) fn kill(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    match call("pidfd_send_signal", || {
        rustix::process::pidfd_send_signal(pidfd, Signal::KILL)
    }) {
        Err(Errno::SRCH) => Ok(()),
        other => other,
    }
}

/// `prlimit(2)` of another process; `u64::MAX` is no limit.
pub(crate) fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    call("prlimit", || {
        // SAFETY: the new limit is valid for reads, the old one is not asked for.
        // The type of a resource is the C library's own.
        let rc =
            unsafe { libc::prlimit(pid, resource as _, &raw const limit, std::ptr::null_mut()) };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })
}
