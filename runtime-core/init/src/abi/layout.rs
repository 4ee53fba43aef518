//! Where the fields of the two files are.

/// Byte offsets of the report's fields.
pub mod report {
    /// [`super::super::REPORT_MAGIC`].
    pub const MAGIC: usize = 0;
    /// Index of the step begun last, plus one.
    pub const CURRENT: usize = 8;
    /// Index of the step that failed, plus one; 0 when none did.
    pub const FAILED: usize = 16;
    /// errno in the low half, [`super::super::Kind`] in the high half.
    pub const CAUSE: usize = 24;
    /// Length of the detail text in bytes.
    pub const DETAIL_LEN: usize = 32;
    /// errno of a hook that could not be executed, written by the hook's own process.
    pub const HOOK: usize = 40;
    /// Pid of the process that stage 0 has made, in the namespace of stage 0.
    pub const CLONED: usize = 48;
    /// The detail text.
    pub const DETAIL: usize = 56;
    /// The first step's record.
    pub const STEPS: usize = DETAIL + super::super::DETAIL_MAX;
    /// Bytes of one step's record: start time in ns, then outcome and errno.
    pub const STEP: usize = 16;
    /// Outcome of a step that did its work.
    pub const OK: u32 = 1;
    /// Outcome of a step whose error is only a warning.
    pub const WARNED: u32 = 2;
    /// Outcome of a step whose error says that there is nothing to do.
    pub const SKIPPED: u32 = 3;
    /// Outcome of the step that ended init.
    pub const FAILED_STEP: u32 = 4;

    /// Size in bytes of a report over `steps` steps.
    #[must_use]
    pub const fn size(steps: usize) -> usize {
        STEPS.saturating_add(steps.saturating_mul(STEP))
    }
}

/// Word positions of the plan's header.
pub mod header {
    /// [`super::super::PLAN_MAGIC`].
    pub const MAGIC: usize = 0;
    /// Length of the whole plan in bytes.
    pub const LEN: usize = 1;
    /// Number of steps.
    pub const STEP_COUNT: usize = 2;
    /// File descriptor of the report.
    pub const REPORT_FD: usize = 3;
    /// Byte offset of the argv table, whose entries are offsets of strings.
    pub const ARGV: usize = 4;
    /// Number of arguments.
    pub const ARGC: usize = 5;
    /// Byte offset of the envp table.
    pub const ENVP: usize = 6;
    /// Number of environment entries.
    pub const ENVC: usize = 7;
    /// Descriptors below this number are the container's and stay open.
    pub const KEEP_BELOW: usize = 8;
    /// Not 0: the report is to have when each step began.
    pub const TIMED: usize = 9;
    /// Descriptors to become 0, 1 and 2, three words.
    pub const STDIO: usize = 10;
    /// [`super::super::SLOTS`] words: descriptors passed in, or -1.
    pub const SLOTS: usize = 13;
    /// The first step.
    pub const STEPS: usize = SLOTS + super::super::SLOTS;
}
