//! A profile as a [`Policy`]: numbers instead of names, for each architecture.
//!
//! The meaning is runc's: names that an architecture does not have are passed over; a rule with
//! the default action is no rule; conditions on one argument twice are alternatives; a rule
//! without conditions decides alone, and the first of several. Of the others the first in the
//! profile's order that matches decides.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, X32_BIT, line, numbers, numbers_at};
use super::multiplexed::{Through, through};
use super::{SeccompError, compile};
use crate::spec::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};
use crate::sys::errno;

/// `SECCOMP_RET_*` with its data, from linux/seccomp.h.
pub(super) mod ret {
    pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
    pub(crate) const KILL_THREAD: u32 = 0;
    pub(crate) const TRAP: u32 = 0x0003_0000;
    pub(crate) const ERRNO: u32 = 0x0005_0000;
    pub(crate) const TRACE: u32 = 0x7ff0_0000;
    pub(crate) const USER_NOTIF: u32 = 0x7fc0_0000;
    pub(crate) const LOG: u32 = 0x7ffc_0000;
    pub(crate) const ALLOW: u32 = 0x7fff_0000;
}

/// A call that is newer than the profile.
pub(super) const NOT_THERE: u32 = ret::ERRNO | errno::ENOSYS as u32;
/// A call of an architecture that the profile does not name.
pub(super) const FOREIGN: u32 = ret::KILL_PROCESS;

/// A profile, resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    /// What a call without a matching rule gets.
    pub(super) default: u32,
    /// The native architecture first.
    pub(super) architectures: Vec<Calls>,
    /// What in the profile has no effect, as far as that is worth saying.
    pub(crate) warnings: Vec<String>,
    default_action: SeccompAction,
    actions: Vec<SeccompAction>,
    /// The first rule with `SCMP_ACT_NOTIFY`.
    pub(crate) notifies: Option<usize>,
}

/// The rules for one architecture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Calls {
    pub(super) architecture: Architecture,
    /// Numbers in order, each with the last of its rules, exclusive: its first comes behind those
    /// of the number before.
    numbers: Vec<(u32, u32)>,
    /// What is tried in turn, number after number.
    rules: Vec<Rule>,
    /// First and last numbers of calls that are newer than the profile.
    pub(super) newer: Vec<(u32, u32)>,
}

/// What happens to a call under conditions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    /// `SECCOMP_RET_*`.
    pub(super) answer: u32,
    /// All must hold. Shared by all calls that the rule names.
    pub(super) conditions: Rc<[Condition]>,
    /// Index into `linux.seccomp.syscalls`.
    origin: usize,
}

/// A comparison with one argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) argument: u32,
    pub(super) operator: SeccompOperator,
    /// Bits that count.
    pub(super) mask: u64,
    pub(super) value: u64,
}

/// What a policy says about a call whose arguments need not be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The place in the profile, below `linux.seccomp`.
    pub(crate) field: String,
    /// What is done.
    pub(crate) action: SeccompAction,
    /// What the caller sees of it.
    pub(crate) effect: Effect,
}

/// What a caller sees of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Effect {
    /// The call is made.
    None,
    /// This errno.
    Errno(i32),
    /// Any errno, or none: the listener's choice.
    Any,
    /// It is killed by SIGSYS.
    Killed,
}

impl Effect {
    fn of(answer: u32) -> Effect {
        match answer & 0xffff_0000 {
            ret::ALLOW | ret::LOG => Effect::None,
            ret::ERRNO => Effect::Errno((answer & 0xffff) as i32),
            // Nobody traces it.
            ret::TRACE => Effect::Errno(errno::ENOSYS),
            ret::USER_NOTIF => Effect::Any,
            _ => Effect::Killed,
        }
    }
}

impl Condition {
    fn new(arg: &SeccompArg) -> Condition {
        let (mask, value) = match arg.op {
            // libseccomp too compares only the bits under the mask.
            SeccompOperator::MaskedEqual => (arg.value, arg.value_two & arg.value),
            _ => (u64::MAX, arg.value),
        };
        Condition {
            argument: arg.index,
            operator: arg.op,
            mask,
            value,
        }
    }

    fn narrow(self) -> Condition {
        let low = u64::from(u32::MAX);
        Condition {
            mask: self.mask & low,
            value: self.value & low,
            ..self
        }
    }

