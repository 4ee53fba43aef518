//! Calls that some architectures also reach through another one, by its first argument.
//!
//! See socketcall(2) and ipc(2). A rule for `socket` must hold for `socketcall(1, ...)` too, or
//! a filter that denies the one is passed by through the other.

/// A call's way through another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Through {
    /// The call that is made.
    pub(super) call: &'static str,
    /// Bits of the first argument that count: the upper half of `ipc`'s is a version.
    pub(super) mask: u64,
    /// Their value.
    pub(super) value: u64,
}

const SOCKETCALL: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The other way to a call, where there is one.
pub(super) fn through(call: &str) -> Option<Through> {
    let find = |table: &[(&str, u64)]| {
        let found = table.iter().find(|(name, _)| *name == call);
        found.map(|(_, value)| *value)
    };
    if let Some(value) = find(&SOCKETCALL) {
        let (call, mask) = ("socketcall", u64::MAX);
        return Some(Through { call, mask, value });
    }
    let (call, mask) = ("ipc", 0xffff);
    find(&IPC).map(|value| Through { call, mask, value })
}
