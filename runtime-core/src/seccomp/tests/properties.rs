//! Made-up profiles: the program answers as the profile reads, and as `seccompiler`'s does.

use std::collections::BTreeMap;

use seccompiler::{
    SeccompAction as Action, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule as Rule, TargetArch,
};

use super::interpret::{self, Raw};
use super::plain::{self, Plain};
use super::{ALL, Architecture, compiled, grid};
use crate::seccomp::architecture;
use crate::seccomp::compile::Insn;
use crate::seccomp::tables::CALLS;
use crate::spec::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};

pub(super) fn raw(program: &[Insn]) -> Vec<Raw> {
    let raw = |insn: &Insn| (insn.code, insn.if_true, insn.if_false, insn.operand);
    program.iter().map(raw).collect()
}

/// Numbers without a pattern, the same ones each time (Marsaglia's xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

const ACTIONS: [SeccompAction; 9] = [
    SeccompAction::Notify,
    SeccompAction::Kill,
    SeccompAction::KillProcess,
    SeccompAction::KillThread,
    SeccompAction::Trap,
    SeccompAction::Errno,
    SeccompAction::Trace,
    SeccompAction::Allow,
    SeccompAction::Log,
];

const OPERATORS: [SeccompOperator; 7] = [
    SeccompOperator::NotEqual,
    SeccompOperator::Less,
    SeccompOperator::LessOrEqual,
    SeccompOperator::Equal,
    SeccompOperator::GreaterOrEqual,
    SeccompOperator::Greater,
    SeccompOperator::MaskedEqual,
];

const VALUES: [u64; 12] = [
    0,
    1,
    2,
    40,
    0xff,
    0x7e02_0000,
    0xffff_ffff,
    1 << 32,
    (1 << 32) + 2,
    0xff00_0000_00ff,
    u64::MAX - 1,
    u64::MAX,
];

/// Calls in many tables, of multiplexed kinds, of one architecture only, and of none.
const FAVOURITES: [&str; 14] = [
    "socket",
    "socketcall",
    "accept",
    "shmat",
    "semop",
    "ipc",
    "clone",
    "execve",
    "read",
    "set_tls",
    "uretprobe",
    "futex",
    "rt_sigaction",
    "no_such_call",
];

fn random_rule(random: &mut Random) -> SeccompRule {
    let mut names = Vec::new();
    for _ in 0..1 + random.below(8) {
        names.push(random.of(&FAVOURITES).to_owned());
        names.push(CALLS[random.below(CALLS.len())].0.to_owned());
    }
    let conditions = [0, 0, 1, 1, 2, 3][random.below(6)];
    if conditions == 0 && random.below(3) == 0 {
        let from = random.below(CALLS.len());
        let some = CALLS[from..].iter().take(random.below(200));
        names.extend(some.map(|(name, _)| (*name).to_owned()));
    }
    let args = (0..conditions).map(|_| SeccompArg {
        index: random.below(6) as u32,
        value: random.of(&VALUES),
        value_two: random.of(&VALUES),
        op: random.of(&OPERATORS),
    });
    let args = args.collect();
    let action = random.of(&ACTIONS);
    if action == SeccompAction::Notify {
        names.retain(|name| name != "write");
    }
    SeccompRule {
        names,
        action,
        errno_ret: random.of(&[None, Some(1), Some(38), Some(0)]),
        args,
    }
}

fn random_profile(random: &mut Random) -> Seccomp {
    const NAMES: [&str; 9] = [
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_RISCV64",
        "SCMP_ARCH_PPC64LE",
        "SCMP_ARCH_S390X",
        "SCMP_ARCH_MIPS",
    ];
    Seccomp {
        default_action: random.of(&ACTIONS[1..]),
        default_errno_ret: random.of(&[None, Some(1), Some(38)]),
        architectures: (0..random.below(5))
            .map(|_| random.of(&NAMES).to_owned())
            .collect(),
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: (0..random.below(7)).map(|_| random_rule(random)).collect(),
    }
}

