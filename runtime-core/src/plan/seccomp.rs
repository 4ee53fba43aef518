//! `linux.seccomp`: where the filter is loaded, and whether init still works behind it.
//!
//! See seccomp(2). With no_new_privs anybody may load a filter, so it comes last, right before
//! execve. Without it CAP_SYS_ADMIN is needed, so it comes before the privileges go, and init
//! makes more calls under it.
//!
//! A filter with `SCMP_ACT_NOTIFY` has a listener, which the runtime half takes out of init and
//! hands on. With no_new_privs such a filter comes before the wait for `start`: it is `create`
//! that must fail if nobody listens.

use std::cell::OnceCell;
use std::sync::Arc;

use corten_init::abi::{CALLS, CLOCK, Call, OnError, Op, Slot, calls};
use serde::{Deserialize, Serialize};

use super::{Action, Context, PlanError, RunOp, Step};
use crate::seccomp::{
    Architecture, Decision, Effect, KNOWN_FLAGS, NEW_LISTENER, Policy, SPEC_ALLOW, TSYNC,
    WAIT_KILLABLE_RECV, flags,
};
use crate::spec::{Compiled, NamespaceKind, Profile, Seccomp, SpecError};

const CAP_SYS_PTRACE: u64 = 1 << 19;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// A profile and what is made of it.
pub(super) struct Filter<'a> {
    profile: &'a Profile,
    native: Architecture,
    /// None while that of a known profile was not asked for.
    policy: OnceCell<Policy>,
    compiled: Arc<Compiled>,
    flags: u32,
    /// Where the listener is handed on to.
    listener: Option<RunOp>,
}

/// The steps of a filter behind the credentials.
#[derive(Default)]
pub(super) struct Late {
    /// Before the wait for `start`.
    pub(super) created: Vec<Step>,
    /// Right before execve, and before hooks.
    pub(super) started: Vec<Step>,
}

/// Compiles the profile, if there is one that is not known yet.
pub(super) fn filter<'a>(cx: &mut Context<'a>) -> Result<Option<Filter<'a>>, PlanError> {
    let linux = cx.spec.linux.as_ref();
    let Some(profile) = linux.and_then(|linux| linux.seccomp.as_ref()) else {
        return Ok(None);
    };
    let Some(native) = cx.host.architecture else {
        let what = "no table of system calls for this architecture";
        return Err(PlanError::unsupported("linux.seccomp", what));
    };
    let policy = OnceCell::new();
    let (compiled, listener) = match profile.compiled() {
        Some(known) => (Arc::clone(known), None),
        None => {
            let seccomp = profile.seccomp().map_err(damaged)?;
            let mut its = Policy::new(&seccomp, native)?;
            let listener = listener(cx, &seccomp, &its)?;
            let compiled = Compiled {
                program: its.program()?,
                flags: seccomp.flags.as_deref().map(flags).transpose()?,
                passes: passing(&its),
                warnings: std::mem::take(&mut its.warnings),
            };
            policy.get_or_init(|| its);
            (compiled.into(), listener)
        }
    };
    let flags = known_flags(cx, compiled.flags, listener.is_some());
    cx.warnings.extend_from_slice(&compiled.warnings);
    if !cx.process.no_new_privileges
        && !cx.other_namespace(NamespaceKind::User)
        && cx.host.permitted_caps & CAP_SYS_ADMIN == 0
    {
        cx.obstacles.push(PlanError::host(
            "linux.seccomp",
            "needs CAP_SYS_ADMIN, or process.noNewPrivileges",
        ));
    }
    Ok(Some(Filter {
        profile,
        native,
        policy,
        compiled,
        flags,
        listener,
    }))
}

impl Filter<'_> {
    fn policy(&self) -> Result<&Policy, PlanError> {
        if let Some(policy) = self.policy.get() {
            return Ok(policy);
        }
        let policy = Policy::new(&*self.profile.seccomp().map_err(damaged)?, self.native)?;
        Ok(self.policy.get_or_init(|| policy))
    }

    /// Whether it lets a call of init's through for sure.
    fn passes(&self, call: &Call) -> bool {
        let place = CALLS.iter().position(|known| known == call);
        place.is_some_and(|place| self.compiled.passes >> place & 1 == 1)
    }

    /// What to keep, with the profile's text, for the next container of the same profile: the
    /// filter of one that is new, and of which nothing has to be said each time.
    pub(super) fn new_one(&self) -> Option<(Box<str>, Arc<Compiled>)> {
        let policy = self
            .policy
            .get()
            .filter(|_| self.profile.compiled().is_none())?;
        let seccomp = self.profile.seccomp().ok()?;
        let listens = seccomp.listener_path.is_some() || seccomp.listener_metadata.is_some();
        if listens || policy.notifies.is_some() || policy.kills_all().is_some() {
            return None;
        }
        Some((self.profile.text()?.into(), Arc::clone(&self.compiled)))
    }
}

