//! Which processes a container has, by its cgroup.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where cgroup v2 is mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroup of a process.
pub(crate) fn cgroup_of(pid: i32) -> Result<PathBuf, Failure> {
    let name = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&name).map_err(|error| Failure::call(&name, error))?;
    // The one line of v2 has no controllers.
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| Failure::other(format!("{name}: not in cgroup v2")))?;
    Ok(Path::new(MOUNT).join(path))
}

/// All processes in a cgroup and below it.
pub(crate) fn of_cgroup(cgroup: PathBuf) -> Result<Vec<u32>, Failure> {
    let mut found = Vec::new();
    let mut left = vec![cgroup];
    while let Some(folder) = left.pop() {
        let procs = folder.join("cgroup.procs");
        match std::fs::read_to_string(&procs) {
            Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
            // Removed meanwhile, or with threads only.
            Err(error) if !folder.exists() || error.raw_os_error() == Some(95) => {}
            Err(error) => return Err(Failure::call(procs.display(), error)),
        }
        left.extend(folders(&folder));
    }
    found.sort_unstable();
    Ok(found)
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
