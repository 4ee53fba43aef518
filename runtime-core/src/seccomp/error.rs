//! Why a profile can't be compiled.

use thiserror::Error;

use crate::plan::PlanError;

/// Names the field below `linux.seccomp`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SeccompError {
    #[error("architectures[{index}]: {name:?} is not an architecture")]
    Architecture { index: usize, name: String },
    #[error("flags[{index}]: {name:?} is not a flag of seccomp(2)")]
    Flag { index: usize, name: String },
    #[error("defaultAction: SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyDefault,
    #[error("syscalls[{index}]: SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyWrite { index: usize },
    #[error("{field}: {value} is not an errno: at most 65535")]
    Errno { field: String, value: u32 },
    #[error("syscalls[{rule}].args[{arg}].index: {value} is not an argument: 0 to 5")]
    Argument { rule: usize, arg: usize, value: u32 },
    #[error("syscalls: {instructions} instructions, and the kernel takes at most 4096")]
    TooLong { instructions: usize },
}

impl From<SeccompError> for PlanError {
    fn from(error: SeccompError) -> PlanError {
        let text = error.to_string();
        match text.split_once(": ") {
            Some((field, what)) => PlanError::value(format!("linux.seccomp.{field}"), what),
            None => PlanError::value("linux.seccomp", text),
        }
    }
}
