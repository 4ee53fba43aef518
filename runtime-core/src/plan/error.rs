//! What planning refuses.

use thiserror::Error;

/// Why a container can't be planned, or not on this host.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is no `process` to start.
    #[error("process: missing: create needs one")]
    NoProcess,
    /// A field that this version does not do.
    #[error("{field}: {what}: not supported by this version of corten")]
    Unsupported {
        /// JSON path.
        field: String,
        /// The value, or what was asked for.
        what: String,
    },
    /// A field that this host can't do.
    #[error("{field}: {what}")]
    Host {
        /// JSON path.
        field: String,
        /// What is missing.
        what: String,
    },
    /// A value that makes no sense where it stands.
    #[error("{field}: {what}")]
    Value {
        /// JSON path.
        field: String,
        /// What is wrong.
        what: String,
    },
    /// A limit of `linux.resources`.
    #[error("{0}")]
    Limits(String),
    /// The plan itself is wrong: a bug of Corten.
    #[error("step {step} reads slot {slot}, which no step before it fills: a bug of corten")]
    EmptySlot {
        /// Position in the plan.
        step: usize,
        /// The slot's number.
        slot: u8,
    },
}

impl PlanError {
    pub(crate) fn value(field: impl Into<String>, what: impl Into<String>) -> PlanError {
        PlanError::Value {
            field: field.into(),
            what: what.into(),
        }
    }

    pub(crate) fn host(field: impl Into<String>, what: impl Into<String>) -> PlanError {
        PlanError::Host {
            field: field.into(),
            what: what.into(),
        }
    }

    pub(crate) fn unsupported(field: impl Into<String>, what: impl Into<String>) -> PlanError {
        PlanError::Unsupported {
            field: field.into(),
            what: what.into(),
        }
    }
}
