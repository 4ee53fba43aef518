//! What is there now and was not before: mounts, cgroups, processes, files, interfaces.
//!
//! Meant for the inside of a lane, where nothing else changes any of these.

use std::collections::BTreeSet;
use std::path::Path;

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
        interfaces(&mut lines);
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