    fn holds(&self, argument: u64) -> bool {
        let argument = argument & self.mask;
        match self.operator {
            SeccompOperator::NotEqual => argument != self.value,
            SeccompOperator::Less => argument < self.value,
            SeccompOperator::LessOrEqual => argument <= self.value,
            SeccompOperator::Equal | SeccompOperator::MaskedEqual => argument == self.value,
            SeccompOperator::GreaterOrEqual => argument >= self.value,
            SeccompOperator::Greater => argument > self.value,
        }
    }
}

impl Policy {
    /// Resolves a profile for a kernel of this architecture, which is filtered in any case.
    pub(crate) fn new(profile: &Seccomp, native: Architecture) -> Result<Policy, SeccompError> {
        let default = default_answer(profile)?;
        let mut warnings = Vec::new();
        let mut rules = Vec::new();
        for (index, rule) in profile.syscalls.iter().enumerate() {
            let answer = rule_answer(index, rule, &mut warnings)?;
            for conditions in alternatives(index, rule)? {
                rules.push(Rule {
                    answer,
                    conditions: conditions.into(),
                    origin: index,
                });
            }
        }
        let named: Vec<Vec<usize>> = profile.syscalls.iter().map(named).collect();
        let mut architectures = Vec::new();
        for architecture in architectures_of(profile, native, &mut warnings)? {
            architectures.push(calls(&named, architecture, &rules, default));
        }
        Ok(Policy {
            default,
            architectures,
            warnings,
            default_action: profile.default_action,
            actions: profile.syscalls.iter().map(|rule| rule.action).collect(),
            notifies: profile
                .syscalls
                .iter()
                .position(|rule| rule.action == SeccompAction::Notify),
        })
    }

    /// The program, as the kernel takes it: two words per instruction.
    pub(crate) fn program(&self) -> Result<Vec<u32>, SeccompError> {
        let program = compile::compile(self)?;
        Ok(program.iter().flat_map(|insn| insn.words()).collect())
    }

    /// What may happen to a call of the native architecture. Arguments that are `None` can be
    /// anything.
    pub(crate) fn decide(&self, call: &str, arguments: &[Option<u64>]) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let default = Decision {
            field: "defaultAction".to_owned(),
            action: self.default_action,
            effect: Effect::of(self.default),
        };
        let Some(calls) = self.architectures.first() else {
            return vec![default];
        };
        let number = numbers(call).and_then(|line| calls.architecture.column(line));
        for rule in number.map_or(&[][..], |number| calls.of(number)) {
            let known = rule.conditions.iter().map(|condition| {
                let argument = arguments.get(condition.argument as usize);
                argument.copied().flatten().map(|arg| condition.holds(arg))
            });
            let known: Vec<Option<bool>> = known.collect();
            if known.contains(&Some(false)) {
                continue;
            }
            decisions.push(Decision {
                field: format!("syscalls[{}]", rule.origin),
                action: self
                    .actions
                    .get(rule.origin)
                    .copied()
                    .unwrap_or(default.action),
                effect: Effect::of(rule.answer),
            });
            if !known.contains(&None) {
                return decisions;
            }
        }
        decisions.push(default);
        decisions
    }
}

/// Calls of the C library before a program's own first one.
const BEGINNING: [&str; 12] = [
    "brk",
    "mmap",
    "arch_prctl",
    "set_tid_address",
    "openat",
    "read",
    "close",
    "mprotect",
    "pread64",
    "newfstatat",
    "fstat",
    "exit_group",
];

/// Calls of which a program needs one of each two.
const ALTERNATIVES: [[&str; 2]; 2] = [["brk", "mmap"], ["exit", "exit_group"]];

