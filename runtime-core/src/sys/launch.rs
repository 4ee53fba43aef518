//! Starting init: `clone3(2)` and `execveat(2)` without a copy of the caller's memory.
//!
//! The child shares the caller's memory (`CLONE_VM|CLONE_VFORK`), whatever its size, and runs on a
//! stack of its own until it has executed init. In between it makes raw system calls
//! only: it must not allocate, lock or touch thread-local storage, since other threads
//! of the program may hold any lock.

use std::arch::asm;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Pid;

use super::{call, last_errno};

/// Bytes of the child's stack, and of its guard's; they use a few hundred.
const STACK: usize = 16 << 10;

/// How long a child may take from its clone to its exec. Only a frozen cgroup or a dying
/// machine keeps it from that.
const LIMIT: Duration = Duration::from_secs(10);

// Of linux/sched.h; they are too wide for libc's type.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a launch needs.
pub(crate) struct Launch<'a> {
    /// `CLONE_NEW*`.
    pub(crate) namespaces: u64,
    /// The cgroup to be born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// The program, an open file.
    pub(crate) program: BorrowedFd<'a>,
    /// argv\[1\].
    pub(crate) argument: &'a CStr,
    /// Descriptors that the program keeps.
    pub(crate) inherit: &'a [RawFd],
    /// Soft and hard `RLIMIT_NOFILE`; none: the caller's.
    pub(crate) nofile: Option<[u64; 2]>,
}

/// A started process: a child of the caller that sends `SIGCHLD`.
pub(crate) struct Launched {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
}

/// `struct clone_args` of linux/sched.h.
#[repr(C)]
#[derive(Default)]
pub(super) struct CloneArgs {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

/// What the child sees.
struct Child {
    program: RawFd,
    argv: [*const c_char; 3],
    envp: [*const c_char; 1],
    inherit: *const RawFd,
    inherit_len: usize,
    nofile: Option<[u64; 2]>,
    /// errno of the call that failed, written by the child.
    failed: AtomicI32,
    /// Cleared by the kernel when the child leaves this memory: by exec or by its end.
    alive: AtomicU32,
    /// Stored by the kernel.
    pidfd: AtomicI32,
}

impl Child {
    /// Its pidfd, once the kernel has stored it.
    fn pidfd(&self) -> Option<RawFd> {
        let number = self.pidfd.load(Ordering::Acquire);
        (number >= 0).then_some(number)
    }
}

#[repr(C, align(16))]
pub(super) struct Stack([MaybeUninit<u8>; STACK]);

impl Stack {
    /// Bytes of it.
    pub(super) const SIZE: u64 = STACK as u64;

    pub(super) fn new() -> Box<Stack> {
        let stack = Box::<Stack>::new_uninit();
        // SAFETY: bytes that may be uninitialised. Zeros would be written to all its pages.
        unsafe { stack.assume_init() }
    }

    /// The lowest address.
    pub(super) fn start(&mut self) -> u64 {
        self.0.as_mut_ptr() as u64
    }
}

/// Why there is no child.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotBorn {
    /// The caller could not have the thread that watches the time.
    Guard(Errno),
    /// The child could not be made, or not execute the program.
    Child(Errno),
}

impl From<NotBorn> for Errno {
    fn from(why: NotBorn) -> Errno {
        match why {
            NotBorn::Guard(errno) | NotBorn::Child(errno) => errno,
        }
    }
}

impl From<Errno> for NotBorn {
    fn from(errno: Errno) -> NotBorn {
        NotBorn::Child(errno)
    }
}

/// Starts the program; comes back when it runs.
pub(crate) fn launch(launch: &Launch<'_>) -> Result<Launched, NotBorn> {
    let mut started = Err(NotBorn::Child(Errno::INVAL));
    // The one door takes an errno.
    call("clone3", || {
        started = with_signals_blocked(|| start(launch));
        Ok(())
    })?;
    started
}

fn start(launch: &Launch<'_>) -> Result<Launched, NotBorn> {
    let birth = Birth::new(launch);
    let (birth, pid) = if launch.cgroup.is_some() {
        guarded(birth)?
    } else {
        let pid = birth.give()?;
        (birth, pid)
    };
    // SAFETY: the kernel has stored a new descriptor, which nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(birth.child.pidfd.load(Ordering::Acquire)) };
    match birth.child.failed.load(Ordering::Acquire) {
        0 => Ok(Launched { pid, pidfd }),
        // Two short words are not too long: there was no memory to copy them to.
        libc::E2BIG => {
            super::process::reap(&pidfd);
            Err(Errno::NOMEM.into())
        }
        errno => {
            super::process::reap(&pidfd);
            Err(Errno::from_raw_os_error(errno).into())
        }
    }
}

