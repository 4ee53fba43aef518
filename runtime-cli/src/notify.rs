//! `NOTIFY_SOCKET`: what the container's program tells the service manager of this one.
//!
//! The manager believes only its own children, so the container has a socket of its own, and
//! `READY=` goes on from here: with `MAINPID`, and with a barrier, after which the manager has
//! read it and this program may end. See sd_notify(3) and sd_notify_barrier(3).

use std::env;
use std::ffi::OsString;
use std::io::{IoSlice, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::failure::Failure;

const SOCKET: &str = "notify.sock";

/// How long the manager may take for a barrier, as in runc; older ones know none.
const BARRIER: Duration = Duration::from_secs(30);

/// The container's socket, and the way to the manager's.
pub(crate) struct Notify {
    socket: UnixDatagram,
    manager: OsString,
}

/// The manager's socket, if there is one.
fn manager() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

/// Whether a container is to get a socket.
pub(crate) fn is_wanted() -> bool {
    manager().is_some()
}

impl Notify {
    /// Binds the socket of a container that was created with a place for one.
    pub(crate) fn bind(root: &Path, id: &str) -> Result<Option<Notify>, Failure> {
        let Some(manager) = manager() else {
            return Ok(None);
        };
        let path = root.join(id).join("notify");
        let failed = |error: std::io::Error| Failure::io(&path.join(SOCKET), &error);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(|errno| failed(errno.into()))?,
        };
        // A start that was tried before may have left it.
        match rustix::fs::unlinkat(&dir, SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        // By its directory: an address takes 107 bytes.
        let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
        let socket =
            UnixDatagram::bind(format!("/proc/self/fd/{number}/{SOCKET}")).map_err(failed)?;
        // Whoever the container's program runs as may write to it.
        rustix::fs::chmodat(&dir, SOCKET, Mode::from_raw_mode(0o777), AtFlags::empty())
            .map_err(|errno| failed(errno.into()))?;
        Ok(Some(Notify { socket, manager }))
    }

    /// Waits until the program is ready, or has ended, and tells the manager of the first.
    pub(crate) fn relay(&self, pidfd: BorrowedFd<'_>, main_pid: i32) {
        if let Err(error) = self.try_relay(pidfd, main_pid) {
            log::warn!("NOTIFY_SOCKET: {}: {error}", self.manager.display());
        }
    }

    fn try_relay(&self, pidfd: BorrowedFd<'_>, main_pid: i32) -> std::io::Result<()> {
        while let Some(message) = self.next(pidfd)? {
            let mut lines = message.split(|byte| *byte == b'\n');
            let Some(ready) = lines.find(|line| line.starts_with(b"READY=")) else {
                continue;
            };
            let to = UnixDatagram::unbound()?;
            to.connect_addr(&self.address()?)?;
            to.send(&[ready, b"\n"].concat())?;
            to.send(format!("MAINPID={main_pid}\n").as_bytes())?;
            return barrier(&to);
        }
        Ok(())
    }

    /// The next message; none when the container has ended.
    fn next(&self, pidfd: BorrowedFd<'_>) -> std::io::Result<Option<Vec<u8>>> {
        let mut fds = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
        ];
        wait(&mut fds, None)?;
        // What it said before its end counts.
        if fds[0].revents().is_empty() {
            return Ok(None);
        }
        let mut message = vec![0; 4096];
        let length = self.socket.recv(&mut message)?;
        message.truncate(length);
        Ok(Some(message))
    }

    /// A name that begins with `@` is no file.
    fn address(&self) -> std::io::Result<SocketAddr> {
        match self.manager.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(&self.manager),
        }
    }
}

fn wait(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> std::io::Result<usize> {
    loop {
        match poll(fds, timeout) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Gives the manager the end of a pipe; it closes that when it has read all before it.
fn barrier(manager: &UnixDatagram) -> std::io::Result<()> {
    let (mut ours, theirs) = std::io::pipe()?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let passed = [theirs.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&passed)) {
        return Err(Errno::NOBUFS.into());
    }
    let text = [IoSlice::new(b"BARRIER=1")];
    sendmsg(manager, &text, &mut control, SendFlags::NOSIGNAL)?;
    drop(theirs);
    let limit = Timespec::try_from(BARRIER).map_err(std::io::Error::other)?;
    if wait(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&limit))? == 0 {
        log::warn!("NOTIFY_SOCKET: no answer to a barrier");
        return Ok(());
    }
    match ours.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(std::io::Error::other("an unexpected answer to a barrier")),
    }
}
