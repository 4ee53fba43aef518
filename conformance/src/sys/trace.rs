//! ptrace(2): looking into another process.

use std::io;
use std::process::Command;

use super::check;

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
