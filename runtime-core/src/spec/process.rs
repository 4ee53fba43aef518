//! `process`: the program, as whom it runs and with what.
//!
//! Data only; what the kernel makes of it is in credentials(7), capabilities(7), getrlimit(2).

use serde::{Deserialize, Serialize};

use super::json::{nullable, object, objects, optional, text, unset};

/// `process`: the container's first program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// The program gets a pty as stdin, stdout, stderr and controlling terminal.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub terminal: bool,
    /// Size of that pty in characters.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub console_size: Option<ConsoleSize>,
    /// User and groups.
    #[serde(deserialize_with = "object")]
    pub user: User,
    /// The program and its arguments.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub args: Vec<String>,
    /// Environment as `NAME=value`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub env: Vec<String>,
    /// Working directory inside the container.
    #[serde(deserialize_with = "nullable")]
    pub cwd: String,
    /// The five capability sets. Absent means that nothing is changed.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub rlimits: Vec<Rlimit>,
    /// Execve gives no new privileges, see `PR_SET_NO_NEW_PRIVS`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub no_new_privileges: bool,
    /// AppArmor profile.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub apparmor_profile: Option<String>,
    /// Value for `/proc/<pid>/oom_score_adj`.
    #[serde(skip_serializing_if = "unset")]
    pub oom_score_adj: Option<i64>,
    /// Scheduling policy, see sched_setattr(2).
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub scheduler: Option<Scheduler>,
    /// SELinux context.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub selinux_label: Option<String>,
    /// I/O priority, see ioprio_set(2).
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub io_priority: Option<IoPriority>,
    /// CPUs of programs that `exec` starts.
    #[serde(
        rename = "execCPUAffinity",
        deserialize_with = "optional",
        skip_serializing_if = "unset"
    )]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// `process.consoleSize`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsoleSize {
    /// Rows.
    #[serde(deserialize_with = "nullable")]
    pub height: u64,
    /// Columns.
    #[serde(deserialize_with = "nullable")]
    pub width: u64,
}

/// `process.user`: ids as the container sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// User id.
    #[serde(deserialize_with = "nullable")]
    pub uid: u32,
    /// Group id.
    #[serde(deserialize_with = "nullable")]
    pub gid: u32,
    /// File mode creation mask.
    #[serde(skip_serializing_if = "unset")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub additional_gids: Vec<u32>,
}

/// `process.capabilities`: names as `CAP_KILL`, in the order given; unknown ones are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Capabilities {
    /// What can ever be gained.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub bounding: Vec<String>,
    /// What the kernel checks.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub effective: Vec<String>,
    /// What is kept across execve of a file with inheritable capabilities.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub inheritable: Vec<String>,
    /// What may be made effective.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub permitted: Vec<String>,
    /// What is kept across execve of a plain file.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub ambient: Vec<String>,
}

impl Capabilities {
    /// The sets with their names in config.json.
    pub fn sets(&self) -> [(&'static str, &[String]); 5] {
        [
            ("bounding", &self.bounding),
            ("effective", &self.effective),
            ("inheritable", &self.inheritable),
            ("permitted", &self.permitted),
            ("ambient", &self.ambient),
        ]
    }
}

/// One of `process.rlimits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rlimit {
    /// Name as `RLIMIT_NOFILE`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// Hard limit.
    #[serde(deserialize_with = "nullable")]
    pub hard: u64,
    /// Soft limit.
    #[serde(deserialize_with = "nullable")]
    pub soft: u64,
}

/// The kernel's resource numbers are the places in this list, see
/// `include/uapi/asm-generic/resource.h`; x86_64 and aarch64 use these.
const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

impl Rlimit {
    /// The number prlimit(2) knows this limit by; `None` for an unknown name.
    pub fn resource(&self) -> Option<u32> {
        (0..)
            .zip(RLIMITS)
            .find(|(_, name)| *name == self.kind)
            .map(|(number, _)| number)
    }
}

/// `process.scheduler`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Scheduler {
    /// Name as `SCHED_OTHER`.
    #[serde(deserialize_with = "nullable")]
    pub policy: String,
    /// Nice value.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub nice: i32,
    /// Static priority of the real-time policies.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub priority: i32,
    /// Names as `SCHED_FLAG_RECLAIM`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub flags: Vec<String>,
    /// `SCHED_DEADLINE`: nanoseconds of CPU time in each period.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub runtime: u64,
    /// `SCHED_DEADLINE`: by when that time must have been given, in nanoseconds.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub deadline: u64,
    /// `SCHED_DEADLINE`: length of the period in nanoseconds.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub period: u64,
}

/// `process.ioPriority`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IoPriority {
    /// Name as `IOPRIO_CLASS_BE`.
    #[serde(deserialize_with = "nullable")]
    pub class: String,
    /// Level within the class.
    #[serde(deserialize_with = "nullable")]
    pub priority: i64,
}

/// `process.execCPUAffinity`: CPU lists as `0-3,7`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CpuAffinity {
    /// Before the process enters the container's cgroup.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub initial: Option<String>,
    /// Once it is in the cgroup.
    #[serde(
        rename = "final",
        deserialize_with = "text",
        skip_serializing_if = "unset"
    )]
    pub final_: Option<String>,
}
