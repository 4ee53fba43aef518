//! Mounts: new file systems, binds, attributes, masks and the pivot.
//!
//! See mount_namespaces(7), fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)
//! and pivot_root(2). A mount is made detached and attached by descriptor.

use core::ffi::CStr;

use super::walk::{Make, make_in, open_in};
use crate::abi::{Kind, Place, Slot, Span};
use crate::execute::{Failure, Init, Outcome};
use crate::sys::{self, CWD, Errno, Fd, Stat, errno, flag};

const SLAVE: u64 = flag::MS_SLAVE | flag::MS_REC;

pub(crate) fn propagation(kind: u64) -> Outcome {
    Ok(sys::set_propagation(c"/", kind)?)
}

/// In a mount namespace that was joined, the path may have been made to lead through
/// somebody's /proc to the root of another one.
pub(crate) fn open_root(init: &mut Init, path: Span, into: Slot) -> Outcome {
    let flags = flag::O_PATH | flag::O_DIRECTORY;
    let top = sys::openat2(CWD, c"/", flags, 0)?;
    let root = open_in(top, init.text(path)?, flags, 0)?;
    sys::close(top)?;
    init.store(into, root)
}

pub(crate) fn chroot(init: &mut Init) -> Outcome {
    sys::fchdir(init.slot(Slot::ROOT)?)?;
    sys::chroot_here()?;
    sys::chdir_root()?;
    init.close(Slot::ROOT)
}

/// What is mounted on a shared mount is mounted on the host too, and `pivot_root(2)` does
/// without such a parent. Only a mount's own root can be changed: so up to there.
pub(crate) fn private_parent(init: &Init, path: Span) -> Outcome {
    // Few bundles are further below their mount.
    const LEVELS: usize = 8;
    const UP: &CStr = c"../../../../../../../..";
    // A path has no more components.
    const TIMES: usize = 2048 / LEVELS;
    let dir = flag::O_PATH | flag::O_DIRECTORY;
    let mut place = sys::openat2(CWD, init.text(path)?, dir, 0)?;
    for _ in 0..TIMES {
        for level in 0..LEVELS {
            match sys::set_propagation_at(place, ups(UP, level), flag::MS_PRIVATE) {
                Err(error) if error.0 == errno::EINVAL => {}
                done => {
                    sys::close(place)?;
                    return Ok(done?);
                }
            }
        }
        let above = sys::openat2(place, UP, dir, 0)?;
        sys::close(place)?;
        place = above;
    }
    Err(Errno(errno::ELOOP).into())
}

/// The path of so many times `..`, out of one that has more.
fn ups(all: &CStr, count: usize) -> &CStr {
    let all = all.to_bytes_with_nul();
    let from = all.len().saturating_sub(count.wrapping_mul(3).max(1));
    let ups = all.get(from..).unwrap_or_default();
    CStr::from_bytes_with_nul(ups).unwrap_or_default()
}

/// `pivot_root(2)` wants a mount; the bundle's root may be a plain directory.
pub(crate) fn bind_root(init: &mut Init, path: Span, into: Slot) -> Outcome {
    let place = sys::openat2(CWD, init.text(path)?, flag::O_PATH | flag::O_DIRECTORY, 0)?;
    let clone = flag::OPEN_TREE_CLONE | flag::AT_RECURSIVE | flag::AT_EMPTY_PATH;
    let tree = sys::open_tree(place, c"", clone)?;
    // Not what is mounted below it: that keeps the propagation set before.
    sys::mount_setattr(tree, false, 0, 0, flag::MS_PRIVATE)?;
    sys::move_mount(tree, place)?;
    sys::close(place)?;
    init.store(into, tree)
}

pub(crate) fn new_fs(init: &mut Init, texts: [Span; 4], attrs: u64, into: Slot) -> Outcome {
    let [kind, source, data, like] = texts;
    let mode = mode_of(init, like)?;
    let context = sys::fsopen(init.text(kind)?)?;
    let made =
        configure(init, context, [source, data], mode).and_then(|()| sys::fsmount(context, attrs));
    match made {
        Ok(mount) => {
            sys::close(context)?;
            init.store(into, mount)
        }
        Err(error) => Err(message(init, context, error)),
    }
}

