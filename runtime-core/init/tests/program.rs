//! The program that the library carries: what is in it, and what is not.
//!
//! elf(5), nm(1).

use std::collections::BTreeSet;
use std::process::Command;

/// `p_type` of program headers and `sh_type` of section headers, see elf(5).
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const SHT_DYNAMIC: u64 = 6;
const SHT_DYNSYM: u64 = 11;

/// A little-endian number of `len` bytes at `at`.
fn number(file: &[u8], at: usize, len: usize) -> u64 {
    let bytes = file[at..at + len].iter().rev();
    bytes.fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The types in one of the two header tables: where its offset, entry size and entry
/// count are in the ELF header, and where the type is in an entry.
fn types(file: &[u8], table: usize, size: usize, count: usize, kind: usize) -> BTreeSet<u64> {
    let offset = number(file, table, 8) as usize;
    let (size, count) = (
        number(file, size, 2) as usize,
        number(file, count, 2) as usize,
    );
    (0..count)
        .map(|index| number(file, offset + index * size + kind, 4))
        .collect()
}

fn program_headers(file: &[u8]) -> BTreeSet<u64> {
    types(file, 32, 54, 56, 0)
}

fn sections(file: &[u8]) -> BTreeSet<u64> {
    types(file, 40, 58, 60, 4)
}

/// The names in the symbol table of the unstripped program.
fn symbols() -> Vec<String> {
    let output = Command::new("nm")
        .arg(corten_init::UNSTRIPPED)
        .output()
        .expect("nm is here: Debian's binutils");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("symbols are ASCII");
    let name = |line: &str| line.split_whitespace().last().map(str::to_owned);
    text.lines().filter_map(name).collect()
}

#[test]
fn no_symbol_of_panics_allocation_or_unwinding_is_in_init() {
    let symbols = symbols();
    // Without these the list would be that of a file without symbols.
    for known in ["_start", "memcpy"] {
        assert!(symbols.iter().any(|name| name == known), "{symbols:?}");
    }
    let unwanted = [
        "panic",
        "alloc",
        "unwind",
        "unwrap_failed",
        "slice_index",
        "fmt",
    ];
    let found: Vec<_> = symbols
        .iter()
        .filter(|name| unwanted.iter().any(|word| name.contains(word)))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn init_needs_no_loader_and_no_library() {
    let unstripped = std::fs::read(corten_init::UNSTRIPPED).expect("the build made it");
    for file in [corten_init::PROGRAM, &unstripped] {
        assert_eq!(file[..5], *b"\x7fELF\x02");
        let headers = program_headers(file);
        assert!(headers.contains(&1), "no PT_LOAD: {headers:?}");
        assert!(!headers.contains(&PT_INTERP), "{headers:?}");
        assert!(!headers.contains(&PT_DYNAMIC), "{headers:?}");
        let sections = sections(file);
        assert!(!sections.contains(&SHT_DYNAMIC), "{sections:?}");
        assert!(!sections.contains(&SHT_DYNSYM), "{sections:?}");
    }
}

#[test]
fn init_is_smaller_than_64_kib() {
    let size = corten_init::PROGRAM.len();
    assert!(size < 64 << 10, "{size} bytes");
}

/// Positive control of the parser: this test program is Rust's own.
#[test]
fn an_ordinary_program_has_symbols_of_panics() {
    let this = std::env::current_exe().expect("a running program has a path");
    let output = Command::new("nm").arg(this).output().expect("nm is here");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("panic") && text.contains("alloc"));
}
