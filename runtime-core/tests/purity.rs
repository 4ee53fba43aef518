//! Planning is pure: the text of `spec/` and `plan/` names nothing that reaches the machine.
//!
//! Looks at source text, not at what it compiles to: a path hidden behind another module's function
//! is not found. That the folders use no such module is seen in review.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the standard library that see or change the world.
const MODULES: [&str; 6] = ["env", "fs", "net", "os", "process", "time"];

/// The calls by which `std::path` and its like touch files, and crates of system calls.
const CALLS: [&str; 12] = [
    ".canonicalize(",
    ".exists(",
    ".is_dir(",
    ".is_file(",
    ".is_symlink(",
    ".metadata(",
    ".read_dir(",
    ".read_link(",
    ".symlink_metadata(",
    ".try_exists(",
    "nix::",
    "rustix::",
];

#[test]
fn spec_and_plan_name_no_file_environment_process_clock_or_network() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for stage in ["spec", "plan"] {
        rust_files(&source.join(stage), &mut files);
    }
    assert!(
        files.iter().any(|file| file.ends_with("spec/mod.rs")),
        "no sources found"
    );
    let mut impure = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for name in named(&text) {
            impure.push(format!("{}: {name}", file.display()));
        }
    }
    assert!(
        impure.is_empty(),
        "these must be facts in Host or Facts:\n{}",
        impure.join("\n")
    );
}

#[test]
fn the_search_finds_every_way_to_write_it() {
    let cases = [
        ("let t = std::time::Instant::now();", &["std::time"][..]),
        ("use std::{fmt, fs::{self, File}, io};", &["std::fs"]),
        (
            "use ::std::{\n    collections::{env, fs},\n    net,\n};",
            &["std::net"],
        ),
        ("use std :: env;", &["std::env"]),
        ("if path.exists() {}", &[".exists("]),
        (
            "use std::fmt; use super::process::Process; use std::processor;",
            &[],
        ),
        (
            "// std::fs is for run\n/// See `std::env`.\nlet a = 1; // std::net",
            &[],
        ),
        ("let url = \"a//b\"; std::fs::read(url)", &["std::fs"]),
    ];
    for (text, expected) in cases {
        assert_eq!(named(text), expected, "{text}");
    }
}

/// All Rust files below a folder; a stage that is still one file, or not there, has none.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
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

/// What a source names of the lists above.
fn named(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .map(|line| format!("{}\n", without_comment(line)))
        .collect();
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
        let impure = MODULES
            .iter()
            .filter(|module| names.iter().any(|name| name == *module));
        found.extend(impure.map(|module| format!("std::{module}")));
    }
    found.extend(
        CALLS
            .iter()
            .filter(|call| code.contains(**call))
            .map(ToString::to_string),
    );
    found
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
