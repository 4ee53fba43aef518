//! What a process is: namespaces, signals, credentials, clone and exec.
//!
//! See clone(2), credentials(7), capabilities(7), signal(7), execve(2).

use core::ffi::CStr;

use super::memory::Table;
use super::numbers as nr;
use super::{Errno, Fd, Result, call, errno, fd, path, to_fd};

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

/// `setns(2)`: joins a namespace, or those of a pidfd's process that `kinds` names.
pub fn setns(from: Fd, kinds: u64) -> Result<()> {
    call(nr::SETNS, &[fd(from), kinds]).map(drop)
}

/// `ioctl(NS_GET_NSTYPE)`: the `CLONE_NEW*` of a namespace.
pub fn namespace_kind(namespace: Fd) -> Result<u64> {
    const NS_GET_NSTYPE: u64 = 0xb703;
    call(nr::IOCTL, &[fd(namespace), NS_GET_NSTYPE])
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

/// `umask(2)`: the mask that was set before.
pub fn umask(mask: u32) -> u32 {
    // This call has no errors.
    call(nr::UMASK, &[mask as u64]).unwrap_or_default() as u32
}

/// `setpriority(2)` of the calling process.
pub fn setpriority(nice: i32) -> Result<()> {
    call(nr::SETPRIORITY, &[0, 0, nice as i64 as u64]).map(drop)
}

/// `prlimit(2)` of the calling process.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    let words = [0, u64::from(resource), limit.as_ptr() as u64, 0];
    call(nr::PRLIMIT64, &words).map(drop)
}

/// `sched_setaffinity(2)` to all CPUs; the kernel keeps to the cpuset.
pub fn all_cpus() -> Result<()> {
    sched_setaffinity(&[u8::MAX; 1024])
}

/// `sched_setaffinity(2)` of the calling process, with CPUs as bits: whole 64-bit words.
pub fn sched_setaffinity(cpus: &[u8]) -> Result<()> {
    let (len, at) = (cpus.len() as u64, cpus.as_ptr() as u64);
    call(nr::SCHED_SETAFFINITY, &[0, len, at]).map(drop)
}

/// `set_mempolicy(2)` with nodes as they lie in a plan.
pub fn set_mempolicy(mode: u32, nodes: &[u8]) -> Result<()> {
    let (mask, bits) = match nodes.len() {
        0 => (0, 0),
        // The kernel takes one off.
        len => (
            nodes.as_ptr() as u64,
            (len as u64).wrapping_mul(8).wrapping_add(1),
        ),
    };
    call(nr::SET_MEMPOLICY, &[mode as u64, mask, bits]).map(drop)
}

/// `personality(2)`.
pub fn personality(persona: u32) -> Result<()> {
    call(nr::PERSONALITY, &[persona as u64]).map(drop)
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

/// `seccomp(SECCOMP_SET_MODE_FILTER)` with a program of 8 bytes per instruction. A
/// descriptor if `SECCOMP_FILTER_FLAG_NEW_LISTENER` is one of the flags.
pub fn set_seccomp_filter(program: &[u8], flags: u32) -> Result<Fd> {
    const SECCOMP_SET_MODE_FILTER: u64 = 1;
    // struct sock_fprog: u16 len, and a pointer at 8. The kernel copies the instructions.
    let instructions = program.len() as u64 / 8;
    let header = [instructions, program.as_ptr() as u64];
    call(
        nr::SECCOMP,
        &[
            SECCOMP_SET_MODE_FILTER,
            flags as u64,
            header.as_ptr() as u64,
        ],
    )
    .map(to_fd)
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

/// `clone(2)` as fork(2) does it; `flags` have a pidfd and the signal at the child's end.
/// `None` in the child; pid and pidfd in the parent.
///
/// The older call: profiles allow it more often than clone3(2).
pub fn fork(flags: u64) -> Result<Option<(i32, Fd)>> {
    let mut pidfd = -1i32;
    let pid = call(nr::CLONE, &[flags, 0, &raw mut pidfd as u64, 0, 0])?;
    Ok(if pid == 0 {
        None
    } else {
        Some((pid as i32, Fd(pidfd)))
    })
}

/// `getpid(2)`.
#[must_use]
pub fn getpid() -> u32 {
    // This call has no errors.
    call(nr::GETPID, &[]).unwrap_or_default() as u32
}

/// `setpgid(2)`: a process group of its own for the caller.
pub fn setpgid() -> Result<()> {
    call(nr::SETPGID, &[0, 0]).map(drop)
}

/// `kill(2)` with `SIGKILL`; below 0 a process group.
pub fn kill(pid: i32) -> Result<()> {
    const SIGKILL: u64 = 9;
    call(nr::KILL, &[pid as i64 as u64, SIGKILL]).map(drop)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `exit(2)` with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// `waitid(P_PIDFD, WEXITED)`: waits for a child.
pub fn wait(pidfd: Fd) -> Result<Ended> {
    waitid(pidfd, 0)
}

/// The same, for a child that may still be there.
pub fn wait_nohang(pidfd: Fd) -> Result<()> {
    const WNOHANG: u64 = 1;
    waitid(pidfd, WNOHANG).map(drop)
}

fn waitid(pidfd: Fd, options: u64) -> Result<Ended> {
    const P_PIDFD: u64 = 3;
    const WEXITED: u64 = 4;
    const CLD_EXITED: u32 = 1;
    // siginfo_t, 128 bytes: int si_code at 8, int si_status at 24.
    let mut info = [0u64; 16];
    let at = info.as_mut_ptr() as u64;
    call(nr::WAITID, &[P_PIDFD, fd(pidfd), at, WEXITED | options, 0])?;
    let [_, code, _, status, ..] = info;
    Ok(if code as u32 == CLD_EXITED {
        Ended::Code(status as i32)
    } else {
        Ended::Signal(status as i32)
    })
}

/// `struct timespec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Time {
    seconds: u64,
    nanoseconds: u64,
}

impl Time {
    /// A time of whole seconds.
    #[must_use]
    pub fn seconds(seconds: u64) -> Time {
        Time {
            seconds,
            nanoseconds: 0,
        }
    }

    /// A time in nanoseconds.
    #[must_use]
    pub fn nanoseconds(all: u64) -> Time {
        Time {
            seconds: all / 1_000_000_000,
            nanoseconds: all % 1_000_000_000,
        }
    }
}

/// `ppoll(2)` for input of some descriptors, whatever signal comes. One below 0 is left
/// out. The kernel takes what has gone by off the limit.
pub fn poll<const N: usize>(fds: [Fd; N], mut limit: Option<&mut Time>) -> Result<[bool; N]> {
    // struct pollfd: int fd, short events, short revents.
    const POLLIN: u64 = 1 << 32;
    loop {
        let mut polled = fds.map(|fd| fd.0 as u32 as u64 | POLLIN);
        let time = limit.as_mut().map_or(0, |time| &raw mut **time as u64);
        match call(
            nr::PPOLL,
            &[polled.as_mut_ptr() as u64, N as u64, time, 0, 0],
        ) {
            Ok(_) => return Ok(polled.map(|fd| fd >> 48 != 0)),
            Err(error) if error.0 == errno::EINTR => {}
            Err(error) => return Err(error),
        }
    }
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
