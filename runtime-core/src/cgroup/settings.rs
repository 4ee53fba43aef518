//! `linux.resources` as the cgroup v2 files to write. Pure.
//!
//! One [`Setting`] per file, in the order to be written, only for what the config asks
//! for. The files are described in the kernel's admin-guide/cgroup-v2. Device rules are
//! [`super::device_program`]'s.

mod devices;

use std::collections::BTreeMap;
use std::fmt;

use super::CgroupError;
use crate::spec::{Cpu, Memory, Pids, Resources};

/// One file of the container's cgroup and what to write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The file's name, such as `memory.max`.
    pub(crate) file: String,
    /// What is written; several lines are as many writes.
    pub(crate) value: String,
    /// The place in config.json that asks for it.
    pub(crate) origin: String,
    /// What it means when the file is not there.
    pub(crate) absent: Absent,
    /// A file with a number that the value must be above, or it is refused.
    pub(crate) above: Option<&'static str>,
}

/// What it means when a setting's file is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The limit can't be kept.
    Fail,
    /// Nothing: the setting asks for no limit, and without the file there is none.
    Fine,
    /// Another file means the same.
    Instead {
        /// The other file.
        file: &'static str,
        /// What that one takes.
        value: String,
    },
}

impl Setting {
    /// A limit that must be kept.
    pub(crate) fn new(
        file: impl Into<String>,
        value: impl Into<String>,
        origin: impl Into<String>,
    ) -> Setting {
        Setting {
            file: file.into(),
            value: value.into(),
            origin: origin.into(),
            absent: Absent::Fail,
            above: None,
        }
    }

    fn or_absent(self) -> Setting {
        Setting {
            absent: Absent::Fine,
            ..self
        }
    }

    fn or_instead(self, file: &'static str, value: String) -> Setting {
        Setting {
            absent: Absent::Instead { file, value },
            ..self
        }
    }

    /// The controller without which this setting fails.
    pub(crate) fn needs(&self) -> Option<&str> {
        let (controller, _) = self.file.split_once('.')?;
        (self.absent != Absent::Fine && controller != "cgroup").then_some(controller)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {} to {}", self.value, self.file)?;
        if let Absent::Instead { file, value } = &self.absent {
            write!(f, ", without that file {value} to {file}")?;
        }
        match self.above {
            Some(used) => write!(f, " if it is above {used}"),
            None => Ok(()),
        }
    }
}

/// The settings for `resources`, in the order to be written.
///
/// Zero means "not set" wherever runc has it so (engines write zeros for limits nobody
/// asked for). `unified` wins over a field that means the same file.
pub(crate) fn settings(resources: &Resources) -> Result<Vec<Setting>, CgroupError> {
    let mut list = Vec::new();
    if let Some(memory) = &resources.memory {
        add_memory(&mut list, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        add_cpu(&mut list, cpu)?;
    }
    if let Some(pids) = &resources.pids {
        list.extend(pids_limit(pids));
    }
    if let Some(io) = &resources.block_io {
        devices::add_io(&mut list, io);
    }
    for (index, limit) in resources.hugepage_limits.iter().enumerate() {
        devices::add_hugetlb(&mut list, index, limit);
    }
    devices::add_rdma(&mut list, &resources.rdma)?;
    add_unified(&mut list, &resources.unified)?;
    refuse_contradictions(&list)?;
    Ok(list)
}

const LIMIT: &str = "linux.resources.memory.limit";
const SWAP: &str = "linux.resources.memory.swap";
const RESERVATION: &str = "linux.resources.memory.reservation";

fn add_memory(list: &mut Vec<Setting>, memory: &Memory) -> Result<(), CgroupError> {
    let limit = memory.limit.unwrap_or(0);
    list.extend(swap(memory.swap.unwrap_or(0), limit)?);
    list.extend(
        memory_amount("memory.max", limit, LIMIT)?.map(|setting| Setting {
            above: (limit > 0 && memory.check_before_update == Some(true))
                .then_some("memory.current"),
            ..setting
        }),
    );
    let reservation = memory.reservation.unwrap_or(0);
    list.extend(memory_amount("memory.low", reservation, RESERVATION)?);
    Ok(())
}

/// A number of bytes; 0 is not set, -1 no limit.
fn memory_amount(file: &str, bytes: i64, origin: &str) -> Result<Option<Setting>, CgroupError> {
    Ok(match bytes {
        0 => None,
        -1 => Some(Setting::new(file, "max", origin).or_absent()),
        1.. => Some(Setting::new(file, bytes.to_string(), origin)),
        _ => return Err(invalid(origin, format!("{bytes} is not a number of bytes"))),
    })
}

/// The spec's swap is memory and swap together; the kernel's is swap alone.
fn swap(both: i64, memory: i64) -> Result<Option<Setting>, CgroupError> {
    let set = |value: String, origin| Setting::new("memory.swap.max", value, origin);
    Ok(match (both, memory) {
        // "No memory limit" alone has always meant no swap limit as well (cgroup v1).
        (0, -1) => Some(set("max".into(), LIMIT).or_absent()),
        (0, _) => None,
        (-1, _) => Some(set("max".into(), SWAP).or_absent()),
        (..=-2, _) => return Err(invalid(SWAP, format!("{both} is not a number of bytes"))),
        (_, -1) => Some(set(both.to_string(), SWAP)),
        (_, 0) => {
            return Err(invalid(
                SWAP,
                "unable to set swap limit without memory limit",
            ));
        }
        (_, ..=-2) => None, // `limit` itself is refused
        (both, memory) if both < memory => {
            let why = format!("{both}: memory+swap limit should be >= memory limit ({memory})");
            return Err(invalid(SWAP, why));
        }
        // A kernel without swap accounting has no file, and no swap to give.
        (both, memory) if both == memory => Some(set("0".into(), SWAP).or_absent()),
        (both, memory) => Some(set((both - memory).to_string(), SWAP)),
    })
}

fn add_cpu(list: &mut Vec<Setting>, cpu: &Cpu) -> Result<(), CgroupError> {
    if let Some(idle) = cpu.idle {
        let origin = "linux.resources.cpu.idle";
        if !matches!(idle, 0 | 1) {
            return Err(invalid(origin, format!("{idle} is neither 0 nor 1")));
        }
        list.push(Setting::new("cpu.idle", idle.to_string(), origin));
    }
    if let Some(weight) = cpu_weight(cpu.shares.unwrap_or(0)) {
        let origin = "linux.resources.cpu.shares";
        list.push(Setting::new("cpu.weight", weight.to_string(), origin));
    }
    // Quota before burst: the kernel wants burst <= quota. Where a running container's
    // old burst is in the way of its new quota, `Cgroup::apply` takes them in turn.
    list.extend(cpu_max(cpu));
    if let Some(burst) = cpu.burst {
        let origin = "linux.resources.cpu.burst";
        list.push(Setting::new("cpu.max.burst", burst.to_string(), origin));
    }
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            let origin = format!("linux.resources.cpu.{}", &file["cpuset.".len()..]);
            check_text(&origin, value)?;
            list.push(Setting::new(file, value, origin));
        }
    }
    Ok(())
}

