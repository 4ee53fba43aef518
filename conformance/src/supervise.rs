//! Races made certain: a runtime is stopped at each call that takes a path, and a check does
//! what an attacker would have to do in exactly that moment.
//!
//! By seccomp(2) with user notification: the filter is inherited by all that the runtime
//! starts. Only calls made in another mount namespace than this process's count, since it is
//! there that a container is put together. The same tells the bench which filter is loaded.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};

use crate::sys;

/// Calls that take a path.
const CALLS: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_readlinkat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fchownat,
    libc::SYS_fchmodat,
    libc::SYS_faccessat2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
];

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`: as if nobody had looked.
const CONTINUE: u32 = 1;

/// What answers the calls, for as long as somebody makes any. Its result is how many counted.
pub(crate) type Answers = JoinHandle<usize>;

/// Starts a command. Before each call that counts `each` gets its number, from 0.
///
/// # Errors
///
/// If it can't be started, or the filter can't be loaded.
pub(crate) fn start(
    command: &mut Command,
    mut each: impl FnMut(usize) + Send + 'static,
) -> io::Result<(Child, Answers)> {
    let own = mount_namespace("self");
    let mut count = 0;
    start_with(command, CALLS, move |call| {
        if mount_namespace(&call.pid.to_string()) != own {
            each(count);
            count += 1;
        }
        count
    })
}

/// The last filter that a command, or what it starts, loads by seccomp(2): 8 bytes per
/// instruction. Unlike ptrace(2)'s `PTRACE_SECCOMP_GET_FILTER` this needs nothing of the kernel's
/// configuration.
///
/// # Errors
///
/// If the command fails or loads none.
pub(crate) fn filter_loaded(command: &mut Command) -> io::Result<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let (mut child, answers) = start_with(command, &[libc::SYS_seccomp], move |call| {
        if let Some(filter) = filter_of(call) {
            // Who wanted it is still there.
            sender.send(filter).unwrap_or_default();
        }
        0
    })?;
    let status = child.wait()?;
    answers
        .join()
        .map_err(|_| io::Error::other("who answers has panicked"))?;
    if !status.success() {
        return Err(io::Error::other(status.to_string()));
    }
    let last = receiver.iter().last();
    last.ok_or_else(|| io::Error::other("none was loaded"))
}

/// The instructions that a seccomp(2) which waits is given.
fn filter_of(call: &sys::Notification) -> Option<Vec<u8>> {
    let [operation, _, program, ..] = call.arguments;
    if operation != u64::from(libc::SECCOMP_SET_MODE_FILTER) {
        return None;
    }
    let memory = File::open(format!("/proc/{}/mem", call.pid)).ok()?;
    // struct sock_fprog: how many, and where. A null asks which flags the kernel knows.
    let mut head = [0; 16];
    memory.read_exact_at(&mut head, program).ok()?;
    let [low, high, _, _, _, _, _, _, place @ ..] = head;
    let count = u16::from_ne_bytes([low, high]);
    let mut filter = vec![0; usize::from(count) * 8];
    let place = u64::from_ne_bytes(place);
    memory.read_exact_at(&mut filter, place).ok()?;
    Some(filter)
}

/// Starts a command whose calls of these numbers `each` is told of, before they are made. Its
/// last result is what [`Answers`] gives.
fn start_with(
    command: &mut Command,
    calls: &[libc::c_long],
    each: impl FnMut(&sys::Notification) -> usize + Send + 'static,
) -> io::Result<(Child, Answers)> {
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        // A filter is a thread's own: this one ends when the command is started.
        let starter = scope.spawn(move || {
            sender
                .send(sys::seccomp_listener(calls)?)
                .map_err(io::Error::other)?;
            command.spawn()
        });
        let listener = receiver.recv();
        let answers = listener.map(|listener| std::thread::spawn(move || answer(&listener, each)));
        let child = starter
            .join()
            .map_err(|_| io::Error::other("the thread that starts the runtime has panicked"))??;
        Ok((child, answers.map_err(io::Error::other)?))
    })
}

/// Answers all calls until nobody is left who could make one.
fn answer(listener: &OwnedFd, mut each: impl FnMut(&sys::Notification) -> usize) -> usize {
    let mut result = 0;
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        if rustix::event::poll(&mut ready, None).is_err() {
            continue;
        }
        if !ready[0].revents().contains(PollFlags::IN) {
            return result;
        }
        // Who made the call may be dead by now.
        let Ok(call) = sys::notification_receive(listener) else {
            continue;
        };
        result = each(&call);
        let answer = sys::NotificationAnswer {
            id: call.id,
            flags: CONTINUE,
            ..Default::default()
        };
        drop(sys::notification_send(listener, answer));
    }
}

fn mount_namespace(pid: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}
