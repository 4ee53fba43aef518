//! [`Bundle`]: a directory with a config.json and a root file system.
//!
//! See bundle.md of the OCI runtime specification.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use crate::error::{Cause, Error};
use crate::spec::{self, Spec};
use crate::sys::file;
use crate::sys::launch::Guard;

/// The file that configures a container.
const CONFIG: &str = "config.json";

/// Largest config.json that is read, in bytes.
const CONFIG_MAX: usize = 64 << 20;

/// Largest one that is kept as it was read, to be saved with the container: larger ones are mostly
/// blanks, or what nobody reads.
const KEPT_MAX: usize = 1 << 20;

/// A container's configuration and root file system.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    path: PathBuf,
    rootfs: PathBuf,
    spec: Spec,
    /// What `spec` was read from, if it was and is not too large.
    json: Option<Vec<u8>>,
    begun: Begun,
}

/// The thread that makes namespaces for the container that a bundle is read for, or why there is none;
/// no part of what the bundle is.
#[derive(Debug, Default)]
struct Begun(Mutex<Option<Result<Guard, Errno>>>);

/// There is one thread for one container.
impl Clone for Begun {
    fn clone(&self) -> Begun {
        Begun::default()
    }
}

impl PartialEq for Begun {
    fn eq(&self, _: &Begun) -> bool {
        true
    }
}

impl Bundle {
    /// Reads `config.json` in a directory, and checks it.
    ///
    /// ```no_run
    /// let bundle = corten_core::Bundle::load("/bundles/web")?;
    /// println!("{}", bundle.rootfs().display());
    /// # Ok::<(), corten_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the file is missing, is no JSON, has a value of the wrong type or range, or
    /// has a field that this version does not support; or when the root is no directory.
    pub fn load(path: impl AsRef<Path>) -> Result<Bundle, Error> {
        Bundle::load_by(path.as_ref(), spec::parse)
    }

    /// The same, where `parse` reads config.json.
    pub(crate) fn load_by(
        path: &Path,
        parse: impl FnOnce(&[u8]) -> Result<Spec, spec::SpecError>,
    ) -> Result<Bundle, Error> {
        let dir = Folder::open(path)?;
        let read = dir.read();
        let read = read.map(|bytes| (parse(&bytes), bytes));
        let path = dir.path()?;
        let (spec, bytes) = read.map_err(|errno| not_read(&path, errno))?;
        let spec = spec.map_err(|error| Cause::Config {
            path: path.join(CONFIG).display().to_string(),
            error,
        })?;
        let rootfs = path.join(root_path(&spec));
        spec::validate_read(&spec, &bytes)?;
        let mut bundle = Bundle::found(spec, path, &rootfs)?;
        bundle.json = Some(bytes).filter(|json| json.len() <= KEPT_MAX);
        if led_out(&bundle.path, root_path(&bundle.spec), &bundle.rootfs) {
            let path = "root.path".to_owned();
            let cause = LED_OUT.to_owned();
            return Err(spec::SpecError::Invalid { path, cause }.into());
        }
        Ok(bundle)
    }

    /// Takes a configuration from memory; `rootfs` stands for its `root.path`, and for
    /// the bundle's directory.
    ///
    /// # Errors
    /// As [`Bundle::load`].
    pub fn from_spec(
        spec: oci_spec::runtime::Spec,
        rootfs: impl AsRef<Path>,
    ) -> Result<Bundle, Error> {
        let rootfs = rootfs.as_ref();
        let mut spec = Spec::try_from(&spec)?;
        let root = spec.root.get_or_insert_with(spec::Root::default);
        root.path = rootfs.display().to_string();
        let path = canonical(rootfs)?;
        spec::validate(&spec)?;
        Bundle::found(spec, path.clone(), &path)
    }

    /// Of a valid configuration, if the root is a directory.
    fn found(spec: Spec, path: PathBuf, rootfs: &Path) -> Result<Bundle, Error> {
        let object = || format!("root.path: {}", rootfs.display());
        let stat = crate::sys::call("stat", || rustix::fs::stat(rootfs))
            .map_err(|errno| Error::call(object(), "stat", errno))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
            return Err(Error::call(object(), "open", Errno::NOTDIR));
        }
        Ok(Bundle {
            rootfs: canonical(rootfs)?,
            path,
            spec,
            json: None,
            begun: Begun::default(),
        })
    }

    /// The same with another configuration.
    pub(crate) fn with_spec(&self, spec: Spec) -> Bundle {
        Bundle {
            path: self.path.clone(),
            rootfs: self.rootfs.clone(),
            spec,
            json: None,
            begun: Begun::default(),
        }
    }

    /// The configuration as JSON: as it was read, or else made from it.
    pub(crate) fn to_json(&self) -> Cow<'_, [u8]> {
        match &self.json {
            Some(json) => Cow::Borrowed(json),
            None => Cow::Owned(spec::to_json(&self.spec).into_bytes()),
        }
    }

    /// Keeps a thread for the container that this is read for.
    pub(crate) fn begun(&mut self, guard: Option<Result<Guard, Errno>>) {
        self.begun = Begun(Mutex::new(guard));
    }

    /// Takes it, once; nothing of one that a fork of its process has.
    pub(crate) fn take_begun(&self) -> Option<Result<Guard, Errno>> {
        let mut begun = self.begun.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = begun.take();
        begun.filter(|begun| begun.as_ref().map_or(true, Guard::is_here))
    }

    /// The bundle's directory, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The root file system, absolute.
    #[must_use]
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// The configuration.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }
}

