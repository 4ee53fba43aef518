//! Hooks: programs that run to their end before the next step.
//!
//! A hook is a fork of init, which is small: it may come after the container's own
//! seccomp filter, so only old and common calls are made. See clone(2), waitid(2),
//! ppoll(2), and "POSIX-platform Hooks" in the OCI runtime specification.

use crate::abi::{DETAIL_MAX, HOOK_CLONE, Kind, Slot, Span, report};
use crate::execute::{Failure, Init, Outcome};
use crate::sys::{self, Ended, Errno, Fd, Table, Time, errno};

/// How long a killed hook may take to be gone.
const KILL_LIMIT: u64 = 10;

/// Reads after a hook's end: what a pipe holds.
const LAST_READS: usize = 256;

/// What to run.
pub(crate) struct Hook {
    pub(crate) path: Span,
    pub(crate) args: Span,
    pub(crate) env: Span,
    pub(crate) inherit: bool,
    pub(crate) timeout: u32,
    pub(crate) state: Slot,
    pub(crate) lifeline: Slot,
}

/// Sealed, so that no hook can change what the next one reads.
pub(crate) fn make_state(init: &mut Init, json: [Span; 2], flags: u32, into: Slot) -> Outcome {
    let [before, after] = json;
    let file = sys::memfd_create(c"hook-state", flags)?;
    write_all(file, init.text(before)?.to_bytes())?;
    let after = init.text(after)?.to_bytes();
    if !after.is_empty() {
        let mut digits = [0; 10];
        write_all(file, decimal(sys::getpid(), &mut digits))?;
        write_all(file, after)?;
    }
    sys::seal(file)?;
    init.store(into, file)
}

fn write_all(file: Fd, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = sys::write(file, rest)?;
        rest = rest.get(count.max(1)..).unwrap_or(&[]);
    }
    Ok(())
}

pub(super) fn decimal(number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut rest = number;
    let mut first = 0;
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0'.wrapping_add((rest % 10) as u8);
        rest /= 10;
        first = index;
        if rest == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or(&[])
}

/// Fails if the hook does, with the end of what it wrote.
pub(crate) fn run(init: &mut Init, hook: &Hook) -> Outcome {
    let state = init.slot(hook.state)?;
    let lifeline = match hook.lifeline {
        Slot::NONE => Fd(-1),
        slot => init.slot(slot)?,
    };
    // The hook before has read it to its end.
    sys::seek(state, 0)?;
    let path = init.text(hook.path)?;
    let args = init.strings(hook.args)?;
    let own = init.strings(hook.env)?;
    let env = if hook.inherit { init.envp } else { own };
    let (output, theirs) = sys::pipe()?;
    init.set_hook_errno(0);
    let Some((pid, pidfd)) = sys::fork(HOOK_CLONE)? else {
        let error = become_hook([state, theirs], path, args, env);
        init.set_hook_errno(error.0);
        sys::exit(127);
    };
    sys::close(theirs)?;
    let mut tail = Tail::new();
    let fds = [output, pidfd, lifeline];
    let in_time = watch(init.clock, hook.timeout, fds, &mut tail)?;
    if !in_time {
        // Its pid is its own until it is waited for. It may not have made its group yet.
        for target in [pid.wrapping_neg(), pid] {
            sys::kill(target).or_else(ignore_gone)?;
        }
        let mut limit = Time::seconds(KILL_LIMIT);
        sys::poll([Fd(-1), pidfd], Some(&mut limit))?;
    }
    let ended = if in_time {
        Some(sys::wait(pidfd)?)
    } else {
        // What can't be killed is left to whoever cleans up.
        sys::wait_nohang(pidfd)?;
        None
    };
    sys::close(pidfd)?;
    sys::close(output)?;
    judge(init, hook, ended, &tail)
}

fn ignore_gone(error: Errno) -> Result<(), Errno> {
    if error.0 == errno::ESRCH {
        Ok(())
    } else {
        Err(error)
    }
}

fn judge(init: &Init, hook: &Hook, ended: Option<Ended>, tail: &Tail) -> Outcome {
    let (kind, number) = match ended {
        Some(Ended::Code(0)) => return Ok(()),
        Some(Ended::Code(_)) if init.hook_errno() != 0 => {
            return Err(Errno(init.hook_errno()).into());
        }
        Some(Ended::Code(code)) => (Kind::HookExited, code),
        Some(Ended::Signal(signal)) => (Kind::HookKilled, signal),
        None => (Kind::HookTimeout, hook.timeout as i32),
    };
    Err(init.detail(kind, number, &tail.parts()))
}

