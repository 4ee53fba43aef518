//! libseccomp's programs against ours: every number on every architecture, and every argument
//! that a profile looks at.
//!
//! Where we differ on purpose, `explained` says how:
//! - calls newer than the profile get ENOSYS from us, as runc adds it to libseccomp's program;
//! - a call of a foreign architecture kills the process, not only the thread;
//! - libseccomp does not know the newest names;
//! - through `socketcall` and `ipc`, see [`super::super::multiplexed`].

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

use super::engines::{self, Caps};
use super::interpret::{self, Call, Raw};
use super::properties::{named, raw};
use super::{ALL, Architecture, Policy, X32_BIT, compile, docker_like, grid, profile, read};
use crate::seccomp::architecture::numbers;
use crate::spec::{Seccomp, SeccompAction};

const ENOSYS: u32 = 0x5_0026;
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;

#[derive(Deserialize)]
struct Theirs {
    program: Vec<Raw>,
    unknown: BTreeMap<String, Vec<String>>,
    micros: f64,
}

fn short(architecture: Architecture) -> String {
    let name = serde_json::to_value(architecture).unwrap();
    name.as_str().unwrap().to_owned()
}

/// Runs the Python program beside the profiles; without its library the test fails.
fn theirs(profile: &Seccomp, architectures: &[Architecture], runs: u32) -> Theirs {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seccomp/oracle.py");
    let names: Vec<String> = architectures.iter().map(|one| short(*one)).collect();
    let job = json!({ "architectures": names, "profile": profile, "runs": runs });
    let mut python = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("/usr/bin/python3 is there");
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(job.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "libseccomp's Python module is needed: scripts/setup.sh test"
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether this number belongs to a name that libseccomp does not know.
fn is_unknown(theirs: &Theirs, architecture: Architecture, number: u32) -> bool {
    let names = &theirs.unknown[&short(architecture)];
    names.iter().any(|name| {
        let number_of = numbers(name).and_then(|line| architecture.column(line));
        number_of.map(|own| architecture.first_number() + own) == Some(number)
    })
}

/// Ways in which we differ on purpose, see above and docs/differences.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    ForeignKillsTheProcess,
    NewerIsNotImplemented,
    LibseccompLacksTheName,
    MultiplexedArgumentsAreHidden,
}

fn explained(
    theirs: &Theirs,
    call: &Call,
    of: Architecture,
    default: u32,
    answers: [u32; 2],
) -> Option<Reason> {
    let through = of.multiplexes()
        && ["socketcall", "ipc"]
            .iter()
            .any(|name| numbers(name).and_then(|line| of.column(line)) == Some(call.number));
    match answers {
        [KILL_PROCESS, KILL_THREAD] => Some(Reason::ForeignKillsTheProcess),
        [ENOSYS, their] if their == default || their == KILL_THREAD => {
            Some(Reason::NewerIsNotImplemented)
        }
        _ if is_unknown(theirs, of, call.number) => Some(Reason::LibseccompLacksTheName),
        _ if through => Some(Reason::MultiplexedArgumentsAreHidden),
        _ => None,
    }
}

/// How many calls were answered differently, and why.
fn assert_same(
    name: &str,
    profile: &Seccomp,
    architectures: &[Architecture],
) -> BTreeMap<Reason, usize> {
    let theirs = theirs(profile, architectures, 1);
    let mut profile = profile.clone();
    profile.architectures = architectures
        .iter()
        .map(|one| format!("SCMP_ARCH_{}", short(*one).to_uppercase()))
        .collect();
    let policy = Policy::new(&profile, architectures[0]).unwrap();
    let ours = raw(&compile::compile(&policy).unwrap());
    interpret::check(&ours);
    let passing = [
        SeccompAction::Allow,
        SeccompAction::Log,
        SeccompAction::Trace,
    ];
    let passes = passing.contains(&profile.default_action);
    let mut compared = 0;
    let mut reasons = BTreeMap::new();
    for call in grid(&profile, named(&profile)) {
        let of = match architectures.iter().find(|one| one.token() == call.token) {
            Some(Architecture::X86_64)
                if call.number >= X32_BIT && architectures.contains(&Architecture::X32) =>
            {
                Architecture::X32
            }
            Some(other) => *other,
            None => architectures[0],
        };
        let answers = [&ours, &theirs.program].map(|program| interpret::run(program, &call).0);
        let [our, mut their] = answers;
        // 2.5.4 on a little-endian machine leaves some returns for s390x in its own order.
        let is_answer = |value: u32| {
            let actions = [0x3, 0x5, 0x7fc0, 0x7ff0, 0x7ffc, 0x7fff, 0x8000];
            value == 0 || actions.contains(&(value >> 16))
        };
        if of == Architecture::S390x && !is_answer(their) {
            their = their.swap_bytes();
        }
        if our == ENOSYS && their != ENOSYS {
            assert!(
                !passes,
                "{name}: {call:x?}: ENOSYS where the default lets calls pass"
            );
        }
        compared += 1;
        if our == their {
            continue;
        }
        let reason = explained(&theirs, &call, of, policy.default, [our, their]);
        let reason = reason.unwrap_or_else(|| {
            panic!("{name}: {architectures:?}: {call:x?}: {our:#x}, and libseccomp {their:#x}")
        });
        *reasons.entry(reason).or_insert(0) += 1;
    }
    assert!(compared > 5000, "{compared}");
    reasons
}

const GROUPS: [&[Architecture]; 6] = [
    &[Architecture::X86_64, Architecture::X86, Architecture::X32],
    &[Architecture::X86_64],
    &[Architecture::Aarch64, Architecture::Arm],
    &[Architecture::Riscv64],
    &[Architecture::Ppc64le],
    &[Architecture::S390x],
];

#[test]
fn libseccomp_gives_the_same_answers_for_a_profile_like_dockers() {
    for group in GROUPS {
        assert_same("docker-like", &docker_like(), group);
    }
}

/// What the engines really load, for the usual capabilities and for all.
#[test]
fn libseccomp_gives_the_same_answers_for_the_engines_profiles() {
    for engine in ["docker", "podman"] {
        for caps in [Caps::Usual, Caps::All] {
            for group in GROUPS {
                let Some(profile) = engines::profile(engine, group[0], caps) else {
                    return;
                };
                let reasons = assert_same(engine, &profile, group);
                eprintln!("{engine}, {caps:?}, {group:?}: {reasons:?}");
            }
        }
    }
}

#[test]
fn libseccomp_gives_the_same_answers_for_odd_profiles() {
    let Value::Object(odd) = read("odd.json") else {
        panic!("a list of profiles");
    };
    assert!(odd.len() >= 20, "{}", odd.len());
    for (name, value) in odd {
        for group in GROUPS {
            assert_same(&name, &profile(value.clone()), group);
        }
    }
}

/// Prints what docs/measured.md says: `cargo test --release -p corten-core seccomp_cost -- --nocapture`
#[test]
fn seccomp_costs_are_measured() {
    let mut lines = cost("like Docker's", &docker_like());
    for engine in ["docker", "podman"] {
        let found = engines::profile(engine, Architecture::X86_64, Caps::Usual);
        lines += &found.map_or(String::new(), |profile| cost(engine, &profile));
    }
    eprintln!("{lines}");
}

/// For x86_64, x86 and x32: instructions, executed per call, time.
fn cost(name: &str, profile: &Seccomp) -> String {
    let group = GROUPS[0];
    let mut profile = profile.clone();
    let names = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    profile.architectures = names.map(str::to_owned).to_vec();
    let theirs = theirs(&profile, group, 5);
    let ours = raw(&super::compiled(&profile, group[0]));
    let mut best = f64::MAX;
    for _ in 0..200 {
        let start = Instant::now();
        let policy = Policy::new(&profile, group[0]).unwrap();
        std::hint::black_box(policy.program().unwrap());
        best = best.min(start.elapsed().as_secs_f64() * 1e6);
    }
    let (mean, most) = executed(&ours, group);
    let (their_mean, their_most) = executed(&theirs.program, group);
    assert!(mean <= 12.0, "{name}: {mean}");
    let (len, their_len) = (ours.len(), theirs.program.len());
    format!(
        "{name}: corten: {len} instructions, {mean:.1} per call, {most} at most, {best:.0} us\n\
         {name}: libseccomp: {their_len} instructions, {their_mean:.1} per call, {their_most} at \
         most, {:.0} us\n",
        theirs.micros
    )
}

/// Mean and most of the instructions executed, over all calls of these architectures.
fn executed(program: &[Raw], group: &[Architecture]) -> (f64, usize) {
    let (mut calls, mut sum, mut most) = (0, 0, 0);
    for architecture in ALL.into_iter().filter(|one| group.contains(one)) {
        let lines = super::super::tables::CALLS.iter();
        for number in lines.filter_map(|(_, line)| architecture.column(line)) {
            let call = Call {
                token: architecture.token(),
                number: architecture.first_number() + number,
                arguments: [0; 6],
                big_endian: false,
            };
            let (_, executed) = interpret::run(program, &call);
            (calls, sum, most) = (calls + 1, sum + executed, most.max(executed));
        }
    }
    let mean = f64::from(u32::try_from(sum).unwrap()) / f64::from(calls);
    (mean, most)
}
