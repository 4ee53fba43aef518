//! Waits that another process can end: a creation that hangs is called off.
//!
//! Who creates a container has its lock, and some of what it waits for has no limit: a hook,
//! a seccomp agent, a file system that does not answer. A wait that takes long makes a fifo in
//! the state directory. Who opens that for writing ends the wait, and whoever waited takes
//! back what it has made: it alone has descriptors of that, so nothing is known by a number
//! that may be somebody else's by now. See fifo(7).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use crate::sys::{call, ipc, process};

const FIFO: &str = "calloff";

/// Waits that end sooner can't be called off, and make no fifo.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same for what only cleans up, and is not what hangs as a rule.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// Why a wait was ended.
pub(crate) const CALLED_OFF: &str = "called off: the container is being deleted by force";

/// What waits can be ended by.
#[derive(Clone, Copy)]
pub(crate) enum CallOff<'a> {
    /// Nothing.
    Never,
    /// An opening of the fifo in this directory, after this time.
    Fifo(BorrowedFd<'a>, Duration),
    /// A look that finds that there is nothing to wait for.
    Look(&'a dyn Fn() -> bool),
    /// Such a look, and an opening of the fifo in this directory.
    LookOrFifo(&'a dyn Fn() -> bool, BorrowedFd<'a>),
}

impl<'a> CallOff<'a> {
    /// By an opening of the fifo in this directory.
    pub(crate) fn within(dir: BorrowedFd<'a>) -> CallOff<'a> {
        CallOff::Fifo(dir, PATIENCE)
    }

    /// The same for a clean-up: it is given more time before it can be called off.
    pub(crate) fn patiently(dir: BorrowedFd<'a>) -> CallOff<'a> {
        CallOff::Fifo(dir, LONG_PATIENCE)
    }

    /// The same for who has not the lock, so that nobody waits until it has begun to listen.
    pub(crate) fn at_once(dir: BorrowedFd<'a>) -> CallOff<'a> {
        CallOff::Fifo(dir, Duration::ZERO)
    }

    /// `poll(2)` for input, without limit; `ECANCELED` once it is called off.
    pub(crate) fn wait(&self, fds: &[BorrowedFd<'_>]) -> Result<Vec<bool>, Errno> {
        let (dir, patience, is_vain): (_, _, &dyn Fn() -> bool) = match self {
            CallOff::Never => return process::poll_in(fds, None),
            CallOff::Look(is_vain) => return look(fds, is_vain),
            CallOff::Fifo(dir, patience) => (*dir, *patience, &|| false),
            CallOff::LookOrFifo(is_vain, dir) => (*dir, PATIENCE, is_vain),
        };
        let ready = process::poll_in(fds, Some(patience))?;
        if ready.contains(&true) {
            return Ok(ready);
        }
        if is_vain() {
            return Err(Errno::CANCELED);
        }
        let fifo = match Fifo::make(dir) {
            // The container has been deleted meanwhile.
            Err(Errno::NOENT) => return Err(Errno::CANCELED),
            // It is no part of the work: for want of a descriptor nothing is ended.
            Err(errno) => {
                log::debug!("{FIFO}: {errno}");
                return look(fds, is_vain);
            }
            Ok(fifo) => fifo,
        };
        let all = [fds, &[fifo.reader.as_fd()]].concat();
        loop {
            // Until somebody has opened it there is no end of file.
            let mut ready = process::poll_in(&all, Some(PATIENCE))?;
            let called_off = ready.pop() == Some(true);
            if ready.contains(&true) {
                return Ok(ready);
            }
            // Who deletes may have looked for a fifo before this one was made.
            if called_off || is_vain() || is_removed(dir)? {
                return Err(Errno::CANCELED);
            }
        }
    }
}

fn is_removed(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    call("fstat", || rustix::fs::fstat(dir)).map(|stat| stat.st_nlink == 0)
}

/// Waits, and looks every now and then.
fn look(fds: &[BorrowedFd<'_>], is_vain: &dyn Fn() -> bool) -> Result<Vec<bool>, Errno> {
    loop {
        let ready = process::poll_in(fds, Some(PATIENCE))?;
        if ready.contains(&true) {
            return Ok(ready);
        }
        if is_vain() {
            return Err(Errno::CANCELED);
        }
    }
}

/// The fifo, while somebody waits.
struct Fifo<'a> {
    dir: BorrowedFd<'a>,
    reader: OwnedFd,
}

impl Fifo<'_> {
    fn make(dir: BorrowedFd<'_>) -> Result<Fifo<'_>, Errno> {
        match ipc::make_fifo(dir, FIFO) {
            // Of a process that was killed while it waited.
            Ok(_) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let reader = ipc::open_fifo(dir, FIFO, OFlags::RDONLY)?;
        Ok(Fifo { dir, reader })
    }
}

impl Drop for Fifo<'_> {
    fn drop(&mut self) {
        let removed = call("unlinkat", || {
            rustix::fs::unlinkat(self.dir, FIFO, AtFlags::empty())
        });
        // Who has deleted the container meanwhile has taken it away.
        if let Err(errno) = removed {
            log::debug!("{FIFO}: unlink: {errno}");
        }
    }
}

/// Ends the wait of whoever works on the container with this state directory, if there is one
/// that can be ended by now.
pub(crate) fn call_off(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    match ipc::open_fifo(dir, FIFO, OFlags::WRONLY) {
        Ok(_) | Err(Errno::NOENT | Errno::NXIO) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_its_directory_also_when_nobody_has_opened_the_fifo() {
        let path = std::env::temp_dir().join(format!("corten-calloff-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let dir = crate::sys::file::open_dir_at(rustix::fs::CWD, &path).unwrap();
        let (never, _writer) = std::io::pipe().unwrap();
        let waits =
            std::thread::spawn(move || CallOff::at_once(dir.as_fd()).wait(&[never.as_fd()]));
        while std::fs::remove_file(path.join(FIFO)).is_err() {
            std::thread::yield_now();
        }
        std::fs::remove_dir(&path).unwrap();
        assert_eq!(waits.join().unwrap(), Err(Errno::CANCELED));
    }
}
