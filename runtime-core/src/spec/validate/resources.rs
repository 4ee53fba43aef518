//! Checks of `linux.resources`: values that no cgroup file would take.
//!
//! Which numbers mean "no limit" is as in runc: -1 for memory, 0 or less for CPU time.

use super::super::error::{member, quoted};
use super::super::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Network, Resources, SpecError, ThrottleDevice,
};
use super::{in_range, invalid, missing};

pub(super) fn check(found: &mut Vec<SpecError>, resources: &Resources) {
    for (index, rule) in resources.devices.iter().enumerate() {
        device_rule(found, &format!("linux.resources.devices[{index}]"), rule);
    }
    if let Some(limits) = &resources.memory {
        memory(found, limits);
    }
    if let Some(limits) = &resources.cpu {
        cpu(found, limits);
    }
    if let Some(limits) = &resources.block_io {
        block_io(found, limits);
    }
    for (index, limit) in resources.hugepage_limits.iter().enumerate() {
        hugepage_limit(
            found,
            &format!("linux.resources.hugepageLimits[{index}]"),
            limit,
        );
    }
    only_cgroup_v1(found, resources);
    for file in resources.unified.keys() {
        if matches!(file.as_str(), "" | "." | "..") || file.contains('/') {
            let path = member("linux.resources.unified", file);
            found.push(invalid(path, "must be a file name (no slashes)"));
        }
    }
}

fn device_rule(found: &mut Vec<SpecError>, path: &str, rule: &DeviceRule) {
    if let Some(kind) = rule
        .kind
        .as_ref()
        .filter(|kind| !matches!(kind.as_str(), "a" | "b" | "c"))
    {
        let (path, value) = (member(path, "type"), kind.clone());
        found.push(SpecError::Unknown {
            path,
            value,
            expected: "a, b or c",
        });
    }
    match rule.access.as_deref().unwrap_or_default() {
        "" => found.push(missing(member(path, "access"))),
        access if access.contains(|c| !matches!(c, 'r' | 'w' | 'm')) => {
            let cause = format!("{} has letters other than r, w and m", quoted(access));
            found.push(invalid(member(path, "access"), cause));
        }
        _ => {}
    }
    for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
        let (number, max) = (number.unwrap_or(-1), i64::from(u32::MAX));
        found.extend(in_range(member(path, name), number, -1..=max, "-1 to 4294967295").err());
    }
}

fn memory(found: &mut Vec<SpecError>, memory: &Memory) {
    const PATH: &str = "linux.resources.memory";
    let values = [
        ("limit", memory.limit),
        ("reservation", memory.reservation),
        ("swap", memory.swap),
    ];
    for (name, value) in values {
        let value = value.unwrap_or_default();
        found.extend(in_range(member(PATH, name), value, -1..=i64::MAX, "-1 or more").err());
    }
    let (limit, swap) = (
        memory.limit.unwrap_or_default(),
        memory.swap.unwrap_or_default(),
    );
    if swap > 0 {
        let cause = match limit {
            ..0 => "can't be limited when linux.resources.memory.limit is not",
            0 => "can't be limited without linux.resources.memory.limit",
            _ if swap < limit => "is memory plus swap, so not below linux.resources.memory.limit",
            _ => return,
        };
        found.push(invalid(member(PATH, "swap"), cause));
    }
}

fn cpu(found: &mut Vec<SpecError>, cpu: &Cpu) {
    const PATH: &str = "linux.resources.cpu";
    // The kernel's bounds, min_cfs_quota_period and max_cfs_quota_period in kernel/sched/core.c.
    if let Some(period) = cpu.period.filter(|period| *period != 0) {
        let range = 1000..=1_000_000;
        found.extend(in_range(member(PATH, "period"), period, range, "1000 to 1000000").err());
    }
    if let Some(quota) = cpu.quota.filter(|quota| *quota > 0) {
        let expected = "1000 or more, or 0 or less for no limit";
        found.extend(in_range(member(PATH, "quota"), quota, 1000..=i64::MAX, expected).err());
    }
    let idle = cpu.idle.unwrap_or_default();
    found.extend(in_range(member(PATH, "idle"), idle, 0..=1, "0 or 1").err());
}

