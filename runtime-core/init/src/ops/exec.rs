//! The last steps: finding the program, the wait for `start`, execve.
//!
//! See execve(2), execvp(3), elf(5) and fifo(7).

use core::ffi::CStr;

use super::STRINGS;
use super::enter::read_byte;
use crate::abi::{Kind, Slot};
use crate::execute::{Failure, Init, Outcome};
use crate::head::{elf_loader, script_interpreter};
use crate::sys::{self, CWD, Errno, errno, flag};

/// Blocks until `start` writes its byte; the `done` fifo stays open until execve.
pub(crate) fn wait_start(init: &mut Init) -> Outcome {
    if !read_byte(init.slot(Slot::EXEC_FIFO)?)? {
        return Err(Errno(errno::EPIPE).into());
    }
    init.close(Slot::EXEC_FIFO)
}

/// A name with a slash is taken as it is, any other looked up in PATH.
#[inline(never)] // for its buffer
pub(crate) fn find_program(init: &mut Init) -> Outcome {
    let Some(name) = init.argv.iter().next() else {
        return Err(Errno(errno::EINVAL).into());
    };
    if name.to_bytes().contains(&b'/') {
        executable(init, name)?;
        init.program = Some(name);
        return Ok(());
    }
    let path = init
        .envp
        .iter()
        .find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
    let mut denied = false;
    // An empty PATH is no directory; an empty part of one is the current directory.
    let path = path.filter(|path| !path.is_empty());
    let dirs = path.map(|path| path.split(|byte| *byte == b':'));
    for dir in dirs.into_iter().flatten() {
        let dir = if dir.is_empty() { b"." } else { dir };
        let mut buffer = [0u8; 4096];
        let Some(candidate) = join(&mut buffer, dir, name.to_bytes()) else {
            continue;
        };
        match executable(init, candidate) {
            Ok(()) => {
                init.program = STRINGS.add(&[candidate.to_bytes()]);
                return Ok(());
            }
            Err(failure) if failure.errno == errno::EACCES => denied = true,
            Err(_) => {}
        }
    }
    let error = if denied { errno::EACCES } else { errno::ENOENT };
    Err(init.detail(Kind::NotInPath, error, &[name.to_bytes()]))
}

fn copy<'a>(buffer: &'a mut [u8; 4096], name: &[u8]) -> Option<&'a CStr> {
    let mut cells = buffer.iter_mut();
    for byte in name.iter().chain(b"\0") {
        *cells.next()? = *byte;
    }
    CStr::from_bytes_until_nul(buffer).ok()
}

fn join<'a>(buffer: &'a mut [u8; 4096], dir: &[u8], name: &[u8]) -> Option<&'a CStr> {
    let mut cells = buffer.iter_mut();
    for byte in dir.iter().chain(b"/").chain(name).chain(b"\0") {
        *cells.next()? = *byte;
    }
    CStr::from_bytes_until_nul(buffer).ok()
}

/// Whether the process could execute this file, so that `create` can say no.
fn executable(init: &Init, name: &CStr) -> Outcome {
    let object = [name.to_bytes()];
    let found = sys::stat(CWD, name).map_err(|e| init.detail(Kind::Plain, e.0, &object))?;
    if found.is(flag::S_IFDIR) {
        return Err(init.detail(Kind::NotExecutable, errno::EISDIR, &object));
    }
    sys::may_execute(name).map_err(|e| init.detail(Kind::NotExecutable, e.0, &object))?;
    Ok(())
}

/// Comes back only with an error, which says what is really missing.
pub(crate) fn exec(init: &mut Init) -> Outcome {
    let program = match (init.program, init.argv.iter().next()) {
        (Some(program), _) | (None, Some(program)) => program,
        (None, None) => return Err(Errno(errno::EINVAL).into()),
    };
    let error = sys::execve(program, init.argv, init.envp);
    Err(diagnose(init, program, error))
}

/// execve gives the errors of the file that a script or an ELF file names, too. That one
/// is named only if it really can't be executed.
#[inline(never)] // for its buffer
fn diagnose(init: &Init, program: &CStr, error: Errno) -> Failure {
    let mut head = [0u8; 4096];
    let head = read_head(program, &mut head);
    let named = [
        (Kind::Interpreter, script_interpreter(head)),
        (Kind::Loader, elf_loader(head)),
    ];
    for (kind, name) in named {
        let mut buffer = [0u8; 4096];
        let Some(name) = name else { continue };
        let blamed = copy(&mut buffer, name);
        if blamed.is_some_and(|path| sys::may_execute(path) == Err(error)) {
            return init.detail(kind, error.0, &[name]);
        }
    }
    init.detail(Kind::Plain, error.0, &[program.to_bytes()])
}

/// The first bytes of a file, none if it can't be read.
fn read_head<'a>(program: &CStr, buffer: &'a mut [u8; 4096]) -> &'a [u8] {
    let Ok(file) = sys::openat2(CWD, program, flag::O_RDONLY | flag::O_NONBLOCK, 0) else {
        return &[];
    };
    let len = sys::read(file, buffer).unwrap_or(0);
    let len = sys::close(file).map_or(0, |()| len);
    buffer.get(..len).unwrap_or(&[])
}

#[cfg(test)]
mod tests;
