//! The flat plan: what the library writes and init reads.
//!
//! One sealed file holds a header, the steps, the strings and the tables of
//! arguments and environment; nothing in it is a pointer. The report is a second
//! file, written by init and read by the library. Both are sequences of 64-bit
//! words in the machine's own byte order: writer and reader are one build.
//!
//! An [`Op`] exists in two forms, chosen by [`Form`]: with owned strings while
//! planning (and printing), with [`Span`]s into the plan once it is flat.

/// First word of a plan.
pub const PLAN_MAGIC: u64 = 0x0001_4e4c_505f_5443;
/// First word of a report.
pub const REPORT_MAGIC: u64 = 0x0001_5450_525f_5443;
/// Number of slots for file descriptors.
pub const SLOTS: usize = 32;
/// Words of a step's arguments.
pub const ARGS: usize = 8;
/// Words of one step: code and error policy, errnos, arguments.
pub const STEP_WORDS: usize = 2 + ARGS;
/// Free entries behind argv and envp, each: `HOME` and a terminating null.
pub const SPARE: usize = 4;
/// How many user namespaces there can be for the ids of mounts.
pub const ID_MAPS: usize = 8;
/// Longest detail text of a failure, in bytes.
pub const DETAIL_MAX: usize = 256;

/// Where init and the runtime half meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Barrier {
    /// After the last clone.
    Entered = 1,
    /// After the mounts, before the pivot.
    Mounted = 2,
    /// After init's last open, before the credentials.
    Ready = 3,
    /// Everything is done but the wait for `start`.
    Created = 4,
}

impl Word for Barrier {
    fn to_word(self) -> u64 {
        self as u64
    }
    fn from_word(word: u64) -> Self {
        match word {
            1 => Barrier::Entered,
            2 => Barrier::Mounted,
            3 => Barrier::Ready,
            _ => Barrier::Created,
        }
    }
}

/// What [`Op::Attach`] expects of its mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// A directory or a file, made if missing, as the mount's root is.
    LikeSource = 0,
    /// A directory; no symbolic link on the way (proc and sysfs).
    OrdinaryDirectory = 1,
    /// What is there, even if it is a symbolic link.
    NoFollow = 2,
    /// A directory of one name, as a rule to be made: what it is made in is nobody else's.
    New = 3,
}

impl Word for Place {
    fn to_word(self) -> u64 {
        self as u64
    }
    fn from_word(word: u64) -> Self {
        match word {
            0 => Place::LikeSource,
            1 => Place::OrdinaryDirectory,
            2 => Place::NoFollow,
            _ => Place::New,
        }
    }
}

/// What [`Op::MakeLink`] does where its name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Existing {
    /// It stays, whatever it is.
    Keep = 0,
    /// The link takes its place, unless something is mounted there.
    Replace = 1,
    /// It must be the same link.
    Same = 2,
}

impl Word for Existing {
    fn to_word(self) -> u64 {
        self as u64
    }
    fn from_word(word: u64) -> Self {
        match word {
            0 => Existing::Keep,
            1 => Existing::Replace,
            _ => Existing::Same,
        }
    }
}

/// What a step's error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Init ends.
    Fail,
    /// Recorded; the next step follows.
    Warn,
    /// One of these errnos (0: unused) means that there is nothing to do; the next
    /// `steps` steps are left out too. Any other errno is as [`OnError::Fail`].
    Skip {
        /// The errnos.
        errnos: [u16; 3],
        /// How many further steps are left out.
        steps: u8,
    },
}

