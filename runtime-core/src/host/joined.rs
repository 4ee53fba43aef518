//! Namespaces: the kinds there are, and those that `linux.namespaces` names by path.
//!
//! See ioctl_ns(2). init opens each of them again, and checks it again.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::cgroup::CgroupMode;
use crate::error::{Error, errno_text};
use crate::spec::{Namespace, NamespaceKind, Spec};
use crate::sys::{call, file, namespace, process};

/// How deep user namespaces can be nested, see user_namespaces(7).
const DEPTH: usize = 32;

/// A namespace that is to be joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Joined {
    /// It is the caller's own, so that there is nothing to join.
    pub own: bool,
    /// It is owned by the user namespace that is to be joined, or by one in that.
    pub inside_user: bool,
    /// Why it can't be joined.
    pub problem: Option<String>,
}

/// Those of the kinds that this kernel has. It has no choice about mount namespaces, nor about those of a mounted cgroup v2.
pub(super) fn known(
    kinds: &[NamespaceKind],
    cgroup: CgroupMode,
) -> Result<Vec<NamespaceKind>, Error> {
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let path = "/proc/self/ns";
    let directory = match file::open_at(CWD, Path::new(path), OFlags::PATH) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(Error::call(path, "open", errno)),
    };
    // To follow them would have the kernel make an inode of each.
    let is_there = |kind: &&NamespaceKind| {
        match kind {
            NamespaceKind::Mount => return true,
            NamespaceKind::Cgroup if cgroup == CgroupMode::V2 => return true,
            _ => {}
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let name = kind.for_children();
        call("fstatat", || rustix::fs::statat(&directory, name, flags)).is_ok()
    };
    Ok(kinds.iter().filter(is_there).copied().collect())
}

/// All namespaces of a container's process that the caller's children are not in already, as
/// if config.json named them.
///
/// Those that were made for the container are not compared: to join one that is the caller's
/// own changes nothing. A user namespace is, since to join one's own is refused.
pub(super) fn of_process(spec: &Spec, pid: i32) -> Result<BTreeMap<NamespaceKind, Joined>, Errno> {
    let mut joined = BTreeMap::new();
    let mut user = None;
    for kind in NamespaceKind::ALL {
        let made =
            kind != NamespaceKind::User && spec.namespace(kind).is_some_and(|ns| ns.path.is_none());
        let own = match made {
            true => false,
            false => match is_own(pid, kind)? {
                Some(same) => same,
                None => continue,
            },
        };
        let path = path(pid, kind);
        let theirs = || file::open_at(CWD, Path::new(&path), OFlags::RDONLY);
        if kind == NamespaceKind::User && !own {
            user = Some(identity(&theirs()?)?);
        }
        let inside_user = match user {
            Some(user) if kind != NamespaceKind::User && !own => is_inside(&theirs()?, user)?,
            _ => false,
        };
        let problem = None;
        joined.insert(
            kind,
            Joined {
                own,
                inside_user,
                problem,
            },
        );
    }
    Ok(joined)
}

/// Whether the caller's children are in a process's namespace of this kind; `None` if the
/// kernel was built without it.
fn is_own(pid: i32, kind: NamespaceKind) -> Result<Option<bool>, Errno> {
    let own = match name_of(&format!("{}/{}", own_dir(), kind.for_children())) {
        Err(Errno::NOENT) => return Ok(None),
        own => own?,
    };
    // A process that ends has lost its namespaces.
    let theirs = name_of(&path(pid, kind)).map_err(|errno| match errno {
        Errno::NOENT => Errno::SRCH,
        other => other,
    })?;
    Ok(Some(theirs == own))
}

/// Of the calling thread. Each directory on the way is new in the kernel when a process asks for
/// the first time, so a program's first thread takes the shorter one.
fn own_dir() -> &'static str {
    if process::is_first_thread() {
        "/proc/self/ns"
    } else {
        "/proc/thread-self/ns"
    }
}

fn path(pid: i32, kind: NamespaceKind) -> String {
    format!("/proc/{pid}/ns/{}", kind.of_process())
}

