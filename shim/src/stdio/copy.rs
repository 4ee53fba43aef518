//! [`Copies`]: all streams of all processes, moved by the one loop.
//!
//! A stream waits for one end at a time: for bytes, or for room where they go. So one whose
//! reader is slow holds one buffer and nobody else. A file can't be waited for: when there are
//! bytes for one, a thread carries them, which may hang with the file's disk.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Stream;
use crate::engine::{Key, Poller, Ready, Source, Token};

/// Moved at once; a pipe holds 64 KiB.
const CHUNK: usize = 16 << 10;

/// How many chunks one stream may move before others get their turn.
const TURN: usize = 8;

/// How many a thread carries before it comes back to hear whether it is still wanted.
const CARRIED: usize = 64;

/// After which time an end that epoll did not take is offered again.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Input,
    Output,
}

#[derive(Debug)]
struct Copy {
    key: Key,
    direction: Direction,
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    /// Whether `to` may wait, so that bytes for it are carried by a thread.
    blocks: bool,
    /// Only to be held.
    _reader: Option<OwnedFd>,
    /// What was read and not yet taken.
    pending: Vec<u8>,
    /// The end that is waited for.
    token: Option<Token>,
}

/// What became of a turn.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Waits for bytes.
    Empty,
    /// Waits for room.
    Full,
    /// There is more to do.
    Busy,
    /// An end is broken.
    Broken(Errno),
    /// Over.
    End,
}

/// Bytes to be carried by a thread.
#[derive(Debug)]
pub(crate) struct Carrier {
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
pub(crate) struct Copies {
    next: u64,
    copies: BTreeMap<u64, Copy>,
    /// Streams none of whose ends is registered, and when that is tried again.
    unwatched: BTreeSet<u64>,
    again: Option<Instant>,
}

impl Copies {
    /// Takes a stream; its number is for [`Self::go_on`].
    pub(crate) fn add(&mut self, key: &Key, stream: Stream) -> u64 {
        let copy = Copy {
            key: key.clone(),
            direction: stream.direction,
            from: Arc::new(stream.from),
            to: stream.to,
            blocks: stream.blocks,
            _reader: stream.reader,
            pending: Vec::new(),
            token: None,
        };
        let number = self.next;
        self.next += 1;
        self.copies.insert(number, copy);
        number
    }

    /// Moves what can be moved, once something is ready; gives back what a thread has to carry.
    pub(crate) fn go_on(&mut self, poller: &mut Poller, number: u64) -> Option<Carrier> {
        let copy = self.copies.get_mut(&number)?;
        let was_ready = copy.token.is_some();
        copy.forget(poller);
        if copy.blocks && was_ready {
            return Some(Carrier {
                from: Arc::clone(&copy.from),
                to: Arc::clone(&copy.to),
            });
        }
        let turn = if copy.blocks {
            Turn::Empty
        } else {
            copy.turn()
        };
        self.after(poller, number, turn);
        None
    }

    /// Goes on with a stream behind a turn, of its own or of its [`Carrier`].
    pub(crate) fn after(&mut self, poller: &mut Poller, number: u64, turn: Turn) {
        let Some(copy) = self.copies.get_mut(&number) else {
            return;
        };
        let turn = match turn {
            Turn::Broken(errno) => copy.broken(errno),
            other => other,
        };
        let watched = match turn {
            // Ready at once, after everybody else.
            Turn::Empty | Turn::Busy if copy.pending.is_empty() => copy.watch_input(poller, number),
            Turn::Empty | Turn::Full | Turn::Busy => copy.watch_output(poller, number),
            Turn::Broken(_) | Turn::End => {
                self.copies.remove(&number);
                return;
            }
        };
        if let Err(errno) = watched {
            // It must not end for that: the container would be killed by SIGPIPE.
            log::warn!("a stream of {:?} waits for epoll: {errno}", copy.key);
            self.unwatched.insert(number);
            self.again.get_or_insert_with(|| Instant::now() + AGAIN);
        }
    }

    /// When to look at [`Self::due`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// Streams that are to go on although nothing told it.
    pub(crate) fn due(&mut self) -> BTreeSet<u64> {
        if self.again.is_none_or(|again| again > Instant::now()) {
            return BTreeSet::new();
        }
        self.again = None;
        std::mem::take(&mut self.unwatched)
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

impl Carrier {
    /// Carries what is there; on a thread of its own.
    pub(crate) fn run(self) -> Turn {
        let mut chunk = [0; CHUNK];
        for _ in 0..CARRIED {
            let mut rest = match rustix::io::read(&*self.from, &mut chunk) {
                Ok(count) => chunk.get(..count).unwrap_or_default(),
                Err(Errno::INTR) => continue,
                Err(errno) => return no_bytes(errno),
            };
            if rest.is_empty() {
                return Turn::End;
            }
            while !rest.is_empty() {
                match rustix::io::write(&*self.to, rest) {
                    Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                    Err(Errno::INTR) => {}
                    Err(errno) => return Turn::Broken(errno),
                }
            }
        }
        Turn::Busy
    }
}

/// What it means that nothing could be read.
fn no_bytes(errno: Errno) -> Turn {
    match errno {
        Errno::AGAIN => Turn::Empty,
        // A pty whose last other end is closed.
        Errno::IO => Turn::End,
        errno => Turn::Broken(errno),
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
                    Err(errno) => return Turn::Broken(errno),
                }
            }
            self.pending = Vec::new();
            let mut chunk = [0; CHUNK];
            match rustix::io::read(&*self.from, &mut chunk) {
                Ok(0) => return Turn::End,
                Ok(count) => match self.write(chunk.get(..count).unwrap_or_default()) {
                    Ok(()) => {}
                    Err(errno) => return Turn::Broken(errno),
                },
                Err(Errno::INTR) => {}
                Err(errno) => return no_bytes(errno),
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
                self.blocks = false;
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
        self.token = Some(poller.add(&*self.from, Ready::IN, Source::Copy(number))?);
        Ok(())
    }

    fn watch_output(&mut self, poller: &mut Poller, number: u64) -> Result<(), Errno> {
        self.token = Some(poller.add(&*self.to, Ready::OUT, Source::Copy(number))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_stream_that_epoll_does_not_take_goes_on_when_it_does() {
        let (from, mut input) = std::io::pipe().unwrap();
        let (mut output, to) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&from, true).unwrap();
        let stream = Stream {
            direction: Direction::Output,
            from: from.into(),
            to: Arc::new(to.into()),
            blocks: false,
            reader: None,
        };
        let (mut copies, key) = (Copies::default(), Key::default());
        let mut refusing = Poller::refusing();
        let number = copies.add(&key, stream);
        assert!(copies.go_on(&mut refusing, number).is_none());
        assert!(copies.has_output(&key), "its container still writes to it");
        let again = copies.deadline().unwrap();
        while Instant::now() < again {
            std::thread::yield_now();
        }
        input.write_all(b"hello").unwrap();
        let mut poller = Poller::new().unwrap();
        for number in copies.due() {
            copies.go_on(&mut poller, number);
        }
        let mut bytes = [0; 5];
        output.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        assert_eq!(copies.deadline(), None);
    }
}
