//! `linux`: namespaces, id maps, paths, devices and the newer odds and ends.
//!
//! Data only; see namespaces(7), user_namespaces(7). Limits are in `resources`, filters in
//! `seccomp`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::json::{boxed, named, nullable, objects, optional, text, unset};
use super::profile::Profile;
use super::resources::Resources;

/// `linux`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// User ids of the user namespace.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of the user namespace.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel settings by dotted name.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub sysctl: BTreeMap<String, String>,
    /// Limits of the cgroup.
    #[serde(deserialize_with = "boxed", skip_serializing_if = "unset")]
    pub resources: Option<Box<Resources>>,
    /// The cgroup: a path, or `slice:prefix:name` for systemd.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub cgroups_path: Option<String>,
    /// Namespaces to make or join; a kind that is not named is the caller's.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub namespaces: Vec<Namespace>,
    /// Device nodes to make.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub devices: Vec<Device>,
    /// Network devices to move in, by their name on the host.
    #[serde(deserialize_with = "named", skip_serializing_if = "unset")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// Filter on system calls.
    #[serde(skip_serializing_if = "unset")]
    pub seccomp: Option<Profile>,
    /// Propagation of the root mount, as `rslave`.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub rootfs_propagation: Option<String>,
    /// Paths that look empty in the container.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub masked_paths: Vec<String>,
    /// Paths that are read-only in the container.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub readonly_paths: Vec<String>,
    /// SELinux context of the mounts.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub mount_label: Option<String>,
    /// Cache and memory bandwidth control.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub intel_rdt: Option<IntelRdt>,
    /// NUMA memory policy.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub personality: Option<Personality>,
    /// Clock offsets of the time namespace, by clock name.
    #[serde(deserialize_with = "named", skip_serializing_if = "unset")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
}

/// A range of ids and what they are outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IdMapping {
    /// First id in the container.
    #[serde(rename = "containerID", deserialize_with = "nullable")]
    pub container_id: u32,
    /// First id on the host.
    #[serde(rename = "hostID", deserialize_with = "nullable")]
    pub host_id: u32,
    /// Number of ids.
    #[serde(deserialize_with = "nullable")]
    pub size: u32,
}

/// One of `linux.namespaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// A file to join it by; absent means a new one.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "unset")]
    pub path: Option<String>,
}

/// `linux.namespaces[].type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Process ids.
    Pid,
    /// Network devices, addresses, ports.
    Network,
    /// Mount points.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// User and group ids, capabilities.
    User,
    /// The root of the cgroup tree.
    Cgroup,
    /// Monotonic and boot-time clocks.
    Time,
}

impl NamespaceKind {
    /// All kinds.
    pub(crate) const ALL: [NamespaceKind; 8] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Time,
    ];

    /// `CLONE_NEW*` of linux/sched.h.
    pub(crate) const fn clone_flag(self) -> u64 {
        match self {
            Self::User => 0x1000_0000,
            Self::Mount => 0x0002_0000,
            Self::Pid => 0x2000_0000,
            Self::Network => 0x4000_0000,
            Self::Ipc => 0x0800_0000,
            Self::Uts => 0x0400_0000,
            Self::Cgroup => 0x0200_0000,
            Self::Time => 0x0000_0080,
        }
    }

    /// Name in /proc/PID/ns of the namespace that a process's children are in.
    pub(crate) const fn for_children(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Network => "net",
            Self::Pid => "pid_for_children",
            Self::Time => "time_for_children",
            Self::Ipc | Self::Uts | Self::User | Self::Cgroup => self.as_str(),
        }
    }

    /// Name in /proc/PID/ns of the namespace that a process itself is in.
    pub(crate) const fn of_process(self) -> &'static str {
        match self {
            Self::Pid | Self::Time => self.as_str(),
            _ => self.for_children(),
        }
    }

    /// The word in config.json.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Mount => "mount",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for NamespaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of `linux.devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// Where in the container.
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    /// `b`, `c`, `u` or `p`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// Major number.
    #[serde(deserialize_with = "nullable")]
    pub major: i64,
    /// Minor number.
    #[serde(deserialize_with = "nullable")]
    pub minor: i64,
    /// Permission bits.
    #[serde(skip_serializing_if = "unset")]
    pub file_mode: Option<u32>,
    /// Owner in the container.
    #[serde(skip_serializing_if = "unset")]
    pub uid: Option<u32>,
    /// Group in the container.
    #[serde(skip_serializing_if = "unset")]
    pub gid: Option<u32>,
}

/// One of `linux.netDevices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetDevice {
    /// Name in the container, if it changes.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub name: Option<String>,
}

/// `linux.intelRdt`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IntelRdt {
    /// Class of service.
    #[serde(
        rename = "closID",
        deserialize_with = "text",
        skip_serializing_if = "unset"
    )]
    pub clos_id: Option<String>,
    /// Lines for the schemata file, after the two fields below.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub schemata: Vec<String>,
    /// Level 3 cache masks.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub mem_bw_schema: Option<String>,
    /// A monitoring group of its own.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub enable_monitoring: bool,
}

/// `linux.memoryPolicy`, see set_mempolicy(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MemoryPolicy {
    /// Name as `MPOL_BIND`.
    #[serde(deserialize_with = "nullable")]
    pub mode: String,
    /// Nodes as `0-1,3`.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub nodes: Option<String>,
    /// Names as `MPOL_F_STATIC_NODES`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub flags: Vec<String>,
}

/// `linux.personality`, see personality(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    #[serde(deserialize_with = "nullable")]
    pub domain: String,
    /// The spec defines none so far.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub flags: Vec<String>,
}

/// One of `linux.timeOffsets`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TimeOffset {
    /// Seconds.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub secs: i64,
    /// Nanoseconds on top.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub nanosecs: u32,
}
