//! What the process is: names, working directory, home, umask, priorities.

use super::STRINGS;
use crate::abi::{Kind, Span};
use crate::execute::{Failure, Init, Outcome};
use crate::sys::{self, CWD, Errno, Fd, errno, flag};

/// Most bytes of /etc/passwd that are read.
const PASSWD_MAX: usize = 1 << 20;
/// Longest line of /etc/passwd that is looked at.
pub(super) const LINE_MAX: usize = 4096;

pub(crate) fn set_hostname(init: &Init, name: Span) -> Outcome {
    Ok(sys::sethostname(init.text(name)?)?)
}

pub(crate) fn set_domainname(init: &Init, name: Span) -> Outcome {
    Ok(sys::setdomainname(init.text(name)?)?)
}

pub(crate) fn loopback_up() -> Outcome {
    let socket = sys::any_socket()?;
    sys::loopback_up(socket)?;
    Ok(sys::close(socket)?)
}

/// A magic link here would lead out of the container (CVE-2024-21626).
pub(crate) fn change_dir(init: &Init, path: Span) -> Outcome {
    let path = init.text(path)?;
    let flags = flag::O_PATH | flag::O_DIRECTORY;
    let dir = sys::openat2(CWD, path, flags, flag::RESOLVE_NO_MAGICLINKS)?;
    sys::fchdir(dir)?;
    sys::close(dir)?;
    if sys::cwd_is_reachable()? {
        Ok(())
    } else {
        Err(Failure {
            errno: errno::EXDEV,
            kind: Kind::Outside,
        })
    }
}

pub(crate) fn session_keyring(init: &Init, name: Span) -> Outcome {
    Ok(sys::join_session_keyring(init.text(name)?)?)
}

pub(crate) fn set_umask(mask: u32) -> Outcome {
    sys::umask(mask);
    Ok(())
}

pub(crate) fn set_nice(nice: i32) -> Outcome {
    Ok(sys::setpriority(nice)?)
}

pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Outcome {
    Ok(sys::set_rlimit(resource, soft, hard)?)
}

pub(crate) fn all_cpus() -> Outcome {
    Ok(sys::all_cpus()?)
}

pub(crate) fn set_cpus(init: &Init, cpus: Span) -> Outcome {
    Ok(sys::sched_setaffinity(init.bytes(cpus)?)?)
}

pub(crate) fn set_memory_policy(init: &Init, mode: u32, nodes: Span) -> Outcome {
    Ok(sys::set_mempolicy(mode, init.bytes(nodes)?)?)
}

pub(crate) fn set_personality(persona: u32) -> Outcome {
    Ok(sys::personality(persona)?)
}

/// `HOME` is the sixth field of the user's line in /etc/passwd, else `/`.
#[inline(never)] // for its buffer
pub(crate) fn find_home(init: &mut Init, uid: u32) -> Outcome {
    let mut line = [0u8; LINE_MAX];
    let home = match open_passwd() {
        Ok(passwd) => {
            let len = find_line(passwd, uid, &mut line);
            sys::close(passwd)?;
            len.and_then(|len| line.get(..len))
                .and_then(|line| field(line, 5))
                .unwrap_or(b"/")
        }
        Err(_) => b"/",
    };
    let home = if home.is_empty() { b"/" } else { home };
    let entry = STRINGS
        .add(&[b"HOME=", home])
        .ok_or(Failure::from(Errno(errno::EIO)))?;
    init.add_env(entry)
}

pub(crate) fn add_pid(init: &mut Init, name: Span) -> Outcome {
    let mut digits = [0; 10];
    let digits = super::hooks::decimal(sys::getpid(), &mut digits);
    let entry = STRINGS
        .add(&[init.text(name)?.to_bytes(), digits])
        .ok_or(Failure::from(Errno(errno::EIO)))?;
    init.add_env(entry)
}

/// What is no plain file is never opened: a fifo would hang, a device would do what it
/// does. A link must not lead out through /proc.
fn open_passwd() -> Result<Fd, Errno> {
    let open = |flags| sys::openat2(CWD, c"/etc/passwd", flags, flag::RESOLVE_NO_MAGICLINKS);
    let found = open(flag::O_PATH)?;
    let looked_at = sys::stat(found, c"")?;
    sys::close(found)?;
    if !looked_at.is(flag::S_IFREG) {
        return Err(Errno(errno::EINVAL));
    }
    let file = open(flag::O_RDONLY | flag::O_NONBLOCK | flag::O_NOCTTY)?;
    if sys::stat(file, c"")?.is(flag::S_IFREG) {
        return Ok(file);
    }
    sys::close(file)?;
    Err(Errno(errno::EINVAL))
}

/// Reads lines until the third field is `uid`; the line's length. Longer lines than
/// the buffer are passed over.
fn find_line(passwd: Fd, uid: u32, line: &mut [u8; LINE_MAX]) -> Option<usize> {
    // Small, since it is the container that is charged the stack: this is its deepest place.
    let mut chunk = [0u8; 1024];
    let mut total = 0usize;
    let mut len = 0usize;
    while total < PASSWD_MAX {
        let count = sys::read(passwd, &mut chunk).ok()?;
        total = total.wrapping_add(count);
        let end_of_file: &[u8] = if count == 0 { b"\n" } else { b"" };
        for byte in chunk.iter().take(count).chain(end_of_file) {
            if *byte != b'\n' {
                if let Some(cell) = line.get_mut(len) {
                    *cell = *byte;
                }
                len = len.wrapping_add(1);
                continue;
            }
            let whole = line.get(..len);
            if whole.and_then(|line| field(line, 2)).and_then(number) == Some(uid) {
                return Some(len);
            }
            len = 0;
        }
        if count == 0 {
            return None;
        }
    }
    None
}

fn field(line: &[u8], index: usize) -> Option<&[u8]> {
    line.split(|byte| *byte == b':').nth(index)
}

/// A decimal number without sign; none if it is no 32-bit one.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u32;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(digit as u32)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests;
