//! Checks of `linux.resources`: values that no cgroup file would take.
//!
//! Which numbers mean "no limit" is as in runc: -1 for memory, 0 or less for CPU time.

use super::super::error::{member, quoted};
use super::super::{Cpu, DeviceRule, Memory, Resources, SpecError};
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
