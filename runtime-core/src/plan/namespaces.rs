//! Namespaces: where each kind comes from, and how the process enters its cgroup.
//!
//! See namespaces(7), user_namespaces(7), cgroup_namespaces(7), clone(2). The steps are
//! `enter`'s.

use corten_init::abi::Op;

use super::{Context, Entry, PlanError, Step, rootfs};
use crate::host::CgroupMode;
use crate::spec::{Linux, Namespace, NamespaceKind};
use crate::sys::errno;

/// How a namespace comes to be, or is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Made by the clone that makes the container's process.
    InClone,
    /// Joined before the user namespace is entered: only there the process may.
    JoinBefore,
    /// Joined when the process is in the user namespace that owns it.
    JoinAfter,
    /// Made by init. A cgroup namespace's root is the cgroup of the process that makes it,
    /// even with `CLONE_INTO_CGROUP`; the offsets of a time namespace can't be set after a
    /// clone; and a user namespace that is joined owns what is made in it.
    UnshareInInit,
    /// The creator's own.
    Keep,
}

/// Where a kind of namespace comes from.
pub(super) fn origin(cx: &Context<'_>, kind: NamespaceKind) -> Origin {
    use NamespaceKind::{Cgroup, Time, User};
    if cx.joined_namespace(kind) {
        let joined = cx.facts.joined.get(&kind);
        let inside = joined.is_some_and(|joined| joined.inside_user);
        if inside && cx.joined_namespace(User) {
            Origin::JoinAfter
        } else {
            Origin::JoinBefore
        }
    } else if !cx.new_namespace(kind) {
        Origin::Keep
    } else if matches!(kind, Cgroup | Time) || (cx.joined_namespace(User) && !clones_twice(cx)) {
        Origin::UnshareInInit
    } else {
        Origin::InClone
    }
}

/// Whether init makes the container's process by a second clone: it must be an exec away
/// from a new user namespace, and a process never changes its own pid namespace.
pub(super) fn clones_twice(cx: &Context<'_>) -> bool {
    use NamespaceKind::{Pid, User};
    cx.new_namespace(User)
        || cx.joined_namespace(Pid)
        || (cx.new_namespace(Pid) && cx.joined_namespace(User))
}

/// What of [`Origin::InClone`] is worth beginning before there is a plan: all of it (`CLONE_NEW*`), if there is a network,
/// which takes long. Not for a process that is not born in the launch's own clone.
pub(crate) fn begun_early(all: &[Namespace]) -> Option<u64> {
    use NamespaceKind::{Ipc, Network, Pid, User, Uts};
    let named = |kind| all.iter().find(|namespace| namespace.kind == kind);
    let is_new = |kind: &NamespaceKind| {
        let namespace = named(*kind);
        namespace.is_some_and(|namespace| namespace.path.is_none())
    };
    let new = [Network, Ipc, Uts].into_iter().filter(is_new);
    let flags = new.fold(0, |flags, kind| flags | kind.clone_flag());
    let pid = named(Pid);
    let is_born_later = named(User).is_some() || pid.is_some_and(|pid| pid.path.is_some());
    (is_new(&Network) && !is_born_later).then_some(flags)
}

/// The kinds that come from there.
pub(super) fn kinds_of(cx: &Context<'_>, wanted: Origin) -> impl Iterator<Item = NamespaceKind> {
    let all = NamespaceKind::ALL.into_iter();
    all.filter(move |kind| origin(cx, *kind) == wanted)
}

/// What this version can't do with namespaces, and what the caller may not do.
pub(super) fn check(cx: &mut Context<'_>) -> Result<(), PlanError> {
    rootfs::check(cx)?;
    if cx.new_namespace(NamespaceKind::User) {
        check_maps(cx)?;
    }
    check_caller(cx);
    check_contents(cx)?;
    check_kinds(cx);
    check_joined(cx);
    Ok(())
}

/// What makes or joins no namespace at all.
pub(super) fn check_caller(cx: &mut Context<'_>) {
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
}

/// The host's own namespace may be named by its path; it is not to be changed.
fn check_contents(cx: &Context<'_>) -> Result<(), PlanError> {
    let linux = cx.spec.linux.as_deref();
    let has = |of: fn(&Linux) -> bool| linux.is_some_and(of);
    let asked = [
        ("hostname", NamespaceKind::Uts, cx.spec.hostname.is_some()),
        (
            "domainname",
            NamespaceKind::Uts,
            cx.spec.domainname.is_some(),
        ),
        (
            "linux.netDevices",
            NamespaceKind::Network,
            has(|linux| !linux.net_devices.is_empty()),
        ),
        (
            "linux.uidMappings",
            NamespaceKind::User,
            has(|linux| !linux.uid_mappings.is_empty()),
        ),
        (
            "linux.gidMappings",
            NamespaceKind::User,
            has(|linux| !linux.gid_mappings.is_empty()),
        ),
    ];
    let of_host = |kind| !cx.other_namespace(kind);
    match asked
        .iter()
        .find(|(_, kind, asked)| *asked && of_host(*kind))
    {
        Some((field, kind, _)) => {
            let what = format!("needs a {kind} namespace that is not the host's");
            Err(PlanError::value(*field, what))
        }
        None => Ok(()),
    }
}

/// A kernel may be built without some kind.
fn check_kinds(cx: &mut Context<'_>) {
    for (index, ns) in cx.spec.namespaces().iter().enumerate() {
        if !cx.host.namespaces.contains(&ns.kind) {
            let field = format!("linux.namespaces[{index}]");
            let what = format!("this kernel has no {} namespaces", ns.kind);
            cx.obstacles.push(PlanError::host(field, what));
        }
    }
}

/// The namespaces that can't be joined.
fn check_joined(cx: &mut Context<'_>) {
    for ns in cx.spec.namespaces() {
        let joined = cx.facts.joined.get(&ns.kind);
        let problem = joined.and_then(|joined| joined.problem.as_ref());
        if let (Some(path), Some(problem)) = (&ns.path, problem) {
            let what = format!("{}: {problem}", crate::spec::quoted(path));
            cx.obstacles.push(PlanError::host(cx.origin(ns.kind), what));
        }
    }
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
    if !cx.options.systemd {
        return Entry::IntoCgroup;
    }
    if !cx.host.systemd {
        let what = "systemd does not manage this machine (no /run/systemd/system): use \
            --cgroup-manager cgroupfs";
        cx.obstacles
            .push(PlanError::host("linux.cgroupsPath", what));
    }
    Entry::ScopeByPid
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
    if cx.new_namespace(NamespaceKind::Network) {
        // A kernel may have no loopback device at all.
        let step = Step::init(Op::LoopbackUp {}, "linux.namespaces", "set lo up");
        steps.push(step.or_skip(&[errno::ENODEV], 0));
    }
    steps
}
