//! The container's terminal: a pty of its own devpts.
//!
//! See pts(4) and ioctl_tty(2). The master goes to the runtime half; the slave becomes
//! /dev/console and standard input, output and error.

use super::walk::{Make, make_in, open_in};
use crate::abi::{Kind, Slot, message};
use crate::execute::{Init, Outcome};
use crate::sys::{self, Fd, errno, flag};

/// DEVPTS_SUPER_MAGIC of linux/magic.h.
const DEVPTS_MAGIC: u64 = 0x1cd1;
/// Device number of ptmx, see pts(4).
const PTMX: (u32, u32) = (5, 2);

/// Opens a pty at the container's own /dev/pts/ptmx, which must really be one.
pub(crate) fn open_pty(init: &mut Init, uid: u32, rows: u32, columns: u32) -> Outcome {
    let root = init.slot(Slot::ROOT)?;
    let resolve = flag::RESOLVE_NO_SYMLINKS;
    let found = open_in(root, c"/dev/pts/ptmx", flag::O_PATH, resolve)?;
    let stat = sys::stat(found, c"")?;
    let real = stat.is(flag::S_IFCHR)
        && (stat.major, stat.minor) == PTMX
        && sys::fs_magic(found)? == DEVPTS_MAGIC;
    sys::close(found)?;
    if !real {
        return Err(init.detail(Kind::Impostor, errno::ENODEV, &[b"/dev/pts/ptmx"]));
    }
    let open = flag::O_RDWR | flag::O_NOCTTY;
    let master = open_in(root, c"/dev/pts/ptmx", open, resolve)?;
    let opened = sys::stat(master, c"")?;
    if (opened.major, opened.minor) != PTMX || sys::fs_magic(master)? != DEVPTS_MAGIC {
        return Err(init.detail(Kind::Impostor, errno::ENODEV, &[b"/dev/pts/ptmx"]));
    }
    let peer = sys::pty_peer(master)?;
    if rows != 0 || columns != 0 {
        sys::set_window_size(master, rows, columns)?;
    }
    // The group stays as devpts set it (option gid=), so that write(1) works.
    sys::fchownat(peer, c"", uid, u32::MAX)?;
    init.store(Slot::PTY, peer)?;
    init.store(Slot::PTY_MASTER, master)
}

pub(crate) fn bind_console(init: &Init) -> Outcome {
    let clone = flag::OPEN_TREE_CLONE | flag::AT_EMPTY_PATH;
    let tree = sys::open_tree(init.slot(Slot::PTY)?, c"", clone)?;
    let dev = init.slot(Slot::DEV)?;
    let target = make_in(dev, c"console", Make::File, flag::RESOLVE_NO_SYMLINKS)?;
    sys::move_mount(tree, target)?;
    sys::close(target)?;
    Ok(sys::close(tree)?)
}

/// Sends the master with the pty's number, so that its name is known outside.
pub(crate) fn send_console(init: &mut Init, master: Slot) -> Outcome {
    let text = [message::CONSOLE, 0, 0, 0, 0, 0, 0, 0];
    sys::send(init.slot(Slot::SOCKET)?, &text, Some(init.slot(master)?))?;
    init.close(master)
}

pub(crate) fn use_console(init: &mut Init) -> Outcome {
    let pty = init.slot(Slot::PTY)?;
    sys::set_controlling_terminal(pty)?;
    for number in 0..3 {
        sys::dup_to(pty, Fd(number))?;
    }
    init.close(Slot::PTY)
}
