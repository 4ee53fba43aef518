//! `linux.resources.devices` as one eBPF program.
//!
//! cgroup v2 has no device files; a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` on the
//! cgroup is asked for each open(2) and mknod(2) of a device. Compiling is pure.
//!
//! The meaning: access is asked for in three parts (read, write, mknod), each is decided
//! by the last rule that names the device and that part, and all must be allowed. Where
//! no rule does, access is denied. After the config's rules come [`ALWAYS_ALLOWED`]:
//! containers have them with every runtime. That agrees with runc wherever runc accepts
//! the rules; it refuses a rule that makes a hole in a wildcard, here the hole is made,
//! and a denied write can't be had by opening for both.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::CgroupError;
use crate::spec::DeviceRule;
use crate::sys::bpf::{self, Insn};

/// Bits of the access that is asked for, as linux/bpf.h numbers them.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// Kinds of device, as linux/bpf.h numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any = 0,
    Block = 1,
    Char = 2,
}

/// A rule with everything checked; no number means any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

/// What every container may use, after its own rules: as runc has it, so that images
/// that count on it work. A path is given where a device of the config can take its place.
const ALWAYS_ALLOWED: [(&str, Rule); 11] = [
    ("", allowed(Kind::Char, None, None, MKNOD)),
    ("", allowed(Kind::Block, None, None, MKNOD)),
    ("/dev/null", allowed(Kind::Char, Some(1), Some(3), ALL)),
    ("/dev/random", allowed(Kind::Char, Some(1), Some(8), ALL)),
    ("/dev/full", allowed(Kind::Char, Some(1), Some(7), ALL)),
    ("/dev/tty", allowed(Kind::Char, Some(5), Some(0), ALL)),
    ("/dev/zero", allowed(Kind::Char, Some(1), Some(5), ALL)),
    ("/dev/urandom", allowed(Kind::Char, Some(1), Some(9), ALL)),
    // pts/*, then ptmx, then tun: the last for want of a way to ask for it in some engines.
    ("", allowed(Kind::Char, Some(136), None, ALL)),
    ("", allowed(Kind::Char, Some(5), Some(2), ALL)),
    ("", allowed(Kind::Char, Some(10), Some(200), ALL)),
];

const fn allowed(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    }
}

/// A compiled set of device rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceProgram {
    instructions: Vec<Insn>,
}

/// Compiles `linux.resources.devices`; None when they allow everything.
///
/// `device_paths` are the paths of `linux.devices`: a node there takes the place of the
/// usual one, and the usual one's rule is not added.
pub(crate) fn device_program<'a>(
    configured: &[DeviceRule],
    device_paths: impl IntoIterator<Item = &'a str>,
) -> Result<Option<DeviceProgram>, CgroupError> {
    let (default, rules) = all_rules(configured, device_paths)?;
    if default && rules.is_empty() {
        return Ok(None);
    }
    let instructions = compile(default, &rules);
    Ok(Some(DeviceProgram { instructions }))
}

/// The same for a cgroup that may have a program already: there is one also if all is allowed.
pub(crate) fn other_device_program(
    configured: &[DeviceRule],
) -> Result<DeviceProgram, CgroupError> {
    let (default, rules) = all_rules(configured, [])?;
    let instructions = compile(default, &rules);
    Ok(DeviceProgram { instructions })
}

/// The rules that count, and what is decided where there is none.
fn all_rules<'a>(
    configured: &[DeviceRule],
    device_paths: impl IntoIterator<Item = &'a str>,
) -> Result<(bool, Vec<Rule>), CgroupError> {
    let mut rules = Vec::new();
    for (index, rule) in configured.iter().enumerate() {
        rules.push(checked(index, rule)?);
    }
    let replaced: Vec<&str> = device_paths.into_iter().collect();
    let always = ALWAYS_ALLOWED.iter();
    let always = always.filter(|(path, _)| path.is_empty() || !replaced.contains(path));
    rules.extend(always.map(|(_, rule)| *rule));
    Ok(effective(rules))
}

/// Loads `program` and attaches it to the cgroup `dir`, beside those of others that are
/// there.
///
/// Without the privilege (rootless, nested) [`CgroupError::is_not_permitted`] is true.
pub(crate) fn attach(dir: BorrowedFd<'_>, program: &DeviceProgram) -> Result<(), CgroupError> {
    let loaded = bpf::load_device_program(&program.instructions).map_err(failed("load"))?;
    bpf::attach_device_program(dir, loaded.as_fd(), None).map_err(failed("attach"))
}

