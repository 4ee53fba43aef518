//! Why a command failed, and how that is told.

use std::fmt::Display;
use std::io;
use std::path::Path;

use corten_core::ErrorKind;

/// Exit status of a command that went well, or why it failed.
pub(crate) type Outcome = Result<u8, Failure>;

/// An error on its way to the user; `report` in `app` writes it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One line: the field or object, what, and the cause.
    pub(crate) message: String,
    /// What the log file says before the message, for engines that show it without our name.
    pub(crate) context: String,
    /// What stderr says before the message.
    pub(crate) lead: &'static str,
    /// For a usage error: the text for stdout.
    pub(crate) usage: Option<String>,
    /// Exit status.
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Display) -> Failure {
        let message = one_line(&message.to_string());
        Failure {
            message,
            context: String::new(),
            lead: "",
            usage: None,
            code: 1,
        }
    }

    /// The command line can't be understood; `help` goes to stdout.
    pub(crate) fn usage(message: impl Display, help: String) -> Failure {
        Failure {
            usage: Some(help),
            ..Failure::new(message)
        }
    }

    /// The system call `call` failed.
    pub(crate) fn call(call: &str, error: impl Into<io::Error>) -> Failure {
        Failure::new(format_args!("{call}: {}", cause(&error.into())))
    }

    /// Something on the file `path` failed.
    pub(crate) fn io(path: &Path, error: &io::Error) -> Failure {
        Failure::new(format_args!("{}: {}", path.display(), cause(error)))
    }

    /// The library could not create or start a container.
    pub(crate) fn not_started(error: &corten_core::Error) -> Failure {
        let failure = Failure::from(error);
        if names_the_container(error.kind()) {
            failure
        } else {
            failure.within("unable to start container process: ")
        }
    }

    /// Puts `context` before what the log file says.
    pub(crate) fn within(self, context: &str) -> Failure {
        Failure {
            context: format!("{context}{}", self.context),
            ..self
        }
    }

    pub(crate) fn with_code(self, code: u8) -> Failure {
        Failure { code, ..self }
    }
}

impl From<&corten_core::Error> for Failure {
    fn from(error: &corten_core::Error) -> Failure {
        Failure::new(format_args!("{error:#}"))
    }
}

impl From<corten_core::Error> for Failure {
    fn from(error: corten_core::Error) -> Failure {
        Failure::from(&error)
    }
}

/// The error is about which container is meant, not about a process.
fn names_the_container(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidId
            | ErrorKind::NotRunning
            | ErrorKind::WrongState
    )
}

/// The cause as Go and the library tell it: without Rust's ` (os error 2)`, in lower case.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        // A word, and no abbreviation such as "RPC".
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// A message is one line, also when a name in it holds a newline.
fn one_line(text: &str) -> String {
    text.trim_end().replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(Failure::new("a\nb\r\n").message, "a\\nb");
    }

    #[test]
    fn a_system_error_is_told_as_in_go() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(
            Failure::io(Path::new("/x"), &error).message,
            "/x: no such file or directory"
        );
    }

    #[test]
    fn contexts_are_put_in_front() {
        let failure = Failure::new("x").within("b: ").within("a: ");
        assert_eq!(failure.context, "a: b: ");
    }
}
