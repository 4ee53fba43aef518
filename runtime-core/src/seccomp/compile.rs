//! A [`Policy`] as a classic BPF program, see bpf(4) of FreeBSD and seccomp(2).
//!
//! For each architecture the line of all 32-bit numbers is cut into segments with one verdict
//! each; equal neighbours are one segment, and a balanced tree of comparisons finds the segment
//! of a number. Jumps only go forwards, so the program is built from its end: what is jumped to
//! is already there, and equal ends are shared.

use super::SeccompError;
use super::architecture::{Architecture, X32_BIT};
use super::profile::{Calls, Condition, FOREIGN, NOT_THERE, Policy, Rule};
use crate::spec::SeccompOperator;

/// BPF_MAXINSNS of linux/bpf_common.h.
pub(super) const LONGEST: usize = 4096;

/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const TOKEN: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Instruction codes, from linux/bpf_common.h.
pub(super) const LOAD: u16 = 0x20; // LD | W | ABS
pub(super) const AND: u16 = 0x54; // ALU | AND | K
pub(super) const JUMP: u16 = 0x05; // JMP | JA
pub(super) const JUMP_EQUAL: u16 = 0x15; // JMP | JEQ | K
pub(super) const JUMP_GREATER: u16 = 0x25; // JMP | JGT | K
pub(super) const JUMP_AT_LEAST: u16 = 0x35; // JMP | JGE | K
pub(super) const RETURN: u16 = 0x06; // RET | K

/// struct sock_filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Insn {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) operand: u32,
}

impl Insn {
    /// As it lies in memory.
    pub(super) fn words(self) -> [u32; 2] {
        let [a, b] = self.code.to_ne_bytes();
        let head = u32::from_ne_bytes([a, b, self.if_true, self.if_false]);
        [head, self.operand]
    }
}

/// The verdict on a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict<'a> {
    /// Whatever the arguments are.
    Always(u32),
    /// The first of these rules that matches, else the default.
    Test(Tests<'a>),
}

/// Rules, and how arguments are read.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tests<'a> {
    rules: &'a [Rule],
    wide: bool,
    big_endian: bool,
}

/// Numbers from here to the next segment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment<'a> {
    first: u32,
    verdict: Verdict<'a>,
}

/// Compiles a policy.
pub(super) fn compile(policy: &Policy) -> Result<Vec<Insn>, SeccompError> {
    let mut program = Backwards::default();
    let mut tokens: Vec<(u32, Vec<Segment<'_>>)> = Vec::new();
    for calls in &policy.architectures {
        let token = calls.architecture.token();
        if !tokens.iter().any(|(known, _)| *known == token) {
            tokens.push((token, segments(policy, token)));
        }
    }
    // The native architecture is asked for first and lies nearest.
    let mut entries = Vec::new();
    for (token, segments) in tokens.iter().rev() {
        let tree = program.tree(segments, policy.default);
        entries.push((*token, program.load(NUMBER, tree)));
    }
    let mut next = program.end(FOREIGN);
    for (token, entry) in entries {
        next = program.branch(JUMP_EQUAL, token, entry, next);
    }
    program.load(TOKEN, next);
    program.finish()
}

/// All numbers under one token: x86_64's and x32's lie on one line.
fn segments(policy: &Policy, token: u32) -> Vec<Segment<'_>> {
    let mut line = Line::default();
    let find = |architecture| {
        let mut all = policy.architectures.iter();
        all.find(move |calls| calls.architecture == architecture)
    };
    if token != Architecture::X86_64.token() {
        let mut all = policy.architectures.iter();
        if let Some(calls) = all.find(|calls| calls.architecture.token() == token) {
            line.add(calls, policy.default);
        }
        return line.finish();
    }
    let x86_64 = find(Architecture::X86_64);
    match x86_64 {
        Some(calls) => line.add(calls, policy.default),
        None => line.push(0, Verdict::Always(FOREIGN)),
    }
    match find(Architecture::X32) {
        Some(calls) => line.add(calls, policy.default),
        // To x86_64 they are newer than anything.
        None if x86_64.is_some_and(|calls| !calls.newer.is_empty()) => {
            line.push(X32_BIT, Verdict::Always(NOT_THERE));
        }
        None => {
            line.push(X32_BIT, Verdict::Always(FOREIGN));
            // What a tracer makes of a call that is not to be made.
            line.push(u32::MAX, Verdict::Always(policy.default));
        }
    }
    line.finish()
}

