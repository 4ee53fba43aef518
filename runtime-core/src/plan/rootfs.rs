//! The root file system: propagation, the root as a mount, the pivot; or a chroot.
//!
//! See mount_namespaces(7) and pivot_root(2).

use std::path::Path;

use corten_init::abi::{Op, Slot};

use super::credentials::set_groups;
use super::{Bytes, Context, PlanError, Step};
use crate::spec::{Linux, NamespaceKind};
use crate::sys::errno;

const MS_REC: u64 = 0x4000;
const MS_UNBINDABLE: u64 = 1 << 17;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;
const MOUNT_ATTR_RDONLY: u64 = 1;

/// `linux.rootfsPropagation` as `MS_*`; none if config.json does not say.
fn propagation(cx: &Context<'_>) -> Result<Option<u64>, PlanError> {
    let asked = cx.spec.linux.as_ref();
    let Some(word) = asked.and_then(|linux| linux.rootfs_propagation.as_deref()) else {
        return Ok(None);
    };
    let (plain, recursive) = match word.strip_prefix('r') {
        Some(plain) => (plain, MS_REC),
        None => (word, 0),
    };
    let kind = match plain {
        "" if recursive == 0 => return Ok(None),
        "private" => MS_PRIVATE,
        "slave" => MS_SLAVE,
        "shared" => MS_SHARED,
        "unbindable" => MS_UNBINDABLE,
        _ => {
            let what = format!("\"{word}\"");
            return Err(PlanError::unsupported(PROPAGATION, what));
        }
    };
    if kind == MS_PRIVATE && cx.options.no_pivot {
        let what = format!("\"{word}\": [r]private is not safe without pivot_root");
        return Err(PlanError::value(PROPAGATION, what));
    }
    Ok(Some(kind | recursive))
}

const PROPAGATION: &str = "linux.rootfsPropagation";

/// A step that changes the propagation of `/`.
fn propagate(kind: u64) -> Step {
    let of = if kind & MS_REC == 0 {
        "/"
    } else {
        "all mounts"
    };
    let word = match kind & !MS_REC {
        MS_PRIVATE => "private",
        MS_SLAVE => "slave",
        MS_SHARED => "shared",
        _ => "unbindable",
    };
    let op = Op::Propagation { kind };
    Step::init(op, PROPAGATION, format!("make {of} {word}"))
}

/// The root as a mount of its own, or as a directory where there is no mount namespace to
/// mount it in.
pub(super) fn prepare(cx: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let path = cx.facts.rootfs.as_os_str().as_encoded_bytes().into();
    let into = Slot::ROOT;
    let mut steps = if cx.new_namespace(NamespaceKind::Mount) {
        mount_root(cx)?
    } else {
        let what = format!("open {}", cx.facts.rootfs.display());
        let op = Op::OpenRoot { path, into };
        vec![Step::init(op, "root.path", what)]
    };
    // Only now: the mapped root may not get through the parents of the root.
    if cx.other_namespace(NamespaceKind::User) {
        steps.extend(become_root(cx, &user_origin(cx)));
    }
    Ok(steps)
}

/// Ids 0 of the user namespace, and none of the caller's groups.
pub(super) fn become_root(cx: &Context<'_>, origin: &str) -> [Step; 3] {
    let what = "become root of the user namespace";
    [
        set_groups(cx, &[], origin),
        Step::init(Op::BecomeRoot {}, origin, what),
        // A change of ids may have undone it: see fs.suid_dumpable in proc_sys_fs(5).
        non_dumpable(),
    ]
}

/// Cuts the mounts off the host's, as far as config.json wants that, and makes the root a
/// mount of its own.
fn mount_root(cx: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let kind = propagation(cx)?.unwrap_or(MS_SLAVE | MS_REC);
    let path: Bytes = cx.facts.rootfs.as_os_str().as_encoded_bytes().into();
    let shown = cx.facts.rootfs.display();
    let private = format!("make the mount private that {shown} is on");
    let bind = format!("bind {shown} on itself as the root");
    let into = Slot::ROOT;
    let parent = Op::PrivateParent { path: path.clone() };
    Ok(vec![
        propagate(kind),
        Step::init(parent, "root.path", private),
        Step::init(Op::BindRoot { path, into }, "root.path", bind),
    ])
}

