//! What is there now and was not before.
//!
//! Two places to look: the inside of a lane, where nothing else changes anything, and the
//! machine, which others use too.
//!
//! | where | what |
//! |---|---|
//! | `inside` | mounts, cgroups, processes, their descriptors, namespaces, sockets, interfaces, files, queues; what is the machine's and can be told by its name or place: keyrings, BPF programs at cgroups, loop devices |
//! | `machine` | mounts, cgroups, files, interfaces; all keyrings, BPF programs and loop devices; scopes of systemd |

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::wait;

mod inside;
mod machine;

pub(crate) use machine::report_machine;
pub use machine::watch;

/// How long the kernel may take to clean up behind the last process.
const SETTLE: Duration = Duration::from_secs(5);

/// How long something of the machine may stay that may also be somebody else's, such as
/// the BPF program of another lane's container.
pub const OTHERS: Duration = Duration::from_secs(60);

/// Everything that a runtime could leave behind, each as a line that names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    lines: BTreeSet<String>,
}

impl Snapshot {
    /// What is here and was not there, and what is gone: a line each, empty if equal.
    ///
    /// But for mounts outside of what the lane made: who removes their directory on the
    /// machine takes them from every lane. What others may have, others may take away.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<String> {
        let lines = |snapshot: &Self| -> BTreeSet<String> {
            // The descriptors of a new process are not told one by one.
            let known = |line: &&String| match line.strip_prefix(DESCRIPTOR) {
                Some(rest) => {
                    let pid = rest.split(' ').next().unwrap_or_default();
                    before.has_process(pid) && self.has_process(pid)
                }
                None => !line.contains(FILTERS),
            };
            snapshot.lines.iter().filter(known).cloned().collect()
        };
        let (old, new) = (lines(before), lines(self));
        let gone = old
            .difference(&new)
            .filter(|line| !is_mount_elsewhere(line) && !may_go(line))
            .map(|line| format!("gone: {line}"));
        new.difference(&old).cloned().chain(gone).collect()
    }

    fn has_process(&self, pid: &str) -> bool {
        let start = format!("process {pid} ");
        let mut from = self.lines.range(start.clone()..);
        from.next().is_some_and(|line| line.starts_with(&start))
    }
}

/// Where Corten keeps compiled filters for the next container of the same profile; 64 of
/// them, and of a creator that was killed one unfinished until the next is written.
const FILTERS: &str = "/.seccomp:filters";

/// Begins the line of an open file: the process, its number, what it is.
const DESCRIPTOR: &str = "descriptor of ";

/// Waits until nothing more is there than before. 0, or 1 with a line for each leak.
pub(crate) fn report(before: &Snapshot, look: impl Fn() -> Snapshot) -> i32 {
    let mut leaks = Vec::new();
    wait::until(SETTLE, || {
        leaks = look().since(before);
        leaks.is_empty().then_some(())
    });
    tell(&leaks)
}

fn tell(leaks: &[String]) -> i32 {
    for leak in leaks {
        eprintln!("left behind: {leak}");
    }
    i32::from(!leaks.is_empty())
}

/// Whether a line is of something that may be gone: others may remove it, or it is closed.
fn may_go(line: &str) -> bool {
    let kinds = ["keyring ", "BPF program ", "loop device ", DESCRIPTOR];
    kinds.iter().any(|kind| line.starts_with(kind))
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

/// Mounts with their options: a changed propagation or flag is a leak as well.
fn mounts(file: &Path, lines: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    lines.extend(text.lines().map(|line| format!("mount {line}")));
}

/// A process as a line.
fn process(pid: &str) -> String {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let comm = String::from_utf8_lossy(&read("comm")).trim().to_owned();
    format!("process {pid} {comm}: {command}")
}

/// The pids that can be seen.
fn pids() -> impl Iterator<Item = String> {
    names("/proc").filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Keyrings that this process may see and that are wanted by name, by number and name.
/// keyrings(7), proc_keys(5).
fn keyrings(wanted: impl Fn(&str) -> bool, lines: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string("/proc/keys").unwrap_or_default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [serial, _, _, _, _, _, _, "keyring", name, ..] = words.as_slice()
            && wanted(name)
        {
            lines.insert(format!("keyring {serial} {name}"));
        }
    }
}

/// Loop devices with a file. loop(4).
fn loop_devices(lines: &mut BTreeSet<String>) {
    for name in names("/sys/block") {
        let file = format!("/sys/block/{name}/loop/backing_file");
        if let Ok(file) = std::fs::read_to_string(file) {
            lines.insert(format!("loop device {name} of {}", file.trim()));
        }
    }
}

fn interfaces(lines: &mut BTreeSet<String>) {
    lines.extend(names("/sys/class/net").map(|name| format!("interface {name}")));
}

/// The names in a folder, none if it can't be read.
fn names(folder: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
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
