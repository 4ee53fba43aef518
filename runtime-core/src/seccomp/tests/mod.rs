//! A filter says what its profile says.
//!
//! # Layout
//! - `interpret`: runs a program as the kernel does; `plain`: answers from the profile itself,
//!   without tables of ranges or a program
//! - `exact`: small profiles, instruction by instruction, and refusals
//! - `properties`: made-up profiles, program against plain answer; `seccompiler` as a second opinion
//! - `engines`: the profiles of Docker and podman
//! - `oracle`: libseccomp's programs against ours, over a grid
//! - `numbers`: the tables against the crate `syscall-numbers`

mod engines;
mod exact;
mod interpret;
mod numbers;
mod oracle;
mod plain;
mod properties;

use std::path::Path;

use interpret::Call;

use super::architecture::{Architecture, X32_BIT};
use super::compile::Insn;
use super::profile::Policy;
use super::{SeccompError, compile};
use crate::spec::Seccomp;

const ALL: [Architecture; 8] = [
    Architecture::X86_64,
    Architecture::X86,
    Architecture::X32,
    Architecture::Aarch64,
    Architecture::Arm,
    Architecture::Riscv64,
    Architecture::Ppc64le,
    Architecture::S390x,
];

fn compiled(profile: &Seccomp, native: Architecture) -> Vec<Insn> {
    compile::compile(&Policy::new(profile, native).unwrap()).unwrap()
}

fn profile(json: serde_json::Value) -> Seccomp {
    serde_json::from_value(json).unwrap()
}

fn read(name: &str) -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seccomp");
    serde_json::from_slice(&std::fs::read(path.join(name)).unwrap()).unwrap()
}

fn docker_like() -> Seccomp {
    profile(read("docker-like.json"))
}

/// Numbers worth trying: all that are taken, the edges of everything.
fn all_numbers() -> Vec<u32> {
    let low = 0..700;
    let x32 = X32_BIT - 2..X32_BIT + 700;
    let arm = 0x000e_fffe..0x000f_0010;
    low.chain(x32)
        .chain(arm)
        .chain([0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX])
        .collect()
}

/// Argument lists around the values that a profile compares with: each argument in turn takes
/// each, in 64 bits and with halves exchanged, the others stay at one of a few.
fn all_arguments(profile: &Seccomp) -> Vec<[u64; 6]> {
    let mut values = vec![0, 1, u64::MAX, 1 << 32, 0xffff_ffff];
    for arg in profile.syscalls.iter().flat_map(|rule| &rule.args) {
        for value in [arg.value, arg.value_two] {
            let near = [value.wrapping_sub(1), value, value.wrapping_add(1)];
            values.extend(near);
            values.extend([
                value | 1 << 63,
                value ^ 1 << 32,
                value.rotate_left(32),
                !value,
            ]);
        }
    }
    values.sort_unstable();
    values.dedup();
    let mut lists: Vec<[u64; 6]> = values.iter().map(|value| [*value; 6]).collect();
    for value in &values {
        for index in 0..6 {
            let mut list = [2; 6];
            list[index] = *value;
            lists.push(list);
        }
    }
    lists.sort_unstable();
    lists.dedup();
    lists
}

/// Every call worth trying, on every architecture: all arguments where a profile looks at them.
fn grid(profile: &Seccomp, interesting: impl Fn(Architecture, u32) -> bool) -> Vec<Call> {
    let mut grid = Vec::new();
    let arguments = all_arguments(profile);
    for architecture in ALL {
        if architecture == Architecture::X32 {
            continue; // Its numbers are on x86_64's line.
        }
        for number in all_numbers() {
            let call = |arguments| Call {
                token: architecture.token(),
                number,
                arguments,
                big_endian: architecture.is_big_endian(),
            };
            if interesting(architecture, number) {
                grid.extend(arguments.iter().map(|list| call(*list)));
            } else {
                grid.push(call([3; 6]));
            }
        }
    }
    grid
}
