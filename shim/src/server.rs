//! [`Connection`]: a peer that speaks ttrpc, read and written without waiting.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::engine::Ready;
use crate::frame::{self, Frame, TooLong};

/// Read at once.
const CHUNK: usize = 16 << 10;

/// How many chunks are read of one peer before others get their turn.
const TURN: usize = 16;

/// How much may wait for a peer to take it; what it asks beyond that is read when it has.
const FULL: usize = 1 << 20;

/// Where an answer belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reply {
    pub(crate) connection: u64,
    pub(crate) stream: u32,
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of what comes next belongs to a frame that is too long.
    skip: usize,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Connection> {
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            input: Vec::new(),
            output: Vec::new(),
            skip: 0,
        })
    }

    /// Whether the other end runs as the same user and group, as ttrpc in Go demands.
    pub(crate) fn is_ours(&self) -> bool {
        let peer = rustix::net::sockopt::socket_peercred(&self.socket);
        peer.is_ok_and(|peer| {
            peer.uid == rustix::process::geteuid() && peer.gid == rustix::process::getegid()
        })
    }

    /// Whether the other end is still open. What it sent before it was closed may not be read yet.
    pub(crate) fn is_open(&self) -> bool {
        let mut ends = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let looked = poll(&mut ends, Some(&Timespec::default()));
        let [end] = ends;
        looked.is_ok() && !end.revents().intersects(gone)
    }

    /// Reads what is there, and takes the whole frames out of it. There may be more.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end, and whatever makes the connection useless.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Result<Frame, TooLong>>> {
        let mut frames = Vec::new();
        let mut chunk = [0; CHUNK];
        for _ in 0..TURN {
            if self.output.len() > FULL {
                break;
            }
            let end = match self.socket.read(&mut chunk) {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(count) => {
                    self.input.extend(chunk.get(..count).unwrap_or_default());
                    self.take(&mut frames);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            // Calls that came before the end are done: a caller may leave without an answer.
            if frames.is_empty() {
                return Err(end);
            }
            break;
        }
        Ok(frames)
    }

    fn take(&mut self, frames: &mut Vec<Result<Frame, TooLong>>) {
        loop {
            let skipped = self.skip.min(self.input.len());
            self.input.drain(..skipped);
            self.skip -= skipped;
            match frame::take(&mut self.input) {
                Ok(None) => return,
                Ok(Some(frame)) => frames.push(Ok(frame)),
                Err(long) => {
                    self.skip = frame::HEADER + long.length;
                    frames.push(Err(long));
                }
            }
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

    /// What to wait for: calls, unless the peer leaves too many answers, and room for these.
    pub(crate) fn interest(&self) -> Ready {
        match self.output.len() {
            0 => Ready::IN,
            length if length > FULL => Ready::OUT,
            _ => Ready::IN | Ready::OUT,
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
