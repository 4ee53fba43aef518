//! Addresses: where a shim listens, and who may talk to it.
//!
//! The name is a hash, so that containerd and every shim of a group find the same one.
//! Several may look for it, make it and remove it at once, so this is done under a lock.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

/// Where sockets are if containerd does not say.
pub const DIRECTORY: &str = "/run/containerd/s";

/// The socket of a group of containers.
///
/// `address` is containerd's own. The name is the one that the Go shims use.
#[must_use]
pub fn path(directory: &Path, address: &str, namespace: &str, group: &str) -> PathBuf {
    // Go joins them as a path, which cleans it.
    let mut clean = PathBuf::new();
    clean.extend(Path::new(address).components());
    clean.extend([namespace, group]);
    let mut name = String::with_capacity(64);
    for byte in Sha256::digest(clean.as_os_str().as_encoded_bytes()) {
        write!(name, "{byte:02x}").expect("a String takes it all");
    }
    directory.join(name)
}

/// The file of an address as containerd writes it.
#[must_use]
pub fn file(address: &str) -> &Path {
    Path::new(
        address
            .trim()
            .strip_prefix("unix://")
            .unwrap_or(address.trim()),
    )
}

/// A socket to listen on, or the news that somebody does already.
pub(crate) enum Bound {
    New(UnixListener),
    /// The shim of this group runs.
    Taken,
}

/// Makes the socket, in place of one that nobody listens on any more.
pub(crate) fn bind(path: &Path) -> Result<Bound, Failure> {
    let failed = |error| Failure::call(path.display(), error);
    if let Some(directory) = path.parent() {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(failed)?;
    }
    let _lock = lock(path)?;
    if is_live(path)? {
        // It may be about to end, and stays for who comes.
        announce(path)?;
        return Ok(Bound::Taken);
    }
    remove(path)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Only root passes the directory meanwhile.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
    Ok(Bound::New(listener))
}

/// Whether a socket is removed, before its shim ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Not if somebody has come.
    IfUnwanted,
    Always,
}

/// Removes a shim's own socket. Says whether that was done.
pub(crate) fn leave(listener: &UnixListener, path: &Path, how: Leave) -> Result<bool, Failure> {
    let _lock = lock(path)?;
    let now = rustix::event::Timespec::default();
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let come = poll(&mut fds, Some(&now)).map_err(|errno| Failure::call("poll", errno))?;
    if how == Leave::IfUnwanted && come > 0 {
        return Ok(false);
    }
    remove(path)?;
    Ok(true)
}

/// Removes the socket of a shim that was killed; one that lives serves others of its group.
pub(crate) fn remove_dead(path: &Path) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let _lock = lock(path)?;
    if is_live(path)? {
        return Ok(());
    }
    remove(path)
}

/// Keeps others from making and removing sockets in the directory of this one. Whoever holds
/// it waits for nothing.
fn lock(path: &Path) -> Result<OwnedFd, Failure> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let failed = |errno: Errno| Failure::call(directory.display(), errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty()).map_err(failed)?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive).map_err(failed)?;
    Ok(directory)
}

/// Whether a socket has an owner, also one that does not listen yet. Nobody notices: the
/// kernel looks for the owner before it finds that the types differ.
fn is_live(path: &Path) -> Result<bool, Failure> {
    match connect(path, SocketType::DGRAM) {
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(errno) => Err(Failure::call(path.display(), errno)),
    }
}

/// Lets the owner of a socket know that somebody comes.
fn announce(path: &Path) -> Result<(), Failure> {
    match connect(path, SocketType::STREAM) {
        // Its queue is full of others.
        Ok(()) | Err(Errno::AGAIN) => Ok(()),
        Err(errno) => Err(Failure::call(path.display(), errno)),
    }
}

/// Connects once, without waiting.
fn connect(path: &Path, kind: SocketType) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

/// Removes a socket; one that is gone is no error.
fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::call(path.display(), error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_one_that_the_go_shim_takes() {
        // sha256 of "/run/containerd/containerd.sock/default/web".
        let path = path(
            Path::new(DIRECTORY),
            "/run/containerd/containerd.sock",
            "default",
            "web",
        );
        assert_eq!(
            path,
            Path::new(DIRECTORY)
                .join("2cde4450fa38c74f53603e01d2afd903b315a27a596f12a151414cd59897d883")
        );
    }

    #[test]
    fn an_address_names_a_file_with_and_without_its_scheme() {
        assert_eq!(file("unix:///run/x\n"), Path::new("/run/x"));
        assert_eq!(file("/run/x"), Path::new("/run/x"));
    }

    /// A directory that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("corten-socket-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_socket_whose_owner_does_not_listen_yet_is_not_unlinked() {
        let folder = Folder::new("early");
        let path = folder.0.join("s");
        let kind = SocketType::STREAM;
        let flags = SocketFlags::CLOEXEC;
        let early = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
        rustix::net::bind(&early, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        remove_dead(&path).unwrap();
        assert!(path.exists());
        // There is nobody to be told yet, but the socket stays.
        assert!(bind(&path).is_err());
        assert!(path.exists());
        rustix::net::listen(&early, 1).unwrap();
        assert!(matches!(bind(&path), Ok(Bound::Taken)));
        drop(early);
        assert!(matches!(bind(&path), Ok(Bound::New(_))));
    }

    #[test]
    fn of_many_that_meet_at_a_dead_socket_one_gets_it() {
        let folder = Folder::new("race");
        let path = &folder.0.join("s");
        for _ in 0..50 {
            // One that is closed and not unlinked.
            drop(UnixListener::bind(path).unwrap());
            let barrier = &std::sync::Barrier::new(8);
            let all: Vec<Bound> = std::thread::scope(|scope| {
                let meet = || {
                    scope.spawn(move || {
                        barrier.wait();
                        bind(path).unwrap()
                    })
                };
                let threads: Vec<_> = (0..8).map(|_| meet()).collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            });
            let new = all.iter().filter(|bound| matches!(bound, Bound::New(_)));
            assert_eq!(new.count(), 1);
            assert!(is_live(path).unwrap());
            remove(path).unwrap();
        }
    }

    #[test]
    fn a_socket_that_somebody_has_come_to_stays() {
        let folder = Folder::new("come");
        let path = folder.0.join("s");
        let Ok(Bound::New(listener)) = bind(&path) else {
            panic!("nobody has it");
        };
        assert!(matches!(bind(&path), Ok(Bound::Taken)));
        assert!(!leave(&listener, &path, Leave::IfUnwanted).unwrap());
        assert!(path.exists());
        drop(listener.accept().unwrap());
        assert!(leave(&listener, &path, Leave::IfUnwanted).unwrap());
        assert!(!path.exists());
    }
}
