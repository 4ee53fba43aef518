//! The thread beside a launch: it makes namespaces before, and watches the time.
//!
//! A network namespace costs more than all the rest of a clone, 0.25 ms of 0.3 (docs/measured.md). So the thread can be
//! started while its maker still reads and plans, and unshares what the clone would have made; the child joins that before its exec.
//! A thread's namespaces are its own, and nothing is left of them where nobody was born. On a machine too busy to let the
//! thread run meanwhile, the clone makes them as if there were none.
//!
//! Then, for a child that is born in a cgroup: a vforking thread waits as long as the cgroup is frozen, so that another
//! one is needed to end that. Without vfork, if the cgroup has no memory for the exec, the kernel would kill the child and
//! with it every process that shares its memory: this one. (`in_vfork` in mm/oom_kill.c)
//!
//! It is the kernel's thread only: it waits, kills perhaps, and ends, so it needs none of what the C library sets up for a
//! thread, which takes longer than all the rest of it. And since it is not the one that clones, nobody waits until it has
//! found a CPU. What makes namespaces is kept off its maker's CPU, and put there for its end: by then the child works on the
//! other one.

use std::ffi::{CStr, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use super::super::scheduling;
use super::futex::{is_zero_soon, monotonic, nanoseconds, wait_while, wait_zero, wake};
use super::{
    Birth, CloneArgs, LIMIT, Launched, NotBorn, Stack, call, clone_and_run, raw_call,
    with_signals_blocked,
};

/// The namespaces that can be made ahead: all of a thread's own but the mount namespace, since joining that loses the root
/// directory of a caller that has changed it.
pub(super) const KINDS: [Kind; 3] = [
    Kind {
        flag: libc::CLONE_NEWNET as u64,
        number: 4,
        path: c"/proc/thread-self/ns/net",
    },
    Kind {
        flag: libc::CLONE_NEWIPC as u64,
        number: 2,
        path: c"/proc/thread-self/ns/ipc",
    },
    Kind {
        flag: libc::CLONE_NEWUTS as u64,
        number: 10,
        path: c"/proc/thread-self/ns/uts",
    },
];

/// A kind of namespace: its `CLONE_NEW*`, and where a descriptor of a thread's own is to be had.
pub(super) struct Kind {
    flag: u64,
    /// Of `PIDFD_GET_*_NAMESPACE` in linux/pidfd.h.
    number: u64,
    path: &'static CStr,
}

impl Kind {
    /// This thread's, `own` being a pidfd of it: in a third of the time of a path.
    fn open(&self, own: i64) -> i64 {
        match self.by_pidfd(own) {
            fd @ 0.. => fd,
            _ => self.by_path(),
        }
    }

    /// By an ioctl(2) that Linux 6.11 has.
    fn by_pidfd(&self, own: i64) -> i64 {
        const PIDFS_IOCTL_MAGIC: u64 = 0xff << 8;
        let request = [own as u64, PIDFS_IOCTL_MAGIC | self.number, 0, 0, 0];
        raw_call(libc::SYS_ioctl, request)
    }

    fn by_path(&self) -> i64 {
        let cwd = libc::AT_FDCWD as i64 as u64;
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
        let open = [cwd, self.path.as_ptr() as u64, flags, 0, 0];
        raw_call(libc::SYS_openat, open)
    }
}

/// A pidfd of this thread: `O_EXCL` is PIDFD_THREAD, which Linux 6.9 has.
fn own_pidfd() -> i64 {
    let thread = raw_call(libc::SYS_gettid, [0; 5]);
    let pidfd = [thread as u64, libc::O_EXCL as u64, 0, 0, 0];
    raw_call(libc::SYS_pidfd_open, pidfd)
}

/// A thread for one launch. Dropped, it has ended.
pub(crate) struct Guard {
    thread: i32,
    /// Whose it is. A fork has its memory and its descriptors, but no such thread.
    process: u32,
    /// Nobody frees it, on whatever way out, before the thread has ended.
    shared: ManuallyDrop<Box<Shared>>,
}

/// What the thread does after its namespaces, the values of a futex.
mod task {
    /// Ends.
    pub(super) const NONE: u32 = 0;
    /// Waits for the time to be over.
    pub(super) const WATCH: u32 = 1;
    /// Has found that it is over, and uses the birth until its own end.
    pub(super) const KILL: u32 = 2;
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
    /// A futex: see [`task`].
    task: AtomicU32,
    /// What to watch; null: nothing yet.
    birth: AtomicPtr<Birth>,
    /// When its time is over, by the monotonic clock, in nanoseconds.
    deadline: AtomicU64,
    /// Set by the thread when it has killed the child for the time it took.
    killed: AtomicBool,
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
        let can = KINDS.iter().fold(0, |flags, kind| flags | kind.flag);
        let mut shared = ManuallyDrop::new(Box::new(Shared {
            namespaces: namespaces & can,
            decided: AtomicBool::new(false),
            unmade: AtomicU32::new(1),
            made: [const { AtomicI32::new(-1) }; KINDS.len()],
            task: AtomicU32::new(task::WATCH),
            birth: AtomicPtr::new(ptr::null_mut()),
            deadline: AtomicU64::new(0),
            killed: AtomicBool::new(false),
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
            Ok(thread) => {
                let thread = thread.as_raw_nonzero().get();
                if shared.namespaces != 0 {
                    scheduling::off_this_cpu(thread);
                }
                let process = std::process::id();
                Ok(Guard {
                    thread,
                    process,
                    shared,
                })
            }
            Err(errno) => {
                drop(ManuallyDrop::into_inner(shared));
                Err(errno)
            }
        }
    }

    /// Whether it is a thread of this process.
    pub(crate) fn is_here(&self) -> bool {
        self.process == std::process::id()
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
        /// Far more than it takes.
        const SOON: Duration = Duration::from_millis(20);
        let unmade = &self.shared.unmade;
        if !is_zero_soon(unmade) && !wait_zero(unmade, SOON) {
            // Something else has its CPU, perhaps for long.
            scheduling::onto_this_cpu(self.thread);
            while !wait_zero(unmade, LIMIT) {}
        }
        self.taken()
    }

    fn taken(&self) -> Vec<(u64, OwnedFd)> {
        let take = |(kind, made): (&Kind, &AtomicI32)| {
            let number = made.swap(-1, Ordering::AcqRel);
            // SAFETY: a number that the thread has opened and left here is nobody else's.
            (number >= 0).then(|| (kind.flag, unsafe { OwnedFd::from_raw_fd(number) }))
        };
        let made = KINDS.iter().zip(&self.shared.made);
        made.filter_map(take).collect()
    }

    /// Makes the child, in a cgroup. Comes back when it has left this memory, which it does within the limit.
    pub(super) fn watch(self, birth: Birth) -> Result<Launched, NotBorn> {
        let shared = &self.shared;
        shared
            .deadline
            .store(monotonic() + nanoseconds(LIMIT), Ordering::Release);
        let place = (&raw const birth).cast_mut();
        shared.birth.store(place, Ordering::Release);
        let made = birth.give();
        if self.dismiss() == task::KILL {
            // It uses the birth.
            self.wait();
        }
        let mut launched = birth.outcome(made?, shared.killed.load(Ordering::Acquire))?;
        launched.guard = Some(self);
        Ok(launched)
    }

    /// Has the thread end, without waiting for it: what it was doing.
    fn dismiss(&self) -> u32 {
        let task = &self.shared.task;
        if task.load(Ordering::Acquire) == task::NONE {
            return task::NONE;
        }
        // As long as it has something to do its number is its own.
        if self.shared.namespaces != 0 {
            scheduling::onto_this_cpu(self.thread);
        }
        let before = task.swap(task::NONE, Ordering::AcqRel);
        wake(task);
        before
    }

    fn wait(&self) {
        while !wait_zero(&self.shared.alive, LIMIT) {}
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_here() {
            drop(self.taken());
            return;
        }
        if self.shared.decided.swap(true, Ordering::AcqRel) {
            drop(self.made());
        }
        self.dismiss();
        // It has nothing to wait for any more: only a stop of the whole program keeps it.
        self.wait();
        // SAFETY: the thread has ended, and this is the end of its maker: nobody uses it again.
        unsafe { ManuallyDrop::drop(&mut self.shared) };
    }
}

/// All that the thread does. Raw system calls only: thread-local storage is its maker's, who may have ended.
extern "C" fn thread_main(shared: *const c_void) -> ! {
    // SAFETY: `Guard` passes a `Shared` and keeps it alive until this thread has ended.
    let shared = unsafe { &*shared.cast::<Shared>() };
    let is_mine = !shared.decided.swap(true, Ordering::AcqRel);
    let has_network = is_mine && make(shared) & libc::CLONE_NEWNET as u64 != 0;
    wake(&shared.unmade);
    if has_network {
        set_lo_up();
    }
    let mut left = nanoseconds(LIMIT);
    loop {
        let task = shared.task.load(Ordering::Acquire);
        if task == task::NONE {
            break;
        }
        if wait_while(&shared.task, task, left) {
            left = look_at_the_time(shared);
        }
    }
    loop {
        raw_call(libc::SYS_exit, [0, 0, 0, 0, 0]);
    }
}

/// Makes namespaces, if it can: the clone tells why they can't be had. Which.
fn make(shared: &Shared) -> u64 {
    if shared.namespaces == 0 || raw_call(libc::SYS_unshare, [shared.namespaces, 0, 0, 0, 0]) != 0 {
        return 0;
    }
    let own = own_pidfd();
    for (kind, made) in KINDS.iter().zip(&shared.made) {
        if shared.namespaces & kind.flag != 0 {
            made.store(kind.open(own) as i32, Ordering::Release);
        }
    }
    if own >= 0 {
        raw_call(libc::SYS_close, [own as u64, 0, 0, 0, 0]);
    }
    shared.namespaces
}

/// Sets `lo` up in this thread's network namespace, as init does where it finds it down. It takes as long as ten mounts,
/// and now it goes on beside the clone. See netdevice(7).
fn set_lo_up() {
    use corten_init::sys::{any_socket, close, loopback_up};
    // init's calls are raw ones, as all that this thread makes. Where they fail init is told why.
    let set = |socket| loopback_up(socket).and(close(socket));
    any_socket().and_then(set).ok();
}

/// Kills the child that has not left this memory in its time. How many nanoseconds to wait for the next look.
fn look_at_the_time(shared: &Shared) -> u64 {
    let birth = shared.birth.load(Ordering::Acquire);
    let deadline = shared.deadline.load(Ordering::Acquire);
    let limit = nanoseconds(LIMIT);
    if birth.is_null() {
        return limit;
    }
    if let left @ 1.. = deadline.saturating_sub(monotonic()) {
        return left;
    }
    let [from, to] = [task::WATCH, task::KILL];
    let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
    match shared.task.compare_exchange(from, to, success, failure) {
        Ok(_) | Err(task::KILL) => {}
        // Its maker is back, and goes on.
        Err(_) => return limit,
    }
    // SAFETY: what `Guard::watch` keeps until this thread has ended, since that has claimed it.
    let child = unsafe { &*(*birth).child };
    // One that has left is not late, only its maker is: the program was stopped meanwhile. Without a descriptor its maker
    // was not let run either; a number that is no descriptor yet belongs to a child that is not let be made.
    if child.alive.load(Ordering::Acquire) != 0
        && let Some(pidfd) = child.pidfd()
    {
        let kill = [pidfd as u64, libc::SIGKILL as u64, 0, 0, 0];
        if raw_call(libc::SYS_pidfd_send_signal, kill) == 0 {
            shared.killed.store(true, Ordering::Release);
        }
    }
    nanoseconds(AGAIN)
}

/// How long it waits for another try, where nobody could be killed.
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
