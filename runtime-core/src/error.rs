//! [`Error`]: what went wrong, on what, and why.
//!
//! `{}` shows an error's own part, `{:#}` the whole chain on one line.

use std::fmt;

use rustix::io::Errno;
use thiserror::Error as ThisError;

use crate::cgroup::CgroupError;
use crate::plan::PlanError;
use crate::spec::SpecError;

/// What kind of error it is, for a program that has to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no container of this id.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// The id has characters that are not allowed.
    InvalidId,
    /// The container's process has ended, or was never there.
    NotRunning,
    /// The container is in a state that does not allow this.
    WrongState,
    /// config.json is wrong, or asks for what can't be done here.
    Config,
    /// Anything else.
    Other,
}

/// An error of the library.
#[derive(Debug)]
pub struct Error(Box<Cause>);

/// What is behind an [`Error`].
#[derive(Debug, ThisError)]
pub(crate) enum Cause {
    #[error("container does not exist")]
    NotFound,
    /// There is no more than what a creation has made so far, or left.
    #[error("container does not exist: its creation has not finished (delete --force ends it)")]
    NotFinished,
    #[error("container with given ID already exists")]
    AlreadyExists,
    #[error("invalid container ID format: {0:?}")]
    InvalidId(String),
    #[error("container not running")]
    NotRunning,
    #[error("{0}")]
    WrongState(String),
    /// Somebody else works on the container.
    #[error("{0}")]
    Locked(String),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("{path}: {error}")]
    Config { path: String, error: SpecError },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("{object}: {call}: {}", errno_text(errno.raw_os_error()))]
    Call {
        object: String,
        call: &'static str,
        errno: Errno,
    },
    #[error("{origin}: {what} (step {step} of {of})")]
    Step {
        origin: String,
        what: String,
        step: usize,
        of: usize,
    },
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Cause::NotFound | Cause::NotFinished => ErrorKind::NotFound,
            Cause::AlreadyExists => ErrorKind::AlreadyExists,
            Cause::InvalidId(_) => ErrorKind::InvalidId,
            Cause::NotRunning => ErrorKind::NotRunning,
            Cause::WrongState(_) => ErrorKind::WrongState,
            Cause::Spec(_) | Cause::Config { .. } | Cause::Plan(_) => ErrorKind::Config,
            _ => ErrorKind::Other,
        }
    }

    /// Whether somebody else works on the container, and has not come to an end.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(*self.0, Cause::Locked(_))
    }

    /// An error of a call on something that has a name.
    pub(crate) fn call(object: impl Into<String>, call: &'static str, errno: Errno) -> Error {
        Cause::Call {
            object: object.into(),
            call,
            errno,
        }
        .into()
    }

    /// An error that needs no more than a sentence.
    pub(crate) fn other(text: impl Into<String>) -> Error {
        Cause::Other(text.into()).into()
    }
}

impl<T: Into<Cause>> From<T> for Error {
    fn from(cause: T) -> Self {
        Error(Box::new(cause.into()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = std::error::Error::source(self);
        while let (true, Some(cause)) = (f.alternate(), source) {
            match cause.downcast_ref::<Errno>() {
                Some(errno) => write!(f, ": {}", errno_text(errno.raw_os_error()))?,
                None => write!(f, ": {cause}")?,
            }
            source = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}

/// What an errno means, as Go programs (and so the engines) write it: `no such file or
/// directory`.
pub(crate) fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    // "Input/output error", but not "RPC ..." or "I/O ...".
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_read_as_in_go() {
        assert_eq!(errno_text(2), "no such file or directory");
        assert_eq!(errno_text(13), "permission denied");
        assert_eq!(errno_text(19), "no such device");
    }

    #[test]
    fn an_errno_at_the_end_of_a_chain_reads_as_any_other() {
        let error = Error::from(CgroupError::Io {
            call: "open",
            path: "/x".into(),
            errno: Errno::MFILE,
        });
        assert_eq!(format!("{error:#}"), "cgroup /x: open: too many open files");
    }

    #[test]
    fn an_error_names_object_call_and_cause_on_one_line() {
        let error = Error::call("/run/x", "mkdir", Errno::ACCESS);
        assert_eq!(format!("{error:#}"), "/run/x: mkdir: permission denied");
    }
}
