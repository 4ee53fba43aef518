//! Addresses: where a shim listens, and who may talk to it.
//!
//! The name is a hash, so that containerd and every shim of a group find the same one.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

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
    for _ in 0..2 {
        match UnixListener::bind(path) {
            Ok(listener) => {
                // Until listen(2) was called nobody could connect, and only root passes
                // the directory.
                std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
                return Ok(Bound::New(listener));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(failed(error)),
        }
        if UnixStream::connect(path).is_ok() {
            return Ok(Bound::Taken);
        }
        remove(path)?;
    }
    Err(failed(io::ErrorKind::AddrInUse.into()))
}

/// Removes a socket; one that is gone is no error.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
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
}
