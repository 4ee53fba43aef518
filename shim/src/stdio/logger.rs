//! `binary://`: a program of the user's that reads a container's output.
//!
//! Its path and arguments are a URI; it gets the outputs as descriptors 3 and 4, and closes
//! descriptor 5 when it is ready. See containerd's `cmd/containerd-shim-runc-v2/process`.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Owner;
use crate::failure::Failure;

/// How long a logger may take until it is ready.
const START: Duration = Duration::from_secs(10);

/// How long it may take after SIGTERM (the Go shim's limit).
const STOP: Duration = Duration::from_secs(12);

/// A logger that runs, by its pidfd: the shim's loop reaps it whenever it ends.
#[derive(Debug)]
pub(crate) struct Logger(OwnedFd);

/// Starts the logger: it, and the container's ends for stdout and stderr.
pub(crate) fn start(uri: &str, owner: &Owner) -> Result<(Logger, OwnedFd, OwnedFd), Failure> {
    let failed = |errno: rustix::io::Errno| Failure::call("pipe", errno);
    let (out, stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (err, stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (ready, ready_end) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    // A plus is a space in what follows the question mark only.
    let mut command = Command::new(decoded(&path.replace('+', "%2B")));
    command
        .env_clear()
        .env("CONTAINER_ID", &owner.id)
        .env("CONTAINER_NAMESPACE", &owner.namespace)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match decoded(name).strip_prefix("env.") {
            Some(name) if !name.starts_with("CONTAINER_") => {
                command.env(name, decoded(value));
            }
            Some(_) => {}
            None => {
                command.arg(decoded(name)).arg(decoded(value));
            }
        }
    }
    // First, since it needs numbers that the lower limit may not leave.
    crate::sys::pass(&mut command, [out, err, ready_end]);
    crate::sys::as_begun(&mut command);
    let failed = |error| Failure::call(format!("logger {path}"), error);
    let child = command.spawn().map_err(failed)?;
    // The ends that were passed are closed with the command.
    drop(command);
    let logger = Logger::new(child).map_err(failed)?;
    if let Err(failure) = wait_ready(ready, path) {
        logger.stop();
        return Err(failure);
    }
    Ok((logger, stdout, stderr))
}

fn wait_ready(ready: OwnedFd, path: &str) -> Result<(), Failure> {
    let mut fds = [PollFd::new(&ready, PollFlags::IN)];
    let limit = rustix::event::Timespec {
        tv_sec: START.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    match poll(&mut fds, Some(&limit)) {
        Ok(0) => Err(Failure::other(format!("logger {path}: is not ready"))),
        Ok(_) => {
            let mut byte = [0];
            std::fs::File::from(ready)
                .read(&mut byte)
                .map(drop)
                .map_err(|error| Failure::call(format!("logger {path}"), error))
        }
        Err(errno) => Err(Failure::call(format!("logger {path}"), errno)),
    }
}

impl Logger {
    /// Takes a child of this thread, which nobody else reaps meanwhile.
    fn new(mut child: Child) -> std::io::Result<Logger> {
        let pid = Pid::from_raw(child.id().cast_signed());
        let pidfd = pid
            .ok_or(Errno::SRCH)
            .map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        match pidfd.flatten() {
            Ok(pidfd) => Ok(Logger(pidfd)),
            Err(errno) => {
                child.kill()?;
                child.wait()?;
                Err(errno.into())
            }
        }
    }

    /// Lets it finish, and ends it if it does not; waits meanwhile.
    pub(crate) fn stop(self) {
        if let Err(errno) = self.end() {
            log::warn!("logger: {errno}");
        }
    }

    fn end(&self) -> Result<(), Errno> {
        let limit = rustix::event::Timespec {
            tv_sec: STOP.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        let ended = || poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit));
        self.signal(Signal::TERM)?;
        if ended()? == 0 {
            log::warn!("a logger does not end and is killed");
            self.signal(Signal::KILL)?;
            ended()?;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match pidfd_send_signal(&self.0, signal) {
            Err(Errno::SRCH) => Ok(()),
            other => other,
        }
    }
}

/// Undoes `%20` and `+`, as Go's `url.Query` does.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(hex);
        bytes.push(match (first, digits) {
            (b'%', Some(value)) => value,
            (b'+', _) => b' ',
            (other, _) => *other,
        });
        let read = if *first == b'%' && digits.is_some() {
            2
        } else {
            0
        };
        rest = behind.get(read..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` takes a sign.
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    u8::from_str_radix(text, 16).ok().filter(|_| is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_decoded_as_in_a_query() {
        assert_eq!(decoded("a%2Fb+c%zz%4"), "a/b c%zz%4");
    }
}
