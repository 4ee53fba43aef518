//! Compiles `floor/main.rs`, by one compiler call: it has no C library, whose start alone would
//! be a large part of what it measures, and so needs link options that no target of cargo can have.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=floor");
    let variable = |name: &str| std::env::var_os(name).expect("cargo sets it");
    let output = PathBuf::from(variable("OUT_DIR")).join("floor");
    let mut command = Command::new(variable("RUSTC"));
    command.args(["floor/main.rs", "--crate-name=floor", "--edition=2024"]);
    command.arg("--target").arg(variable("TARGET"));
    command.arg("-o").arg(output);
    let codegen = "panic=abort opt-level=2 codegen-units=1 lto=fat strip=symbols overflow-checks=off \
                   relocation-model=static target-feature=+crt-static force-unwind-tables=no";
    let link = "-nostartfiles -nostdlib -static -no-pie -Wl,--gc-sections -Wl,--build-id=none \
                -Wl,-z,noseparate-code -Wl,-z,norelro -Wl,--no-eh-frame-hdr";
    let codegen = codegen.split_whitespace().map(str::to_owned);
    let link = link
        .split_whitespace()
        .map(|word| format!("link-arg={word}"));
    for option in codegen.chain(link) {
        command.arg("-C").arg(option);
    }
    // As cargo's configuration has it, for another machine's target.
    if let Some(linker) = std::env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("-Clinker=");
        option.push(linker);
        command.arg(option);
    }
    let status = command.status().expect("the compiler runs");
    assert!(status.success(), "compiling floor failed");
}
