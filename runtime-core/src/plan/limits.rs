//! `linux.resources`, `process.rlimits` and `process.oomScoreAdj`.
//!
//! See cgroups(7), prlimit(2), proc_pid_oom_score_adj(5). What is written to the cgroup
//! is decided by [`crate::cgroup`]; here it becomes steps.

use corten_init::abi::Op;

use super::namespaces::clones_twice;
use super::{Context, Entry, PlanError, RunOp, Step};
use crate::cgroup::systemd::{self, Scope};
use crate::cgroup::{DeviceProgram, Setting};
use crate::spec::{Mount, NamespaceKind};

/// The files of the cgroup and their values.
pub(super) fn settings(cx: &Context<'_>) -> Result<Vec<Setting>, PlanError> {
    match cx.resources() {
        Some(resources) => {
            let settings = crate::cgroup::settings(resources)
                .map_err(|error| PlanError::Limits(error.to_string()))?;
            match settings.first() {
                Some(first) if cx.options.no_cgroup => Err(PlanError::value(
                    first.origin.clone(),
                    "a limit needs a cgroup, and cgroups are disabled",
                )),
                _ => Ok(settings),
            }
        }
        None => Ok(Vec::new()),
    }
}

/// The compiled device rules; none where they allow everything, or without a cgroup.
pub(super) fn devices(cx: &Context<'_>) -> Result<Option<DeviceProgram>, PlanError> {
    match cx.resources() {
        Some(resources) if !resources.devices.is_empty() && !cx.options.no_cgroup => {
            crate::cgroup::device_program(&resources.devices, [])
                .map_err(|error| PlanError::Limits(error.to_string()))
        }
        _ => Ok(None),
    }
}

/// What systemd is asked for; none without systemd.
pub(super) fn scope(cx: &Context<'_>, limits: &[Setting]) -> Result<Option<Scope>, PlanError> {
    let Some(unit) = &cx.facts.unit else {
        return Ok(None);
    };
    let asked = systemd::of_annotations(&cx.spec.annotations)
        .map_err(|error| PlanError::Limits(error.to_string()))?;
    let mut properties = systemd::of_settings(limits);
    properties.extend(asked);
    Ok(Some(Scope {
        unit: unit.clone(),
        properties,
    }))
}

/// The steps for the container's cgroup: limits are there before the process is. A scope
/// comes only with a process in it: then systemd knows the limits before it moves that one.
pub(super) fn cgroup(cx: &Context<'_>, entry: Entry, limits: &[Setting]) -> Vec<Step> {
    const FIELD: &str = "linux.cgroupsPath";
    let Some(path) = &cx.facts.cgroup else {
        return Vec::new();
    };
    let made = match (entry, &cx.facts.unit) {
        (Entry::ScopeByPid, Some(unit)) => {
            let what = format!("have systemd start {} in {}", unit.name, unit.slice);
            Step::run(RunOp::StartScope, FIELD, what)
        }
        _ => {
            let what = format!("make cgroup {}", path.display());
            Step::run(RunOp::MakeCgroup, FIELD, what)
        }
    };
    let mut steps = vec![made];
    for (limit, setting) in limits.iter().enumerate() {
        steps.push(Step::run(
            RunOp::WriteCgroup { limit },
            setting.origin.clone(),
            setting.to_string(),
        ));
    }
    if let Some(uid) = owner(cx) {
        let what = format!("give the cgroup to uid {uid}");
        steps.push(Step::run(RunOp::DelegateCgroup { uid }, FIELD, what));
    }
    steps
}

/// Before init runs: the record of what may have to be undone, the cgroup if it is made now,
/// the fifos of a container that waits for `start`.
pub(super) fn before(cgroup: Vec<Step>, waits: bool) -> Vec<Step> {
    let record = Step::run(RunOp::RecordIntent, "process", "write the intent record");
    let fifos = Step::run(RunOp::MakeFifos, "process", "make exec.fifo and done");
    let fifos = waits.then_some(fifos);
    [record].into_iter().chain(cgroup).chain(fifos).collect()
}

