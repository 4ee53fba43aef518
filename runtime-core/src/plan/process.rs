//! What the process is besides its credentials: directory, home, umask, program.
//!
//! Nothing here is inherited from the creator: see execve(2) on what would be.

use corten_init::abi::{Barrier, Op, Slot};

use super::seccomp::Late;
use super::{Bytes, Context, PlanError, RunOp, Step, console, hooks, lsm, scheduling, wait};

/// After the pivot, still with all privileges. `cpus` is where it may run.
pub(super) fn process(cx: &Context<'_>, cpus: Option<Step>) -> Result<Vec<Step>, PlanError> {
    let process = cx.process;
    let mut steps = Vec::new();
    if !lsm::has_keyring(cx) {
        steps.extend(keyring(cx));
    }
    let nice = Step::init(Op::SetNice { nice: 0 }, "process", "set nice 0");
    steps.push(nice.or_warn());
    steps.extend(cpus);
    steps.extend(scheduling::own(cx));
    let op = Op::ChangeDir {
        path: (&process.cwd).into(),
    };
    steps.push(Step::init(
        op,
        "process.cwd",
        format!("change directory to {}", process.cwd),
    ));
    if !has_home(&process.env) {
        let uid = process.user.uid;
        let op = Op::FindHome { uid };
        steps.push(Step::init(
            op,
            "process.env",
            format!("find HOME of uid {uid}"),
        ));
    }
    if cx.options.listen_fds > 0 {
        let name = "LISTEN_PID=".into();
        let what = "add LISTEN_PID to the environment";
        steps.push(Step::init(Op::AddPid { name }, "process.env", what));
    }
    steps.extend(console::use_it(cx));
    if let Some(mask) = process.user.umask {
        let what = format!("set umask {mask:04o}");
        steps.push(Step::init(
            Op::SetUmask { mask },
            "process.user.umask",
            what,
        ));
    }
    Ok(steps)
}

/// The caller's own choice of CPUs is not the container's.
pub(super) fn all_cpus() -> Step {
    Step::init(Op::AllCpus {}, "process", "allow every CPU").or_warn()
}

/// A session keyring of the container's own.
pub(super) fn keyring(cx: &Context<'_>) -> Option<Step> {
    if cx.options.no_new_keyring {
        return None;
    }
    let name = format!("_ses.{}", cx.options.id);
    let op = Op::SessionKeyring {
        name: (&name).into(),
    };
    let step = Step::init(op, "process", format!("join new session keyring {name}"));
    // A kernel may have no keyrings, and a quota or a filter may forbid one.
    Some(step.or_warn())
}

/// The record of a container that nobody starts later: while init works on it still.
pub(super) fn record_early() -> Step {
    let what = "write the state, as state.json once the program runs";
    Step::run(RunOp::RecordState, "process", what)
}

/// From the last barrier to execve, with a filter that is to be loaded last. Hooks run
/// with the container's privileges, so behind the filter.
pub(super) fn start(cx: &Context<'_>, filter: Late) -> Vec<Step> {
    let mut steps = vec![find_program(cx)];
    steps.extend(filter.created);
    let record = Step::run(RunOp::RecordState, "process", "write state.json");
    steps.extend(wait(Barrier::Created, vec![record]));
    steps.extend([
        Step::init(
            Op::Close { slot: Slot::SOCKET },
            "process",
            "close the socket",
        ),
        Step::init(Op::WaitStart {}, "process", "wait for start"),
    ]);
    steps.extend(filter.started);
    steps.extend(hooks::start(cx));
    steps.push(execve(cx));
    steps
}

/// The same without anybody to wait for.
pub(super) fn execute(cx: &Context<'_>, filter: Late) -> Vec<Step> {
    let Late { created, started } = filter;
    [vec![find_program(cx)], created, started, vec![execve(cx)]].concat()
}

fn find_program(cx: &Context<'_>) -> Step {
    let what = format!("find {}", name(cx));
    Step::init(Op::FindProgram {}, "process.args[0]", what)
}

