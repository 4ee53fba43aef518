//! A plan as the bytes that init maps: see [`corten_init::abi`].

use corten_init::abi::{
    Convert, Flat as FlatForm, FlatStep, PLAN_MAGIC, SLOTS, SPARE, STEP_WORDS, Slot, Span, header,
};

use super::{Action, Bytes, Plan, Planned};

/// Descriptors as numbers, as they will be in init.
pub(crate) struct Fds<'a> {
    pub(crate) report: i32,
    pub(crate) stdio: [i32; 3],
    pub(crate) slots: &'a [(Slot, i32)],
}

/// The bytes of a plan.
pub(crate) struct Flat(pub(crate) Vec<u8>);

/// The fixed part, filled in place, and the strings behind it.
struct Texts {
    bytes: Vec<u8>,
}

impl Texts {
    /// Stores bytes and a NUL, aligned to 4 for lists of numbers.
    fn add(&mut self, bytes: &[u8]) -> Span {
        self.add_aligned(bytes, 4)
    }

    fn add_aligned(&mut self, bytes: &[u8], to: usize) -> Span {
        self.align(to);
        let offset = self.bytes.len();
        self.bytes.reserve(bytes.len() + 1);
        self.bytes.extend_from_slice(bytes);
        self.bytes.push(0);
        // A plan is far below 4 GiB: config.json is read with a limit.
        Span {
            offset: offset as u32,
            len: bytes.len() as u32 + 1,
        }
    }

    fn align(&mut self, to: usize) {
        let len = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(len, 0);
    }

    /// Writes words into the fixed part.
    fn put(&mut self, offset: usize, words: &[u64]) {
        let places = self.bytes.get_mut(offset..).unwrap_or_default();
        for (place, word) in places.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    }

    /// Writes the offsets of strings into the fixed part.
    fn table(&mut self, offset: usize, strings: &[Bytes]) {
        for (index, string) in strings.iter().enumerate() {
            let text = self.add(&string.0);
            self.put(offset + index * 8, &[u64::from(text.offset)]);
        }
    }
}

impl Convert<Planned, FlatForm> for Texts {
    fn text(&mut self, text: &Bytes) -> Span {
        self.add(&text.0)
    }

    fn list(&mut self, list: &Vec<u32>) -> Span {
        let bytes: Vec<u8> = list
            .iter()
            .flat_map(|number| number.to_ne_bytes())
            .collect();
        let span = self.add(&bytes);
        Span {
            len: span.len - 1,
            ..span
        }
    }

    fn strings(&mut self, strings: &Vec<Bytes>) -> Span {
        let offsets = strings.iter().map(|string| self.add(&string.0).offset);
        let words: Vec<u64> = offsets.map(u64::from).chain([0]).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        // All that lies before the texts are words.
        let span = self.add_aligned(&bytes, 8);
        Span {
            len: strings.len() as u32,
            ..span
        }
    }
}

impl Flat {
    /// Lays the plan out.
    pub(crate) fn new(plan: &Plan, fds: &Fds<'_>) -> Flat {
        let steps = plan.init_steps();
        let argv = (header::STEPS + steps * STEP_WORDS) * 8;
        let envp = argv + (plan.argv.len() + SPARE) * 8;
        let base = envp + (plan.envp.len() + SPARE) * 8;
        // Room for most strings too, so that it grows once or never.
        let mut texts = Texts {
            bytes: Vec::with_capacity(base + base / 2),
        };
        texts.bytes.resize(base, 0);

        let ops = plan.steps.iter().filter_map(|step| match &step.action {
            Action::Init(op) => Some((op, step.on_error)),
            Action::Run(_) => None,
        });
        for (index, (op, on_error)) in ops.enumerate() {
            let op = op.convert(&mut texts);
            let words = FlatStep { op, on_error }.to_words();
            texts.put((header::STEPS + index * STEP_WORDS) * 8, &words);
        }
        texts.table(argv, &plan.argv);
        texts.table(envp, &plan.envp);

        let len = texts.bytes.len();
        texts.put(0, &head(plan, fds, [len, steps, argv, envp]));
        Flat(texts.bytes)
    }
}

fn head(plan: &Plan, fds: &Fds<'_>, sizes: [usize; 4]) -> [u64; header::STEPS] {
    let [len, steps, argv, envp] = sizes;
    let mut words = [0; header::STEPS];
    let number = |fd: i32| i64::from(fd) as u64;
    words[header::MAGIC] = PLAN_MAGIC;
    words[header::LEN] = len as u64;
    words[header::STEP_COUNT] = steps as u64;
    words[header::REPORT_FD] = number(fds.report);
    words[header::ARGV] = argv as u64;
    words[header::ARGC] = plan.argv.len() as u64;
    words[header::ENVP] = envp as u64;
    words[header::ENVC] = plan.envp.len() as u64;
    words[header::KEEP_BELOW] = u64::from(plan.preserve_fds) + 3;
    words[header::TIMED] = plan.timed.into();
    for (place, fd) in fds.stdio.iter().enumerate() {
        words[header::STDIO + place] = number(*fd);
    }
    for place in 0..SLOTS {
        words[header::SLOTS + place] = number(-1);
    }
    for (slot, fd) in fds.slots {
        words[header::SLOTS + usize::from(slot.0)] = number(*fd);
    }
    words
}