/// Whom the cgroup is given to, as the host numbers it: the process's user, in a user and
/// a cgroup namespace of its own, where it gets the cgroup to write to.
///
/// See the spec, config-linux.md, "Cgroup ownership".
fn owner(cx: &Context<'_>) -> Option<u32> {
    let private = [NamespaceKind::User, NamespaceKind::Cgroup];
    let access = |mount: &Mount| {
        let words = mount.options.iter().flat_map(|option| option.split(','));
        let access = |word: &&str| matches!(*word, "ro" | "rro" | "rw");
        words.rev().find(access).is_none_or(|word| word == "rw")
    };
    let is_cgroup = |mount: &&Mount| {
        let kind = mount.kind.as_deref().unwrap_or_default();
        matches!(kind, "cgroup" | "cgroup2")
    };
    let mut mounts = cx.spec.mounts.iter().filter(is_cgroup);
    if !private.iter().all(|kind| cx.new_namespace(*kind)) || !mounts.any(access) {
        return None;
    }
    let (linux, uid) = (cx.spec.linux.as_ref()?, cx.process.user.uid);
    linux.uid_mappings.iter().find_map(|map| {
        let offset = uid
            .checked_sub(map.container_id)
            .filter(|o| *o < map.size)?;
        map.host_id.checked_add(offset)
    })
}

/// The device program, where there is one.
pub(super) fn attach(devices: bool) -> Option<Step> {
    let what = "attach the device program to the cgroup";
    devices.then(|| Step::run(RunOp::AttachDevices, "linux.resources.devices", what))
}

/// What the runtime half does while init runs; all of it is done before the first
/// barrier is let go, and so before the container's program.
pub(super) fn beside(cx: &Context<'_>, attach: Option<Step>) -> impl Iterator<Item = Step> {
    let prepare = Step::run(RunOp::PrepareState, "process", "look up owner and boot id");
    // Only if init is the container's process already.
    let score = (!clones_twice(cx)).then(|| oom_score(cx)).flatten();
    attach.into_iter().chain([prepare]).chain(score)
}

/// At barrier *ready* what was not done [`beside`] init.
pub(super) fn ready(cx: &Context<'_>) -> Vec<Step> {
    let score = clones_twice(cx).then(|| oom_score(cx)).flatten();
    score.into_iter().chain(rlimits(cx, false)).collect()
}

/// The same in a container that is there.
pub(super) fn ready_in_container(cx: &Context<'_>) -> Vec<Step> {
    oom_score(cx)
        .into_iter()
        .chain(rlimits(cx, false))
        .collect()
}

/// What init sets itself at that point.
pub(super) fn own(cx: &Context<'_>) -> Vec<Step> {
    rlimits(cx, true)
}

fn oom_score(cx: &Context<'_>) -> Option<Step> {
    let score = cx.process.oom_score_adj?;
    let what = format!("set oom_score_adj {score}");
    let op = RunOp::SetOomScoreAdj(score);
    Some(Step::run(op, "process.oomScoreAdj", what))
}

/// The limits that init, or the runtime half, sets: who is in a user namespace may raise none.
fn rlimits(cx: &Context<'_>, by_init: bool) -> Vec<Step> {
    if cx.other_namespace(NamespaceKind::User) == by_init {
        return Vec::new();
    }
    let mut steps = Vec::new();
    for (index, limit) in cx.process.rlimits.iter().enumerate() {
        let Some(resource) = limit.resource() else {
            continue;
        };
        let (soft, hard) = (limit.soft, limit.hard);
        let origin = format!("process.rlimits[{index}]");
        let what = format!("set {} to {soft}:{hard}", limit.kind);
        steps.push(if by_init {
            let op = Op::SetRlimit {
                resource,
                soft,
                hard,
            };
            Step::init(op, origin, what)
        } else {
            let op = RunOp::SetRlimit {
                resource,
                soft,
                hard,
            };
            Step::run(op, origin, what)
        });
    }
    steps
}
