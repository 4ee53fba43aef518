//! Small profiles, instruction by instruction; and what is refused.

use serde_json::json;

use super::{Architecture, SeccompError, compiled, docker_like, profile};
use crate::seccomp::Policy;
use crate::seccomp::compile::Insn;

fn listing(program: &[Insn]) -> String {
    let mut text = String::new();
    for (at, insn) in program.iter().enumerate() {
        let to = |distance: u8| at + 1 + usize::from(distance);
        let (yes, no) = (to(insn.if_true), to(insn.if_false));
        let k = insn.operand;
        text += &match insn.code {
            0x20 => format!("{at}: load {k}\n"),
            0x54 => format!("{at}: and {k:#x}\n"),
            0x05 => format!("{at}: jump {}\n", at + 1 + k as usize),
            0x15 => format!("{at}: == {k:#x} {yes} {no}\n"),
            0x25 => format!("{at}: > {k:#x} {yes} {no}\n"),
            0x35 => format!("{at}: >= {k:#x} {yes} {no}\n"),
            0x06 => format!("{at}: return {k:#x}\n"),
            other => format!("{at}: ? {other:#x}\n"),
        };
    }
    text
}

#[test]
fn one_denied_call_is_one_comparison() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 }],
    }));
    let expected = "\
0: load 4
1: == 0xc00000b7 3 2
2: return 0x80000000
3: load 0
4: == 0x11 5 6
5: return 0x5000d
6: return 0x7fff0000
";
    let found = listing(&compiled(&profile, Architecture::Aarch64));
    assert_eq!(found, expected, "{found}");
}

#[test]
fn the_program_for_a_profile_like_dockers_is_short() {
    let program = compiled(&docker_like(), Architecture::X86_64);
    assert!(program.len() < 700, "{}", program.len());
}

fn refusal(value: serde_json::Value) -> SeccompError {
    let policy = Policy::new(&profile(value), Architecture::X86_64);
    policy.and_then(|policy| policy.program()).unwrap_err()
}

#[test]
fn what_can_not_be_done_is_refused_by_name() {
    let rule = |rule| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    let cases = [
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"] }),
            "architectures[0]: \"SCMP_ARCH_VAX\" is not an architecture",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            "defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
        ),
        (
            rule(json!({ "names": ["read", "write"], "action": "SCMP_ACT_NOTIFY" })),
            "syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536 })),
            "syscalls[0].errnoRet: 65536 is not an errno: at most 65535",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO",
                "args": [{ "index": 6, "op": "SCMP_CMP_EQ" }] })),
            "syscalls[0].args[0].index: 6 is not an argument: 0 to 5",
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(refusal(value).to_string(), expected);
    }
}

#[test]
fn a_program_that_the_kernel_would_not_take_is_refused() {
    let rules = (0..900u64).map(|value| {
        let args = json!([{ "index": 1, "value": value << 33, "op": "SCMP_CMP_EQ" }]);
        let errno = value % 100;
        json!({ "names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args })
    });
    let error = refusal(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": rules.collect::<Vec<_>>(),
    }));
    assert!(matches!(error, SeccompError::TooLong { instructions } if instructions > 4096));
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_MIPS"],
        "syscalls": [{ "names": ["no_such_call", "read"], "action": "SCMP_ACT_LOG", "errnoRet": 1 }],
    }));
    let policy = Policy::new(&profile, Architecture::X86_64).unwrap();
    assert_eq!(
        policy.warnings,
        [
            "linux.seccomp.syscalls[0].errnoRet: has no effect with SCMP_ACT_LOG",
            "linux.seccomp.architectures[1]: SCMP_ARCH_MIPS: left out: no such system calls here",
        ]
    );
}
