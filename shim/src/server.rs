//! [`Connection`]: a peer that speaks ttrpc, read and written without waiting.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crate::frame::{self, Frame};

/// Read at once.
const CHUNK: usize = 16 << 10;

/// Where an answer belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) connection: u64,
    pub(crate) stream: u32,
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Connection> {
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    /// Whether the other end runs as the same user and group, as ttrpc in Go demands.
    pub(crate) fn is_ours(&self) -> bool {
        let peer = rustix::net::sockopt::socket_peercred(&self.socket);
        peer.is_ok_and(|peer| {
            peer.uid == rustix::process::geteuid() && peer.gid == rustix::process::getegid()
        })
    }

    /// Reads what is there, and takes the whole frames out of it.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end, and whatever makes the connection useless.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        let mut chunk = [0; CHUNK];
        let end = loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => break Some(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend(chunk.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
            while let Some(frame) = frame::take(&mut self.input).map_err(io::Error::other)? {
                frames.push(frame);
            }
        };
        match end {
            // Calls that came before the end are done: a caller may leave without an answer.
            Some(error) if frames.is_empty() => Err(error),
            _ => Ok(frames),
        }
    }

    /// Sends bytes, as far as the other end takes them now.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.extend(bytes);
        self.flush()
    }

    /// Goes on with sending.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output = Vec::new();
        Ok(())
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_full(&self) -> bool {
        !self.output.is_empty()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
