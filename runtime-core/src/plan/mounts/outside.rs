//! Sources of binds that a process in the host's user namespace opens.
//!
//! The root of a user namespace may not get through the directories above a source, which
//! may belong to anybody; and what it has no right to open it can't map the ids of. So init
//! opens all of them before it gets there, in a mount namespace that is a copy of the host's,
//! and keeps them on a tmpfs. From that mount namespace the container's is made, which has the
//! tmpfs too, with every attribute locked as the kernel does it between user namespaces.

use corten_init::abi::{Op, Slot};

use super::idmap::Maps;
use super::{Context, Mounts, Step, open_tree};
use crate::plan::{Action, PlanError, RunOp, hooks};
use crate::spec::NamespaceKind;

/// Name of the tmpfs's directory, below that of the container.
pub(crate) const TREES: &str = "trees";

const ORIGIN: &str = "mounts";
const MS_SLAVE: u64 = 1 << 19;
const MS_REC: u64 = 0x4000;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Whether sources are opened outside. Who has no right to mount there opens them inside.
pub(super) fn is_needed(cx: &Context<'_>) -> bool {
    let user = cx.other_namespace(NamespaceKind::User);
    user && cx.new_namespace(NamespaceKind::Mount) && may_mount(cx)
}

fn may_mount(cx: &Context<'_>) -> bool {
    cx.host.permitted_caps & CAP_SYS_ADMIN != 0
}

/// What comes before and after the sources that were opened outside, and the user namespaces
/// of their ids.
pub(super) fn frame(cx: &mut Context<'_>, mounts: &mut Mounts, maps: &Maps) {
    if !maps.is_empty() && !may_mount(cx) {
        let what = "id-mapped mounts need CAP_SYS_ADMIN on the host";
        cx.obstacles.push(PlanError::host(ORIGIN, what));
    }
    mounts.before.extend(maps.make());
    if mounts.outside.is_empty() {
        let opened = maps.open(cx);
        mounts.steps.splice(0..0, opened);
        mounts.steps.extend(maps.close());
        return;
    }
    let make = Step::run(RunOp::MakeTrees, ORIGIN, "make a directory for sources");
    mounts.before.push(make);
    let opened = maps.open(cx);
    mounts
        .outside
        .splice(0..0, into_trees(cx).into_iter().chain(opened));
    keep_directory(cx, mounts);
    // The first mount closes the last source: it takes its slot.
    mounts.outside.extend(maps.close());
}

/// The way into a mount namespace with a tmpfs for sources.
fn into_trees(cx: &Context<'_>) -> [Step; 3] {
    let path = cx.options.root.join(&cx.options.id).join(TREES);
    let what = format!("mount a tmpfs on {}", path.display());
    let path = path.as_os_str().as_encoded_bytes().into();
    let flags = NamespaceKind::Mount.clone_flag();
    let kind = MS_SLAVE | MS_REC;
    let step = |op, what: &str| Step::init(op, ORIGIN, what);
    [
        step(Op::Unshare { flags }, "make a mount namespace for sources"),
        step(Op::Propagation { kind }, "make all mounts of it slaves"),
        step(Op::MountTrees { path }, &what),
    ]
}

/// Hooks that init runs want the bundle as their directory, and that is no place for a
/// descriptor of the host's either: it comes along with the sources.
fn keep_directory(cx: &Context<'_>, mounts: &mut Mounts) {
    const NAME: &str = "bundle";
    let Some(Step {
        action: Action::Init(Op::ChangeDir { path }),
        origin,
        what,
        ..
    }) = hooks::directory(cx)
    else {
        return;
    };
    let step = |op, what: &str| Step::init(op, origin.clone(), what);
    if path.as_bytes() == b"/" {
        mounts.steps.push(step(Op::ChangeDir { path }, &what));
        return;
    }
    let outer = Slot::MOUNT;
    let open = open_tree(path.as_bytes(), true, false, outer);
    let keep = Op::KeepTree {
        mount: outer,
        name: NAME.into(),
    };
    let both = [step(open, "open the bundle"), step(keep, "keep the bundle")];
    mounts.outside.extend(both);
    let path = NAME.into();
    mounts.steps.push(step(Op::ChangeDir { path }, &what));
}