/// `cpu.shares` (2 to 262144, 1024 is usual) as `cpu.weight` (1 to 10000, 100 is usual).
///
/// The curve through the least, the usual and the greatest of both that runc 1.3.2,
/// crun 1.23 and systemd's users agreed on; 0 is not set.
fn cpu_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1 | 2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            // Exact: fewer than 53 bits.
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            Some(10f64.powf(exponent).ceil() as u64)
        }
    }
}

fn cpu_max(cpu: &Cpu) -> Option<Setting> {
    let quota = match cpu.quota.unwrap_or(0) {
        0 => None,
        quota @ 1.. => Some(quota.to_string()),
        _ => Some("max".to_owned()),
    };
    let period = cpu.period.filter(|period| *period != 0);
    let (value, field) = match (quota, period) {
        (None, None) => return None,
        // The kernel keeps the period that is there: 100000 in a new cgroup.
        (Some(quota), None) => (quota, "quota"),
        (Some(quota), Some(period)) => (format!("{quota} {period}"), "quota"),
        (None, Some(period)) => (format!("max {period}"), "period"),
    };
    let setting = Setting::new("cpu.max", value, format!("linux.resources.cpu.{field}"));
    Some(setting)
}

/// 0 is a limit like any other, and 1 the least that is not below the container itself.
fn pids_limit(pids: &Pids) -> Option<Setting> {
    let set = |value: String| Setting::new("pids.max", value, "linux.resources.pids.limit");
    Some(match pids.limit? {
        0 => set("1".into()),
        limit @ 1.. => set(limit.to_string()),
        _ => set("max".into()).or_absent(),
    })
}

/// Files by name; what fields have set of such a file already is replaced.
fn add_unified(
    list: &mut Vec<Setting>,
    unified: &BTreeMap<String, String>,
) -> Result<(), CgroupError> {
    for (file, value) in unified {
        let origin = format!("linux.resources.unified[{file:?}]");
        check_unified(&origin, file)?;
        if value.contains('\0') {
            return Err(invalid(&origin, "the value has a NUL byte"));
        }
        let place = list.iter().position(|s| s.file == *file);
        list.retain(|s| s.file != *file);
        let place = place.unwrap_or(list.len());
        list.insert(place, Setting::new(file, value, origin));
    }
    Ok(())
}

fn check_unified(origin: &str, file: &str) -> Result<(), CgroupError> {
    /// With these a config could move or stop processes, where it may only limit them.
    const OURS: [&str; 6] = [
        "cgroup.freeze",
        "cgroup.kill",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
        "cgroup.type",
    ];
    if file.contains(['/', '\0']) {
        return Err(invalid(origin, "must be a file name (no slashes)"));
    }
    if !file
        .split_once('.')
        .is_some_and(|(controller, parameter)| !controller.is_empty() && !parameter.is_empty())
    {
        return Err(invalid(origin, "must be in the form CONTROLLER.PARAMETER"));
    }
    if OURS.contains(&file) {
        return Err(invalid(origin, "is written by the runtime only"));
    }
    Ok(())
}

/// An idle cgroup has the least weight there is and takes no other (`EINVAL`).
fn refuse_contradictions(list: &[Setting]) -> Result<(), CgroupError> {
    let idle = list
        .iter()
        .find(|s| s.file == "cpu.idle" && s.value.trim() == "1");
    let weight = list
        .iter()
        .find(|s| matches!(s.file.as_str(), "cpu.weight" | "cpu.weight.nice"));
    match (weight, idle) {
        (Some(weight), Some(idle)) => Err(CgroupError::Contradiction {
            first: weight.origin.clone(),
            second: idle.origin.clone(),
            why: "an idle cgroup has no weight",
        }),
        _ => Ok(()),
    }
}

fn check_text(field: &str, value: &str) -> Result<(), CgroupError> {
    if value.contains(['\0', '\n']) {
        return Err(invalid(field, "has a NUL or a newline"));
    }
    Ok(())
}

fn invalid(field: &str, why: impl Into<String>) -> CgroupError {
    CgroupError::Invalid {
        field: field.to_owned(),
        why: why.into(),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
