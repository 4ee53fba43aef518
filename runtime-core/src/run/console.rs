//! The pty's master: its settings, and sending it to a console socket.
//!
//! The protocol is runc's: one message, whose text is the pty's name and which carries
//! exactly one descriptor.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::termios::{OptionalActions, OutputModes};

use crate::sys::{call, ipc};

/// Clears `ONLCR`: the container's output reaches the reader as it was written.
pub(crate) fn make_plain(master: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut settings = call("ioctl", || rustix::termios::tcgetattr(master))?;
    settings.output_modes.remove(OutputModes::ONLCR);
    call("ioctl", || {
        rustix::termios::tcsetattr(master, OptionalActions::Now, &settings)
    })
}

/// Sends the master to the socket at `path`.
pub(crate) fn hand_on(master: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let socket = ipc::connect(path)?;
    let name = call("ioctl", || rustix::pty::ptsname(master, Vec::new()))?;
    ipc::send(socket.as_fd(), name.to_bytes(), Some(master))
}
