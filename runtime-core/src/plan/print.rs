//! A plan as text, one line per step, and as JSON.

use std::fmt;

use corten_init::abi::{OnError, Op};
use serde::Serialize;

use super::{Action, Plan, Step};

#[derive(Serialize)]
struct Printed<'a> {
    entry: String,
    peak_fds: usize,
    args: Vec<String>,
    env: Vec<String>,
    warnings: &'a [String],
    obstacles: Vec<String>,
    steps: Vec<PrintedStep<'a>>,
}

#[derive(Serialize)]
struct PrintedStep<'a> {
    step: usize,
    half: &'static str,
    origin: &'a str,
    what: &'a str,
    op: String,
    on_error: String,
}

impl Plan {
    /// The plan as JSON, indented by two spaces.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = |bytes: &super::Bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned();
        let printed = Printed {
            entry: format!("{:?}", self.entry),
            peak_fds: self.peak_fds,
            args: self.argv.iter().map(text).collect(),
            env: self.envp.iter().map(text).collect(),
            warnings: &self.warnings,
            obstacles: self.obstacles.iter().map(ToString::to_string).collect(),
            steps: self
                .steps
                .iter()
                .zip(1..)
                .map(|(step, number)| printed(step, number))
                .collect(),
        };
        // Strings and numbers only: there is nothing that can't be written.
        serde_json::to_string_pretty(&printed).unwrap_or_default()
    }
}

fn printed(step: &Step, number: usize) -> PrintedStep<'_> {
    PrintedStep {
        step: number,
        half: half(step),
        origin: &step.origin,
        what: &step.what,
        op: match &step.action {
            Action::Init(op) => format!("{op:?}"),
            Action::Run(op) => format!("{op:?}"),
        },
        on_error: policy(step.on_error),
    }
}

/// The options of a new file system, in brackets.
fn data(step: &Step) -> String {
    match &step.action {
        Action::Init(Op::NewFs { data, .. }) if !data.as_bytes().is_empty() => {
            let words = String::from_utf8_lossy(data.as_bytes());
            format!(" ({})", words.trim_end_matches('\0').replace('\0', ","))
        }
        _ => String::new(),
    }
}

fn half(step: &Step) -> &'static str {
    if step.is_init() { "init" } else { "runtime" }
}

fn policy(on_error: OnError) -> String {
    match on_error {
        OnError::Fail => "fail".to_owned(),
        OnError::Warn => "warn".to_owned(),
        OnError::Skip { errnos, steps } => {
            let used = errnos.iter().filter(|errno| **errno != 0);
            let names: Vec<String> = used
                .map(|errno| crate::error::errno_text(i32::from(*errno)))
                .collect();
            let more = if steps == 0 {
                String::new()
            } else {
                format!(" and {steps} more")
            };
            format!("skip{more} if: {}", names.join(", "))
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .steps
            .iter()
            .map(|step| step.origin.len())
            .max()
            .unwrap_or(0);
        for (step, number) in self.steps.iter().zip(1..) {
            write!(
                f,
                "{number:3} {:7} {:width$}  {}",
                half(step),
                step.origin,
                step.what
            )?;
            write!(f, "{}", data(step))?;
            match step.on_error {
                OnError::Fail => writeln!(f)?,
                other => writeln!(f, " [{}]", policy(other))?,
            }
        }
        writeln!(
            f,
            "entry {:?}, at most {} descriptors",
            self.entry, self.peak_fds
        )?;
        for obstacle in &self.obstacles {
            writeln!(f, "not on this host: {obstacle}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
