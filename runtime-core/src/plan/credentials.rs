//! `process.user`, `process.capabilities` and `process.noNewPrivileges`.
//!
//! See credentials(7) and capabilities(7). Every set is exactly what config.json says.

use corten_init::abi::Op;

use super::rootfs::non_dumpable;
use super::{Context, PlanError, Step};
use crate::spec::{Capabilities, NamespaceKind, User};

/// The five sets as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub(super) bounding: u64,
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) ambient: u64,
}

/// In the order of DESIGN: bounding set, ids, capabilities, ambient, no_new_privs.
pub(super) fn credentials(cx: &mut Context<'_>) -> Result<Vec<Step>, PlanError> {
    let user = &cx.process.user;
    let sets = sets(cx.process.capabilities.as_ref(), cx.host.last_cap);
    check(cx, sets)?;
    let last = cx.host.last_cap;
    let mut steps = vec![Step::init(
        Op::BoundingSet {
            keep: sets.bounding,
            last,
        },
        "process.capabilities.bounding",
        format!("drop the bounding set to {:#x}", sets.bounding),
    )];
    if user.uid != 0 {
        steps.push(Step::init(
            Op::KeepCaps {},
            "process.capabilities",
            "keep capabilities over the change of uid",
        ));
    }
    steps.push(set_groups(
        cx,
        &user.additional_gids,
        "process.user.additionalGids",
    ));
    steps.extend(ids(user));
    steps.push(Step::init(
        Op::SetCaps {
            effective: sets.effective,
            permitted: sets.permitted,
            inheritable: sets.inheritable,
        },
        "process.capabilities",
        format!(
            "set capabilities (effective {:#x}, permitted {:#x}, inheritable {:#x})",
            sets.effective, sets.permitted, sets.inheritable
        ),
    ));
    if (user.uid, user.gid) != (0, 0) {
        // A change of ids may have undone it: see fs.suid_dumpable in proc_sys_fs(5).
        steps.push(non_dumpable());
    }
    for cap in (0..=last).filter(|cap| sets.ambient >> cap & 1 == 1) {
        let op = Op::RaiseAmbient { cap };
        let name = name(cap);
        let what = format!("raise ambient {name}");
        steps.push(Step::init(op, "process.capabilities.ambient", what).or_warn());
    }
    if cx.process.no_new_privileges {
        let op = Op::NoNewPrivs {};
        steps.push(Step::init(
            op,
            "process.noNewPrivileges",
            "set no_new_privs",
        ));
    }
    Ok(steps)
}

/// None of the caller's groups, while nobody can forbid that: a user namespace that is joined
/// may (`/proc/PID/setgroups`).
pub(super) fn drop_groups(origin: &str) -> Step {
    let gids = Vec::new();
    Step::init(
        Op::SetGroups { gids },
        origin,
        "drop all supplementary groups",
    )
}

/// Groups first: after setresuid(2) there is no privilege to change them. A user namespace
/// that is joined may forbid it; the caller's have been dropped before it was. So may the
/// caller's own, and one below it: then the caller's stay, if no others are asked for.
pub(super) fn set_groups(cx: &Context<'_>, gids: &[u32], origin: &str) -> Step {
    let words: Vec<String> = gids.iter().map(u32::to_string).collect();
    let what = format!("set supplementary groups ({})", words.join(","));
    let gids = gids.to_vec();
    let step = Step::init(Op::SetGroups { gids }, origin, what);
    let joined = cx.joined_namespace(NamespaceKind::User);
    if words.is_empty() && (joined || cx.host.user_namespace) {
        step.or_warn()
    } else {
        step
    }
}

fn ids(user: &User) -> [Step; 2] {
    [
        Step::init(
            Op::SetGid { gid: user.gid },
            "process.user.gid",
            format!("set gid {}", user.gid),
        ),
        Step::init(
            Op::SetUid { uid: user.uid },
            "process.user.uid",
            format!("set uid {}", user.uid),
        ),
    ]
}

/// The sets of config.json; names that nobody knows are left out (with a warning by
/// [`crate::spec::warnings`]), and so are those that this kernel does not know.
pub(super) fn sets(capabilities: Option<&Capabilities>, last: u32) -> Sets {
    let Some(capabilities) = capabilities else {
        return Sets::default();
    };
    let known = |names: &[String]| {
        names
            .iter()
            .filter_map(|name| name.parse::<caps::Capability>().ok())
            .filter(|cap| u32::from(cap.index()) <= last)
            .fold(0, |bits, cap| bits | cap.bitmask())
    };
    Sets {
        bounding: known(&capabilities.bounding),
        effective: known(&capabilities.effective),
        permitted: known(&capabilities.permitted),
        inheritable: known(&capabilities.inheritable),
        ambient: known(&capabilities.ambient),
    }
}

/// What capset(2) would refuse with nothing but EPERM is said by name here.
fn check(cx: &mut Context<'_>, sets: Sets) -> Result<(), PlanError> {
    if let Some(cap) = lowest(sets.effective & !sets.permitted) {
        return Err(PlanError::value(
            "process.capabilities.effective",
            format!("{}: not in process.capabilities.permitted", name(cap)),
        ));
    }
    // Whoever enters a user namespace has every capability there.
    if cx.other_namespace(NamespaceKind::User) {
        return Ok(());
    }
    if let Some(cap) = lowest(sets.permitted & !cx.host.permitted_caps) {
        cx.obstacles.push(PlanError::host(
            "process.capabilities.permitted",
            format!("{}: corten itself does not have it", name(cap)),
        ));
    }
    Ok(())
}

fn lowest(bits: u64) -> Option<u32> {
    (bits != 0).then(|| bits.trailing_zeros())
}

fn name(cap: u32) -> String {
    let all = caps::all()
        .into_iter()
        .find(|known| u32::from(known.index()) == cap);
    all.map_or_else(|| format!("capability {cap}"), |known| known.to_string())
}
