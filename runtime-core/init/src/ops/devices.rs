//! Device nodes and links of the container's /dev.
//!
//! See mknod(2) and null(4). Everything is relative to the open /dev directory, never
//! to a path that the image could have replaced by a link.

use core::ffi::CStr;

use super::mount::slave_bind;
use super::walk::{Make, make_in, open_in};
use crate::abi::{Existing, Kind, Slot, Span};
use crate::execute::{Failure, Init, Outcome};
use crate::sys::{self, CWD, Errno, Fd, errno, flag};

/// Device number of /dev/null, see null(4).
const NULL: (u32, u32) = (1, 3);

/// Mode, number and owner of a node.
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) fn open_null(init: &mut Init, into: Slot) -> Outcome {
    let null = host_device(init, c"/dev/null", flag::S_IFCHR, NULL)?;
    init.store(into, null)
}

/// Opens a device of the host and checks that it is the right one.
fn host_device(init: &Init, path: &CStr, kind: u32, number: (u32, u32)) -> Result<Fd, Failure> {
    let device = sys::openat2(CWD, path, flag::O_PATH, flag::RESOLVE_NO_MAGICLINKS)?;
    let stat = sys::stat(device, c"")?;
    if !stat.is(kind) || (stat.major, stat.minor) != number {
        sys::close(device)?;
        return Err(init.detail(Kind::Impostor, errno::ENODEV, &[path.to_bytes()]));
    }
    Ok(device)
}

/// Makes a node with exactly this mode, whatever the umask, and this owner. The mode is
/// never changed afterwards: a neighbour that shares the root could have put a link to a
/// file of the host in the node's place.
pub(crate) fn make_node(init: &Init, dir: Slot, name: Span, node: Node) -> Outcome {
    let dir = init.slot(dir)?;
    let name = init.text(name)?;
    let umask = sys::umask(0);
    let made = sys::mknodat(dir, name, node.mode, node.major, node.minor);
    sys::umask(umask);
    match made {
        // An image may bring a /dev of its own, and a bundle may be run again.
        Err(error) if error.0 == errno::EEXIST => return same_node(init, dir, name, &node),
        other => other?,
    }
    if (node.uid, node.gid) == (u32::MAX, u32::MAX) {
        return Ok(());
    }
    Ok(sys::fchownat(dir, name, node.uid, node.gid)?)
}

/// Whether what is there is the node that would have been made; its mode stays.
fn same_node(init: &Init, dir: Fd, name: &CStr, node: &Node) -> Outcome {
    let found = open_in(dir, name, flag::O_PATH | flag::O_NOFOLLOW, 0)?;
    let stat = sys::stat(found, c"")?;
    sys::close(found)?;
    if stat.is(node.mode & flag::S_IFMT) && (stat.major, stat.minor) == (node.major, node.minor) {
        return Ok(());
    }
    Err(init.detail(Kind::Impostor, errno::EEXIST, &[name.to_bytes()]))
}

/// Where mknod(2) is not allowed, the host's own node is bound over an empty file.
pub(crate) fn bind_node(
    init: &Init,
    dir: Slot,
    texts: [Span; 2],
    kind: u32,
    number: [u32; 2],
) -> Outcome {
    let [name, source] = texts;
    let [major, minor] = number;
    let device = host_device(init, init.text(source)?, kind, (major, minor))?;
    let tree = slave_bind(device)?;
    let resolve = flag::RESOLVE_NO_SYMLINKS;
    let target = make_in(init.slot(dir)?, init.text(name)?, Make::File, resolve)?;
    sys::move_mount(tree, target)?;
    sys::close(target)?;
    sys::close(tree)?;
    Ok(sys::close(device)?)
}

pub(crate) fn make_link(init: &Init, dir: Slot, texts: [Span; 2], existing: Existing) -> Outcome {
    let [name, target] = texts;
    let (name, target) = (init.text(name)?, init.text(target)?);
    let dir = init.slot(dir)?;
    match sys::symlinkat(target, dir, name) {
        Err(error) if error.0 == errno::EEXIST => {}
        other => return Ok(other?),
    }
    match existing {
        Existing::Keep => {}
        _ if is_link_to(dir, name, target)? => {}
        Existing::Same => return Err(Errno(errno::EEXIST).into()),
        Existing::Replace => match remove(dir, name) {
            // What a mount of the config made of it.
            Err(error) if error.0 == errno::EBUSY => {}
            other => {
                other?;
                sys::symlinkat(target, dir, name)?;
            }
        },
    }
    // It must be there, as a link or as something else.
    let found = open_in(dir, name, flag::O_PATH | flag::O_NOFOLLOW, 0)?;
    Ok(sys::close(found)?)
}

#[inline(never)] // for its buffer
fn is_link_to(dir: Fd, name: &CStr, target: &CStr) -> Result<bool, Errno> {
    // One byte more than the longest target.
    let mut found = [0u8; 4096];
    match sys::readlinkat(dir, name, &mut found) {
        Err(error) if error.0 == errno::EINVAL => Ok(false),
        Err(error) => Err(error),
        Ok(len) => Ok(found.get(..len) == Some(target.to_bytes())),
    }
}

/// Removes a file, or a directory if it is empty.
fn remove(dir: Fd, name: &CStr) -> Result<(), Errno> {
    match sys::unlinkat(dir, name, 0) {
        Err(error) if error.0 == errno::EISDIR => sys::unlinkat(dir, name, flag::AT_REMOVEDIR),
        other => other,
    }
}
