//! Paths below the container's root: found, or made, without ever leaving it.
//!
//! See openat2(2). Everything here is relative to a descriptor; nothing falls back to
//! a path.

use core::ffi::CStr;

use crate::abi::Kind;
use crate::execute::Failure;
use crate::sys::{self, Errno, Fd, errno, flag};

/// How often a lookup that raced with a rename is tried.
const ATTEMPTS: u32 = 128;
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
pub(crate) fn make_in(root: Fd, path: &CStr, make: Make, more: u64) -> Result<Fd, Failure> {
    match open_in(root, path, flag::O_PATH, more) {
        Err(error) if error.0 == errno::ENOENT => {}
        other => return Ok(other?),
    }
    let mut buffer = [0u8; LONGEST];
    let bytes = path.to_bytes();
    if bytes.len() >= LONGEST {
        return Err(Errno(errno::ENAMETOOLONG).into());
    }
    for (to, from) in buffer.iter_mut().zip(bytes) {
        *to = *from;
    }
    let mut parent = Parent { root, dir: None };
    let mut start = 0usize;
    while start < bytes.len() {
        let end = component_end(bytes, start);
        if end > start {
            let last = end == bytes.len();
            let make = if last { make } else { Make::Directory };
            let found = step(&parent, &mut buffer, start, end, make, more)?;
            parent.replace(found)?;
        }
        start = end.wrapping_add(1);
    }
    parent.dir.ok_or(Failure::from(Errno(errno::ENOENT)))
}

/// The directory reached so far.
struct Parent {
    root: Fd,
    dir: Option<Fd>,
}

impl Parent {
    fn replace(&mut self, dir: Fd) -> Result<(), Errno> {
        match self.dir.replace(dir) {
            Some(old) => sys::close(old),
            None => Ok(()),
        }
    }
}

/// Position of the next slash after `start`, or the end.
fn component_end(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.iter().skip(start);
    start.wrapping_add(rest.take_while(|byte| **byte != b'/').count())
}

/// Opens the prefix that ends at `end`, or makes its last component.
fn step(
    parent: &Parent,
    buffer: &mut [u8; LONGEST],
    start: usize,
    end: usize,
    make: Make,
    more: u64,
) -> Result<Fd, Failure> {
    let after = core::mem::replace(cell(buffer, end)?, 0);
    let found = open_in(parent.root, string(buffer, 0)?, flag::O_PATH, more);
    let result = match found {
        Err(error) if error.0 == errno::ENOENT => create(
            parent.dir.unwrap_or(parent.root),
            string(buffer, start)?,
            make,
        ),
        other => other.map_err(Failure::from),
    };
    *cell(buffer, end)? = after;
    result
}

/// Makes one name in a directory and opens what was made, never what it links to.
fn create(dir: Fd, name: &CStr, make: Make) -> Result<Fd, Failure> {
    let made = match make {
        Make::Directory => sys::mkdirat(dir, name, 0o755),
        Make::File => sys::mknodat(dir, name, flag::S_IFREG | 0o644, 0, 0),
    };
    // The name is there, and yet its path leads nowhere.
    made.map_err(|error| match error.0 {
        errno::EEXIST => Failure { errno: errno::ENOENT, kind: Kind::DanglingLink },
        _ => Failure::from(error),
    })?;
    let resolve = flag::RESOLVE_BENEATH | flag::RESOLVE_NO_SYMLINKS;
    Ok(sys::openat2(
        dir,
        name,
        flag::O_PATH | flag::O_NOFOLLOW,
        resolve,
    )?)
}

fn cell(buffer: &mut [u8; LONGEST], at: usize) -> Result<&mut u8, Failure> {
    buffer
        .get_mut(at)
        .ok_or(Failure::from(Errno(errno::ENAMETOOLONG)))
}

fn string(buffer: &[u8; LONGEST], start: usize) -> Result<&CStr, Failure> {
    let rest = buffer
        .get(start..)
        .ok_or(Failure::from(Errno(errno::ENAMETOOLONG)))?;
    CStr::from_bytes_until_nul(rest).map_err(|_| Errno(errno::ENAMETOOLONG).into())
}
