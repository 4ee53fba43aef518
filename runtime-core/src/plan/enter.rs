//! The way of init into its namespaces and its cgroup.
//!
//! See namespaces(7), setns(2), unshare(2), clone(2). Whatever is joined may be hostile
//! ground: nobody there may look into init.

use corten_init::abi::{Barrier, Op, Slot};

use super::credentials::drop_groups;
use super::namespaces::{Origin, clones_twice, kinds_of, origin};
use super::rootfs::non_dumpable;
use super::{Context, Entry, RunOp, Step, wait};
use crate::spec::{IdMapping, Linux, NamespaceKind, TimeOffset, member, quoted};

const ORIGIN: &str = "linux.namespaces";

/// The umask where config.json has none.
const DEFAULT_UMASK: u32 = 0o022;

/// Of linux/sched.h.
pub(super) const CLONE_VM: u64 = 0x100;

/// Starts init.
pub(super) fn launch(cx: &Context<'_>, entry: Entry) -> Step {
    let stage0 = clones_twice(cx);
    let into_cgroup = entry == Entry::IntoCgroup && !second_enters_cgroup(cx);
    let in_clone = if stage0 { Vec::new() } else { in_clone(cx) };
    let op = RunOp::Launch {
        namespaces: flags(&in_clone),
        into_cgroup,
        stage0,
    };
    let mut text = "start init".to_owned();
    if !stage0 {
        text.push_str(&in_new(&in_clone));
    }
    if into_cgroup {
        text.push_str(if in_clone.is_empty() {
            " in"
        } else {
            " and in"
        });
        text.push_str(" the cgroup");
    }
    Step::run(op, ORIGIN, text)
}

/// Only the last clone enters the cgroup, because of pids.limit. But who has joined a cgroup
/// namespace may be refused what lies outside of it (`nsdelegate`, see cgroups(7)).
fn second_enters_cgroup(cx: &Context<'_>) -> bool {
    clones_twice(cx) && !cx.joined_namespace(NamespaceKind::Cgroup)
}

/// From the launch to a process that is in all its namespaces and its cgroup.
///
/// `in_cgroup` is what makes its cgroup, if that comes only now; `outside` is done in the
/// namespaces of the host.
pub(super) fn enter(
    cx: &Context<'_>,
    entry: Entry,
    in_cgroup: Vec<Step>,
    outside: Vec<Step>,
) -> Vec<Step> {
    let mut steps = first().to_vec();
    steps.extend(outside);
    steps.extend(join(cx));
    if clones_twice(cx) {
        let into_cgroup = entry == Entry::IntoCgroup && second_enters_cgroup(cx);
        steps.extend(clone(cx, &in_clone(cx), into_cgroup));
    }
    steps.extend(unshare(cx));
    steps.push(new_session());
    let mut entered = entered(cx);
    entered.extend(in_cgroup);
    steps.extend(wait(Barrier::Entered, entered));
    steps.push(non_dumpable());
    steps.extend(last(cx));
    steps
}

/// What init begins with.
pub(super) fn first() -> [Step; 3] {
    // What is made in the container does not depend on the caller's umask.
    let mask = DEFAULT_UMASK;
    let what = format!("set umask {mask:04o}");
    let process = |op, what: &str| Step::init(op, "process", what);
    [
        process(Op::CloseFds {}, "close every other descriptor"),
        process(Op::ResetSignals {}, "reset all signals"),
        process(Op::SetUmask { mask }, &what),
    ]
}

pub(super) fn new_session() -> Step {
    Step::init(Op::NewSession {}, "process", "start a session")
}

/// Opens all namespaces that are named, while their paths are those of the host, and joins
/// them.
fn join(cx: &Context<'_>) -> Vec<Step> {
    let before = kinds_of(cx, Origin::JoinBefore).filter(|kind| *kind != NamespaceKind::User);
    let user = kinds_of(cx, Origin::JoinBefore).filter(|kind| *kind == NamespaceKind::User);
    let order = before.chain(user).chain(kinds_of(cx, Origin::JoinAfter));
    let (mut opens, mut joins) = (Vec::new(), Vec::new());
    for (kind, number) in order.zip(0..) {
        let path = cx.spec.namespace(kind).and_then(|ns| ns.path.as_deref());
        let path = path.unwrap_or_default();
        let slot = Slot(Slot::NAMESPACES.0 + number);
        let (shown, flag) = (quoted(path), kind.clone_flag());
        let open = Op::OpenNamespace {
            path: path.into(),
            kind: flag,
            into: slot,
        };
        let step = |op, what: String| Step::init(op, cx.origin(kind), what);
        opens.push(step(open, format!("open {kind} namespace {shown}")));
        let join = Op::Join {
            from: slot,
            kinds: flag,
        };
        joins.push(step(join, format!("join {kind} namespace {shown}")));
        if kind == NamespaceKind::User {
            // With other credentials the kernel may have undone it.
            joins.push(non_dumpable());
        }
    }
    if origin(cx, NamespaceKind::Time) == Origin::UnshareInInit {
        let into = Slot::HOST_PROC;
        opens.push(Step::init(Op::OpenProc { into }, ORIGIN, "open /proc"));
    }
    let hide = (!joins.is_empty()).then(non_dumpable);
    let users = cx.joined_namespace(NamespaceKind::User);
    let groups = users.then(|| drop_groups(&cx.origin(NamespaceKind::User)));
    let before = opens.into_iter().chain(hide).chain(groups);
    before.chain(joins).collect()
}

