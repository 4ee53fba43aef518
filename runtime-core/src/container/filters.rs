//! Compiled seccomp filters, kept in the root of all containers.
//!
//! An engine starts its containers with one profile. To read and compile that takes as long as all
//! other planning, so what comes out is kept by the profile's text, for `create` and `exec`. It is
//! in the hands of those who may write container states: whoever can change a filter there could
//! as well make a container without one.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::seccomp::{decode, encode, number};
use crate::spec::{self, Compiled, Spec, SpecError};
use crate::sys::{call, file, process};

/// The directory's name; no container can have it.
const FOLDER: &str = ".seccomp:filters";

/// How many are kept: a new one takes the place of another then.
const PLACES: u64 = 64;

/// Longest file that is read, in bytes: the longest text, a program of 4096 instructions and the
/// warnings.
const FILE_MAX: usize = 256 << 10;

fn name(text: &str) -> OsString {
    format!("{:02}", number(text) % PLACES).into()
}

/// Reads a config.json; the profile is not read if its filter is known in `root`.
pub(super) fn parse(root: &Path, json: &[u8]) -> Result<Spec, SpecError> {
    spec::parse_known(json, |text| find(root, text))
}

/// The filter of a profile with this text, if it is kept.
fn find(root: &Path, text: &str) -> Option<Compiled> {
    let folder = open_folder(&root.join(FOLDER)).ok()?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = file::open_at(folder, Path::new(&name(text)), flags).ok()?;
    if kind_of_own(file.as_fd()).ok()? != FileType::RegularFile {
        return None;
    }
    decode(text, &file::read_open(file.as_fd(), FILE_MAX).ok()?)
}

/// Opens the directory, if it is the caller's own.
fn open_folder(folder: &Path) -> Result<OwnedFd, Errno> {
    let dir = file::open_dir_at(CWD, folder)?;
    kind_of_own(dir.as_fd()).map(|_| dir)
}

