//! Sockets, fifos, files in memory, terminals.
//!
//! See unix(7), recvmsg(2), memfd_create(2), fifo(7), fcntl(2).

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::termios::{OptionalActions, OutputModes};

use super::call;

/// A pair of connected `SOCK_SEQPACKET` sockets.
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    call("socketpair", || {
        rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
    })
}

/// Receives one message and at most one descriptor; `None` at the end.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<Option<(usize, Option<OwnedFd>)>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [std::io::IoSliceMut::new(buffer)];
    let received = loop {
        let received = call("recvmsg", || {
            rustix::net::recvmsg(socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        match received {
            Err(Errno::INTR) => {}
            // The other end died with something of ours unread.
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((received.bytes, passed)))
}

/// `shutdown(2)` of both directions: the peer reads the end, whoever has copies.
pub(crate) fn shut_down(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    call("shutdown", || {
        rustix::net::shutdown(socket, rustix::net::Shutdown::Both)
    })
}

/// Sends bytes and maybe a descriptor as one message.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    passed: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let sent = send_some(socket, bytes, passed)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(Errno::IO)
    }
}

/// How many of the bytes the socket took.
fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    passed: Option<BorrowedFd<'_>>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = passed.into_iter().collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    let iov = [std::io::IoSlice::new(bytes)];
    call("sendmsg", || {
        rustix::net::sendmsg(socket, &iov, &mut control, SendFlags::NOSIGNAL)
    })
}

/// Sends bytes through a stream socket, with a descriptor at their beginning. In one call, if
/// there is room: some readers expect it.
pub(crate) fn send_all_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    passed: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let sent = send_some(socket, bytes, Some(passed))?;
    send_all(socket, bytes.get(sent..).unwrap_or(&[]))
}

