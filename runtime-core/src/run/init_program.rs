//! Init as a file that can be executed and that nobody can change.
//!
//! See memfd_create(2); `vm.memfd_noexec` in the kernel's admin-guide/sysctl/vm.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags};

use crate::host::{Host, MemfdExec};
use crate::sys::{call, ipc};

/// The file, made when first needed and kept for all containers of a runtime.
#[derive(Debug, Default)]
pub(crate) struct InitProgram(OnceLock<OwnedFd>);

impl InitProgram {
    /// The file, open.
    pub(crate) fn file(&self, host: &Host) -> Result<BorrowedFd<'_>, Errno> {
        if let Some(file) = self.0.get() {
            return Ok(file.as_fd());
        }
        let file = match host.memfd_exec {
            MemfdExec::Flag => memfd(MemfdFlags::EXEC)?,
            MemfdExec::Plain => memfd(MemfdFlags::empty())?,
            MemfdExec::Forbidden => on_tmpfs()?,
        };
        // Another thread may have been faster; its file serves as well.
        Ok(self.0.get_or_init(|| file).as_fd())
    }
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
    let pick = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let picked = call("fspick", || rustix::mount::fspick(&mount, "", pick))?;
    call("fsconfig", || {
        rustix::mount::fsconfig_set_flag(&picked, "ro")
    })?;
    call("fsconfig", || rustix::mount::fsconfig_reconfigure(&picked))?;
    crate::sys::mount::set_readonly(mount.as_fd())?;
    Ok(file)
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
