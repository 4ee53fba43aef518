//! Becoming the container's process: descriptors, signals, clone, barriers.
//!
//! See clone(2), close_range(2), signal(7), unix(7).

use crate::abi::{Barrier, Kind, Slot, message};
use crate::execute::{Failure, Init, Outcome};
use crate::sys::{self, Fd, errno, flag};

/// Highest signal number, SIGRTMAX.
const LAST_SIGNAL: u32 = 64;
const SIGKILL: u32 = 9;
const SIGSTOP: u32 = 19;

/// Closes the gaps between the descriptors that the plan names.
pub(crate) fn close_fds(init: &Init) -> Outcome {
    let mut first = init.keep_below.max(3);
    loop {
        // The lowest slot at or above `first` ends the next gap. There are at most 32.
        let next = init
            .slots()
            .iter()
            .filter(|fd| **fd >= 0)
            .map(|fd| *fd as u32);
        match next.filter(|fd| *fd >= first).min() {
            Some(kept) => {
                if kept > first {
                    sys::close_range(first, kept.wrapping_sub(1))?;
                }
                first = kept.wrapping_add(1);
            }
            None => return Ok(sys::close_range(first, u32::MAX)?),
        }
    }
}

/// `CLONE_CLEAR_SIGHAND` and exec leave ignored signals ignored, so each is reset.
pub(crate) fn reset_signals() -> Outcome {
    for signal in 1..=LAST_SIGNAL {
        if signal != SIGKILL && signal != SIGSTOP {
            sys::default_signal(signal)?;
        }
    }
    Ok(sys::unblock_signals()?)
}

pub(crate) fn new_session() -> Outcome {
    Ok(sys::setsid()?)
}

pub(crate) fn non_dumpable() -> Outcome {
    const PR_SET_DUMPABLE: u64 = 4;
    sys::prctl(PR_SET_DUMPABLE, 0)?;
    Ok(())
}

/// The child is the container's process and returns; the parent tells the runtime half
/// about it and is done.
pub(crate) fn clone(init: &Init, flags: u64, cgroup: Slot) -> Outcome {
    let into = if init.has(cgroup) {
        Some(init.slot(cgroup)?)
    } else {
        None
    };
    let text = [message::CLONED, 0, 0, 0, 0, 0, 0, 0];
    let flags = flags | flag::CLONE_PARENT;
    // If nobody is there any more, the child finds out at its first barrier.
    init.clone_and_tell(flags, into, text)
}

/// Tells the runtime half which step is reached and waits for its byte.
pub(crate) fn wait(init: &Init, barrier: Barrier) -> Outcome {
    let socket = init.slot(Slot::SOCKET)?;
    let [a, b, c, d] = (init.step as u32).to_ne_bytes();
    let text = [message::BARRIER, barrier as u8, 0, 0, a, b, c, d];
    sys::send(socket, &text, None)?;
    wait_untold(init)
}

/// Waits for the runtime half's byte.
pub(crate) fn wait_untold(init: &Init) -> Outcome {
    if read_byte(init.slot(Slot::SOCKET)?)? {
        Ok(())
    } else {
        Err(Failure {
            errno: errno::EPIPE,
            kind: Kind::RuntimeGone,
        })
    }
}

/// Reads one byte, whatever signal comes; false at end of file.
pub(crate) fn read_byte(from: Fd) -> Result<bool, Failure> {
    let mut byte = [0u8];
    loop {
        match sys::read(from, &mut byte) {
            Ok(count) => return Ok(count > 0),
            Err(error) if error.0 == errno::EINTR => {}
            Err(error) => return Err(error.into()),
        }
    }
}