/// The permissions of what is at a path of the container; none for an empty path, or where
/// nothing is.
fn mode_of(init: &Init, path: Span) -> Result<Option<u32>, Failure> {
    let path = init.text(path)?;
    if path.is_empty() {
        return Ok(None);
    }
    let found = match open_in(init.slot(Slot::ROOT)?, path, flag::O_PATH, 0) {
        Err(error) if error.0 == errno::ENOENT => return Ok(None),
        other => other?,
    };
    let stat = sys::stat(found, c"")?;
    sys::close(found)?;
    Ok(Some(stat.mode & 0o7777))
}

/// Gives the context its options and creates the file system.
fn configure(init: &Init, context: Fd, texts: [Span; 2], mode: Option<u32>) -> Result<(), Errno> {
    let [source, data] = texts;
    let broken = |_| Errno(errno::EINVAL);
    if let Some(mode) = mode {
        // Four octal digits and a NUL.
        let digit = |shift: u32| b'0'.wrapping_add((mode >> shift & 7) as u8);
        let text = [digit(9), digit(6), digit(3), digit(0), 0];
        let text = CStr::from_bytes_until_nul(&text).map_err(|_| Errno(errno::EINVAL))?;
        sys::fsconfig_string(context, c"mode", text)?;
    }
    let source = init.text(source).map_err(broken)?;
    if !source.is_empty() {
        sys::fsconfig_string(context, c"source", source)?;
    }
    options(init, context, data)?;
    sys::fsconfig_create(context)
}

/// Gives the context the options of a list.
fn options(init: &Init, context: Fd, data: Span) -> Result<(), Errno> {
    let mut rest = init.bytes(data).map_err(|_| Errno(errno::EINVAL))?;
    while let Ok(option) = CStr::from_bytes_until_nul(rest) {
        let len = option.count_bytes().wrapping_add(1);
        rest = rest.get(len..).unwrap_or(&[]);
        if !option.is_empty() {
            one_option(context, option)?;
        }
    }
    Ok(())
}

/// `key` or `key=value`.
fn one_option(context: Fd, option: &CStr) -> Result<(), Errno> {
    let bytes = option.to_bytes();
    let Some(at) = bytes.iter().position(|byte| *byte == b'=') else {
        return sys::fsconfig_flag(context, option);
    };
    let mut buffer = [0u8; 256];
    let key = bytes.get(..at).unwrap_or(bytes);
    if key.len() >= buffer.len() {
        return Err(Errno(errno::EINVAL));
    }
    for (to, from) in buffer.iter_mut().zip(key) {
        *to = *from;
    }
    let key = CStr::from_bytes_until_nul(&buffer).map_err(|_| Errno(errno::EINVAL))?;
    let value = option
        .to_bytes_with_nul()
        .get(at.wrapping_add(1)..)
        .unwrap_or(b"\0");
    let value = CStr::from_bytes_until_nul(value).map_err(|_| Errno(errno::EINVAL))?;
    sys::fsconfig_string(context, key, value)
}

/// The context's own words on what is wrong, the last one first written "e ...".
fn message(init: &Init, context: Fd, error: Errno) -> Failure {
    let mut buffer = [0u8; 256];
    match sys::read(context, &mut buffer) {
        Ok(len) if len > 2 => {
            let text = buffer.get(2..len).unwrap_or(b"");
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            init.detail(Kind::FileSystem, error.0, &[text])
        }
        _ => error.into(),
    }
}

pub(crate) fn open_tree(init: &mut Init, path: Span, how: [bool; 2], into: Slot) -> Outcome {
    let [recursive, nofollow] = how;
    let mut flags = flag::OPEN_TREE_CLONE;
    if recursive {
        flags |= flag::AT_RECURSIVE;
    }
    if nofollow {
        flags |= flag::AT_SYMLINK_NOFOLLOW;
    }
    let tree = sys::open_tree(CWD, init.text(path)?, flags)?;
    init.store(into, tree)
}

