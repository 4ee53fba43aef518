//! Tests of the checks: leave one step out of every plan, and see whether a check fails.
//!
//! The runtime is a test build of corten, with the feature `mutate`, in a target directory
//! of its own. First all checks run once with every step in place, and the runtime writes
//! down which steps each check's plans have. Then, for each step, the checks that have it
//! run without it, until one fails. A step that no check misses is a missing check.
//!
//! What fails with the step in place too is no proof: a check that missed a step is run
//! once more with all of them.
//!
//! In a lane's machine it does the same with the steps that only checks have which need
//! something of the machine: `mutate --lane uml` leaves out those that write limits.
//!
//! The plans of `exec` are treated alike; their steps are named `exec Join ...`, and so
//! `mutate "exec "` leaves out all that a plan of `exec` has. The same with `run`, where that
//! is one plan and not `create` and then `start`; while a step of `create` is left out, the
//! test build makes two of it, so that every check is one of `create` too.
//!
//! Two sizes of step: all that do the same for the same part of config.json (one op, one
//! origin: each `MakeNode` of the default devices), and, where most checks have it, the
//! single one (`make /dev/null`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::check::{Check, Need};
use crate::runner::{self, Outcome, Record, Setting};

/// Names the step to leave out; read by the test build.
const LEAVE_OUT: &str = "CORTEN_MUTATE";
/// No step; with it `run` is `create` and then `start` as while a step of `create` is left out.
const NOTHING: &str = "nothing";
/// Names the file where the test build writes its plans' steps.
const LOG: &str = "CORTEN_MUTATE_LOG";
/// What both names begin with: the lab hands such variables on to the runtime.
pub(crate) const PREFIX: &str = "CORTEN_MUTATE";

/// The log, in the lab, which goes away.
const LOG_FILE: &str = "/run/lab/steps";
/// Begins the lines of a check's output that hold the log.
const MARK: &str = "step: ";

/// The limit for one check: a step left out may well make the runtime wait for ever.
const CHECK: Duration = Duration::from_secs(60);

/// A step in the plans of at least so many checks is left out alone as well.
const COMMON: usize = 20;

/// Steps that no check can miss in this lane, and why. The name begins like this.
const EXCUSED: [(&str, &str); 4] = [
    (
        "ChangeDir\tprocess.cwd\tchange directory to /",
        "the pivot has left the process in / already",
    ),
    (
        "exec ChangeDir\tprocess.cwd\tchange directory to /",
        "setns into a mount namespace has left the process in / already",
    ),
    (
        "exec FindProgram\tprocess.args[]\tfind /probe",
        "execve of an absolute path that is missing fails with the same words",
    ),
    (
        "exec SetCaps\tprocess.capabilities\tset capabilities (effective 0x20000420, \
         permitted 0x20000420, inheritable 0x0)",
        "root gets its bounding set by execve, which is the same here",
    ),
];

/// What to run and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many checks at a time.
    pub jobs: usize,
    /// Only steps whose name contains one of these; all without.
    pub words: Vec<String>,
    /// Only list the steps and how many checks have them.
    pub list: bool,
    /// The test build; made if it is not given.
    pub runtime: Option<PathBuf>,
    /// Without words only steps that no check has which can be tried anywhere.
    pub needy: bool,
}

/// The step of a line of the log, unless its writer was killed in the middle of it.
fn whole(line: &str) -> Option<&str> {
    line.strip_suffix("\tend")
}

/// In the lane, after a check: prints what the test build wrote down, if anything.
pub(crate) fn print_steps() {
    let text = std::fs::read_to_string(LOG_FILE).unwrap_or_default();
    for line in text.lines().filter_map(whole).collect::<BTreeSet<_>>() {
        println!("{MARK}{line}");
    }
}

