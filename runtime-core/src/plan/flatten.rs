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

/// Collects the strings behind the fixed part.
struct Texts {
    base: usize,
    bytes: Vec<u8>,
}

impl Texts {
    /// Stores bytes and a NUL, aligned to 4 for lists of numbers.
    fn add(&mut self, bytes: &[u8]) -> Span {
        self.add_aligned(bytes, 4)
    }

    fn add_aligned(&mut self, bytes: &[u8], to: usize) -> Span {
        while !self.bytes.len().is_multiple_of(to) {
            self.bytes.push(0);
        }
        let offset = self.base + self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.bytes.push(0);
        // A plan is far below 4 GiB: config.json is read with a limit.
        Span {
            offset: offset as u32,
            len: bytes.len() as u32 + 1,
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
        let mut texts = Texts {
            base,
            bytes: Vec::new(),
        };

        let mut body: Vec<u64> = Vec::with_capacity(base / 8);
        for step in &plan.steps {
            if let Action::Init(op) = &step.action {
                let flat = FlatStep {
                    op: op.convert(&mut texts),
                    on_error: step.on_error,
                };
                body.extend(flat.to_words());
            }
        }
        body.extend(table(&plan.argv, &mut texts));
        body.extend(table(&plan.envp, &mut texts));

        let len = base + texts.bytes.len();
        let mut words = head(plan, fds, [len, steps, argv, envp]);
        words.extend(body);
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(texts.bytes);
        Flat(bytes)
    }
}

/// Offsets of strings, and spare entries.
fn table(strings: &[Bytes], texts: &mut Texts) -> Vec<u64> {
    let mut table: Vec<u64> = strings
        .iter()
        .map(|string| u64::from(texts.add(&string.0).offset))
        .collect();
    table.extend([0; SPARE]);
    table
}

fn head(plan: &Plan, fds: &Fds<'_>, sizes: [usize; 4]) -> Vec<u64> {
    let [len, steps, argv, envp] = sizes;
    let mut words = vec![0u64; header::STEPS];
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
