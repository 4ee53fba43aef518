//! The loop over the steps, and the report of what each did.
//!
//! What a single step does is in [`crate::ops`].

use core::ffi::CStr;

use crate::abi::{
    DETAIL_MAX, Flat, FlatStep, Kind, OnError, Op, PLAN_MAGIC, REPORT_MAGIC, SLOTS, SPARE,
    STEP_WORDS, Slot, Span, header, report,
};
use crate::ops;
use crate::sys::{self, Errno, Fd, Map, Table, errno};

/// Exit status of an init that could not even read its plan.
const UNREADABLE: u32 = 125;

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The errno of the call that failed, or the one that says it best.
    pub errno: i32,
    /// What else is known.
    pub kind: Kind,
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Failure {
            errno: error.0,
            kind: Kind::Plain,
        }
    }
}

/// What an op gives back.
pub type Outcome = Result<(), Failure>;

/// All that init knows while it runs.
pub struct Init {
    plan: Map,
    report: Map,
    slots: [i32; SLOTS],
    /// Descriptors below this number belong to the container.
    pub(crate) keep_below: u32,
    pub(crate) argv: Table<'static>,
    pub(crate) envp: Table<'static>,
    envp_offset: usize,
    envc: usize,
    /// What [`Op::Exec`] will execute.
    pub(crate) program: Option<&'static CStr>,
    /// Whether it is to be known when each step began.
    timed: bool,
    /// Whether the time may be asked for: a seccomp filter can forbid it.
    pub(crate) clock: bool,
    /// When the step under way began.
    now: u64,
    /// What to add to the clock to get the creator's.
    clock_offset: u64,
    /// Index of the step under way.
    pub(crate) step: usize,
}

/// Runs the plan in `plan_fd` to its end. The result is an exit status: 0 at the end of a
/// plan that does not end in `execve(2)`.
pub fn run(plan_fd: Fd) -> u32 {
    let Some(mut init) = open(plan_fd) else {
        return UNREADABLE;
    };
    // What is made on the way has the mode that its step says, not the caller's umask.
    sys::umask(0);
    // A name for ps(1); the library knows by it whose zombie it sees.
    sys::set_name(c"corten-init").unwrap_or_default();
    let count = init.header(header::STEP_COUNT) as usize;
    let mut index = 0usize;
    while index < count {
        init.step = index;
        let Some(step) = init.flat_step(index) else {
            return UNREADABLE;
        };
        let Some(skipped) = init.run_step(&step) else {
            return 1;
        };
        index = index.wrapping_add(1).wrapping_add(skipped);
    }
    0
}

/// How long the plan is, as its first words say.
fn plan_length(plan_fd: Fd) -> Option<usize> {
    let mut head = [0u8; 8 * (header::LEN + 1)];
    sys::seek(plan_fd, 0).ok()?;
    if sys::read(plan_fd, &mut head).ok()? != head.len() {
        return None;
    }
    let word = |at: usize| head.get(at.checked_mul(8)?..)?.first_chunk();
    if u64::from_ne_bytes(*word(0)?) != PLAN_MAGIC {
        return None;
    }
    Some(u64::from_ne_bytes(*word(header::LEN)?) as usize)
}