/// Leaves out every step in turn. True if each was missed by some check.
///
/// # Errors
///
/// If the test build fails, a check fails with nothing left out, or no step is wanted.
pub fn run(options: &Options) -> Result<bool, String> {
    let runtime = options.runtime.clone().map_or_else(build, Ok)?;
    let baseline = baseline(&runtime, options.jobs)?;
    let mut mutants = mutants(&baseline, &options.words);
    if options.needy && options.words.is_empty() {
        mutants.retain(|(_, checks)| checks.iter().all(|check| !check.needs.is_empty()));
    }
    // Nothing to leave out is no success.
    if mutants.is_empty() {
        return Err(format!(
            "no plan of a check has a step like {:?}",
            options.words
        ));
    }
    let mut survived = 0;
    let mut unfit = Unfit::default();
    let begin = Instant::now();
    for (number, (step, checks)) in mutants.iter().enumerate() {
        let shown = step.replace('\t', " | ");
        if options.list {
            println!("{:4} checks: {shown}", checks.len());
            continue;
        }
        eprint!("{}/{} ", number + 1, mutants.len());
        let began = Instant::now();
        let mut checks = unfit.fit(step, checks);
        match killer(&runtime, options.jobs, step, &mut checks, &mut unfit) {
            Some(check) => println!(
                "ok       {shown}: killed by {} ({:.1} s)",
                check.path(),
                began.elapsed().as_secs_f64()
            ),
            None => match excuse(step).or_else(|| unreached(&checks)) {
                Some(why) => println!("excused  {shown}: {why}"),
                None => {
                    survived += 1;
                    println!("SURVIVED {shown}: {} checks have it", checks.len());
                }
            },
        }
    }
    println!(
        "{} steps left out, {survived} not missed, {:.0} s",
        mutants.len(),
        begin.elapsed().as_secs_f64()
    );
    Ok(survived == 0)
}

/// Builds the runtime with the feature, and returns its path.
pub(crate) fn build() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = folder.parent().unwrap_or(folder);
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    // target/TRIPLE/PROFILE/conformance
    let own = this
        .ancestors()
        .nth(3)
        .ok_or_else(|| format!("{}: not in a target directory", this.display()))?;
    let target = own.join("mutate");
    let status = Command::new("cargo")
        .args(["build", "--package", "corten-cli", "--features"])
        .arg("corten-cli/mutate")
        .arg("--target-dir")
        .arg(&target)
        .current_dir(workspace)
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err(format!(
            "cargo build --features corten-cli/mutate: {status}"
        ));
    }
    let triple = this.ancestors().nth(2).and_then(Path::file_name);
    let program = target.join(triple.unwrap_or_default()).join("debug/corten");
    std::fs::canonicalize(&program).map_err(|error| format!("{}: {error}", program.display()))
}

/// A check with the steps of all its plans and the time it takes.
struct Seen {
    check: Check,
    steps: BTreeSet<String>,
    took: Duration,
}

/// Checks that need run's own plan: they fail where `run` is `create` and then `start`. Found
/// on the way, among those that are asked.
#[derive(Default)]
struct Unfit(BTreeSet<String>);

impl Unfit {
    /// Those that may miss a step.
    fn fit(&self, step: &str, checks: &[Check]) -> Vec<Check> {
        let is_fit = |check: &&Check| !is_of_create(step) || !self.0.contains(&check.path());
        checks.iter().filter(is_fit).copied().collect()
    }

    /// This one fails with the step in place too.
    fn add(&mut self, step: &str, check: Check) {
        if is_of_create(step) {
            self.0.insert(check.path());
        }
    }
}

