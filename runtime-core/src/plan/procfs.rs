//! The procfs that init writes to: one of its own, which nobody else sees.
//!
//! What a container or an image has on its /proc can't be trusted with a label or a sysctl
//! (CVE-2019-16884, CVE-2025-52881). So a new one is made, while the host's is still in
//! sight, and is never attached anywhere. See proc(5); `mount_too_revealing` in the kernel's
//! fs/namespace.c.

use corten_init::abi::{Op, Slot};

use super::{Bytes, Context, Step};
use crate::spec::NamespaceKind;

/// nosuid, nodev and noexec of mount_setattr(2).
const ATTRS: u64 = 2 | 4 | 8;

/// These writes, with what they need before and after; nothing without writes.
pub(super) fn around(cx: &Context<'_>, writes: Vec<Step>) -> Vec<Step> {
    let Some(origin) = writes.first().map(|step| step.origin.clone()) else {
        return Vec::new();
    };
    let mut steps = vec![open(cx, &origin)];
    steps.extend(writes);
    let close = Op::Close { slot: Slot::PROC };
    steps.push(Step::init(close, "process", "close the procfs"));
    steps
}

fn open(cx: &Context<'_>, origin: &str) -> Step {
    let into = Slot::PROC;
    if !may_mount(cx) {
        let op = Op::OpenProc { into };
        return Step::init(op, origin, "open and check the host's /proc");
    }
    let op = Op::NewFs {
        kind: "proc".into(),
        source: "proc".into(),
        data: Bytes::from(""),
        attrs: ATTRS,
        like: Bytes::from(""),
        into,
    };
    Step::init(op, origin, "make a procfs that nobody else sees")
}

/// A user namespace mounts the procfs of a pid namespace that it owns, and shows nothing by
/// it that is hidden on the /proc which is there; so where the caller is in one itself, too.
fn may_mount(cx: &Context<'_>) -> bool {
    if !cx.in_user_namespace() {
        return true;
    }
    let joined = cx.facts.joined.get(&NamespaceKind::Pid);
    let owned =
        cx.new_namespace(NamespaceKind::Pid) || joined.is_some_and(|joined| joined.inside_user);
    owned && cx.new_namespace(NamespaceKind::Mount) && !cx.host.proc_hidden
}

/// A write below that procfs, whole and at once.
pub(super) fn write(path: &str, value: &str, origin: String, what: String) -> Step {
    let op = Op::WriteProc {
        proc: Slot::PROC,
        path: path.into(),
        value: value.into(),
    };
    Step::init(op, origin, what)
}
