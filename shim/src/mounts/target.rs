//! Where a mount of the root file system goes.
//!
//! Its name is looked up as if the root file system were all that there is (openat2(2),
//! `RESOLVE_IN_ROOT`), since what is mounted there already is an image, whose links may lead
//! anywhere. What was found is mounted on by its descriptor, so it is not looked up again.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use rustix::io::Errno;

use crate::failure::Failure;

#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) rootfs: &'a Path,
    name: &'a str,
    pub(super) fd: OwnedFd,
}

impl<'a> Target<'a> {
    /// What a name stands for; the root itself if it is empty.
    pub(super) fn open(rootfs: &'a Path, name: &'a str) -> Result<Target<'a>, Failure> {
        let find = || {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let root = openat2(CWD, rootfs, flags, Mode::empty(), ResolveFlags::empty())?;
            match name {
                "" => Ok(root),
                name => inside(&root, name, flags),
            }
        };
        let fd = find().map_err(|errno| {
            let asked = rootfs.join(name.trim_start_matches('/'));
            Failure::call(asked.display(), errno)
        })?;
        Ok(Target { rootfs, name, fd })
    }

    /// What is there now that something was mounted on it.
    pub(super) fn again(&self) -> Result<Target<'a>, Failure> {
        Target::open(self.rootfs, self.name)
    }

    /// A path for system calls, which leads here whatever is renamed.
    pub(super) fn place(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }

    /// A path for other programs.
    pub(super) fn name(&self) -> Result<PathBuf, Failure> {
        let place = self.place();
        std::fs::read_link(&place).map_err(|error| Failure::call(place.display(), error))
    }

    /// The path as it was asked for.
    pub(super) fn asked(&self) -> PathBuf {
        self.rootfs.join(self.name.trim_start_matches('/'))
    }
}

/// Looks a name up in a folder as if that were the root.
fn inside(root: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(root, name, flags, Mode::empty(), resolve) {
            // Something was renamed or mounted meanwhile, wherever that was.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_target_stays_in_the_root_file_system() {
        let name = format!("corten-target-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let rootfs = folder.join("rootfs");
        std::fs::create_dir_all(rootfs.join("etc/deep")).unwrap();
        std::fs::create_dir_all(rootfs.join("var")).unwrap();
        std::fs::create_dir(folder.join("etc")).unwrap();
        // The first two lead out, if one follows them as they are.
        symlink("/etc", rootfs.join("absolute")).unwrap();
        symlink("../../etc", rootfs.join("var/relative")).unwrap();
        symlink("etc/deep", rootfs.join("inside")).unwrap();
        for (name, expected) in [
            ("", ""),
            ("/", ""),
            ("/etc", "etc"),
            ("absolute", "etc"),
            ("absolute/deep", "etc/deep"),
            ("var/relative", "etc"),
            ("etc/../../../etc", "etc"),
            ("inside", "etc/deep"),
        ] {
            let target = Target::open(&rootfs, name).unwrap();
            let expected = rootfs.canonicalize().unwrap().join(expected);
            // A path that ends with a slash is equal to one that does not.
            assert_eq!(target.name().unwrap(), expected, "{name}");
        }
        let missing = Target::open(&rootfs, "nothing").unwrap_err();
        assert!(missing.text.contains("rootfs/nothing"), "{}", missing.text);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