impl Policy {
    /// Why a process of this filter may have been killed by SIGSYS: the places in the profile,
    /// with calls that nearly every program makes, if one of those may be it. None if the
    /// profile kills for nothing.
    pub(crate) fn killers(&self) -> Option<String> {
        let kills = |decision: &Decision| decision.effect == Effect::Killed;
        let mut found: Vec<(Decision, Vec<&str>)> = Vec::new();
        for call in BEGINNING.into_iter().filter(|call| self.has(call)) {
            for decision in self.decide(call, &[]).into_iter().filter(kills) {
                match found.iter_mut().find(|(known, _)| *known == decision) {
                    Some((_, calls)) => calls.push(call),
                    None => found.push((decision, vec![call])),
                }
            }
        }
        let text = |(decision, calls): (Decision, Vec<&str>)| {
            let Decision { field, action, .. } = decision;
            let (action, calls) = (action.name(), calls.join(", "));
            format!("linux.seccomp.{field}: {action} for {calls}")
        };
        let mut texts: Vec<String> = found.into_iter().map(text).collect();
        if texts.is_empty() {
            // In turn as they stand in the profile; the first says enough.
            texts.extend(self.killing_places().take(1));
        }
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    fn killing_places(&self) -> impl Iterator<Item = String> {
        let kills = |action: SeccompAction| {
            use SeccompAction::{Kill, KillProcess, KillThread, Trap};
            matches!(action, Kill | KillProcess | KillThread | Trap)
        };
        let rules = self.actions.iter().enumerate();
        let rules = rules.map(|(index, action)| (format!("syscalls[{index}]"), *action));
        let default = ("defaultAction".to_owned(), self.default_action);
        let killing = rules
            .chain([default])
            .filter(move |(_, action)| kills(*action));
        killing.map(|(field, action)| format!("linux.seccomp.{field}: {}", action.name()))
    }

    /// What kills whatever program there is, in words.
    pub(crate) fn kills_all(&self) -> Option<String> {
        let killed = |call: &str| match self.decide(call, &[]).as_slice() {
            [only] if only.effect == Effect::Killed => Some(only.clone()),
            _ => None,
        };
        let found = ALTERNATIVES.iter().find_map(|[one, other]| {
            killed(other)?;
            Some((killed(one)?, one, other))
        });
        found.map(|(decision, one, other)| {
            let Decision { field, action, .. } = decision;
            let action = action.name();
            format!("linux.seccomp.{field}: {action} for {one} and {other}: no program can run")
        })
    }

    /// Whether the native architecture has this call.
    fn has(&self, call: &str) -> bool {
        let native = self.architectures.first().map(|calls| calls.architecture);
        let line = numbers(call);
        native.is_some_and(|native| line.and_then(|line| native.column(line)).is_some())
    }
}

impl Calls {
    /// The rules for a number.
    pub(super) fn of(&self, number: u32) -> &[Rule] {
        let found = self
            .numbers
            .binary_search_by_key(&number, |(number, _)| *number);
        found.map_or(&[], |index| self.rules_at(index))
    }

    /// Numbers in order, each with its rules.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &[Rule])> {
        let numbers = self.numbers.iter().enumerate();
        numbers.map(|(index, (number, _))| (*number, self.rules_at(index)))
    }

    fn rules_at(&self, index: usize) -> &[Rule] {
        let before = index
            .checked_sub(1)
            .and_then(|before| self.numbers.get(before));
        let from = before.map_or(0, |(_, end)| *end as usize);
        let end = self
            .numbers
            .get(index)
            .map_or(from, |(_, end)| *end as usize);
        self.rules.get(from..end).unwrap_or_default()
    }
}

/// The lines of a rule's names in the table, looked up once for all architectures.
fn named(rule: &SeccompRule) -> Vec<usize> {
    let mut near = 0;
    let look_up = |name: &String| {
        let line = line(name, near)?;
        near = line + 1;
        Some(line)
    };
    rule.names.iter().filter_map(look_up).collect()
}

/// Rules for numbers, in the order in which they are found.
#[derive(Default)]
struct Found {
    /// Those that a call may have.
    rules: Vec<Rule>,
    /// A number, and the place of one of them.
    calls: Vec<(u32, u32)>,
}

impl Found {
    fn add(&mut self, number: u32, rule: Rule) {
        self.calls.push((number, self.rules.len() as u32));
        self.rules.push(rule);
    }
}

