//! Waiting with a limit. Nothing in this crate waits without one.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The limit for one call of a runtime: ten times what the slowest lane needs.
pub const CALL: Duration = Duration::from_secs(30);

/// The time until a child has ended, or `None` at the limit.
///
/// # Errors
///
/// If the child can't be waited for.
pub fn child(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a child without a pid"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    readable(&pidfd, limit)?;
    child.try_wait()
}

/// Waits until an fd is readable (a pidfd: until the process ended). False at the limit.
///
/// # Errors
///
/// If poll(2) fails.
pub fn readable(fd: &impl std::os::fd::AsFd, limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks again and again until the answer is `Some`; `None` at the limit.
///
/// For what has no fd to wait on, such as a file that another program writes.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
