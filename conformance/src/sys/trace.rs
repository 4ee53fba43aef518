//! ptrace(2): looking into another process.

use std::io;

use super::check;

/// `PTRACE_SECCOMP_GET_FILTER`: the filter that a process loaded last, as the kernel has it:
/// 8 bytes per instruction. Stops the process for a moment, which must not be traced.
pub(crate) fn seccomp_filter_of(pid: i32) -> io::Result<Vec<u8>> {
    const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
    // SAFETY: these two take no memory.
    unsafe {
        check(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0))?;
        check(libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0))?;
    }
    let mut status = 0;
    // SAFETY: the status lives through the call.
    check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }.into())?;
    // SAFETY: without a place the kernel only counts.
    let count = unsafe { libc::ptrace(PTRACE_SECCOMP_GET_FILTER, pid, 0, 0) };
    check(count)?;
    let mut filter = vec![0_u64; usize::try_from(count).map_err(io::Error::other)?];
    // SAFETY: the place has room for as many instructions as the kernel has just counted, and
    // a loaded filter never changes.
    check(unsafe { libc::ptrace(PTRACE_SECCOMP_GET_FILTER, pid, 0, filter.as_mut_ptr()) })?;
    // SAFETY: takes no memory.
    check(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) })?;
    Ok(filter
        .iter()
        .flat_map(|instruction| instruction.to_ne_bytes())
        .collect())
}