/// The same, in the place of what [`attach`] has attached before, if there is something: in
/// one step, so that at no moment all is allowed, or what both allow is denied. Of several,
/// which all have to agree, the others go afterwards.
pub(crate) fn replace(dir: BorrowedFd<'_>, program: &DeviceProgram) -> Result<(), CgroupError> {
    let loaded = bpf::load_device_program(&program.instructions).map_err(failed("load"))?;
    let own = bpf::own_device_programs(dir).map_err(failed("find"))?;
    let mut own = own.iter().map(AsFd::as_fd);
    bpf::attach_device_program(dir, loaded.as_fd(), own.next()).map_err(failed("attach"))?;
    own.try_for_each(|old| bpf::detach_device_program(dir, old).map_err(failed("detach")))
}

fn failed(what: &'static str) -> impl Fn(Errno) -> CgroupError {
    move |errno| CgroupError::DeviceProgram { what, errno }
}

fn checked(index: usize, rule: &DeviceRule) -> Result<Rule, CgroupError> {
    let field = |name: &str| format!("linux.resources.devices[{index}].{name}");
    let invalid = |name, why: String| CgroupError::Invalid {
        field: field(name),
        why,
    };
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => Kind::Any,
        Some("b") => Kind::Block,
        Some("c") => Kind::Char,
        Some(other) => {
            return Err(invalid(
                "type",
                format!("invalid cgroup device type {other:?}"),
            ));
        }
    };
    let number = |name, number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(n) => match u32::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(invalid(name, format!("{n} is not a device number"))),
        },
    };
    let mut access = 0;
    for letter in rule.access.as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => {
                return Err(invalid(
                    "access",
                    format!("unknown device access {letter:?}"),
                ));
            }
        };
    }
    if access == 0 {
        return Err(invalid("access", "cannot be empty".to_owned()));
    }
    Ok(Rule {
        allow: rule.allow,
        kind,
        major: number("major", rule.major)?,
        minor: number("minor", rule.minor)?,
        access,
    })
}

/// What is decided where no rule is left, and the rules that can change it.
fn effective(rules: Vec<Rule>) -> (bool, Vec<Rule>) {
    let is_for_all = |rule: &Rule| {
        rule.kind == Kind::Any && rule.major.is_none() && rule.minor.is_none() && rule.access == ALL
    };
    // A rule for everything makes those before it void.
    let (default, first) = match rules.iter().rposition(is_for_all) {
        Some(last) => (rules.get(last).is_some_and(|rule| rule.allow), last + 1),
        None => (false, 0),
    };
    let left = rules.into_iter().skip(first);
    (
        default,
        left.skip_while(|rule| rule.allow == default).collect(),
    )
}

/// Register numbers; `CONTEXT` holds the argument and serves as scratch afterwards.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Major and minor number in one, as [`device`] has them.
const DEVICE: u8 = 6;

/// Instruction codes, from linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61; // LDX | MEM | W
const AND: u8 = 0x54; // ALU | AND | K: 32 bits
const OR_REGISTER: u8 = 0x4c; // ALU | OR | X
const SHIFT_LEFT: u8 = 0x64; // ALU | LSH | K
const SHIFT_RIGHT: u8 = 0x74; // ALU | RSH | K
const MOVE: u8 = 0xb4; // ALU | MOV | K
const MOVE_REGISTER: u8 = 0xbc; // ALU | MOV | X
const JUMP_IF_EQUAL: u8 = 0x16; // JMP32 | JEQ | K
const JUMP_UNLESS_EQUAL: u8 = 0x56; // JMP32 | JNE | K
const EXIT: u8 = 0x95; // JMP | EXIT

/// Bits of a minor number; a major number has the other 12 of a `dev_t`. linux/kdev_t.h
const MINOR_BITS: u8 = 20;

/// Rules in one block, at most.
const GROUP: usize = 4096;

/// Both numbers in one word, as the kernel keeps them. None if no device can have them.
fn device(major: u32, minor: u32) -> Option<u32> {
    let is_one = major >> (32 - MINOR_BITS) == 0 && minor >> MINOR_BITS == 0;
    is_one.then_some(major << MINOR_BITS | minor)
}

