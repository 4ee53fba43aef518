//! Paths below the container's root: found, or made, without ever leaving it.
//!
//! See openat2(2). Everything here is relative to a descriptor; nothing falls back to
//! a path.

use core::ffi::CStr;

use crate::execute::Failure;
use crate::sys::{self, Errno, Fd, errno, flag};

/// How often a lookup that raced with a rename is tried.
const ATTEMPTS: u32 = 128;
/// How many links are followed, as the kernel does.
const LINKS: u32 = 40;
/// PATH_MAX.
const LONGEST: usize = 4096;

/// What to make where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// A directory, and those above it.
    Directory,
    /// An empty file, and the directories above it.
    File,
}

/// Opens `path` as if `root` were `/`; symbolic links stay inside.
pub(crate) fn open_in(root: Fd, path: &CStr, flags: u64, more: u64) -> Result<Fd, Errno> {
    let resolve = flag::RESOLVE_IN_ROOT | flag::RESOLVE_NO_MAGICLINKS | more;
    let mut last = Errno(errno::EAGAIN);
    for _ in 0..ATTEMPTS {
        match sys::openat2(root, path, flags, resolve) {
            // A rename elsewhere on the system makes a lookup with `..` give up.
            Err(error) if error.0 == errno::EAGAIN => last = error,
            other => return other,
        }
    }
    Err(last)
}

/// Opens `path` below `root` as `O_PATH`, making what is missing.
///
/// A symbolic link to nothing is followed inside the root and what it names is made, as
/// many images' /etc/resolv.conf wants it.
pub(crate) fn make_in(root: Fd, path: &CStr, make: Make, more: u64) -> Result<Fd, Failure> {
    match open_in(root, path, flag::O_PATH, more) {
        Err(error) if error.0 == errno::ENOENT => {}
        other => return Ok(other?),
    }
    make_what_is_missing(root, path, make, more)
}

/// Its buffers are pages that other calls on this stack do without.
#[inline(never)]
fn make_what_is_missing(root: Fd, path: &CStr, make: Make, more: u64) -> Result<Fd, Failure> {
    let mut walk = Walk {
        root,
        dir: None,
        path: [0; LONGEST],
        len: 0,
        more,
        links: 0,
    };
    walk.set_path([path.to_bytes(), b"", b""])?;
    walk.run(make)
}

/// A walk along a path, one component after the other.
struct Walk {
    root: Fd,
    /// The directory reached so far; the root if none.
    dir: Option<Fd>,
    /// The path, with a NUL behind it.
    path: [u8; LONGEST],
    len: usize,
    /// Further `RESOLVE_*`.
    more: u64,
    /// Links followed.
    links: u32,
}

impl Walk {
    fn run(&mut self, make: Make) -> Result<Fd, Failure> {
        let mut start = 0usize;
        while start < self.len {
            let end = self.component_end(start);
            let make = if end == self.len {
                make
            } else {
                Make::Directory
            };
            if end == start {
                start = end.wrapping_add(1);
            } else if let Some(found) = self.step(start, end, make)? {
                self.enter(Some(found))?;
                start = end.wrapping_add(1);
            } else {
                self.follow(start, end)?;
                self.enter(None)?;
                start = 0;
            }
        }
        self.dir.ok_or(TOO_LONG.into())
    }

    fn enter(&mut self, dir: Option<Fd>) -> Result<(), Errno> {
        match core::mem::replace(&mut self.dir, dir) {
            Some(old) => sys::close(old),
            None => Ok(()),
        }
    }

    /// Position of the next slash after `start`, or the end.
    fn component_end(&self, start: usize) -> usize {
        let rest = self.path.iter().take(self.len).skip(start);
        start.wrapping_add(rest.take_while(|byte| **byte != b'/').count())
    }

    /// Opens the prefix that ends at `end`, or makes its last component; none if that is
    /// a symbolic link to nothing.
    fn step(&mut self, start: usize, end: usize, make: Make) -> Result<Option<Fd>, Failure> {
        let after = core::mem::replace(self.cell(end)?, 0);
        let result = match open_in(self.root, self.string(0)?, flag::O_PATH, self.more) {
            Err(error) if error.0 == errno::ENOENT => {
                create(self.dir.unwrap_or(self.root), self.string(start)?, make)
            }
            other => other.map(Some),
        };
        *self.cell(end)? = after;
        Ok(result?)
    }

    /// Puts the target of the link that ends at `end` in its place.
    #[inline(never)] // for its buffer
    fn follow(&mut self, start: usize, end: usize) -> Result<(), Failure> {
        self.links = self.links.wrapping_add(1);
        if self.links > LINKS {
            return Err(Errno(errno::ELOOP).into());
        }
        let after = core::mem::replace(self.cell(end)?, 0);
        let mut target = [0u8; LONGEST];
        let dir = self.dir.unwrap_or(self.root);
        let len = match sys::readlinkat(dir, self.string(start)?, &mut target) {
            // No link: somebody else has just made the name. It is looked up again.
            Err(error) if error.0 == errno::EINVAL => None,
            other => Some(other?),
        };
        *self.cell(end)? = after;
        let Some(len) = len else { return Ok(()) };
        let target = target.get(..len).unwrap_or(&[]);
        let old = self.path;
        let before = if target.first() == Some(&b'/') {
            0
        } else {
            start
        };
        let rest = old.get(end..self.len).unwrap_or(&[]);
        self.set_path([old.get(..before).unwrap_or(&[]), target, rest])
    }

    fn set_path(&mut self, parts: [&[u8]; 3]) -> Result<(), Failure> {
        let mut cells = self.path.iter_mut();
        let mut len = 0usize;
        for byte in parts.iter().flat_map(|part| part.iter()) {
            *cells.next().ok_or(TOO_LONG)? = *byte;
            len = len.wrapping_add(1);
        }
        *cells.next().ok_or(TOO_LONG)? = 0;
        self.len = len;
        Ok(())
    }

    fn cell(&mut self, at: usize) -> Result<&mut u8, Failure> {
        self.path.get_mut(at).ok_or(TOO_LONG.into())
    }

    fn string(&self, start: usize) -> Result<&CStr, Failure> {
        let rest = self.path.get(start..).ok_or(TOO_LONG)?;
        CStr::from_bytes_until_nul(rest).map_err(|_| TOO_LONG.into())
    }
}

const TOO_LONG: Errno = Errno(errno::ENAMETOOLONG);

/// Makes one name in a directory and opens what was made, never what it links to. None
/// if the name is there already, though its path leads nowhere.
fn create(dir: Fd, name: &CStr, make: Make) -> Result<Option<Fd>, Errno> {
    let made = match make {
        Make::Directory => sys::mkdirat(dir, name, 0o755),
        Make::File => sys::mknodat(dir, name, flag::S_IFREG | 0o644, 0, 0),
    };
    match made {
        Err(error) if error.0 == errno::EEXIST => return Ok(None),
        other => other?,
    }
    let resolve = flag::RESOLVE_BENEATH | flag::RESOLVE_NO_SYMLINKS;
    let flags = flag::O_PATH | flag::O_NOFOLLOW;
    sys::openat2(dir, name, flags, resolve).map(Some)
}

#[cfg(test)]
mod tests;
