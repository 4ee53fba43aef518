//! `linux.seccomp`: the filter on system calls, as written.
//!
//! Data only; see seccomp(2). Architectures and flags stay words: the compiler knows which it has.

use serde::{Deserialize, Serialize};

use super::json::{nullable, objects, text, unset};

/// `linux.seccomp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// For system calls that no rule names.
    pub default_action: SeccompAction,
    /// Errno of that action.
    #[serde(default, skip_serializing_if = "unset")]
    pub default_errno_ret: Option<u32>,
    /// Names as `SCMP_ARCH_X86_64`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub architectures: Vec<String>,
    /// Names as `SECCOMP_FILTER_FLAG_LOG`; an empty list asks for none, no list for the usual.
    #[serde(default, skip_serializing_if = "unset")]
    pub flags: Option<Vec<String>>,
    /// Socket that gets the filter's notification fd.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "unset")]
    pub listener_path: Option<String>,
    /// Passed on to that socket.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "unset")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "unset")]
    pub syscalls: Vec<SeccompRule>,
}

/// One of `linux.seccomp.syscalls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompRule {
    /// System calls.
    #[serde(default, deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// What is done when one of them is called.
    pub action: SeccompAction,
    /// Errno of that action.
    #[serde(default, skip_serializing_if = "unset")]
    pub errno_ret: Option<u32>,
    /// Conditions on arguments; all must hold.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "unset")]
    pub args: Vec<SeccompArg>,
}

/// One condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg {
    /// Which argument, from 0.
    #[serde(default, deserialize_with = "nullable")]
    pub index: u32,
    /// Compared with it; the mask for `SCMP_CMP_MASKED_EQ`.
    #[serde(default, deserialize_with = "nullable")]
    pub value: u64,
    /// The value under the mask.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub value_two: u64,
    /// How.
    pub op: SeccompOperator,
}

/// What the kernel does about a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompAction {
    /// Kills the thread; the older name.
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// Kills the process.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Kills the thread.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// Sends SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// Returns an errno.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// Asks the tracer.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Lets it pass.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// Lets it pass and logs it.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Asks the listener.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

impl SeccompAction {
    /// Every action, in the order of their names.
    pub(crate) const ALL: [SeccompAction; 9] = [
        SeccompAction::Allow,
        SeccompAction::Errno,
        SeccompAction::Kill,
        SeccompAction::KillProcess,
        SeccompAction::KillThread,
        SeccompAction::Log,
        SeccompAction::Notify,
        SeccompAction::Trace,
        SeccompAction::Trap,
    ];

    /// The name in config.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SeccompAction::Kill => "SCMP_ACT_KILL",
            SeccompAction::KillProcess => "SCMP_ACT_KILL_PROCESS",
            SeccompAction::KillThread => "SCMP_ACT_KILL_THREAD",
            SeccompAction::Trap => "SCMP_ACT_TRAP",
            SeccompAction::Errno => "SCMP_ACT_ERRNO",
            SeccompAction::Trace => "SCMP_ACT_TRACE",
            SeccompAction::Allow => "SCMP_ACT_ALLOW",
            SeccompAction::Log => "SCMP_ACT_LOG",
            SeccompAction::Notify => "SCMP_ACT_NOTIFY",
        }
    }
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompOperator {
    /// Not equal.
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// Less.
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    /// Less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    /// Equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    /// Greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    /// Greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// Equal under a mask.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

impl SeccompOperator {
    /// Every operator, in the order of their names.
    pub(crate) const ALL: [SeccompOperator; 7] = [
        SeccompOperator::Equal,
        SeccompOperator::GreaterOrEqual,
        SeccompOperator::Greater,
        SeccompOperator::LessOrEqual,
        SeccompOperator::Less,
        SeccompOperator::MaskedEqual,
        SeccompOperator::NotEqual,
    ];
}
