//! How a process is scheduled and where its memory comes from: the kernel's numbers for the
//! names of the specification.
//!
//! See sched_setattr(2), ioprio_set(2), set_mempolicy(2), personality(2). Data only.

/// Names and what the kernel calls them.
pub(crate) type Names = &'static [(&'static str, u32)];

/// `SCHED_*` of linux/sched.h. There is no `SCHED_ISO` in any kernel.
pub(crate) const POLICIES: Names = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// `SCHED_FLAG_*` of linux/sched.h.
pub(crate) const SCHED_FLAGS: Names = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// `IOPRIO_CLASS_*` of linux/ioprio.h.
pub(crate) const IO_CLASSES: Names = &[
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];

/// `MPOL_*` of linux/mempolicy.h.
pub(crate) const MEMORY_MODES: Names = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// `MPOL_F_*` of linux/mempolicy.h.
pub(crate) const MEMORY_FLAGS: Names = &[
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// `PER_*` of linux/personality.h.
pub(crate) const PERSONALITIES: Names = &[("LINUX", 0), ("LINUX32", 8)];

/// More nodes than any kernel is built for, see `NODES_SHIFT` in its Kconfig files.
pub(crate) const NODES: u32 = 1024;

/// The number of a name.
pub(crate) fn number(names: Names, name: &str) -> Option<u32> {
    let found = names.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| *number)
}

/// All these names as bits; names that are not known are left out.
pub(crate) fn bits(names: Names, wanted: &[String]) -> u32 {
    let bits = wanted.iter().filter_map(|name| number(names, name));
    bits.fold(0, |all, bit| all | bit)
}

/// The numbers of a list as `0-3,7`, below `limit`, as the kernel's bits: 32 in each word.
/// Blanks and empty parts do not count. Otherwise the part that is wrong.
pub(crate) fn list(text: &str, limit: u32) -> Result<Vec<u32>, &str> {
    let mut words: Vec<u32> = Vec::new();
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    for part in parts {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| digits(text));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(part);
        };
        if first > last || last >= limit {
            return Err(part);
        }
        for number in first..=last {
            let word = (number / 32) as usize;
            words.resize(words.len().max(word + 1), 0);
            words[word] |= 1 << (number % 32);
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_the_kernel_writes_it() {
        assert_eq!(list("0-3,7", 1024), Ok(vec![0x8f]));
        assert_eq!(list(" 33 , 31,,", 1024), Ok(vec![1 << 31, 2]));
        assert_eq!(list("", 1024), Ok(vec![]));
        assert_eq!(list("1023", 1024).map(|words| words.len()), Ok(32));
        for (text, wrong) in [
            ("1,x", "x"),
            ("3-1", "3-1"),
            ("1024", "1024"),
            ("-1", "-1"),
            ("1-", "1-"),
            ("+1", "+1"),
            ("0x1", "0x1"),
            ("4294967296", "4294967296"),
            ("0-4294967295", "0-4294967295"),
        ] {
            assert_eq!(list(text, 1024), Err(wrong), "{text}");
        }
    }
}
