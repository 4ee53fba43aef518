//! Routing sockets, in this network namespace or in another.
//!
//! See netlink(7). What goes over them is `run::netdevices`' business.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::LinkNameSpaceType;

use super::launch::with_signals_blocked;
use super::{call, last_errno};

/// The largest message that the kernel sends in one piece, see netlink(7).
const LARGEST: usize = 32 << 10;

/// A `NETLINK_ROUTE` socket. It stays in the network namespace that it was made in.
pub(crate) fn socket() -> Result<OwnedFd, Errno> {
    let socket = call("socket", || {
        // No protocol is NETLINK_ROUTE, which is 0.
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
    })?;
    // The kernel's own words on an error, behind a copy of the request's head only.
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        set(socket.as_fd(), option)?;
    }
    Ok(socket)
}

fn set(socket: BorrowedFd<'_>, option: libc::c_int) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    call("setsockopt", || {
        // SAFETY: the value is a number that lives through the call, and its size is told.
        let rc = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// The same in another network namespace. A thread of its own goes there and ends: nothing
/// of the caller is ever in it.
pub(crate) fn socket_in(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let there = || {
        call("setns", || {
            rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
        })?;
        socket()
    };
    // A thread is born with the caller's mask: no handler of the program runs in it.
    with_signals_blocked(|| {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .spawn_scoped(scope, there)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
            thread.join().unwrap_or(Err(Errno::IO))
        })
    })
}

/// `send(2)` of one message.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &[u8]) -> Result<(), Errno> {
    loop {
        match call("sendto", || {
            rustix::net::send(socket, message, SendFlags::empty())
        }) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(sent) if sent == message.len() => return Ok(()),
            Ok(_) => return Err(Errno::MSGSIZE),
        }
    }
}

/// `recv(2)`: some messages, whole.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; LARGEST];
    loop {
        match call("recvfrom", || {
            rustix::net::recv(socket, &mut bytes, RecvFlags::TRUNC)
        }) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok((_, length)) if length > bytes.len() => return Err(Errno::MSGSIZE),
            Ok((_, length)) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
        }
    }
}