/// All that the child uses of this program's memory.
struct Birth {
    args: CloneArgs,
    child: Box<Child>,
    _stack: Box<Stack>,
    _argument: CString,
    _inherit: Vec<RawFd>,
}

impl Birth {
    fn new(launch: &Launch<'_>) -> Birth {
        let mut stack = Stack::new();
        let argument = launch.argument.to_owned();
        let inherit = launch.inherit.to_vec();
        let child = Box::new(Child {
            program: launch.program.as_raw_fd(),
            argv: [c"corten-init".as_ptr(), argument.as_ptr(), std::ptr::null()],
            envp: [std::ptr::null()],
            inherit: inherit.as_ptr(),
            inherit_len: inherit.len(),
            nofile: launch.nofile,
            failed: AtomicI32::new(0),
            alive: AtomicU32::new(1),
            pidfd: AtomicI32::new(-1),
        });
        let mut flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64
            | libc::CLONE_PIDFD as u64
            | libc::CLONE_CHILD_CLEARTID as u64
            | CLONE_CLEAR_SIGHAND
            | launch.namespaces;
        if launch.cgroup.is_some() {
            flags |= CLONE_INTO_CGROUP;
        }
        let args = CloneArgs {
            flags,
            pidfd: child.pidfd.as_ptr() as u64,
            child_tid: child.alive.as_ptr() as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.start(),
            stack_size: Stack::SIZE,
            cgroup: launch.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
            ..CloneArgs::default()
        };
        Birth {
            args,
            child,
            _stack: stack,
            _argument: argument,
            _inherit: inherit,
        }
    }

    /// Makes the child; comes back when it has left this memory.
    fn give(&self) -> Result<Pid, Errno> {
        let child: *const Child = &raw const *self.child;
        // SAFETY: the flags ask for a child on a stack that is aligned, large enough and lives
        // as long as this value, which the caller borrows until the child has left (vfork).
        unsafe { clone_and_run(&self.args, child.cast(), child_main) }
    }
}

/// A thread that ends a child which takes too long, and what both use.
struct Guard {
    birth: Birth,
    stack: Box<Stack>,
    /// Cleared by the kernel when the thread has ended.
    alive: AtomicU32,
    /// Set by the thread when the time was over.
    expired: AtomicBool,
}

/// Makes a child that is born in a cgroup, and waits for it no longer than for the limit.
///
/// A vforking thread waits as long as the cgroup is frozen, so that another one is needed to
/// end that. Without vfork, if the cgroup has no memory for the exec, the kernel would kill
/// the child and with it every process that shares its memory: this one. (`in_vfork` in
/// mm/oom_kill.c)
///
/// The guard is the kernel's thread only: it waits, kills perhaps, and ends, so it needs none
/// of what the C library sets up for a thread, which takes longer than all the rest of it. And
/// since it is not the one that clones, nobody waits until it has found a CPU.
fn guarded(birth: Birth) -> Result<(Birth, Pid), NotBorn> {
    // Nobody frees it, on whatever way out, before the thread has ended.
    let mut guard = ManuallyDrop::new(Box::new(Guard {
        birth,
        stack: Stack::new(),
        alive: AtomicU32::new(1),
        expired: AtomicBool::new(false),
    }));
    let shared = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
    let flags = shared | libc::CLONE_THREAD | libc::CLONE_SYSVSEM | libc::CLONE_CHILD_CLEARTID;
    let args = CloneArgs {
        flags: flags as u64,
        child_tid: guard.alive.as_ptr() as u64,
        stack: guard.stack.start(),
        stack_size: Stack::SIZE,
        ..CloneArgs::default()
    };
    let this: *const Guard = &raw const **guard;
    // SAFETY: a thread on a stack of its own; that and `guard` are kept until it has ended.
    let started = unsafe { clone_and_run(&args, this.cast(), guard_main) };
    if let Err(errno) = started {
        drop(ManuallyDrop::into_inner(guard));
        return Err(NotBorn::Guard(errno));
    }
    let made = guard.birth.give();
    if made.is_err() {
        wake(&guard.birth.child.alive);
    }
    // It has nothing to wait for any more: only a stop of the whole program keeps it.
    while !wait_zero(&guard.alive, Instant::now() + LIMIT) {}
    let Guard { birth, expired, .. } = *ManuallyDrop::into_inner(guard);
    if expired.into_inner() {
        let failed = birth.child.failed.load(Ordering::Acquire);
        if failed == 0 {
            birth.child.failed.store(libc::ETIMEDOUT, Ordering::Release);
        }
    }
    Ok((birth, made?))
}

