//! What config.json refers to on this machine: the root, the program, sources, hooks.
//!
//! Paths in the container are looked up inside the root, as the kernel would after pivot.
//! Where a mount will lie over the place nothing is said of it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use corten_init::head::{elf_loader, script_interpreter};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::Findings;
use crate::bundle::{LED_OUT, led_out, root_path};
use crate::error::errno_text;
use crate::plan::is_bind;
use crate::spec::{Hook, Mount, Process, Spec};
use crate::sys::{call, file};

/// As much of a program as says who runs it.
const HEAD: usize = 4096;

/// The root file system, as far as its path can be followed.
pub(super) fn rootfs(found: &mut Findings, spec: &Spec, bundle: &Path) -> PathBuf {
    let root = root_path(spec);
    let path = bundle.join(root);
    if root.is_empty() {
        return path;
    }
    match kind_of(&path) {
        Ok(FileType::Directory) => {
            let path = file::real_path(&path).unwrap_or(path);
            if led_out(bundle, root, &path) {
                found.error("root.path", LED_OUT);
            }
            path
        }
        Ok(_) => {
            found.error("root.path", format!("{}: not a directory", path.display()));
            path
        }
        Err(errno) => {
            found.error("root.path", cause(&path, errno));
            path
        }
    }
}

pub(super) fn check(found: &mut Findings, spec: &Spec, bundle: &Path, rootfs: &Path) {
    for (index, mount) in spec.mounts.iter().enumerate() {
        source(found, &format!("mounts[{index}]"), mount, bundle);
    }
    file_systems(found, spec);
    if let Some(hooks) = &spec.hooks {
        // startContainer's are the container's own.
        let kinds = hooks.kinds().into_iter();
        for (kind, hooks) in kinds.filter(|(kind, _)| *kind != "startContainer") {
            for (index, hook) in hooks.iter().enumerate() {
                host_hook(found, format!("hooks.{kind}[{index}].path"), hook);
            }
        }
    }
    let Ok(root) = file::open_at(rustix::fs::CWD, rootfs, OFlags::PATH | OFlags::DIRECTORY) else {
        return;
    };
    let inside = Inside { root, spec };
    if let Some(process) = &spec.process {
        inside.working_directory(found, process);
        inside.program(found, process);
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        inside.destination(
            found,
            &format!("mounts[{index}].destination"),
            mount,
            bundle,
        );
    }
}

fn kind_of(path: &Path) -> Result<FileType, Errno> {
    let stat = call("stat", || rustix::fs::stat(path))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn cause(path: &Path, errno: Errno) -> String {
    format!("{}: {}", path.display(), errno_text(errno.raw_os_error()))
}

fn source(found: &mut Findings, path: &str, mount: &Mount, bundle: &Path) {
    let Some(source) = mount.source.as_deref().filter(|_| is_bind(mount)) else {
        return;
    };
    let source = bundle.join(source);
    if let Err(errno) = kind_of(&source) {
        found.error(format!("{path}.source"), cause(&source, errno));
    }
}

/// The kernel loads some file systems when they are asked for.
fn file_systems(found: &mut Findings, spec: &Spec) {
    let Ok(known) = file::read(Path::new("/proc/filesystems")) else {
        return;
    };
    let known = String::from_utf8_lossy(&known).into_owned();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let kind = mount.kind.as_deref().unwrap_or_default();
        let is_known = known
            .lines()
            .any(|line| line.split('\t').nth(1) == Some(kind));
        // A cgroup mount is made of what the host has.
        if is_known || is_bind(mount) || matches!(kind, "" | "none" | "bind" | "cgroup") {
            continue;
        }
        let text = format!("this kernel has no {kind} now; a module may bring it");
        found.warning(format!("mounts[{index}].type"), text);
    }
}

