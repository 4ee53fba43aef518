//! `tmpcopyup`: what a new tmpfs hides, copied into it before it is attached.
//!
//! See getdents64(2), openat2(2). Names are looked up below two descriptors and no link is
//! followed, so that nothing outside of both trees is read or made, whoever else changes
//! them. Contents, types, modes and owners are copied; times, extended attributes and what
//! is one file under two names are not.

use core::ffi::CStr;

use super::walk::open_in;
use crate::abi::{Kind, Slot, Span};
use crate::execute::{Failure, Init, Outcome};
use crate::sys::{self, Errno, Fd, Stat, errno, flag};

/// How deep directories may lie: the walk has a place for each, and no more descriptors
/// than at the top.
const DEPTH: usize = 128;
/// PATH_MAX.
const LONGEST: usize = 4096;
/// Bytes read at once.
const BLOCK: usize = 16 << 10;

#[inline(never)] // for its buffer
pub(crate) fn copy_up(init: &Init, path: Span, mount: Slot) -> Outcome {
    let to = init.slot(mount)?;
    let flags = flag::O_PATH | flag::O_DIRECTORY;
    let from = match open_in(init.slot(Slot::ROOT)?, init.text(path)?, flags, 0) {
        Err(error) if error.0 == errno::ENOENT => return Ok(()),
        other => other?,
    };
    let mut copy = Copy {
        from,
        to,
        path: [0; LONGEST],
        len: 0,
        ends: [0; DEPTH],
        places: [0; DEPTH],
        depth: 0,
    };
    let umask = sys::umask(0);
    let copied = copy.run();
    sys::umask(umask);
    sys::close(from)?;
    copied.map_err(|error| copy.failure(init, error))
}

/// A walk through a tree, one directory open at a time.
struct Copy {
    from: Fd,
    to: Fd,
    /// The directory reached, relative to both, with a NUL behind it.
    path: [u8; LONGEST],
    len: usize,
    /// Lengths of the path at the levels above.
    ends: [usize; DEPTH],
    /// How far each directory on the way was read, as lseek(2) has it.
    places: [u64; DEPTH],
    depth: usize,
}

/// What comes after a directory was read as far as it goes.
enum Next {
    /// The directory whose name now ends the path.
    Below,
    /// All of it is copied.
    Above,
}

impl Copy {
    fn run(&mut self) -> Result<(), Errno> {
        loop {
            match self.directory()? {
                Next::Below => {}
                Next::Above if self.depth == 0 => return Ok(()),
                Next::Above => {
                    self.depth = self.depth.wrapping_sub(1);
                    self.len = self.ends.get(self.depth).copied().ok_or(TOO_DEEP)?;
                    *self.path.get_mut(self.len).ok_or(TOO_LONG)? = 0;
                }
            }
        }
    }

    /// Goes on in the directory reached.
    fn directory(&mut self) -> Result<Next, Errno> {
        let from = below(self.from, self.path()?, flag::O_RDONLY | flag::O_DIRECTORY)?;
        let to = below(self.to, self.path()?, flag::O_PATH | flag::O_DIRECTORY)?;
        let place = self.places.get(self.depth).copied().ok_or(TOO_DEEP)?;
        sys::seek(from, place)?;
        let next = self.entries(from, to);
        sys::close(from)?;
        sys::close(to)?;
        next
    }

    fn entries(&mut self, from: Fd, to: Fd) -> Result<Next, Errno> {
        let mut buffer = [0u8; 2048];
        loop {
            let len = sys::getdents(from, &mut buffer)?;
            if len == 0 {
                return Ok(Next::Above);
            }
            let mut rest = buffer.get(..len).unwrap_or(&[]);
            while let Some((entry, after)) = Entry::first(rest) {
                rest = after;
                if entry.is_dots() {
                    continue;
                }
                if copy_one(from, to, entry.name).map_err(|error| self.at(entry.name, error))? {
                    *self.places.get_mut(self.depth).ok_or(TOO_DEEP)? = entry.place;
                    self.push(entry.name)?;
                    return Ok(Next::Below);
                }
            }
        }
    }

    /// Adds a directory to the path.
    fn push(&mut self, name: &CStr) -> Result<(), Errno> {
        *self.ends.get_mut(self.depth).ok_or(TOO_DEEP)? = self.len;
        self.depth = self.depth.wrapping_add(1);
        *self.places.get_mut(self.depth).ok_or(TOO_DEEP)? = 0;
        self.append(name)
    }

    fn append(&mut self, name: &CStr) -> Result<(), Errno> {
        let slash = if self.len == 0 { &b""[..] } else { b"/" };
        for byte in slash.iter().chain(name.to_bytes_with_nul()) {
            *self.path.get_mut(self.len).ok_or(TOO_LONG)? = *byte;
            self.len = self.len.wrapping_add(1);
        }
        self.len = self.len.wrapping_sub(1);
        Ok(())
    }

