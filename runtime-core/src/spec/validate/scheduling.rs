//! Checks of `process.scheduler`, `process.ioPriority`, `process.execCPUAffinity`,
//! `linux.memoryPolicy` and `linux.personality`.
//!
//! What the kernel would answer with nothing but EINVAL is told by name.

use super::super::error::quoted;
use super::super::scheduling::{self as names, Names, number};
use super::super::{CpuAffinity, IoPriority, MemoryPolicy, Personality, Scheduler, SpecError};
use super::{in_range, invalid, missing};

/// More CPUs than any kernel is built for, see `NR_CPUS` in arch/x86/Kconfig.
const CPUS: u32 = 8192;

/// One of these names.
fn known(found: &mut Vec<SpecError>, path: &str, value: &str, all: Names, expected: &'static str) {
    if value.is_empty() {
        found.push(missing(path));
    } else if number(all, value).is_none() {
        let (path, value) = (path.to_owned(), value.to_owned());
        found.push(SpecError::Unknown {
            path,
            value,
            expected,
        });
    }
}

fn all_known(
    found: &mut Vec<SpecError>,
    path: &str,
    values: &[String],
    all: Names,
    expected: &'static str,
) {
    for (index, value) in values.iter().enumerate() {
        known(found, &format!("{path}[{index}]"), value, all, expected);
    }
}

pub(super) fn scheduler(found: &mut Vec<SpecError>, scheduler: &Scheduler) {
    let path = |field| format!("process.scheduler.{field}");
    let policy = scheduler.policy.as_str();
    let expected = "a policy of sched(7) as SCHED_FIFO";
    known(found, &path("policy"), policy, names::POLICIES, expected);
    let expected = "a flag of sched_setattr(2) as SCHED_FLAG_RESET_ON_FORK";
    let flags = &scheduler.flags;
    all_known(found, &path("flags"), flags, names::SCHED_FLAGS, expected);
    found.extend(in_range(path("nice"), scheduler.nice, -20..=19, "-20 to 19").err());
    let real_time = matches!(policy, "SCHED_FIFO" | "SCHED_RR");
    if real_time {
        let priority = scheduler.priority;
        found.extend(in_range(path("priority"), priority, 1..=99, "1 to 99").err());
    } else if scheduler.priority != 0 {
        let cause = "only SCHED_FIFO and SCHED_RR have one";
        found.push(invalid(path("priority"), cause));
    }
    let times = [
        ("runtime", scheduler.runtime),
        ("deadline", scheduler.deadline),
        ("period", scheduler.period),
    ];
    for (field, time) in times {
        if time != 0 && policy != "SCHED_DEADLINE" {
            found.push(invalid(path(field), "only SCHED_DEADLINE has one"));
        }
    }
}

pub(super) fn io_priority(found: &mut Vec<SpecError>, io: &IoPriority) {
    let expected = "IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE";
    let path = "process.ioPriority.class";
    known(found, path, &io.class, names::IO_CLASSES, expected);
    let path = "process.ioPriority.priority";
    found.extend(in_range(path, io.priority, 0..=7, "0 to 7").err());
}

/// For `exec` only, but wrong is wrong.
pub(super) fn affinity(found: &mut Vec<SpecError>, affinity: &CpuAffinity) {
    for (field, list) in [("initial", &affinity.initial), ("final", &affinity.final_)] {
        let path = format!("process.execCPUAffinity.{field}");
        match list.as_ref().map(|list| names::list(list, CPUS)) {
            Some(Err(part)) => {
                let cause = format!("{}: no CPU or range of CPUs", quoted(part));
                found.push(invalid(path, cause));
            }
            Some(Ok(words)) if words.is_empty() => found.push(missing(path)),
            _ => {}
        }
    }
}

pub(super) fn memory_policy(found: &mut Vec<SpecError>, policy: &MemoryPolicy) {
    let path = |field| format!("linux.memoryPolicy.{field}");
    let mode = policy.mode.as_str();
    let expected = "a mode of set_mempolicy(2) as MPOL_BIND";
    known(found, &path("mode"), mode, names::MEMORY_MODES, expected);
    let expected = "MPOL_F_NUMA_BALANCING, MPOL_F_RELATIVE_NODES or MPOL_F_STATIC_NODES";
    let flags = &policy.flags;
    all_known(found, &path("flags"), flags, names::MEMORY_FLAGS, expected);
    let nodes = policy.nodes.as_deref().unwrap_or_default();
    let words = match names::list(nodes, names::NODES) {
        Ok(words) => words,
        Err(part) => {
            let cause = format!("{}: no node or range of nodes", quoted(part));
            return found.push(invalid(path("nodes"), cause));
        }
    };
    match mode {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if !words.is_empty() => {
            found.push(invalid(path("nodes"), format!("{mode} takes none")));
        }
        "MPOL_BIND" | "MPOL_INTERLEAVE" | "MPOL_WEIGHTED_INTERLEAVE" | "MPOL_PREFERRED_MANY"
            if words.is_empty() =>
        {
            found.push(invalid(path("nodes"), format!("{mode} needs at least one")));
        }
        _ => {}
    }
}

pub(super) fn personality(found: &mut Vec<SpecError>, personality: &Personality) {
    let (path, all) = ("linux.personality.domain", names::PERSONALITIES);
    known(found, path, &personality.domain, all, "LINUX or LINUX32");
}