/// A bundle's directory, absolute, and the bytes of its config.json.
pub(crate) fn read_config(path: &Path) -> Result<(PathBuf, Vec<u8>), Error> {
    let dir = Folder::open(path)?;
    let path = dir.path()?;
    let bytes = dir.read().map_err(|errno| not_read(&path, errno))?;
    Ok((path, bytes))
}

fn not_read(bundle: &Path, errno: Errno) -> Error {
    Error::call(bundle.join(CONFIG).display().to_string(), "open", errno)
}

/// A bundle's directory, open: what is read in it is of the path that it has, whoever moves links.
struct Folder<'a> {
    given: &'a Path,
    dir: OwnedFd,
}

impl Folder<'_> {
    fn open(path: &Path) -> Result<Folder<'_>, Error> {
        let dir = file::open_at(CWD, path, OFlags::PATH);
        Ok(Folder {
            given: path,
            dir: dir.map_err(|errno| no_path(path, errno))?,
        })
    }

    /// Its path, absolute.
    fn path(&self) -> Result<PathBuf, Error> {
        file::path_of(&self.dir).map_err(|errno| no_path(self.given, errno))
    }

    fn read(&self) -> Result<Vec<u8>, Errno> {
        file::read_at_most(&self.dir, Path::new(CONFIG), CONFIG_MAX)
    }
}

/// `root.path`, empty if there is none.
pub(crate) fn root_path(spec: &Spec) -> &str {
    spec.root.as_ref().map_or("", |root| root.path.as_str())
}

/// What is wrong with such a root.
pub(crate) const LED_OUT: &str = "a symbolic link leads out of the bundle";

/// Whether a symbolic link leads a relative `root.path` out of the bundle. Who means to leave it
/// says so by an absolute path, or by `..`.
pub(crate) fn led_out(bundle: &Path, root: &str, rootfs: &Path) -> bool {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    Path::new(root).components().all(inside) && !rootfs.starts_with(bundle)
}

/// The path without symbolic links, as the host sees it.
fn canonical(path: &Path) -> Result<PathBuf, Error> {
    file::real_path(path).map_err(|errno| no_path(path, errno))
}

fn no_path(path: &Path, errno: Errno) -> Error {
    Error::call(path.display().to_string(), "realpath", errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_kept_as_it_was_read_unless_it_is_large() {
        let folder = std::env::temp_dir().join(format!("corten-kept-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("rootfs")).unwrap();
        let written = spec::to_json(&spec::default_spec());
        for (blanks, kept) in [(7, true), (KEPT_MAX, false)] {
            let given = format!("{}{written}", " ".repeat(blanks));
            std::fs::write(folder.join("config.json"), &given).unwrap();
            let bundle = Bundle::load(&folder).unwrap();
            let expected = if kept { &given } else { &written };
            assert_eq!(bundle.to_json(), expected.as_bytes());
            // What is changed is not what was read.
            let changed = bundle.with_spec(bundle.spec().clone());
            assert_eq!(changed.to_json(), written.as_bytes());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_was_begun_for_a_bundle_is_taken_once() {
        let folder = std::env::temp_dir();
        let mut bundle = Bundle::found(spec::default_spec(), folder.clone(), &folder).unwrap();
        let before = bundle.clone();
        bundle.begun(Some(Guard::start(0)));
        assert!(bundle == before && bundle.clone().take_begun().is_none());
        assert!(bundle.take_begun().is_some() && bundle.take_begun().is_none());
    }

    #[test]
    fn only_a_link_leads_a_root_out_in_silence() {
        let led = |root, rootfs| led_out(Path::new("/b"), root, Path::new(rootfs));
        assert!(led("rootfs", "/elsewhere"));
        assert!(led("./a/rootfs", "/b2/rootfs"));
        assert!(!led("rootfs", "/b/other"));
        assert!(!led("../rootfs", "/rootfs"));
        assert!(!led("/rootfs", "/elsewhere"));
    }
}
