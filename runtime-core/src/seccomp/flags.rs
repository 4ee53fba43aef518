//! `linux.seccomp.flags`: what is asked of seccomp(2) besides the filter.

use super::SeccompError;

/// Names of config.json and the kernel's bits, from linux/seccomp.h.
pub(crate) const KNOWN_FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];

/// What runc sets where config.json names no flags.
pub(crate) const SPEC_ALLOW: u32 = 1 << 2;
/// Has seccomp(2) return the descriptor on which calls are notified.
pub(crate) const NEW_LISTENER: u32 = 1 << 3;
/// All threads get the filter. Init has one.
pub(crate) const TSYNC: u32 = 1 << 0;
/// Only with a listener; without one the kernel refuses it.
pub(crate) const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The bits of these names.
pub(crate) fn flags(names: &[String]) -> Result<u32, SeccompError> {
    let mut bits = 0;
    for (index, name) in names.iter().enumerate() {
        let known = KNOWN_FLAGS.iter().find(|(known, _)| known == name);
        let (_, bit) = known.ok_or_else(|| SeccompError::Flag {
            index,
            name: name.clone(),
        })?;
        bits |= bit;
    }
    Ok(bits)
}
