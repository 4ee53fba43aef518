//! Starting init: `clone3(2)` and `execveat(2)` without a copy of the caller's memory.
//!
//! The child shares the caller's memory (`CLONE_VM|CLONE_VFORK`), whatever its size, and runs on a
//! stack of its own until it has executed init. In between it makes raw system calls
//! only: it must not allocate, lock or touch thread-local storage, since other threads
//! of the program may hold any lock.

mod futex;
mod guard;

use std::arch::asm;
use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

pub(super) use futex::wait_zero;
pub(crate) use guard::Guard;

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
    /// What has made some of the namespaces already, perhaps.
    pub(crate) guard: Option<Guard>,
}

/// A started process: a child of the caller that sends `SIGCHLD`.
pub(crate) struct Launched {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    /// The thread that has watched it, which is ending.
    pub(crate) guard: Option<Guard>,
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
    /// Namespaces that were made before; below 0: none.
    join: [RawFd; guard::KINDS.len()],
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
pub(crate) fn launch(launch: Launch<'_>) -> Result<Launched, NotBorn> {
    let mut started = Err(NotBorn::Child(Errno::INVAL));
    // The one door takes an errno.
    call("clone3", || {
        started = with_signals_blocked(|| start(launch));
        Ok(())
    })?;
    started
}

fn start(mut launch: Launch<'_>) -> Result<Launched, NotBorn> {
    let guard = launch.guard.take();
    let made = guard.as_ref();
    let made = made.map_or(Vec::new(), |guard| guard.take_namespaces(launch.namespaces));
    // Limits of the cgroup and its freezing hold for a second try too.
    const FINAL: [Errno; 3] = [Errno::AGAIN, Errno::NOMEM, Errno::TIMEDOUT];
    match give_birth(&launch, guard, &made) {
        // Perhaps for what was made ahead: descriptors that are wanting now, or a filter on setns(2).
        Err(NotBorn::Child(errno)) if !made.is_empty() && !FINAL.contains(&errno) => {
            drop(made);
            give_birth(&launch, None, &[])
        }
        born => born,
    }
}

/// Makes the child, of which these namespaces are made.
fn give_birth(
    launch: &Launch<'_>,
    guard: Option<Guard>,
    made: &[(u64, OwnedFd)],
) -> Result<Launched, NotBorn> {
    let guard = match guard {
        None if launch.cgroup.is_some() => Some(Guard::begin(0).map_err(NotBorn::Guard)?),
        guard => guard,
    };
    let birth = Birth::new(launch, made);
    match guard {
        Some(guard) => guard.watch(birth),
        None => {
            let pid = birth.give()?;
            birth.outcome(pid, false)
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
    fn new(launch: &Launch<'_>, made: &[(u64, OwnedFd)]) -> Birth {
        let mut stack = Stack::new();
        let argument = launch.argument.to_owned();
        let inherit = launch.inherit.to_vec();
        let child = Box::new(Child {
            program: launch.program.as_raw_fd(),
            argv: [c"corten-init".as_ptr(), argument.as_ptr(), std::ptr::null()],
            envp: [std::ptr::null()],
            inherit: inherit.as_ptr(),
            inherit_len: inherit.len(),
            join: std::array::from_fn(|at| made.get(at).map_or(-1, |(_, fd)| fd.as_raw_fd())),
            nofile: launch.nofile,
            failed: AtomicI32::new(0),
            alive: AtomicU32::new(1),
            pidfd: AtomicI32::new(-1),
        });
        let mut flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64
            | libc::CLONE_PIDFD as u64
            | libc::CLONE_CHILD_CLEARTID as u64
            | CLONE_CLEAR_SIGHAND
            | made
                .iter()
                .fold(launch.namespaces, |left, (flag, _)| left & !flag);
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

    /// What became of the child, which has left this memory; `is_expired`: it was killed for the time it took.
    fn outcome(self, pid: Pid, is_expired: bool) -> Result<Launched, NotBorn> {
        // SAFETY: the kernel has stored a new descriptor, which nothing else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(self.child.pidfd.load(Ordering::Acquire)) };
        let errno = match self.child.failed.load(Ordering::Acquire) {
            0 if is_expired => Errno::TIMEDOUT,
            0 => {
                return Ok(Launched {
                    pid,
                    pidfd,
                    guard: None,
                });
            }
            // Two short words are not too long: there was no memory to copy them to.
            libc::E2BIG => Errno::NOMEM,
            errno => Errno::from_raw_os_error(errno),
        };
        super::process::reap(&pidfd);
        Err(errno.into())
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
    let joined = || {
        let made = child.join.iter().filter(|fd| **fd >= 0);
        let join = |fd: &RawFd| raw_call(libc::SYS_setns, [*fd as u64, 0, 0, 0, 0]);
        made.map(join).find(|ret| *ret != 0).unwrap_or(0)
    };
    let limited = || {
        child.nofile.map_or(0, |limits| {
            // Two words, as `struct rlimit64` has them; 0 is the caller.
            let limits = limits.as_ptr() as u64;
            let nofile = libc::RLIMIT_NOFILE as u64;
            raw_call(libc::SYS_prlimit64, [0, nofile, limits, 0, 0])
        })
    };
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
    let ret = match joined() {
        0 => match limited() {
            0 => execute(),
            ret => ret,
        },
        ret => ret,
    };
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