fn execve(cx: &Context<'_>) -> Step {
    let what = format!("exec {}", name(cx));
    Step::init(Op::Exec {}, "process.args[0]", what)
}

fn name<'a>(cx: &Context<'a>) -> &'a str {
    cx.process.args.first().map_or("", String::as_str)
}

/// The environment: of several entries with one name the last counts, and an empty
/// HOME is as none.
pub(super) fn environment(env: &[String]) -> Vec<Bytes> {
    // By hash first: a thousand variables are not rare, and comparing their names is slow. By
    // name too, since an image may have names of one hash.
    let mut order: Vec<(u32, &str, usize)> = env.iter().zip(0..).map(named).collect();
    order.sort_unstable();
    let mut counts = vec![true; env.len()];
    for pair in order.windows(2) {
        if let [(hash, name, index), (next_hash, next, _)] = pair
            && (hash, name) == (next_hash, next)
        {
            counts[*index] = false;
        }
    }
    let kept = env.iter().zip(counts).filter(|(_, counts)| *counts);
    let kept = kept.filter(|(entry, _)| entry.as_str() != "HOME=");
    kept.map(|(entry, _)| Bytes::from(entry)).collect()
}

/// A hash of an entry's name (FNV-1a), the name, and the index that comes with it.
fn named((entry, index): (&String, usize)) -> (u32, &str, usize) {
    let mut hash = 0x811c_9dc5_u32;
    let mut len = 0;
    for byte in entry.bytes().take_while(|byte| *byte != b'=') {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        len += 1;
    }
    (hash, &entry[..len], index)
}

/// Whether the program gets a HOME from its environment.
fn has_home(env: &[String]) -> bool {
    let mut homes = env
        .iter()
        .rev()
        .filter_map(|entry| entry.strip_prefix("HOME"));
    let last = homes.find(|rest| rest.is_empty() || rest.starts_with('='));
    last.is_some_and(|rest| rest.len() > 1)
}

/// The same with what the caller passes on; LISTEN_PID is added by init, who knows it.
pub(super) fn full_environment(cx: &Context<'_>) -> Vec<Bytes> {
    let mut all = environment(&cx.process.env);
    if cx.options.listen_fds > 0 {
        let replaced: [&[u8]; 2] = [b"LISTEN_PID=", b"LISTEN_FDS="];
        all.retain(|entry| !replaced.iter().any(|name| entry.0.starts_with(name)));
        let count = format!("LISTEN_FDS={}", cx.options.listen_fds);
        all.push(Bytes::from(count));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_of_a_name_counts_and_an_empty_home_is_none() {
        let env = ["A=1", "B=2", "A=3", "HOME=", "C"].map(str::to_owned);
        let kept: Vec<Bytes> = ["B=2", "A=3", "C"].map(Bytes::from).to_vec();
        assert_eq!(environment(&env), kept);
    }

    #[test]
    fn of_names_with_one_hash_each_counts() {
        // FNV-1a of 32 bits makes 0x5e4d_aa9d of both.
        let env = ["costarring=1", "liquid=2", "costarring=3"].map(str::to_owned);
        let hash = |at: usize| named((&env[at], 0)).0;
        assert_eq!(hash(0), hash(1));
        let kept: Vec<Bytes> = ["liquid=2", "costarring=3"].map(Bytes::from).to_vec();
        assert_eq!(environment(&env), kept);
    }

    #[test]
    fn a_home_is_one_if_the_last_entry_of_that_name_has_a_value() {
        let of = |env: &[&str]| has_home(&env.iter().map(|&e| e.to_owned()).collect::<Vec<_>>());
        assert!(of(&["HOME=/a"]) && of(&["HOME=", "HOMES=", "HOME=/a", "A=1"]));
        assert!(!of(&[]) && !of(&["HOMES=/a"]) && !of(&["HOME=/a", "HOME="]));
        assert!(!of(&["HOME=/a", "HOME"]));
    }
}
