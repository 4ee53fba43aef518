//! The plan's data: steps, what they do, whose they are, where they come from.
//!
//! No step decides anything: what depends on config.json was decided while planning.

use std::fmt;
use std::path::PathBuf;

use corten_init::abi::{Form, OnError, Op, Slot};

use super::resctrl::Group;
use super::seccomp::Suspect;
use crate::spec::Hook;
use crate::sys::scheduling::SchedAttributes;

/// A string of an op: any bytes, since paths of a host need not be UTF-8.
///
/// Only the option list of a new file system holds NUL bytes, as separators.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    /// The bytes, without a terminating NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl<T: AsRef<[u8]>> From<T> for Bytes {
    fn from(bytes: T) -> Self {
        Bytes(bytes.as_ref().to_vec())
    }
}

/// The form of an op while planning: strings are owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned;

impl Form for Planned {
    type Text = Bytes;
    type List = Vec<u32>;
    type Strings = Vec<Bytes>;
}

/// An op of init, as planned.
pub type InitOp = Op<Planned>;

/// How the container's process gets into its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `CLONE_INTO_CGROUP` by the last clone.
    IntoCgroup,
    /// systemd moves it into the scope that it makes for it.
    ScopeByPid,
    /// It stays in the cgroup of its creator.
    None,
}

/// What the runtime half does in a step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RunOp {
    /// Writes down what a later delete would have to undo.
    RecordIntent,
    /// Makes the container's cgroup.
    MakeCgroup,
    /// Has systemd make the container's scope, with the process in it.
    StartScope,
    /// Writes one file of the cgroup.
    WriteCgroup {
        /// Index into [`super::Plan::limits`].
        limit: usize,
    },
    /// Gives the cgroup to the container's user.
    DelegateCgroup {
        /// As the host numbers it.
        uid: u32,
    },
    /// Opens the cgroup of a container that is there.
    OpenCgroup,
    /// Takes a pidfd of the container's process, for init.
    TakeProcess {
        /// Where init gets it.
        slot: Slot,
    },
    /// Loads the device program and attaches it to the cgroup.
    AttachDevices,
    /// Makes exec.fifo and the `done` fifo.
    MakeFifos,
    /// Makes the directory on which init mounts the sources of binds.
    MakeTrees,
    /// Makes a user namespace whose ids mounts are mapped to.
    MakeIdMap {
        /// Where init gets it.
        slot: Slot,
        /// Lines of its `uid_map`.
        uids: String,
        /// Lines of its `gid_map`.
        gids: String,
    },
    /// Starts init: `clone3(2)` and `execveat(2)`.
    Launch {
        /// Namespaces of the clone, `CLONE_NEW*`.
        namespaces: u64,
        /// Whether this clone enters the cgroup.
        into_cgroup: bool,
        /// Whether init itself makes the container's process by a second clone.
        stage0: bool,
    },
    /// Writes `uid_map`.
    WriteUidMap(String),
    /// Writes `gid_map`.
    WriteGidMap(String),
    /// Compares `uid_map` with what config.json says of a namespace that is joined.
    CheckUidMap(String),
    /// Compares `gid_map`.
    CheckGidMap(String),
    /// Writes `timens_offsets`.
    WriteTimeOffsets(String),
    /// Moves a network device of the host into the container.
    MoveNetDevice {
        /// Its name.
        name: String,
        /// Its name in the container.
        new_name: String,
    },
    /// Writes `oom_score_adj`.
    SetOomScoreAdj(i64),
    /// `prlimit(2)`.
    SetRlimit {
        /// `RLIMIT_*`.
        resource: u32,
        /// The soft limit; `u64::MAX` is no limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
    },
    /// `sched_setattr(2)`.
    SetScheduler(SchedAttributes),
    /// `ioprio_set(2)` with class and level.
    SetIoPriority(u32),
    /// Makes a class of service, or looks whether it is what config.json says.
    MakeResctrl(Group),
    /// Moves the process into it.
    JoinResctrl(Group),
    /// Runs a hook on the host and waits for it.
    RunHook(Hook),
    /// Takes the pty's master and hands it on.
    TakeConsole,
    /// Hands a pidfd of the process on.
    HandOnProcess,
    /// Takes the filter's listener and sends it to `linux.seccomp.listenerPath`.
    TakeListener {
        /// The socket.
        path: PathBuf,
        /// `linux.seccomp.listenerMetadata`.
        metadata: String,
    },
    /// Looks up what state.json holds besides the process.
    PrepareState,
    /// Writes state.json.
    RecordState,
}