/// The old way: the kernel takes options that fsconfig(2) does not. mount(2) wants a path,
/// and `.` is one that nobody can change.
pub(crate) fn mount_at(init: &Init, texts: [Span; 4], flags: u64) -> Outcome {
    let [kind, source, data, path] = texts;
    let (kind, source, data) = (init.text(kind)?, init.text(source)?, init.text(data)?);
    let place = make_in(init.slot(Slot::ROOT)?, init.text(path)?, Make::Directory, 0)?;
    // Where nobody may look there is nothing to come back to.
    let here = sys::openat2(CWD, c".", flag::O_PATH | flag::O_DIRECTORY, 0);
    sys::fchdir(place)?;
    let mounted = sys::mount_here(source, kind, flags, data);
    match here {
        Ok(here) => {
            sys::fchdir(here)?;
            sys::close(here)?;
        }
        Err(_) => sys::chdir_root()?,
    }
    sys::close(place)?;
    Ok(mounted?)
}

/// Tells a mounted file system new options.
pub(crate) fn reconfigure(init: &Init, path: Span, data: Span) -> Outcome {
    let place = open_in(init.slot(Slot::ROOT)?, init.text(path)?, flag::O_PATH, 0)?;
    let context = sys::fspick(place)?;
    sys::close(place)?;
    let done = options(init, context, data).and_then(|()| sys::fsconfig_reconfigure(context));
    match done {
        Ok(()) => Ok(sys::close(context)?),
        Err(error) => Err(message(init, context, error)),
    }
}

pub(crate) fn set_attr(init: &Init, mount: Slot, change: [u64; 3], recursive: bool) -> Outcome {
    let [set, clear, propagation] = change;
    Ok(sys::mount_setattr(
        init.slot(mount)?,
        recursive,
        set,
        clear,
        propagation,
    )?)
}

pub(crate) fn set_attr_at(init: &Init, path: Span, change: [u64; 3], recursive: bool) -> Outcome {
    let [set, clear, propagation] = change;
    let place = open_in(init.slot(Slot::ROOT)?, init.text(path)?, flag::O_PATH, 0)?;
    sys::mount_setattr(place, recursive, set, clear, propagation)?;
    Ok(sys::close(place)?)
}

/// Attaches a detached mount; the slot keeps its descriptor, now of an attached mount.
pub(crate) fn attach(init: &Init, mount: Slot, dir: Slot, path: Span, place: Place) -> Outcome {
    let mount = init.slot(mount)?;
    let path = init.text(path)?;
    let root = init.slot(dir)?;
    let target = match place {
        Place::OrdinaryDirectory => make_in(root, path, Make::Directory, flag::RESOLVE_NO_SYMLINKS)
            .map_err(|failure| {
                if failure.errno == errno::ELOOP {
                    Failure {
                        kind: Kind::NotOrdinaryDirectory,
                        ..failure
                    }
                } else {
                    failure
                }
            })?,
        Place::LikeSource => {
            let directory = sys::stat(mount, c"")?.is(flag::S_IFDIR);
            let make = if directory {
                Make::Directory
            } else {
                Make::File
            };
            make_in(root, path, make, 0)?
        }
        Place::NoFollow => no_follow(init, root, path)?,
        Place::New => match sys::mkdirat(root, path, 0o755) {
            Ok(()) => return Ok(sys::move_mount_to(mount, root, path)?),
            // The path of another mount has led here and made it.
            Err(error) if error.0 == errno::EEXIST => make_in(root, path, Make::Directory, 0)?,
            Err(error) => return Err(error.into()),
        },
    };
    sys::move_mount(mount, target).map_err(|error| better(init, error, [mount, target]))?;
    Ok(sys::close(target)?)
}

