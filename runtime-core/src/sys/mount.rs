//! Mount calls that rustix lacks.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::{call, last_errno};

/// `mount_setattr(2)`: makes a mount read-only.
pub(crate) fn set_readonly(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    call("mount_setattr", || {
        // SAFETY: the path is an empty string and the structure has the size that is told.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mount.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const attr,
                size_of_val(&attr),
            )
        };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })
}
