//! A plan as bytes, laid out from `abi`'s constants alone, and the report read back.

use corten_init::abi::{
    Convert, DETAIL_MAX, Flat, FlatStep, Form, Kind, OnError, Op, PLAN_MAGIC, REPORT_MAGIC, SLOTS,
    SPARE, STEP_WORDS, Slot, Span, header, report,
};

/// The form of an op in a test: texts as they are written there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hand;

impl Form for Hand {
    type Text = String;
    type List = Vec<u32>;
    type Strings = Vec<String>;
}

/// A step made by hand.
pub(crate) type Step = (Op<Hand>, OnError);

/// What a plan has besides its steps.
pub(crate) struct Frame<'a> {
    pub(crate) args: &'a [String],
    pub(crate) env: &'a [String],
    pub(crate) report_fd: i32,
    pub(crate) keep_below: u64,
    pub(crate) slots: &'a [(Slot, i32)],
}

/// Collects what lies behind the words.
struct Tail {
    base: usize,
    bytes: Vec<u8>,
}

impl Tail {
    fn add(&mut self, bytes: &[u8], counted: usize) -> Span {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let offset = u32::try_from(self.base + self.bytes.len()).unwrap();
        self.bytes.extend_from_slice(bytes);
        self.bytes.push(0);
        let len = u32::try_from(bytes.len() + counted).unwrap();
        Span { offset, len }
    }
}

impl Convert<Hand, Flat> for Tail {
    fn text(&mut self, text: &String) -> Span {
        self.add(text.as_bytes(), 1)
    }

    fn list(&mut self, list: &Vec<u32>) -> Span {
        let bytes: Vec<u8> = list
            .iter()
            .flat_map(|number| number.to_ne_bytes())
            .collect();
        self.add(&bytes, 0)
    }

    fn strings(&mut self, strings: &Vec<String>) -> Span {
        let offsets: Vec<u64> = strings
            .iter()
            .map(|string| u64::from(self.text(string).offset))
            .chain([0])
            .collect();
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let bytes: Vec<u8> = offsets.iter().flat_map(|at| at.to_ne_bytes()).collect();
        let span = self.add(&bytes, 0);
        let len = u32::try_from(strings.len()).unwrap();
        Span { len, ..span }
    }
}

/// Lays a plan out.
pub(crate) fn plan(steps: &[Step], frame: &Frame<'_>) -> Vec<u8> {
    let argv = (header::STEPS + steps.len() * STEP_WORDS) * 8;
    let envp = argv + (frame.args.len() + SPARE) * 8;
    let base = envp + (frame.env.len() + SPARE) * 8;
    let mut tail = Tail {
        base,
        bytes: Vec::new(),
    };
    let mut words = vec![0u64; header::STEPS];
    for (op, on_error) in steps {
        let op = op.convert(&mut tail);
        let on_error = *on_error;
        words.extend(FlatStep { op, on_error }.to_words());
    }
    for strings in [frame.args, frame.env] {
        for string in strings {
            words.push(u64::from(tail.text(string).offset));
        }
        words.extend([0; SPARE]);
    }
    let number = |number: i32| i64::from(number) as u64;
    words[header::MAGIC] = PLAN_MAGIC;
    words[header::LEN] = (base + tail.bytes.len()) as u64;
    words[header::STEP_COUNT] = steps.len() as u64;
    words[header::REPORT_FD] = number(frame.report_fd);
    words[header::ARGV] = argv as u64;
    words[header::ARGC] = frame.args.len() as u64;
    words[header::ENVP] = envp as u64;
    words[header::ENVC] = frame.env.len() as u64;
    words[header::KEEP_BELOW] = frame.keep_below;
    words[header::TIMED] = 1;
    for stdio in 0..3 {
        words[header::STDIO + stdio] = stdio as u64;
    }
    for slot in 0..SLOTS {
        words[header::SLOTS + slot] = number(-1);
    }
    for (slot, fd) in frame.slots {
        words[header::SLOTS + usize::from(slot.0)] = number(*fd);
    }
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(bytes.len(), base);
    bytes.extend(tail.bytes);
    bytes
}

/// What init wrote.
#[derive(Debug)]
pub(crate) struct Report(pub(crate) Vec<u8>);

/// The step that ended init.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failed {
    /// Index of the step.
    pub(crate) step: usize,
    pub(crate) errno: i32,
    pub(crate) kind: Kind,
    pub(crate) detail: String,
}

impl Report {
    pub(crate) fn word(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    /// Index of the step begun last.
    pub(crate) fn current(&self) -> Option<usize> {
        assert_eq!(self.word(report::MAGIC), REPORT_MAGIC, "init never ran");
        usize::try_from(self.word(report::CURRENT))
            .unwrap()
            .checked_sub(1)
    }

    pub(crate) fn failed(&self) -> Option<Failed> {
        let position = usize::try_from(self.word(report::FAILED)).unwrap();
        let cause = self.word(report::CAUSE);
        let len = usize::try_from(self.word(report::DETAIL_LEN)).unwrap();
        assert!(len <= DETAIL_MAX);
        let detail = &self.0[report::DETAIL..report::DETAIL + len];
        Some(Failed {
            step: position.checked_sub(1)?,
            errno: cause as u32 as i32,
            kind: Kind::from_number((cause >> 32) as u32),
            detail: String::from_utf8_lossy(detail).into_owned(),
        })
    }

    /// When a step began, in ns.
    pub(crate) fn start(&self, step: usize) -> u64 {
        self.word(report::STEPS + step * report::STEP)
    }

    /// How a step went, and its errno.
    pub(crate) fn outcome(&self, step: usize) -> (u32, i32) {
        let at = report::STEPS + step * report::STEP;
        assert_ne!(self.word(at), 0, "the step never began");
        let end = self.word(at + 8);
        (end as u32, (end >> 32) as i32)
    }
}
