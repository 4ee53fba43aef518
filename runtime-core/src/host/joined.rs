//! Namespaces: the kinds there are, and those that `linux.namespaces` names by path.
//!
//! See ioctl_ns(2). init opens each of them again, and checks it again.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::error::errno_text;
use crate::spec::{Namespace, NamespaceKind, Spec};
use crate::sys::{call, file, namespace};

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

/// Those of the kinds that this kernel has.
pub(super) fn known(kinds: &[NamespaceKind]) -> Vec<NamespaceKind> {
    let path = |kind: &NamespaceKind| format!("/proc/self/ns/{}", kind.for_children());
    let known = kinds.iter().filter(|kind| super::is_there(&path(kind)));
    known.copied().collect()
}

/// All namespaces of a process that the caller's children are not in already, as if
/// config.json named them.
pub(super) fn of_process(pid: i32) -> Result<BTreeMap<NamespaceKind, Joined>, Errno> {
    let dir = file::open_dir_at(rustix::fs::CWD, Path::new(&format!("/proc/{pid}/ns")))?;
    let own = file::open_dir_at(rustix::fs::CWD, Path::new("/proc/thread-self/ns"))?;
    let mut joined = BTreeMap::new();
    let mut user = None;
    for kind in NamespaceKind::ALL {
        let own = match identity_at(&own, kind.for_children()) {
            // A kernel may be built without some kind.
            Err(Errno::NOENT) => continue,
            own => own?,
        };
        // A process that ends has lost its namespaces.
        let theirs = identity_at(&dir, kind.of_process());
        let theirs = theirs.map_err(|errno| match errno {
            Errno::NOENT => Errno::SRCH,
            other => other,
        })?;
        let own = theirs == own;
        if kind == NamespaceKind::User && !own {
            user = Some(theirs);
        }
        let inside_user = match user {
            Some(user) if kind != NamespaceKind::User && !own => {
                let name = Path::new(kind.of_process());
                is_inside(&file::open_at(&dir, name, OFlags::RDONLY)?, user)?
            }
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
    let open = |flags| file::open_at(rustix::fs::CWD, path, flags).map_err(text);
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
    let own = file::open_at(rustix::fs::CWD, Path::new(&own), OFlags::PATH).map_err(text)?;
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

fn identity_at(dir: &OwnedFd, name: &str) -> Result<Identity, Errno> {
    let flags = AtFlags::empty();
    let stat = call("fstatat", || rustix::fs::statat(dir, name, flags))?;
    Ok((stat.st_dev, stat.st_ino))
}

fn text(errno: Errno) -> String {
    errno_text(errno.raw_os_error())
}
