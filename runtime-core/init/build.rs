//! Compiles `src/main.rs` into the program that the library embeds.
//!
//! One compiler call: as a target of cargo the program would need flags of its own
//! (no start files, no standard library, its own `memcpy`), and `cargo test` would try
//! to link it with a test harness.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    compile(&out.join("corten-init"), "symbols");
    compile(&out.join("corten-init.unstripped"), "none");
}

fn compile(output: &Path, strip: &str) {
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut command = Command::new(rustc);
    command
        .args([
            "src/main.rs",
            "--crate-name=corten_init",
            "--crate-type=bin",
            "--edition=2024",
        ])
        .args(["--target", &target, "-o"])
        .arg(output)
        .args([
            "-Copt-level=s",
            "-Cpanic=abort",
            "-Ccodegen-units=1",
            "-Clto=fat",
        ])
        .args([
            "-Coverflow-checks=off",
            "-Cdebug-assertions=off",
            "-Cdebuginfo=0",
        ])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(["-Cforce-unwind-tables=no", "-Adead_code", "-Aunsafe_code"])
        .arg(format!("-Cstrip={strip}"));
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,norelro",
        "-Wl,--no-eh-frame-hdr",
    ] {
        command.arg(format!("-Clink-arg={arg}"));
    }
    // As cargo's configuration has it, for another machine's target.
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("-Clinker=");
        option.push(linker);
        command.arg(option);
    }
    // Where Rust brings the C library's files itself, it would link them in spite of -nostartfiles.
    if target.contains("musl") {
        command.arg("-Clink-self-contained=no");
    }
    let status = command.status().expect("the compiler runs");
    assert!(status.success(), "compiling corten-init failed");
}