/// As the kernel does it to the word of who has left.
fn wake(word: &AtomicU32) {
    word.store(0, Ordering::Release);
    let futex = [word.as_ptr() as u64, libc::FUTEX_WAKE as u64, 1, 0, 0];
    raw_call(libc::SYS_futex, futex);
}

/// All that the thread does. Raw system calls only: thread-local storage is its maker's.
extern "C" fn guard_main(guard: *const c_void) -> ! {
    // SAFETY: `guarded` passes a `Guard` and keeps it alive until this thread has ended.
    let guard = unsafe { &*guard.cast::<Guard>() };
    let child = &*guard.birth.child;
    let limit = libc::timespec {
        tv_sec: LIMIT.as_secs() as _,
        tv_nsec: 0,
    };
    let word = child.alive.as_ptr() as u64;
    let wait = [word, libc::FUTEX_WAIT as u64, 1, &raw const limit as u64, 0];
    // Until the child has left this memory, by exec or by its end.
    while child.alive.load(Ordering::Acquire) != 0 {
        let waited = raw_call(libc::SYS_futex, wait);
        // Without a descriptor its maker was not let run either.
        if waited == -i64::from(libc::ETIMEDOUT)
            && let Some(pidfd) = child.pidfd()
        {
            let kill = [pidfd as u64, libc::SIGKILL as u64, 0, 0, 0];
            // A number that is no descriptor yet belongs to a child that is not let be made.
            if raw_call(libc::SYS_pidfd_send_signal, kill) == 0 {
                guard.expired.store(true, Ordering::Release);
            }
        }
    }
    loop {
        raw_call(libc::SYS_exit, [0, 0, 0, 0, 0]);
    }
}

/// `futex(2)`: waits until the word is zero; false when the time is over first.
pub(super) fn wait_zero(word: &AtomicU32, deadline: Instant) -> bool {
    loop {
        let value = word.load(Ordering::Acquire);
        if value == 0 {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let timeout = libc::timespec {
            tv_sec: left.as_secs() as _,
            tv_nsec: libc::c_long::from(left.subsec_nanos()),
        };
        // SAFETY: the word and the timeout live through the call. Not a private futex:
        // the kernel wakes the child's tid word as a shared one. Its result does not
        // matter: the word is looked at again.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                value,
                &raw const timeout,
                std::ptr::null::<c_void>(),
                0,
            );
        }
    }
}

/// Blocks every signal of the calling thread meanwhile: a handler must not run in the
/// child, on its small stack, with the caller's memory. Init unblocks them.
///
/// By raw calls: musl's own take the signals that it uses itself out of both masks, and would
/// leave one of them, glibc's first real-time signal, unblocked where the caller has blocked it.
pub(super) fn with_signals_blocked<T>(run: impl FnOnce() -> T) -> T {
    let old = signal_mask(u64::MAX);
    let result = run();
    signal_mask(old);
    result
}

/// `rt_sigprocmask(2)` with SIG_SETMASK; what the mask was, a bit per signal from 1.
fn signal_mask(mask: u64) -> u64 {
    let mut old = 0_u64;
    let [how, size] = [libc::SIG_SETMASK as u64, size_of::<u64>() as u64];
    let [new, old_at] = [&raw const mask as u64, &raw mut old as u64];
    // It fails for a bad size or address only.
    raw_call(libc::SYS_rt_sigprocmask, [how, new, old_at, size, 0]);
    old
}

/// `clone3(2)`; the child calls `main` on its stack and never returns.
///
/// # Safety
/// `args` asks for a child with its own, valid stack, and `child` is what `main` takes and
/// outlives its use. `main` makes raw system calls only.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn clone_and_run(
    args: &CloneArgs,
    child: *const c_void,
    main: extern "C" fn(*const c_void) -> !,
) -> Result<Pid, Errno> {
    let ret: i64;
    // SAFETY: by this function's contract; the child leaves by `call` and never comes
    // back to this frame, whose registers the parent keeps.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => ret,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") child,
            in("r13") main,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    to_pid(ret)
}

