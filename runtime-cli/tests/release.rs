//! The release binary of `corten`: static and small.
//!
//! `make test` builds it before the tests. Where it was not built the tests skip
//! themselves, which the sum of `make test` shows.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What scripts/build.sh has put into the target directory of these tests.
fn release(test: &str) -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_BIN_EXE_corten"));
    let target = built.ancestors().nth(3)?;
    let release = target.join("bin/corten");
    if release.is_file() {
        return Some(release);
    }
    let text = format!("{test}: no release binary: scripts/build.sh corten\n");
    eprint!("{text}");
    if let Some(file) = std::env::var_os("CORTEN_SKIPS") {
        let mut file = std::fs::File::options()
            .append(true)
            .open(file)
            .expect("CORTEN_SKIPS names a file");
        file.write_all(text.as_bytes()).expect("it is writable");
    }
    None
}

fn readelf(option: &str, file: &Path) -> String {
    let output = Command::new("readelf")
        .args(["--wide", option])
        .arg(file)
        .output()
        .expect("readelf is here: Debian's binutils");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_release_binary_is_smaller_than_2_mib() {
    let Some(corten) = release("the_release_binary_is_smaller_than_2_mib") else {
        return;
    };
    let size = std::fs::metadata(corten).expect("it is there").len();
    assert!(size < 2 << 20, "{size} bytes");
}

#[test]
fn the_release_binary_is_static_and_stripped() {
    let Some(corten) = release("the_release_binary_is_static_and_stripped") else {
        return;
    };
    let headers = readelf("--program-headers", &corten);
    assert!(headers.contains("LOAD"), "{headers}");
    for unwanted in ["INTERP", "DYNAMIC"] {
        assert!(!headers.contains(unwanted), "{headers}");
    }
    let sections = readelf("--section-headers", &corten);
    assert!(!sections.contains(".symtab"), "{sections}");
    assert!(!sections.contains(".dynamic"), "{sections}");
}

#[test]
fn what_a_start_executes_lies_together_in_the_release_binary() {
    let Some(corten) = release("what_a_start_executes_lies_together_in_the_release_binary") else {
        return;
    };
    // scripts/start.ld names the functions. When the section gets small most of them have other
    // names by now, and it is time for scripts/start-order.py.
    let sections = readelf("--section-headers", &corten);
    let line = sections.lines().find(|line| line.contains(" .text.start "));
    let line = line.unwrap_or_else(|| panic!("no .text.start: {sections}"));
    let fields: Vec<&str> = line.split(']').nth(1).unwrap().split_whitespace().collect();
    let size = usize::from_str_radix(fields[4], 16).expect("a number");
    assert!((400 << 10..1 << 20).contains(&size), "{size}: {line}");
}
