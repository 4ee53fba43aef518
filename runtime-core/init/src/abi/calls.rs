//! The system calls of ops that may run under the container's own seccomp filter.
//!
//! Planning asks the profile about each. An op that moves behind [`Op::LoadSeccomp`] needs its
//! calls here; a golden plan shows if they are missing.

use super::{Form, Op};

/// A system call with the first of its arguments, as far as it is always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// The first argument.
    pub first: Option<u64>,
}

const fn any(name: &'static str) -> Call {
    Call { name, first: None }
}

const fn prctl(option: u64) -> Call {
    Call {
        name: "prctl",
        first: Some(option),
    }
}

const fn clone(flags: u64) -> Call {
    Call {
        name: "clone",
        first: Some(flags),
    }
}

/// `CLONE_PIDFD | SIGCHLD`: the flags of a hook's clone.
pub const HOOK_CLONE: u64 = 0x1000 | 17;

/// The clock, which init asks after each step if it may.
pub const CLOCK: Call = any("clock_gettime");

/// [`CLOCK`], and each call of [`calls`] once.
pub const CALLS: [Call; 25] = [
    CLOCK,
    prctl(24),
    prctl(8),
    any("setgroups"),
    any("setresgid"),
    any("setresuid"),
    any("capset"),
    prctl(47),
    prctl(4),
    any("statx"),
    any("faccessat2"),
    any("sendmsg"),
    any("read"),
    any("close"),
    any("write"),
    any("lseek"),
    any("pipe2"),
    clone(HOOK_CLONE),
    any("setpgid"),
    any("dup3"),
    any("close_range"),
    any("execve"),
    any("ppoll"),
    any("waitid"),
    any("kill"),
];

/// What an op calls when nothing fails. Empty for ops that only run before a filter.
#[must_use]
pub fn calls<F: Form>(op: &Op<F>) -> &'static [Call] {
    // The numbers are PR_CAPBSET_DROP, PR_SET_KEEPCAPS, PR_CAP_AMBIENT and PR_SET_DUMPABLE.
    match op {
        Op::BoundingSet { .. } => const { &[prctl(24)] },
        Op::KeepCaps {} => const { &[prctl(8)] },
        Op::SetGroups { .. } => const { &[any("setgroups")] },
        Op::SetGid { .. } => const { &[any("setresgid")] },
        Op::SetUid { .. } => const { &[any("setresuid")] },
        Op::SetCaps { .. } => const { &[any("capset")] },
        Op::RaiseAmbient { .. } => const { &[prctl(47)] },
        Op::NonDumpable {} => const { &[prctl(4)] },
        Op::FindProgram {} => const { &[any("statx"), any("faccessat2")] },
        Op::Wait { .. } => const { &[any("sendmsg"), any("read")] },
        Op::WaitUntold {} => const { &[any("read")] },
        Op::WaitStart {} => const { &[any("read"), any("close")] },
        Op::Close { .. } => const { &[any("close")] },
        Op::PassListener { .. } => const { &[any("write"), any("read"), any("close")] },
        Op::RunHook { .. } => {
            const {
                &[
                    any("lseek"),
                    any("pipe2"),
                    clone(HOOK_CLONE),
                    any("setpgid"),
                    any("dup3"),
                    any("close_range"),
                    any("execve"),
                    any("close"),
                    any("ppoll"),
                    any("read"),
                    any("waitid"),
                    any("kill"),
                ]
            }
        }
        Op::Exec {} => const { &[any("execve")] },
        _ => &[],
    }
}
