//! `linux.seccomp`: where the filter is loaded, and whether init still works behind it.
//!
//! See seccomp(2). With no_new_privs anybody may load a filter, so it comes last, right before
//! execve. Without it CAP_SYS_ADMIN is needed, so it comes before the privileges go, and init
//! makes more calls under it.

use corten_init::abi::{OnError, Op, calls};

use super::{Action, Context, PlanError, Step};
use crate::seccomp::{Decision, KNOWN_FLAGS, Policy, SPEC_ALLOW, WAIT_KILLABLE_RECV, flags};
use crate::spec::{NamespaceKind, Seccomp, SeccompAction};

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// A compiled filter.
pub(super) struct Filter {
    policy: Policy,
    program: Vec<u32>,
    flags: u32,
}

/// Compiles the profile, if there is one.
pub(super) fn filter(cx: &mut Context<'_>) -> Result<Option<Filter>, PlanError> {
    let linux = cx.spec.linux.as_ref();
    let Some(profile) = linux.and_then(|linux| linux.seccomp.as_ref()) else {
        return Ok(None);
    };
    let Some(native) = cx.host.architecture else {
        let what = "no table of system calls for this architecture";
        return Err(PlanError::unsupported("linux.seccomp", what));
    };
    let flags = known_flags(cx, profile)?;
    let mut policy = Policy::new(profile, native)?;
    cx.warnings.append(&mut policy.warnings);
    if !cx.process.no_new_privileges
        && !cx.other_namespace(NamespaceKind::User)
        && cx.host.permitted_caps & CAP_SYS_ADMIN == 0
    {
        cx.obstacles.push(PlanError::host(
            "linux.seccomp",
            "needs CAP_SYS_ADMIN, or process.noNewPrivileges",
        ));
    }
    let program = policy.program()?;
    Ok(Some(Filter {
        policy,
        program,
        flags,
    }))
}

/// The flags to load with. Without a list in config.json it is the one that runc sets.
fn known_flags(cx: &mut Context<'_>, profile: &Seccomp) -> Result<u32, PlanError> {
    let known = cx.host.seccomp_flags;
    let Some(known) = known else {
        let what = "this kernel has no seccomp filters";
        cx.obstacles.push(PlanError::host("linux.seccomp", what));
        return Ok(0);
    };
    let Some(names) = &profile.flags else {
        return Ok(SPEC_ALLOW & known);
    };
    let mut bits = flags(names)?;
    for (name, bit) in KNOWN_FLAGS {
        if bits & bit != 0 && known & bit == 0 {
            let what = format!("{name}: this kernel does not know it");
            cx.obstacles
                .push(PlanError::host("linux.seccomp.flags", what));
        }
    }
    if bits & WAIT_KILLABLE_RECV != 0 {
        let text = "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: has no effect \
                    without SCMP_ACT_NOTIFY";
        cx.warnings.push(text.to_owned());
        bits &= !WAIT_KILLABLE_RECV;
    }
    Ok(bits)
}

/// The step before the credentials change.
pub(super) fn early(cx: &Context<'_>, filter: Option<&Filter>) -> Option<Step> {
    filter.filter(|_| !cx.process.no_new_privileges).map(step)
}

/// The step before execve.
pub(super) fn late(cx: &Context<'_>, filter: Option<&Filter>) -> Option<Step> {
    filter.filter(|_| cx.process.no_new_privileges).map(step)
}

fn step(filter: &Filter) -> Step {
    let clock = filter.policy.decide("clock_gettime", &[]);
    let op = Op::LoadSeccomp {
        program: filter.program.clone(),
        flags: filter.flags,
        clock: clock.iter().all(passes),
    };
    let instructions = filter.program.len() / 2;
    let what = format!("load the seccomp filter ({instructions} instructions)");
    Step::init(op, "linux.seccomp", what)
}

fn passes(decision: &Decision) -> bool {
    matches!(decision.action, SeccompAction::Allow | SeccompAction::Log)
}

/// Asks the profile about every call that init makes behind the filter.
pub(super) fn check(
    cx: &mut Context<'_>,
    filter: &Filter,
    steps: &[Step],
) -> Result<(), PlanError> {
    let loads = |step: &Step| matches!(step.action, Action::Init(Op::LoadSeccomp { .. }));
    let behind = steps.iter().skip_while(|step| !loads(step)).skip(1);
    let mut warned = Vec::new();
    // From the end, so that execve is named first.
    for step in behind.collect::<Vec<_>>().into_iter().rev() {
        let Action::Init(op) = &step.action else {
            continue;
        };
        for call in calls(op) {
            let decisions = filter.policy.decide(call.name, &[call.first]);
            let Some(denied) = decisions.iter().find(|decision| !passes(decision)) else {
                continue;
            };
            let field = format!("linux.seccomp.{}", denied.field);
            let (name, what) = (call.name, &step.what);
            let action = denied.action.name();
            // An errno is what such a step can bear.
            let bears = step.on_error != OnError::Fail && denied.action == SeccompAction::Errno;
            if decisions.len() == 1 && !bears {
                let what = format!("{action} for {name}, which corten still needs to {what}");
                return Err(PlanError::value(field, what));
            }
            let text = format!("{field}: {action} may hit {name}, with which corten is to {what}");
            if !warned.contains(&call.name) {
                warned.push(call.name);
                cx.warnings.push(text);
            }
        }
    }
    Ok(())
}
