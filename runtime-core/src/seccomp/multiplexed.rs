//! Calls that some architectures also reach through another one, by its first argument.
//!
//! See socketcall(2) and ipc(2). A rule for `socket` must hold for `socketcall(1, ...)` too, or
//! a filter that denies the one is passed by through the other.

use super::tables::CALLS;

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

/// For each line of the table of calls 0, or one more than the place in [`SOCKETCALL`] and, behind
/// that, [`IPC`].
static WAYS: [u8; CALLS.len()] = {
    let mut ways = [0; CALLS.len()];
    let mut place = 0;
    while place < SOCKETCALL.len() + IPC.len() {
        let name = match place < SOCKETCALL.len() {
            true => SOCKETCALL[place].0,
            false => IPC[place - SOCKETCALL.len()].0,
        };
        let mut line = 0;
        while !same(CALLS[line].0, name) {
            line += 1;
        }
        place += 1;
        ways[line] = place as u8;
    }
    ways
};

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The other way to the call in this line of the table, where there is one.
pub(super) fn through(line: usize) -> Option<Through> {
    let place = usize::from(*WAYS.get(line)?).checked_sub(1)?;
    let (call, mask, (_, value)) = match SOCKETCALL.get(place) {
        Some(found) => ("socketcall", u64::MAX, *found),
        None => ("ipc", 0xffff, *IPC.get(place - SOCKETCALL.len())?),
    };
    Some(Through { call, mask, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::architecture::line;

    #[test]
    fn calls_have_their_own_other_way() {
        let way = |call: &str| through(line(call, 0).unwrap());
        for (call, value) in SOCKETCALL {
            let (mask, call_made) = (u64::MAX, "socketcall");
            let expected = Through {
                call: call_made,
                mask,
                value,
            };
            assert_eq!(way(call), Some(expected), "{call}");
        }
        for (call, value) in IPC {
            let (mask, call_made) = (0xffff, "ipc");
            let expected = Through {
                call: call_made,
                mask,
                value,
            };
            assert_eq!(way(call), Some(expected), "{call}");
        }
        let all = CALLS.iter().filter(|(call, _)| way(call).is_some());
        assert_eq!(all.count(), SOCKETCALL.len() + IPC.len());
    }
}