/// Maps plan and report, closes both descriptors, and puts stdio in place.
fn open(plan_fd: Fd) -> Option<Init> {
    let plan = Map::new(plan_fd, plan_length(plan_fd)?, false).ok()?;
    let word = |at: usize| plan.word(at.checked_mul(8)?);
    let count = word(header::STEP_COUNT)? as usize;
    let report_fd = Fd(word(header::REPORT_FD)? as i32);
    let report = plan.behind(report_fd, report::size(count), true).ok()?;
    sys::close(plan_fd).ok()?;
    sys::close(report_fd).ok()?;
    report.set_word(report::MAGIC, REPORT_MAGIC)?;

    let mut slots = [-1; SLOTS];
    for (index, slot) in slots.iter_mut().enumerate() {
        *slot = word(header::SLOTS.checked_add(index)?)? as i32;
        if *slot >= 0 {
            // The launch cleared the flag so that they are here at all.
            sys::set_cloexec(Fd(*slot)).ok()?;
        }
    }
    for number in 0..3usize {
        let from = word(header::STDIO.checked_add(number)?)? as i32;
        sys::dup_to(Fd(from), Fd(number as i32)).ok()?;
    }
    let envp_offset = word(header::ENVP)? as usize;
    let envc = word(header::ENVC)? as usize;
    Some(Init {
        plan,
        report,
        slots,
        keep_below: word(header::KEEP_BELOW)? as u32,
        argv: plan.table(
            word(header::ARGV)? as usize,
            word(header::ARGC)? as usize,
            SPARE,
        )?,
        envp: plan.table(envp_offset, envc, SPARE)?,
        envp_offset,
        envc,
        program: None,
        timed: word(header::TIMED)? != 0,
        clock: true,
        now: 0,
        clock_offset: 0,
        step: 0,
    })
}

impl Init {
    fn header(&self, at: usize) -> u64 {
        self.plan.word(at.wrapping_mul(8)).unwrap_or(0)
    }

    fn flat_step(&self, index: usize) -> Option<FlatStep> {
        let first = header::STEPS.checked_add(index.checked_mul(STEP_WORDS)?)?;
        let mut words = [0; STEP_WORDS];
        for (offset, word) in words.iter_mut().enumerate() {
            *word = self.plan.word(first.checked_add(offset)?.checked_mul(8)?)?;
        }
        FlatStep::from_words(&words)
    }

    /// Runs a step and records it. How many steps to leave out, or none: init is over.
    fn run_step(&mut self, step: &FlatStep) -> Option<usize> {
        let record = report::STEPS.wrapping_add(self.step.wrapping_mul(report::STEP));
        let position = self.step.wrapping_add(1) as u64;
        if self.timed && self.clock {
            self.now = sys::monotonic().wrapping_add(self.clock_offset);
        }
        self.report.set_word(record, self.now)?;
        self.report.set_word(report::CURRENT, position)?;
        let (outcome, skipped, errno) = match ops::run(self, &step.op) {
            Ok(()) => (report::OK, Some(0), 0),
            Err(failure) => {
                let (outcome, skipped) = judge(step.on_error, failure);
                if skipped.is_none() {
                    let cause = failure.errno as u32 as u64 | (failure.kind as u64) << 32;
                    self.report.set_word(report::CAUSE, cause)?;
                    self.report.set_word(report::FAILED, position)?;
                }
                (outcome, skipped, failure.errno)
            }
        };
        let end = record.wrapping_add(8);
        self.report
            .set_word(end, outcome as u64 | (errno as u32 as u64) << 32)?;
        skipped
    }

    /// The process is in another time namespace since `before`: times in the report stay
    /// the creator's, but for what the change itself took.
    pub(crate) fn clock_moved(&mut self, before: u64) {
        let moved = before.wrapping_sub(sys::monotonic());
        self.clock_offset = self.clock_offset.wrapping_add(moved);
    }