fn block_io(found: &mut Vec<SpecError>, io: &BlockIo) {
    const PATH: &str = "linux.resources.blockIO";
    let mut weight = |path: String, value: Option<u16>| {
        // 0 is what engines write when nobody asked for a weight.
        let value = value.filter(|weight| *weight != 0).unwrap_or(10);
        found.extend(in_range(path, value, 10..=1000, "10 to 1000").err());
    };
    weight(member(PATH, "weight"), io.weight);
    for (index, device) in io.weight_device.iter().enumerate() {
        weight(
            format!("{PATH}.weightDevice[{index}].weight"),
            device.weight,
        );
    }
    let weights = io.weight_device.iter().map(|d| (d.major, d.minor));
    let rates = |list: &[ThrottleDevice]| list.iter().map(|d| (d.major, d.minor)).collect();
    let lists: [(&str, Vec<(i64, i64)>); 5] = [
        ("weightDevice", weights.collect()),
        ("throttleReadBpsDevice", rates(&io.throttle_read_bps_device)),
        (
            "throttleWriteBpsDevice",
            rates(&io.throttle_write_bps_device),
        ),
        (
            "throttleReadIOPSDevice",
            rates(&io.throttle_read_iops_device),
        ),
        (
            "throttleWriteIOPSDevice",
            rates(&io.throttle_write_iops_device),
        ),
    ];
    for (field, devices) in lists {
        for (index, (major, minor)) in devices.into_iter().enumerate() {
            device_number(found, &format!("{PATH}.{field}[{index}]"), major, minor);
        }
    }
}

/// A block device is named by its numbers, each in what the kernel's `dev_t` has for it.
fn device_number(found: &mut Vec<SpecError>, path: &str, major: i64, minor: i64) {
    found.extend(in_range(member(path, "major"), major, 0..=0xfff, "0 to 4095").err());
    found.extend(in_range(member(path, "minor"), minor, 0..=0xf_ffff, "0 to 1048575").err());
}

/// The size is a part of a file's name, as `2MB`; see the kernel's admin-guide/cgroup-v2.
fn hugepage_limit(found: &mut Vec<SpecError>, path: &str, limit: &HugepageLimit) {
    let size = &limit.page_size;
    let units = ["KB", "MB", "GB"];
    let number = units.iter().find_map(|unit| size.strip_suffix(unit));
    let number = number.unwrap_or_default();
    let well_formed = !number.is_empty()
        && !number.starts_with('0')
        && number.bytes().all(|byte| byte.is_ascii_digit());
    if !well_formed {
        found.push(SpecError::Unknown {
            path: member(path, "pageSize"),
            value: size.clone(),
            expected: "a size such as 64KB, 2MB or 1GB",
        });
    }
}

/// Limits that only cgroup v1 can keep. Zeros, which engines write for what nobody asked
/// for, and what is always so with v2 may stand in the file.
fn only_cgroup_v1(found: &mut Vec<SpecError>, resources: &Resources) {
    let memory = resources.memory.iter().flat_map(|memory| {
        [
            ("memory.swappiness", memory.swappiness.is_some()),
            (
                "memory.disableOOMKiller",
                memory.disable_oom_killer == Some(true),
            ),
        ]
    });
    let cpu = resources.cpu.iter().flat_map(|cpu| {
        [
            (
                "cpu.realtimeRuntime",
                cpu.realtime_runtime.is_some_and(|time| time != 0),
            ),
            (
                "cpu.realtimePeriod",
                cpu.realtime_period.is_some_and(|time| time != 0),
            ),
        ]
    });
    let leaf = |weight: Option<u16>| weight.is_some_and(|weight| weight != 0);
    let io = resources.block_io.iter().map(|io| {
        let devices = &io.weight_device;
        let asked = leaf(io.leaf_weight) || devices.iter().any(|d| leaf(d.leaf_weight));
        ("blockIO.leafWeight", asked)
    });
    let network = resources.network.iter().flat_map(|network: &Network| {
        [
            (
                "network.classID",
                network.class_id.is_some_and(|class| class != 0),
            ),
            ("network.priorities", !network.priorities.is_empty()),
        ]
    });
    let all = memory.chain(cpu).chain(io).chain(network);
    found.extend(
        all.filter(|(_, asked)| *asked)
            .map(|(field, _)| SpecError::OnlyCgroupV1 {
                path: format!("linux.resources.{field}"),
            }),
    );
}

/// Limits that no kernel has any more; as in runc, asking for them is not an error.
pub(super) fn ignored(memory: &Memory) -> impl Iterator<Item = String> {
    let fields = [("kernel", memory.kernel), ("kernelTCP", memory.kernel_tcp)];
    let asked = fields
        .into_iter()
        .filter(|(_, limit)| limit.is_some_and(|limit| limit > 0));
    asked.map(|(field, _)| {
        format!("linux.resources.memory.{field}: ignored, the kernel has no such limit any more")
    })
}