/// Opens what is there, even a link; but none of the kernel's own, which lead to anywhere.
fn no_follow(init: &Init, root: Fd, path: &CStr) -> Result<Fd, Failure> {
    let target = open_in(root, path, flag::O_PATH | flag::O_NOFOLLOW, 0)?;
    if matches!(sys::fs_magic(target)?, PROC | SYSFS | DEVPTS) {
        sys::close(target)?;
        return Err(init.detail(Kind::Plain, errno::EPERM, &[b"a file of the kernel's own"]));
    }
    Ok(target)
}

/// Magic numbers of file systems, see statfs(2).
const PROC: u64 = 0x9fa0;
const SYSFS: u64 = 0x6265_6572;
const DEVPTS: u64 = 0x1cd1;

/// move_mount(2) answers EINVAL, where mount(2) says what it is: a directory on a file, or a
/// file on a directory.
fn better(init: &Init, error: Errno, [mount, target]: [Fd; 2]) -> Failure {
    let is_dir = |fd| sys::stat(fd, c"").map(|stat| stat.is(flag::S_IFDIR));
    let text: &[u8] = match (is_dir(mount), is_dir(target)) {
        (Ok(true), Ok(false)) => b"what is there is a file, the source a directory",
        (Ok(false), Ok(true)) => b"what is there is a directory, the source a file",
        _ => return error.into(),
    };
    init.detail(Kind::Plain, errno::ENOTDIR, &[text])
}

pub(crate) fn open_dir(init: &mut Init, path: Span, into: Slot) -> Outcome {
    let root = init.slot(Slot::ROOT)?;
    let dir = make_in(root, init.text(path)?, Make::Directory, 0)?;
    if !sys::stat(dir, c"")?.is(flag::S_IFDIR) {
        return Err(Errno(errno::ENOTDIR).into());
    }
    init.store(into, dir)
}

/// What is to be hidden: a name in a directory, or an empty one and the
/// descriptor of the place itself.
struct Target {
    dir: Fd,
    name: &'static CStr,
    is_directory: bool,
}

impl Target {
    /// A name that only the kernel makes can be used more than once, unless it is a symbolic
    /// link. All else is opened, so that nobody can put something else in its place.
    fn find(init: &Init, dir: Slot, path: Span, kernels: bool) -> Result<Target, Failure> {
        let (dir, name) = (init.slot(dir)?, init.text(path)?);
        let found = |dir, name, stat: Stat| Target {
            dir,
            name,
            is_directory: stat.is(flag::S_IFDIR),
        };
        if kernels {
            let stat = sys::stat_link(dir, name)?;
            if !stat.is(flag::S_IFLNK) {
                return Ok(found(dir, name, stat));
            }
        }
        let place = open_in(dir, name, flag::O_PATH, 0)?;
        Ok(found(place, c"", sys::stat(place, c"")?))
    }

    fn cover(&self, mount: Fd) -> Result<(), Errno> {
        sys::move_mount_to(mount, self.dir, self.name)
    }

    fn close(self) -> Outcome {
        if self.name.is_empty() {
            sys::close(self.dir)?;
        }
        Ok(())
    }
}

/// Hides a path. All hidden directories share one tmpfs: the first mask attaches it,
/// the others are clones, since a detached mount can't be cloned before Linux 6.15.
pub(crate) fn mask_path(init: &mut Init, dir: Slot, path: Span, kernels: bool) -> Outcome {
    let target = Target::find(init, dir, path, kernels)?;
    let clone = flag::OPEN_TREE_CLONE | flag::AT_EMPTY_PATH;
    if !target.is_directory {
        let mask = slave_bind(init.slot(Slot::NULL)?)?;
        target.cover(mask)?;
        sys::close(mask)?;
    } else if init.has(Slot::EMPTY) {
        let mask = sys::open_tree(init.slot(Slot::EMPTY)?, c"", clone)?;
        target.cover(mask)?;
        sys::close(mask)?;
    } else {
        let mask = empty_tmpfs()?;
        target.cover(mask)?;
        init.store(Slot::EMPTY, mask)?;
    }
    target.close()
}

