//! Users, groups and capabilities.
//!
//! See credentials(7), capabilities(7) and user_namespaces(7).

use crate::abi::Span;
use crate::execute::{Init, Outcome};
use crate::sys;

/// In a new user namespace nobody is uid 0 yet; mounts and nodes need an owner.
pub(crate) fn become_root() -> Outcome {
    sys::setresgid(0)?;
    Ok(sys::setresuid(0)?)
}

pub(crate) fn bounding_set(keep: u64, last: u32) -> Outcome {
    const PR_CAPBSET_DROP: u64 = 24;
    for cap in 0..=last.min(63) {
        if keep >> cap & 1 == 0 {
            sys::prctl(PR_CAPBSET_DROP, cap as u64)?;
        }
    }
    Ok(())
}

/// Keeps the permitted set over setresuid(2); execve(2) clears the flag.
pub(crate) fn keep_caps() -> Outcome {
    const PR_SET_KEEPCAPS: u64 = 8;
    sys::prctl(PR_SET_KEEPCAPS, 1)?;
    Ok(())
}

pub(crate) fn set_groups(init: &Init, gids: Span) -> Outcome {
    Ok(sys::setgroups(init.bytes(gids)?)?)
}

pub(crate) fn set_gid(gid: u32) -> Outcome {
    Ok(sys::setresgid(gid)?)
}

pub(crate) fn set_uid(uid: u32) -> Outcome {
    Ok(sys::setresuid(uid)?)
}

pub(crate) fn set_caps(effective: u64, permitted: u64, inheritable: u64) -> Outcome {
    Ok(sys::capset(effective, permitted, inheritable)?)
}

pub(crate) fn raise_ambient(cap: u32) -> Outcome {
    Ok(sys::raise_ambient(cap)?)
}

pub(crate) fn no_new_privs() -> Outcome {
    const PR_SET_NO_NEW_PRIVS: u64 = 38;
    sys::prctl(PR_SET_NO_NEW_PRIVS, 1)?;
    Ok(())
}
