//! Where errors, warnings and debug messages go: stderr, or the file of `--log`.
//!
//! The formats are those of runc's log files, which engines parse: containerd and dockerd show the
//! last error line as their own message.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Metadata, Record};

use crate::failure::Failure;
use crate::time;

/// How a line of the log file looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

struct Sink {
    program: &'static str,
    file: Option<(File, Format)>,
}

struct Logger;

static SINK: OnceLock<Sink> = OnceLock::new();
static LOGGER: Logger = Logger;

/// Reads the value of `--log-format`.
pub(crate) fn format(text: Option<&OsStr>) -> Result<Format, Failure> {
    match text.map(|text| text.to_string_lossy()).as_deref() {
        None | Some("" | "text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(Failure::new(format_args!("invalid log-format: {other}"))),
    }
}

/// Opens the file of `--log`.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path);
    file.map_err(|error| Failure::call(&format!("open {}", path.display()), error))
}

/// Says once where messages go. Until then they go to stderr.
pub(crate) fn install(program: &'static str, file: Option<(File, Format)>, debug: bool) {
    let sink = Sink { program, file };
    if SINK.set(sink).is_ok() && log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(if debug {
            LevelFilter::Debug
        } else {
            LevelFilter::Warn
        });
    }
}

/// Tells the user why the program ends.
pub(crate) fn failure(program: &str, failure: &Failure) {
    if let Some(help) = &failure.usage {
        to(io::stdout(), help);
    }
    let (lead, message) = (failure.lead, &failure.message);
    match SINK.get().and_then(|sink| sink.file.as_ref()) {
        Some((file, format)) => {
            let logged = format!("{}{message}", failure.context);
            to(file, &line(*format, &time::now(), "error", &logged));
            to(io::stderr(), &format!("{lead}{message}\n"));
        }
        None if failure.usage.is_some() => to(io::stderr(), &format!("{message}\n")),
        None => to(io::stderr(), &format!("{program}: {lead}{message}\n")),
    }
}

/// Writes all of `text` in one call where the kernel takes it, so that lines don't mix.
///
/// A failure has nowhere to be told and is dropped.
fn to(mut out: impl io::Write, text: &str) {
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .ok();
}

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let Some(sink) = SINK.get() else { return };
        if record.level() > log::max_level() {
            return;
        }
        let level = level(record.level());
        let message = record.args().to_string().replace('\n', "\\n");
        match &sink.file {
            Some((file, format)) => to(file, &line(*format, &time::now(), level, &message)),
            None => to(
                io::stderr(),
                &format!("{}: {level}: {message}\n", sink.program),
            ),
        }
    }

    fn flush(&self) {}
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

/// One line of the log file, with its newline.
fn line(format: Format, time: &str, level: &str, message: &str) -> String {
    match format {
        Format::Text => format!("time=\"{time}\" level={level} msg={}\n", quote(message)),
        Format::Json => {
            let message = serde_json::Value::from(message);
            format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
        }
    }
}

/// Go's `%q`, which readers of the text format undo.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\0'..='\x1f' | '\x7f' => {
                write!(quoted, "\\x{:02x}", u32::from(character)).expect("a String takes it all");
            }
            '\u{80}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                write!(quoted, "\\u{:04x}", u32::from(character)).expect("a String takes it all");
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-21T21:04:45Z";

    #[test]
    fn a_text_line_is_runcs_byte_for_byte() {
        let message = "corten create failed: unable to start container process: x: \"y\"";
        assert_eq!(
            line(Format::Text, TIME, "error", message),
            "time=\"2026-11-21T21:04:45Z\" level=error msg=\"corten create failed: unable to start \
             container process: x: \\\"y\\\"\"\n"
        );
    }

    #[test]
    fn a_json_line_is_runcs_byte_for_byte() {
        assert_eq!(
            line(Format::Json, TIME, "warning", "a \"b\" \\ \n\u{1} é"),
            "{\"level\":\"warning\",\"msg\":\"a \\\"b\\\" \\\\ \\n\\u0001 é\",\
             \"time\":\"2026-11-21T21:04:45Z\"}\n"
        );
    }

    #[test]
    fn quoting_follows_go() {
        assert_eq!(quote("a\tb\u{1b}\u{7f}é\u{85}"), r#""a\tb\x1b\x7fé\u0085""#);
    }

    #[test]
    fn only_text_and_json_are_formats() {
        assert_eq!(format(None).unwrap(), Format::Text);
        assert_eq!(format(Some(OsStr::new("json"))).unwrap(), Format::Json);
        let error = format(Some(OsStr::new("xml"))).unwrap_err();
        assert_eq!(error.message, "invalid log-format: xml");
    }
}