/// A bind of a file of the host, detached. Where the host's mount is shared, what somebody
/// mounts on the bind would be mounted there, too.
pub(crate) fn slave_bind(of: Fd) -> Result<Fd, Errno> {
    let bind = sys::open_tree(of, c"", flag::OPEN_TREE_CLONE | flag::AT_EMPTY_PATH)?;
    sys::mount_setattr(bind, false, 0, 0, flag::MS_SLAVE)?;
    Ok(bind)
}

pub(crate) fn label_root(init: &Init, mount: Slot, label: Span) -> Outcome {
    // The mount's own descriptor is good for paths only.
    let flags = flag::O_RDONLY | flag::O_DIRECTORY;
    let root = sys::openat2(init.slot(mount)?, c".", flags, 0)?;
    sys::fsetxattr(root, c"security.selinux", init.text(label)?.to_bytes())?;
    Ok(sys::close(root)?)
}

/// A tmpfs that holds nothing and takes nothing.
fn empty_tmpfs() -> Result<Fd, Errno> {
    let context = sys::fsopen(c"tmpfs")?;
    sys::fsconfig_string(context, c"source", c"tmpfs")?;
    sys::fsconfig_string(context, c"nr_inodes", c"1")?;
    sys::fsconfig_string(context, c"mode", c"0755")?;
    sys::fsconfig_flag(context, c"ro")?;
    sys::fsconfig_create(context)?;
    let attrs = flag::MOUNT_ATTR_RDONLY
        | flag::MOUNT_ATTR_NOSUID
        | flag::MOUNT_ATTR_NODEV
        | flag::MOUNT_ATTR_NOEXEC;
    let mount = sys::fsmount(context, attrs)?;
    sys::close(context)?;
    Ok(mount)
}

/// A bind of the path on itself, with one attribute more: other flags stay.
pub(crate) fn readonly_path(init: &Init, dir: Slot, path: Span) -> Outcome {
    let target = open_in(init.slot(dir)?, init.text(path)?, flag::O_PATH, 0)?;
    let clone = flag::OPEN_TREE_CLONE | flag::AT_EMPTY_PATH | flag::AT_RECURSIVE;
    let tree = sys::open_tree(target, c"", clone)?;
    sys::mount_setattr(tree, false, flag::MOUNT_ATTR_RDONLY, 0, 0)?;
    sys::move_mount(tree, target)?;
    sys::close(tree)?;
    Ok(sys::close(target)?)
}

/// The old root ends up on top of the new one and is detached from there; as a slave, or
/// what is shared with the host would be unmounted there as well.
pub(crate) fn pivot_root(init: &mut Init) -> Outcome {
    let old = sys::openat2(CWD, c"/", flag::O_PATH | flag::O_DIRECTORY, 0)?;
    sys::fchdir(init.slot(Slot::ROOT)?)?;
    sys::pivot_root_here()?;
    sys::fchdir(old)?;
    sys::set_propagation(c".", SLAVE)?;
    sys::detach(c".")?;
    sys::chdir_root()?;
    sys::close(old)?;
    init.close(Slot::ROOT)
}

/// Where pivot_root(2) can't work (a root on the initial ramfs): the root is moved over
/// `/`. What stays below it must show no host's /proc and /sys to a process that gets
/// there. Nothing of that is to happen on the host, too.
pub(crate) fn move_root(init: &mut Init) -> Outcome {
    sys::set_propagation(c"/", flag::MS_SLAVE)?;
    for place in [c"/proc", c"/sys"] {
        match sys::set_propagation(place, SLAVE).and_then(|()| sys::detach(place)) {
            Err(error) if error.0 == errno::EINVAL || error.0 == errno::ENOENT => {}
            other => other?,
        }
    }
    let root = init.slot(Slot::ROOT)?;
    let top = sys::openat2(CWD, c"/", flag::O_PATH | flag::O_DIRECTORY, 0)?;
    sys::fchdir(root)?;
    sys::move_mount(root, top)?;
    sys::close(top)?;
    sys::chroot_here()?;
    sys::chdir_root()?;
    init.close(Slot::ROOT)
}
