//! The tables against another crate's.

use syscall_numbers as other;

use super::{ALL, Architecture};
use crate::seccomp::tables::CALLS;

type Name = fn(core::ffi::c_long) -> Option<&'static str>;

fn theirs(architecture: Architecture) -> Name {
    match architecture {
        Architecture::X86_64 => other::x86_64::sys_call_name,
        Architecture::X86 => other::x86::sys_call_name,
        Architecture::X32 => other::x32::sys_call_name,
        Architecture::Aarch64 => other::aarch64::sys_call_name,
        Architecture::Arm => other::arm::sys_call_name,
        Architecture::Riscv64 => other::riscv64::sys_call_name,
        Architecture::Ppc64le => other::powerpc64::sys_call_name,
        Architecture::S390x => other::s390x::sys_call_name,
    }
}

#[test]
fn names_are_in_order_and_no_number_is_given_twice() {
    assert!(CALLS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for architecture in ALL {
        // On arm another name of sync_file_range2.
        let named = |(name, _): &&(&str, _)| *name != "arm_sync_file_range";
        let column = CALLS
            .iter()
            .filter(named)
            .filter_map(|(_, line)| architecture.column(line));
        let mut numbers: Vec<u32> = column.collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all, "{architecture:?}");
        assert!(all > 300, "{architecture:?}: {all}");
    }
}

fn plain(name: &str) -> &str {
    let name = name.strip_prefix("arm_").unwrap_or(name);
    let name = name.strip_suffix("_time32").unwrap_or(name);
    name.strip_suffix("32").unwrap_or(name)
}

#[test]
fn numbers_are_those_of_the_crate_syscall_numbers() {
    let mut differences = Vec::new();
    for architecture in ALL {
        for (name, line) in &CALLS {
            let Some(number) = architecture.column(line) else {
                continue;
            };
            let number = i64::from(architecture.first_number() + number);
            match theirs(architecture)(number) {
                // The kernel's own names for the old form of a call; programs and libseccomp use
                // the plain one.
                Some(other) if plain(other) != plain(name) && *name != "arm_sync_file_range" => {
                    differences.push(format!("{architecture:?} {number}: {name} {other}"));
                }
                _ => {}
            }
        }
    }
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn what_newer_kernels_have_lost_can_still_be_denied() {
    for name in ["uselib", "bdflush", "_sysctl"] {
        let line = crate::seccomp::architecture::numbers(name).expect("a profile may name it");
        assert!(Architecture::X86.column(line).is_some(), "{name}");
    }
}