/// Stage 0 makes the container's process: an exec before the id maps are written would
/// drop every capability in the new user namespace.
pub(super) fn clone(
    cx: &Context<'_>,
    namespaces: &[NamespaceKind],
    into_cgroup: bool,
) -> Vec<Step> {
    let cgroup = if into_cgroup {
        Slot::CGROUP
    } else {
        Slot::NONE
    };
    let op = Op::Clone {
        flags: flags(namespaces) | shared_memory(cx),
        cgroup,
    };
    let what = format!("clone{}", in_new(namespaces).replacen(" in", " into", 1));
    let mut steps = vec![Step::init(op, ORIGIN, what)];
    if into_cgroup {
        steps.push(Step::init(
            Op::Close { slot: Slot::CGROUP },
            "linux.cgroupsPath",
            "close the cgroup directory",
        ));
    }
    steps
}

/// `CLONE_VM` where that is possible: stage 0 has nothing to do with its memory any more, and a
/// copy costs as much as all else of the clone. A user namespace and a time namespace take in no
/// process that shares its memory, see setns(2) and unshare(2).
fn shared_memory(cx: &Context<'_>) -> u64 {
    let apart = [NamespaceKind::User, NamespaceKind::Time];
    if apart.iter().any(|kind| cx.other_namespace(*kind)) {
        0
    } else {
        CLONE_VM
    }
}

/// What the process makes itself, but for the cgroup namespace: that comes when it is in its
/// cgroup for sure.
fn unshare(cx: &Context<'_>) -> Option<Step> {
    let kinds = kinds_of(cx, Origin::UnshareInInit);
    let kinds: Vec<_> = kinds
        .filter(|kind| *kind != NamespaceKind::Cgroup)
        .collect();
    let op = Op::Unshare {
        flags: flags(&kinds),
    };
    let what = format!("make new namespaces ({})", names(&kinds));
    (!kinds.is_empty()).then(|| Step::init(op, ORIGIN, what))
}

/// What the runtime half does once the process is in its namespaces.
fn entered(cx: &Context<'_>) -> Vec<Step> {
    let Some(linux) = &cx.spec.linux else {
        return Vec::new();
    };
    let mut steps = maps(cx, linux);
    if !linux.time_offsets.is_empty() {
        let line = |(clock, offset): (&String, &TimeOffset)| {
            format!("{clock} {} {}\n", offset.secs, offset.nanosecs)
        };
        let offsets: String = linux.time_offsets.iter().map(line).collect();
        let words = format!("write timens_offsets: {}", one_line(&offsets));
        let op = RunOp::WriteTimeOffsets(offsets);
        steps.push(Step::run(op, "linux.timeOffsets", words));
    }
    for (name, device) in &linux.net_devices {
        let new_name = device.name.as_ref().unwrap_or(name).clone();
        let what = format!("move network device {name} into the container as {new_name}");
        let name = name.clone();
        let origin = member("linux.netDevices", &name);
        let op = RunOp::MoveNetDevice { name, new_name };
        steps.push(Step::run(op, origin, what));
    }
    steps
}

/// The id maps of a new user namespace. Those of one that is joined are not config.json's to
/// say, but engines write them all the same: they must be true.
fn maps(cx: &Context<'_>, linux: &Linux) -> Vec<Step> {
    let new = cx.new_namespace(NamespaceKind::User);
    let joined = cx.joined_namespace(NamespaceKind::User);
    let step = |file: &str, field: &str, maps: &[IdMapping], ops: [fn(String) -> RunOp; 2]| {
        let text = map_text(maps);
        let shown = one_line(&text);
        let [write, check] = ops;
        if new {
            let what = format!("write {file}: {shown}");
            Some(Step::run(write(text), field, what))
        } else if joined && !maps.is_empty() {
            let what = format!("compare with {file}: {shown}");
            Some(Step::run(check(text), field, what))
        } else {
            None
        }
    };
    let uid_ops = [RunOp::WriteUidMap, RunOp::CheckUidMap];
    let gid_ops = [RunOp::WriteGidMap, RunOp::CheckGidMap];
    let uids = step("uid_map", "linux.uidMappings", &linux.uid_mappings, uid_ops);
    let gids = step("gid_map", "linux.gidMappings", &linux.gid_mappings, gid_ops);
    uids.into_iter().chain(gids).collect()
}

fn one_line(lines: &str) -> String {
    lines.trim().replace('\n', ", ")
}

/// The lines of `/proc/PID/uid_map`: inside, outside, count.
pub(super) fn map_text(maps: &[IdMapping]) -> String {
    let line = |map: &IdMapping| format!("{} {} {}\n", map.container_id, map.host_id, map.size);
    maps.iter().map(line).collect()
}

/// What waits for the runtime half: the offsets of a time namespace, and the cgroup.
fn last(cx: &Context<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let unshares = |kind| origin(cx, kind) == Origin::UnshareInInit;
    if unshares(NamespaceKind::Time) {
        let what = "enter the time namespace";
        let proc = Slot::HOST_PROC;
        steps.push(Step::init(Op::EnterTime { proc }, ORIGIN, what));
    }
    if unshares(NamespaceKind::Cgroup) {
        let flags = NamespaceKind::Cgroup.clone_flag();
        let op = Op::Unshare { flags };
        steps.push(Step::init(op, ORIGIN, "make a cgroup namespace"));
    }
    steps
}

fn in_clone(cx: &Context<'_>) -> Vec<NamespaceKind> {
    kinds_of(cx, Origin::InClone).collect()
}

/// ` in new namespaces (mount pid)`, nothing without any.
fn in_new(kinds: &[NamespaceKind]) -> String {
    if kinds.is_empty() {
        return String::new();
    }
    format!(" in new namespaces ({})", names(kinds))
}

pub(super) fn names(kinds: &[NamespaceKind]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    names.join(" ")
}

pub(super) fn flags(kinds: &[NamespaceKind]) -> u64 {
    kinds
        .iter()
        .fold(0, |flags, kind| flags | kind.clone_flag())
}
