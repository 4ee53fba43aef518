//! The log: lines in the format of logrus to stderr, which containerd copies into its own.

use std::io::Write as _;

use log::{Level, LevelFilter, Metadata, Record};

struct Logger;

static LOGGER: Logger = Logger;

/// From here on `log`'s macros write to stderr.
pub(crate) fn install(debug: bool) {
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(if debug {
            LevelFilter::Debug
        } else {
            LevelFilter::Info
        });
    }
}

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let line = format!("level={level} msg={:?}\n", record.args().to_string());
        // One write, so that lines don't mix; a log that nobody reads is no reason to stop.
        std::io::stderr().write_all(line.as_bytes()).ok();
    }

    fn flush(&self) {}
}
