//! The cgroup of a lane: everything in the lane is below it, so it can all be found
//! and killed. Seen from outside the lane. cgroups(7).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait;

const MOUNT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "corten-lane-";

/// One lane's cgroup.
pub(super) struct Lane {
    path: PathBuf,
}

impl Lane {
    /// Makes the cgroup of this process's lane, and removes what dead lanes left.
    pub(super) fn create() -> io::Result<Self> {
        sweep();
        let path = Path::new(MOUNT).join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells what still runs, for the one who must find out why it hangs.
    pub(super) fn print_processes(&self) {
        for folder in folders(&self.path) {
            let procs = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in procs.lines() {
                let read = |file: &str| {
                    let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                    String::from_utf8_lossy(&text)
                        .replace('\0', " ")
                        .trim()
                        .to_owned()
                };
                eprintln!("  pid {pid} in {}: {}", read("wchan"), read("cmdline"));
            }
        }
    }

    /// Kills what is left and removes the cgroup with all below it.
    pub(super) fn remove(self) -> io::Result<()> {
        let removed = wait::until(Duration::from_secs(10), || {
            // A cgroup whose processes are dying can't be removed yet.
            let killed = std::fs::write(self.path.join("cgroup.kill"), "1");
            remove(&self.path).and(killed.or(Ok(()))).ok()
        });
        removed.ok_or_else(|| {
            self.print_processes();
            io::Error::other(format!("{}: can't be removed", self.path.display()))
        })
    }
}

/// A cgroup and all below it, the deepest first.
fn folders(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(top).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.extend(folders(&entry.path()));
    }
    found.push(top.to_owned());
    found
}

fn remove(top: &Path) -> io::Result<()> {
    folders(top)
        .iter()
        .try_for_each(|folder| match std::fs::remove_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
}

/// Whether this is the name of a cgroup of a lane whose outer process lives.
pub(crate) fn is_in_use(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX);
    pid.is_some_and(|pid| Path::new("/proc").join(pid).exists())
}

/// Removes the cgroups of lanes whose outer process was killed.
fn sweep() {
    for entry in std::fs::read_dir(MOUNT).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_dead = name.starts_with(PREFIX) && !is_in_use(&name);
        if is_dead && remove(&entry.path()).is_err() {
            eprintln!(
                "lane: {}: left by an earlier run, still in use",
                entry.path().display()
            );
        }
    }
}
