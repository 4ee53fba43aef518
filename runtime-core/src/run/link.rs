//! The socket to init: what it says, and the byte that lets it go on.
//!
//! The messages are [`corten_init::abi::message`]'s. Init is trusted until it has its
//! final credentials, which is after the last message.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use corten_init::abi::message;
use rustix::io::Errno;

use super::calloff::CallOff;
use crate::sys::{ipc, process};

/// What init said.
#[derive(Debug)]
pub(crate) enum Said {
    /// Stage 0 made the container's process.
    Cloned { pid: i32, pidfd: OwnedFd },
    /// It waits at a barrier: init's step with this index.
    Barrier { index: usize },
    /// Here is the pty's master.
    Console { master: OwnedFd },
    /// The descriptor with this number in init is to be taken.
    Listener { number: i32 },
    /// Nobody is there any more.
    Gone,
}

/// The runtime half's end.
#[derive(Debug)]
pub(crate) struct Link(pub(crate) OwnedFd);

impl Link {
    /// Waits for the next message; `pidfd` is the process that must be alive meanwhile.
    pub(crate) fn next(
        &self,
        pidfd: BorrowedFd<'_>,
        call_off: &CallOff<'_>,
    ) -> Result<Said, Errno> {
        let ready = call_off.wait(&[self.0.as_fd(), pidfd])?;
        // A process that forked while init was started may hold the other end too, so
        // the end of the process counts as the end of the socket.
        if ready.first() != Some(&true) {
            return Ok(Said::Gone);
        }
        Ok(self.receive()?.unwrap_or(Said::Gone))
    }

    /// A message that is there already, without waiting; none at the end, too.
    pub(crate) fn waiting(&self) -> Result<Option<Said>, Errno> {
        let ready = process::poll_in(&[self.0.as_fd()], Some(Duration::ZERO))?;
        if ready.first() == Some(&true) {
            self.receive()
        } else {
            Ok(None)
        }
    }

    /// The next message; none at the end.
    fn receive(&self) -> Result<Option<Said>, Errno> {
        let mut buffer = [0; message::LEN];
        let Some((length, passed)) = ipc::receive(self.0.as_fd(), &mut buffer)? else {
            return Ok(None);
        };
        let [kind, _, _, _, a, b, c, d] = buffer;
        let number = i32::from_ne_bytes([a, b, c, d]);
        let said = match (kind, passed) {
            _ if length != message::LEN => return Err(Errno::PROTO),
            (message::CLONED, Some(pidfd)) => Said::Cloned { pid: number, pidfd },
            (message::BARRIER, _) => {
                let index = usize::try_from(number).map_err(|_| Errno::PROTO)?;
                Said::Barrier { index }
            }
            (message::LISTENER, _) => Said::Listener { number },
            (message::CONSOLE, Some(master)) => Said::Console { master },
            _ => return Err(Errno::PROTO),
        };
        Ok(Some(said))
    }

    /// Lets init go on from its barrier.
    pub(crate) fn go(&self) -> Result<(), Errno> {
        match ipc::send(self.0.as_fd(), &[0], None) {
            // It died meanwhile: the next read says so, and the report why.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            other => other,
        }
    }
}