fn damaged(error: SpecError) -> PlanError {
    PlanError::value("linux.seccomp", error.to_string())
}

/// Which of [`CALLS`] a policy lets through for sure, one bit each.
fn passing(policy: &Policy) -> u64 {
    let calls = CALLS.iter().enumerate();
    calls.fold(0, |bits, (place, call)| {
        let decisions = policy.decide(call.name, &[call.first]);
        bits | u64::from(decisions.iter().all(passes)) << place
    })
}

/// `linux.seccomp.listenerPath`, if there is something to listen to.
fn listener(
    cx: &mut Context<'_>,
    profile: &Seccomp,
    policy: &Policy,
) -> Result<Option<RunOp>, PlanError> {
    let path = &profile.listener_path;
    let path = path.as_ref().filter(|path| !path.is_empty());
    let metadata = profile.listener_metadata.as_deref().unwrap_or_default();
    if path.is_none() && !metadata.is_empty() {
        // The specification says that it must not be so; runc takes it.
        let text = "linux.seccomp.listenerMetadata: has no effect without listenerPath";
        cx.warnings.push(text.to_owned());
    }
    let Some(rule) = policy.notifies else {
        return Ok(None);
    };
    let field = format!("linux.seccomp.syscalls[{rule}].action");
    let Some(path) = path else {
        let what = "SCMP_ACT_NOTIFY: seccomp listenerPath is not set";
        return Err(PlanError::value(field, what));
    };
    let take = RunOp::TakeListener {
        // As any path of config.json that is not absolute.
        path: cx.facts.bundle.join(path),
        metadata: metadata.to_owned(),
    };
    // Init is not dumpable, so it takes this to get anything out of it.
    let lacks = if cx.host.permitted_caps & CAP_SYS_PTRACE == 0 {
        "needs CAP_SYS_PTRACE"
    } else if !cx.host.pidfd_getfd {
        "needs pidfd_getfd(2), which this kernel does not have or allow"
    } else if cx.host.seccomp_flags.unwrap_or(0) & NEW_LISTENER == 0 {
        "this kernel does not know it"
    } else {
        return Ok(Some(take));
    };
    let what = format!("SCMP_ACT_NOTIFY: {lacks}");
    cx.obstacles.push(PlanError::host(field, what));
    Ok(Some(take))
}

/// The flags to load with. Without a list in config.json it is the one that runc sets.
fn known_flags(cx: &mut Context<'_>, bits: Option<u32>, listens: bool) -> u32 {
    let known = cx.host.seccomp_flags;
    let Some(known) = known else {
        let what = "this kernel has no seccomp filters";
        cx.obstacles.push(PlanError::host("linux.seccomp", what));
        return 0;
    };
    let own = if listens { NEW_LISTENER } else { 0 };
    let Some(mut bits) = bits else {
        return SPEC_ALLOW & known | own;
    };
    for (name, bit) in KNOWN_FLAGS {
        if bits & bit != 0 && known & bit == 0 {
            let what = format!("{name}: this kernel does not know it");
            cx.obstacles
                .push(PlanError::host("linux.seccomp.flags", what));
        }
    }
    if listens {
        // The kernel takes the two together only with a third flag that config.json has no name
        // for, and one thread is all that there is.
        return bits & !TSYNC | own;
    }
    if bits & WAIT_KILLABLE_RECV != 0 {
        let text = "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: has no effect \
                    without SCMP_ACT_NOTIFY";
        cx.warnings.push(text.to_owned());
        bits &= !WAIT_KILLABLE_RECV;
    }
    bits
}

/// The steps before the credentials change.
pub(super) fn early(cx: &Context<'_>, filter: Option<&Filter<'_>>) -> Vec<Step> {
    let filter = filter.filter(|_| !cx.process.no_new_privileges);
    filter.map_or(Vec::new(), steps)
}

