//! Idmapped root file systems: the options `uidmap=` and `gidmap=`.
//!
//! An image is unpacked once, with the ids of its files; a container in a user namespace sees
//! them by a mount that maps them. An overlay can't be mapped itself, its lower layers can.
//! See mount_setattr(2), "ID-mapped mounts".

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use crate::failure::Failure;
use crate::sys;

/// A map as text, for uids and for gids: `CONTAINER:HOST:SIZE`, several with commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Maps {
    pub(super) uids: String,
    pub(super) gids: String,
}

/// A user namespace with these maps.
pub(super) fn user_namespace(maps: &Maps) -> Result<OwnedFd, Failure> {
    let (uids, gids) = (lines(&maps.uids)?, lines(&maps.gids)?);
    // A process must be in it while the maps are written: `-info` reads its stdin to the end.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("-info")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    sys::in_user_namespace(&mut command);
    let failed = |error| Failure::call("user namespace", error);
    let mut child = command.spawn().map_err(failed)?;
    let file = |name: &str| format!("/proc/{}/{name}", child.id());
    let made = std::fs::write(file("uid_map"), uids)
        .and_then(|()| std::fs::write(file("gid_map"), gids))
        .and_then(|()| File::open(file("ns/user")));
    drop(child.stdin.take());
    child.wait().map_err(failed)?;
    Ok(made.map_err(failed)?.into())
}

/// What `uid_map` takes; user_namespaces(7).
fn lines(map: &str) -> Result<String, Failure> {
    let mut text = String::new();
    for part in map.split(',') {
        let numbers: Vec<&str> = part.split(':').collect();
        if numbers.len() != 3 || numbers.iter().any(|number| number.parse::<u32>().is_err()) {
            return Err(Failure::invalid(format!("id map {map:?}")));
        }
        text.push_str(&numbers.join(" "));
        text.push('\n');
    }
    Ok(text)
}

/// Attaches what is at a path to what was opened, with ids mapped.
pub(super) fn map(
    from: &Path,
    to: &OwnedFd,
    namespace: &OwnedFd,
    read_only: bool,
) -> Result<(), Failure> {
    let failed = |error| Failure::call(format!("idmapped mount of {}", from.display()), error);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, from, flags).map_err(|errno| failed(errno.into()))?;
    sys::map_ids(&tree, namespace, read_only).map_err(failed)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", to, "", flags).map_err(|errno| failed(errno.into()))
}

/// Mapped lower layers of one overlay, in a folder that goes away with this.
///
/// An overlay keeps what it was made of, so they may go as soon as it is mounted.
#[derive(Debug)]
pub(super) struct Layers {
    folder: PathBuf,
    count: usize,
}

impl Layers {
    /// Maps the layers that the option `lowerdir=` names, and names the mapped ones there.
    pub(super) fn map(
        folder: PathBuf,
        data: &mut [String],
        namespace: &OwnedFd,
    ) -> Result<Layers, Failure> {
        const LOWER: &str = "lowerdir=";
        let option = data.iter_mut().find(|option| option.starts_with(LOWER));
        let option = option.ok_or_else(|| Failure::invalid("an overlay without lowerdir"))?;
        let names: Vec<String> = option
            .trim_start_matches(LOWER)
            .split(':')
            .map(str::to_owned)
            .collect();
        std::fs::create_dir(&folder).map_err(|error| Failure::call(folder.display(), error))?;
        let mut layers = Layers { folder, count: 0 };
        let mut mapped = Vec::with_capacity(names.len());
        for name in &names {
            let place = layers.place(layers.count);
            std::fs::create_dir(&place).map_err(|error| Failure::call(place.display(), error))?;
            layers.count += 1;
            // They are in the bundle, which somebody may remove if this program is killed.
            let to = File::open(&place);
            let to = to.map_err(|error| Failure::call(place.display(), error))?;
            map(Path::new(name), &to.into(), namespace, true)?;
            mapped.push(place.display().to_string());
        }
        *option = format!("{LOWER}{}", mapped.join(":"));
        Ok(layers)
    }

    fn place(&self, number: usize) -> PathBuf {
        self.folder.join(number.to_string())
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        for number in 0..self.count {
            let place = self.place(number);
            let gone = unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            // One that could not be mapped was not mounted.
            if let Err(errno) = gone
                && errno != rustix::io::Errno::INVAL
            {
                log::warn!("{}: {errno}", place.display());
            }
            std::fs::remove_dir(&place)
                .unwrap_or_else(|error| log::warn!("{}: {error}", place.display()));
        }
        std::fs::remove_dir(&self.folder)
            .unwrap_or_else(|error| log::warn!("{}: {error}", self.folder.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_three_numbers_each() {
        assert_eq!(lines("0:1000:5,5:2000:6").unwrap(), "0 1000 5\n5 2000 6\n");
        for wrong in ["", "0:1", "0:1:2:3", "0:x:1", "0:4294967296:1"] {
            assert!(lines(wrong).is_err(), "{wrong}");
        }
    }
}
