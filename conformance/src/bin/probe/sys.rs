//! The entry point and the system calls that rustix does not have.
//!
//! The only unsafe code of the probe. One wrapper per call, named like its man page.
#![allow(
    unsafe_code,
    reason = "raw system calls; every block says why it is sound"
)]

use std::ffi::{CStr, c_char, c_int, c_long};
use std::io::Write as _;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// Where the C library starts the program.
///
/// Not Rust's own `main`: its runtime would ignore SIGPIPE, catch SIGSEGV and open
/// /dev/null on missing standard fds before the probe could look at them.
// SAFETY: this is the one definition of `main`, with the C signature.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    let code = crate::run();
    // Nobody else flushes: Rust's runtime, which would, was not started.
    match std::io::stdout().flush() {
        Ok(()) => code,
        Err(_) => code.max(1),
    }
}

fn check(rc: c_long) -> Result<c_long, Errno> {
    if rc < 0 {
        let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(Errno::from_raw_os_error(code));
    }
    Ok(rc)
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

/// `mmap(2)` of so many bytes of huge pages, each of which is written to.
pub(crate) fn use_huge_pages(bytes: usize) -> Result<(), Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping anywhere; nothing that is mapped is touched.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return check(-1).map(drop);
    }
    // SAFETY: `bytes` bytes from `start` on are mapped, writable and nobody else's; they stay
    // mapped until the program ends.
    unsafe { start.cast::<u8>().write_bytes(1, bytes) };
    Ok(())
}

/// An fd that some other program gave us by number, if it is open.
pub(crate) fn inherited_fd(number: i32) -> Option<BorrowedFd<'static>> {
    // SAFETY: F_GETFD only looks the number up.
    if number < 0 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open, and the probe closes no fd that it did not open itself.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

/// `personality(2)` with a new one; the one before.
pub(crate) fn set_personality(persona: u32) -> Result<c_long, Errno> {
    // SAFETY: a plain number.
    check(unsafe { libc::personality(persona.into()) }.into())
}

/// `getpgid(2)` of this process. 0 if the group's leader is outside the pid namespace,
/// a number that rustix does not expect.
pub(crate) fn getpgid() -> c_int {
    // SAFETY: plain numbers.
    unsafe { libc::getpgid(0) }
}

/// `getsid(2)` of this process. 0 as for [`getpgid`].
pub(crate) fn getsid() -> c_int {
    // SAFETY: plain numbers.
    unsafe { libc::getsid(0) }
}

/// `sched_getscheduler(2)` of this thread.
pub(crate) fn sched_getscheduler() -> Result<c_long, Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) })
}

/// The static priority that `sched_getparam(2)` gives for this thread.
pub(crate) fn sched_getparam() -> Result<i32, Errno> {
    let mut priority: c_int = 0;
    // SAFETY: struct sched_param is one int, and `priority` lives through the call.
    check(unsafe { libc::syscall(libc::SYS_sched_getparam, 0, &raw mut priority) })?;
    Ok(priority)
}

/// Runtime, deadline and period that `sched_getattr(2)` gives for this thread.
pub(crate) fn sched_getattr() -> Result<[u64; 3], Errno> {
    // struct sched_attr, 48 bytes in its first size: the three are its last.
    let mut attr = [0_u64; 6];
    let (at, size) = (attr.as_mut_ptr(), size_of_val(&attr));
    // SAFETY: the kernel writes at most the size that it is told.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, at, size, 0) })?;
    Ok([attr[3], attr[4], attr[5]])
}

/// `get_mempolicy(2)`: mode with flags, and the nodes below 64 as bits.
pub(crate) fn get_mempolicy() -> Result<(c_int, u64), Errno> {
    let mut mode: c_int = 0;
    let mut nodes = [0_u64; 16];
    let (mask, bits) = (nodes.as_mut_ptr(), size_of_val(&nodes) * 8);
    let null = std::ptr::null::<u8>();
    // SAFETY: the kernel writes as many bits as it is told, and one int.
    check(unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, mask, bits, null, 0) })?;
    Ok((mode, nodes[0]))
}

/// `ioprio_get(2)` of this process: class and priority.
pub(crate) fn ioprio_get() -> Result<(c_long, c_long), Errno> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    // SAFETY: plain numbers.
    let value = check(unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) })?;
    Ok((value >> 13, value & 0x1fff))
}

/// The execution domain, by `personality(2)`.
pub(crate) fn personality() -> Result<c_long, Errno> {
    // SAFETY: 0xffffffff asks and changes nothing.
    check(unsafe { libc::syscall(libc::SYS_personality, 0xffff_ffff_u64) })
}

