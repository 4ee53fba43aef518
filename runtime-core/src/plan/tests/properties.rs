//! What holds for every plan.

use std::collections::BTreeSet;

use corten_init::abi::{
    ARGS, CALLS, Convert, Flat as FlatForm, FlatStep, Op, PLAN_MAGIC, SLOTS, SPARE, STEP_WORDS,
    Slot, Span, calls, header,
};

use super::cases::{self, Case};
use crate::host::Host;
use crate::plan::{Action, Bytes, Fds, Flat, Plan, Planned, check};

/// Fields of config.json that a step can come from.
const FIELDS: [&str; 9] = [
    "annotations",
    "domainname",
    "hooks",
    "hostname",
    "linux",
    "mounts",
    "ociVersion",
    "process",
    "root",
];

pub(super) fn plans() -> Vec<(Case, Plan)> {
    let planned = |case: Case| {
        let plan = case.plan().unwrap();
        (case, plan)
    };
    cases::all().into_iter().map(planned).collect()
}

#[test]
fn a_plan_depends_on_nothing_of_the_machine_that_is_not_looked_at_for_it() {
    let all = Host::probe().unwrap();
    for mut case in cases::all() {
        case.host = all.clone();
        let plan = case.plan();
        case.host = Host::probe_for(&case.spec, crate::host::memfd_exec).unwrap();
        assert_eq!(plan, case.plan(), "{}", case.name);
    }
}

#[test]
fn every_slot_is_filled_before_it_is_read_and_the_peak_is_low() {
    for (case, plan) in plans() {
        let peak = check::slots(&plan.steps).unwrap();
        assert_eq!(peak, plan.peak_fds, "{}", case.name);
        // With RLIMIT_NOFILE 64 there must be room for stdio and preserved descriptors.
        assert!(peak < 32, "{}: {peak}", case.name);
    }
}

#[test]
fn every_step_names_a_place_in_its_configuration() {
    for (case, plan) in plans() {
        let config = serde_json::to_value(&case.spec).unwrap();
        for step in &plan.steps {
            let origin = &step.origin;
            let top = origin.split(['.', '[']).next().unwrap();
            assert!(FIELDS.contains(&top), "{}: {origin:?}", case.name);
            assert!(!step.what.is_empty(), "{}: {origin}", case.name);
            // A place with a number must be there; others may be a default.
            if origin.contains('[') {
                let pointer = pointer(origin);
                let found = config.pointer(&pointer);
                assert!(found.is_some(), "{}: {origin}: {pointer}", case.name);
            }
        }
    }
}

/// `linux.resources.unified["a.b"]` as `/linux/resources/unified/a.b`.
fn pointer(origin: &str) -> String {
    let mut pointer = String::from("/");
    let mut quoted = false;
    for c in origin.chars() {
        match c {
            '"' => quoted = !quoted,
            '/' => pointer.push_str("~1"),
            '.' | '[' if !quoted => pointer.push('/'),
            ']' if !quoted => {}
            other => pointer.push(other),
        }
    }
    pointer
}

#[test]
fn every_text_of_a_plan_is_one_line() {
    for (case, plan) in plans() {
        for step in &plan.steps {
            let line = format!("{} {}", step.origin, step.what);
            let broken = line.chars().any(char::is_control);
            assert!(!broken, "{}: {line:?}", case.name);
        }
    }
}

/// Reads a flat plan as init does, without its code.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn word(&self, index: usize) -> u64 {
        let at = index * 8;
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn size(&self, index: usize) -> usize {
        usize::try_from(self.word(index)).unwrap()
    }

    fn steps(&self) -> Vec<FlatStep> {
        let step = |index: usize| {
            let first = header::STEPS + index * STEP_WORDS;
            let words: [u64; STEP_WORDS] = std::array::from_fn(|at| self.word(first + at));
            FlatStep::from_words(&words).expect("a known op")
        };
        (0..self.size(header::STEP_COUNT)).map(step).collect()
    }

    fn bytes(&self, span: Span) -> &[u8] {
        &self.0[span.offset as usize..][..span.len as usize]
    }

    /// The strings of argv or envp; its spare entries must be null.
    fn table(&self, offset: usize, count: usize) -> Vec<Bytes> {
        let (first, len) = (self.size(offset) / 8, self.size(count));
        for spare in 0..SPARE {
            assert_eq!(self.word(first + len + spare), 0);
        }
        (first..first + len).map(|at| self.string(at)).collect()
    }

    /// The string whose offset is in this word.
    fn string(&self, index: usize) -> Bytes {
        let rest = &self.0[self.size(index)..];
        let len = rest.iter().position(|byte| *byte == 0).unwrap();
        Bytes::from(&rest[..len])
    }
}

