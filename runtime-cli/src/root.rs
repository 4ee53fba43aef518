//! Which directory keeps the state of containers.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::failure::Failure;

const DEFAULT: &str = "/run/corten";

/// The value of `--root`, or the default.
pub(crate) fn directory(given: Option<&OsStr>) -> Result<PathBuf, Failure> {
    let Some(given) = given else {
        return Ok(default());
    };
    let absolute = std::path::absolute(given).map_err(|error| Failure::call("--root", error))?;
    let root = clean(&absolute);
    if root == Path::new("/") {
        return Err(Failure::new(
            "Option --root argument should not be set to /",
        ));
    }
    Ok(root)
}

/// Without root rights, or with those of a user namespace only, /run can't be written.
fn default() -> PathBuf {
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(run) if !run.is_empty() && !is_root() => Path::new(&run).join("corten"),
        _ => DEFAULT.into(),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root() && (!in_user_namespace() || env_says_root())
}

/// A real root of a container: `USER` tells it from a user who is root in a namespace, as in runc.
fn env_says_root() -> bool {
    env::var_os("USER").is_some_and(|user| user == "root")
}

/// The first user namespace is the one with all ids, each mapped to itself.
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.is_empty() && map.split_whitespace().ne(["0", "0", "4294967295"])
}

/// Takes out `.` and `..`, by the text alone, as runc does.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::CurDir => {}
            part => cleaned.push(part),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_the_host_is_refused_however_it_is_spelt() {
        for root in ["/", "//", "/run/..", "/run/../../."] {
            let failure = directory(Some(OsStr::new(root))).unwrap_err();
            assert_eq!(
                failure.message, "Option --root argument should not be set to /",
                "{root}"
            );
        }
        assert!(directory(Some(OsStr::new(""))).is_err());
    }

    #[test]
    fn a_root_is_made_absolute() {
        let here = env::current_dir().unwrap();
        assert_eq!(
            directory(Some(OsStr::new("state"))).unwrap(),
            here.join("state")
        );
        assert_eq!(
            directory(Some(OsStr::new("/a/./b/../c"))).unwrap(),
            Path::new("/a/c")
        );
    }
}