/// Segments in order, no two neighbours equal.
#[derive(Default)]
struct Line<'a> {
    segments: Vec<Segment<'a>>,
    /// Where the last segment ends if nothing begins there, and what comes behind it then.
    gap: Option<(u32, Verdict<'a>)>,
}

impl<'a> Line<'a> {
    /// The numbers from `first` on.
    fn push(&mut self, first: u32, verdict: Verdict<'a>) {
        self.close_gap(first);
        // Given twice for one number, the later one counts.
        self.segments.pop_if(|last| last.first == first);
        self.append(first, verdict);
    }

    /// The numbers from `first` to `last`, and `behind` them something else.
    fn range(&mut self, first: u32, last: u32, verdict: Verdict<'a>, behind: Verdict<'a>) {
        self.push(first, verdict);
        // Most calls that a profile names have neighbours that it names too.
        self.gap = last.checked_add(1).map(|after| (after, behind));
    }

    fn close_gap(&mut self, first: u32) {
        if let Some((from, verdict)) = self.gap.take()
            && from < first
        {
            self.append(from, verdict);
        }
    }

    fn append(&mut self, first: u32, verdict: Verdict<'a>) {
        let last = self.segments.last();
        if last.is_none_or(|last| last.verdict != verdict) {
            self.segments.push(Segment { first, verdict });
        }
    }

    fn finish(mut self) -> Vec<Segment<'a>> {
        if let Some((from, verdict)) = self.gap.take() {
            self.append(from, verdict);
        }
        self.segments
    }

    /// The numbers of one architecture.
    fn add(&mut self, calls: &'a Calls, default: u32) {
        let tests = |rules| Tests {
            rules,
            wide: calls.architecture.is_wide(),
            big_endian: calls.architecture.is_big_endian(),
        };
        let default = Verdict::Always(default);
        self.push(calls.architecture.first_number(), default);
        let mut newer = calls.newer.iter().peekable();
        for (number, rules) in calls.all() {
            while let Some((from, to)) = newer.next_if(|(from, _)| *from < number) {
                self.range(*from, *to, Verdict::Always(NOT_THERE), default);
            }
            let verdict = match rules {
                [only] if only.conditions.is_empty() => Verdict::Always(only.answer),
                rules => Verdict::Test(tests(rules)),
            };
            self.range(number, number, verdict, default);
        }
        for (from, to) in newer {
            self.range(*from, *to, Verdict::Always(NOT_THERE), default);
        }
    }
}

/// A program from its end: an instruction's place is how many come behind it.
#[derive(Default)]
struct Backwards<'a> {
    code: Vec<Insn>,
    /// Where a return was put last.
    ends: Vec<(u32, usize)>,
    /// Where the tests of these rules begin.
    blocks: Vec<(Tests<'a>, usize)>,
}

/// Farthest conditional jump, and room for the instructions that come between.
const REACH: usize = 255 - 8;

impl<'a> Backwards<'a> {
    fn push(&mut self, code: u16, operand: u32, if_true: u8, if_false: u8) -> usize {
        self.code.push(Insn {
            code,
            if_true,
            if_false,
            operand,
        });
        self.code.len() - 1
    }

    /// `ld`, before the instruction at `next`.
    fn load(&mut self, offset: u32, next: usize) -> usize {
        self.here(next);
        self.push(LOAD, offset, 0, 0)
    }

    /// Makes `target` what is executed next.
    fn here(&mut self, target: usize) {
        let distance = self.code.len() - 1 - target;
        if distance > 0 {
            // Programs longer than 4096 are refused at the end.
            self.push(JUMP, distance as u32, 0, 0);
        }
    }

    /// A return, near enough for a conditional jump.
    fn end(&mut self, answer: u32) -> usize {
        let len = self.code.len();
        let known = self.ends.iter().position(|(known, _)| *known == answer);
        let near = |place: usize| len - place <= REACH;
        match known.and_then(|at| self.ends.get(at)) {
            Some((_, place)) if near(*place) => return *place,
            _ => {}
        }
        self.ends.retain(|(other, _)| *other != answer);
        let place = self.push(RETURN, answer, 0, 0);
        self.ends.push((answer, place));
        place
    }

    /// A conditional jump.
    fn branch(&mut self, code: u16, operand: u32, if_true: usize, if_false: usize) -> usize {
        if if_true == if_false {
            return if_true;
        }
        let mut targets = [if_true, if_false];
        for target in &mut targets {
            // One more jump may come between.
            let distance = self.code.len() - *target;
            if distance < 255 {
                continue;
            }
            *target = match self.code.get(*target) {
                Some(end) if end.code == RETURN => self.push(RETURN, end.operand, 0, 0),
                _ => self.push(JUMP, distance as u32 - 1, 0, 0),
            };
        }
        let [if_true, if_false] = targets.map(|target| (self.code.len() - 1 - target) as u8);
        self.push(code, operand, if_true, if_false)
    }

