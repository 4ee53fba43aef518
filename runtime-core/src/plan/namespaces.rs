//! Namespaces: which clone makes them, and how the process enters its cgroup.
//!
//! See namespaces(7), user_namespaces(7), cgroup_namespaces(7), clone(2).

use corten_init::abi::{Barrier, Op, Slot};

use super::rootfs::non_dumpable;
use super::{Context, Entry, PlanError, RunOp, Step, wait};
use crate::host::CgroupMode;
use crate::spec::{IdMapping, NamespaceKind};
use crate::sys::errno;

/// The umask where config.json has none.
const DEFAULT_UMASK: u32 = 0o022;

/// How a namespace comes to be, or is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Made by the clone that makes the container's process.
    InClone,
    /// Made by init, once it is in its cgroup: a cgroup namespace's root is the cgroup
    /// of the process that makes it, even with `CLONE_INTO_CGROUP`.
    UnshareInInit,
    /// The creator's own.
    Keep,
}

/// All kinds and their `CLONE_NEW*`.
pub(super) const KINDS: [(NamespaceKind, u64); 8] = [
    (NamespaceKind::User, 0x1000_0000),
    (NamespaceKind::Mount, 0x0002_0000),
    (NamespaceKind::Pid, 0x2000_0000),
    (NamespaceKind::Network, 0x4000_0000),
    (NamespaceKind::Ipc, 0x0800_0000),
    (NamespaceKind::Uts, 0x0400_0000),
    (NamespaceKind::Cgroup, 0x0200_0000),
    (NamespaceKind::Time, 0x0000_0080),
];

/// Where a kind of namespace comes from.
pub(super) fn origin(cx: &Context<'_>, kind: NamespaceKind) -> Origin {
    if !cx.new_namespace(kind) {
        Origin::Keep
    } else if kind == NamespaceKind::Cgroup {
        Origin::UnshareInInit
    } else {
        Origin::InClone
    }
}

/// What this version can't do with namespaces, and what the caller may not do.
pub(super) fn check(cx: &mut Context<'_>) -> Result<(), PlanError> {
    if !cx.new_namespace(NamespaceKind::Mount) {
        return Err(PlanError::unsupported(
            "linux.namespaces",
            "no new mount namespace",
        ));
    }
    if cx.new_namespace(NamespaceKind::User) {
        check_maps(cx)?;
    }
    if !cx.host.clone3 {
        cx.obstacles.push(PlanError::host(
            "linux.namespaces",
            "clone3: not available: corten needs Linux 5.14, and a seccomp filter may hide it",
        ));
    }
    if cx.host.euid != 0 {
        cx.obstacles.push(PlanError::host(
            "linux.namespaces",
            "corten must run as root: rootless containers are not supported by this version",
        ));
    }
    Ok(())
}

/// The mounts and nodes of the container belong to its root.
fn check_maps(cx: &Context<'_>) -> Result<(), PlanError> {
    let Some(linux) = &cx.spec.linux else {
        return Ok(());
    };
    let maps = [
        ("linux.uidMappings", &linux.uid_mappings),
        ("linux.gidMappings", &linux.gid_mappings),
    ];
    match maps
        .iter()
        .find(|(_, maps)| !maps.iter().any(|map| map.container_id == 0))
    {
        Some((field, _)) => Err(PlanError::value(*field, "id 0 is not mapped")),
        None => Ok(()),
    }
}

/// How the process enters its cgroup. A v1 or hybrid host is an obstacle.
pub(super) fn entry(cx: &mut Context<'_>) -> Entry {
    if cx.options.no_cgroup {
        return Entry::None;
    }
    if cx.host.cgroup != CgroupMode::V2 {
        cx.obstacles.push(PlanError::host(
            "linux.cgroupsPath",
            format!(
                "cgroup v2 is not mounted on /sys/fs/cgroup ({}): boot with \
                 systemd.unified_cgroup_hierarchy=1, or use --cgroup-manager disabled",
                cx.host.cgroup
            ),
        ));
    }
    Entry::IntoCgroup
}

/// Starts init.
pub(super) fn launch(cx: &Context<'_>, entry: Entry) -> Step {
    let user = origin(cx, NamespaceKind::User) == Origin::InClone;
    let into_cgroup = entry == Entry::IntoCgroup;
    let op = RunOp::Launch {
        namespaces: if user { 0 } else { clone_flags(cx) },
        into_cgroup: into_cgroup && !user,
        stage0: user,
    };
    Step::run(op, "linux.namespaces", launch_text(cx, user, into_cgroup))
}

