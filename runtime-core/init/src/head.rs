//! Who runs a program, by the first bytes of its file. See execve(2) and elf(5).

/// The word behind `#!`.
#[must_use]
pub fn script_interpreter(head: &[u8]) -> Option<&[u8]> {
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    line.split(blank).find(|word| !word.is_empty())
}

/// The PT_INTERP string of a 64-bit ELF file, if it lies in `head`.
#[must_use]
pub fn elf_loader(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u64 = 3;
    head.strip_prefix(b"\x7fELF\x02")?;
    let table = number(head, 32, 8)? as usize;
    let entry_size = number(head, 54, 2)? as usize;
    let entries = number(head, 56, 2)? as usize;
    for index in 0..entries {
        let entry = table.checked_add(index.checked_mul(entry_size)?)?;
        if number(head, entry, 4)? == PT_INTERP {
            let offset = number(head, entry.checked_add(8)?, 8)? as usize;
            let size = number(head, entry.checked_add(32)?, 8)? as usize;
            let text = head.get(offset..offset.checked_add(size)?)?;
            return text.split(|byte| *byte == 0).next();
        }
    }
    None
}

/// A little-endian number of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | *byte as u64),
    )
}