/// `clone3(2)`; the child calls `main` on its stack and never returns.
///
/// # Safety
/// `args` asks for a child with its own, valid stack, and `child` is what `main` takes and
/// outlives its use. `main` makes raw system calls only.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn clone_and_run(
    args: &CloneArgs,
    child: *const c_void,
    main: extern "C" fn(*const c_void) -> !,
) -> Result<Pid, Errno> {
    let ret: i64;
    // SAFETY: by this function's contract; the child leaves by `blr` and never comes
    // back to this frame, whose registers the parent keeps.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args as *const CloneArgs as i64 => ret,
            in("x1") size_of::<CloneArgs>(),
            in("x20") child,
            in("x21") main,
        );
    }
    to_pid(ret)
}

fn to_pid(ret: i64) -> Result<Pid, Errno> {
    // `Pid` takes no negative number, not even to refuse it.
    let pid = i32::try_from(ret).ok().filter(|pid| *pid > 0);
    pid.and_then(Pid::from_raw)
        .ok_or_else(|| Errno::from_raw_os_error(ret.unsigned_abs() as i32))
}

/// The child, until it has executed the program.
extern "C" fn child_main(child: *const c_void) -> ! {
    // SAFETY: `Birth::give` passes a `Child`, which is kept until this process has left its
    // memory.
    let child = unsafe { &*child.cast::<Child>() };
    for index in 0..child.inherit_len {
        // SAFETY: `inherit` points to `inherit_len` numbers, which the parent keeps.
        let fd = unsafe { *child.inherit.add(index) };
        raw_call(libc::SYS_fcntl, [fd as u64, libc::F_SETFD as u64, 0, 0, 0]);
    }
    let limited = child.nofile.map_or(0, |limits| {
        // Two words, as `struct rlimit64` has them; 0 is the caller.
        let limits = limits.as_ptr() as u64;
        let nofile = libc::RLIMIT_NOFILE as u64;
        raw_call(libc::SYS_prlimit64, [0, nofile, limits, 0, 0])
    });
    let execute = || {
        raw_call(
            libc::SYS_execveat,
            [
                child.program as u64,
                c"".as_ptr() as u64,
                child.argv.as_ptr() as u64,
                child.envp.as_ptr() as u64,
                libc::AT_EMPTY_PATH as u64,
            ],
        )
    };
    let ret = if limited == 0 { execute() } else { limited };
    child
        .failed
        .store(ret.unsigned_abs() as i32, Ordering::Release);
    loop {
        raw_call(libc::SYS_exit, [127, 0, 0, 0, 0]);
    }
}

/// A system call without errno, which is thread-local and here the parent's.
pub(super) fn raw_call(number: i64, args: [u64; 5]) -> i64 {
    let [a0, a1, a2, a3, a4] = args;
    let ret: i64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the callers pass pointers that are valid for their call.
    unsafe {
        asm!("syscall", inlateout("rax") number => ret, in("rdi") a0, in("rsi") a1,
             in("rdx") a2, in("r10") a3, in("r8") a4, lateout("rcx") _, lateout("r11") _,
             options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the callers pass pointers that are valid for their call.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a0 as i64 => ret, in("x1") a1,
             in("x2") a2, in("x3") a3, in("x4") a4, options(nostack));
    }
    ret
}

/// Whether `clone3(2)` may be called: an argument of size 0 is EINVAL where it may.
pub(crate) fn has_clone3() -> bool {
    let probed = call("clone3", || {
        // SAFETY: the kernel looks at the size first and at no memory.
        let rc = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<CloneArgs>(), 0) };
        match rc {
            -1 => Err(last_errno()),
            _ => Ok(()),
        }
    });
    probed == Err(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_signals_is_as_it_was_behind_a_launch() {
        let mine = 1 << (34 - 1) | 1 << (libc::SIGUSR1 - 1);
        let before = signal_mask(mine);
        let meanwhile = with_signals_blocked(|| {
            let meanwhile = signal_mask(u64::MAX);
            signal_mask(meanwhile);
            meanwhile
        });
        assert_eq!(signal_mask(before), mine);
        // But SIGKILL and SIGSTOP.
        assert_eq!(meanwhile, !(1 << 8 | 1 << 18));
    }

    #[test]
    fn a_clone_gives_a_pid_or_an_errno() {
        assert_eq!(to_pid(7), Ok(Pid::from_raw(7).unwrap()));
        assert_eq!(to_pid(-24), Err(Errno::MFILE));
    }
}
