//! cgroup v2: what limits a container and what holds its processes together.
//!
//! # Layout
//! - `settings`, `path`, `device_program`: pure; from config.json to what is to be done.
//! - `fs`: makes, opens and fills a cgroup, kills and freezes what is in it.
//! - `enable`: switches controllers on, down the path.
//! - `delegate`: gives a cgroup to the container's user.
//! - `remove`: takes a cgroup away again.
//! - `oom`: what the kernel has killed for want of memory.
//! - `stats`: what a cgroup has used.
//! - `stuck`: processes that do not stop, and where they wait.
//! - `systemd`: cgroups that systemd makes.
//! - `update`: new limits for a cgroup in use.
//! - `walk`: a cgroup and all below it, whatever a container made there.
//! - `error`: [`CgroupError`].
//!
//! See cgroups(7) and the kernel's admin-guide/cgroup-v2. cgroup v1 is not used; [`mode`]
//! tells what the machine has.

mod delegate;
mod device_program;
mod enable;
mod error;
mod fs;
mod oom;
mod path;
mod remove;
mod settings;
pub mod stats;
mod stuck;
pub(crate) mod systemd;
#[cfg(test)]
mod tests;
mod update;
mod walk;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::sys::{call, file};

pub(crate) use delegate::delegate;
pub(crate) use device_program::{
    DeviceProgram, attach, device_program, other_device_program, replace,
};
pub(crate) use enable::offers;
pub(crate) use error::CgroupError;
pub(crate) use fs::Cgroup;
pub(crate) use oom::OomKills;
pub(crate) use path::cgroup_path;
pub(crate) use remove::{remove, remove_unused};
pub(crate) use settings::{Setting, settings};
pub(crate) use stuck::Stuck;
pub(crate) use update::changes;

/// Where the hierarchy is mounted on every machine with cgroup v2.
pub(crate) const MOUNT: &str = "/sys/fs/cgroup";

/// What is mounted where the cgroup hierarchy belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// cgroup v2.
    V2,
    /// cgroup v1, with a v2 hierarchy that has few controllers or none beside it.
    Hybrid,
    /// cgroup v1.
    V1,
    /// Nothing that is known.
    None,
}

impl std::fmt::Display for CgroupMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CgroupMode::V2 => "cgroup v2",
            CgroupMode::Hybrid => "cgroup v1, with v2 beside it",
            CgroupMode::V1 => "cgroup v1",
            CgroupMode::None => "no cgroups",
        })
    }
}

/// Looks at `mount`, [`MOUNT`] as a rule.
pub(crate) fn mode(mount: &Path) -> CgroupMode {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    const CGROUP_SUPER_MAGIC: i64 = 0x27_e0eb;
    let magic =
        |path: &Path| call("statfs", || rustix::fs::statfs(path)).map_or(0, |statfs| statfs.f_type);
    // In a v1 tree `mount` is a tmpfs with one mount per controller.
    let v1 = ["memory", "cpu", "pids", "systemd"];
    if magic(mount) == CGROUP2_SUPER_MAGIC {
        CgroupMode::V2
    } else if magic(&mount.join("unified")) == CGROUP2_SUPER_MAGIC {
        CgroupMode::Hybrid
    } else if v1
        .iter()
        .any(|c| magic(&mount.join(c)) == CGROUP_SUPER_MAGIC)
    {
        CgroupMode::V1
    } else {
        CgroupMode::None
    }
}

/// The caller's own cgroup, as an absolute path below the root of the hierarchy.
pub(crate) fn own_cgroup() -> Result<PathBuf, CgroupError> {
    read_cgroup(Path::new("/proc/self/cgroup"))
}

/// The cgroup of a process, as the caller sees the hierarchy.
pub(crate) fn cgroup_of(pid: i32) -> Result<PathBuf, CgroupError> {
    read_cgroup(Path::new(&format!("/proc/{pid}/cgroup")))
}

fn read_cgroup(path: &Path) -> Result<PathBuf, CgroupError> {
    let bytes = file::read(path).map_err(io("read", path))?;
    parse_own(&bytes)
}

fn parse_own(proc_self_cgroup: &[u8]) -> Result<PathBuf, CgroupError> {
    let own = proc_self_cgroup
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))
        .ok_or(CgroupError::Own {
            why: "has no cgroup v2 line (0::)",
        })?;
    // The last process of a removed cgroup; its place can be made again.
    let own = own.strip_suffix(b" (deleted)").unwrap_or(own);
    if own.starts_with(b"/..") {
        return Err(CgroupError::Own {
            why: "is outside of the cgroup namespace",
        });
    }
    Ok(PathBuf::from(OsStr::from_bytes(own)))
}

/// `path` for a system call relative to the hierarchy's root.
fn below_root(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(below) if below.as_os_str().is_empty() => Path::new("."),
        Ok(below) => below,
        Err(_) => path,
    }
}

/// For `map_err`: a failed `call` on the cgroup `path`.
fn io<'a>(call: &'static str, path: &'a Path) -> impl FnOnce(Errno) -> CgroupError + 'a {
    move |errno| CgroupError::Io {
        call,
        path: path.to_owned(),
        errno,
    }
}

/// Whether an answer means that the cgroup went away meanwhile.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV)
}
