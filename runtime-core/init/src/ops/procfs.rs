//! Writes to a procfs that planning has chosen.
//!
//! See proc(5) and openat2(2).

use crate::abi::{Slot, Span};
use crate::execute::{Init, Outcome};
use crate::sys::{self, Errno, errno, flag};

/// Nothing that is mounted in the procfs, and no link of it, is followed.
const RESOLVE: u64 = flag::RESOLVE_NO_XDEV | flag::RESOLVE_NO_SYMLINKS | flag::RESOLVE_BENEATH;

pub(crate) fn write(init: &Init, proc: Slot, path: Span, value: Span) -> Outcome {
    let (path, value) = (init.text(path)?, init.text(value)?);
    let file = sys::openat2(init.slot(proc)?, path, flag::O_WRONLY, RESOLVE)?;
    let value = value.to_bytes();
    if sys::write(file, value)? != value.len() {
        return Err(Errno(errno::EIO).into());
    }
    Ok(sys::close(file)?)
}
