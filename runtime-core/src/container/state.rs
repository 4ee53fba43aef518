//! [`State`]: what `state` shows, and `Saved`: what is kept in state.json.
//!
//! See runtime.md of the OCI specification, "State". A process is known by pid, start
//! time and boot id, and by its pidfd's inode; a pid alone could be somebody else by now,
//! and a start time is counted in hundredths of a second.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Cgroup};
use crate::error::Error;
use crate::host::Unit;
use crate::plan::hooks::HookState;
use crate::run::LateStep;
use crate::spec::Hook;
use crate::sys::process::Ended;
use crate::sys::{file, process};

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The state of a container, as the OCI specification and runc write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct State {
    /// `ociVersion` of its config.json.
    pub oci_version: String,
    /// Its id.
    pub id: String,
    /// Its process; 0 when stopped.
    pub pid: i32,
    /// What it does.
    pub status: Status,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Its root file system.
    pub rootfs: PathBuf,
    /// When it was created: RFC 3339 in UTC with nanoseconds.
    pub created: String,
    /// `annotations` of its config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user who created it, or the uid in decimal.
    pub owner: String,
}

/// What a delete must undo, written before anything of it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) cgroup: Option<PathBuf>,
    /// Those above it that have to be made for it.
    #[serde(default)]
    pub(super) made_cgroups: Vec<PathBuf>,
    /// The unit that systemd made it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<Unit>,
    /// Directories of resctrl that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) resctrl: Vec<PathBuf>,
}

/// state.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Saved {
    pub(super) oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    /// Field 22 of /proc/PID/stat, see proc_pid_stat(5).
    pub(super) start_time: u64,
    /// What tells it from any other process since boot, where the kernel has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pidfd_inode: Option<u64>,
    pub(super) boot_id: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) owner: String,
    pub(super) cgroup: Option<PathBuf>,
    /// The cgroups above it that were made for it.
    pub(super) made_cgroups: Vec<PathBuf>,
    /// The unit that systemd made it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<Unit>,
    /// The directory of resctrl that its processes join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resctrl_joined: Option<PathBuf>,
    /// Directories of resctrl that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) resctrl: Vec<PathBuf>,
    /// OOM kills that its cgroup had seen when it was made, if it was there already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) oom_kills_before: u64,
    /// Limits after an update, as the text of a `linux.resources`; empty: config.json's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) resources: String,
    /// Whether it has a pid namespace of its own, which dies with its process.
    pub(super) own_pid_namespace: bool,
    /// Whether its processes stay in the session keyring of their creator.
    #[serde(default)]
    pub(super) no_new_keyring: bool,
    /// Steps that `start` drives.
    pub(super) late_steps: Vec<LateStep>,
    /// Steps of the plan.
    pub(super) steps: usize,
    /// Those of them that are init's.
    pub(super) init_steps: usize,
    /// Hooks of `start`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) poststart: Vec<Hook>,
    /// Hooks of `delete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) poststop: Vec<Hook>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Saved {
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Saved, Error> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::other(format!("{}: {error}", path.display())))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists only: there is nothing that can't be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn state(&self, status: Status) -> State {
        State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            status,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: self.owner.clone(),
        }
    }

    /// What hooks are told.
    pub(super) fn hook_state(&self) -> HookState<'_> {
        HookState {
            oci_version: &self.oci_version,
            id: &self.id,
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }

    /// The process, if it is still the one that was started.
    pub(super) fn open_process(&self) -> Result<Option<OwnedFd>, Error> {
        if boot_id()? != self.boot_id {
            return Ok(None);
        }
        let pidfd = match process::pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(Error::call(self.pid.to_string(), "pidfd_open", errno)),
        };
        let failed = |errno| Error::call(format!("process {}", self.pid), "stat", errno);
        if self.pidfd_inode.is_some() {
            // No other process has had it since boot, so there is no need of the start time.
            let inode = process::pidfd_inode(pidfd.as_fd()).map_err(failed)?;
            return Ok((self.pidfd_inode == inode).then_some(pidfd));
        }
        // Asked after the pidfd is open: the pid can't be reused between.
        let start_time = match start_time(self.pid) {
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            other => other.map_err(failed)?,
        };
        Ok((start_time == self.start_time).then_some(pidfd))
    }

    /// Its cgroup, if it has one and that still exists.
    pub(super) fn open_cgroup(&self) -> Option<Cgroup> {
        let path = self.cgroup.as_deref()?;
        Cgroup::open(Path::new(cgroup::MOUNT), path).ok()
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.open_cgroup().is_some_and(|cgroup| is_frozen(&cgroup))
    }
}

/// Whether a cgroup stands still, as far as anybody can tell.
pub(super) fn is_frozen(cgroup: &Cgroup) -> bool {
    cgroup.events().is_ok_and(|events| events.frozen)
}

/// When a process was started, in clock ticks since boot.
pub(super) fn start_time(pid: i32) -> Result<u64, Errno> {
    Ok(read_stat(pid)?.start_time)
}

/// How a process ended that has ended and was not reaped yet; `None` where the kernel
/// does not tell the caller, or it is gone.
pub(super) fn ended_unreaped(pid: i32, start_time: u64) -> Option<Ended> {
    // Who may not look into a process is told 0 for its exit code. Asked first: a zombie
    // has no program, so ENOENT means that the caller may.
    if matches!(process::program(pid), Err(Errno::ACCESS | Errno::PERM)) {
        return None;
    }
    let stat = read_stat(pid).ok()?;
    // `X` is a child that the kernel itself reaps, since its parent ignores SIGCHLD.
    let has_ended = matches!(stat.state, 'Z' | 'X');
    (has_ended && stat.start_time == start_time).then(|| Ended::from_wait_status(stat.exit_code))
}

/// What is needed of /proc/PID/stat.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    start_time: u64,
    /// In the form of wait(2).
    exit_code: i32,
}

fn read_stat(pid: i32) -> Result<Stat, Errno> {
    let bytes = file::read(Path::new(&format!("/proc/{pid}/stat")))?;
    parse_stat(&bytes).ok_or(Errno::PROTO)
}

/// Fields 3, 22 and 52. The second field is the program's name in brackets and may hold
/// anything.
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        start_time: fields.nth(18)?.parse().ok()?,
        exit_code: fields.nth(29)?.parse().ok()?,
    })
}

/// The kernel's id of this boot.
pub(super) fn boot_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let bytes = file::read(Path::new(path)).map_err(|errno| Error::call(path, "read", errno))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Now as RFC 3339 in UTC with nanoseconds.
pub(super) fn timestamp() -> String {
    // A clock that stands before 1970 is told as 1970.
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let days = (time.as_secs() / 86_400).cast_signed();
    let second = time.as_secs() % 86_400;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanos = time.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The Gregorian date of a day counted from 1970-01-01: years are counted from March,
/// so that the leap day is the last of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_stat_are_found_behind_a_name_with_brackets() {
        let mut stat = b"7 (a) b) Z".to_vec();
        for field in 4..=52 {
            stat.extend(format!(" {field}").bytes());
        }
        let wanted = Stat {
            state: 'Z',
            start_time: 22,
            exit_code: 52,
        };
        assert_eq!(parse_stat(&stat), Some(wanted));
        assert_eq!(parse_stat(b"7 (a) Z 1 2 3"), None);
    }

    #[test]
    fn dates_are_gregorian() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (10_957, (2000, 1, 1)),
            (11_016, (2000, 2, 29)),
            (20_778, (2026, 11, 21)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
    }

    #[test]
    fn the_own_process_has_a_start_time() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(pid).unwrap() > 0);
    }
}
