//! What a profile says about one call, found by reading the profile from top to bottom.

use super::interpret::Call;
use crate::seccomp::architecture::{Architecture, X32_BIT};
use crate::seccomp::tables::{CALLS, NONE};
use crate::spec::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};

const ENOSYS: u32 = 0x5_0000 + 38;
const KILL_PROCESS: u32 = 0x8000_0000;

fn value(action: SeccompAction, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(1);
    match action {
        SeccompAction::Kill | SeccompAction::KillThread => 0,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x3_0000,
        SeccompAction::Errno => 0x5_0000 + data,
        SeccompAction::Trace => 0x7ff0_0000 + data,
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
        SeccompAction::Notify => 0x7fc0_0000,
    }
}

/// The number of a name, or what it is called through: (number, mask and value of argument 0).
fn ways(name: &str, column: usize) -> Vec<(u32, Option<(u64, u64)>)> {
    let number = |name: &str| {
        let line = CALLS.iter().find(|(known, _)| *known == name);
        line.map(|(_, numbers)| numbers[column])
            .filter(|number| *number != NONE)
    };
    let mut ways: Vec<_> = number(name)
        .map(|number| (number, None))
        .into_iter()
        .collect();
    // x86, ppc64le and s390x; the lists are in the order of linux/net.h and linux/ipc.h.
    if [1, 6, 7].contains(&column) {
        let sockets = "socket bind connect listen accept getsockname getpeername socketpair send \
            recv sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg \
            sendmmsg";
        let ipc = "semop semget semctl semtimedop . . . . . . msgsnd msgrcv msgget msgctl . . . . . \
            . shmat shmdt shmget shmctl";
        for (call, list, mask) in [("socketcall", sockets, u64::MAX), ("ipc", ipc, 0xffff)] {
            let place = list.split_whitespace().position(|known| known == name);
            let place = place.map(|place| place as u64 + 1);
            ways.extend(place.map(|place| (number(call).unwrap(), Some((mask, place)))));
        }
    }
    ways
}

fn holds(arg: &SeccompArg, argument: u64, wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (left, right) = (cut(argument), cut(arg.value));
    match arg.op {
        SeccompOperator::NotEqual => left != right,
        SeccompOperator::Less => left < right,
        SeccompOperator::LessOrEqual => left <= right,
        SeccompOperator::Equal => left == right,
        SeccompOperator::GreaterOrEqual => left >= right,
        SeccompOperator::Greater => left > right,
        SeccompOperator::MaskedEqual => left & right == cut(arg.value_two) & right,
    }
}

/// A way to a call that a rule names: rule, number, and what argument 0 must be.
type Way = (usize, u32, Option<(u64, u64)>);

/// A profile with the numbers of its names, found once.
pub(super) struct Plain<'a> {
    profile: &'a Seccomp,
    native: Architecture,
    ways: Vec<Vec<Way>>,
}

impl<'a> Plain<'a> {
    pub(super) fn new(profile: &'a Seccomp, native: Architecture) -> Plain<'a> {
        let ways = |column: usize| {
            let mut all = Vec::new();
            for (index, rule) in profile.syscalls.iter().enumerate() {
                for name in &rule.names {
                    let found = ways(name, column).into_iter();
                    all.extend(found.map(|(number, through)| (index, number, through)));
                }
            }
            all
        };
        Plain {
            profile,
            native,
            ways: (0..8).map(ways).collect(),
        }
    }
}

/// Whether the conditions of a rule hold; one argument twice makes them alternatives.
fn matches(rule: &SeccompRule, call: &Call, wide: bool) -> bool {
    let mut indexes: Vec<u32> = rule.args.iter().map(|arg| arg.index).collect();
    indexes.sort_unstable();
    let twice = indexes.windows(2).any(|pair| pair[0] == pair[1]);
    let one = |arg: &SeccompArg| holds(arg, call.arguments[arg.index as usize], wide);
    if twice {
        rule.args.iter().any(one)
    } else {
        rule.args.iter().all(one)
    }
}

/// Which of the filter's architectures makes this call.
fn architecture(all: &[Architecture], call: &Call) -> Option<Architecture> {
    let of_token = |architecture: &&Architecture| architecture.token() == call.token;
    if call.token != Architecture::X86_64.token() {
        return all.iter().find(of_token).copied();
    }
    let wanted = match call.number {
        0..X32_BIT => Architecture::X86_64,
        _ if all.contains(&Architecture::X32) => Architecture::X32,
        _ => return None,
    };
    all.contains(&wanted).then_some(wanted)
}

/// Whether a number is above every one that the profile names, and none of the architecture's
/// own numbers.
fn is_newer(plain: &Plain<'_>, architecture: Architecture, number: u32, default: u32) -> bool {
    if [0x7fff_0000, 0x7ffc_0000].contains(&default) || default >> 16 == 0x7ff0 {
        return false;
    }
    let own = |number: u32| match architecture {
        Architecture::X32 => (512..=547).contains(&number),
        Architecture::Arm => number >= 0xf_0000,
        _ => false,
    };
    let counts = |(rule, number, through): &Way| {
        let rule = &plain.profile.syscalls[*rule];
        match through {
            None => !own(*number),
            // A way that no rule takes does not count as named.
            Some(_) => value(rule.action, rule.errno_ret) != default && reaches(rule),
        }
    };
    let ways = plain.ways[architecture as usize].iter();
    let newest = ways
        .filter(|way| counts(way))
        .map(|(_, number, _)| *number)
        .max();
    newest.is_some_and(|newest| number > newest) && !own(number)
}

/// Whether a rule is for the other way to a call, where arguments can't be seen.
fn reaches(rule: &SeccompRule) -> bool {
    let passing = matches!(rule.action, SeccompAction::Allow | SeccompAction::Log);
    rule.args.is_empty() || !passing
}

/// The answer to a call.
pub(super) fn answer(plain: &Plain<'_>, call: &Call) -> u32 {
    let profile = plain.profile;
    let default = value(profile.default_action, profile.default_errno_ret);
    let named = profile.architectures.iter();
    let mut all = vec![plain.native];
    all.extend(named.filter_map(|name| Architecture::named(name).unwrap()));
    let Some(architecture) = architecture(&all, call) else {
        let x86_64 = Architecture::X86_64;
        let is_x32 = call.token == x86_64.token() && all.contains(&x86_64);
        return match call.number {
            _ if !is_x32 => KILL_PROCESS,
            _ if is_newer(plain, x86_64, u32::MAX, default) => ENOSYS,
            u32::MAX => default,
            _ => KILL_PROCESS,
        };
    };
    let is_x32 = architecture == Architecture::X32;
    let number = call.number & !if is_x32 { X32_BIT } else { 0 };
    let wide = !is_x32 && !matches!(architecture, Architecture::X86 | Architecture::Arm);
    let argument = call.arguments[0] & if wide { u64::MAX } else { 0xffff_ffff };
    let mut first = None;
    for (rule, way, through) in &plain.ways[architecture as usize] {
        let rule = &profile.syscalls[*rule];
        let answer = value(rule.action, rule.errno_ret);
        if *way != number || answer == default {
            continue;
        }
        let holds = match through {
            Some((mask, value)) => reaches(rule) && argument & mask == *value,
            None if rule.args.is_empty() => return answer,
            None => matches(rule, call, wide),
        };
        if holds && first.is_none() {
            first = Some(answer);
        }
    }
    match first {
        Some(answer) => answer,
        None if is_newer(plain, architecture, number, default) => ENOSYS,
        None => default,
    }
}
