//! What is there now and was not before: mounts, cgroups, processes, files, interfaces,
//! namespaces, sockets.
//!
//! Meant for the inside of a lane, where nothing else changes any of these. Keyrings, BPF
//! programs and loop devices have no namespace: all lanes and the machine share them, so
//! only [`Snapshot::of_machine`] has them, for a command that runs alone.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::{sys, wait};

/// How long the kernel may take to clean up behind the last process.
const SETTLE: Duration = Duration::from_secs(5);

/// Everything that a runtime could leave behind, each as a line that names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    lines: BTreeSet<String>,
}

impl Snapshot {
    /// Looks around.
    #[must_use]
    pub fn take() -> Self {
        let mut lines = BTreeSet::new();
        mounts(&mut lines);
        processes(&mut lines);
        namespaces(&mut lines);
        interfaces(&mut lines);
        sockets(&mut lines);
        tree(
            "cgroup",
            Path::new("/sys/fs/cgroup"),
            Entries::Folders,
            &mut lines,
        );
        tree("file", Path::new("/run"), Entries::All, &mut lines);
        tree("file", Path::new("/dev/shm"), Entries::All, &mut lines);
        tree("queue", Path::new("/dev/mqueue"), Entries::All, &mut lines);
        Self { lines }
    }

    /// Looks at what no namespace is around.
    #[must_use]
    pub fn of_machine() -> Self {
        let mut lines = BTreeSet::new();
        keyrings(&mut lines);
        loop_devices(&mut lines);
        for id in sys::bpf_programs() {
            lines.insert(format!("BPF program {id}"));
        }
        Self { lines }
    }

    /// What is here and was not there, and what is gone: a line each, empty if equal.
    ///
    /// But for mounts outside of what the lane made: who removes their directory on the
    /// machine takes them from every lane.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<String> {
        let new = self.lines.difference(&before.lines).cloned();
        let gone = before
            .lines
            .difference(&self.lines)
            .filter(|line| !is_mount_elsewhere(line))
            .map(|line| format!("gone: {line}"));
        new.chain(gone).collect()
    }
}

/// Waits until nothing more is there than before. 0, or 1 with a line for each leak.
pub fn report(before: &Snapshot, look: impl Fn() -> Snapshot) -> i32 {
    let mut leaks = Vec::new();
    let settled = wait::until(SETTLE, || {
        leaks = look().since(before);
        leaks.retain(|line| !line.starts_with("gone: keyring") && !line.starts_with("gone: BPF"));
        leaks.is_empty().then_some(())
    });
    for leak in &leaks {
        eprintln!("left behind: {leak}");
    }
    i32::from(settled.is_none())
}

/// Mounts with their options: a changed propagation or flag is a leak as well.
fn mounts(lines: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    lines.extend(text.lines().map(|line| format!("mount {line}")));
}

/// Whether a line is that of a mount which is not the lane's own.
fn is_mount_elsewhere(line: &str) -> bool {
    const OWN: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];
    let mount = line.strip_prefix("mount ");
    let point = mount.and_then(|line| line.split(' ').nth(4));
    point.is_some_and(|point| {
        let first = point.split('/').nth(1).unwrap_or_default();
        point != "/" && !OWN.contains(&format!("/{first}").as_str())
    })
}

fn processes(lines: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let comm = String::from_utf8_lossy(&read("comm")).trim().to_owned();
            lines.insert(format!("process {name} {comm}: {command}"));
        }
    }
}

/// Namespaces that a process is in or holds open. One that only a mount holds is a mount.
fn namespaces(lines: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        for folder in ["ns", "fd"] {
            let links = std::fs::read_dir(entry.path().join(folder));
            for link in links.into_iter().flatten().flatten() {
                let target = std::fs::read_link(link.path()).unwrap_or_default();
                let target = target.to_string_lossy();
                // Such as net:[4026531840].
                if let Some((kind, inode)) = target.split_once(":[")
                    && !["pipe", "socket", "anon_inode"].contains(&kind)
                {
                    lines.insert(format!("namespace {kind} {}", inode.trim_end_matches(']')));
                }
            }
        }
    }
}

/// Sockets of the lane's network. Those of Netlink are left out: the kernel has its own.
fn sockets(lines: &mut BTreeSet<String>) {
    for kind in [
        "unix", "tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet",
    ] {
        let text = std::fs::read_to_string(format!("/proc/net/{kind}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Of a Unix socket: inode and name; of others: addresses and inode.
            let name = match kind {
                "unix" => words.get(6..).map(|words| words.join(" ")),
                "packet" => words.last().map(|inode| (*inode).to_owned()),
                _ => words.get(1..3).map(|words| words.join(" to ")),
            };
            lines.insert(format!("socket {kind} {}", name.unwrap_or_default()));
        }
    }
}

/// Keyrings that this process may see, by number and name. keyrings(7), proc_keys(5).
fn keyrings(lines: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string("/proc/keys").unwrap_or_default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [serial, _, _, _, _, _, _, "keyring", name, ..] = words.as_slice() {
            lines.insert(format!("keyring {serial} {name}"));
        }
    }
}

/// Loop devices with a file. loop(4).
fn loop_devices(lines: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
    {
        let file = std::fs::read_to_string(entry.path().join("loop/backing_file"));
        if let Ok(file) = file {
            let name = entry.file_name().to_string_lossy().into_owned();
            lines.insert(format!("loop device {name} of {}", file.trim()));
        }
    }
}

fn interfaces(lines: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
    {
        lines.insert(format!("interface {}", entry.file_name().to_string_lossy()));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entries {
    Folders,
    All,
}

/// Every entry below a folder, without following links or looking into other mounts.
fn tree(what: &str, top: &Path, entries: Entries, lines: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(top).into_iter().flatten().flatten() {
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if folder || entries == Entries::All {
            lines.insert(format!("{what} {}", entry.path().display()));
        }
        if folder {
            tree(what, &entry.path(), entries, lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Snapshot;

    #[test]
    fn a_new_line_and_a_missing_one_are_both_told() {
        let with = |lines: &[&str]| Snapshot {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let leaks = with(&["a", "c"]).since(&with(&["a", "b"]));
        assert_eq!(leaks, ["c", "gone: b"]);
    }

    #[test]
    fn a_mount_that_vanishes_counts_only_where_the_lane_made_it() {
        let all = [
            "mount 8 1 0:40 / /root/x/proc ro shared:6 - proc proc ro",
            "mount 9 1 0:41 / /run rw - tmpfs tmpfs rw",
            "mount 7 1 0:42 / / rw - ext4 /dev/vda rw",
        ];
        let before = Snapshot {
            lines: all.iter().map(|line| (*line).to_owned()).collect(),
        };
        let gone: Vec<_> = Snapshot::default().since(&before);
        assert_eq!(
            gone,
            [format!("gone: {}", all[2]), format!("gone: {}", all[1])]
        );
        // A new one counts anywhere.
        assert_eq!(before.since(&Snapshot::default()).len(), 3);
    }
}
