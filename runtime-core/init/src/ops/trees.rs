//! Trees that a container in a user namespace can't open itself, and ids of mounts.
//!
//! See user_namespaces(7), mount_namespaces(7), mount_setattr(2). A process in the host's
//! user namespace attaches copies of bind sources to a tmpfs of its own. The container's
//! mount namespace is made from that one: so it has them too, with every lock that the host's
//! mounts get in a less privileged namespace. A descriptor could not go that way, but the
//! working directory does.

use core::ffi::CStr;

use super::walk::{Make, make_in};
use crate::abi::{Kind, Slot, Span};
use crate::execute::{Failure, Init, Outcome};
use crate::sys::{self, CWD, Fd, errno, flag};

/// Who is root of the user namespace may look names up here, and no more.
const MODE: &CStr = c"0711";

pub(crate) fn mount_trees(init: &Init, path: Span) -> Outcome {
    let place = sys::openat2(CWD, init.text(path)?, flag::O_PATH | flag::O_DIRECTORY, 0)?;
    let context = sys::fsopen(c"tmpfs")?;
    sys::fsconfig_string(context, c"source", c"trees")?;
    sys::fsconfig_string(context, c"mode", MODE)?;
    sys::fsconfig_create(context)?;
    let attrs = flag::MOUNT_ATTR_NOSUID | flag::MOUNT_ATTR_NODEV | flag::MOUNT_ATTR_NOEXEC;
    let mount = sys::fsmount(context, attrs)?;
    sys::close(context)?;
    sys::move_mount(mount, place)?;
    sys::close(place)?;
    sys::fchdir(mount)?;
    Ok(sys::close(mount)?)
}

pub(crate) fn keep_tree(init: &Init, mount: Slot, name: Span) -> Outcome {
    let mount = init.slot(mount)?;
    let make = if sys::stat(mount, c"")?.is(flag::S_IFDIR) {
        Make::Directory
    } else {
        Make::File
    };
    let here = sys::openat2(CWD, c".", flag::O_PATH | flag::O_DIRECTORY, 0)?;
    let place = make_in(here, init.text(name)?, make, flag::RESOLVE_NO_SYMLINKS)?;
    sys::move_mount(mount, place)?;
    sys::close(place)?;
    Ok(sys::close(here)?)
}

pub(crate) fn idmap(init: &Init, mount: Slot, map: Slot, recursive: bool) -> Outcome {
    let mount = init.slot(mount)?;
    match sys::mount_idmap(mount, init.slot(map)?, recursive) {
        Err(error) if error.0 == errno::EINVAL => Err(no_id_map(init, mount)?),
        other => Ok(other?),
    }
}

/// EINVAL says no more than that a file system, here or below, can't do it.
fn no_id_map(init: &Init, mount: Fd) -> Result<Failure, Failure> {
    let magic = sys::fs_magic(mount)?;
    let mut digits = [b'0'; 8];
    let shifts = (0..8u32).rev().map(|digit| digit.wrapping_mul(4));
    for (place, shift) in digits.iter_mut().zip(shifts) {
        let value = (magic >> shift & 0xf) as u8;
        *place = if value < 10 {
            b'0'.wrapping_add(value)
        } else {
            b'a'.wrapping_add(value.wrapping_sub(10))
        };
    }
    Ok(init.detail(Kind::NoIdMap, errno::EINVAL, &[&digits]))
}
