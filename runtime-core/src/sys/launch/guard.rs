//! The thread beside a launch: it makes namespaces before, and watches the time.
//!
//! A network namespace costs more than all the rest of a clone, 0.25 ms of 0.3 (docs/measured.md). So the thread can be
//! started while its maker still plans, and unshares what the clone would have made; the child joins that before its exec.
//! A thread's namespaces are its own, and nothing is left of them where nobody was born. On a machine too busy to let the
//! thread run meanwhile, the clone makes them as if there were none.
//!
//! Then, for a child that is born in a cgroup: a vforking thread waits as long as the cgroup is frozen, so that another
//! one is needed to end that. Without vfork, if the cgroup has no memory for the exec, the kernel would kill the child and
//! with it every process that shares its memory: this one. (`in_vfork` in mm/oom_kill.c)
//!
//! It is the kernel's thread only: it waits, kills perhaps, and ends, so it needs none of what the C library sets up for a
//! thread, which takes longer than all the rest of it. And since it is not the one that clones, nobody waits until it has
//! found a CPU.

use std::ffi::{CStr, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::time::Instant;

use rustix::io::Errno;

use super::{
    Birth, CloneArgs, LIMIT, Launched, NotBorn, Stack, call, clone_and_run, raw_call, wait_zero,
    wake, with_signals_blocked,
};

/// The namespaces that can be made ahead: all of a thread's own but the mount namespace, since joining that loses the root
/// directory of a caller that has changed it.
pub(super) const KINDS: [(u64, &CStr); 3] = [
    (libc::CLONE_NEWNET as u64, c"/proc/thread-self/ns/net"),
    (libc::CLONE_NEWIPC as u64, c"/proc/thread-self/ns/ipc"),
    (libc::CLONE_NEWUTS as u64, c"/proc/thread-self/ns/uts"),
];

/// A thread for one launch.
pub(crate) struct Guard {
    /// Nobody frees it, on whatever way out, before the thread has ended.
    shared: ManuallyDrop<Box<Shared>>,
}

/// What the thread and its maker use.
struct Shared {
    /// `CLONE_NEW*` of what is made ahead.
    namespaces: u64,
    /// Set by the thread when it begins to make them, or by its maker, who then does without.
    decided: AtomicBool,
    /// A futex: 0 when the thread has made them, or could not.
    unmade: AtomicU32,
    /// They, in the order of [`KINDS`]; below 0: not made.
    made: [AtomicI32; KINDS.len()],
    /// A futex: 0 when `birth` is known.
    unordered: AtomicU32,
    /// What to watch; null: nothing.
    birth: AtomicPtr<Birth>,
    /// Set by the thread when the time was over.
    expired: AtomicBool,
    stack: Box<Stack>,
    /// Cleared by the kernel when the thread has ended.
    alive: AtomicU32,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({:#x})", self.shared.namespaces)
    }
}

impl Guard {
    /// Starts the thread. `namespaces` are made at once, those of them that a thread can make.
    pub(crate) fn start(namespaces: u64) -> Result<Guard, Errno> {
        call("clone3", || {
            with_signals_blocked(|| Guard::begin(namespaces))
        })
    }

    /// The same, with signals blocked already.
    pub(super) fn begin(namespaces: u64) -> Result<Guard, Errno> {
        let can = KINDS.iter().fold(0, |flags, (flag, _)| flags | flag);
        let mut shared = ManuallyDrop::new(Box::new(Shared {
            namespaces: namespaces & can,
            decided: AtomicBool::new(false),
            unmade: AtomicU32::new(1),
            made: [const { AtomicI32::new(-1) }; KINDS.len()],
            unordered: AtomicU32::new(1),
            birth: AtomicPtr::new(ptr::null_mut()),
            expired: AtomicBool::new(false),
            stack: Stack::new(),
            alive: AtomicU32::new(1),
        }));
        let flags = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND;
        let flags = flags | libc::CLONE_THREAD | libc::CLONE_SYSVSEM | libc::CLONE_CHILD_CLEARTID;
        let args = CloneArgs {
            flags: flags as u64,
            child_tid: shared.alive.as_ptr() as u64,
            stack: shared.stack.start(),
            stack_size: Stack::SIZE,
            ..CloneArgs::default()
        };
        let this: *const Shared = &raw const **shared;
        // SAFETY: a thread on a stack of its own; that and `shared` are kept until it has ended.
        let started = unsafe { clone_and_run(&args, this.cast(), thread_main) };
        match started {
            Ok(_) => Ok(Guard { shared }),
            Err(errno) => {
                drop(ManuallyDrop::into_inner(shared));
                Err(errno)
            }
        }
    }

    /// Takes what it has made or is just making, each with its flag. What it has not come to yet it makes no more.
    /// Nothing, if it makes some that are not `wanted`.
    pub(super) fn take_namespaces(&self, wanted: u64) -> Vec<(u64, OwnedFd)> {
        let namespaces = self.shared.namespaces;
        let is_begun = self.shared.decided.swap(true, Ordering::AcqRel);
        if !is_begun || namespaces == 0 || namespaces & !wanted != 0 {
            return Vec::new();
        }
        self.made()
    }

    /// What it has made, when it has.
    fn made(&self) -> Vec<(u64, OwnedFd)> {
        while !wait_zero(&self.shared.unmade, Instant::now() + LIMIT) {}
        let take = |((flag, _), made): (&(u64, &CStr), &AtomicI32)| {
            let number = made.swap(-1, Ordering::AcqRel);
            // SAFETY: a number that the thread has opened and left here is nobody else's.
            (number >= 0).then(|| (*flag, unsafe { OwnedFd::from_raw_fd(number) }))
        };
        let made = KINDS.iter().zip(&self.shared.made);
        made.filter_map(take).collect()
    }

    /// Makes the child, in a cgroup. Comes back when it has left this memory, which it does within the limit.
    pub(super) fn watch(mut self, birth: Birth) -> Result<Launched, NotBorn> {
        self.order(&raw const birth);
        let made = birth.give();
        if made.is_err() {
            wake(&birth.child.alive);
        }
        // It has nothing to wait for any more: only a stop of the whole program keeps it.
        self.wait();
        birth.outcome(made?, self.shared.expired.load(Ordering::Acquire))
    }

    /// Tells the thread what to watch.
    fn order(&self, birth: *const Birth) {
        let place = &self.shared.birth;
        place.store(birth.cast_mut(), Ordering::Release);
        wake(&self.shared.unordered);
    }

    fn wait(&mut self) {
        while !wait_zero(&self.shared.alive, Instant::now() + LIMIT) {}
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.shared.decided.swap(true, Ordering::AcqRel) {
            drop(self.made());
        }
        if self.shared.unordered.load(Ordering::Acquire) != 0 {
            self.order(ptr::null());
        }
        self.wait();
        // SAFETY: the thread has ended, and this is the end of its maker: nobody uses it again.
        unsafe { ManuallyDrop::drop(&mut self.shared) };
    }
}

/// All that the thread does. Raw system calls only: thread-local storage is its maker's.
extern "C" fn thread_main(shared: *const c_void) -> ! {
    // SAFETY: `Guard` passes a `Shared` and keeps it alive until this thread has ended.
    let shared = unsafe { &*shared.cast::<Shared>() };
    if !shared.decided.swap(true, Ordering::AcqRel) {
        make(shared);
    }
    wake(&shared.unmade);
    let word = shared.unordered.as_ptr() as u64;
    while shared.unordered.load(Ordering::Acquire) != 0 {
        let wait = [word, libc::FUTEX_WAIT as u64, 1, 0, 0];
        raw_call(libc::SYS_futex, wait);
    }
    // SAFETY: null, or what `Guard::watch` keeps until this thread has ended.
    if let Some(birth) = unsafe { shared.birth.load(Ordering::Acquire).as_ref() }
        && watch(birth)
    {
        shared.expired.store(true, Ordering::Release);
    }
    loop {
        raw_call(libc::SYS_exit, [0, 0, 0, 0, 0]);
    }
}

/// Makes namespaces, if it can: the clone tells why they can't be had.
fn make(shared: &Shared) {
    if shared.namespaces == 0 || raw_call(libc::SYS_unshare, [shared.namespaces, 0, 0, 0, 0]) != 0 {
        return;
    }
    for ((flag, path), made) in KINDS.iter().zip(&shared.made) {
        if shared.namespaces & flag != 0 {
            let cwd = libc::AT_FDCWD as i64 as u64;
            let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
            let open = [cwd, path.as_ptr() as u64, flags, 0, 0];
            made.store(raw_call(libc::SYS_openat, open) as i32, Ordering::Release);
        }
    }
}

/// Waits until the child has left this memory, by exec or by its end, and kills it when the time is over: whether it did.
fn watch(birth: &Birth) -> bool {
    let child = &*birth.child;
    let limit = libc::timespec {
        tv_sec: LIMIT.as_secs() as _,
        tv_nsec: 0,
    };
    let word = child.alive.as_ptr() as u64;
    let wait = [word, libc::FUTEX_WAIT as u64, 1, &raw const limit as u64, 0];
    let mut is_expired = false;
    while child.alive.load(Ordering::Acquire) != 0 {
        let waited = raw_call(libc::SYS_futex, wait);
        // Without a descriptor its maker was not let run either.
        if waited == -i64::from(libc::ETIMEDOUT)
            && let Some(pidfd) = child.pidfd()
        {
            let kill = [pidfd as u64, libc::SIGKILL as u64, 0, 0, 0];
            // A number that is no descriptor yet belongs to a child that is not let be made.
            is_expired |= raw_call(libc::SYS_pidfd_send_signal, kill) == 0;
        }
    }
    is_expired
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, IntoRawFd};

    use rustix::process::{Pid, Signal};

    use super::super::{Launch, Launched, launch};
    use super::*;

    const NETWORK: u64 = libc::CLONE_NEWNET as u64;
    const IPC: u64 = libc::CLONE_NEWIPC as u64;

    /// A process that sleeps in new namespaces.
    fn sleeper(namespaces: u64, guard: Option<Guard>) -> Launched {
        let program = std::fs::File::open("/bin/sleep").unwrap();
        let launched = launch(Launch {
            namespaces,
            cgroup: None,
            program: program.as_fd(),
            argument: c"1000",
            inherit: &[],
            nofile: None,
            guard,
        });
        launched.expect("this test makes namespaces: it must run as root")
    }

    fn end(launched: &Launched) {
        rustix::process::pidfd_send_signal(&launched.pidfd, Signal::KILL).unwrap();
        crate::sys::process::reap(&launched.pidfd);
    }

    /// `net:[4026531840]`
    fn of_process(pid: &str, kind: &str) -> String {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        link.into_os_string().into_string().unwrap()
    }

    fn namespaces(pid: Pid) -> [String; 3] {
        let pid = pid.to_string();
        ["net", "ipc", "uts"].map(|kind| of_process(&pid, kind))
    }

    /// Waits until it has made all, and says which.
    fn made(guard: &Guard) -> Vec<String> {
        while !wait_zero(&guard.shared.unmade, Instant::now() + LIMIT) {}
        let numbers = guard
            .shared
            .made
            .iter()
            .map(|fd| fd.load(Ordering::Acquire));
        let links = numbers.filter(|fd| *fd >= 0).map(|fd| of_fd(fd).unwrap());
        links.collect()
    }

    fn of_fd(fd: i32) -> Option<String> {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        link.into_os_string().into_string().ok()
    }

    #[test]
    fn a_child_is_born_in_the_namespaces_that_were_made_ahead() {
        let own = namespaces(rustix::process::getpid());
        let guard = Guard::start(NETWORK | IPC).unwrap();
        let [net, ipc] = made(&guard).try_into().unwrap();
        let launched = sleeper(NETWORK | IPC, Some(guard));
        let its = namespaces(launched.pid);
        end(&launched);
        let [_, _, uts] = &own;
        assert_eq!(its, [net, ipc, uts.clone()]);
        assert_eq!(namespaces(rustix::process::getpid()), own);
    }

    #[test]
    fn a_child_has_new_namespaces_also_if_nobody_has_made_them_yet() {
        let own = namespaces(rustix::process::getpid());
        for _ in 0..20 {
            let guard = Guard::start(NETWORK | IPC).unwrap();
            let launched = sleeper(NETWORK | IPC, Some(guard));
            let its = namespaces(launched.pid);
            end(&launched);
            assert!(its[0] != own[0] && its[1] != own[1] && its[2] == own[2]);
        }
    }

    #[test]
    fn a_namespace_that_the_launch_does_not_ask_for_is_not_joined() {
        let own = namespaces(rustix::process::getpid());
        let guard = Guard::start(NETWORK | IPC).unwrap();
        made(&guard);
        let launched = sleeper(IPC, Some(guard));
        let its = namespaces(launched.pid);
        end(&launched);
        assert!(its[0] == own[0] && its[1] != own[1] && its[2] == own[2]);
    }

    #[test]
    fn a_child_that_may_not_join_what_was_made_is_born_in_new_ones() {
        let own = namespaces(rustix::process::getpid());
        let guard = Guard::start(NETWORK | IPC).unwrap();
        made(&guard);
        // As a filter on setns(2) refuses it.
        let null = std::fs::File::open("/dev/null").unwrap();
        let [net, ..] = &guard.shared.made;
        net.store(null.into_raw_fd(), Ordering::Release);
        let launched = sleeper(NETWORK | IPC, Some(guard));
        let its = namespaces(launched.pid);
        end(&launched);
        assert!(its[0] != own[0] && its[1] != own[1] && its[2] == own[2]);
    }

    #[test]
    fn what_nobody_is_born_in_is_gone_with_its_guard() {
        let guard = Guard::start(NETWORK).unwrap();
        let [net] = made(&guard).try_into().unwrap();
        drop(guard);
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = fds.filter_map(|fd| of_fd(fd.ok()?.file_name().to_str()?.parse().ok()?));
        assert!(links.into_iter().all(|link| link != net));
    }
}
