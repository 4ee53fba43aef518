//! Which containerd calls: 1.7 or 2.
//!
//! Both ask in the same words and with the same environment (`MAX_SHIM_VERSION=2`), but 1.7
//! refuses an answer that says version 3, and 2.0 to 2.2 want it for pods. What tells them
//! apart is what Go's linker notes in a program: the path of its main package and its modules.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The module of containerd 2, also as a dependency of a program that has it inside.
const MODULE: &[u8] = b"github.com/containerd/containerd/v2";

/// The section of Go's notes, and how large it may be to be read.
const SECTION: &[u8] = b".go.buildinfo";
const LIMIT: u64 = 1 << 20;

/// Whether the caller is a containerd 2: the parent process, or the program that it names.
pub(crate) fn is_containerd_2(named: &Path) -> bool {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let parent = format!("/proc/{parent}/exe");
    let notes = [Path::new(&parent), named]
        .into_iter()
        .find_map(|path| build_info(&File::open(path).ok()?));
    notes.is_some_and(|notes| notes.windows(MODULE.len()).any(|part| part == MODULE))
}

/// Go's notes in a 64-bit little-endian ELF file; elf(5).
fn build_info(file: &File) -> Option<Vec<u8>> {
    let header = read(file, 0, 64)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = number(&header, 40, 8)?;
    let size = number(&header, 58, 2)?;
    let names_index = number(&header, 62, 2)?;
    let section = |index: u64| read(file, table.checked_add(index.checked_mul(size)?)?, 64);
    let names = contents(file, &section(names_index)?)?;
    (0..number(&header, 60, 2)?).find_map(|index| {
        let section = section(index)?;
        let name = usize::try_from(number(&section, 0, 4)?).ok()?;
        let is_it = names.get(name..)?.strip_prefix(SECTION)?.first() == Some(&0);
        is_it.then(|| contents(file, &section))?
    })
}

/// What a section holds.
fn contents(file: &File, section: &[u8]) -> Option<Vec<u8>> {
    read(file, number(section, 24, 8)?, number(section, 32, 8)?)
}

fn read(file: &File, offset: u64, length: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(length.min(LIMIT)).ok()?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least ELF file with these notes.
    fn program(notes: &str) -> tempfile::Program {
        let names = b"\0.go.buildinfo\0.shstrtab\0";
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let notes_at = bytes.len() as u64;
        bytes.extend(notes.as_bytes());
        let names_at = bytes.len() as u64;
        bytes.extend(names);
        let table = bytes.len() as u64;
        for (name, at, length) in [
            (0_u32, 0, 0),
            (1, notes_at, notes.len() as u64),
            (15, names_at, names.len() as u64),
        ] {
            let mut section = [0; 64];
            section[..4].copy_from_slice(&name.to_le_bytes());
            section[24..32].copy_from_slice(&at.to_le_bytes());
            section[32..40].copy_from_slice(&length.to_le_bytes());
            bytes.extend(section);
        }
        bytes[40..48].copy_from_slice(&table.to_le_bytes());
        bytes[58] = 64;
        bytes[60] = 3;
        bytes[62] = 2;
        tempfile::Program::new(&bytes)
    }

    mod tempfile {
        use std::path::PathBuf;

        pub(super) struct Program(pub(super) PathBuf);

        impl Program {
            pub(super) fn new(bytes: &[u8]) -> Program {
                let name = format!("corten-elf-{}-{}", std::process::id(), bytes.len());
                let path = std::env::temp_dir().join(name);
                std::fs::write(&path, bytes).unwrap();
                Program(path)
            }
        }

        impl Drop for Program {
            fn drop(&mut self) {
                std::fs::remove_file(&self.0).unwrap();
            }
        }
    }

    #[test]
    fn containerd_2_is_known_by_its_module() {
        let two = program("go1.26\tpath\tgithub.com/containerd/containerd/v2/cmd/containerd\n");
        let one = program("go1.24\tpath\tgithub.com/containerd/containerd/cmd/containerd\n");
        assert!(is_containerd_2(&two.0));
        assert!(!is_containerd_2(&one.0));
    }

    #[test]
    fn what_is_no_go_program_is_not_containerd_2() {
        assert!(!is_containerd_2(Path::new("/bin/sh")));
        assert!(!is_containerd_2(Path::new("/nowhere")));
        assert!(!is_containerd_2(Path::new("/etc/passwd")));
    }
}
