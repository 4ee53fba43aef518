//! Checks of `process`: program, environment, ids, limits.
//!
//! Ids against the user namespace's maps are checked in `idmap`.

use super::super::error::quoted;
use super::super::{Process, SpecError, User};
use super::{in_range, invalid, missing, scheduling};

pub(super) fn check(found: &mut Vec<SpecError>, process: &Process) {
    program(found, process);
    for (index, variable) in process.env.iter().enumerate() {
        environment(found, index, variable);
    }
    ids(found, &process.user);
    rlimits(found, process);
    if let Some(size) = &process.console_size {
        // struct winsize of TIOCSWINSZ has 16 bits for each.
        let max = u64::from(u16::MAX);
        found.extend(
            [("height", size.height), ("width", size.width)]
                .into_iter()
                .filter_map(|(name, n)| {
                    in_range(
                        format!("process.consoleSize.{name}"),
                        n,
                        0..=max,
                        "0 to 65535",
                    )
                    .err()
                }),
        );
    }
    if let Some(scheduler) = &process.scheduler {
        scheduling::scheduler(found, scheduler);
    }
    if let Some(io) = &process.io_priority {
        scheduling::io_priority(found, io);
    }
    if let Some(affinity) = &process.exec_cpu_affinity {
        scheduling::affinity(found, affinity);
    }
    if let Some(score) = process.oom_score_adj {
        let path = "process.oomScoreAdj";
        found.extend(in_range(path, score, -1000..=1000, "-1000 to 1000").err());
    }
}

fn program(found: &mut Vec<SpecError>, process: &Process) {
    match process.args.first() {
        None => found.push(missing("process.args")),
        Some(program) if program.is_empty() => found.push(missing("process.args[0]")),
        Some(_) => {}
    }
    if process.cwd.is_empty() {
        found.push(missing("process.cwd"));
    } else if !process.cwd.starts_with('/') {
        let (path, value) = ("process.cwd".to_owned(), process.cwd.clone());
        found.push(SpecError::NotAbsolute { path, value });
    }
}

fn environment(found: &mut Vec<SpecError>, index: usize, variable: &str) {
    let cause = match variable.find('=') {
        None => "missing '='",
        Some(0) => "name cannot be empty",
        Some(_) => return,
    };
    let cause = format!("invalid environment variable {}: {cause}", quoted(variable));
    found.push(invalid(format!("process.env[{index}]"), cause));
}

/// `NGROUPS_MAX`, the most that setgroups(2) takes.
const GROUPS_MAX: usize = 65536;

fn ids(found: &mut Vec<SpecError>, user: &User) {
    // To setresuid(2) and its kin the last number means "leave it as it is", which is root here.
    let mut id = |path: String, id: u32| {
        found.extend(in_range(path, id, 0..=u32::MAX - 1, "0 to 4294967294").err());
    };
    id("process.user.uid".to_owned(), user.uid);
    id("process.user.gid".to_owned(), user.gid);
    for (index, gid) in user.additional_gids.iter().enumerate() {
        id(format!("process.user.additionalGids[{index}]"), *gid);
    }
    let groups = user.additional_gids.len();
    if groups > GROUPS_MAX {
        let cause = format!("{groups} groups, the kernel takes {GROUPS_MAX}");
        found.push(invalid("process.user.additionalGids", cause));
    }
    let umask = user.umask.unwrap_or_default();
    found.extend(
        in_range(
            "process.user.umask",
            umask,
            0..=0o777,
            "0 to 511 (octal 777)",
        )
        .err(),
    );
}

fn rlimits(found: &mut Vec<SpecError>, process: &Process) {
    for (index, limit) in process.rlimits.iter().enumerate() {
        let path = format!("process.rlimits[{index}]");
        if limit.resource().is_none() {
            found.push(SpecError::Unknown {
                path: format!("{path}.type"),
                value: limit.kind.clone(),
                expected: "a name of getrlimit(2) as RLIMIT_NOFILE",
            });
        }
        let mut before = process.rlimits.iter().take(index);
        if let Some(first) = before.position(|other| other.kind == limit.kind) {
            found.push(SpecError::Duplicate {
                path: path.clone(),
                what: "rlimit type",
                value: limit.kind.clone(),
                first: format!("process.rlimits[{first}]"),
            });
        }
        if limit.soft > limit.hard {
            let (kind, soft, hard) = (limit.kind.clone(), limit.soft, limit.hard);
            found.push(SpecError::SoftAboveHard {
                path,
                kind,
                soft,
                hard,
            });
        }
    }
}

/// One line that names the capabilities nobody knows; they can't be given, which is no reason to
/// refuse a container made for a newer kernel.
pub(super) fn unknown_capabilities(process: &Process) -> Option<String> {
    let mut unknown: Vec<&str> = Vec::new();
    for (_, set) in process
        .capabilities
        .iter()
        .flat_map(|capabilities| capabilities.sets())
    {
        for name in set.iter().map(String::as_str) {
            if name.parse::<caps::Capability>().is_err() && !unknown.contains(&name) {
                unknown.push(name);
            }
        }
    }
    let names: Vec<String> = unknown.into_iter().map(quoted).collect();
    let line = || {
        format!(
            "process.capabilities: ignoring unknown {}",
            names.join(", ")
        )
    };
    (!names.is_empty()).then(line)
}
