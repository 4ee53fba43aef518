//! Writes to a procfs that planning has chosen.
//!
//! See proc(5) and openat2(2).

use core::ffi::CStr;

use crate::abi::{Slot, Span};
use crate::execute::{Init, Outcome};
use crate::sys::{self, Errno, Fd, errno, flag};

/// Nothing that is mounted in the procfs, and no link of it, is followed.
const RESOLVE: u64 = flag::RESOLVE_NO_XDEV | flag::RESOLVE_NO_SYMLINKS | flag::RESOLVE_BENEATH;

pub(crate) fn write(init: &Init, proc: Slot, path: Span, value: Span) -> Outcome {
    write_to(
        init.slot(proc)?,
        init.text(path)?,
        init.text(value)?.to_bytes(),
    )
}

/// The thread's own directory is found by the kernel's word for it, `PID/task/TID` as this
/// procfs counts processes: a link of the procfs itself, but no other is followed.
pub(crate) fn write_attribute(init: &Init, proc: Slot, name: Span, value: Span) -> Outcome {
    let mut path = [0u8; 256];
    let proc = init.slot(proc)?;
    let len = sys::readlinkat(proc, c"thread-self", &mut path)?;
    let name = init.text(name)?.to_bytes_with_nul();
    let rest = path.get_mut(len..).unwrap_or(&mut []).iter_mut();
    for (to, from) in rest.zip(b"/".iter().chain(name)) {
        *to = *from;
    }
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno(errno::ENAMETOOLONG))?;
    write_to(proc, path, init.text(value)?.to_bytes())
}

fn write_to(proc: Fd, path: &CStr, value: &[u8]) -> Outcome {
    let file = sys::openat2(proc, path, flag::O_WRONLY, RESOLVE)?;
    if sys::write(file, value)? != value.len() {
        return Err(Errno(errno::EIO).into());
    }
    Ok(sys::close(file)?)
}
