//! What can go wrong with a cgroup, by field, file and path.

use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;

use super::stuck::{self, Stuck};

/// A failure to plan, make, limit, stop or remove a cgroup.
///
/// The text names the field of config.json or the cgroup first; the cause is the source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CgroupError {
    /// A field holds a value that no cgroup file takes.
    #[error("{field}: {why}")]
    Invalid {
        /// The field's place in config.json.
        field: String,
        /// What is wrong with it.
        why: String,
    },

    /// Two fields ask for what the kernel holds only one of.
    #[error("{first} and {second}: unable to apply both: {why}")]
    Contradiction {
        /// One field.
        first: String,
        /// The other field.
        second: String,
        /// Why not both.
        why: &'static str,
    },

    /// A limit's controller is not there for the cgroup.
    #[error(
        "{origin}: {file} needs the {controller} controller, \
         which cgroup {ancestor} does not offer"
    )]
    NoController {
        /// The field that asks for the limit.
        origin: String,
        /// The file that is missing without the controller.
        file: String,
        /// The missing controller.
        controller: String,
        /// The first cgroup on the way down that lacks it.
        ancestor: PathBuf,
    },

    /// A limit's controller could not be switched on for the cgroup.
    #[error(
        "{origin}: {file} needs the {controller} controller, \
         which cgroup {ancestor} can't enable for its children{}",
        enable_hint(*.errno)
    )]
    EnableController {
        /// The field that asks for the limit.
        origin: String,
        /// The file that is missing without the controller.
        file: String,
        /// The missing controller.
        controller: String,
        /// The cgroup whose `cgroup.subtree_control` was written.
        ancestor: PathBuf,
        /// The kernel's answer.
        #[source]
        errno: Errno,
    },

    /// A limit could not be written.
    #[error("{origin}: write {value:?} to {file} of cgroup {path}")]
    Apply {
        /// The field that asks for the limit.
        origin: String,
        /// The cgroup file.
        file: String,
        /// What was written.
        value: String,
        /// The cgroup.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        errno: Errno,
    },

    /// A limit is not above what is in use, and can't be without a process being killed.
    #[error("{origin}: cgroup {path}: the limit {limit} is not above the {used} in use")]
    UsedUp {
        /// The field that asks for the limit.
        origin: String,
        /// The limit.
        limit: u64,
        /// What the cgroup uses, in the same unit.
        used: u64,
        /// The cgroup.
        path: PathBuf,
    },

    /// The cgroup has processes of somebody else.
    #[error("linux.cgroupsPath: cgroup {path}: container's cgroup is not empty")]
    NotEmpty {
        /// The cgroup.
        path: PathBuf,
    },

    /// The cgroup of a container that has ended has processes that are not the container's.
    #[error(
        "cgroup {path}: the container has stopped, and others use its cgroup: {}; \
         a delete by force would kill them",
        stuck::list(.processes)
    )]
    Strangers {
        /// The cgroup.
        path: PathBuf,
        /// Its processes, as far as they can be seen.
        processes: Vec<Stuck>,
    },

    /// Another creation is about to use the cgroup.
    #[error(
        "cgroup {path}: container's cgroup is not empty: \
         another container is being created in it"
    )]
    Taken {
        /// The cgroup.
        path: PathBuf,
    },

    /// The cgroup, or one above it, is frozen: what enters it would never run.
    #[error("linux.cgroupsPath: cgroup {path}: container's cgroup unexpectedly frozen")]
    Frozen {
        /// The cgroup.
        path: PathBuf,
    },

    /// Processes of the cgroup did not stop in time.
    #[error("cgroup {path}: not frozen after {timeout:?}: {}", stuck::list(.processes))]
    NotFrozen {
        /// The cgroup.
        path: PathBuf,
        /// How long was waited.
        timeout: Duration,
        /// Its processes, as far as they can be seen, the likely cause first.
        processes: Vec<Stuck>,
    },

    /// Something is still in the cgroup.
    #[error("cgroup {path}: not removed after {timeout:?}: still has {}", stuck::list(.processes))]
    NotRemoved {
        /// The cgroup.
        path: PathBuf,
        /// How long was waited.
        timeout: Duration,
        /// Its processes, as far as they can be seen, the likely cause first.
        processes: Vec<Stuck>,
    },

    /// The device program could not be loaded or attached.
    #[error("linux.resources.devices: {what} the device program")]
    DeviceProgram {
        /// Which half failed: `load` or `attach`.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        errno: Errno,
    },

    /// systemd did not do what it was asked for.
    #[error("linux.cgroupsPath: {what} systemd unit {unit}: {why}")]
    Systemd {
        /// The unit.
        unit: String,
        /// `reach`, `start`, `stop`, `reset` or `set limits of`.
        what: &'static str,
        /// What systemd or the bus says.
        why: String,
    },

    /// A unit of that name is there, and not failed: it is somebody else's.
    #[error("linux.cgroupsPath: systemd unit {unit}: exists already")]
    UnitExists {
        /// The unit.
        unit: String,
    },

    /// systemd put the process elsewhere than where its unit should be.
    #[error("linux.cgroupsPath: systemd put the container into cgroup {found}, not {wanted}")]
    Elsewhere {
        /// Where it is.
        found: PathBuf,
        /// Where it should be.
        wanted: PathBuf,
    },

    /// The caller's own cgroup can't be found out.
    #[error("/proc/self/cgroup: {why}")]
    Own {
        /// What is wrong with it.
        why: &'static str,
    },

    /// Any other system call on a cgroup or one of its files.
    #[error("cgroup {path}: {call}")]
    Io {
        /// The call, with the file it was made on.
        call: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        errno: Errno,
    },
}

impl CgroupError {
    /// The kernel's answer, where the failure is one.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::EnableController { errno, .. }
            | Self::Apply { errno, .. }
            | Self::DeviceProgram { errno, .. }
            | Self::Io { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether the caller simply lacks the privilege (rootless, nested, read-only mount).
    pub(crate) fn is_not_permitted(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::PERM | Errno::ACCESS | Errno::ROFS)
        )
    }
}

/// What the usual answers to a write to `cgroup.subtree_control` mean, see cgroups(7).
fn enable_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::BUSY => " while it has processes of its own",
        Errno::OPNOTSUPP => " because it is threaded",
        _ => "",
    }
}
