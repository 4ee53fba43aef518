//! What is on the machine, outside of lanes. Others use it too, at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, WaitOptions, kill_process};

use super::{
    Entries, Snapshot, interfaces, keyrings, loop_devices, mounts, names, pids, process, tell, tree,
};
use crate::{lane, sys, wait};

/// The file system type of cgroup v2. statfs(2)
const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

impl Snapshot {
    /// Looks at what is not in a lane.
    #[must_use]
    pub fn of_machine() -> Self {
        let mut lines = BTreeSet::new();
        // Who has made a lane is in another mount namespace since. Others than root see only
        // their own.
        let [init, own] = [1, std::process::id()].map(|pid| format!("/proc/{pid}/mountinfo"));
        let seen = if std::fs::read(&init).is_ok() {
            init
        } else {
            own
        };
        mounts(Path::new(&seen), &mut lines);
        interfaces(&mut lines);
        keyrings(|_| true, &mut lines);
        loop_devices(&mut lines);
        // systemd loads its own anew whenever it reads its units again.
        let others = |id: &u32| !sys::bpf_program_name(*id).starts_with("sd_");
        let programs = sys::bpf_programs().into_iter().filter(others);
        lines.extend(programs.map(|id| format!("BPF program {id}")));
        lines.extend(cgroups());
        lines.extend(files());
        lines.extend(scopes());
        Self { lines }
    }
}

/// Waits until nothing of what is new is still there: others come and go. 0, or 1 with a
/// line for each leak.
pub(crate) fn report_machine(before: &Snapshot, limit: Duration) -> i32 {
    let look = || {
        let mut new = Snapshot::of_machine().since(before);
        // What is not there any more may have been somebody else's. Beside other lanes
        // nobody can tell whose a keyring is.
        let alone = !names(cgroup_root().unwrap_or("/")).any(|name| lane::is_in_use(&name));
        let counts = |line: &str| !line.starts_with("gone: ") && (alone || !super::may_go(line));
        new.retain(|line| counts(line));
        new
    };
    let mut leaks = look();
    wait::until(limit, || {
        let now = look();
        leaks.retain(|leak| now.contains(leak));
        leaks.is_empty().then_some(())
    });
    tell(&leaks)
}

/// Runs a command and returns its exit code, 1 if it leaves anything behind on the machine
/// that is still there after `limit`; also a process, whoever its parent was. prctl(2), `PR_SET_CHILD_SUBREAPER`.
///
/// # Errors
///
/// If the command can't be run.
pub fn watch(command: &[OsString], limit: Duration) -> io::Result<i32> {
    let [program, arguments @ ..] = command else {
        return Err(io::Error::other("no command to run"));
    };
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own))?;
    let before = Snapshot::of_machine();
    let child = Command::new(program).args(arguments).spawn();
    let child = child.map_err(lane::context(&program.to_string_lossy()))?;
    let code = lane::supervise(&child)?;
    let mut left = Vec::new();
    wait::until(super::SETTLE, || {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        left = descendants();
        left.is_empty().then_some(())
    });
    let mut lines: Vec<String> = left.iter().map(|pid| process(pid)).collect();
    lines.sort();
    let processes = tell(&lines);
    // Before they are killed: what they have is left behind too.
    let rest = report_machine(&before, limit);
    for pid in left.iter().filter_map(|pid| pid.parse().ok()) {
        // If it is gone by now, good.
        let pid = rustix::process::Pid::from_raw(pid);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::KILL))
            && error != rustix::io::Errno::SRCH
        {
            return Err(error.into());
        }
    }
    Ok(if code == 0 { processes.max(rest) } else { code })
}

/// This process's children, and theirs.
fn descendants() -> Vec<String> {
    let mut parents = BTreeMap::new();
    for pid in pids() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before may hold anything. proc_pid_stat(5)
        let after = stat.rsplit_once(") ").map(|(_, after)| after);
        if let Some(parent) = after.and_then(|after| after.split(' ').nth(1)) {
            parents.insert(pid, parent.to_owned());
        }
    }
    let own = std::process::id().to_string();
    let is_below = |pid: &String| {
        let mut above = std::iter::successors(parents.get(pid), |pid| parents.get(*pid));
        above.any(|pid| *pid == own)
    };
    let below = parents.keys().filter(|pid| is_below(pid));
    below.cloned().collect()
}

/// Cgroups that are not a service's, nor of a lane that is in use. By their path in the
/// hierarchy, wherever that is mounted.
fn cgroups() -> BTreeSet<String> {
    let Some(top) = cgroup_root() else {
        return BTreeSet::new();
    };
    let mut folders = BTreeSet::new();
    tree("", Path::new(top), Entries::Folders, &mut folders);
    let others = |path: &&str| {
        path.split('/').any(|name| {
            name.ends_with(".service") || name.starts_with("session-") || lane::is_in_use(name)
        })
    };
    let paths = folders
        .iter()
        .filter_map(|line| line.trim_start().strip_prefix(top));
    let ours = paths.filter(|path| !others(path));
    ours.map(|path| format!("cgroup {path}")).collect()
}

/// Where cgroup v2 is mounted.
fn cgroup_root() -> Option<&'static str> {
    let is_cgroup2 = |top: &&str| {
        let found = rustix::fs::statfs(*top);
        found.is_ok_and(|found| found.f_type == CGROUP2_SUPER_MAGIC)
    };
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    mounts.into_iter().find(is_cgroup2)
}

/// Where runtimes, lanes and tests keep things, but for those of a process that runs.
fn files() -> Vec<String> {
    let mut lines: BTreeSet<String> = names("/run")
        .map(|name| format!("file /run/{name}"))
        .collect();
    for runtime in ["corten", "crun", "runc"] {
        let root = Path::new("/run").join(runtime);
        tree("file", &root, Entries::All, &mut lines);
    }
    let temporary = std::env::temp_dir();
    let is_used = |name: &str| {
        let mut numbers = name.split(|c: char| !c.is_ascii_digit());
        numbers.any(|number| !number.is_empty() && Path::new("/proc").join(number).exists())
    };
    let ours = names(&temporary).filter(|name| name.starts_with("corten") && !is_used(name));
    lines.extend(ours.map(|name| format!("file {}", temporary.join(name).display())));
    lines.extend(lane::left_in_the_cache().map(|path| format!("file {}", path.display())));
    lines.into_iter().collect()
}

/// Scopes of systemd, where it runs. What else it starts is not ours. systemctl(1)
fn scopes() -> Vec<String> {
    if !Path::new("/run/systemd/system").exists() {
        return Vec::new();
    }
    let output = Command::new("systemctl")
        .args(["list-units", "--all", "--plain", "--no-legend", "--full"])
        .arg("--type=scope")
        .output();
    let text = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|unit| !unit.starts_with("session-"))
        .map(|unit| format!("unit {unit}"))
        .collect()
}
