//! User namespaces that nobody lives in: what an id-mapped mount takes its ids from.
//!
//! See user_namespaces(7), mount_setattr(2). Only a process can make one, and only from
//! outside of it can its maps be written: a child is made for that, on the caller's memory
//! (no copy of it, whatever its size), which waits and does nothing.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use super::launch::{CloneArgs, Stack, clone_and_run, raw_call, wait_zero, with_signals_blocked};
use super::{call, file, last_errno};

/// How long a child that was killed may take to end.
const LIMIT: Duration = Duration::from_secs(10);

/// What the child sees: both ends of a pipe.
struct Pipe {
    read: RawFd,
    write: RawFd,
}

/// The child, and what it uses.
struct Holder {
    pid: Pid,
    pidfd: OwnedFd,
    /// Cleared by the kernel when the child no longer uses this program's memory.
    alive: Box<AtomicU32>,
    memory: Option<(Box<Stack>, Box<Pipe>)>,
}

/// Makes a user namespace with these lines in its `uid_map` and `gid_map`.
pub(crate) fn make(uids: &str, gids: &str) -> Result<OwnedFd, Errno> {
    let (read, write) = call("pipe2", || rustix::pipe::pipe_with(PipeFlags::CLOEXEC))?;
    let pipe = Box::new(Pipe {
        read: read.as_raw_fd(),
        write: write.as_raw_fd(),
    });
    let holder = call("clone3", || with_signals_blocked(|| hold(pipe)))?;
    let path = format!("/proc/{}", holder.pid.as_raw_nonzero());
    // The child is not waited for by anybody else: it sends no signal.
    let own = file::open_dir_at(CWD, Path::new(&path))?;
    file::write_at(&own, Path::new("uid_map"), uids.as_bytes())?;
    file::write_at(&own, Path::new("gid_map"), gids.as_bytes())?;
    file::open_at(&own, Path::new("ns/user"), OFlags::RDONLY)
}

/// Starts the child. It ends with the last copy of the pipe's other end: also if this
/// program is killed.
fn hold(pipe: Box<Pipe>) -> Result<Holder, Errno> {
    let mut stack = Stack::new();
    let alive = Box::new(AtomicU32::new(1));
    let mut pidfd: RawFd = -1;
    let args = CloneArgs {
        flags: libc::CLONE_VM as u64
            | libc::CLONE_NEWUSER as u64
            | libc::CLONE_PIDFD as u64
            | libc::CLONE_CHILD_CLEARTID as u64,
        pidfd: &raw mut pidfd as u64,
        child_tid: alive.as_ptr() as u64,
        // No signal: an embedder's handler need not know of it.
        exit_signal: 0,
        stack: stack.start(),
        stack_size: Stack::SIZE,
        ..CloneArgs::default()
    };
    // SAFETY: the child gets a stack of its own, which with `pipe` and `alive` lives until it
    // has ended (see `Holder::drop`); `pidfd` is valid for the call.
    let pid = unsafe { clone_and_run(&args, (&raw const *pipe).cast(), wait_for_the_end) }?;
    // SAFETY: the kernel has just stored a new descriptor, which nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Holder {
        pid,
        pidfd,
        alive,
        memory: Some((stack, pipe)),
    })
}

/// The child's whole life: a read that ends when nobody holds the pipe's other end.
extern "C" fn wait_for_the_end(pipe: *const c_void) -> ! {
    // SAFETY: `hold` passes a pipe, which lives until this process has ended.
    let pipe = unsafe { &*pipe.cast::<Pipe>() };
    raw_call(libc::SYS_close, [pipe.write as u64, 0, 0, 0, 0]);
    let mut byte = 0_u8;
    raw_call(
        libc::SYS_read,
        [pipe.read as u64, &raw mut byte as u64, 1, 0, 0],
    );
    loop {
        raw_call(libc::SYS_exit, [0, 0, 0, 0, 0]);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let killed = call("pidfd_send_signal", || {
            rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL)
        });
        if killed.is_err() || !wait_zero(&self.alive, LIMIT) {
            // It may still run on these: they are given up, not freed.
            std::mem::forget(self.memory.take());
            log::warn!("a child that made a user namespace does not end");
            return;
        }
        reap(&self.pidfd);
    }
}

/// `waitid(2)` for a child that sends no signal when it ends.
fn reap(pidfd: &OwnedFd) {
    let reaped = call("waitid", || {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the pidfd is open, and `info` is valid for the call.
        let rc = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                pidfd.as_raw_fd() as libc::id_t,
                info.as_mut_ptr(),
                libc::WEXITED | libc::__WALL,
            )
        };
        match rc {
            0 => Ok(()),
            _ => Err(last_errno()),
        }
    });
    if let Err(errno) = reaped {
        log::debug!("a child that made a user namespace was reaped by somebody else: {errno}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_user_namespace_is_made_and_its_maker_is_gone() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let made = make("0 100000 10\n", "0 200000 5\n7 7 1\n").unwrap();
        let namespace = std::fs::File::from(made).metadata().unwrap();
        let own = std::fs::metadata("/proc/self/ns/user").unwrap();
        assert_eq!(namespace.dev(), own.dev());
        assert_ne!(namespace.ino(), own.ino());
        // No child is left, not even one that sends no signal.
        let mut status = 0;
        // SAFETY: the status lives through the call.
        let found = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WCLONE) };
        assert_eq!(found, -1, "a child is left: {status}");
    }

    #[test]
    fn a_map_that_the_kernel_does_not_take_is_its_error() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        assert_eq!(make("0 0 0\n", "0 0 1\n").unwrap_err(), Errno::INVAL);
    }
}
