//! `linux.resources`, `process.rlimits` and `process.oomScoreAdj`: the runtime half's.
//!
//! See cgroups(7), prlimit(2), proc_pid_oom_score_adj(5). What is written to the cgroup
//! is decided by [`crate::cgroup`]; here it becomes steps.

use super::{Context, PlanError, RunOp, Step};
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

/// Before init runs: the record of what may have to be undone, the cgroup with its
/// limits, the fifos.
pub(super) fn before(cx: &Context<'_>, limits: &[Setting]) -> Vec<Step> {
    let mut steps = vec![Step::run(
        RunOp::RecordIntent,
        "process",
        "write the intent record",
    )];
    if let Some(path) = &cx.facts.cgroup {
        steps.push(Step::run(
            RunOp::MakeCgroup,
            "linux.cgroupsPath",
            format!("make cgroup {}", path.display()),
        ));
        for (limit, setting) in limits.iter().enumerate() {
            steps.push(Step::run(
                RunOp::WriteCgroup { limit },
                setting.origin.clone(),
                setting.to_string(),
            ));
        }
        if let Some(uid) = owner(cx) {
            let what = format!("give the cgroup to uid {uid}");
            steps.push(Step::run(
                RunOp::DelegateCgroup { uid },
                "linux.cgroupsPath",
                what,
            ));
        }
    }
    steps.push(Step::run(
        RunOp::MakeFifos,
        "process",
        "make exec.fifo and done",
    ));
    steps
}

/// Whom the cgroup is given to, as the host numbers it: the process's user, in a user and
/// a cgroup namespace of its own, where it gets the cgroup to write to.
///
/// See the spec, config-linux.md, "Cgroup ownership".
fn owner(cx: &Context<'_>) -> Option<u32> {
    let private = [NamespaceKind::User, NamespaceKind::Cgroup];
    let access = |mount: &Mount| {
        let access = |option: &&String| matches!(option.as_str(), "ro" | "rro" | "rw");
        mount.options.iter().rfind(access).is_none_or(|o| o == "rw")
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

/// What the runtime half does while init runs; all of it is done before the first
/// barrier is let go, and so before the container's program.
pub(super) fn beside(devices: bool) -> Vec<Step> {
    let attach = Step::run(
        RunOp::AttachDevices,
        "linux.resources.devices",
        "attach the device program to the cgroup",
    );
    let prepare = Step::run(RunOp::PrepareState, "process", "look up owner and boot id");
    devices
        .then_some(attach)
        .into_iter()
        .chain([prepare])
        .collect()
}

/// At barrier *ready*.
pub(super) fn ready(cx: &Context<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(score) = cx.process.oom_score_adj {
        let what = format!("set oom_score_adj {score}");
        steps.push(Step::run(
            RunOp::SetOomScoreAdj(score),
            "process.oomScoreAdj",
            what,
        ));
    }
    for (index, limit) in cx.process.rlimits.iter().enumerate() {
        let Some(resource) = limit.resource() else {
            continue;
        };
        let (soft, hard) = (limit.soft, limit.hard);
        steps.push(Step::run(
            RunOp::SetRlimit {
                resource,
                soft,
                hard,
            },
            format!("process.rlimits[{index}]"),
            format!("set {} to {soft}:{hard}", limit.kind),
        ));
    }
    steps
}
