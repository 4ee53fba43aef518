//! The filter on system calls.
//!
//! See seccomp(2). The program is made while planning, and checked by the kernel.

use crate::abi::Span;
use crate::execute::{Init, Outcome};
use crate::sys;

/// From here on init makes only the calls that planning has asked the profile about.
pub(crate) fn load(init: &mut Init, program: Span, flags: u32, clock: bool) -> Outcome {
    sys::set_seccomp_filter(init.bytes(program)?, flags)?;
    init.clock = clock;
    Ok(())
}