/// Connects to an existing `AF_UNIX` stream socket.
pub(crate) fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = call("socket", || {
        rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
    })?;
    // A listener with a full backlog, and a peer that reads nothing, are not waited for.
    let timeout = std::time::Duration::from_secs(10);
    call("setsockopt", || {
        let kind = rustix::net::sockopt::Timeout::Send;
        rustix::net::sockopt::set_socket_timeout(&socket, kind, Some(timeout))
    })?;
    let address = SocketAddrUnix::new(path)?;
    call("connect", || rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// A file in memory that holds `bytes` and can't be changed any more.
pub(crate) fn sealed_memfd(name: &CStr, bytes: &[u8], flags: MemfdFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = call("memfd_create", || rustix::fs::memfd_create(name, flags))?;
    write_all(file.as_fd(), bytes)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    call("fcntl", || rustix::fs::fcntl_add_seals(&file, seals))?;
    Ok(file)
}

/// A file in memory of `size` zeros.
pub(crate) fn sized_memfd(name: &CStr, size: u64, flags: MemfdFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | MemfdFlags::CLOEXEC;
    let file = call("memfd_create", || rustix::fs::memfd_create(name, flags))?;
    call("ftruncate", || rustix::fs::ftruncate(&file, size))?;
    Ok(file)
}

/// Sends all bytes through a stream socket; a peer that is gone is an error, and no signal.
pub(crate) fn send_all(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match call("sendto", || {
            rustix::net::send(socket, rest, SendFlags::NOSIGNAL)
        }) {
            Ok(count) => rest = rest.get(count..).unwrap_or(&[]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// `write(2)` until all is written.
pub(crate) fn write_all(file: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match call("write", || rustix::io::write(file, rest)) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => rest = rest.get(count..).unwrap_or(&[]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// `pread(2)` of exactly the buffer's length; `EIO` if the file is shorter.
pub(crate) fn pread_exact(file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < buffer.len() {
        let rest = buffer.get_mut(done..).unwrap_or(&mut []);
        match call("pread64", || {
            rustix::io::pread(file, rest, at + done as u64)
        }) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The same descriptor with a number of at least `least`; closed on exec.
pub(crate) fn at_least(fd: OwnedFd, least: i32) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() >= least {
        return Ok(fd);
    }
    call("fcntl", || rustix::io::fcntl_dupfd_cloexec(&fd, least))
}

/// A copy of a descriptor with a number of at least `least`; closed on exec.
pub(crate) fn copy_at_least(fd: BorrowedFd<'_>, least: i32) -> Result<OwnedFd, Errno> {
    call("fcntl", || rustix::io::fcntl_dupfd_cloexec(fd, least))
}

/// Whether a descriptor is open and not close-on-exec: a program that the caller executes has it.
pub(crate) fn is_inherited(fd: BorrowedFd<'_>) -> bool {
    let flags = call("fcntl", || rustix::io::fcntl_getfd(fd));
    flags.is_ok_and(|flags| !flags.contains(rustix::io::FdFlags::CLOEXEC))
}

/// Whether a descriptor of the caller with this number is open.
pub(crate) fn is_open_number(number: i32) -> bool {
    call("fcntl", || {
        // SAFETY: no memory is involved; whatever the number is, only its flags are read.
        match unsafe { libc::fcntl(number, libc::F_GETFD) } {
            0.. => Ok(()),
            _ => Err(Errno::BADF),
        }
    })
    .is_ok()
}

/// Makes a fifo in a directory and opens it for both directions, so that nobody waits.
pub(crate) fn make_fifo(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    // Whoever can write to exec.fifo can start the container.
    let mode = Mode::from_raw_mode(0o600);
    call("mknodat", || {
        rustix::fs::mknodat(dir, name, FileType::Fifo, mode, 0)
    })?;
    open_fifo(dir, name, OFlags::RDWR)
}

/// Opens a fifo of a directory without waiting for its other end.
pub(crate) fn open_fifo(dir: BorrowedFd<'_>, name: &str, how: OFlags) -> Result<OwnedFd, Errno> {
    // Non-blocking only while opening: a read by init must wait.
    let wait = if how.contains(OFlags::RDWR) {
        OFlags::empty()
    } else {
        OFlags::NONBLOCK
    };
    let flags = how | wait | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    call("openat", || {
        rustix::fs::openat(dir, name, flags, Mode::empty())
    })
}

/// A new file of a given size, with its blocks allocated.
pub(crate) fn make_sized(dir: BorrowedFd<'_>, name: &str, size: u64) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o600);
    let file = call("openat", || rustix::fs::openat(dir, name, flags, mode))?;
    let allocated = call("fallocate", || {
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size)
    });
    match allocated {
        // ramfs and some others can't; writing does the same.
        Err(Errno::OPNOTSUPP) => {
            write_all(file.as_fd(), &vec![0; usize::try_from(size).unwrap_or(0)])?;
        }
        other => other?,
    }
    Ok(file)
}

/// An exclusive lock of flock(2), given back when dropped.
///
/// A close alone would not do: a child of another thread has a copy of the descriptor until its exec, and a copy keeps the
/// lock. On a machine with much to do that was seen to take more than 10 s.
#[derive(Debug)]
pub(crate) struct FileLock(OwnedFd);

impl FileLock {
    /// Takes it without waiting; the file back if somebody else has it.
    pub(crate) fn take(file: OwnedFd) -> Result<Result<FileLock, OwnedFd>, Errno> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Ok(FileLock(file))),
            Err(Errno::WOULDBLOCK) => Ok(Err(file)),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Err(errno) = flock(&self.0, FlockOperation::Unlock) {
            log::debug!("flock: {errno}");
        }
    }
}

fn flock(file: &OwnedFd, operation: FlockOperation) -> Result<(), Errno> {
    call("flock", || rustix::fs::flock(file, operation))
}

/// `tcsetattr(3)`: a pty passes line ends on as they are.
pub(crate) fn clear_onlcr(master: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut termios = call("ioctl", || rustix::termios::tcgetattr(master))?;
    termios.output_modes.remove(OutputModes::ONLCR);
    call("ioctl", || {
        rustix::termios::tcsetattr(master, OptionalActions::Now, &termios)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_dropped_is_free_whoever_has_a_copy_of_its_descriptor() {
        let folder = std::env::temp_dir();
        let open = || super::super::file::open_dir_at(rustix::fs::CWD, &folder).unwrap();
        let lock = FileLock::take(open()).unwrap().unwrap();
        let copy = lock.0.try_clone().unwrap();
        assert!(FileLock::take(open()).unwrap().is_err());
        drop(lock);
        assert!(FileLock::take(open()).unwrap().is_ok());
        drop(copy);
    }
}