/// What an open file is, which the caller owns and nobody else may write.
fn kind_of_own(fd: BorrowedFd<'_>) -> Result<FileType, Errno> {
    let stat = call("fstat", || rustix::fs::fstat(fd))?;
    let others = Mode::from_raw_mode(stat.st_mode) & (Mode::WGRP | Mode::WOTH);
    if process::geteuid()? != stat.st_uid || !others.is_empty() {
        return Err(Errno::PERM);
    }
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Keeps what a plan has compiled. What can't be kept is compiled again.
pub(super) fn keep_new(root: &Path, filter: Option<&(Box<str>, Arc<Compiled>)>) {
    if let Some((text, compiled)) = filter {
        keep(root, text, compiled);
    }
}

fn keep(root: &Path, text: &str, compiled: &Compiled) {
    let folder = root.join(FOLDER);
    let written = make_folder(&folder).and_then(|()| {
        let dir = open_folder(&folder)?;
        remove_unfinished(&dir)?;
        file::write_new_atomic(dir, &name(text), &encode(text, compiled), 0o600)
    });
    if let Err(errno) = written {
        log::debug!("{}: no filter is kept: {errno}", folder.display());
    }
}

/// Removes what was never finished, for a writer that was killed. One that is still at it keeps
/// nothing then.
fn remove_unfinished(dir: &OwnedFd) -> Result<(), Errno> {
    for name in file::read_dir_names(dir)? {
        if name.as_bytes().starts_with(b".") {
            let removed = call("unlinkat", || {
                rustix::fs::unlinkat(dir, &name, AtFlags::empty())
            });
            // Somebody else's, who has just given it its name.
            removed.or_else(|errno| {
                if errno == Errno::NOENT {
                    Ok(())
                } else {
                    Err(errno)
                }
            })?;
        }
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), Errno> {
    match call("mkdir", || rustix::fs::mkdir(folder, Mode::RWXU)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    use super::*;

    const TEXT: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;

    fn filter() -> Compiled {
        Compiled {
            program: vec![6, 0x7fff_0000],
            flags: None,
            passes: 1,
            warnings: Vec::new(),
        }
    }

    /// A root of containers, and where the filter of [`TEXT`] is kept in it.
    fn root(name: &str) -> (PathBuf, PathBuf) {
        let root = std::env::temp_dir().join(format!("corten-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let kept = root.join(FOLDER).join(super::name(TEXT));
        (root, kept)
    }

    #[test]
    fn a_kept_filter_is_found_by_its_text_alone() {
        let (root, kept) = root("filters-found");
        assert_eq!(find(&root, TEXT), None);
        keep(&root, TEXT, &filter());
        assert_eq!(find(&root, TEXT), Some(filter()));
        assert_eq!(find(&root, r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#), None);
        // The next one in its place.
        std::fs::rename(&kept, kept.with_extension("old")).unwrap();
        assert_eq!(find(&root, TEXT), None);
        keep(&root, TEXT, &filter());
        keep(&root, TEXT, &filter());
        assert_eq!(find(&root, TEXT), Some(filter()));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_somebody_else_may_have_written_is_no_filter() {
        let (root, kept) = root("filters-foreign");
        keep(&root, TEXT, &filter());
        let bytes = std::fs::read(&kept).unwrap();
        let mode = |mode| std::fs::set_permissions(&kept, PermissionsExt::from_mode(mode)).unwrap();
        for (bits, found) in [(0o660, false), (0o602, false), (0o644, true)] {
            mode(bits);
            assert_eq!(find(&root, TEXT).is_some(), found, "{bits:o}");
        }
        if process::geteuid() == Ok(0) {
            chown(&kept, Some(1), None).unwrap();
            assert_eq!(find(&root, TEXT), None);
        }
        let elsewhere = root.join("elsewhere");
        std::fs::write(&elsewhere, bytes).unwrap();
        std::fs::remove_file(&kept).unwrap();
        symlink(&elsewhere, &kept).unwrap();
        assert_eq!(find(&root, TEXT), None);
        // Nor a directory by which somebody else leads here.
        std::fs::remove_file(&kept).unwrap();
        keep(&root, TEXT, &filter());
        let (folder, moved) = (root.join(FOLDER), root.join("moved"));
        std::fs::rename(&folder, &moved).unwrap();
        symlink(&moved, &folder).unwrap();
        assert_eq!(find(&root, TEXT), None);
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(&moved, &folder).unwrap();
        for (bits, found) in [(0o777, false), (0o700, true)] {
            std::fs::set_permissions(&folder, PermissionsExt::from_mode(bits)).unwrap();
            assert_eq!(find(&root, TEXT).is_some(), found, "{bits:o}");
        }
        // Nor does it wait for one who writes.
        std::fs::remove_file(&kept).unwrap();
        rustix::fs::mknodat(CWD, &kept, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(find(&root, TEXT), None);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_a_killed_writer_has_left_goes_with_the_next() {
        let (root, kept) = root("filters-killed");
        keep(&root, TEXT, &filter());
        let left = kept.with_file_name(".07.123.0");
        std::fs::write(&left, "half").unwrap();
        keep(&root, TEXT, &filter());
        assert!(!left.exists() && kept.exists());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_configuration_reads_the_same_with_and_without_what_is_kept() {
        let (root, _) = root("filters-read");
        keep(&root, TEXT, &filter());
        let config = |text: &str| format!(r#"{{"hostname": "a", "linux": {{"seccomp": {text}}}}}"#);
        for text in [
            TEXT,
            "null",
            r#"{"defaultAction": "SCMP_ACT_LOG", "syscalls": []}"#,
        ] {
            let json = config(text).into_bytes();
            let (read, known) = (spec::parse(&json).unwrap(), parse(&root, &json).unwrap());
            assert_eq!(read, known, "{text}");
            let profile = known.linux.unwrap().seccomp;
            let found = profile.is_some_and(|profile| profile.compiled().is_some());
            assert_eq!(found, text == TEXT, "{text}");
            assert_eq!(
                spec::to_json(&read),
                spec::to_json(&parse(&root, &json).unwrap())
            );
        }
        for text in [
            "5",
            "[]",
            "{}",
            r#"{"defaultAction": 1}"#,
            "{",
            r#"{"a": "\q"}"#,
            "nul",
        ] {
            let json = config(text).replace("\"a\"", "\n\"a\"").into_bytes();
            let errors = [spec::parse(&json), parse(&root, &json)].map(Result::unwrap_err);
            assert_eq!(errors[0], errors[1], "{text}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
