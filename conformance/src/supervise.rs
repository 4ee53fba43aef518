//! Races made certain: a runtime is stopped at each call that takes a path, and a check does
//! what an attacker would have to do in exactly that moment.
//!
//! By seccomp(2) with user notification: the filter is inherited by all that the runtime
//! starts. Only calls made in another mount namespace than this process's count, since it is
//! there that a container is put together.

use std::io;
use std::os::fd::OwnedFd;
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
    each: impl FnMut(usize) + Send + 'static,
) -> io::Result<(Child, Answers)> {
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        // A filter is a thread's own: this one ends when the command is started.
        let starter = scope.spawn(move || {
            sender
                .send(sys::seccomp_listener(CALLS)?)
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
fn answer(listener: &OwnedFd, mut each: impl FnMut(usize)) -> usize {
    let own = mount_namespace("self");
    let mut count = 0;
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        if rustix::event::poll(&mut ready, None).is_err() {
            continue;
        }
        if !ready[0].revents().contains(PollFlags::IN) {
            return count;
        }
        // Who made the call may be dead by now.
        let Ok(call) = sys::notification_receive(listener) else {
            continue;
        };
        if mount_namespace(&call.pid.to_string()) != own {
            each(count);
            count += 1;
        }
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
