//! The outcome of checks: as text for people, as JSON, JUnit's XML or TAP for machines.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::runner::{Outcome, Record};

/// Names the file that skipped tests are written to.
const SKIPS: &str = "CORTEN_SKIPS";

/// How an outcome is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// As libtest ends, for tools that read that.
    Libtest,
    /// One object.
    Json,
    /// The XML that CI services read.
    Junit,
    /// Test Anything Protocol, version 14.
    Tap,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Ok(match word {
            "text" => Self::Text,
            "json" => Self::Json,
            "junit" => Self::Junit,
            "tap" => Self::Tap,
            _ => return Err(format!("{word}: no format; text, json, junit or tap")),
        })
    }
}

/// Tells of checks as they end, and of all of them at the end.
#[derive(Debug)]
pub struct Reporter {
    format: Format,
    quiet: bool,
    runtime: PathBuf,
    begin: Instant,
    records: Vec<Record>,
}

impl Reporter {
    /// For so many checks of this runtime.
    #[must_use]
    pub fn new(format: Format, quiet: bool, runtime: &Path, checks: usize) -> Self {
        if format == Format::Tap {
            println!("TAP version 14\n1..{checks}");
        }
        Self {
            format,
            quiet,
            runtime: runtime.to_owned(),
            begin: Instant::now(),
            records: Vec::new(),
        }
    }

    /// A check has ended.
    pub fn tell(&mut self, record: &Record) {
        self.records.push(record.clone());
        match self.format {
            Format::Text => print!("{}", line(record, self.quiet)),
            Format::Libtest => {
                print!("{}", line(record, self.quiet));
                note_skip(record);
            }
            Format::Tap => print!("{}", tap(record, self.records.len())),
            Format::Json | Format::Junit => {}
        }
    }

    /// All checks have ended. True if none failed, and as many were skipped as expected.
    #[must_use]
    pub fn finish(self, expected_skips: Option<usize>) -> bool {
        let took = self.begin.elapsed();
        let count = |wanted: fn(&Outcome) -> bool| {
            let all = self.records.iter();
            all.filter(|record| wanted(&record.outcome)).count()
        };
        let passed = count(|outcome| matches!(outcome, Outcome::Passed));
        let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        match self.format {
            Format::Text => {
                println!("{}, {:.1} s", self.runtime.display(), took.as_secs_f64());
                match skipped {
                    0 => println!("{passed} passed, {failed} failed"),
                    _ => println!("{passed} passed, {failed} failed, {skipped} skipped"),
                }
            }
            Format::Libtest => {
                // Those are counted from the file.
                let (passed, skipped) = match std::env::var_os(SKIPS) {
                    Some(_) => (passed + skipped, 0),
                    None => (passed, skipped),
                };
                let word = if failed == 0 { "ok" } else { "FAILED" };
                println!(
                    "\ntest result: {word}. {passed} passed; {failed} failed; {skipped} ignored; \
                     0 measured; 0 filtered out; finished in {:.2}s",
                    took.as_secs_f64()
                );
            }
            Format::Json => println!("{:#}", self.json([passed, failed, skipped])),
            Format::Junit => print!("{}", junit(&self.records, took)),
            Format::Tap => {}
        }
        let unexpected = expected_skips.filter(|expected| *expected != skipped);
        if let Some(expected) = unexpected {
            eprintln!("{skipped} skipped, but {expected} expected");
        }
        failed == 0 && unexpected.is_none()
    }

    fn json(&self, [passed, failed, skipped]: [usize; 3]) -> Value {
        let checks: Vec<Value> = self.records.iter().map(object).collect();
        json!({
            "runtime": self.runtime,
            "passed": passed,
            "failed": failed,
            "skipped": skipped,
            "checks": checks,
        })
    }
}

/// As a libtest test can't say that it was skipped, the test script counts the lines of
/// this file.
fn note_skip(record: &Record) {
    let (Outcome::Skipped(why), Some(file)) = (&record.outcome, std::env::var_os(SKIPS)) else {
        return;
    };
    let line = format!("{}: {}\n", record.check.path(), why.trim_end());
    let written = std::fs::File::options()
        .append(true)
        .create(true)
        .open(&file)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("{}: {error}", file.display());
    }
}