    /// The tree over segments.
    fn tree(&mut self, segments: &[Segment<'a>], default: u32) -> usize {
        match segments {
            [] => self.end(default),
            [only] => self.verdict(only.verdict, default),
            // One number among equal ones.
            [low, one, high]
                if low.verdict == high.verdict && one.first.checked_add(1) == Some(high.first) =>
            {
                let others = self.verdict(low.verdict, default);
                let this = self.verdict(one.verdict, default);
                self.branch(JUMP_EQUAL, one.first, this, others)
            }
            _ => {
                let (low, high) = segments.split_at(segments.len() / 2);
                let first = high.first().map_or(0, |segment| segment.first);
                let high = self.tree(high, default);
                let low = self.tree(low, default);
                self.branch(JUMP_AT_LEAST, first, high, low)
            }
        }
    }

    fn verdict(&mut self, verdict: Verdict<'a>, default: u32) -> usize {
        match verdict {
            Verdict::Always(answer) => self.end(answer),
            Verdict::Test(tests) => self.tests(tests, default),
        }
    }

    /// One rule after the other.
    fn tests(&mut self, tests: Tests<'a>, default: u32) -> usize {
        if let Some((_, place)) = self.blocks.iter().find(|(known, _)| *known == tests) {
            return *place;
        }
        let mut otherwise = self.end(default);
        for rule in tests.rules.iter().rev() {
            let mut then = self.end(rule.answer);
            for condition in rule.conditions.iter().rev() {
                then = self.condition(tests, condition, then, otherwise);
            }
            otherwise = then;
        }
        self.blocks.push((tests, otherwise));
        otherwise
    }

    fn condition(
        &mut self,
        tests: Tests<'a>,
        condition: &Condition,
        then: usize,
        otherwise: usize,
    ) -> usize {
        let Condition {
            operator,
            mask,
            value,
            argument,
        } = *condition;
        // Every operator as "equal", "greater" or "at least", the other three by exchange.
        let (code, then, otherwise) = match operator {
            SeccompOperator::Equal | SeccompOperator::MaskedEqual => (JUMP_EQUAL, then, otherwise),
            SeccompOperator::NotEqual => (JUMP_EQUAL, otherwise, then),
            SeccompOperator::Greater => (JUMP_GREATER, then, otherwise),
            SeccompOperator::LessOrEqual => (JUMP_GREATER, otherwise, then),
            SeccompOperator::GreaterOrEqual => (JUMP_AT_LEAST, then, otherwise),
            SeccompOperator::Less => (JUMP_AT_LEAST, otherwise, then),
        };
        let both = ARGUMENTS + 8 * argument;
        let (low, high) = if tests.big_endian {
            (both + 4, both)
        } else {
            (both, both + 4)
        };
        let low_mask = if tests.wide && mask as u32 == 0 && mask != 0 {
            None
        } else {
            Some(mask as u32)
        };
        let mut place = match low_mask {
            Some(mask) => self.word([low, mask], code, value as u32, [then, otherwise]),
            None => then,
        };
        let high_mask = (mask >> 32) as u32;
        let high_value = (value >> 32) as u32;
        if tests.wide && high_mask != 0 {
            // A conditional jump can't fall through to a load: the compared word stays loaded.
            place = if code == JUMP_EQUAL {
                self.word([high, high_mask], code, high_value, [place, otherwise])
            } else {
                let equal = self.branch(JUMP_EQUAL, high_value, place, otherwise);
                self.word([high, high_mask], JUMP_GREATER, high_value, [then, equal])
            };
        }
        place
    }

    /// Loads a word, masks it and compares it.
    fn word(&mut self, word: [u32; 2], code: u16, value: u32, to: [usize; 2]) -> usize {
        let ([offset, mask], [then, otherwise]) = (word, to);
        let mut place = self.branch(code, value, then, otherwise);
        if mask != u32::MAX {
            self.here(place);
            place = self.push(AND, mask, 0, 0);
        }
        self.load(offset, place)
    }

    fn finish(mut self) -> Result<Vec<Insn>, SeccompError> {
        let instructions = self.code.len();
        if instructions > LONGEST {
            return Err(SeccompError::TooLong { instructions });
        }
        self.code.reverse();
        Ok(self.code)
    }
}