/// All rules of one architecture, by number. `named`: the lines of each rule of the profile.
fn calls(named: &[Vec<usize>], architecture: Architecture, rules: &[Rule], default: u32) -> Calls {
    let mut found = Found::default();
    let mut newest = None;
    let first = architecture.first_number();
    let own_from = architecture.own_numbers().map_or(u32::MAX, |(own, _)| own);
    for (index, names) in named.iter().enumerate() {
        let from = rules.partition_point(|rule| rule.origin < index);
        let to = rules.partition_point(|rule| rule.origin <= index);
        let own = rules.get(from..to).unwrap_or(&[]);
        let is_default = own.first().is_some_and(|rule| rule.answer == default);
        let place = found.rules.len() as u32;
        let places = place..place + own.len() as u32;
        if !is_default {
            let adapted = own.iter().map(|rule| adapt(rule, architecture));
            found.rules.extend(adapted);
        }
        for line in names {
            let number = numbers_at(*line).and_then(|line| architecture.column(line));
            if let Some(number) = number {
                if number < own_from {
                    newest = newest.max(Some(number));
                }
                if !is_default {
                    let places = places.clone().map(|place| (first + number, place));
                    found.calls.extend(places);
                }
            }
            if architecture.multiplexes()
                && !is_default
                && let Some(way) = through(*line)
                && let Some((number, rule)) = multiplexed(&way, own, architecture)
            {
                newest = newest.max(Some(number));
                found.add(number, rule);
            }
        }
    }
    let mut calls = Calls {
        architecture,
        numbers: Vec::with_capacity(found.calls.len()),
        rules: Vec::with_capacity(found.calls.len()),
        newer: newest.map_or(Vec::new(), |newest| newer(architecture, newest, default)),
    };
    by_number(found, &mut calls);
    calls
}

fn adapt(rule: &Rule, architecture: Architecture) -> Rule {
    let mut rule = rule.clone();
    if !architecture.is_wide() && !rule.conditions.is_empty() {
        rule.conditions = rule.conditions.iter().map(|one| one.narrow()).collect();
    }
    rule
}

/// The rules for the other way to a call. Its arguments lie behind a pointer there and can't be
/// seen: a rule that lets some of the calls pass lets none, any other is for all of them.
fn multiplexed(way: &Through, rules: &[Rule], architecture: Architecture) -> Option<(u32, Rule)> {
    let number = numbers(way.call).and_then(|line| architecture.column(line))?;
    let condition = Condition {
        argument: 0,
        operator: SeccompOperator::MaskedEqual,
        mask: way.mask,
        value: way.value,
    };
    let passes = |rule: &&Rule| rule.conditions.is_empty() || !is_passing(rule.answer);
    let rule = rules.iter().find(passes)?;
    let rule = Rule {
        conditions: Rc::new([condition]),
        ..rule.clone()
    };
    Some((number, adapt(&rule, architecture)))
}

/// Groups by number. A rule without conditions ends a group, and is all of it.
fn by_number(found: Found, calls: &mut Calls) {
    let numbers = found.calls.iter().zip(0_u32..);
    // Rules for one number stay in the profile's order.
    let mut order: Vec<u64> = numbers
        .map(|((number, _), turn)| u64::from(*number) << 32 | u64::from(turn))
        .collect();
    order.sort_unstable();
    let mut decided = false;
    for key in order {
        let place = found.calls.get(key as u32 as usize);
        let Some((number, rule)) =
            place.and_then(|(number, at)| Some((*number, found.rules.get(*at as usize)?)))
        else {
            continue;
        };
        let start = match calls.numbers.last() {
            Some((last, _)) if *last == number => {
                if decided {
                    continue;
                }
                calls.numbers.pop();
                calls.numbers.last().map_or(0, |(_, end)| *end as usize)
            }
            _ => calls.rules.len(),
        };
        decided = rule.conditions.is_empty();
        if decided {
            calls.rules.truncate(start);
        }
        calls.rules.push(rule.clone());
        calls.numbers.push((number, calls.rules.len() as u32));
    }
}

/// Ranges of calls that are newer than every one that the profile names. A program that tries
/// one falls back on an older one if it hears ENOSYS, and gives up if it hears EPERM.
fn newer(architecture: Architecture, newest: u32, default: u32) -> Vec<(u32, u32)> {
    if is_passing(default) || default & 0xffff_0000 == ret::TRACE {
        return Vec::new();
    }
    let first = architecture.first_number();
    let last = match architecture {
        Architecture::X86_64 => X32_BIT - 1,
        Architecture::X32 => u32::MAX - X32_BIT,
        _ => u32::MAX,
    };
    let ranges = match architecture.own_numbers() {
        None => vec![(newest + 1, last)],
        Some((own, end)) if end >= last => vec![(newest + 1, own - 1)],
        Some((own, end)) => vec![(newest + 1, own - 1), (end + 1, last)],
    };
    let ranges = ranges.into_iter().filter(|(from, to)| from <= to);
    ranges
        .map(|(from, to)| (first + from, first + to))
        .collect()
}

