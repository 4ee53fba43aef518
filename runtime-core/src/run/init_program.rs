//! Init as a file that can be executed and that nobody can change.
//!
//! See memfd_create(2); `vm.memfd_noexec` in the kernel's admin-guide/sysctl/vm.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags};

use crate::host::{Host, MemfdExec};
use crate::sys::{call, file, ipc, process};

/// What /proc/PID/exe of init says: of the memfd, and of the file on a tmpfs.
const NAMES: [&[u8]; 2] = [b"/memfd:corten-init (deleted)", b"/corten-init"];

/// The file, made when first needed and kept for all containers of a runtime, and what its
/// processes begin with.
#[derive(Debug, Default)]
pub(crate) struct InitProgram {
    file: OnceLock<OwnedFd>,
    /// What was found when it was made.
    memfd_exec: OnceLock<MemfdExec>,
    /// Soft and hard `RLIMIT_NOFILE`; none: the caller's.
    pub(crate) nofile: Option<[u64; 2]>,
}

impl InitProgram {
    pub(crate) fn new(nofile: Option<[u64; 2]>) -> InitProgram {
        InitProgram {
            nofile,
            ..InitProgram::default()
        }
    }

    /// How init can be executed from memory: tried with the file itself, which is kept if it can be had so.
    pub(crate) fn memfd_exec(&self) -> MemfdExec {
        if let Some(how) = self.memfd_exec.get() {
            return *how;
        }
        let made = memfd(MemfdFlags::EXEC);
        let how = MemfdExec::of(&made);
        if let Ok(file) = made {
            self.file.get_or_init(|| file);
        }
        // It may have been for want of something, that once.
        if how != MemfdExec::Forbidden {
            self.memfd_exec.get_or_init(|| how);
        }
        how
    }

    /// The file, open.
    pub(crate) fn file(&self, host: &Host) -> Result<BorrowedFd<'_>, Errno> {
        if let Some(file) = self.file.get() {
            return Ok(file.as_fd());
        }
        let file = match host.memfd_exec {
            MemfdExec::Flag => memfd(MemfdFlags::EXEC)?,
            MemfdExec::Plain => memfd(MemfdFlags::empty())?,
            MemfdExec::Forbidden => on_tmpfs()?,
        };
        // Another thread may have been faster; its file serves as well.
        Ok(self.file.get_or_init(|| file).as_fd())
    }
}

/// Whether a process is init still, and not yet the program that its plan ends with. A zombie
/// is neither; who may not look is told that it is.
pub(crate) fn is_init(pid: i32) -> bool {
    match process::program(pid) {
        Ok(path) => NAMES.contains(&path.as_slice()),
        Err(Errno::NOENT | Errno::SRCH) => false,
        Err(_) => true,
    }
}

/// Whether a process is init still, or a zombie that was it when it ended: such a one has no
/// program, but the name that init gives itself first of all.
pub(crate) fn was_init(pid: i32) -> bool {
    if process::program(pid) != Err(Errno::NOENT) {
        return is_init(pid);
    }
    let comm = file::read(Path::new(&format!("/proc/{pid}/comm")));
    comm.is_ok_and(|comm| comm == b"corten-init\n")
}

/// Whether a process is seen to be something else than init by now.
pub(crate) fn is_program(pid: i32) -> bool {
    process::program(pid).is_ok_and(|path| !NAMES.contains(&path.as_slice()))
}

fn memfd(flags: MemfdFlags) -> Result<OwnedFd, Errno> {
    ipc::sealed_memfd(c"corten-init", corten_init::PROGRAM, flags)
}

