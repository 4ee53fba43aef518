//! System calls of the runtime half, one file per man-page group.
//!
//! The only place of the library with `unsafe`, and the only door to the kernel:
//! every call of `run`, `cgroup` and `container` goes through [`call`], where fault
//! injection can hook in.

pub(crate) mod bpf;
pub(crate) mod epoll;
pub(crate) mod errno;
pub(crate) mod file;
pub(crate) mod ipc;
pub(crate) mod launch;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod netlink;
pub(crate) mod process;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod user_namespace;

use rustix::io::Errno;

/// Makes one system call on behalf of the runtime half.
///
/// `name` is the call's name in section 2 of the man pages. The runtime half makes
/// no system call that does not pass here.
#[inline]
pub(crate) fn call<T>(
    _name: &'static str,
    make: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    make()
}

/// What the C library says about the call of this thread that failed last.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
