//! One door to the kernel: the runtime half makes every system call inside `sys::call`, where
//! fault injection hooks in.
//!
//! Looks at source text, not at what it compiles to. A call that `std` makes unseen (a thread's
//! sleep, an allocation, the end of an `OwnedFd`) is none of the runtime half's.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

mod source;

use source::{calls, is_test, rust_files, std_modules, without_comments};

/// Stages and files with side effects, and what they are probed by.
const FOLDERS: [&str; 3] = ["run", "cgroup", "container"];
const FILES: [&str; 2] = ["bundle.rs", "host.rs"];

const MODULES: [&str; 4] = ["env", "fs", "net", "process"];

/// Methods of the standard library that make system calls.
const METHODS: [&str; 11] = [
    ".canonicalize(",
    ".exists(",
    ".is_dir(",
    ".is_file(",
    ".is_symlink(",
    ".metadata(",
    ".read_dir(",
    ".read_link(",
    ".symlink_metadata(",
    ".try_clone(",
    ".try_clone_to_owned(",
];

/// Functions of the two crates that enter no kernel.
const HARMLESS: [&str; 3] = ["stderr", "stdin", "stdout"];

#[test]
fn every_system_call_of_the_runtime_half_goes_through_one_function() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<PathBuf> = FILES.iter().map(|file| source.join(file)).collect();
    for folder in FOLDERS {
        rust_files(&source.join(folder), &mut files);
    }
    files.retain(|file| !is_test(file));
    assert!(files.len() > 20, "no sources found");
    let mut found = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for name in besides_the_door(&text) {
            found.push(format!("{}: {name}", file.display()));
        }
    }
    assert!(
        found.is_empty(),
        "these belong inside sys::call(\"name\", || ...), or into sys:\n{}",
        found.join("\n")
    );
}

/// What a source does past the door.
fn besides_the_door(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let code = without_comments(text);
    let mut found = std_modules(&code, &MODULES);
    found.extend(calls(&code, &METHODS));
    let inside = arguments_of_call(&code);
    for krate in ["rustix", "libc", "nix"] {
        for (at, function) in functions(&code, krate) {
            let covered = inside.iter().any(|range| range.contains(&at));
            if !covered && !HARMLESS.contains(&function.rsplit("::").next().unwrap_or("")) {
                found.push(function);
            }
        }
        found.extend(imported_functions(&code, krate));
    }
    found
}

/// The arguments of every `call(...)`, as places in the text.
fn arguments_of_call(code: &str) -> Vec<Range<usize>> {
    let starts = code.match_indices("call(").filter(|(at, _)| {
        let before = &code[..*at];
        let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let other = before.ends_with(part) || before.ends_with("Error::");
        !other && !before.ends_with("fn ")
    });
    starts
        .map(|(at, word)| {
            let start = at + word.len();
            let mut depth = 1;
            let end = code[start..].find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            start..end.map_or(code.len(), |end| start + end)
        })
        .collect()
}

/// Calls of a crate's functions by their whole path: `rustix::fs::openat(`. A function of a
/// type (`rustix::fs::Mode::from_raw_mode(`) is none.
fn functions(code: &str, krate: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&format!("{krate}::")) {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '_' {
            continue;
        }
        let path: String = code[at..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
            .collect();
        let called = code[at + path.len()..].starts_with('(');
        let of_a_type = path
            .split("::")
            .any(|part| part.starts_with(|c: char| c.is_uppercase()));
        if called && !of_a_type {
            found.push((at, path));
        }
    }
    found
}

/// Functions that a `use` brings in, which would then be called by their bare name.
fn imported_functions(code: &str, krate: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in code.split("use ").skip(1) {
        let Some(path) = item
            .split(';')
            .next()
            .filter(|path| path.starts_with(&format!("{krate}::")))
        else {
            continue;
        };
        let modules = path.split('{').next().unwrap_or("");
        let names = path.strip_prefix(modules).unwrap_or("");
        let last = modules.rsplit("::").next().unwrap_or("");
        let words = names.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let lower = |word: &&str| word.starts_with(|c: char| c.is_lowercase()) && *word != "self";
        for word in words.chain([last]).filter(lower) {
            found.push(format!("use {krate}::..::{word}"));
        }
    }
    found
}

#[test]
fn the_search_finds_every_way_past_the_door() {
    let cases = [
        (
            "let fd = rustix::fs::openat(a, b);",
            &["rustix::fs::openat"][..],
        ),
        (
            "let fd = call(\"openat\", || rustix::fs::openat(a, b(c)))?;",
            &[],
        ),
        (
            "let fd = call(\"openat\", || x)?; rustix::fs::unlink(p)",
            &["rustix::fs::unlink"],
        ),
        (
            "Error::call(a, b, rustix::fs::stat(p))",
            &["rustix::fs::stat"],
        ),
        (
            "crate::sys::call(\"stat\", || { rustix::fs::stat(p) })",
            &[],
        ),
        ("let mode = rustix::fs::Mode::from_raw_mode(0o600);", &[]),
        ("if signal == libc::SIGKILL {}", &[]),
        ("unsafe { libc::kill(1, 9) }", &["libc::kill"]),
        (
            "use rustix::fs::{Mode, openat};",
            &["use rustix::..::openat"],
        ),
        ("use rustix::fs::openat;", &["use rustix::..::openat"]),
        ("use rustix::fs::{self, Mode};\nuse rustix::io::Errno;", &[]),
        ("std::fs::read(p)", &["std::fs"]),
        ("path.canonicalize()", &[".canonicalize("]),
        ("// rustix::fs::open(p)\nlet a = 1;", &[]),
        ("#[cfg(test)]\nmod tests { std::fs::read(p) }", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(besides_the_door(text), expected, "{text}");
    }
}