/// The program: from the last rule to the first, each takes off the parts that it decides.
///
/// Rules for all access that decide the same about the same kind are one block, with one jump
/// for each: what the verifier costs goes by the jumps.
fn compile(default: bool, rules: &[Rule]) -> Vec<Insn> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, where
    // access_type is access << 16 | kind.
    let mut program = vec![
        Insn::new(LOAD_WORD, KIND, CONTEXT, 0, 0),
        Insn::new(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        Insn::new(AND, KIND, 0, 0, 0xffff),
        Insn::new(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        Insn::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        Insn::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        Insn::new(MOVE_REGISTER, DEVICE, MAJOR, 0, 0),
        Insn::new(SHIFT_LEFT, DEVICE, 0, 0, i32::from(MINOR_BITS)),
        Insn::new(OR_REGISTER, DEVICE, MINOR, 0, 0),
    ];
    let from_the_last: Vec<Rule> = rules
        .iter()
        .rev()
        .filter(|rule| rule.is_possible())
        .copied()
        .collect();
    for group in from_the_last.chunk_by(Rule::goes_with) {
        // A jump reaches 32,767 instructions.
        for group in group.chunks(GROUP) {
            program.extend(block(group));
        }
    }
    program.extend(answer(default));
    program
}

impl Rule {
    /// Whether a device can have the numbers.
    fn is_possible(&self) -> bool {
        match (self.major, self.minor) {
            (Some(major), Some(minor)) => device(major, minor).is_some(),
            _ => true,
        }
    }

    /// Whether one block can be for both.
    fn goes_with(&self, other: &Rule) -> bool {
        let same = self.allow == other.allow && self.kind == other.kind;
        same && self.access == ALL && other.access == ALL
    }

    /// The register that tells whether a device of the kind is meant, and what it then holds;
    /// None if all are.
    fn numbers(&self) -> Option<(u8, u32)> {
        match (self.major, self.minor) {
            (Some(major), Some(minor)) => device(major, minor).map(|number| (DEVICE, number)),
            (Some(major), None) => Some((MAJOR, major)),
            (None, Some(minor)) => Some((MINOR, minor)),
            (None, None) => None,
        }
    }
}

/// The instructions of rules that belong together; what matches none jumps behind them.
fn block(group: &[Rule]) -> Vec<Insn> {
    let Some(rule) = group.first().copied() else {
        return Vec::new();
    };
    let mut block = Vec::new();
    // The jumps' distances are set below.
    let jump =
        |code, register, operand: u32| Insn::new(code, register, 0, 0, operand.cast_signed());
    if rule.kind != Kind::Any {
        block.push(jump(JUMP_UNLESS_EQUAL, KIND, rule.kind as u32));
    }
    let numbers: Option<Vec<(u8, u32)>> = group.iter().map(Rule::numbers).collect();
    let mut matched = 0..0;
    if let Some((last, others)) = numbers.as_deref().and_then(<[_]>::split_last) {
        matched = block.len()..block.len() + others.len();
        block.extend(
            others
                .iter()
                .map(|(register, number)| jump(JUMP_IF_EQUAL, *register, *number)),
        );
        block.push(jump(JUMP_UNLESS_EQUAL, last.0, last.1));
    }
    match (rule.allow, rule.access) {
        (_, ALL) => {}
        (true, access) => {
            // Allowed parts need no other rule; when none is left the answer is clear.
            let left = i32::from(ALL & !access);
            block.push(Insn::new(AND, ACCESS, 0, 0, left));
            block.push(jump(JUMP_UNLESS_EQUAL, ACCESS, 0));
        }
        (false, access) => {
            // One denied part is enough.
            block.push(Insn::new(MOVE_REGISTER, CONTEXT, ACCESS, 0, 0));
            block.push(Insn::new(AND, CONTEXT, 0, 0, i32::from(access)));
            block.push(jump(JUMP_IF_EQUAL, CONTEXT, 0));
        }
    }
    let decided = block.len();
    block.extend(answer(rule.allow));
    let end = block.len();
    for (at, insn) in block.iter_mut().enumerate() {
        if matches!(insn.code, JUMP_IF_EQUAL | JUMP_UNLESS_EQUAL) {
            let target = if matched.contains(&at) { decided } else { end };
            insn.offset = i16::try_from(target - at - 1).unwrap_or(i16::MAX);
        }
    }
    block
}

fn answer(allow: bool) -> [Insn; 2] {
    [
        Insn::new(MOVE, ANSWER, 0, 0, i32::from(allow)),
        Insn::new(EXIT, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
#[path = "device_program_tests.rs"]
mod tests;
