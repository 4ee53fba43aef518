//! Mounts and roots.
//!
//! See fsopen(2), open_tree(2), move_mount(2), mount_setattr(2), pivot_root(2).

use core::ffi::CStr;

use super::numbers as nr;
use super::{Fd, Result, call, fd, flag, path, to_fd};

/// `open_tree(2)`.
pub fn open_tree(dir: Fd, name: &CStr, flags: u64) -> Result<Fd> {
    call(
        nr::OPEN_TREE,
        &[fd(dir), path(name), flags | flag::OPEN_TREE_CLOEXEC],
    )
    .map(to_fd)
}

/// `move_mount(2)` of one descriptor's mount onto another descriptor's file.
pub fn move_mount(from: Fd, to: Fd) -> Result<()> {
    move_mount_to(from, to, c"")
}

/// `move_mount(2)` of one descriptor's mount onto a name in another descriptor's directory,
/// or onto its file if the name is empty. A symbolic link of that name is not followed.
pub fn move_mount_to(from: Fd, dir: Fd, name: &CStr) -> Result<()> {
    let flags = flag::MOVE_MOUNT_F_EMPTY_PATH | flag::MOVE_MOUNT_T_EMPTY_PATH;
    call(
        nr::MOVE_MOUNT,
        &[fd(from), path(c""), fd(dir), path(name), flags],
    )
    .map(drop)
}

/// `mount_setattr(2)` on a descriptor's mount.
pub fn mount_setattr(
    mount: Fd,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
) -> Result<()> {
    let flags = if recursive { flag::AT_RECURSIVE } else { 0 };
    set_attr(mount, c"", flags, &[set, clear, propagation, 0])
}

/// `mount_setattr(2)` of the propagation of a mount's root.
pub fn set_propagation_at(dir: Fd, name: &CStr, kind: u64) -> Result<()> {
    set_attr(dir, name, 0, &[0, 0, kind, 0])
}

fn set_attr(dir: Fd, name: &CStr, flags: u64, attr: &[u64; 4]) -> Result<()> {
    call(
        nr::MOUNT_SETATTR,
        &[
            fd(dir),
            path(name),
            flags | flag::AT_EMPTY_PATH,
            attr.as_ptr() as u64,
            size_of_val(attr) as u64,
        ],
    )
    .map(drop)
}

/// `mount_setattr(2)` that maps the ids of a descriptor's mount.
pub fn mount_idmap(mount: Fd, namespace: Fd, recursive: bool) -> Result<()> {
    let flags = if recursive { flag::AT_RECURSIVE } else { 0 };
    let attr = [flag::MOUNT_ATTR_IDMAP, 0, 0, fd(namespace)];
    set_attr(mount, c"", flags, &attr)
}

/// `mount(2)` that only changes the propagation of a mount, with `MS_REC` of all below.
pub fn set_propagation(place: &CStr, kind: u64) -> Result<()> {
    call(nr::MOUNT, &[0, path(place), 0, kind, 0]).map(drop)
}

/// `mount(2)` of a file system on the working directory.
pub fn mount_here(source: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<()> {
    call(
        nr::MOUNT,
        &[path(source), path(c"."), path(kind), flags, path(data)],
    )
    .map(drop)
}

/// `fspick(2)` of the file system that a descriptor's mount shows.
pub fn fspick(mount: Fd) -> Result<Fd> {
    let flags = flag::FSPICK_CLOEXEC | flag::FSPICK_EMPTY_PATH;
    call(nr::FSPICK, &[fd(mount), path(c""), flags]).map(to_fd)
}

/// `fsopen(2)`.
pub fn fsopen(kind: &CStr) -> Result<Fd> {
    call(nr::FSOPEN, &[path(kind), flag::FSOPEN_CLOEXEC]).map(to_fd)
}

/// `fsconfig(FSCONFIG_SET_FLAG)`.
pub fn fsconfig_flag(fs: Fd, key: &CStr) -> Result<()> {
    call(
        nr::FSCONFIG,
        &[fd(fs), flag::FSCONFIG_SET_FLAG, path(key), 0, 0],
    )
    .map(drop)
}

/// `fsconfig(FSCONFIG_SET_STRING)`.
pub fn fsconfig_string(fs: Fd, key: &CStr, value: &CStr) -> Result<()> {
    call(
        nr::FSCONFIG,
        &[fd(fs), flag::FSCONFIG_SET_STRING, path(key), path(value), 0],
    )
    .map(drop)
}

/// `fsconfig(FSCONFIG_CMD_CREATE)`.
pub fn fsconfig_create(fs: Fd) -> Result<()> {
    call(nr::FSCONFIG, &[fd(fs), flag::FSCONFIG_CMD_CREATE, 0, 0, 0]).map(drop)
}

/// `fsconfig(FSCONFIG_CMD_RECONFIGURE)`.
pub fn fsconfig_reconfigure(fs: Fd) -> Result<()> {
    call(
        nr::FSCONFIG,
        &[fd(fs), flag::FSCONFIG_CMD_RECONFIGURE, 0, 0, 0],
    )
    .map(drop)
}

/// `fsmount(2)` with `MOUNT_ATTR_*`.
pub fn fsmount(fs: Fd, attrs: u64) -> Result<Fd> {
    call(nr::FSMOUNT, &[fd(fs), flag::FSMOUNT_CLOEXEC, attrs]).map(to_fd)
}

/// `fchdir(2)`.
pub fn fchdir(dir: Fd) -> Result<()> {
    call(nr::FCHDIR, &[fd(dir)]).map(drop)
}

/// `chdir("/")`.
pub fn chdir_root() -> Result<()> {
    call(nr::CHDIR, &[path(c"/")]).map(drop)
}

/// `getcwd(2)`: whether the working directory can be reached from the root.
#[inline(never)] // for its buffer
pub fn cwd_is_reachable() -> Result<bool> {
    let mut buffer = [0u8; 4096];
    call(
        nr::GETCWD,
        &[buffer.as_mut_ptr() as u64, buffer.len() as u64],
    )?;
    Ok(buffer.first() == Some(&b'/'))
}

/// `pivot_root(".", ".")`.
pub fn pivot_root_here() -> Result<()> {
    call(nr::PIVOT_ROOT, &[path(c"."), path(c".")]).map(drop)
}

/// `umount2(2)` with `MNT_DETACH`.
pub fn detach(place: &CStr) -> Result<()> {
    call(nr::UMOUNT2, &[path(place), flag::MNT_DETACH]).map(drop)
}

/// `chroot(".")`.
pub fn chroot_here() -> Result<()> {
    call(nr::CHROOT, &[path(c".")]).map(drop)
}
