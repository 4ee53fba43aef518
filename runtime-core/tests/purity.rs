//! Planning is pure: the text of `spec/` and `plan/` names nothing that reaches the machine.
//!
//! Looks at source text, not at what it compiles to: a path hidden behind another module's function
//! is not found. That the folders use no such module is seen in review.

use std::fs;
use std::path::Path;

mod source;

use source::{is_test, rust_files};

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
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for stage in ["spec", "plan"] {
        rust_files(&sources.join(stage), &mut files);
    }
    assert!(
        files.iter().any(|file| file.ends_with("spec/mod.rs")),
        "no sources found"
    );
    files.retain(|file| !is_test(file));
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

/// What a source names of the lists above.
fn named(text: &str) -> Vec<String> {
    let mut found = source::std_modules(text, &MODULES);
    found.extend(source::calls(text, &CALLS));
    found
}