    /// The bytes of a text, with its last NUL.
    pub(crate) fn bytes(&self, span: Span) -> Result<&'static [u8], Failure> {
        self.plan
            .bytes(span.offset as usize, span.len as usize)
            .ok_or(Failure::from(BROKEN))
    }

    /// A text as a string.
    pub(crate) fn text(&self, span: Span) -> Result<&'static CStr, Failure> {
        CStr::from_bytes_until_nul(self.bytes(span)?).map_err(|_| BROKEN.into())
    }

    /// A table of strings, made of offsets: only once.
    pub(crate) fn strings(&self, span: Span) -> Result<Table<'static>, Failure> {
        self.plan
            .table(span.offset as usize, span.len as usize, 1)
            .ok_or(Failure::from(BROKEN))
    }

    /// A word of the report; 0 where there is none.
    pub(crate) fn report_word(&self, offset: usize) -> u64 {
        self.report.word(offset).unwrap_or(0)
    }

    /// Stores a word of the report; its place is there in every report.
    pub(crate) fn set_report(&self, offset: usize, word: u64) {
        self.report.set_word(offset, word).unwrap_or_default();
    }

    /// Makes the container's process, in which alone this comes back; see
    /// [`sys::clone_and_tell`].
    pub(crate) fn clone_and_tell(&self, flags: u64, into: Option<Fd>, text: [u8; 8]) -> Outcome {
        let (socket, report) = (self.slot(Slot::SOCKET)?, &self.report);
        sys::clone_and_tell(flags, into, text, socket, report, report::CLONED)?;
        Ok(())
    }

    /// The descriptor in a slot.
    pub(crate) fn slot(&self, slot: Slot) -> Result<Fd, Failure> {
        match self.slots.get(slot.0 as usize) {
            Some(number) if *number >= 0 => Ok(Fd(*number)),
            _ => Err(Errno(errno::EBADF).into()),
        }
    }

    /// Whether a slot holds a descriptor.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.slot(slot).is_ok()
    }

    /// All slots.
    pub(crate) fn slots(&self) -> &[i32; SLOTS] {
        &self.slots
    }

    /// Puts a descriptor into a slot and closes what was there.
    pub(crate) fn store(&mut self, slot: Slot, fd: Fd) -> Outcome {
        let Some(place) = self.slots.get_mut(slot.0 as usize) else {
            return Err(Errno(errno::EBADF).into());
        };
        let old = core::mem::replace(place, fd.0);
        if old >= 0 {
            Ok(sys::close(Fd(old))?)
        } else {
            Ok(())
        }
    }

    /// Takes a slot's descriptor out and closes it; an empty slot is no error.
    pub(crate) fn close(&mut self, slot: Slot) -> Outcome {
        if self.has(slot) {
            self.store(slot, Fd(-1))
        } else {
            Ok(())
        }
    }

    /// Adds an entry to the environment, while there is a spare one.
    pub(crate) fn add_env(&mut self, entry: &'static CStr) -> Outcome {
        self.plan
            .set_entry(self.envp_offset, self.envc, entry)
            .ok_or(Failure::from(BROKEN))?;
        self.envc = self.envc.wrapping_add(1);
        self.envp = self
            .plan
            .table_again(self.envp_offset, self.envc.wrapping_add(1))
            .ok_or(Failure::from(BROKEN))?;
        Ok(())
    }

    /// Writes what a failure is about into the report, as far as it fits.
    pub(crate) fn detail(&self, kind: Kind, error: i32, parts: &[&[u8]]) -> Failure {
        let mut len = 0usize;
        for byte in parts.iter().flat_map(|part| part.iter()).take(DETAIL_MAX) {
            let stored = self
                .report
                .set_byte(report::DETAIL.wrapping_add(len), *byte);
            len = len.wrapping_add(stored.map_or(0, |()| 1));
        }
        self.report
            .set_word(report::DETAIL_LEN, len as u64)
            .unwrap_or_default();
        Failure { errno: error, kind }
    }
}

/// The plan contradicts itself: a bug of the library.
const BROKEN: Errno = Errno(errno::EINVAL);

/// The outcome of an error, and how many steps to leave out if init goes on.
fn judge(policy: OnError, failure: Failure) -> (u32, Option<usize>) {
    match policy {
        OnError::Warn => (report::WARNED, Some(0)),
        OnError::Skip { errnos, steps } if has(errnos, failure.errno) => {
            (report::SKIPPED, Some(steps as usize))
        }
        OnError::Skip { .. } | OnError::Fail => (report::FAILED_STEP, None),
    }
}

/// Whether an errno is one of a policy's; 0 is none.
fn has(errnos: [u16; 3], wanted: i32) -> bool {
    wanted != 0 && errnos.iter().any(|errno| *errno as i32 == wanted)
}

/// An op of a flat plan.
pub type FlatOp = Op<Flat>;

#[cfg(test)]
mod tests;
