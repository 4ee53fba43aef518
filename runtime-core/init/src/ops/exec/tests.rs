//! What is found out about a program that can't be executed.

use super::*;

/// Numbers without a pattern, the same ones each time (Marsaglia's xorshift64).
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

/// A 64-bit little-endian ELF head with one program header at 64.
fn elf(kind: u32, offset: u64, size: u64, text: &[u8]) -> Vec<u8> {
    let mut head = vec![0u8; 64 + 56];
    head[..6].copy_from_slice(b"\x7fELF\x02\x01");
    head[32..40].copy_from_slice(&64u64.to_le_bytes());
    head[54..56].copy_from_slice(&56u16.to_le_bytes());
    head[56..58].copy_from_slice(&1u16.to_le_bytes());
    head[64..68].copy_from_slice(&kind.to_le_bytes());
    head[72..80].copy_from_slice(&offset.to_le_bytes());
    head[96..104].copy_from_slice(&size.to_le_bytes());
    head.extend_from_slice(text);
    head
}

#[test]
fn the_interpreter_of_a_script_is_the_first_word_of_its_first_line() {
    let cases: [(&[u8], Option<&[u8]>); 11] = [
        (b"#!/bin/sh\necho", Some(b"/bin/sh")),
        (b"#! \t/bin/sh -x\n", Some(b"/bin/sh")),
        (b"#!/bin/sh\t-x", Some(b"/bin/sh")),
        (b"#!/bin/sh", Some(b"/bin/sh")),
        // As the kernel takes it: the carriage return is part of the name.
        (b"#!/bin/sh\r\n", Some(b"/bin/sh\r")),
        (b"#!\n/bin/sh", None),
        (b"#! \n", None),
        (b"#!", None),
        (b"#", None),
        (b"", None),
        (b" #!/bin/sh", None),
    ];
    for (head, interpreter) in cases {
        assert_eq!(script_interpreter(head), interpreter, "{head:?}");
    }
}

#[test]
fn the_loader_of_an_elf_file_is_its_interp_segment() {
    let loader = elf(3, 120, 7, b"/ld.so\0rest");
    assert_eq!(elf_loader(&loader), Some(&b"/ld.so"[..]));
    // Without its NUL, and with one in the middle.
    assert_eq!(elf_loader(&elf(3, 120, 4, b"/ld.so\0")), Some(&b"/ld."[..]));
    assert_eq!(elf_loader(&elf(3, 120, 4, b"/l\0\0")), Some(&b"/l"[..]));
}

#[test]
fn an_elf_file_without_a_loader_or_with_one_out_of_reach_has_none() {
    assert_eq!(elf_loader(&elf(1, 120, 7, b"/ld.so\0")), None);
    for (offset, size) in [
        (121, 7),
        (120, 8),
        (u64::MAX, 7),
        (120, u64::MAX),
        (u64::MAX, u64::MAX),
        (1 << 63, 1 << 63),
    ] {
        assert_eq!(elf_loader(&elf(3, offset, size, b"/ld.so\0")), None);
    }
    let whole = elf(3, 120, 7, b"/ld.so\0");
    for len in 0..whole.len() {
        assert_eq!(elf_loader(&whole[..len]), None, "cut at {len}");
    }
    let mut other = whole.clone();
    // A 32-bit file, whose headers lie elsewhere.
    other[4] = 1;
    assert_eq!(elf_loader(&other), None);
}

#[test]
fn a_program_table_that_never_ends_ends() {
    let mut head = elf(1, 120, 7, b"/ld.so\0");
    head[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    // Each entry is the same one.
    head[54..56].copy_from_slice(&0u16.to_le_bytes());
    assert_eq!(elf_loader(&head), None);
}

#[test]
fn programs_of_this_machine_have_the_loader_that_they_have() {
    let static_one = crate::PROGRAM;
    assert_eq!(elf_loader(&static_one[..4096]), None);
    let shell = std::fs::read("/bin/sh").unwrap();
    // A shell may be static; else its loader is there, or it would not run.
    if let Some(loader) = elf_loader(shell.get(..4096).unwrap_or(&shell)) {
        let path = std::str::from_utf8(loader).unwrap();
        assert!(std::fs::exists(path).unwrap(), "{path}");
    }
}

#[test]
fn damaged_heads_never_panic() {
    let whole = elf(3, 120, 7, b"/ld.so\0");
    let real = &crate::PROGRAM[..4096];
    let mut state = 3;
    for round in 0..20_000 {
        let mut head = if round % 2 == 0 {
            whole.clone()
        } else {
            real.to_vec()
        };
        for _ in 0..1 + random(&mut state) % 8 {
            // Mostly in the headers, where the numbers are.
            let at = random(&mut state) % 128.min(head.len());
            head[at] = random(&mut state) as u8;
        }
        head.truncate(random(&mut state) % (head.len() + 1));
        if let Some(loader) = elf_loader(&head) {
            assert!(loader.len() <= head.len());
        }
        if let Some(word) = script_interpreter(&head) {
            assert!(!word.is_empty());
        }
    }
}

#[test]
fn a_candidate_that_is_too_long_is_passed_over() {
    let mut buffer = [0; 4096];
    assert_eq!(join(&mut buffer, b"/bin", b"sh"), Some(c"/bin/sh"));
    // "/" and the NUL take two bytes.
    let name = [b'x'; 4092];
    assert!(join(&mut buffer, b"/a", &name).is_some());
    assert!(join(&mut buffer, b"/a/", &name).is_none());
}
