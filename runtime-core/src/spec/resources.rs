//! `linux.resources`: what the cgroup allows.
//!
//! Data only; the fields keep cgroup v1's words and units, which is what the spec uses. How they
//! become cgroup v2 files is the business of `cgroup`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::{named, nullable, objects, optional, text, unset};

/// `linux.resources`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// Rules for device nodes; the last that matches wins.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub devices: Vec<DeviceRule>,
    /// Memory.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub memory: Option<Memory>,
    /// CPU time and placement.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub cpu: Option<Cpu>,
    /// Number of tasks.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub pids: Option<Pids>,
    /// Disk bandwidth.
    #[serde(
        rename = "blockIO",
        deserialize_with = "optional",
        skip_serializing_if = "unset"
    )]
    pub block_io: Option<BlockIo>,
    /// Huge pages by page size.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Network classes; cgroup v1 only.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub network: Option<Network>,
    /// RDMA by device.
    #[serde(deserialize_with = "named", skip_serializing_if = "unset")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of cgroup v2 and what to write to them.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub unified: BTreeMap<String, String>,
}

/// One of `linux.resources.devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceRule {
    /// Allow or deny.
    #[serde(deserialize_with = "nullable")]
    pub allow: bool,
    /// `a`, `b` or `c`; absent means all.
    #[serde(
        rename = "type",
        deserialize_with = "text",
        skip_serializing_if = "unset"
    )]
    pub kind: Option<String>,
    /// Major number; absent or -1 means any.
    #[serde(skip_serializing_if = "unset")]
    pub major: Option<i64>,
    /// Minor number; absent or -1 means any.
    #[serde(skip_serializing_if = "unset")]
    pub minor: Option<i64>,
    /// Some of `r`, `w`, `m`.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub access: Option<String>,
}

/// `linux.resources.memory`, in bytes; -1 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Memory {
    /// Memory.
    #[serde(skip_serializing_if = "unset")]
    pub limit: Option<i64>,
    /// Soft limit.
    #[serde(skip_serializing_if = "unset")]
    pub reservation: Option<i64>,
    /// Memory plus swap.
    #[serde(skip_serializing_if = "unset")]
    pub swap: Option<i64>,
    /// Kernel memory; gone from the kernel.
    #[serde(skip_serializing_if = "unset")]
    pub kernel: Option<i64>,
    /// Kernel TCP buffers; gone from the kernel.
    #[serde(rename = "kernelTCP", skip_serializing_if = "unset")]
    pub kernel_tcp: Option<i64>,
    /// Eagerness to swap; cgroup v1 only.
    #[serde(skip_serializing_if = "unset")]
    pub swappiness: Option<u64>,
    /// No OOM killer; cgroup v1 only.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "unset")]
    pub disable_oom_killer: Option<bool>,
    /// Hierarchical accounting; cgroup v1 only.
    #[serde(skip_serializing_if = "unset")]
    pub use_hierarchy: Option<bool>,
    /// Refuse a limit below what is in use.
    #[serde(skip_serializing_if = "unset")]
    pub check_before_update: Option<bool>,
}

/// `linux.resources.cpu`, times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cpu {
    /// Weight against other cgroups, 2 to 262144.
    #[serde(skip_serializing_if = "unset")]
    pub shares: Option<u64>,
    /// CPU time in each period; 0 or less is no limit.
    #[serde(skip_serializing_if = "unset")]
    pub quota: Option<i64>,
    /// Unused time that may be saved up.
    #[serde(skip_serializing_if = "unset")]
    pub burst: Option<u64>,
    /// Length of the period.
    #[serde(skip_serializing_if = "unset")]
    pub period: Option<u64>,
    /// Real-time CPU time in each period; cgroup v1 only.
    #[serde(skip_serializing_if = "unset")]
    pub realtime_runtime: Option<i64>,
    /// Length of the real-time period; cgroup v1 only.
    #[serde(skip_serializing_if = "unset")]
    pub realtime_period: Option<u64>,
    /// CPUs as `0-3,7`.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub cpus: Option<String>,
    /// Memory nodes as `0-1`.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub mems: Option<String>,
    /// 1: scheduled as `SCHED_IDLE`.
    #[serde(skip_serializing_if = "unset")]
    pub idle: Option<i64>,
}

/// `linux.resources.pids`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pids {
    /// Most tasks; below 0 is no limit.
    #[serde(skip_serializing_if = "unset")]
    pub limit: Option<i64>,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIo {
    /// Weight against other cgroups.
    #[serde(skip_serializing_if = "unset")]
    pub weight: Option<u16>,
    /// Weight of the tasks against child cgroups; cgroup v1 only.
    #[serde(skip_serializing_if = "unset")]
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read per second.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes written per second.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads per second.
    #[serde(
        rename = "throttleReadIOPSDevice",
        deserialize_with = "objects",
        skip_serializing_if = "unset"
    )]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes per second.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        deserialize_with = "objects",
        skip_serializing_if = "unset"
    )]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// Weight of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WeightDevice {
    /// Major number.
    #[serde(deserialize_with = "nullable")]
    pub major: i64,
    /// Minor number.
    #[serde(deserialize_with = "nullable")]
    pub minor: i64,
    /// Weight.
    #[serde(skip_serializing_if = "unset")]
    pub weight: Option<u16>,
    /// Leaf weight; cgroup v1 only.
    #[serde(skip_serializing_if = "unset")]
    pub leaf_weight: Option<u16>,
}

/// Rate of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ThrottleDevice {
    /// Major number.
    #[serde(deserialize_with = "nullable")]
    pub major: i64,
    /// Minor number.
    #[serde(deserialize_with = "nullable")]
    pub minor: i64,
    /// Per second.
    #[serde(deserialize_with = "nullable")]
    pub rate: u64,
}

/// One of `linux.resources.hugepageLimits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HugepageLimit {
    /// Page size as `2MB`.
    #[serde(deserialize_with = "nullable")]
    pub page_size: String,
    /// Bytes.
    #[serde(deserialize_with = "nullable")]
    pub limit: u64,
}

/// `linux.resources.network`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Network {
    /// Class of the container's packets.
    #[serde(rename = "classID", skip_serializing_if = "unset")]
    pub class_id: Option<u32>,
    /// Priorities by interface.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub priorities: Vec<InterfacePriority>,
}

/// Priority of one network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InterfacePriority {
    /// Interface.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Priority.
    #[serde(deserialize_with = "nullable")]
    pub priority: u32,
}

/// Limits of one RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rdma {
    /// Handles.
    #[serde(skip_serializing_if = "unset")]
    pub hca_handles: Option<u32>,
    /// Objects.
    #[serde(skip_serializing_if = "unset")]
    pub hca_objects: Option<u32>,
}
