//! What is in a lane, seen by its pid 1.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::{
    DESCRIPTOR, Entries, Snapshot, interfaces, keyrings, loop_devices, mounts, names, pids,
    process, tree,
};
use crate::{lane, sys};

const CGROUPS: &str = "/sys/fs/cgroup";

impl Snapshot {
    /// Looks around in the lane.
    #[must_use]
    pub fn of_lane() -> Self {
        let mut lines = BTreeSet::new();
        mounts(Path::new("/proc/self/mountinfo"), &mut lines);
        interfaces(&mut lines);
        loop_devices(&mut lines);
        // Those of checks that run beside this one.
        let own = crate::lane::mark();
        lines.retain(|line| {
            !line.starts_with("loop device ") || !line.contains("/check-") || line.contains(&own)
        });
        for pid in pids() {
            lines.insert(process(&pid));
            descriptors(&pid, &mut lines);
        }
        namespaces(&mut lines);
        sockets(&mut lines);
        let mut folders = BTreeSet::new();
        tree("", Path::new(CGROUPS), Entries::Folders, &mut folders);
        lines.extend(folders.iter().map(|folder| format!("cgroup{folder}")));
        folders.insert(format!(" {CGROUPS}"));
        for folder in folders {
            bpf_programs(folder.trim_start(), &mut lines);
        }
        // Other keyrings are other lanes'.
        let mark = lane::mark();
        keyrings(|name| name.contains(&mark), &mut lines);
        for (kind, top) in [
            ("file", "/run"),
            ("file", "/dev/shm"),
            ("queue", "/dev/mqueue"),
        ] {
            tree(kind, Path::new(top), Entries::All, &mut lines);
        }
        Self { lines }
    }
}

/// What a process has open, but for the folders that are read to find it out.
fn descriptors(pid: &str, lines: &mut BTreeSet<String>) {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    for number in names(&folder) {
        let target = std::fs::read_link(folder.join(&number)).unwrap_or_default();
        if !target.starts_with("/proc") {
            lines.insert(format!("{DESCRIPTOR}{pid} {number} {}", target.display()));
        }
    }
}

/// Programs at a cgroup: they live as long as it does, and a lane's own stays.
fn bpf_programs(folder: &str, lines: &mut BTreeSet<String>) {
    let Ok(group) = File::open(folder) else {
        return;
    };
    for id in sys::bpf_programs_at(&group) {
        lines.insert(format!("BPF program {id} at cgroup {folder}"));
    }
}

/// Namespaces that a process is in or holds open. One that only a mount holds is a mount.
fn namespaces(lines: &mut BTreeSet<String>) {
    for pid in pids() {
        for folder in ["ns", "fd"] {
            let folder = Path::new("/proc").join(&pid).join(folder);
            for link in names(&folder) {
                let target = std::fs::read_link(folder.join(link)).unwrap_or_default();
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