/// What a step does, and so whose it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Init does it, in the container.
    Init(InitOp),
    /// The runtime half does it, on the host.
    Run(RunOp),
}

/// Names of config.json may hold line breaks and worse; a plan's words are shown to people.
fn one_line(text: String) -> String {
    // Nearly all are of this kind, and it is told without decoding characters.
    if is_printable(text.as_bytes()) {
        return text;
    }
    let shown = |c: char| match c {
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Whether all bytes are from `b' '` to `b'~'`.
fn is_printable(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    // Eight at a time: the highest bit is set in each that is below, above, or no ASCII. A byte
    // that borrows from, or carries into, the next one is no good itself.
    let good = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        let each = |byte: u8| u64::from_ne_bytes([byte; 8]);
        let bad = word | word.wrapping_sub(each(b' ')) | word.wrapping_add(each(1));
        bad & each(0x80) == 0
    };
    words.iter().all(good) && rest.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The place of an element of a list in config.json, such as `mounts[3]`. There is one for most
/// steps, and this takes a tenth of what formatting does.
pub(super) fn place(list: &str, index: usize) -> String {
    let mut digits = [0; 20];
    let mut first = digits.len();
    let mut rest = index;
    while let Some((at, digit)) = first
        .checked_sub(1)
        .and_then(|at| Some((at, digits.get_mut(at)?)))
    {
        *digit = b'0' + (rest % 10) as u8;
        (first, rest) = (at, rest / 10);
        if rest == 0 {
            break;
        }
    }
    let digits = digits
        .get(first..)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    [list, "[", digits.unwrap_or_default(), "]"].concat()
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// The place in config.json that asked for it, such as `mounts[3]`.
    pub origin: String,
    /// The same in words, such as `mount proc on /proc`.
    pub what: String,
    /// What its error means.
    pub on_error: OnError,
    /// What of the seccomp profile may be why it fails.
    pub(crate) suspects: Vec<Suspect>,
}

impl Step {
    /// A step of init whose error ends the start.
    pub(crate) fn init(op: InitOp, origin: impl Into<String>, what: impl Into<String>) -> Step {
        Step {
            action: Action::Init(op),
            origin: one_line(origin.into()),
            what: one_line(what.into()),
            on_error: OnError::Fail,
            suspects: Vec::new(),
        }
    }

    /// A step of the runtime half whose error ends the start.
    pub(crate) fn run(op: RunOp, origin: impl Into<String>, what: impl Into<String>) -> Step {
        Step {
            action: Action::Run(op),
            origin: one_line(origin.into()),
            what: one_line(what.into()),
            on_error: OnError::Fail,
            suspects: Vec::new(),
        }
    }

    /// The same step, whose error is only a warning.
    pub(crate) fn or_warn(mut self) -> Step {
        self.on_error = OnError::Warn;
        self
    }

    /// The same step, for which these errnos mean that there is nothing to do; then the
    /// `steps` that follow are left out too.
    pub(crate) fn or_skip(mut self, codes: &[i32], steps: u8) -> Step {
        let mut errnos = [0; 3];
        for (place, code) in errnos.iter_mut().zip(codes) {
            *place = u16::try_from(*code).unwrap_or(0);
        }
        self.on_error = OnError::Skip { errnos, steps };
        self
    }

    /// Whether init runs this step.
    #[must_use]
    pub fn is_init(&self) -> bool {
        matches!(self.action, Action::Init(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_that_can_not_be_printed_is_found_wherever_it_is() {
        for byte in 0..=u8::MAX {
            for at in 0..19 {
                let mut text = [b'~'; 19];
                text[at] = byte;
                let printable = (b' '..=b'~').contains(&byte);
                assert_eq!(is_printable(&text), printable, "{byte:#x} at {at}");
                let mut text = [b' '; 19];
                text[at] = byte;
                assert_eq!(is_printable(&text), printable, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn a_place_is_the_list_and_the_number() {
        for index in [0, 7, 10, 100, 65_535, usize::MAX] {
            assert_eq!(place("mounts", index), format!("mounts[{index}]"));
        }
    }
}