/// The steps behind the credentials.
pub(super) fn late(cx: &Context<'_>, filter: Option<&Filter<'_>>) -> Late {
    let mut late = Late::default();
    match filter.filter(|_| cx.process.no_new_privileges) {
        Some(filter) if filter.listener.is_some() => late.created = steps(filter),
        Some(filter) => late.started = steps(filter),
        None => {}
    }
    late
}

/// Loads the filter, and hands its listener on.
fn steps(filter: &Filter<'_>) -> Vec<Step> {
    let Some(take) = &filter.listener else {
        return vec![step(filter, Slot::NONE)];
    };
    let field = "linux.seccomp.listenerPath";
    let pass = Op::PassListener {
        from: Slot::LISTENER,
    };
    vec![
        step(filter, Slot::LISTENER),
        Step::init(pass, field, "pass the listener to the runtime"),
        Step::run(take.clone(), field, "send the listener"),
    ]
}

fn step(filter: &Filter<'_>, listener: Slot) -> Step {
    let program = &filter.compiled.program;
    let op = Op::LoadSeccomp {
        program: program.clone(),
        flags: filter.flags,
        clock: filter.passes(&CLOCK),
        listener,
    };
    let instructions = program.len() / 2;
    let what = format!("load the seccomp filter ({instructions} instructions)");
    Step::init(op, "linux.seccomp", what)
}

fn passes(decision: &Decision) -> bool {
    decision.effect == Effect::None
}

/// What of the profile may be why a step fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suspect {
    /// What the step sees of it.
    pub(crate) effect: Effect,
    /// The place in the profile, action and call.
    pub(crate) text: String,
}

impl Suspect {
    fn new(decision: &Decision, call: &str) -> Suspect {
        let Decision { field, action, .. } = decision;
        let action = action.name();
        Suspect {
            effect: decision.effect,
            text: format!("linux.seccomp.{field}: {action} for {call}"),
        }
    }
}

/// Asks the profile about every call that init makes behind the filter, and notes at each step
/// what may be why it fails.
pub(super) fn check(
    cx: &mut Context<'_>,
    filter: &Filter<'_>,
    steps: &mut [Step],
) -> Result<(), PlanError> {
    if let Some(policy) = filter.policy.get() {
        cx.warnings.extend(policy.kills_all());
    }
    let loads = |step: &Step| matches!(step.action, Action::Init(Op::LoadSeccomp { .. }));
    let first = steps.iter().position(loads).map_or(0, |at| at + 1);
    let behind = steps.get_mut(first..).unwrap_or_default();
    let mut warned = Vec::new();
    // From the end, so that execve is named first.
    for step in behind.iter_mut().rev() {
        let Action::Init(op) = &step.action else {
            continue;
        };
        for call in calls(op).iter().filter(|call| !filter.passes(call)) {
            let decisions = filter.policy()?.decide(call.name, &[call.first]);
            let denied = decisions.iter().filter(|decision| !passes(decision));
            step.suspects
                .extend(denied.map(|denied| Suspect::new(denied, call.name)));
            if let Some(text) = judge(step, call.name, &decisions)?
                && !warned.contains(&call.name)
            {
                warned.push(call.name);
                cx.warnings.push(text);
            }
        }
    }
    Ok(())
}

/// Whether a step can do without a call: an error where it can't for sure, a warning where it
/// depends.
fn judge(step: &Step, call: &str, decisions: &[Decision]) -> Result<Option<String>, PlanError> {
    // Once the listener is passed on, it answers; write(2) is never notified.
    let bad = |decision: &&Decision| !matches!(decision.effect, Effect::None | Effect::Any);
    let Some(denied) = decisions.iter().find(bad) else {
        return Ok(None);
    };
    let field = format!("linux.seccomp.{}", denied.field);
    let (action, what) = (denied.action.name(), &step.what);
    // An errno is what such a step can bear.
    let bears = step.on_error != OnError::Fail && denied.effect != Effect::Killed;
    if decisions.len() == 1 && !bears {
        let what = format!("{action} for {call}, which corten still needs to {what}");
        return Err(PlanError::value(field, what));
    }
    Ok(Some(format!(
        "{field}: {action} may hit {call}, with which corten is to {what}"
    )))
}
