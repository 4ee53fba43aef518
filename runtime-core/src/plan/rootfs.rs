//! The root file system: propagation, the root as a mount, the pivot.
//!
//! See mount_namespaces(7) and pivot_root(2).

use corten_init::abi::{Op, Slot};

use super::{Context, PlanError, Step};
use crate::spec::NamespaceKind;

const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MOUNT_ATTR_RDONLY: u64 = 1;

/// Cuts the mounts off the host's and makes the root a mount of its own.
pub(super) fn prepare(cx: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let asked = cx
        .spec
        .linux
        .as_ref()
        .and_then(|linux| linux.rootfs_propagation.as_deref());
    let (kind, name) = match asked {
        Some("private" | "rprivate") => (MS_PRIVATE, "private"),
        None | Some("" | "slave" | "rslave") => (MS_SLAVE, "slave"),
        Some(other) => {
            return Err(PlanError::unsupported(
                "linux.rootfsPropagation",
                format!("\"{other}\""),
            ));
        }
    };
    let path = cx.facts.rootfs.as_os_str().as_encoded_bytes();
    let shown = cx.facts.rootfs.display();
    let mut steps = vec![
        Step::init(
            Op::Propagation { kind },
            "linux.rootfsPropagation",
            format!("make all mounts {name}"),
        ),
        Step::init(
            Op::BindRoot {
                path: path.into(),
                into: Slot::ROOT,
            },
            "root.path",
            format!("bind {shown} on itself as the root"),
        ),
    ];
    if cx.new_namespace(NamespaceKind::User) {
        // After the root is open: the mapped root may not get through its parents.
        steps.push(Step::init(
            Op::BecomeRoot {},
            "linux.uidMappings",
            "become root of the user namespace",
        ));
    }
    Ok(steps)
}

/// Read-only root and pivot.
pub(super) fn finish(cx: &Context<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if cx.spec.root.as_ref().is_some_and(|root| root.readonly) {
        steps.push(Step::init(
            Op::SetAttrAt {
                path: "/".into(),
                set: MOUNT_ATTR_RDONLY,
                clear: 0,
            },
            "root.readonly",
            "make the root read-only",
        ));
    }
    steps.push(if cx.options.no_pivot {
        Step::init(Op::MoveRoot {}, "root.path", "move the root over /")
    } else {
        Step::init(Op::PivotRoot {}, "root.path", "pivot into the root")
    });
    steps
}
