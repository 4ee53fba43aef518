//! A failed step as one sentence: place in config.json, object, cause.

use corten_init::abi::{Kind, Op};
use serde::{Deserialize, Serialize};

use super::calloff::CALLED_OFF;
use super::report::ReportFailure;
use crate::error::{Cause, Error, errno_text};
use crate::plan::{Action, Plan, RunOp, Step, Suspect};
use crate::seccomp::Effect;

/// What `start`, which has no plan, must know of the steps that it drives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LateStep {
    /// Index among init's steps.
    pub(crate) index: usize,
    /// Number in the plan, from 1.
    pub(crate) number: usize,
    pub(crate) origin: String,
    pub(crate) what: String,
    /// What of the seccomp profile may be why it fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) suspects: Vec<Suspect>,
}

impl LateStep {
    fn new(plan: &Plan, index: usize) -> Option<LateStep> {
        let position = plan.position(index)?;
        let step = plan.steps.get(position)?;
        Some(LateStep {
            index,
            number: position + 1,
            origin: step.origin.clone(),
            what: step.what.clone(),
            suspects: step.suspects.clone(),
        })
    }

    /// An error in this step of a plan of `of` steps; `effect` is all that init saw of it.
    fn failed(&self, what: String, effect: Effect, of: usize) -> Error {
        let is_it = |suspect: &&Suspect| match suspect.effect {
            Effect::Any => effect != Effect::Killed,
            other => other == effect,
        };
        let because: String = self
            .suspects
            .iter()
            .filter(is_it)
            .map(|suspect| format!("; it may be because of {}", suspect.text))
            .take(1)
            .collect();
        Cause::Step {
            origin: self.origin.clone(),
            what: what + &because,
            step: self.number,
            of,
        }
        .into()
    }
}

/// Init's steps behind the one where state.json is written, where `start` runs them.
pub(crate) fn late_steps(plan: &Plan) -> Vec<LateStep> {
    if !plan.waits_for_start() {
        return Vec::new();
    }
    let recorded = |step: &Step| matches!(step.action, Action::Run(RunOp::RecordState));
    let Some(at) = plan.steps.iter().position(recorded) else {
        return Vec::new();
    };
    let early = plan
        .steps
        .iter()
        .take(at)
        .filter(|step| step.is_init())
        .count();
    (early..plan.init_steps())
        .filter_map(|index| LateStep::new(plan, index))
        .collect()
}

/// A failure of init, while the plan is at hand.
pub(crate) fn of_plan(plan: &Plan, failure: &ReportFailure) -> Error {
    match LateStep::new(plan, failure.index) {
        Some(step) => sentence(&step, failure, plan.steps.len()),
        None => Error::other("init reports a step that the plan does not have"),
    }
}

/// Init went away without a word: killed, by the kernel or by somebody.
///
/// `of_memory` is whether the kernel has killed in the cgroup because its memory was used up.
pub(crate) fn killed(plan: &Plan, index: Option<usize>, of_memory: bool) -> Error {
    let why = match of_memory {
        true => ", as the memory of its cgroup is used up (linux.resources.memory)",
        false => "",
    };
    let step = index.and_then(|index| LateStep::new(plan, index));
    step.map_or_else(
        || Error::other(format!("init was killed before its first step{why}")),
        |step| {
            let what = format!("{}: init was killed{why}", step.what);
            step.failed(what, Effect::Killed, plan.steps.len())
        },
    )
}

/// Somebody has ended the wait for init, which is in this step.
pub(crate) fn called_off(plan: &Plan, index: Option<usize>) -> Error {
    let step = index.and_then(|index| LateStep::new(plan, index));
    step.map_or_else(
        || Error::other(CALLED_OFF),
        |step| {
            let what = format!("{}: {CALLED_OFF}", step.what);
            step.failed(what, Effect::None, plan.steps.len())
        },
    )
}

/// The same for a step of `start`.
pub(crate) fn killed_in(step: &LateStep, of: usize) -> Error {
    step.failed(
        format!("{}: init was killed", step.what),
        Effect::Killed,
        of,
    )
}