fn host_hook(found: &mut Findings, place: String, hook: &Hook) {
    let path = Path::new(&hook.path);
    match call("stat", || rustix::fs::stat(path)) {
        Err(errno) => found.error(place, cause(path, errno)),
        Ok(stat) => {
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
                found.error(place, cause(path, Errno::ACCESS));
            }
        }
    }
}

/// The root file system, seen from inside.
struct Inside<'a> {
    root: OwnedFd,
    spec: &'a Spec,
}

impl Inside<'_> {
    /// Opens a file as the container would find it.
    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        file::open_in_root(self.root.as_fd(), path, flags)
    }

    fn kind(&self, path: &Path) -> Result<(FileType, u32), Errno> {
        let fd = self.open(path, OFlags::PATH)?;
        let stat = call("fstat", || rustix::fs::fstat(&fd))?;
        Ok((FileType::from_raw_mode(stat.st_mode), stat.st_mode & 0o7777))
    }

    /// Whether something will be mounted over this path.
    fn is_covered(&self, path: &Path) -> bool {
        let mut mounts = self.spec.mounts.iter();
        mounts.any(|mount| path.starts_with(Path::new("/").join(&mount.destination)))
    }

    fn working_directory(&self, found: &mut Findings, process: &Process) {
        let path = Path::new(&process.cwd);
        if self.is_covered(path) {
            return;
        }
        let place = "process.cwd";
        match self.kind(path) {
            Ok((FileType::Directory, _)) => {}
            Ok(_) => found.error(place, cause(path, Errno::NOTDIR)),
            Err(Errno::NOENT) => {
                let text = format!("{}: is not there, and will be made", path.display());
                found.warning(place, text);
            }
            Err(errno) => found.error(place, cause(path, errno)),
        }
    }

    fn program(&self, found: &mut Findings, process: &Process) {
        let Some(name) = process.args.first().filter(|name| !name.is_empty()) else {
            return;
        };
        let place = "process.args[0]";
        let Some(path) = self.search(process, name) else {
            let text = format!("{name}: executable file not found in $PATH");
            found.error(place, text);
            return;
        };
        if self.is_covered(&path) {
            return;
        }
        match self.kind(&path) {
            Err(errno) => return found.error(place, cause(&path, errno)),
            Ok((FileType::RegularFile, mode)) if mode & 0o111 != 0 => {}
            Ok((FileType::Directory, _)) => {
                return found.error(place, format!("{}: is a directory", path.display()));
            }
            Ok(_) => return found.error(place, cause(&path, Errno::ACCESS)),
        }
        let head = self.open(&path, OFlags::RDONLY | OFlags::NONBLOCK);
        let head = head.and_then(|fd| file::read_head(fd.as_fd(), HEAD));
        match head.map(|head| runner(&head)) {
            Ok(Runner::Program(runner)) => self.runner(found, &path, &runner),
            Ok(Runner::Foreign) => {
                let text = format!("{}: is a program for another machine", path.display());
                found.warning(place, text);
            }
            Ok(Runner::Unknown) => {
                let text = format!("{}: is neither a program nor a script", path.display());
                found.warning(place, text);
            }
            Ok(Runner::None) | Err(_) => {}
        }
    }

    fn runner(&self, found: &mut Findings, program: &Path, runner: &Path) {
        if self.is_covered(runner) {
            return;
        }
        if let Err(errno) = self.kind(runner) {
            let (program, cause) = (program.display(), cause(runner, errno));
            found.error("process.args[0]", format!("{program}: is run by {cause}"));
        }
    }

    /// The file that a name stands for; none if it is in no directory of `PATH`.
    fn search(&self, process: &Process, name: &str) -> Option<PathBuf> {
        let cwd = Path::new(&process.cwd);
        if name.contains('/') {
            return Some(cwd.join(name));
        }
        let given = process.env.iter().rev();
        let mut given = given.filter_map(|word| word.strip_prefix("PATH="));
        // As in create: an empty one is no directory, and none is none.
        let path = given.next().filter(|path| !path.is_empty())?;
        let directories = path.split(':');
        let mut paths = directories.map(|directory| cwd.join(directory).join(name));
        paths.find(|path| {
            self.is_covered(path)
                || matches!(self.kind(path), Ok((FileType::RegularFile, mode)) if mode & 0o111 != 0)
        })
    }

    /// A file is not mounted over a directory, nor the other way round.
    fn destination(&self, found: &mut Findings, place: &str, mount: &Mount, bundle: &Path) {
        let path = Path::new("/").join(&mount.destination);
        let is_directory = match mount.source.as_deref().filter(|_| is_bind(mount)) {
            Some(source) => match kind_of(&bundle.join(source)) {
                Ok(kind) => kind == FileType::Directory,
                Err(_) => return,
            },
            None => true,
        };
        let others = self
            .spec
            .mounts
            .iter()
            .filter(|other| !std::ptr::eq(*other, mount));
        let covered = others
            .filter(|other| !other.destination.is_empty())
            .any(|other| path.starts_with(Path::new("/").join(&other.destination)));
        let Ok((kind, _)) = self.kind(&path) else {
            return;
        };
        if !covered && (kind == FileType::Directory) != is_directory {
            let (over, what) = match is_directory {
                true => ("a file", "a directory"),
                false => ("a directory", "a file"),
            };
            let text = format!(
                "{}: is {over}, and {what} is to be mounted on it",
                path.display()
            );
            found.error(place, text);
        }
    }
}

