//! [`CallOff`]: ends a creation that nobody wants any more, wherever it hangs.
//!
//! A creation may wait for what has no limit: a program that mounts, a hook. Whoever has asked
//! for it may be gone by then, or has waited long enough. What can be ended then is ended, and
//! the creation takes back what it has made. A file system that does not answer can't be: the
//! shim ends without that thread, see `Shim::is_over`.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corten_core::Runtime;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::failure::{Code, Failure};

/// After which time a creation is called off once more: it may have come to the next thing that
/// hangs.
const AGAIN: Duration = Duration::from_millis(500);

/// How long that is tried: what still hangs then does so in the kernel.
const LIMIT: Duration = Duration::from_secs(60);

/// What a program that failed may have said.
const SAID: usize = 4 << 10;

#[derive(Debug, Default)]
struct State {
    called_off: bool,
    /// The program that is waited for.
    program: Option<Pid>,
    /// Where the container is being made.
    runtime: Option<Arc<Runtime>>,
    done: bool,
}

/// How one creation is called off.
#[derive(Debug, Default)]
pub(crate) struct CallOff {
    state: Mutex<State>,
    changed: Condvar,
}

/// What a creation fails with then.
pub(crate) fn called_off() -> Failure {
    Failure::new(Code::Canceled, "the creation was called off")
}

impl CallOff {
    /// Nothing in here can panic, and a flag is right or was not set yet.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the creation is to end.
    pub(crate) fn call(&self) {
        let mut state = self.state();
        state.called_off = true;
        if let Some(program) = state.program {
            kill(program);
        }
    }

    /// Ends what the library waits for, until the creation is over. Takes time.
    pub(crate) fn end(&self, id: &str) {
        let until = Instant::now() + LIMIT;
        let mut state = self.state();
        while !state.done && Instant::now() < until {
            if let Some(runtime) = state.runtime.clone() {
                drop(state);
                if let Err(error) = runtime.delete_leftovers(id) {
                    log::warn!("{id}: {error:#}");
                }
                state = self.state();
                if state.done {
                    return;
                }
            }
            let waited = self.changed.wait_timeout(state, AGAIN);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Goes on with a creation: by the library, if that is said.
    pub(crate) fn go_on(&self, runtime: Option<&Arc<Runtime>>) -> Result<(), Failure> {
        let mut state = self.state();
        if state.called_off {
            return Err(called_off());
        }
        state.runtime = runtime.cloned();
        Ok(())
    }

    /// The creation is over.
    pub(crate) fn done(&self) {
        self.state().done = true;
        self.changed.notify_all();
    }

    /// Runs a program to its end: how it ended, and what it said on stderr. A daemon that it
    /// leaves may keep that open.
    pub(crate) fn run(&self, command: &mut Command) -> io::Result<(ExitStatus, String)> {
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let program = Pid::from_child(&child);
        {
            let mut state = self.state();
            state.program = Some(program);
            if state.called_off {
                kill(program);
            }
        }
        let waited = wait(&mut child, program);
        // Before it is reaped: the number is its own until then.
        self.state().program = None;
        if waited.is_err() {
            kill(program);
        }
        let status = child.wait()?;
        Ok((status, waited?))
    }
}

/// Kills a program and what it has started, unless that has left its process group.
fn kill(program: Pid) {
    if let Err(errno) = kill_process_group(program, Signal::KILL) {
        log::warn!("kill: {errno}");
    }
}

/// Waits for a program, and takes what it says.
fn wait(child: &mut std::process::Child, program: Pid) -> io::Result<String> {
    let pidfd = pidfd_open(program, PidfdFlags::empty())?;
    let mut said = Vec::new();
    let mut stderr = child.stderr.take();
    if let Some(stderr) = &stderr {
        rustix::io::ioctl_fionbio(stderr, true)?;
    }
    loop {
        let mut ends = vec![PollFd::new(&pidfd, PollFlags::IN)];
        ends.extend(
            stderr
                .iter()
                .map(|stderr| PollFd::new(stderr, PollFlags::IN)),
        );
        match poll(&mut ends, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let has_ended = !ends.first().is_none_or(|end| end.revents().is_empty());
        drop(ends);
        if stderr
            .as_mut()
            .is_some_and(|stderr| !take(stderr, &mut said))
        {
            stderr = None;
        }
        if has_ended {
            return Ok(String::from_utf8_lossy(&said).into_owned());
        }
    }
}

/// Reads what is there now, and keeps the beginning; whether there may be more.
fn take(from: &mut impl io::Read, said: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 1 << 10];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) => {
                said.extend(chunk.get(..count).unwrap_or_default());
                said.truncate(SAID);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