/// The failed step with what init found out about it.
pub(crate) fn sentence(step: &LateStep, failure: &ReportFailure, of: usize) -> Error {
    let cause = errno_text(failure.errno);
    let ReportFailure { detail, .. } = failure;
    if let Some(hook) = step.what.strip_prefix("run ")
        && step.origin.starts_with("hooks.")
    {
        let what = format!("error running {hook}: {}", hook_text(failure));
        return step.failed(what, Effect::None, of);
    }
    let is_program = step.origin == "process.args[0]";
    let what = match failure.kind {
        Kind::Plain | Kind::NotExecutable if is_program && !detail.is_empty() => {
            format!("exec {detail}: {cause}")
        }
        Kind::NotInPath if failure.errno == libc::ENOENT => {
            format!("exec: \"{detail}\": executable file not found in $PATH")
        }
        Kind::NotInPath => format!("exec: \"{detail}\": {cause} in $PATH"),
        Kind::Interpreter => format!("{}: its interpreter {detail}: {cause}", step.what),
        Kind::Loader => format!("{}: its loader {detail}: {cause}", step.what),
        Kind::FileSystem => format!("{}: {detail}: {cause}", step.what),
        Kind::NotOrdinaryDirectory => {
            format!("{}: must be mounted on ordinary directory", step.what)
        }
        Kind::Impostor => format!(
            "{}: {detail} is not the device that it should be",
            step.what
        ),
        Kind::NotThatNamespace => format!("{}: it is none of that kind", step.what),
        Kind::NoIdMap => format!("{}: {}", step.what, no_id_map(detail)),
        Kind::Outside => format!("{}: leads out of the container", step.what),
        Kind::RuntimeGone => format!("{}: the runtime went away", step.what),
        Kind::Plain | Kind::NotExecutable if detail.is_empty() => {
            format!("{}: {cause}", step.what)
        }
        Kind::Plain | Kind::NotExecutable => format!("{}: {detail}: {cause}", step.what),
        Kind::HookExited | Kind::HookKilled | Kind::HookTimeout => {
            format!("{}: {}", step.what, hook_text(failure))
        }
    };
    step.failed(what, Effect::Errno(failure.errno), of)
}

/// The file system whose ids can't be mapped, by the digits of its number.
fn no_id_map(digits: &str) -> String {
    // Of linux/magic.h, and statfs(2).
    const NAMES: [(u64, &str); 16] = [
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlay"),
        (0x6573_5546, "fuse"),
        (0x6969, "nfs"),
        (0x0102_1997, "9p"),
        (0xfe53_4d42, "smb2"),
        (0x9fa0, "proc"),
        (0x6265_6572, "sysfs"),
        (0x6367_7270, "cgroup2"),
        (0x1cd1, "devpts"),
        (0x1980_0202, "mqueue"),
        (0x8584_58f6, "ramfs"),
        (0x7371_7368, "squashfs"),
        (0xe0f5_e1e2, "erofs"),
        (0x2fc1_2fc1, "zfs"),
        (0x00c0_ffee, "hostfs"),
    ];
    let number = u64::from_str_radix(digits, 16).unwrap_or(0);
    let known = NAMES.iter().find(|(magic, _)| *magic == number);
    let name = known.map_or_else(|| format!("0x{digits}"), |(_, name)| (*name).to_owned());
    format!("the ids of its file system ({name}), or of one mounted below, can't be mapped")
}

/// How a hook failed, and what it wrote last.
pub(super) fn hook_text(failure: &ReportFailure) -> String {
    let number = failure.errno;
    let text = match failure.kind {
        Kind::HookExited => format!("exit status {number}"),
        Kind::HookKilled => format!("killed by signal {number}"),
        // As runc says it.
        Kind::HookTimeout => format!("hook ran past specified timeout of {number}.0s"),
        _ => return errno_text(number),
    };
    match failure.detail.trim() {
        "" => text,
        output => format!("{text}, output: {output}"),
    }
}

/// Whether an op only warns: the sentence of a warning.
pub(crate) fn warning(step: &Step, errno: i32) -> String {
    let cause = errno_text(errno);
    match &step.action {
        Action::Init(Op::RaiseAmbient { .. }) => {
            format!("{}: can't {}: {cause}", step.origin, step.what)
        }
        _ => format!("{}: {}: {cause}", step.origin, step.what),
    }
}
