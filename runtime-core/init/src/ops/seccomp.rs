//! The filter on system calls, and its listener.
//!
//! See seccomp(2) and seccomp_unotify(2). The program is made while planning, and checked by
//! the kernel.

use super::enter::read_byte;
use crate::abi::{Kind, Slot, Span, message};
use crate::execute::{Failure, Init, Outcome};
use crate::sys::{self, errno};

/// From here on init makes only the calls that planning has asked the profile about.
pub(crate) fn load(
    init: &mut Init,
    program: Span,
    flags: u32,
    clock: bool,
    listener: Slot,
) -> Outcome {
    let made = sys::set_seccomp_filter(init.bytes(program)?, flags)?;
    init.clock = clock;
    if listener == Slot::NONE {
        return Ok(());
    }
    init.store(listener, made)
}

/// By one `write(2)`, which no profile may notify: nobody could answer yet. Once the runtime
/// half has the descriptor, the listener answers for every other call.
///
/// Kept open here, it would outlive a listener that is gone, and calls would wait for ever.
pub(crate) fn pass_listener(init: &mut Init, from: Slot) -> Outcome {
    let socket = init.slot(Slot::SOCKET)?;
    let [a, b, c, d] = init.slot(from)?.0.to_ne_bytes();
    sys::write(socket, &[message::LISTENER, 0, 0, 0, a, b, c, d])?;
    if !read_byte(socket)? {
        return Err(Failure {
            errno: errno::EPIPE,
            kind: Kind::RuntimeGone,
        });
    }
    init.close(from)
}
