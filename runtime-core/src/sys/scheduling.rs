//! How another process is scheduled, see sched_setattr(2) and ioprio_set(2).

use rustix::io::Errno;

use super::{call, last_errno};

/// What sched_setattr(2) takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Of the ordinary policies.
    pub nice: i32,
    /// Of `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Of `SCHED_DEADLINE`, in nanoseconds, as the next two.
    pub runtime: u64,
    /// By when the runtime must have been given.
    pub deadline: u64,
    /// How often.
    pub period: u64,
}

/// `struct sched_attr` of linux/sched/types.h, in the size of Linux 5.3.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// `sched_setattr(2)` of another process.
pub(crate) fn sched_setattr(pid: i32, attributes: &SchedAttributes) -> Result<(), Errno> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: attributes.policy,
        flags: attributes.flags,
        nice: attributes.nice,
        priority: attributes.priority,
        runtime: attributes.runtime,
        deadline: attributes.deadline,
        period: attributes.period,
        util_min: 0,
        util_max: 0,
    };
    call("sched_setattr", || {
        // SAFETY: the structure is valid for reads and says its own size.
        let rc = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// `ioprio_set(2)` of another process.
pub(crate) fn ioprio_set(pid: i32, priority: u32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    call("ioprio_set", || {
        // SAFETY: plain numbers.
        let rc = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, priority) };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })
}