/// Who runs a program.
#[derive(Debug, PartialEq, Eq)]
enum Runner {
    /// Nobody: it runs by itself.
    None,
    /// The interpreter of a script, or a loader.
    Program(PathBuf),
    /// It is for another machine.
    Foreign,
    /// The kernel knows no such file.
    Unknown,
}

/// By the first bytes of a file.
fn runner(head: &[u8]) -> Runner {
    let path = |bytes: &[u8]| Runner::Program(Path::new(OsStr::from_bytes(bytes)).to_owned());
    if head.starts_with(b"#!") {
        return script_interpreter(head).map_or(Runner::Unknown, path);
    }
    if !head.starts_with(b"\x7fELF") {
        return Runner::Unknown;
    }
    // 32-bit programs and other byte orders may be run too; nothing is said of them.
    const CLASS64_LITTLE: [u8; 2] = [2, 1];
    if head.get(4..6) != Some(&CLASS64_LITTLE) || cfg!(target_endian = "big") {
        return Runner::None;
    }
    let machine = head.get(18..20).and_then(|bytes| bytes.try_into().ok());
    match machine.map(u16::from_le_bytes) {
        Some(machine) if MACHINE.is_some_and(|own| own != machine) => Runner::Foreign,
        _ => elf_loader(head).map_or(Runner::None, path),
    }
}

/// `EM_*` of this machine.
const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else {
    None
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_programs_tell_who_runs_them() {
        let script = |text: &str| runner(text.as_bytes());
        assert_eq!(
            script("#! /bin/sh -e\nx"),
            Runner::Program("/bin/sh".into())
        );
        assert_eq!(script("#!/a"), Runner::Program("/a".into()));
        assert_eq!(script("#!/a\r\n"), Runner::Program("/a\r".into()));
        assert_eq!(script("#!\n"), Runner::Unknown);
        assert_eq!(script("echo"), Runner::Unknown);
        assert_eq!(script(""), Runner::Unknown);
    }

    #[test]
    fn the_loader_of_a_program_is_found() {
        let head = std::fs::read("/bin/sh").unwrap();
        let head = &head[..HEAD];
        let found = runner(head);
        assert!(
            matches!(&found, Runner::Program(path) if path.starts_with("/lib64")),
            "{found:?}"
        );
        let mut foreign = head.to_vec();
        foreign[18] ^= 1;
        assert_eq!(runner(&foreign), Runner::Foreign);
        for end in 0..head.len() {
            drop(runner(&head[..end]));
        }
    }
}