/// The hook's own process: comes back only with an error.
fn become_hook(fds: [Fd; 2], path: &core::ffi::CStr, args: Table<'_>, env: Table<'_>) -> Errno {
    let [state, output] = fds;
    let prepared = sys::setpgid()
        .and_then(|()| sys::dup_to(state, Fd(0)))
        .and_then(|()| sys::dup_to(output, Fd(1)))
        .and_then(|()| sys::dup_to(output, Fd(2)))
        // Preserved descriptors are the container's, not the hook's.
        .and_then(|()| sys::close_range(3, u32::MAX));
    match prepared {
        Ok(()) => sys::execve(path, args, env),
        Err(error) => error,
    }
}

/// Waits for the hook's end and reads what it writes; false if its time is over first, or
/// nobody waits for it any more.
///
/// What it started and left behind may hold the pipe: the hook's end counts, not the
/// pipe's.
fn watch(clock: bool, timeout: u32, fds: [Fd; 3], tail: &mut Tail) -> Result<bool, Failure> {
    let [mut output, pidfd, lifeline] = fds;
    let now = || if clock { sys::monotonic() } else { 0 };
    let end = now().wrapping_add((timeout as u64).wrapping_mul(1_000_000_000));
    let mut left = Time::seconds(timeout as u64);
    loop {
        if clock {
            left = Time::nanoseconds(end.saturating_sub(now()));
        }
        let limit = if timeout == 0 { None } else { Some(&mut left) };
        // Without a clock the kernel's own count of what is left has to do.
        let [readable, ended, cut] = sys::poll([output, pidfd, lifeline], limit)?;
        if ended {
            read_rest(output, tail)?;
            return Ok(true);
        }
        if cut || !readable {
            return Ok(false);
        }
        if tail.read(output)? == 0 {
            output = Fd(-1);
        }
    }
}

fn read_rest(output: Fd, tail: &mut Tail) -> Result<(), Errno> {
    for _ in 0..LAST_READS {
        let mut none = Time::seconds(0);
        let [readable, _] = sys::poll([output, Fd(-1)], Some(&mut none))?;
        if !readable || tail.read(output)? == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// The last bytes of what a hook wrote, on one line.
struct Tail {
    ring: [u8; DETAIL_MAX],
    next: usize,
    full: bool,
}

impl Tail {
    fn new() -> Tail {
        Tail {
            ring: [0; DETAIL_MAX],
            next: 0,
            full: false,
        }
    }

    /// How many bytes there were; 0 at the end.
    fn read(&mut self, from: Fd) -> Result<usize, Errno> {
        let mut chunk = [0; DETAIL_MAX];
        let count = sys::read(from, &mut chunk)?;
        for byte in chunk.iter().take(count) {
            if let Some(cell) = self.ring.get_mut(self.next) {
                *cell = if *byte == b'\n' { b' ' } else { *byte };
            }
            self.next = self.next.wrapping_add(1);
            if self.next >= DETAIL_MAX {
                self.next = 0;
                self.full = true;
            }
        }
        Ok(count)
    }

    /// In the order of writing.
    fn parts(&self) -> [&[u8]; 2] {
        let older = if self.full {
            self.ring.get(self.next..)
        } else {
            None
        };
        let newer = self.ring.get(..self.next);
        [older.unwrap_or(&[]), newer.unwrap_or(&[])]
    }
}

impl Init {
    fn set_hook_errno(&self, errno: i32) {
        self.set_report(report::HOOK, errno as u64);
    }

    fn hook_errno(&self) -> i32 {
        self.report_word(report::HOOK) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 1, 9, 10, 4_194_304, u32::MAX] {
            let mut digits = [0; 10];
            assert_eq!(decimal(number, &mut digits), number.to_string().as_bytes());
        }
    }

    #[test]
    fn the_tail_is_what_was_written_last() {
        let mut tail = Tail::new();
        let whole = |tail: &Tail| tail.parts().concat();
        assert_eq!(whole(&tail), b"");
        let mut written = Vec::new();
        for round in 0..5u8 {
            let (output, theirs) = sys::pipe().unwrap();
            let chunk: Vec<u8> = (0..100).map(|n| b'a' + (n + round) % 26).collect();
            write_all(theirs, &chunk).unwrap();
            assert_eq!(tail.read(output), Ok(100));
            written.extend(&chunk);
            let last = &written[written.len().saturating_sub(DETAIL_MAX)..];
            assert_eq!(whole(&tail), last);
            sys::close(output).unwrap();
            sys::close(theirs).unwrap();
        }
    }
}
