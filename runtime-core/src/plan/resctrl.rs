//! `linux.intelRdt`: the class of service, made before the process and joined by it.
//!
//! See config-linux.md, Intel RDT. What it does not settle is settled as runc does: the
//! lines of `schemata` come after those of the two older fields, `/` is the class that
//! everything is in at first, and a class that has a name is not removed.

use std::path::{Path, PathBuf};

use super::{Action, Context, Plan, PlanError, RunOp, Step};
use crate::spec::IntelRdt;

const FIELD: &str = "linux.intelRdt";

/// Whose a group is, and so who makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The container's: made for it, and removed with it.
    Own,
    /// Of all that name it: made by the first of them, removed by nobody here.
    Shared,
    /// Somebody else makes it.
    Existing,
}

/// A class of service and what the container has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Directory of the class.
    pub dir: PathBuf,
    /// Whose it is.
    pub ownership: Ownership,
    /// Lines for `schemata`.
    pub schemata: Vec<String>,
    /// Directory of the container's own monitoring group.
    pub monitor: Option<PathBuf>,
}

/// What the container has of it; an obstacle where nothing is mounted.
fn group(cx: &mut Context<'_>) -> Option<Group> {
    let linux = cx.spec.linux.as_ref();
    let rdt = linux.and_then(|linux| linux.intel_rdt.as_ref())?;
    let Some(root) = &cx.facts.resctrl else {
        let what = "no resctrl file system is mounted on this host";
        cx.obstacles.push(PlanError::host(FIELD, what));
        return None;
    };
    let schemata = schemata(rdt);
    let id = cx.options.id.as_str();
    let (dir, ownership) = match rdt.clos_id.as_deref() {
        None | Some("") => (root.join(id), Ownership::Own),
        Some("/") => (root.clone(), Ownership::Existing),
        Some(class) if schemata.is_empty() => (root.join(class), Ownership::Existing),
        Some(class) => (root.join(class), Ownership::Shared),
    };
    let monitor = rdt.enable_monitoring && ownership != Ownership::Own;
    Some(Group {
        monitor: monitor.then(|| dir.join("mon_groups").join(id)),
        dir,
        ownership,
        schemata,
    })
}

/// The lines of the file. Of `l3CacheSchema` those of other resources count too, but not
/// for the memory's bandwidth where `memBwSchema` tells that.
pub(crate) fn schemata(rdt: &IntelRdt) -> Vec<String> {
    let bandwidth = rdt.mem_bw_schema.as_deref().filter(|text| !text.is_empty());
    let cache = rdt.l3_cache_schema.as_deref().unwrap_or_default();
    let kept = |line: &&str| {
        let replaced = bandwidth.is_some() && line.starts_with("MB:");
        !line.is_empty() && !replaced
    };
    let cache = cache.lines().filter(kept);
    let all = cache.chain(bandwidth).map(str::to_owned);
    all.chain(rdt.schemata.iter().cloned()).collect()
}

/// At barrier *ready*: the container's process has one task then.
pub(super) fn ready(cx: &mut Context<'_>) -> Vec<Step> {
    let Some(group) = group(cx) else {
        return Vec::new();
    };
    let verb = match group.ownership {
        Ownership::Existing => "use",
        Ownership::Own | Ownership::Shared => "make",
    };
    let dir = group.dir.display();
    let make = format!("{verb} class of service {dir}");
    let join = format!("join class of service {dir}");
    vec![
        Step::run(RunOp::MakeResctrl(group.clone()), FIELD, make),
        Step::run(RunOp::JoinResctrl(group), FIELD, join),
    ]
}

/// A further process joins what the container has.
pub(super) fn join(dir: &Path) -> Step {
    let group = Group {
        dir: dir.to_owned(),
        ownership: Ownership::Existing,
        schemata: Vec::new(),
        monitor: None,
    };
    let what = format!("join class of service {}", dir.display());
    Step::run(RunOp::JoinResctrl(group), FIELD, what)
}

impl Plan {
    /// The directory of resctrl that its process joins.
    pub(crate) fn resctrl_joined(&self) -> Option<PathBuf> {
        self.steps.iter().find_map(|step| match &step.action {
            Action::Run(RunOp::JoinResctrl(group)) => {
                Some(group.monitor.as_ref().unwrap_or(&group.dir).clone())
            }
            _ => None,
        })
    }

    /// Directories of resctrl that go with the container.
    pub(crate) fn resctrl_groups(&self) -> Vec<PathBuf> {
        let group = self.steps.iter().find_map(|step| match &step.action {
            Action::Run(RunOp::MakeResctrl(group)) => Some(group),
            _ => None,
        });
        let own = group.and_then(|group| match group.ownership {
            Ownership::Own => Some(group.dir.clone()),
            Ownership::Shared | Ownership::Existing => group.monitor.clone(),
        });
        own.into_iter().collect()
    }
}
