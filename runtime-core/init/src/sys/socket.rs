//! Sockets and terminals.
//!
//! See unix(7), netdevice(7), ioctl_tty(2).

use super::numbers as nr;
use super::{Fd, Result, call, fd, flag, to_fd};

/// `socket(AF_UNIX, SOCK_DGRAM)`.
pub fn any_socket() -> Result<Fd> {
    const AF_UNIX: u64 = 1;
    const SOCK_DGRAM_CLOEXEC: u64 = 2 | flag::O_CLOEXEC;
    call(nr::SOCKET, &[AF_UNIX, SOCK_DGRAM_CLOEXEC, 0]).map(to_fd)
}

/// `ioctl(SIOCGIFFLAGS)` and `ioctl(SIOCSIFFLAGS)`: sets `IFF_UP` on `lo`. Also where it is set: the flag can be seen before
/// the addresses are there, and this waits for who sets it just now.
pub fn loopback_up(socket: Fd) -> Result<()> {
    const IFF_UP: u64 = 1;
    // struct ifreq, 40 bytes: the name in 16, then short ifr_flags.
    let mut request = [0u64; 5];
    let [name, _, flags, ..] = &mut request;
    *name = u64::from_ne_bytes(*b"lo\0\0\0\0\0\0");
    *flags = 0;
    let at = request.as_mut_ptr() as u64;
    call(nr::IOCTL, &[fd(socket), 0x8913, at])?;
    let [_, _, flags, ..] = &mut request;
    *flags |= IFF_UP;
    let at = request.as_ptr() as u64;
    call(nr::IOCTL, &[fd(socket), 0x8914, at]).map(drop)
}

/// `ioctl(TIOCSPTLCK)` and `ioctl(TIOCGPTPEER)`: the slave side of a pty.
pub fn pty_peer(master: Fd) -> Result<Fd> {
    let unlock = 0i32;
    call(
        nr::IOCTL,
        &[fd(master), 0x4004_5431, &raw const unlock as u64],
    )?;
    let flags = flag::O_RDWR | flag::O_NOCTTY | flag::O_CLOEXEC;
    call(nr::IOCTL, &[fd(master), 0x5441, flags]).map(to_fd)
}

/// `ioctl(TIOCSWINSZ)`.
pub fn set_window_size(tty: Fd, rows: u32, columns: u32) -> Result<()> {
    let size = [rows as u16, columns as u16, 0, 0];
    call(nr::IOCTL, &[fd(tty), 0x5414, size.as_ptr() as u64]).map(drop)
}

/// `ioctl(TIOCSCTTY)`.
pub fn set_controlling_terminal(tty: Fd) -> Result<()> {
    call(nr::IOCTL, &[fd(tty), 0x540e, 0]).map(drop)
}

pub(super) const MSG_NOSIGNAL: u64 = 0x4000;

/// `struct cmsghdr` and what follows: length 16 + 4, SOL_SOCKET (1), SCM_RIGHTS (1), a descriptor.
pub(super) const fn control(passed: u64) -> [u64; 3] {
    [20, 1 | 1 << 32, passed]
}

/// `struct msghdr`: name, namelen, iov, iovlen, control, controllen, flags.
pub(super) const fn message_header(iov: u64, control: u64, control_len: u64) -> [u64; 7] {
    [0, 0, iov, 1, control, control_len, 0]
}

/// `sendmsg(2)` of a short message, with a descriptor if there is one.
pub fn send(socket: Fd, message: &[u8], passed: Option<Fd>) -> Result<()> {
    let iov = [message.as_ptr() as u64, message.len() as u64];
    let control = control(passed.map_or(0, |p| p.0 as u32 as u64));
    let (at, len) = match passed {
        Some(_) => (control.as_ptr() as u64, size_of_val(&control) as u64),
        None => (0, 0),
    };
    let header = message_header(iov.as_ptr() as u64, at, len);
    call(
        nr::SENDMSG,
        &[fd(socket), header.as_ptr() as u64, MSG_NOSIGNAL],
    )
    .map(drop)
}
