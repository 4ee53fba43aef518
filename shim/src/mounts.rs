//! The root file system: what containerd wants mounted, and its end.
//!
//! See `core/mount` of containerd, whose meaning of the options this follows.
//!
//! # Layout
//! - `target`: where in it
//! - `options`: words like `ro` and `rbind` as flags
//! - `idmap`: mounts that map ids
//! - `overlay`: lists of layers that are too long
//! - `loop_device`: an image as a block device

mod idmap;
mod loop_device;
mod options;
mod overlay;
mod target;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::calloff::CallOff;
use crate::failure::Failure;
use crate::proto::task::Mount;
use options::Options;
use target::Target;

/// Types that a program mounts, and that program.
const HELPERS: [(&str, &str); 2] = [("fuse.", "mount.fuse"), ("fuse3.", "mount.fuse3")];

/// Mounts all of these, in their order. What was mounted when one fails is left to
/// [`unmount_all`].
pub(crate) fn mount_all(mounts: &[Mount], rootfs: &Path, off: &CallOff) -> Result<(), Failure> {
    for mount in mounts {
        off.go_on(None)?;
        let target = Target::open(rootfs, &mount.target)?;
        let helper = HELPERS
            .iter()
            .find_map(|(prefix, program)| Some((program, mount.r#type.strip_prefix(prefix)?)));
        let mounted = match helper {
            Some((program, kind)) => help(program, kind, mount, &target.name()?, off),
            None => mount_one(mount, target),
        };
        mounted.map_err(|failure| {
            let text = format!("failed to mount rootfs component: {failure}");
            Failure::new(failure.code, text)
        })?;
    }
    Ok(())
}

fn mount_one(mount: &Mount, target: Target<'_>) -> Result<(), Failure> {
    let mut options = Options::parse(&mount.options);
    let maps = options.maps()?;
    let namespace = maps.as_ref().map(idmap::user_namespace).transpose()?;
    let is_overlay = mount.r#type == "overlay";
    // Until the overlay is mounted.
    let layers = namespace.as_ref().filter(|_| is_overlay).map(|namespace| {
        idmap::Layers::map(layers_of(target.rootfs), &mut options.data, namespace)
    });
    let _layers = layers.transpose()?;
    let failed = |errno: Errno| {
        let what = format!(
            "mount {} {} on {}",
            mount.r#type,
            mount.source,
            target.asked().display()
        );
        Failure::call(what, errno)
    };
    let device = if options.is_loop {
        let read_only = options.flags.contains(MountFlags::RDONLY);
        let made = loop_device::attach(Path::new(&mount.source), read_only, options.direct_io);
        Some(made.map_err(|error| Failure::call(format!("loop {}", mount.source), error))?)
    } else {
        None
    };
    let source = device
        .as_ref()
        .map_or(Path::new(&mount.source), |device| &device.path);
    let folder = if is_overlay {
        overlay::shorten(&mut options.data)
    } else {
        None
    };
    if !options.is_remount || !options.data.is_empty() {
        let data = CString::new(options.data.join(","))
            .map_err(|_| Failure::invalid("mount options with a NUL byte"))?;
        let place = target.place();
        let call =
            || rustix::mount::mount(source, &place, &*mount.r#type, options.flags, Some(&*data));
        match folder {
            None => call().map_err(failed)?,
            Some(folder) => overlay::in_folder(&folder, call)?.map_err(failed)?,
        }
    }
    let namespace = namespace.as_ref().filter(|_| !is_overlay);
    adjust(&target.again()?, &options, namespace).map_err(|failure| {
        let text = format!("mount on {}: {failure}", target.asked().display());
        Failure::new(failure.code, text)
    })
}

/// What mount(2) does not do in one call, on what was mounted.
fn adjust(
    mounted: &Target<'_>,
    options: &Options,
    namespace: Option<&OwnedFd>,
) -> Result<(), Failure> {
    if !options.propagation.is_empty() {
        rustix::mount::mount_change(mounted.place(), options.propagation)
            .map_err(|errno| Failure::call("propagation", errno))?;
    }
    if options
        .flags
        .contains(MountFlags::BIND | MountFlags::RDONLY)
    {
        // The first call took no notice of `ro`, and kept what the source has: `nodev` of it is
        // not for a remount to take away.
        let (set, clear) = options.attributes();
        crate::sys::change_mount(&mounted.fd, set.bits(), clear.bits())
            .map_err(|error| Failure::call("read-only", error))?;
    }
    namespace.map_or(Ok(()), |namespace| {
        idmap::map(&mounted.place(), &mounted.fd, namespace, false)
    })
}

/// `mount.fuse SOURCE TARGET -o OPTION... -t TYPE`.
fn help(
    program: &str,
    kind: &str,
    mount: &Mount,
    target: &Path,
    off: &CallOff,
) -> Result<(), Failure> {
    let mut command = Command::new(program);
    // It may stay as the file system's daemon.
    crate::sys::as_begun(&mut command);
    command.arg(&mount.source).arg(target);
    for option in &mount.options {
        command.args(["-o", option]);
    }
    let (status, said) = off
        .run(command.args(["-t", kind]))
        .map_err(|error| Failure::call(program, error))?;
    // One that was killed for that.
    off.go_on(None)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::other(format!("{program}: {status}: {said}")))
}

/// Where the mapped layers of an overlay are until it is mounted here.
pub(crate) fn layers_of(target: &Path) -> PathBuf {
    target.with_extension("idmapped")
}

/// Unmounts everything at and below a path, the last mounted first.
///
/// What somebody still uses, say a shell in it, goes out of sight now and away after that: it
/// must not hold up the end of a pod (containerd issue 4020).
pub(crate) fn unmount_all(path: &Path) -> Result<(), Failure> {
    let table = "/proc/self/mountinfo";
    let text = std::fs::read(table).map_err(|error| Failure::call(table, error))?;
    // What is mounted is told by its real path.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let below: Vec<PathBuf> = mount_points(&text)
        .into_iter()
        .filter(|point| point.starts_with(&path))
        .collect();
    for point in below.iter().rev() {
        let mut gone = unmount(point, UnmountFlags::NOFOLLOW);
        if gone == Err(Errno::BUSY) {
            log::warn!("{} is in use, and is detached", point.display());
            gone = unmount(point, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
        }
        match gone {
            // Gone with what was mounted on it, or below it, meanwhile.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(Failure::call(point.display(), errno)),
        }
    }
    Ok(())
}

/// The fifth field of each line; proc_pid_mountinfo(5).
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescaped)
        .collect()
}

/// Undoes `\040` and the like.
fn unescaped(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;

    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let octal = match behind {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = behind
            .get(if octal.is_some() { 3 } else { 0 }..)
            .unwrap_or_default();
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let table = b"1 0 0:1 / / rw - x x rw\n2 1 0:1 / /a\\040b\\134 rw - x x rw\n";
        assert_eq!(
            mount_points(table),
            [PathBuf::from("/"), PathBuf::from("/a b\\")]
        );
    }
}
