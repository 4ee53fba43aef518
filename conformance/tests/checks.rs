//! The checks as tests: `cargo test` and nextest list and run them one by one.
//!
//! The program `conformance` does it all; each check gets a lane of its own.

use std::os::unix::process::CommandExt as _;

fn main() {
    let error = std::process::Command::new(env!("CARGO_BIN_EXE_conformance"))
        .arg("libtest")
        .args(std::env::args_os().skip(1))
        .exec();
    eprintln!("conformance: {error}");
    std::process::exit(1);
}
