//! [`Slot`]: the descriptors that init holds between steps.

/// A numbered place that holds one file descriptor between steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u8);

impl Slot {
    /// The socket to the runtime half.
    pub const SOCKET: Slot = Slot(0);
    /// exec.fifo: `start` writes a byte into it.
    pub const EXEC_FIFO: Slot = Slot(1);
    /// The `done` fifo: its end of file says that init is over.
    pub const DONE: Slot = Slot(2);
    /// The container's cgroup directory.
    pub const CGROUP: Slot = Slot(3);
    /// Root of the container's file system.
    pub const ROOT: Slot = Slot(4);
    /// The host's /dev/null, verified: source of file masks.
    pub const NULL: Slot = Slot(5);
    /// The empty read-only tmpfs: source of directory masks.
    pub const EMPTY: Slot = Slot(6);
    /// The container's /dev.
    pub const DEV: Slot = Slot(7);
    /// The pty's master side.
    pub const PTY_MASTER: Slot = Slot(8);
    /// The pty's slave side.
    pub const PTY: Slot = Slot(9);
    /// The mount being made.
    pub const MOUNT: Slot = Slot(10);
    /// The first of eight namespaces to be joined; bind sources come to these places later.
    pub const NAMESPACES: Slot = Slot(11);
    /// The host's /proc, on the way into the namespaces.
    pub const HOST_PROC: Slot = Slot(19);
    /// The container's state as JSON: standard input of hooks.
    pub const HOOK_STATE: Slot = Slot(20);
    /// A procfs in which nobody can put anything in the way.
    pub const PROC: Slot = Slot(21);
    /// Where a filter's notifications are read.
    pub const LISTENER: Slot = Slot(22);
    /// What is mounted on the container's /proc, for paths that are hidden in it.
    pub const PROC_MOUNT: Slot = Slot(23);
    /// The same of its /sys; the last of the namespaces has been joined by then.
    pub const SYS_MOUNT: Slot = Slot(18);
    /// The first of [`super::ID_MAPS`] user namespaces, whose ids mounts are mapped to.
    pub const ID_MAPS: Slot = Slot(24);
    /// No slot.
    pub const NONE: Slot = Slot(255);
}
