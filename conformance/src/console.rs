//! Terminals: the console socket that receives a pty's master, and a pty of our own.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::wait;

/// The listening end of a `--console-socket`.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Listens at a path.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn listen(path: &Path) -> io::Result<Self> {
        Ok(Self {
            listener: UnixListener::bind(path)?,
            path: path.to_owned(),
        })
    }

    /// Where the runtime must connect to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The message that the runtime sent: the pty's name and its master.
    ///
    /// # Errors
    ///
    /// If none came in time, or one without exactly one fd.
    pub fn receive(&self) -> io::Result<(String, OwnedFd)> {
        if !wait::readable(&self.listener, wait::CALL)? {
            return Err(io::Error::other("nobody connected to the console socket"));
        }
        let (stream, _) = self.listener.accept()?;
        if !wait::readable(&stream, wait::CALL)? {
            return Err(io::Error::other("no message on the console socket"));
        }
        let mut name = [0_u8; 4096];
        let (len, mut fds) = receive(&stream, &mut name)?;
        let name = String::from_utf8_lossy(&name[..len]).into_owned();
        match (fds.pop(), fds.len()) {
            (Some(master), 0) => Ok((name, master)),
            _ => Err(io::Error::other(format!(
                "{name:?} came without exactly one fd"
            ))),
        }
    }
}

/// One message: how long it is, and the descriptors that came with it.
pub(crate) fn receive(stream: &UnixStream, text: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(stream, &mut [IoSliceMut::new(text)], &mut control, flags)?;
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((got.bytes, fds))
}

/// A new pty: its master and its slave.
///
/// # Errors
///
/// If /dev/ptmx gives none.
pub fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}

/// Reads from a pty's master until the text is enough, and returns all of it.
///
/// # Errors
///
/// If that does not come in time: what came instead.
pub fn read_until(master: &OwnedFd, enough: impl Fn(&str) -> bool) -> io::Result<String> {
    let end = Instant::now() + wait::CALL;
    let mut text = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        let so_far = String::from_utf8_lossy(&text);
        if enough(&so_far) {
            return Ok(so_far.into_owned());
        }
        let left = end.saturating_duration_since(Instant::now());
        let ended = !wait::readable(master, left.max(Duration::from_millis(1)))?;
        // EIO is how a master says that every slave is closed.
        let count = if ended {
            0
        } else {
            rustix::io::read(master, &mut buffer).unwrap_or(0)
        };
        if count == 0 {
            return Err(io::Error::other(format!(
                "not what was waited for: {so_far:?}"
            )));
        }
        text.extend_from_slice(&buffer[..count]);
    }
}