/// Looks at each.
pub(super) fn probe(spec: &Spec) -> BTreeMap<NamespaceKind, Joined> {
    let user = spec.namespace(NamespaceKind::User);
    let user = user.and_then(|user| open(user).ok());
    let user = user.and_then(|user| identity(&user).ok());
    let named = spec.namespaces().iter().filter(|ns| ns.path.is_some());
    named.map(|ns| (ns.kind, look_at(ns, user))).collect()
}

fn look_at(ns: &Namespace, user: Option<Identity>) -> Joined {
    match open(ns).and_then(|file| whose(ns.kind, &file, user)) {
        Ok(joined) => joined,
        Err(problem) => Joined {
            problem: Some(problem),
            ..Joined::default()
        },
    }
}

/// Opens a namespace; what is none is not opened for reading.
fn open(ns: &Namespace) -> Result<OwnedFd, String> {
    let path = Path::new(ns.path.as_deref().unwrap_or_default());
    let other = || format!("not a {} namespace", ns.kind);
    let open = |flags| file::open_at(CWD, path, flags).map_err(text);
    let found = open(OFlags::PATH)?;
    if !namespace::is_namespace(found.as_fd()).map_err(text)? {
        return Err(other());
    }
    let opened = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    match namespace::kind(opened.as_fd()) {
        Ok(kind) if kind == ns.kind.clone_flag() => Ok(opened),
        Ok(_) | Err(Errno::NOTTY) => Err(other()),
        Err(errno) => Err(text(errno)),
    }
}

fn whose(kind: NamespaceKind, file: &OwnedFd, user: Option<Identity>) -> Result<Joined, String> {
    // Those that the calling thread gives its children.
    let own = format!("/proc/thread-self/ns/{}", kind.for_children());
    let own = file::open_at(CWD, Path::new(&own), OFlags::PATH).map_err(text)?;
    let identity_of = |file: &OwnedFd| identity(file).map_err(text);
    let inside_user = match user {
        Some(user) if kind != NamespaceKind::User => is_inside(file, user).map_err(text)?,
        _ => false,
    };
    Ok(Joined {
        own: identity_of(&own)? == identity_of(file)?,
        inside_user,
        problem: None,
    })
}

/// Whether the namespace's owner is this user namespace, or below it.
fn is_inside(file: &OwnedFd, user: Identity) -> Result<bool, Errno> {
    let mut at = namespace::owner(file.as_fd());
    for _ in 0..=DEPTH {
        let owner = match at {
            // Outside the caller's own user namespace.
            Err(Errno::PERM) => return Ok(false),
            other => other?,
        };
        if identity(&owner)? == user {
            return Ok(true);
        }
        at = namespace::parent(owner.as_fd());
    }
    Ok(false)
}

/// What tells a namespace from all others: device and inode.
type Identity = (u64, u64);

fn identity(file: &OwnedFd) -> Result<Identity, Errno> {
    let stat = call("fstat", || rustix::fs::fstat(file))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// What tells a namespace from others of its kind, as readlink(2) has it: that makes no inode,
/// which stat(2) does.
fn name_of(path: &str) -> Result<CString, Errno> {
    call("readlinkat", || rustix::fs::readlink(path, Vec::new()))
}

fn text(errno: Errno) -> String {
    errno_text(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(spec: &str) -> BTreeMap<NamespaceKind, Joined> {
        let spec = crate::spec::parse(spec.as_bytes()).unwrap();
        of_process(&spec, i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn of_a_process_only_namespaces_made_for_it_are_taken_for_others() {
        let of_none = joined(r#"{"ociVersion": "1.2.0"}"#);
        assert!(of_none.contains_key(&NamespaceKind::User));
        assert!(of_none.values().all(|joined| joined.own), "{of_none:?}");

        let spec = r#"{"ociVersion": "1.2.0", "linux": {"namespaces": [{"type": "user"},
            {"type": "uts"}, {"type": "ipc", "path": "/proc/self/ns/ipc"}]}}"#;
        let others = joined(spec).into_iter().filter(|(_, joined)| !joined.own);
        let others: Vec<_> = others.map(|(kind, _)| kind).collect();
        assert_eq!(others, [NamespaceKind::Uts]);
    }

    #[test]
    fn a_process_that_is_gone_has_no_namespaces() {
        let spec = crate::spec::parse(br#"{"ociVersion": "1.2.0"}"#).unwrap();
        assert_eq!(of_process(&spec, i32::MAX), Err(Errno::SRCH));
    }
}
