//! What a command answers on stdout.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes `text` to stdout; an answer that can't be given is an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::call("stdout", error))
}