/// Numbers where arguments matter: those that the profile names.
pub(super) fn named<'a>(profile: &'a Seccomp) -> impl Fn(Architecture, u32) -> bool + use<'a> {
    let mut numbers = Vec::new();
    for rule in &profile.syscalls {
        for name in rule
            .names
            .iter()
            .map(String::as_str)
            .chain(["socketcall", "ipc"])
        {
            let conditions = !rule.args.is_empty();
            let through = ["socketcall", "ipc"].contains(&name);
            if let Some(line) = architecture::numbers(name).filter(|_| conditions || through) {
                for architecture in ALL {
                    let number = architecture.column(line);
                    let first = architecture.first_number();
                    numbers.extend(number.map(|number| (architecture.token(), first + number)));
                }
            }
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    move |architecture, number| {
        numbers
            .binary_search(&(architecture.token(), number))
            .is_ok()
    }
}

fn assert_reads_as_written(profile: &Seccomp, native: Architecture) {
    let program = raw(&compiled(profile, native));
    interpret::check(&program);
    let read = Plain::new(profile, native);
    for call in grid(profile, named(profile)) {
        let (found, _) = interpret::run(&program, &call);
        let expected = plain::answer(&read, &call);
        assert_eq!(found, expected, "{call:x?}\n{profile:#?}");
    }
}

#[test]
fn a_program_answers_every_call_as_its_profile_reads() {
    let mut random = Random(0x5eed);
    for _ in 0..24 {
        let profile = random_profile(&mut random);
        let native = random.of(&[
            Architecture::X86_64,
            Architecture::Aarch64,
            Architecture::S390x,
        ]);
        assert_reads_as_written(&profile, native);
    }
}

#[test]
fn a_profile_like_dockers_answers_every_call_as_it_reads() {
    assert_reads_as_written(&super::docker_like(), Architecture::X86_64);
}

fn operator(op: SeccompOperator, value: u64) -> SeccompCmpOp {
    match op {
        SeccompOperator::NotEqual => SeccompCmpOp::Ne,
        SeccompOperator::Less => SeccompCmpOp::Lt,
        SeccompOperator::LessOrEqual => SeccompCmpOp::Le,
        SeccompOperator::Equal => SeccompCmpOp::Eq,
        SeccompOperator::GreaterOrEqual => SeccompCmpOp::Ge,
        SeccompOperator::Greater => SeccompCmpOp::Gt,
        SeccompOperator::MaskedEqual => SeccompCmpOp::MaskedEq(value),
    }
}

fn condition(arg: &SeccompArg) -> SeccompCondition {
    let masked = arg.op == SeccompOperator::MaskedEqual;
    let value = if masked {
        arg.value_two & arg.value
    } else {
        arg.value
    };
    let op = operator(arg.op, arg.value);
    SeccompCondition::new(arg.index as u8, SeccompCmpArgLen::Qword, op, value).unwrap()
}

/// The filter of `seccompiler` for rules with errno 7 and at most one condition.
fn seccompilers(profile: &Seccomp, native: Architecture, target: TargetArch) -> Vec<Raw> {
    let numbers = |rule: &SeccompRule| {
        let names = rule.names.iter();
        let lines = names.filter_map(|name| architecture::numbers(name));
        let numbers = lines.filter_map(|line| native.column(line));
        numbers.map(i64::from).collect::<Vec<_>>()
    };
    let mut rules: BTreeMap<i64, Vec<Rule>> = BTreeMap::new();
    for rule in profile.syscalls.iter().filter(|rule| !rule.args.is_empty()) {
        for number in numbers(rule) {
            let conditions = rule.args.iter().map(condition).collect();
            let entry = rules.entry(number).or_default();
            entry.push(Rule::new(conditions).unwrap());
        }
    }
    // To `seccompiler` an empty list is a rule without conditions.
    for rule in profile.syscalls.iter().filter(|rule| rule.args.is_empty()) {
        rules.extend(numbers(rule).into_iter().map(|number| (number, Vec::new())));
    }
    let filter = SeccompFilter::new(rules, Action::Allow, Action::Errno(7), target).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
}

/// One architecture, one action: all that `seccompiler` can say.
#[test]
fn seccompiler_gives_the_same_answers_where_it_can_express_the_profile() {
    let mut random = Random(77);
    for round in 0..15 {
        let (native, target) = [
            (Architecture::X86_64, TargetArch::x86_64),
            (Architecture::Aarch64, TargetArch::aarch64),
            (Architecture::Riscv64, TargetArch::riscv64),
        ][round % 3];
        let mut profile = random_profile(&mut random);
        profile.architectures.clear();
        // No range of newer calls, which is runc's idea.
        profile.default_action = SeccompAction::Allow;
        for rule in &mut profile.syscalls {
            (rule.action, rule.errno_ret) = (SeccompAction::Errno, Some(7));
            rule.args.truncate(1);
        }
        let theirs = seccompilers(&profile, native, target);
        let ours = raw(&compiled(&profile, native));
        for call in grid(&profile, named(&profile)) {
            // Other architectures and x32's numbers are not in it.
            if call.token == native.token() && call.number < super::X32_BIT {
                let answer = interpret::run(&ours, &call).0;
                let their = interpret::run(&theirs, &call).0;
                assert_eq!(answer, their, "{call:x?} {profile:#?}");
            }
        }
    }
}
