//! [`Copies`]: all streams of all processes, moved by the one loop.
//!
//! A stream waits for one end at a time: for bytes, or for room where they go. So one whose
//! reader is slow holds one buffer and nobody else.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::Stream;
use crate::engine::{Key, Poller, Ready, Source, Token};

/// Moved at once; a pipe holds 64 KiB.
const CHUNK: usize = 16 << 10;

/// How many chunks one stream may move before others get their turn.
const TURN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Input,
    Output,
}

#[derive(Debug)]
struct Copy {
    key: Key,
    direction: Direction,
    from: OwnedFd,
    to: Arc<OwnedFd>,
    /// Only to be held.
    _reader: Option<OwnedFd>,
    /// What was read and not yet taken.
    pending: Vec<u8>,
    /// The end that is waited for.
    token: Option<Token>,
}

/// What became of a turn.
enum Turn {
    /// Waits for bytes.
    Empty,
    /// Waits for room.
    Full,
    /// There is more to do.
    Busy,
    /// Over.
    End,
}

#[derive(Debug, Default)]
pub(crate) struct Copies {
    next: u64,
    copies: BTreeMap<u64, Copy>,
}

impl Copies {
    /// Begins to copy a stream.
    pub(crate) fn add(&mut self, poller: &mut Poller, key: &Key, stream: Stream) {
        let copy = Copy {
            key: key.clone(),
            direction: stream.direction,
            from: stream.from,
            to: stream.to,
            _reader: stream.reader,
            pending: Vec::new(),
            token: None,
        };
        let number = self.next;
        self.next += 1;
        self.copies.insert(number, copy);
        self.go_on(poller, number);
    }

    /// Moves what can be moved. Says whose stream it was, if that is over now.
    pub(crate) fn go_on(&mut self, poller: &mut Poller, number: u64) -> Option<Key> {
        let copy = self.copies.get_mut(&number)?;
        let turn = copy.turn();
        copy.forget(poller);
        let waited = match turn {
            // Ready at once, after everybody else.
            Turn::Empty | Turn::Busy if copy.pending.is_empty() => copy.watch_input(poller, number),
            Turn::Empty | Turn::Full | Turn::Busy => copy.watch_output(poller, number),
            Turn::End => Err(Errno::PIPE),
        };
        if waited.is_ok() {
            return None;
        }
        self.copies.remove(&number).map(|copy| copy.key)
    }

    /// Whether output of this process is still on its way.
    pub(crate) fn has_output(&self, key: &Key) -> bool {
        let mut copies = self.copies.values();
        copies.any(|copy| copy.direction == Direction::Output && copy.key == *key)
    }

    /// Ends all streams of a process.
    pub(crate) fn remove(&mut self, poller: &mut Poller, key: &Key) {
        for copy in self.copies.values_mut().filter(|copy| copy.key == *key) {
            copy.forget(poller);
        }
        self.copies.retain(|_, copy| copy.key != *key);
    }
}

impl Copy {
    fn turn(&mut self) -> Turn {
        for _ in 0..TURN {
            while !self.pending.is_empty() {
                match rustix::io::write(&*self.to, &self.pending) {
                    Ok(count) => drop(self.pending.drain(..count)),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Turn::Full,
                    Err(errno) => return self.broken(errno),
                }
            }
            self.pending = Vec::new();
            let mut chunk = [0; CHUNK];
            match rustix::io::read(&self.from, &mut chunk) {
                Ok(0) => return Turn::End,
                Ok(count) => match self.write(chunk.get(..count).unwrap_or_default()) {
                    Ok(()) => {}
                    Err(errno) => return self.broken(errno),
                },
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Turn::Empty,
                // A pty whose last other end is closed.
                Err(Errno::IO) => return Turn::End,
                Err(errno) => return self.broken(errno),
            }
        }
        Turn::Busy
    }

    /// Writes bytes, and keeps what is not taken now.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let taken = match rustix::io::write(&*self.to, bytes) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => return Err(errno),
        };
        self.pending.extend(bytes.iter().skip(taken));
        Ok(())
    }

    /// Output that can't be written is read and dropped, so that the container goes on.
    fn broken(&mut self, errno: Errno) -> Turn {
        if self.direction == Direction::Input {
            // The container has closed its end.
            return Turn::End;
        }
        log::warn!("output of {:?}: {errno}", self.key);
        self.pending = Vec::new();
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        match null {
            Ok(null) => {
                self.to = Arc::new(null);
                Turn::Busy
            }
            Err(_) => Turn::End,
        }
    }

    /// Exactly one end is registered: an idle end that hung up would be told again and again.
    fn forget(&mut self, poller: &mut Poller) {
        if let Some(token) = self.token.take() {
            let Self { from, to, .. } = &*self;
            let ends: [BorrowedFd<'_>; 2] = [from.as_fd(), to.as_fd()];
            poller.remove_any(ends, token);
        }
    }

    fn watch_input(&mut self, poller: &mut Poller, number: u64) -> Result<(), Errno> {
        self.token = Some(poller.add(&self.from, Ready::IN, Source::Copy(number))?);
        Ok(())
    }

    fn watch_output(&mut self, poller: &mut Poller, number: u64) -> Result<(), Errno> {
        self.token = Some(poller.add(&*self.to, Ready::OUT, Source::Copy(number))?);
        Ok(())
    }
}