/// Where executing memfds is forbidden: a file on a tmpfs that nobody else sees. A
/// container can keep a descriptor of it and reopen that for writing, so mount and
/// superblock are read-only before it is executed for the first time. The file keeps its
/// name: a superblock with unlinked files that are open can't become read-only (EBUSY).
fn on_tmpfs() -> Result<OwnedFd, Errno> {
    let context = call("fsopen", || {
        rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
    })?;
    call("fsconfig", || {
        rustix::mount::fsconfig_set_string(&context, "mode", "0700")
    })?;
    call("fsconfig", || rustix::mount::fsconfig_create(&context))?;
    let attrs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = call("fsmount", || {
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attrs)
    })?;
    let name = "corten-init";
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o500);
    let writer = call("openat", || rustix::fs::openat(&mount, name, flags, mode))?;
    ipc::write_all(writer.as_fd(), corten_init::PROGRAM)?;
    drop(writer);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = call("openat", || {
        rustix::fs::openat(&mount, name, flags, Mode::empty())
    })?;
    make_readonly(mount.as_fd())?;
    crate::sys::mount::set_readonly(mount.as_fd())?;
    Ok(file)
}

/// Makes the superblock read-only. Another thread of the program may just have forked: that
/// child has a copy of the writer's descriptor until its exec, and the file system is busy.
fn make_readonly(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    const ATTEMPTS: u32 = 1000;
    const PAUSE: Duration = Duration::from_millis(1);
    let pick = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    for _ in 0..ATTEMPTS {
        // A context that has failed once answers EBUSY for ever.
        let picked = call("fspick", || rustix::mount::fspick(mount, "", pick))?;
        call("fsconfig", || {
            rustix::mount::fsconfig_set_flag(&picked, "ro")
        })?;
        match call("fsconfig", || rustix::mount::fsconfig_reconfigure(&picked)) {
            Err(Errno::BUSY) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    Err(Errno::BUSY)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_memfd_holds_the_program_and_can_not_be_changed() {
        let file = memfd(MemfdFlags::empty()).unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(std::fs::read(&path).unwrap(), corten_init::PROGRAM);
        let mut writable = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(
            writable.write(b"x").unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
    }

    #[test]
    fn what_was_tried_with_the_file_itself_is_kept() {
        let program = InitProgram::new(None);
        let how = program.memfd_exec();
        assert_eq!(
            (how, program.memfd_exec()),
            (crate::host::memfd_exec(), how)
        );
        let kept = program.file.get().map(AsRawFd::as_raw_fd);
        assert_eq!(kept.is_some(), how == MemfdExec::Flag);
        let mut host = Host::probe().unwrap();
        host.memfd_exec = how;
        let file = program.file(&host).unwrap().as_raw_fd();
        assert!(kept.is_none_or(|kept| kept == file));
    }

    #[test]
    fn another_child_of_the_caller_is_not_taken_for_init_nor_is_its_zombie() {
        let named = std::env::temp_dir().join(format!("corten-name-{}", std::process::id()));
        std::fs::create_dir(&named).unwrap();
        let init = named.join("corten-init");
        std::fs::copy("/bin/true", &init).unwrap();
        for (program, is_it) in [(init.as_path(), true), (Path::new("/bin/true"), false)] {
            let mut child = std::process::Command::new(program).spawn().unwrap();
            let pid = child.id().cast_signed();
            let pidfd = process::pidfd_open(pid).unwrap();
            assert_eq!(process::has_ended(pidfd.as_fd(), None), Ok(true));
            assert!(process::is_child(pidfd.as_fd()), "nobody has reaped it");
            assert_eq!(was_init(pid), is_it, "the zombie of {program:?}");
            child.wait().unwrap();
            assert!(!was_init(pid), "{program:?} is gone");
        }
        assert!(!was_init(std::process::id().cast_signed()));
        std::fs::remove_dir_all(named).unwrap();
    }

    #[test]
    fn a_file_on_a_tmpfs_is_made_while_other_threads_start_programs() {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let stop = &stop;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(move || {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
                        child.wait().unwrap();
                    }
                });
            }
            let made: Result<Vec<OwnedFd>, Errno> = (0..100).map(|_| on_tmpfs()).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            made.unwrap();
        });
    }

    #[test]
    fn a_file_on_a_tmpfs_of_its_own_can_not_be_reopened_for_writing() {
        if !rustix::process::geteuid().is_root() {
            panic!("this test mounts: it must run as root");
        }
        let file = on_tmpfs().unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert_eq!(std::fs::read(&path).unwrap(), corten_init::PROGRAM);
        let error = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    }
}
