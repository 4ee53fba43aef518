//! `process.scheduler`, `process.ioPriority`, `linux.memoryPolicy`, `linux.personality`.
//!
//! The runtime half sets what may take a privilege that init lacks in a user namespace; the
//! rest is init's, since a process can set it only for itself. See sched(7),
//! sched_setattr(2), ioprio_set(2), set_mempolicy(2), personality(2).

use corten_init::abi::Op;

use super::{Context, RunOp, Step};
use crate::spec::scheduling::{
    IO_CLASSES, MEMORY_FLAGS, MEMORY_MODES, NODES, PERSONALITIES, POLICIES, SCHED_FLAGS, bits,
    list, number,
};
use crate::spec::{IoPriority, MemoryPolicy, Scheduler};
use crate::sys::scheduling::SchedAttributes;

/// `IOPRIO_CLASS_SHIFT` of linux/ioprio.h.
const CLASS_SHIFT: u32 = 13;

/// What init sets for itself, and so for its program.
pub(super) fn own(cx: &Context<'_>) -> Vec<Step> {
    let linux = cx.spec.linux.as_ref();
    let personality = linux.and_then(|linux| linux.personality.as_ref());
    let personality = personality.map(|personality| {
        let name = &personality.domain;
        let persona = number(PERSONALITIES, name).unwrap_or_default();
        let what = format!("set personality {name}");
        Step::init(Op::SetPersonality { persona }, "linux.personality", what)
    });
    let policy = linux.and_then(|linux| linux.memory_policy.as_ref());
    personality
        .into_iter()
        .chain(policy.map(memory_policy))
        .collect()
}

fn memory_policy(policy: &MemoryPolicy) -> Step {
    let mode = number(MEMORY_MODES, &policy.mode).unwrap_or_default();
    let nodes = policy.nodes.as_deref().unwrap_or_default();
    let mut mask = list(nodes, NODES).unwrap_or_default();
    // The kernel reads 64 bits at a time.
    mask.resize(mask.len().next_multiple_of(2), 0);
    let words: Vec<&str> = [policy.mode.as_str(), nodes]
        .into_iter()
        .chain(policy.flags.iter().map(String::as_str))
        .filter(|word| !word.is_empty())
        .collect();
    let op = Op::SetMemoryPolicy {
        mode: mode | bits(MEMORY_FLAGS, &policy.flags),
        nodes: mask,
    };
    let what = format!("set memory policy {}", words.join(" "));
    Step::init(op, "linux.memoryPolicy", what)
}

/// At barrier *ready*.
pub(super) fn ready(cx: &Context<'_>) -> Vec<Step> {
    let scheduler = cx.process.scheduler.as_ref().map(scheduler);
    let io = cx.process.io_priority.as_ref().map(io_priority);
    scheduler.into_iter().chain(io).collect()
}

fn scheduler(scheduler: &Scheduler) -> Step {
    let attributes = SchedAttributes {
        policy: number(POLICIES, &scheduler.policy).unwrap_or_default(),
        flags: u64::from(bits(SCHED_FLAGS, &scheduler.flags)),
        nice: scheduler.nice,
        priority: scheduler.priority.unsigned_abs(),
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    };
    let mut what = format!("schedule by {}", scheduler.policy);
    match scheduler.policy.as_str() {
        "SCHED_FIFO" | "SCHED_RR" => what += &format!(", priority {}", scheduler.priority),
        "SCHED_DEADLINE" => {
            let Scheduler {
                runtime,
                deadline,
                period,
                ..
            } = scheduler;
            what += &format!(", {runtime} of {period} ns within {deadline} ns");
        }
        _ => what += &format!(", nice {}", scheduler.nice),
    }
    for flag in &scheduler.flags {
        what = what + " " + flag;
    }
    Step::run(RunOp::SetScheduler(attributes), "process.scheduler", what)
}

fn io_priority(io: &IoPriority) -> Step {
    let class = number(IO_CLASSES, &io.class).unwrap_or_default();
    let level = u32::try_from(io.priority).unwrap_or_default();
    let op = RunOp::SetIoPriority(class << CLASS_SHIFT | level);
    let what = format!("set I/O priority {} {level}", io.class);
    Step::run(op, "process.ioPriority", what)
}