fn line(record: &Record, quiet: bool) -> String {
    let name = record.check.path();
    let line = format!("{name} ({:.2} s)\n", record.took.as_secs_f64());
    match &record.outcome {
        Outcome::Failed(text) => format!("FAIL {line}{}\n", indented(text)),
        Outcome::Skipped(why) => format!("skip {name}: {}\n", why.trim_end()),
        Outcome::Passed if quiet => String::new(),
        Outcome::Passed => format!("ok   {line}"),
    }
}

/// Indented, and without the rest of lines that are too long to be read.
fn indented(text: &str) -> String {
    let short = |line: &str| line.chars().take(2000).collect::<String>();
    text.lines()
        .map(|line| format!("     {}\n", short(line)))
        .collect()
}

/// The parts of an outcome: its word and its text.
fn parts(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Passed => ("passed", None),
        Outcome::Failed(text) => ("failed", Some(text)),
        Outcome::Skipped(why) => ("skipped", Some(why)),
    }
}

fn object(record: &Record) -> Value {
    let (word, text) = parts(&record.outcome);
    let mut object = json!({
        "facility": record.check.facility,
        "name": record.check.name,
        "outcome": word,
        "seconds": (record.took.as_secs_f64() * 1000.0).round() / 1000.0,
    });
    if let Some(text) = text {
        object["text"] = json!(text);
    }
    object
}

fn tap(record: &Record, number: usize) -> String {
    let name = record.check.path();
    match &record.outcome {
        Outcome::Passed => format!("ok {number} - {name}\n"),
        Outcome::Skipped(why) => {
            let why = why.lines().next().unwrap_or_default();
            format!("ok {number} - {name} # SKIP {why}\n")
        }
        Outcome::Failed(text) => {
            let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
            format!("not ok {number} - {name}\n  ---\n  message: |\n{lines}  ...\n")
        }
    }
}

fn junit(records: &[Record], took: Duration) -> String {
    let failures = |record: &&Record| matches!(record.outcome, Outcome::Failed(_));
    let skips = |record: &&Record| matches!(record.outcome, Outcome::Skipped(_));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"conformance\" tests=\"{}\" \
         failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">\n",
        records.len(),
        records.iter().filter(failures).count(),
        records.iter().filter(skips).count(),
        took.as_secs_f64()
    );
    for record in records {
        text.push_str(&format!(
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
            record.check.facility,
            record.check.name,
            record.took.as_secs_f64()
        ));
        let inner = match &record.outcome {
            Outcome::Passed => None,
            Outcome::Failed(text) => Some(format!("<failure>{}</failure>", escaped(text))),
            Outcome::Skipped(why) => Some(format!("<skipped message=\"{}\"/>", escaped(why))),
        };
        text.push_str(&inner.map_or_else(
            || "/>\n".to_owned(),
            |inner| format!(">{inner}</testcase>\n"),
        ));
    }
    text.push_str("</testsuite>\n");
    text
}

/// Text for XML, which can't hold control characters at all.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\n' | '\t' => c.to_string(),
            c if c.is_control() => "?".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn record(outcome: Outcome) -> Record {
        Record {
            check: check::all().next().unwrap(),
            outcome,
            output: String::new(),
            took: Duration::from_millis(1500),
        }
    }

    #[test]
    fn a_failure_in_junit_is_escaped() {
        let text = junit(
            &[record(Outcome::Failed("1 < 2 & \u{1b}[0m".to_owned()))],
            Duration::ZERO,
        );
        assert!(
            text.contains("<failure>1 &lt; 2 &amp; ?[0m</failure>"),
            "{text}"
        );
        assert!(text.contains("failures=\"1\" skipped=\"0\""), "{text}");
    }

    #[test]
    fn tap_tells_a_failure_as_a_block_and_a_skip_with_its_reason() {
        let failed = tap(&record(Outcome::Failed("a\nb".to_owned())), 3);
        assert!(failed.starts_with("not ok 3 - "), "{failed}");
        assert!(
            failed.ends_with("  ---\n  message: |\n    a\n    b\n  ...\n"),
            "{failed}"
        );
        let skipped = tap(&record(Outcome::Skipped("no kernel\n".to_owned())), 1);
        assert!(skipped.ends_with("# SKIP no kernel\n"), "{skipped}");
    }

    #[test]
    fn json_has_the_outcome_as_a_word() {
        let object = object(&record(Outcome::Passed));
        assert_eq!(object["outcome"], "passed");
        assert_eq!(object["seconds"], 1.5);
        assert!(object.get("text").is_none());
    }
}
