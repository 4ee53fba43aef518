//! Processes that `exec` has started and nobody has waited for yet.
//!
//! A pid namespace ends only when all that were in it have been waited for, and one that came
//! by `exec` is a child of its maker, out of the namespace. So a container that is killed waits
//! for its deleter, if that one has made such a process: see `zap_pid_ns_processes` in the
//! kernel's kernel/pid_namespace.c. What they ended with is kept for whoever asks later.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::Exit;
use super::wait::wait_for;
use crate::error::Error;
use crate::sys::process;

/// All of this program.
static STARTED: Mutex<Vec<Arc<Started>>> = Mutex::new(Vec::new());

/// A process that was started in a container.
#[derive(Debug)]
pub(super) struct Started {
    pidfd: OwnedFd,
    /// The container's first process: its pid and when it was started.
    container: (i32, u64),
    exit: Mutex<Option<Exit>>,
}

/// A stored value is whole whatever became of who stored it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Started {
    pub(super) fn new(pidfd: OwnedFd, container: (i32, u64)) -> Arc<Started> {
        Arc::new(Started {
            pidfd,
            container,
            exit: Mutex::new(None),
        })
    }

    /// Remembers it until somebody has waited for it.
    pub(super) fn remember(self: &Arc<Started>) {
        forget();
        lock(&STARTED).push(Arc::clone(self));
    }

    pub(super) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Waits until it has ended, and reaps it; says the same again.
    pub(super) fn wait(&self, pid: i32) -> Result<Exit, Error> {
        if let Some(exit) = *lock(&self.exit) {
            return Ok(exit);
        }
        process::has_ended(self.pidfd.as_fd(), None)
            .map_err(|errno| Error::call(pid.to_string(), "poll", errno))?;
        self.take(pid)
    }

    /// Reaps it, now that it has ended.
    fn take(&self, pid: i32) -> Result<Exit, Error> {
        let mut kept = lock(&self.exit);
        if let Some(exit) = *kept {
            return Ok(exit);
        }
        let exit = wait_for(self.pidfd.as_fd(), &pid.to_string(), process::ended_by_info)?;
        *kept = Some(exit);
        drop(kept);
        lock(&STARTED).retain(|it| !std::ptr::eq(&raw const **it, self));
        Ok(exit)
    }
}

/// Forgets what nobody asks for any more, and the program has waited for by itself.
pub(super) fn forget() {
    lock(&STARTED).retain(|it| {
        let is_asked_for = Arc::strong_count(it) > 1;
        is_asked_for || process::pidfd_send_signal(it.pidfd.as_fd(), 0).is_ok()
    });
}

/// Whether a container's first process, which was killed, has ended within this time. What this
/// program has started in the container is waited for, if need be.
pub(super) fn end(pidfd: &OwnedFd, container: (i32, u64), limit: Duration) -> Result<bool, Errno> {
    /// The program may wait for them itself.
    const EACH: Duration = Duration::from_millis(50);
    let until = std::time::Instant::now() + limit;
    while !process::has_ended(pidfd.as_fd(), Some(EACH))? {
        if std::time::Instant::now() > until {
            return Ok(false);
        }
        let all = lock(&STARTED).clone();
        for started in all.iter().filter(|it| it.container == container) {
            if process::has_ended(started.pidfd.as_fd(), Some(Duration::ZERO))?
                && let Err(error) = started.take(container.0)
            {
                log::debug!("a process of exec: {error:#}");
            }
        }
    }
    Ok(true)
}