impl Convert<FlatForm, Planned> for Reader<'_> {
    fn text(&mut self, span: &Span) -> Bytes {
        let bytes = self.bytes(*span);
        assert_eq!(bytes.last(), Some(&0), "a text ends with a NUL that counts");
        Bytes::from(&bytes[..bytes.len() - 1])
    }

    fn list(&mut self, span: &Span) -> Vec<u32> {
        assert_eq!(span.offset % 4, 0, "numbers are aligned");
        let words = self.bytes(*span).chunks_exact(4);
        words
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect()
    }

    fn strings(&mut self, span: &Span) -> Vec<Bytes> {
        assert_eq!(span.offset % 8, 0, "pointers are aligned");
        let (first, len) = (span.offset as usize / 8, span.len as usize);
        assert_eq!(self.word(first + len), 0, "a null follows the last");
        (first..first + len).map(|at| self.string(at)).collect()
    }
}

#[test]
fn a_flat_plan_reads_back_as_the_steps_it_was_made_from() {
    let fds = Fds {
        report: 9,
        stdio: [0, 1, 7],
        slots: &[(Slot::SOCKET, 5), (Slot::DONE, 11)],
    };
    for (case, plan) in plans() {
        let flat = Flat::new(&plan, &fds).0;
        let mut reader = Reader(&flat);
        assert_eq!(reader.word(header::MAGIC), PLAN_MAGIC);
        assert_eq!(reader.size(header::LEN), flat.len());
        assert_eq!(flat.last(), Some(&0), "a string never runs off the end");
        let steps = reader.steps();
        let planned = plan.steps.iter().filter_map(|step| match &step.action {
            Action::Init(op) => Some((op, step.on_error)),
            Action::Run(_) => None,
        });
        assert_eq!(steps.len(), planned.clone().count());
        for (read, (op, on_error)) in steps.iter().zip(planned) {
            let back: Op<Planned> = read.op.convert(&mut reader);
            assert_eq!((&back, read.on_error), (op, on_error), "{}", case.name);
        }
        assert_eq!(reader.table(header::ARGV, header::ARGC), plan.argv);
        assert_eq!(reader.table(header::ENVP, header::ENVC), plan.envp);
        let preserved = u64::from(case.options.preserve_fds + case.options.listen_fds);
        assert_eq!(reader.word(header::KEEP_BELOW), 3 + preserved);
        assert_eq!(reader.word(header::REPORT_FD), 9);
        let slot = |slot: Slot| reader.word(header::SLOTS + usize::from(slot.0)) as i64;
        assert_eq!((slot(Slot::SOCKET), slot(Slot::DONE)), (5, 11));
        assert_eq!(slot(Slot::CGROUP), -1);
        assert_eq!(header::STEPS, header::SLOTS + SLOTS);
    }
}

#[test]
fn every_op_is_in_at_least_one_golden_plan() {
    let used: BTreeSet<u16> = plans()
        .iter()
        .flat_map(|(_, plan)| &plan.steps)
        .filter_map(|step| match &step.action {
            Action::Init(op) => Some(op.code()),
            Action::Run(_) => None,
        })
        .collect();
    let known: BTreeSet<u16> = (0..u16::MAX)
        .filter(|code| Op::<FlatForm>::from_words(*code, &[0; ARGS]).is_some())
        .collect();
    let unused: Vec<_> = known
        .difference(&used)
        .map(|code| Op::<FlatForm>::from_words(*code, &[0; ARGS]))
        .collect();
    assert!(unused.is_empty(), "no golden plan has {unused:?}");
}

#[test]
fn the_calls_of_every_step_behind_a_filter_are_known() {
    let mut filtered = 0;
    for (case, plan) in plans() {
        let ops = plan.steps.iter().filter_map(|step| match &step.action {
            Action::Init(op) => Some(op),
            Action::Run(_) => None,
        });
        let behind = ops.skip_while(|op| !matches!(op, Op::LoadSeccomp { .. }));
        for op in behind.skip(1) {
            assert!(!calls(op).is_empty(), "{}: {op:?}", case.name);
            filtered += 1;
        }
    }
    assert!(filtered > 10, "{filtered}");
}

#[test]
fn the_list_of_all_calls_has_each_call_of_a_step() {
    for (case, plan) in plans() {
        for step in &plan.steps {
            if let Action::Init(op) = &step.action {
                for call in calls(op) {
                    assert!(CALLS.contains(call), "{}: {call:?}", case.name);
                }
            }
        }
    }
}

#[test]
fn the_same_arguments_give_the_same_plan() {
    for (case, plan) in plans() {
        assert_eq!(case.plan().unwrap(), plan, "{}", case.name);
    }
}