    /// Puts the name of what failed behind the path, for the message.
    fn at(&mut self, name: &CStr, error: Errno) -> Errno {
        self.append(name).unwrap_or_default();
        error
    }

    fn path(&self) -> Result<&CStr, Errno> {
        match CStr::from_bytes_until_nul(&self.path) {
            Ok(path) if path.is_empty() => Ok(c"."),
            Ok(path) => Ok(path),
            Err(_) => Err(TOO_LONG),
        }
    }

    fn failure(&self, init: &Init, error: Errno) -> Failure {
        let path = self.path().unwrap_or(c"");
        init.detail(Kind::Plain, error.0, &[path.to_bytes()])
    }
}

const TOO_DEEP: Errno = Errno(errno::ELOOP);
const TOO_LONG: Errno = Errno(errno::ENAMETOOLONG);

/// Opens a path below a directory, by way of no link.
fn below(dir: Fd, path: &CStr, flags: u64) -> Result<Fd, Errno> {
    let resolve = flag::RESOLVE_BENEATH | flag::RESOLVE_NO_SYMLINKS;
    sys::openat2(dir, path, flags | flag::O_NOFOLLOW, resolve)
}

/// Copies what a name stands for; true for a directory, which is empty then.
fn copy_one(from: Fd, to: Fd, name: &CStr) -> Result<bool, Errno> {
    let found = below(from, name, flag::O_PATH)?;
    let stat = sys::stat(found, c"");
    sys::close(found)?;
    let stat = stat?;
    if stat.is(flag::S_IFDIR) {
        sys::mkdirat(to, name, 0o700)?;
    } else if stat.is(flag::S_IFREG) {
        copy_file(from, to, name)?;
    } else if stat.is(flag::S_IFLNK) {
        copy_link(from, to, name)?;
    } else {
        sys::mknodat(to, name, stat.mode, stat.major, stat.minor)?;
    }
    finish(to, name, &stat)?;
    Ok(stat.is(flag::S_IFDIR))
}

/// Owner first: a change of owner takes the set-user-ID bit away.
fn finish(to: Fd, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    sys::fchownat(to, name, stat.uid, stat.gid)?;
    if stat.is(flag::S_IFLNK) {
        return Ok(());
    }
    // The tmpfs is attached nowhere yet, so the name is what was just made.
    sys::fchmodat(to, name, stat.mode & 0o7777)
}

fn copy_link(from: Fd, to: Fd, name: &CStr) -> Result<(), Errno> {
    let mut target = [0u8; LONGEST];
    let len = sys::readlinkat(from, name, &mut target)?;
    // A target that fills the buffer has no room for its NUL.
    *target.get_mut(len).ok_or(TOO_LONG)? = 0;
    let target = CStr::from_bytes_until_nul(&target).map_err(|_| TOO_LONG)?;
    sys::symlinkat(target, to, name)
}

fn copy_file(from: Fd, to: Fd, name: &CStr) -> Result<(), Errno> {
    // Not to wait for a fifo that somebody puts there meanwhile.
    let source = below(
        from,
        name,
        flag::O_RDONLY | flag::O_NONBLOCK | flag::O_NOCTTY,
    )?;
    let target = below(to, name, flag::O_WRONLY | flag::O_CREAT | flag::O_EXCL);
    let copied = match target {
        Err(error) => Err(error),
        Ok(target) => {
            let copied = copy_contents(source, target);
            sys::close(target)?;
            copied
        }
    };
    sys::close(source)?;
    copied
}

fn copy_contents(source: Fd, target: Fd) -> Result<(), Errno> {
    if !sys::stat(source, c"")?.is(flag::S_IFREG) {
        return Err(Errno(errno::EAGAIN));
    }
    let mut block = [0u8; BLOCK];
    loop {
        let len = sys::read(source, &mut block)?;
        let mut rest = block.get(..len).unwrap_or(&[]);
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let written = sys::write(target, rest)?;
            rest = rest.get(written..).unwrap_or(&[]);
        }
    }
}

/// A name in a directory, `struct linux_dirent64`.
struct Entry<'a> {
    /// Where reading goes on behind it.
    place: u64,
    name: &'a CStr,
}

impl Entry<'_> {
    /// The first entry of the bytes that getdents64(2) gave, and those behind it.
    fn first(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
        // u64 d_ino, i64 d_off, u16 d_reclen, u8 d_type, d_name.
        let place = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
        let len = u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?) as usize;
        let name = CStr::from_bytes_until_nul(bytes.get(19..len)?).ok()?;
        Some((Entry { place, name }, bytes.get(len..)?))
    }

    fn is_dots(&self) -> bool {
        matches!(self.name.to_bytes(), b"." | b"..")
    }
}