/// The session keyring's serial number, without making one.
pub(crate) fn session_keyring() -> Result<c_long, Errno> {
    const KEYCTL_GET_KEYRING_ID: c_int = 0;
    const KEY_SPEC_SESSION_KEYRING: c_int = -3;
    // SAFETY: plain numbers; 0 forbids creation.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_GET_KEYRING_ID,
            KEY_SPEC_SESSION_KEYRING,
            0,
        )
    })
}

/// What `KEYCTL_DESCRIBE` says about a key: "type;uid;gid;perm;name".
pub(crate) fn key_description(key: c_long) -> Result<String, Errno> {
    const KEYCTL_DESCRIBE: c_int = 6;
    let mut buffer = [0_u8; 256];
    // SAFETY: the kernel writes at most `buffer.len()` bytes to the buffer.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_DESCRIBE,
            key,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    let length = usize::try_from(length).unwrap_or(0).min(buffer.len());
    Ok(String::from_utf8_lossy(&buffer[..length])
        .trim_end_matches('\0')
        .to_owned())
}

/// How a signal is handled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// `SIG_DFL`.
    Default,
    /// `SIG_IGN`.
    Ignored,
    /// A handler is installed.
    Caught,
}

/// `rt_sigaction(2)`, asking only. Unlike the C library's it knows all 64 signals.
pub(crate) fn disposition(signal: c_int) -> Result<Disposition, Errno> {
    // struct sigaction of the kernel starts with the handler and is under 64 bytes.
    let mut action = [0_usize; 8];
    // SAFETY: a null new action only asks; the buffer is larger than the structure.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            std::ptr::null::<u8>(),
            action.as_mut_ptr(),
            SIGSET_BYTES,
        )
    })?;
    Ok(match action[0] {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignored,
        _ => Disposition::Caught,
    })
}

const SIGSET_BYTES: usize = 8;

/// The blocked signals as bits, signal 1 lowest.
pub(crate) fn blocked_signals() -> Result<u64, Errno> {
    let mut set = 0_u64;
    // SAFETY: a null new set only asks; the kernel's set has 8 bytes.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            std::ptr::null::<u8>(),
            &raw mut set,
            SIGSET_BYTES,
        )
    })?;
    Ok(set)
}

/// The pending signals as bits, signal 1 lowest.
pub(crate) fn pending_signals() -> Result<u64, Errno> {
    let mut set = 0_u64;
    // SAFETY: the kernel writes 8 bytes.
    check(unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, SIGSET_BYTES) })?;
    Ok(set)
}

/// Blocks every signal and waits for one: its number.
pub(crate) fn wait_for_signal(ready: impl FnOnce()) -> Result<c_int, Errno> {
    let all = u64::MAX;
    // SAFETY: the set is 8 bytes and lives through the call; no old set is asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const all,
            std::ptr::null::<u8>(),
            SIGSET_BYTES,
        )
    })?;
    ready();
    // SAFETY: no siginfo and no timeout are asked for; the set lives through the call.
    let signal = check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            std::ptr::null::<u8>(),
            std::ptr::null::<u8>(),
            SIGSET_BYTES,
        )
    })?;
    Ok(c_int::try_from(signal).unwrap_or(0))
}

/// Ignores one signal.
pub(crate) fn ignore(signal: c_int) {
    // SAFETY: SIG_IGN is no code of ours that could run in a handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sends a signal to this process itself.
pub(crate) fn raise(signal: c_int) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_kill, libc::getpid(), signal) }).map(drop)
}

/// Leaves the directory itself: glibc's `_exit(2)`, without any clean-up.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: never returns; nothing needs a destructor.
    unsafe { libc::_exit(code) }
}

/// Every network interface: name and flags, by `getifaddrs(3)`.
pub(crate) fn interfaces() -> Vec<(String, u32)> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    let mut found = std::collections::BTreeMap::new();
    // SAFETY: the call fills `list`, or fails and leaves it null.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Vec::new();
    }
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: a non-null entry of the list is valid until freeifaddrs, its name a C string.
        let (name, flags, next) =
            unsafe { ((*entry).ifa_name, (*entry).ifa_flags, (*entry).ifa_next) };
        // SAFETY: see above.
        let name = unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned();
        found.insert(name, flags);
        entry = next;
    }
    // SAFETY: `list` came from getifaddrs and no pointer into it is kept.
    unsafe { libc::freeifaddrs(list) };
    found.into_iter().collect()
}

/// The name of an errno, `EACCES`; `None` for a number that has none.
pub(crate) fn errno_name(code: c_int) -> Option<&'static str> {
    // SAFETY: the declaration is that of <string.h>.
    unsafe extern "C" {
        /// glibc's; the `libc` crate does not declare it.
        fn strerrorname_np(code: c_int) -> *const c_char;
    }
    // SAFETY: takes any number.
    let name = unsafe { strerrorname_np(code) };
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, so a C string of static storage.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}