/// What needs mounts, where there is no mount namespace that is the container's alone: they
/// would be everybody's, and stay.
pub(super) fn check(cx: &mut Context<'_>) -> Result<(), PlanError> {
    if cx.new_namespace(NamespaceKind::Mount) {
        return Ok(());
    }
    let linux = cx.spec.linux.as_deref();
    let list = |of: fn(&Linux) -> bool| linux.is_some_and(of);
    let asked = [
        ("mounts", !cx.spec.mounts.is_empty()),
        (
            "root.readonly",
            cx.spec.root.as_ref().is_some_and(|root| root.readonly),
        ),
        ("linux.maskedPaths", list(|l| !l.masked_paths.is_empty())),
        (
            "linux.readonlyPaths",
            list(|l| !l.readonly_paths.is_empty()),
        ),
        (PROPAGATION, list(|l| l.rootfs_propagation.is_some())),
        (
            "linux.devices",
            list(|l| !l.devices.is_empty()) && cx.in_user_namespace(),
        ),
    ];
    if let Some((field, _)) = asked.iter().find(|(_, asked)| *asked) {
        let what = "needs a new mount namespace (linux.namespaces)";
        return Err(PlanError::value(*field, what));
    }
    cx.warnings.push(
        "root.path: without a new mount namespace it is entered by chroot, which a process with \
         CAP_SYS_CHROOT can leave"
            .to_owned(),
    );
    Ok(())
}

/// The place that says which ids the user namespace has.
fn user_origin(cx: &Context<'_>) -> String {
    if cx.new_namespace(NamespaceKind::User) {
        "linux.uidMappings".to_owned()
    } else {
        cx.origin(NamespaceKind::User)
    }
}

/// Keeps other processes out of init's memory and /proc files.
pub(super) fn non_dumpable() -> Step {
    Step::init(Op::NonDumpable {}, "process", "become non-dumpable")
}

/// Changes to a directory of the host.
pub(super) fn change_dir(path: &Path, origin: &str) -> Step {
    let what = format!("change directory to {}", path.display());
    let path = path.as_os_str().as_encoded_bytes().into();
    Step::init(Op::ChangeDir { path }, origin, what)
}

/// The working directory, made if it is missing while the root can still be written.
pub(super) fn working_directory(cx: &Context<'_>) -> Vec<Step> {
    let cwd = &cx.process.cwd;
    if cwd == "/" {
        return Vec::new();
    }
    // What the last mount left in it goes as well.
    let into = Slot::MOUNT;
    let path = cwd.into();
    let open = Step::init(
        Op::OpenDir { path, into },
        "process.cwd",
        format!("make directory {cwd}"),
    );
    let close = Step::init(
        Op::Close { slot: into },
        "process.cwd",
        "close the directory",
    );
    // Whatever it is instead: changing to it says so.
    let instead = [errno::ENOENT, errno::ENOTDIR, errno::EROFS];
    vec![open.or_skip(&instead, 0), close]
}

/// Read-only root, pivot and the new root's propagation.
pub(super) fn finish(cx: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let mut steps = Vec::new();
    if cx.spec.root.as_ref().is_some_and(|root| root.readonly) {
        steps.push(Step::init(
            Op::SetAttrAt {
                path: "/".into(),
                set: MOUNT_ATTR_RDONLY,
                clear: 0,
                propagation: 0,
                recursive: false,
            },
            "root.readonly",
            "make the root read-only",
        ));
    }
    if !cx.new_namespace(NamespaceKind::Mount) {
        let what = "change root";
        steps.push(Step::init(Op::Chroot {}, "root.path", what));
        return Ok(steps);
    }
    steps.push(if cx.options.no_pivot {
        Step::init(Op::MoveRoot {}, "root.path", "move the root over /")
    } else {
        Step::init(Op::PivotRoot {}, "root.path", "pivot into the root")
    });
    let asked = propagation(cx)?.map(|kind| match kind {
        // As runc has it, where the whole root is moved to a place that is shared.
        MS_SHARED if cx.options.no_pivot => MS_SHARED | MS_REC,
        kind => kind,
    });
    steps.extend(asked.map(propagate));
    Ok(steps)
}