/// What is known of a failure beyond its errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Nothing; the detail, if any, is the object.
    Plain = 0,
    /// The detail is the file system's own message.
    FileSystem = 1,
    /// proc or sysfs on something else than an ordinary directory.
    NotOrdinaryDirectory = 2,
    /// A device, pty or directory is not what it must be.
    Impostor = 3,
    /// The program is in no directory of PATH.
    NotInPath = 4,
    /// The script's interpreter is missing; the detail names it.
    Interpreter = 5,
    /// The ELF file's loader is missing; the detail names it.
    Loader = 6,
    /// The working directory is outside the container's root.
    Outside = 7,
    /// The runtime half went away at a barrier.
    RuntimeGone = 8,
    /// The program is a directory or has no execute permission.
    NotExecutable = 9,
    /// The file is no namespace, or one of another kind.
    NotThatNamespace = 10,
    /// A hook exited with the code in errno's place; the detail is what it wrote last.
    HookExited = 11,
    /// A hook was killed by the signal in errno's place; the detail as above.
    HookKilled = 12,
    /// A hook ran longer than it may, the seconds in errno's place; the detail as above.
    HookTimeout = 13,
    /// The ids of a file system can't be mapped; the detail is its number, as statfs(2)
    /// has it, in hexadecimal digits.
    NoIdMap = 14,
}

impl Kind {
    /// The kind stored as `number`; [`Kind::Plain`] for what is unknown.
    #[must_use]
    pub fn from_number(number: u32) -> Kind {
        match number {
            1 => Kind::FileSystem,
            2 => Kind::NotOrdinaryDirectory,
            3 => Kind::Impostor,
            4 => Kind::NotInPath,
            5 => Kind::Interpreter,
            6 => Kind::Loader,
            7 => Kind::Outside,
            8 => Kind::RuntimeGone,
            9 => Kind::NotExecutable,
            10 => Kind::NotThatNamespace,
            11 => Kind::HookExited,
            12 => Kind::HookKilled,
            13 => Kind::HookTimeout,
            14 => Kind::NoIdMap,
            _ => Kind::Plain,
        }
    }
}

/// Kinds of the messages that init sends over [`Slot::SOCKET`].
pub mod message {
    /// Stage 0 made the container's process: pid (4 bytes) and its pidfd.
    pub const CLONED: u8 = 1;
    /// Init waits at a barrier: index of the step (4 bytes).
    pub const BARRIER: u8 = 2;
    /// The pty's master side, as a descriptor.
    pub const CONSOLE: u8 = 3;
    /// Init's number of a descriptor to be taken with `pidfd_getfd(2)` (4 bytes).
    pub const LISTENER: u8 = 4;
    /// Length of every message in bytes.
    pub const LEN: usize = 8;
}

held_as_is! { u64 u32 i32 bool Slot Barrier Place Existing }

