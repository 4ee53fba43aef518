//! A program as Go's linker makes it, with nothing in it but the notes on how it was built.

/// The least ELF file that notes this module; elf(5).
pub(super) fn go(module: &str) -> Vec<u8> {
    let names = b"\0.go.buildinfo\0.shstrtab\0";
    let notes = format!("go1.26\tpath\t{module}/cmd/containerd\n");
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let mut parts: Vec<(u32, u64, u64)> = vec![(0, 0, 0)];
    for (name, contents) in [(1, notes.as_bytes()), (15, names)] {
        parts.push((name, bytes.len() as u64, contents.len() as u64));
        bytes.extend(contents);
    }
    let table = bytes.len() as u64;
    for (name, at, length) in parts {
        let mut section = [0; 64];
        section[..4].copy_from_slice(&name.to_le_bytes());
        section[24..32].copy_from_slice(&at.to_le_bytes());
        section[32..40].copy_from_slice(&length.to_le_bytes());
        bytes.extend(section);
    }
    bytes[40..48].copy_from_slice(&table.to_le_bytes());
    // How large a section's header is, how many there are, and which one has the names.
    for (at, number) in [(58, 64), (60, 3), (62, 2)] {
        bytes[at] = number;
    }
    bytes
}
