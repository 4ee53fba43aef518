//! docs/conformance.md: every check against several runtimes, generated from runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::check::{self, Check};
use crate::runner::{self, Outcome, Setting};

mod notes;

/// What to run, and where the page goes.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The runtimes; the first is ours, the others are its peers.
    pub runtimes: Vec<PathBuf>,
    /// The page; printed if there is none.
    pub output: Option<PathBuf>,
    /// How many checks at a time.
    pub jobs: usize,
}

/// One runtime's column.
struct Column {
    name: String,
    version: String,
    outcomes: BTreeMap<String, Outcome>,
}

/// Runs everything and writes the page. False if our runtime fails a check, or if a
/// failure of all the peers has no note.
///
/// # Errors
///
/// If a runtime can't be run or the page can't be written.
pub fn run(options: &Options) -> Result<bool, String> {
    let checks: Vec<Check> = check::all().collect();
    let mut columns = Vec::new();
    for path in &options.runtimes {
        let path =
            std::fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("{}: {} checks", path.display(), checks.len());
        let mut column = column(&path, &checks, options.jobs)?;
        if !columns.is_empty() {
            column.try_again(&path, &checks);
        }
        columns.push(column);
    }
    let text = page(&checks, &columns);
    match &options.output {
        Some(path) => {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        None => print!("{text}"),
    }
    let bare = suspects(&checks, &columns);
    for path in bare.iter().filter(|path| notes::of(path).is_none()) {
        eprintln!("{path}: every peer fails it, and there is no note in table/notes.rs");
    }
    let missing = bare.iter().any(|path| notes::of(path).is_none());
    let failed = columns.first().is_some_and(|ours| ours.failed() > 0);
    Ok(!missing && !failed)
}

fn column(path: &Path, checks: &[Check], jobs: usize) -> Result<Column, String> {
    let output = Command::new(path)
        .arg("--version")
        .output()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().next().unwrap_or_default().to_owned();
    let name = path.file_name().unwrap_or_default();
    let mut outcomes = BTreeMap::new();
    runner::each(checks, jobs, &Setting::of(path), |record| {
        outcomes.insert(record.check.path(), record.outcome.clone());
        ControlFlow::Continue(())
    });
    Ok(Column {
        name: name.to_string_lossy().into_owned(),
        version,
        outcomes,
    })
}

impl Column {
    fn count(&self, paths: &[String], wanted: fn(&Outcome) -> bool) -> usize {
        let found = paths.iter().filter_map(|path| self.outcomes.get(path));
        found.filter(|outcome| wanted(outcome)).count()
    }

    fn failed(&self) -> usize {
        self.outcomes.values().filter(|o| is_failure(o)).count()
    }

    /// Runs what has failed once more, alone: a peer is not said to fail what it only fails
    /// beside others.
    fn try_again(&mut self, path: &Path, checks: &[Check]) {
        let failed = checks.iter().filter(|check| self.fails(&check.path()));
        let failed: Vec<Check> = failed.copied().collect();
        runner::each(&failed, 1, &Setting::of(path), |record| {
            self.outcomes
                .insert(record.check.path(), record.outcome.clone());
            ControlFlow::Continue(())
        });
    }

    fn fails(&self, path: &str) -> bool {
        self.outcomes.get(path).is_some_and(is_failure)
    }
}

fn is_failure(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_))
}

/// Checks that all the peers fail: there is something wrong with them, or with the check.
fn suspects(checks: &[Check], columns: &[Column]) -> Vec<String> {
    let peers = columns.get(1..).unwrap_or_default();
    let paths = checks.iter().map(Check::path);
    paths
        .filter(|path| !peers.is_empty() && peers.iter().all(|peer| peer.fails(path)))
        .collect()
}

fn page(checks: &[Check], columns: &[Column]) -> String {
    let mut text = String::from(
        "# Conformance\n\nWritten by `conformance table`, from runs in the native lane; do not edit. A cell is \
         *passed / failed / skipped*.\nWhat is skipped needs what the machine of the run lacks: a cgroup controller, \
         a capability, a machine that may be wrecked.\nThe other lanes have these.\n\n",
    );
    for column in columns {
        text.push_str(&format!("- {}: {}\n", column.name, column.version));
    }
    text.push_str("\n| facility |");
    for column in columns {
        text.push_str(&format!(" {} |", column.name));
    }
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(columns.len())));
    let facilities: BTreeSet<&str> = checks.iter().map(|check| check.facility).collect();
    for facility in facilities {
        let of_it = checks.iter().filter(|check| check.facility == facility);
        row(
            &mut text,
            facility,
            &of_it.map(Check::path).collect::<Vec<_>>(),
            columns,
        );
    }
    let all: Vec<String> = checks.iter().map(Check::path).collect();
    row(&mut text, "**all**", &all, columns);

    text.push_str(
        "\n## Checks that not every runtime passes\n\n| check | fails | why |\n|---|---|---|\n",
    );
    for path in &all {
        let failing = columns.iter().filter(|column| column.fails(path));
        let names: Vec<&str> = failing.map(|column| column.name.as_str()).collect();
        if !names.is_empty() {
            let note = notes::of(path).unwrap_or("");
            text.push_str(&format!("| `{path}` | {} | {note} |\n", names.join(", ")));
        }
    }
    text
}

fn row(text: &mut String, name: &str, paths: &[String], columns: &[Column]) {
    text.push_str(&format!("| {name} |"));
    for column in columns {
        let passed = column.count(paths, |outcome| matches!(outcome, Outcome::Passed));
        let failed = column.count(paths, is_failure);
        let skipped = column.count(paths, |outcome| matches!(outcome, Outcome::Skipped(_)));
        text.push_str(&format!(" {passed} / {failed} / {skipped} |"));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, failing: &str) -> Column {
        let outcome = |check: Check| match check.path() {
            path if path == failing => (path, Outcome::Failed("no".to_owned())),
            path => (path, Outcome::Passed),
        };
        Column {
            name: name.to_owned(),
            version: String::new(),
            outcomes: check::all().map(outcome).collect(),
        }
    }

    #[test]
    fn what_every_peer_fails_is_suspect() {
        let checks: Vec<Check> = check::all().collect();
        let first = checks[0].path();
        let columns = [column("ours", ""), column("a", &first), column("b", &first)];
        assert_eq!(suspects(&checks, &columns), std::slice::from_ref(&first));
        assert!(page(&checks, &columns).contains(&format!("| `{first}` | a, b |")));
        let one = [column("ours", ""), column("a", &first), column("b", "")];
        assert!(suspects(&checks, &one).is_empty());
    }

    #[test]
    fn every_note_is_of_a_check_that_exists() {
        let paths: BTreeSet<String> = check::all().map(|check| check.path()).collect();
        for (path, _) in notes::NOTES {
            let whole = |check: &String| path.ends_with("::") && check.starts_with(path);
            assert!(paths.contains(*path) || paths.iter().any(whole), "{path}");
        }
    }
}
