//! ptrace(2): looking into another process.

use std::io;
use std::process::Command;

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
    wait(pid, libc::__WALL)?;
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

/// The most memory that a command's process had at a time, in KiB: its VmHWM when it exits, see
/// proc(5). What wait4(2) tells counts the memory of the caller, too, that spawned it.
pub(crate) fn peak_memory(command: &Command) -> io::Result<usize> {
    let mut stopped = Command::new("/bin/sh");
    stopped.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]);
    stopped.arg(command.get_program()).args(command.get_args());
    let null = || {
        std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
    };
    let child = stopped
        .stdin(null()?)
        .stdout(null()?)
        .stderr(null()?)
        .spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    wait(pid, libc::WUNTRACED)?;
    // SAFETY: neither takes memory.
    unsafe {
        check(libc::ptrace(
            libc::PTRACE_SEIZE,
            pid,
            0,
            libc::PTRACE_O_TRACEEXIT,
        ))?;
        check(libc::kill(pid, libc::SIGCONT).into())?;
    }
    let mut peak = None;
    loop {
        let status = wait(pid, libc::__WALL)?;
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            let is_well = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
            let peak = peak.filter(|_| is_well);
            return peak.ok_or_else(|| io::Error::other(format!("it failed: status {status:#x}")));
        }
        let event = status >> 16;
        if event == libc::PTRACE_EVENT_EXIT {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let number = line.and_then(|line| line.split_whitespace().next());
            peak = number.and_then(|number| number.parse().ok());
        }
        // A signal that it was stopped for must still reach it.
        let signal = if event == 0 {
            libc::WSTOPSIG(status)
        } else {
            0
        };
        // SAFETY: takes no memory.
        check(unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, signal) })?;
    }
}

/// `waitpid(2)`: the status.
fn wait(pid: i32, options: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: the status lives through the call.
    check(unsafe { libc::waitpid(pid, &raw mut status, options) }.into())?;
    Ok(status)
}
