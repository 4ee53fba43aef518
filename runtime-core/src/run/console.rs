//! The pty's master, sent to a console socket.
//!
//! The protocol is runc's: one message, whose text is the pty's name and which carries
//! exactly one descriptor. Its settings stay the kernel's: `ONLCR` is the reader's choice.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;

use crate::sys::{call, ipc};

/// Sends the master to the socket at `path`.
pub(crate) fn hand_on(master: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let socket = ipc::connect(path)?;
    let name = call("ioctl", || rustix::pty::ptsname(master, Vec::new()))?;
    ipc::send(socket.as_fd(), name.to_bytes(), Some(master))
}