/// The native architecture, then those of the profile, each once.
fn architectures_of(
    profile: &Seccomp,
    native: Architecture,
    warnings: &mut Vec<String>,
) -> Result<Vec<Architecture>, SeccompError> {
    let mut all = vec![native];
    for (index, name) in profile.architectures.iter().enumerate() {
        match Architecture::named(name) {
            Some(Some(architecture)) if all.contains(&architecture) => {}
            Some(Some(architecture)) => all.push(architecture),
            Some(None) => warnings.push(format!(
                "linux.seccomp.architectures[{index}]: {name}: left out: no such system calls here"
            )),
            None => {
                let name = name.clone();
                return Err(SeccompError::Architecture { index, name });
            }
        }
    }
    Ok(all)
}

/// The conditions of a rule; several lists of them are alternatives.
fn alternatives(rule: usize, of: &SeccompRule) -> Result<Vec<Vec<Condition>>, SeccompError> {
    let mut seen = [false; 6];
    let mut repeated = false;
    for (arg, SeccompArg { index, .. }) in of.args.iter().enumerate() {
        let Some(seen) = seen.get_mut(*index as usize) else {
            let value = *index;
            return Err(SeccompError::Argument { rule, arg, value });
        };
        repeated |= std::mem::replace(seen, true);
    }
    let conditions: Vec<Condition> = of.args.iter().map(Condition::new).collect();
    Ok(if repeated {
        conditions.into_iter().map(|one| vec![one]).collect()
    } else {
        vec![conditions]
    })
}

fn default_answer(profile: &Seccomp) -> Result<u32, SeccompError> {
    if profile.default_action == SeccompAction::Notify {
        // That would be for write(2) too, see below.
        return Err(SeccompError::NotifyDefault);
    }
    answer(profile.default_action, profile.default_errno_ret, || {
        "defaultErrnoRet".to_owned()
    })
}

fn rule_answer(
    index: usize,
    rule: &SeccompRule,
    warnings: &mut Vec<String>,
) -> Result<u32, SeccompError> {
    // It is by write(2) that the listener gets out of the container: nobody could answer.
    let writes = rule.names.iter().any(|name| name == "write");
    if rule.action == SeccompAction::Notify && writes {
        return Err(SeccompError::NotifyWrite { index });
    }
    let takes = matches!(rule.action, SeccompAction::Errno | SeccompAction::Trace);
    if rule.errno_ret.is_some() && !takes {
        warnings.push(format!(
            "linux.seccomp.syscalls[{index}].errnoRet: has no effect with {}",
            rule.action.name()
        ));
    }
    answer(rule.action, rule.errno_ret, || {
        format!("syscalls[{index}].errnoRet")
    })
}

/// `SECCOMP_RET_*` with its data; the errno is EPERM where none is given.
fn answer(
    action: SeccompAction,
    errno_ret: Option<u32>,
    field: impl Fn() -> String,
) -> Result<u32, SeccompError> {
    let data = || {
        let value = errno_ret.unwrap_or(errno::EPERM as u32);
        u16::try_from(value).map(u32::from).map_err(|_| {
            let field = field();
            SeccompError::Errno { field, value }
        })
    };
    Ok(match action {
        SeccompAction::Kill | SeccompAction::KillThread => ret::KILL_THREAD,
        SeccompAction::KillProcess => ret::KILL_PROCESS,
        SeccompAction::Trap => ret::TRAP,
        SeccompAction::Errno => ret::ERRNO | data()?,
        SeccompAction::Trace => ret::TRACE | data()?,
        SeccompAction::Log => ret::LOG,
        SeccompAction::Allow => ret::ALLOW,
        SeccompAction::Notify => ret::USER_NOTIF,
    })
}

/// Whether the call is made.
fn is_passing(answer: u32) -> bool {
    answer == ret::ALLOW || answer == ret::LOG
}