macro_rules! ops {
    ($( $(#[$meta:meta])* $name:ident = $code:literal { $( $(#[$fmeta:meta])* $field:ident : $kind:ident ),* $(,)? } )*) => {
        /// One thing that init does, as an operator would name it.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op<F: Form> {
            $( $(#[$meta])* $name { $( $(#[$fmeta])* $field: <$kind as Held>::In<F> ),* } ),*
        }

        impl<F: Form> Op<F> {
            /// The op's number in a flat plan.
            #[must_use]
            pub fn code(&self) -> u16 {
                match self { $( Op::$name { .. } => $code ),* }
            }

            /// The same op in another form.
            pub fn convert<G: Form>(&self, convert: &mut impl Convert<F, G>) -> Op<G> {
                match self {
                    $( Op::$name { $( $field ),* } => Op::$name { $( $field: <$kind as Held>::convert::<F, G>($field, convert) ),* } ),*
                }
            }
        }

        impl Op<Flat> {
            /// The op's arguments as words.
            #[must_use]
            pub fn to_words(&self) -> [u64; ARGS] {
                let mut words = [0; ARGS];
                match *self {
                    $( Op::$name { $( $field ),* } => {
                        #[allow(unused_mut, unused_variables, reason = "an op without fields")]
                        let mut rest = words.iter_mut();
                        $( if let Some(word) = rest.next() { *word = Word::to_word($field); } )*
                    } ),*
                }
                words
            }

            /// The op numbered `code` with these arguments.
            #[must_use]
            pub fn from_words(code: u16, words: &[u64; ARGS]) -> Option<Op<Flat>> {
                let mut rest = words.iter().copied();
                Some(match code {
                    $( $code => Op::$name { $( $field: Word::from_word(rest.next()?) ),* }, )*
                    _ => return None,
                })
            }
        }
    };
}

ops! {
    /// Closes every descriptor that is not the container's or in a slot.
    CloseFds = 1 {}
    /// Gives all signals their default disposition and unblocks them.
    ResetSignals = 2 {}
    /// `setsid(2)`.
    NewSession = 3 {}
    /// `clone3(2)` with `CLONE_PARENT`: the child goes on, this process reports it and exits.
    Clone = 4 {
        /// Namespaces and others of `CLONE_*`.
        flags: u64,
        /// The cgroup to be born in, or none.
        cgroup: Slot,
    }
    /// Waits for the runtime half.
    Wait = 5 {
        /// Which barrier.
        barrier: Barrier,
    }
    /// Waits for the runtime half without a message: it sends its byte unasked.
    WaitUntold = 86 {}
    /// `prctl(PR_SET_DUMPABLE, 0)`.
    NonDumpable = 6 {}
    /// Becomes uid and gid 0 of the user namespace.
    BecomeRoot = 7 {}
    /// `unshare(2)`.
    Unshare = 8 {
        /// `CLONE_NEW*`.
        flags: u64,
    }
    /// Sets the propagation of `/`.
    Propagation = 9 {
        /// `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE` or `MS_UNBINDABLE`; with `MS_REC` that of
        /// every mount below as well.
        kind: u64,
    }
    /// Makes the mount private that a path is on.
    PrivateParent = 64 {
        /// Absolute path on the host.
        path: Text,
    }
    /// Opens the root file system, without following what leads out of `/`.
    OpenRoot = 65 {
        /// Absolute path.
        path: Text,
        /// Where it goes.
        into: Slot,
    }
    /// `chroot(2)`, where the mount namespace is not the container's own.
    Chroot = 66 {}
    /// Binds the root file system on itself, so that it is a mount.
    BindRoot = 10 {
        /// Absolute path on the host.
        path: Text,
        /// Where the attached tree goes.
        into: Slot,
    }
    /// `fsopen(2)` to `fsmount(2)`: a new file system, detached.
    NewFs = 11 {
        /// File system type.
        kind: Text,
        /// Shown as the source in mountinfo.
        source: Text,
        /// Options separated by NUL bytes: `key` or `key=value`.
        data: Text,
        /// `MOUNT_ATTR_*`.
        attrs: u64,
        /// Path in the container whose mode the root directory gets, if it is there; or
        /// empty.
        like: Text,
        /// Where the mount goes.
        into: Slot,
    }
    /// Copies a directory of the container into a detached file system.
    CopyUp = 51 {
        /// Path in the container; nothing is copied where it is missing.
        path: Text,
        /// The mount.
        mount: Slot,
    }
    /// `open_tree(2)` with `OPEN_TREE_CLONE`: a bind source, detached.
    OpenTree = 12 {
        /// Absolute path on the host.
        path: Text,
        /// With everything mounted below it.
        recursive: bool,
        /// A symbolic link at the end of the path is the source itself.
        nofollow: bool,
        /// Where the tree goes.
        into: Slot,
    }
    /// Mounts a tmpfs that holds other mounts, and makes it the working directory.
    MountTrees = 54 {
        /// Absolute path on the host.
        path: Text,
    }
    /// `move_mount(2)` to a name in the working directory, made as the mount's root is.
    KeepTree = 55 {
        /// The detached mount.
        mount: Slot,
        /// The name.
        name: Text,
    }
    /// `mount_setattr(2)` with `MOUNT_ATTR_IDMAP`.
    Idmap = 56 {
        /// The detached mount.
        mount: Slot,
        /// The user namespace.
        map: Slot,
        /// With everything mounted below it.
        recursive: bool,
    }
    /// `mount_setattr(2)` on a slot.
    SetAttr = 13 {
        /// The mount.
        mount: Slot,
        /// `MOUNT_ATTR_*` to set.
        set: u64,
        /// `MOUNT_ATTR_*` to clear.
        clear: u64,
        /// `MS_*` propagation, or 0.
        propagation: u64,
        /// With everything mounted below it.
        recursive: bool,
    }
    /// `move_mount(2)` to a path of the container, made if missing.
    Attach = 14 {
        /// The detached mount.
        mount: Slot,
        /// The container's root, or what is mounted in it.
        dir: Slot,
        /// Path in that.
        path: Text,
        /// What the mount point must be.
        place: Place,
    }
    /// `mount_setattr(2)` on a path in the container's root.
    SetAttrAt = 15 {
        /// Path in the container.
        path: Text,
        /// `MOUNT_ATTR_*` to set.
        set: u64,
        /// `MOUNT_ATTR_*` to clear.
        clear: u64,
        /// `MS_*` propagation, or 0.
        propagation: u64,
        /// With everything mounted below it.
        recursive: bool,
    }
    /// `mount(2)` of a new file system on a directory of the container's root, made if
    /// missing.
    MountAt = 52 {
        /// File system type.
        kind: Text,
        /// Shown as the source in mountinfo.
        source: Text,
        /// All options, separated by commas.
        data: Text,
        /// `MS_*`.
        flags: u64,
        /// Path in the container.
        path: Text,
    }
    /// `fspick(2)`: changes the options of a file system that is mounted.
    Reconfigure = 53 {
        /// Path in the container.
        path: Text,
        /// Options separated by NUL bytes: `key` or `key=value`.
        data: Text,
    }
    /// Opens a directory of the container's root, made if missing.
    OpenDir = 16 {
        /// Path in the container.
        path: Text,
        /// Where it goes.
        into: Slot,
    }
    /// `mknodat(2)` in a directory, with exact mode and owner.
    MakeNode = 17 {
        /// The directory.
        dir: Slot,
        /// Name below it.
        name: Text,
        /// Type and permissions as `st_mode`.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
        /// Owner; `u32::MAX` leaves it as the node was made, and so with the group.
        uid: u32,
        /// Group.
        gid: u32,
    }
    /// Binds a device node of the host into a directory.
    BindNode = 18 {
        /// The directory.
        dir: Slot,
        /// Name below it.
        name: Text,
        /// Absolute path on the host.
        source: Text,
        /// Type that the source must have, as `st_mode` has it.
        kind: u32,
        /// Major number that the source must have.
        major: u32,
        /// Minor number that the source must have.
        minor: u32,
    }
    /// `symlinkat(2)`.
    MakeLink = 19 {
        /// The directory.
        dir: Slot,
        /// Name below it.
        name: Text,
        /// What the link holds.
        target: Text,
        /// What to do where something has the name.
        existing: Existing,
    }
    /// Opens the host's /dev/null and checks that it is character device 1:3.
    OpenNull = 20 {
        /// Where it goes.
        into: Slot,
    }
    /// Hides a path of the container: a file by /dev/null, a directory by an empty tmpfs.
    MaskPath = 21 {
        /// The container's root, or what is mounted in it.
        dir: Slot,
        /// Path in that.
        path: Text,
        /// It is one name, in a procfs or sysfs that this plan has mounted.
        kernels: bool,
    }
    /// Makes a path of the container read-only.
    ReadonlyPath = 22 {
        /// The container's root, or what is mounted in it.
        dir: Slot,
        /// Path in that.
        path: Text,
    }
    /// `pivot_root(2)` and lets go of the old root.
    PivotRoot = 23 {}
    /// `sethostname(2)`.
    SetHostname = 24 {
        /// The name.
        name: Text,
    }
    /// `setdomainname(2)`.
    SetDomainname = 25 {
        /// The name.
        name: Text,
    }
    /// Sets `IFF_UP` on `lo`.
    LoopbackUp = 26 {}
    /// Makes a pty in the container's devpts.
    OpenPty = 27 {
        /// Owner.
        uid: u32,
        /// Rows, or 0.
        rows: u32,
        /// Columns, or 0.
        columns: u32,
    }
    /// Binds the pty on the container's /dev/console.
    BindConsole = 28 {}
    /// Sends the pty's master side to the runtime half and closes it.
    SendConsole = 29 {}
    /// Makes the pty the controlling terminal and standard input, output and error.
    UseConsole = 30 {}
    /// `fchdir(2)` to a directory, made if missing; it must be inside the root.
    ChangeDir = 31 {
        /// Path in the container.
        path: Text,
    }
    /// Adds `HOME` from the container's /etc/passwd to the environment.
    FindHome = 32 {
        /// Whose home.
        uid: u32,
    }
    /// Looks the program up as `execvp(3)` does.
    FindProgram = 33 {}
    /// `keyctl(KEYCTL_JOIN_SESSION_KEYRING)`.
    SessionKeyring = 34 {
        /// Name of the keyring.
        name: Text,
    }
    /// `umask(2)`.
    SetUmask = 35 {
        /// Permissions to take away.
        mask: u32,
    }
    /// `setpriority(2)` of this process.
    SetNice = 36 {
        /// The nice value.
        nice: i32,
    }
    /// `sched_setaffinity(2)` to every CPU.
    AllCpus = 37 {}
    /// `prlimit(2)` of this process.
    SetRlimit = 81 {
        /// `RLIMIT_*`.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    }
    /// `prctl(PR_CAPBSET_DROP)` for every capability that is not kept.
    BoundingSet = 38 {
        /// Capabilities to keep, as bits.
        keep: u64,
        /// Highest capability that the kernel knows.
        last: u32,
    }
    /// `prctl(PR_SET_KEEPCAPS, 1)`.
    KeepCaps = 39 {}
    /// `setgroups(2)`.
    SetGroups = 40 {
        /// Group ids.
        gids: List,
    }
    /// `setresgid(2)` with one id.
    SetGid = 41 {
        /// The id.
        gid: u32,
    }
    /// `setresuid(2)` with one id.
    SetUid = 42 {
        /// The id.
        uid: u32,
    }
    /// `capset(2)`.
    SetCaps = 43 {
        /// Effective set.
        effective: u64,
        /// Permitted set.
        permitted: u64,
        /// Inheritable set.
        inheritable: u64,
    }
    /// `prctl(PR_CAP_AMBIENT_RAISE)` of one capability.
    RaiseAmbient = 44 {
        /// The capability's number.
        cap: u32,
    }
    /// `prctl(PR_SET_NO_NEW_PRIVS, 1)`.
    NoNewPrivs = 45 {}
    /// Reads a byte from exec.fifo: the wait for `start`.
    WaitStart = 46 {}
    /// `execve(2)` of the program found.
    Exec = 47 {}
    /// `move_mount(2)` of the root over `/`, and `chroot(2)`.
    MoveRoot = 49 {}
    /// `seccomp(2)`: from here on the filter answers for every call.
    LoadSeccomp = 50 {
        /// The instructions, two numbers each, as they lie in memory.
        program: List,
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u32,
        /// Whether the filter lets this program look at the clock.
        clock: bool,
        /// Where its listener goes, if it has one.
        listener: Slot,
    }
    /// Has the runtime half take a descriptor, waits for that, and closes it.
    PassListener = 85 {
        /// The descriptor.
        from: Slot,
    }
    /// Opens a namespace that is to be joined, and checks that it is one of its kind.
    OpenNamespace = 60 {
        /// Absolute path on the host.
        path: Text,
        /// `CLONE_NEW*`.
        kind: u64,
        /// Where it goes.
        into: Slot,
    }
    /// `setns(2)`; the descriptor is closed.
    Join = 61 {
        /// A namespace, or a pidfd.
        from: Slot,
        /// `CLONE_NEW*`: of a pidfd's process these.
        kinds: u64,
    }
    /// Enters the time namespace that this process has made for its children; the /proc is
    /// closed.
    EnterTime = 62 {
        /// The host's /proc.
        proc: Slot,
    }
    /// Opens /proc and checks that it is one.
    OpenProc = 63 {
        /// Where it goes.
        into: Slot,
    }
    /// `memfd_create(2)`: the state that hooks read, with a pid in its middle.
    HookState = 70 {
        /// The JSON up to the pid.
        before: Text,
        /// The JSON behind the pid; empty where `before` is all of it.
        after: Text,
        /// `MFD_*`.
        flags: u32,
        /// Where the file goes.
        into: Slot,
    }
    /// Runs a program to its end, in a process group of its own.
    RunHook = 71 {
        /// The program.
        path: Text,
        /// Its arguments, the first being its name.
        args: Strings,
        /// Its whole environment.
        env: Strings,
        /// Whether it gets the container's environment instead.
        inherit: bool,
        /// Seconds until its group is killed, or 0.
        timeout: u32,
        /// Its standard input.
        state: Slot,
        /// A socket whose end means that the group is to be killed, or none.
        lifeline: Slot,
    }
    /// Writes to a file of a procfs, in one `write(2)`.
    WriteProc = 72 {
        /// The procfs.
        proc: Slot,
        /// Path in it.
        path: Text,
        /// What is written.
        value: Text,
    }
    /// `set_mempolicy(2)`.
    SetMemoryPolicy = 73 {
        /// `MPOL_*` with `MPOL_F_*`.
        mode: u32,
        /// The nodes as bits, an even number of words.
        nodes: List,
    }
    /// `personality(2)`.
    SetPersonality = 74 {
        /// `PER_*`.
        persona: u32,
    }
    /// Writes to an attribute of this thread in a procfs.
    WriteAttribute = 75 {
        /// The procfs.
        proc: Slot,
        /// Path below the thread's directory.
        name: Text,
        /// What is written; empty takes back what was written before.
        value: Text,
    }
    /// `sched_setaffinity(2)` to these CPUs.
    SetCpus = 80 {
        /// The CPUs as bits, an even number of words.
        cpus: List,
    }
    /// `fsetxattr(2)`: the SELinux label of a mount's root.
    LabelRoot = 76 {
        /// The mount.
        mount: Slot,
        /// The label.
        label: Text,
    }
    /// Adds a variable with this process's own pid to the environment.
    AddPid = 77 {
        /// The name with its `=`.
        name: Text,
    }
    /// `close(2)` of a slot.
    Close = 48 {
        /// The slot.
        slot: Slot,
    }
}

/// A step of a flat plan.
#[derive(Clone, Debug, PartialEq)]
pub struct FlatStep {
    /// What to do.
    pub op: Op<Flat>,
    /// What its error means.
    pub on_error: OnError,
}

impl FlatStep {
    /// The step as words.
    #[must_use]
    pub fn to_words(&self) -> [u64; STEP_WORDS] {
        let (policy, steps, errnos) = match self.on_error {
            OnError::Fail => (0u64, 0u64, [0u16; 3]),
            OnError::Warn => (1, 0, [0; 3]),
            OnError::Skip { errnos, steps } => (2, steps as u64, errnos),
        };
        let [a, b, c] = errnos;
        let [w0, w1, w2, w3, w4, w5, w6, w7] = self.op.to_words();
        let head = self.op.code() as u64 | policy << 16 | steps << 24;
        let codes = a as u64 | (b as u64) << 16 | (c as u64) << 32;
        [head, codes, w0, w1, w2, w3, w4, w5, w6, w7]
    }

    /// The step of these words; `None` if no op has this code.
    #[must_use]
    pub fn from_words(words: &[u64; STEP_WORDS]) -> Option<FlatStep> {
        let [head, codes, w0, w1, w2, w3, w4, w5, w6, w7] = *words;
        let on_error = match (head >> 16) as u8 {
            0 => OnError::Fail,
            1 => OnError::Warn,
            _ => OnError::Skip {
                errnos: [codes as u16, (codes >> 16) as u16, (codes >> 32) as u16],
                steps: (head >> 24) as u8,
            },
        };
        let op = Op::from_words(head as u16, &[w0, w1, w2, w3, w4, w5, w6, w7])?;
        Some(FlatStep { op, on_error })
    }
}

mod calls;
mod form;
mod layout;
mod slot;
pub use calls::{CALLS, CLOCK, Call, HOOK_CLONE, calls};
use form::held_as_is;
pub use form::{Convert, Flat, Form, Held, List, Span, Strings, Text, Word};
pub use layout::{header, report};
pub use slot::Slot;

#[cfg(test)]
mod tests;