/// From the launch to a process that is in all its namespaces and its cgroup.
pub(super) fn enter(cx: &Context<'_>, entry: Entry) -> Result<Vec<Step>, PlanError> {
    let user = origin(cx, NamespaceKind::User) == Origin::InClone;
    let flags = clone_flags(cx);
    let into_cgroup = entry == Entry::IntoCgroup;
    let mut steps = Vec::new();
    steps.push(Step::init(
        Op::CloseFds {},
        "process",
        "close every other descriptor",
    ));
    steps.push(Step::init(
        Op::ResetSignals {},
        "process",
        "reset all signals",
    ));
    // What is made in the container does not depend on the caller's umask.
    let mask = DEFAULT_UMASK;
    let what = format!("set umask {mask:04o}");
    steps.push(Step::init(Op::SetUmask { mask }, "process", what));
    if user {
        steps.extend(clone_again(cx, flags, into_cgroup));
    }
    steps.push(Step::init(Op::NewSession {}, "process", "start a session"));
    steps.extend(wait(Barrier::Entered, entered(cx, user)));
    steps.push(non_dumpable());
    if origin(cx, NamespaceKind::Cgroup) == Origin::UnshareInInit {
        steps.push(Step::init(
            Op::Unshare {
                flags: flag_of(NamespaceKind::Cgroup),
            },
            "linux.namespaces",
            "make a cgroup namespace",
        ));
    }
    Ok(steps)
}

/// Stage 0 makes the container's process: an exec before the id maps are written would
/// drop every capability in the new user namespace.
fn clone_again(cx: &Context<'_>, flags: u64, into_cgroup: bool) -> Vec<Step> {
    let cgroup = if into_cgroup {
        Slot::CGROUP
    } else {
        Slot::NONE
    };
    let what = format!(
        "clone into new namespaces ({})",
        names_of(cx, Origin::InClone)
    );
    let op = Op::Clone { flags, cgroup };
    let mut steps = vec![Step::init(op, "linux.namespaces", what)];
    if into_cgroup {
        steps.push(Step::init(
            Op::Close { slot: Slot::CGROUP },
            "linux.cgroupsPath",
            "close the cgroup directory",
        ));
    }
    steps
}

fn launch_text(cx: &Context<'_>, user: bool, into_cgroup: bool) -> String {
    if user {
        return "start init".to_owned();
    }
    let mut text = format!(
        "start init in new namespaces ({})",
        names_of(cx, Origin::InClone)
    );
    if into_cgroup {
        text.push_str(" and in the cgroup");
    }
    text
}

fn names_of(cx: &Context<'_>, wanted: Origin) -> String {
    let of_origin = KINDS.iter().filter(|(kind, _)| origin(cx, *kind) == wanted);
    of_origin
        .map(|(kind, _)| kind.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

fn clone_flags(cx: &Context<'_>) -> u64 {
    let in_clone = KINDS
        .iter()
        .filter(|(kind, _)| origin(cx, *kind) == Origin::InClone);
    in_clone
        .map(|(_, flag)| flag)
        .fold(0, |flags, flag| flags | flag)
}

fn flag_of(wanted: NamespaceKind) -> u64 {
    KINDS
        .iter()
        .find(|(kind, _)| *kind == wanted)
        .map_or(0, |(_, flag)| *flag)
}

/// What the runtime half does once the process is in its namespaces.
fn entered(cx: &Context<'_>, user: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if user {
        let linux = cx.spec.linux.as_ref();
        let maps = |of: fn(&crate::spec::Linux) -> &Vec<IdMapping>| {
            linux
                .map(of)
                .map_or_else(String::new, |maps| map_text(maps))
        };
        let (uids, gids) = (maps(|l| &l.uid_mappings), maps(|l| &l.gid_mappings));
        let what = |name: &str, map: &str| format!("write {name}: {}", map.replace('\n', ", "));
        let (uid_what, gid_what) = (what("uid_map", uids.trim()), what("gid_map", gids.trim()));
        steps.push(Step::run(
            RunOp::WriteUidMap(uids),
            "linux.uidMappings",
            uid_what,
        ));
        steps.push(Step::run(
            RunOp::WriteGidMap(gids),
            "linux.gidMappings",
            gid_what,
        ));
    }
    steps
}

/// The lines of `/proc/PID/uid_map`: inside, outside, count.
fn map_text(maps: &[IdMapping]) -> String {
    let line = |map: &IdMapping| format!("{} {} {}\n", map.container_id, map.host_id, map.size);
    maps.iter().map(line).collect()
}

/// What the new namespaces are filled with.
pub(super) fn names(cx: &Context<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(name) = &cx.spec.hostname {
        let op = Op::SetHostname { name: name.into() };
        steps.push(Step::init(
            op,
            "hostname",
            format!("set hostname \"{name}\""),
        ));
    }
    if let Some(name) = &cx.spec.domainname {
        let op = Op::SetDomainname { name: name.into() };
        steps.push(Step::init(
            op,
            "domainname",
            format!("set domainname \"{name}\""),
        ));
    }
    if origin(cx, NamespaceKind::Network) == Origin::InClone {
        // A kernel may have no loopback device at all.
        let step = Step::init(Op::LoopbackUp {}, "linux.namespaces", "set lo up");
        steps.push(step.or_skip(&[errno::ENODEV], 0));
    }
    steps
}
