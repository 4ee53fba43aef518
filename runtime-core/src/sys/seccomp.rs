//! What the kernel knows of seccomp(2). Filters are loaded by init.

use rustix::io::Errno;

use super::{call, last_errno};

/// `SECCOMP_FILTER_FLAG_*`: TSYNC, LOG, SPEC_ALLOW, NEW_LISTENER, TSYNC_ESRCH and
/// WAIT_KILLABLE_RECV. TSYNC goes with NEW_LISTENER only together with TSYNC_ESRCH, and
/// WAIT_KILLABLE_RECV needs NEW_LISTENER.
const ALL: u32 = 0x3f;
const NEW_LISTENER: u32 = 1 << 3;
const TSYNC_ESRCH: u32 = 1 << 4;

/// The flags that the kernel knows; none where it has no filters.
pub(crate) fn known_flags() -> Option<u32> {
    if knows(ALL) {
        return Some(ALL);
    }
    let one = |bit: u32| (0..6).contains(&bit).then_some(1u32 << bit);
    let found = (0..6).filter_map(one);
    knows(0).then(|| {
        found
            .filter(|flag| knows(*flag | if *flag > TSYNC_ESRCH { NEW_LISTENER } else { 0 }))
            .fold(0, |bits, flag| bits | flag)
    })
}

/// Without a program the kernel says EINVAL to flags that it does not know, else EFAULT.
fn knows(flags: u32) -> bool {
    call("seccomp", || set_filter(flags)) == Err(Errno::FAULT)
}

fn set_filter(flags: u32) -> Result<(), Errno> {
    let program = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel reads no memory at a null pointer, and so loads no filter.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            program,
        )
    };
    if rc == -1 {
        return Err(last_errno());
    }
    Ok(())
}
