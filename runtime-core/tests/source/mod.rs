//! Looking at source text: the files of a folder, and what they name.

use std::fs;
use std::path::{Path, PathBuf};

/// All Rust files below a folder; a stage that is still one file, or not there, has none.
pub(crate) fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a folder that can be listed").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Whether a file has only tests: they may look at the machine.
pub(crate) fn is_test(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name == "tests.rs" || name.ends_with("_tests.rs") || file.iter().any(|part| part == "tests")
}

/// The modules of the standard library among `modules` that a source names, as `std::fs`.
pub(crate) fn std_modules(source: &str, modules: &[&str]) -> Vec<String> {
    let code = without_comments(source);
    let mut found = Vec::new();
    for (start, _) in code.match_indices("std") {
        let before = code[..start].chars().next_back().unwrap_or(' ');
        let Some(after) = code[start + 3..].trim_start().strip_prefix("::") else {
            continue;
        };
        if before.is_alphanumeric() || before == '_' {
            continue;
        }
        let names = first_segments(after.trim_start());
        let found_here = modules
            .iter()
            .filter(|module| names.iter().any(|name| name == *module));
        found.extend(found_here.map(|module| format!("std::{module}")));
    }
    found
}

/// The texts of `calls` that a source has outside its comments.
pub(crate) fn calls(source: &str, calls: &[&str]) -> Vec<String> {
    let code = without_comments(source);
    let found = calls.iter().filter(|call| code.contains(**call));
    found.map(ToString::to_string).collect()
}

/// The source without what follows `//` on each line.
pub(crate) fn without_comments(source: &str) -> String {
    source
        .lines()
        .map(|line| format!("{}\n", without_comment(line)))
        .collect()
}

/// A line up to `//`, unless that is in a text on the same line.
fn without_comment(line: &str) -> &str {
    let comment = line
        .match_indices("//")
        .find(|(at, _)| line[..*at].matches('"').count().is_multiple_of(2));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// The names directly below `std::`: one, or those of a group without what is nested in it.
fn first_segments(path: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![word(path)];
    };
    let mut depth = 1;
    let mut names = vec![word(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(word(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}
