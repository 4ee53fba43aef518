//! Processes that neither stop nor end when told to, and where in the kernel they wait.

use std::fmt;
use std::path::Path;

use rustix::fs::CWD;

use crate::sys::{call, file};

/// A process of a cgroup, as /proc shows it; see proc_pid_stat(5) and proc_pid_wchan(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stuck {
    pid: i32,
    /// `D` is a sleep that no signal ends; none if the process can't be seen.
    state: Option<char>,
    /// The kernel function it sleeps in; none if it runs or that is not told.
    channel: Option<String>,
}

impl Stuck {
    /// Looks at one process.
    pub(crate) fn look(pid: i32) -> Stuck {
        let channel = read(pid, "wchan").filter(|name| !matches!(name.as_str(), "" | "0"));
        Stuck {
            pid,
            state: state_and_parent(pid).map(|(state, _)| state),
            channel,
        }
    }

    /// What a killed process may still wait for that nobody else tells: one of its pid
    /// namespace that has ended, and whose parent has not waited for it.
    pub(crate) fn unreaped(&self) -> Option<String> {
        let of = |pid: i32| call("stat", || rustix::fs::stat(format!("/proc/{pid}/ns/pid"))).ok();
        let own = of(self.pid)?.st_ino;
        let proc = file::open_dir_at(CWD, Path::new("/proc")).ok()?;
        let pids = file::read_dir_names(&proc).ok()?;
        let mut pids = pids.iter().filter_map(|name| name.to_str()?.parse().ok());
        pids.find_map(|pid: i32| {
            let (state, parent) = state_and_parent(pid)?;
            let is_it = pid != self.pid && state == 'Z' && of(pid)?.st_ino == own;
            is_it.then(|| {
                format!(": process {pid} has ended, and process {parent} does not wait for it")
            })
        })
    }

    /// Looks at each process. Those that no signal reaches come first: they are the cause.
    pub(super) fn all(pids: &[i32]) -> Vec<Stuck> {
        let mut all: Vec<Stuck> = pids.iter().map(|pid| Stuck::look(*pid)).collect();
        all.sort_by_key(|process| (process.state != Some('D'), process.pid));
        all
    }
}

/// A file of a process in /proc.
fn read(pid: i32, name: &str) -> Option<String> {
    let bytes = file::read(Path::new(&format!("/proc/{pid}/{name}"))).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = read(pid, "stat")?;
    // The name before it is anything, but the last bracket is its end.
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        match (self.state, &self.channel) {
            (Some(state), Some(channel)) => write!(f, " (state {state}, in {channel})"),
            (Some(state), None) => write!(f, " (state {state})"),
            (None, _) => Ok(()),
        }
    }
}

/// The first of them in words.
pub(super) fn list(processes: &[Stuck]) -> String {
    /// A fork bomb is not listed whole.
    const SHOWN: usize = 4;
    if processes.is_empty() {
        return "child cgroups or processes that can't be seen from here".to_owned();
    }
    let shown: Vec<String> = processes.iter().take(SHOWN).map(Stuck::to_string).collect();
    let more = match processes.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_no_signal_reaches_come_first_and_few_are_listed() {
        let of = |pid, state: char, channel: &str| Stuck {
            pid,
            state: Some(state),
            channel: (!channel.is_empty()).then(|| channel.to_owned()),
        };
        let mut all = vec![of(3, 'S', "pipe_read"), of(4, 'R', "")];
        assert_eq!(
            list(&all),
            "process 3 (state S, in pipe_read), process 4 (state R)"
        );
        all.extend((10..20).map(|pid| of(pid, 'D', "fuse_simple_request")));
        assert!(list(&all).ends_with("(state D, in fuse_simple_request) and 8 more"));
        assert!(list(&[]).contains("can't be seen"));
    }

    #[test]
    fn a_process_is_shown_as_proc_has_it() {
        let own = i32::try_from(std::process::id()).unwrap();
        let shown = Stuck::look(own).to_string();
        // Which thread's state that is, is not ours to say.
        assert!(
            shown.starts_with(&format!("process {own} (state ")),
            "{shown}"
        );
        let gone = Stuck::look(i32::MAX);
        assert_eq!(gone.to_string(), format!("process {}", i32::MAX));
    }
}
