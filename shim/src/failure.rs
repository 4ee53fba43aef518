//! [`Failure`]: what a call answers when it fails, with one of gRPC's codes.

use std::fmt;

use corten_core::ErrorKind;

use crate::proto::rpc::Status;

/// The codes that containerd tells apart; see its `errdefs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Unavailable = 14,
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Failure {
        Failure {
            code,
            text: text.into(),
        }
    }

    /// One of no special kind.
    pub(crate) fn other(text: impl Into<String>) -> Failure {
        Failure::new(Code::Unknown, text)
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidArgument, text)
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Failure {
        Failure::new(Code::NotFound, text)
    }

    pub(crate) fn precondition(text: impl Into<String>) -> Failure {
        Failure::new(Code::FailedPrecondition, text)
    }

    /// A system call that failed on something with a name.
    pub(crate) fn call(what: impl fmt::Display, error: impl Into<std::io::Error>) -> Failure {
        let text = error.into().to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        Failure::other(format!("{what}: {text}"))
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            code: self.code as i32,
            message: self.text.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure::other(text)
    }
}

impl From<corten_core::Error> for Failure {
    fn from(error: corten_core::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::AlreadyExists => Code::AlreadyExists,
            ErrorKind::InvalidId => Code::InvalidArgument,
            ErrorKind::NotRunning | ErrorKind::WrongState => Code::FailedPrecondition,
            _ => Code::Unknown,
        };
        Failure::new(code, format!("{error:#}"))
    }
}
