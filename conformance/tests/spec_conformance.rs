//! docs/spec-conformance.md is true: it has every field that the library reads, and what it names exists.
#![allow(clippy::unwrap_used)] // an integration test has no `cfg(test)` that would allow it

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Sources of the library and of its tests.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_field_has_a_row_and_every_row_names_what_shows_it() {
    let page = read("docs/spec-conformance.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let named: BTreeSet<String> = rows
        .iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    assert_eq!(named.len(), rows.len(), "a field has two rows");

    let full: Value = serde_json::from_str(&read("runtime-core/src/spec/tests/full.json")).unwrap();
    let all = corten_conformance::config::fields(&full);
    let missing: Vec<_> = all.difference(&named).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");

    let checks: BTreeSet<String> = corten_conformance::check::all()
        .map(|check| check.path())
        .collect();
    let mut text = String::new();
    sources(&repository().join("runtime-core/src"), &mut text);
    sources(&repository().join("runtime-core/tests"), &mut text);
    for row in &rows {
        let [field, done, shown] = row[..] else {
            panic!("not three columns: {row:?}");
        };
        match done {
            "no" => assert!(!shown.is_empty(), "{field}: why not?"),
            "yes" => {
                let name = shown
                    .split('`')
                    .nth(1)
                    .unwrap_or_else(|| panic!("{field}: shown by?"));
                let exists = match shown.starts_with("test ") {
                    true => text.contains(&format!("fn {name}()")),
                    false => checks.contains(name),
                };
                assert!(exists, "{field}: there is no {name}");
            }
            done => panic!("{field}: {done}"),
        }
    }
}