fn baseline(runtime: &Path, jobs: usize) -> Result<Vec<Seen>, String> {
    let checks: Vec<Check> = crate::check::all().collect();
    let setting = Setting {
        environment: &[(LOG, LOG_FILE)],
        ..Setting::of(runtime)
    };
    let mut all = Vec::new();
    let mut failure = None;
    runner::each(&checks, jobs, &setting, |record| {
        match &record.outcome {
            Outcome::Passed => all.push(seen(record)),
            Outcome::Skipped(_) => {}
            Outcome::Failed(text) => {
                failure = Some(format!("{}: {text}", record.check.path()));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    match failure {
        Some(failure) => Err(format!("with no step left out, a check fails: {failure}")),
        None => Ok(all),
    }
}

fn seen(record: &Record) -> Seen {
    let lines = record.output.lines();
    let steps = lines.filter_map(|line| line.strip_prefix(MARK));
    Seen {
        check: record.check,
        steps: steps.map(str::to_owned).collect(),
        took: record.took,
    }
}

/// Whether a step is of a plan that waits for `start`.
fn is_of_create(step: &str) -> bool {
    !step.starts_with("run ") && !step.starts_with("exec ")
}

/// Op and origin of a step, without what it does.
fn kind(step: &str) -> &str {
    let end = step.match_indices('\t').nth(1).map(|(at, _)| at);
    &step[..end.unwrap_or(step.len())]
}

/// What to leave out, and the checks that have it: likely killers first.
fn mutants(baseline: &[Seen], words: &[String]) -> Vec<(String, Vec<Check>)> {
    let mut kinds: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for step in baseline.iter().flat_map(|seen| &seen.steps) {
        kinds.entry(kind(step)).or_default().insert(step);
    }
    let mut having: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    for seen in baseline {
        let steps = seen.steps.iter();
        let names = steps.flat_map(|step| [step, of_creation(step)]);
        let names: BTreeSet<&str> = names.flat_map(|step| [step, kind(step)]).collect();
        for name in names {
            having.entry(name).or_default().push(seen);
        }
    }
    let wanted = |step: &str| words.is_empty() || words.iter().any(|word| step.contains(word));
    let mut mutants = Vec::new();
    for (kind, steps) in &kinds {
        // A name with a container's id in it is shared by chance.
        let common = |step: &&&str| {
            let count = having.get(**step).map_or(0, Vec::len);
            count >= COMMON && !step.contains("check-")
        };
        let single = steps.iter().filter(common).filter(|_| steps.len() > 1);
        for step in std::iter::once(kind)
            .chain(single)
            .filter(|step| wanted(step))
        {
            let mut checks = having.get(*step).cloned().unwrap_or_default();
            checks.sort_by_key(|seen| (!is_about(seen.check, kind), seen.took));
            let checks = checks.iter().map(|seen| seen.check).collect();
            mutants.push(((*step).to_owned(), checks));
        }
    }
    mutants
}

/// A step's name without what tells a plan of `run` from one of `create`.
fn of_creation(step: &str) -> &str {
    step.strip_prefix("run ").unwrap_or(step)
}

/// Why no check on this machine can miss a step, if that is so.
fn excuse(step: &str) -> Option<String> {
    let step = of_creation(step);
    if let Some((_, why)) = EXCUSED.iter().find(|(excused, _)| *excused == step) {
        return Some((*why).to_owned());
    }
    let what = step.split('\t').nth(2)?;
    let readonly = |what: &'_ str| {
        let path = what.strip_prefix("make ")?;
        Some(path.strip_suffix(" read-only")?.to_owned())
    };
    let masked = what.strip_prefix("mask ").map(str::to_owned);
    let path = masked.or_else(|| readonly(what))?;
    let missing = path != "/" && !Path::new(&path).exists();
    missing.then(|| format!("this kernel has no {path}"))
}

/// Why these checks can't miss a step that is theirs alone, if so: their starts fail, and where
/// none of them fails without the step, it was never come to.
fn unreached(checks: &[Check]) -> Option<String> {
    let fails = |check: &Check| {
        let lacks = check
            .needs
            .iter()
            .any(|need| matches!(need, Need::Without(_)));
        lacks || check.facility == "broken"
    };
    let reason = "only starts that fail before it have it";
    checks.iter().all(fails).then(|| reason.to_owned())
}

/// Whether a check's facility is that of a step's origin.
fn is_about(check: Check, kind: &str) -> bool {
    const FACILITIES: [(&str, &str); 13] = [
        ("hooks", "hooks"),
        ("process.terminal", "console"),
        ("process", "process"),
        ("mounts", "mounts"),
        ("linux.namespaces", "namespaces"),
        ("linux.uidMappings", "namespaces"),
        ("linux.gidMappings", "namespaces"),
        ("hostname", "namespaces"),
        ("linux.devices", "devices"),
        ("linux.cgroupsPath", "cgroup"),
        ("linux.resources", "cgroup"),
        ("linux.", "rootfs"),
        ("root", "rootfs"),
    ];
    if kind.starts_with("exec ") {
        return check.facility.starts_with("exec");
    }
    // What is open too long is seen in a created container.
    if of_creation(kind).starts_with("Close") {
        return check.facility == "lifecycle";
    }
    let origin = kind.split('\t').nth(1).unwrap_or_default();
    let found = FACILITIES
        .iter()
        .find(|(start, _)| origin.starts_with(start));
    found.is_some_and(|(_, facility)| check.facility == *facility)
}

/// The first check that fails without this step, and does not with it. Those that fail with it
/// too are taken out.
fn killer(
    runtime: &Path,
    jobs: usize,
    step: &str,
    checks: &mut Vec<Check>,
    unfit: &mut Unfit,
) -> Option<Check> {
    let without = Setting {
        environment: &[(LEAVE_OUT, step)],
        limit: CHECK,
        ..Setting::of(runtime)
    };
    let in_place = Setting {
        environment: match is_of_create(step) {
            true => &[(LEAVE_OUT, NOTHING)],
            false => &[],
        },
        ..Setting::of(runtime)
    };
    while let Some(failed) = first_failure(checks, jobs, &without) {
        if first_failure(&[failed], 1, &in_place).is_none() {
            return Some(failed);
        }
        eprintln!("{}: fails with the step in place too", failed.path());
        unfit.add(step, failed);
        checks.retain(|check| check.path() != failed.path());
    }
    None
}

fn first_failure(checks: &[Check], jobs: usize, setting: &Setting<'_>) -> Option<Check> {
    let mut first = None;
    runner::each(checks, jobs, setting, |record| {
        if matches!(record.outcome, Outcome::Failed(_)) {
            first = Some(record.check);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_of_the_log_is_no_step() {
        assert_eq!(
            whole("Close\tmounts\tclose it\tend"),
            Some("Close\tmounts\tclose it")
        );
        for torn in [
            "",
            "Clo",
            "Close\tmou",
            "Close\tmounts\tclose",
            "Close\tmounts\tclose it\ten",
        ] {
            assert_eq!(whole(torn), None, "{torn:?}");
        }
    }

    #[test]
    fn a_check_of_runs_own_plan_is_not_asked_again_for_a_step_of_create() {
        let checks: Vec<Check> = crate::check::all().take(2).collect();
        let mut unfit = Unfit::default();
        let count = |unfit: &Unfit, step: &str| unfit.fit(step, &checks).len();
        unfit.add("run Close\tx", checks[0]);
        assert_eq!(count(&unfit, "Close\tx"), 2);
        unfit.add("Close\tx", checks[0]);
        assert_eq!(count(&unfit, "Open\ty"), 1);
        assert_eq!(unfit.fit("Open\ty", &checks)[0].path(), checks[1].path());
        assert_eq!(count(&unfit, "run Open\ty"), 2);
        assert_eq!(count(&unfit, "exec Open\ty"), 2);
    }

    #[test]
    fn a_common_step_is_left_out_alone_and_with_its_kind() {
        let check = crate::check::all().next().unwrap();
        let seen = |steps: &[&str]| Seen {
            check,
            steps: steps.iter().map(|step| (*step).to_owned()).collect(),
            took: Duration::ZERO,
        };
        let baseline: Vec<Seen> = (0..COMMON)
            .map(|n| {
                seen(&[
                    "A\tx\tone",
                    "A\tx\ttwo",
                    "B\ty\tonly",
                    &format!("C\tz\t{n}"),
                ])
            })
            .collect();
        let mutants = mutants(&baseline, &[]);
        let names: Vec<&str> = mutants.iter().map(|(step, _)| step.as_str()).collect();
        assert_eq!(names, ["A\tx", "A\tx\tone", "A\tx\ttwo", "B\ty", "C\tz"]);
        assert!(mutants.iter().all(|(_, checks)| checks.len() == COMMON));
    }
}
