//! Reads config.json.

use serde::Deserialize;
use serde_json::error::Category;

use super::error::one_line;
use super::json::Object;
use super::place::place;
use super::{Process, Spec, SpecError};

/// Reads a config.json.
///
/// Unknown fields are ignored and `null` means absent, as the spec and its reference
/// implementation have it; numbers must be whole and fit. Does not look at what the values mean,
/// see [`validate`](super::validate).
///
/// # Errors
/// [`SpecError::Parse`] with line, column and JSON path.
///
/// # Examples
/// ```
/// let error = corten_core::spec::parse(br#"{"process": {"user": {"uid": "a"}}}"#).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "process.user.uid: invalid type: string \"a\", expected u32 at line 1 column 32",
/// );
/// ```
pub fn parse(bytes: &[u8]) -> Result<Spec, SpecError> {
    read(bytes, |path| path)
}

/// Reads a `process` by itself, as `exec` gets it.
///
/// # Errors
/// As [`parse`]; paths begin with `process`.
pub fn parse_process(bytes: &[u8]) -> Result<Process, SpecError> {
    read(bytes, |path| match path.as_str() {
        "" => "process".to_owned(),
        path => format!("process.{path}"),
    })
}

/// `within`: how a path goes on from what is read to the whole of config.json.
pub(super) fn read<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    within: fn(String) -> String,
) -> Result<T, SpecError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = Object::<T>::deserialize(&mut json).map_err(|error| {
        let (at, is_data) = ([error.line(), error.column()], error.is_data());
        parse_error(within(place(bytes, at, is_data)), &error)
    })?;
    json.end()
        .map_err(|error| parse_error(String::new(), &error))?;
    Ok(read.0)
}

fn parse_error(path: String, error: &serde_json::Error) -> SpecError {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let place = format!(" at line {line} column {column}");
    let cause = one_line(text.strip_suffix(&place).unwrap_or(&text));
    let cause = match error.classify() {
        Category::Syntax | Category::Eof => format!("not JSON: {cause}"),
        Category::Data | Category::Io => cause,
    };
    SpecError::Parse {
        path,
        cause,
        line,
        column,
    }
}
