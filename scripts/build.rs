//! Build script of the programs: tells them which commit they were built from, and the linker what a release build does
//! not need, and in which order.

use std::path::Path;
use std::process::Command;

fn main() {
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CORTEN_COMMIT={commit}");
    // HEAD's log grows with every commit and checkout; without git there is nothing to watch.
    println!(
        "cargo::rerun-if-changed={}",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/build.rs")
    );
    link_for_release();
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// The tables for unwinding are for panics that unwind, as those of debug builds do. What a start of
/// `corten` executes lies together.
fn link_for_release() {
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/no-unwind.ld");
        println!("cargo::rerun-if-changed={script}");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{script}");
        // `_Unwind_Backtrace` is that program's own, see its sys.rs; libgcc's comes along with others.
        if env!("CARGO_PKG_NAME") == "corten-cli" {
            println!("cargo::rustc-link-arg-bins=-Wl,-z,muldefs");
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/start.ld");
            println!("cargo::rerun-if-changed={script}");
            println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
        }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}
