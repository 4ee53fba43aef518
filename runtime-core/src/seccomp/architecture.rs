//! The architectures that a filter can be compiled for.
//!
//! See `AUDIT_ARCH_*` in linux/audit.h. A kernel reports its own architecture and those whose
//! programs it runs as well: x86_64 runs x86 and x32.

use serde::Serialize;

use super::tables::{CALLS, NONE};

/// The bit in the number of an x32 call; it shares x86_64's audit token.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// An architecture, as columns of the table are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(usize)]
#[allow(missing_docs, reason = "names of architectures")]
pub enum Architecture {
    #[serde(rename = "x86_64")]
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Ppc64le,
    S390x,
}

/// Names of config.json; without an architecture where Linux knows it but there is no table.
const NAMES: [(&str, Option<Architecture>); 23] = [
    ("SCMP_ARCH_X86_64", Some(Architecture::X86_64)),
    ("SCMP_ARCH_X86", Some(Architecture::X86)),
    ("SCMP_ARCH_X32", Some(Architecture::X32)),
    ("SCMP_ARCH_AARCH64", Some(Architecture::Aarch64)),
    ("SCMP_ARCH_ARM", Some(Architecture::Arm)),
    ("SCMP_ARCH_RISCV64", Some(Architecture::Riscv64)),
    ("SCMP_ARCH_PPC64LE", Some(Architecture::Ppc64le)),
    ("SCMP_ARCH_S390X", Some(Architecture::S390x)),
    ("SCMP_ARCH_LOONGARCH64", None),
    ("SCMP_ARCH_M68K", None),
    ("SCMP_ARCH_MIPS", None),
    ("SCMP_ARCH_MIPS64", None),
    ("SCMP_ARCH_MIPS64N32", None),
    ("SCMP_ARCH_MIPSEL", None),
    ("SCMP_ARCH_MIPSEL64", None),
    ("SCMP_ARCH_MIPSEL64N32", None),
    ("SCMP_ARCH_PARISC", None),
    ("SCMP_ARCH_PARISC64", None),
    ("SCMP_ARCH_PPC", None),
    ("SCMP_ARCH_PPC64", None),
    ("SCMP_ARCH_S390", None),
    ("SCMP_ARCH_SH", None),
    ("SCMP_ARCH_SHEB", None),
];

/// Names of the architectures that filters are made for.
pub(crate) fn architectures() -> Vec<&'static str> {
    let has_table = NAMES.iter().filter(|(_, table)| table.is_some());
    has_table.map(|(name, _)| *name).collect()
}

impl Architecture {
    /// What this program was compiled for; none where there is no table.
    #[must_use]
    pub fn native() -> Option<Architecture> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Architecture::X86_64),
            "aarch64" => Some(Architecture::Aarch64),
            "riscv64" => Some(Architecture::Riscv64),
            "powerpc64" if cfg!(target_endian = "little") => Some(Architecture::Ppc64le),
            "s390x" => Some(Architecture::S390x),
            _ => None,
        }
    }

    /// The architecture of this name in config.json: none for an unknown name, and
    /// `Some(None)` for one that is known but has no table here.
    pub(super) fn named(name: &str) -> Option<Option<Architecture>> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, architecture)| *architecture)
    }

    /// `AUDIT_ARCH_*`.
    pub(super) fn token(self) -> u32 {
        match self {
            Architecture::X86_64 | Architecture::X32 => 0xc000_003e,
            Architecture::X86 => 0x4000_0003,
            Architecture::Aarch64 => 0xc000_00b7,
            Architecture::Arm => 0x4000_0028,
            Architecture::Riscv64 => 0xc000_00f3,
            Architecture::Ppc64le => 0xc000_0015,
            Architecture::S390x => 0x8000_0016,
        }
    }

    /// Whether arguments are compared as 64 bits; else only the lower half counts.
    pub(super) fn is_wide(self) -> bool {
        !matches!(
            self,
            Architecture::X86 | Architecture::X32 | Architecture::Arm
        )
    }

    pub(super) fn is_big_endian(self) -> bool {
        self == Architecture::S390x
    }

    /// Whether `socketcall(2)` and `ipc(2)` exist.
    pub(super) fn multiplexes(self) -> bool {
        matches!(
            self,
            Architecture::X86 | Architecture::Ppc64le | Architecture::S390x
        )
    }

    /// Numbers of its own that lie above all others: new calls are numbered below them.
    /// Without [`X32_BIT`].
    pub(super) fn own_numbers(self) -> Option<(u32, u32)> {
        match self {
            // Calls whose arguments differ from x86_64's, see syscall_64.tbl.
            Architecture::X32 => Some((512, 547)),
            // __ARM_NR_BASE in asm/unistd.h.
            Architecture::Arm => Some((0x000f_0000, u32::MAX)),
            _ => None,
        }
    }

    /// The first number of this architecture's own.
    pub(super) fn first_number(self) -> u32 {
        if self == Architecture::X32 {
            X32_BIT
        } else {
            0
        }
    }

    /// The number of a call in one line of the table, x32's without its bit.
    pub(super) fn column(self, numbers: &[u32; 8]) -> Option<u32> {
        numbers
            .get(self as usize)
            .copied()
            .filter(|number| *number != NONE)
    }
}

/// The numbers of a call.
pub(super) fn numbers(call: &str) -> Option<&'static [u32; 8]> {
    numbers_at(line(call, 0)?)
}

/// The numbers in a line of the table.
pub(super) fn numbers_at(line: usize) -> Option<&'static [u32; 8]> {
    CALLS.get(line).map(|(_, numbers)| numbers)
}

/// The line of a call in the table. Profiles name nearly all calls, in order: it is looked for
/// first where the line of the call before ends.
pub(super) fn line(call: &str, near: usize) -> Option<usize> {
    let lines = CALLS.get(near..).unwrap_or_default().iter().take(4);
    match lines.map(|(name, _)| *name).position(|name| name == call) {
        Some(found) => Some(near + found),
        None => CALLS.binary_search_by_key(&call, |(name, _)| name).ok(),
    }
}
