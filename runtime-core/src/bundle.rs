//! [`Bundle`]: a directory with a config.json and a root file system.
//!
//! See bundle.md of the OCI runtime specification.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use crate::error::{Cause, Error};
use crate::spec::{self, Spec};
use crate::sys::file;

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
        let (path, bytes) = read_config(path)?;
        let spec = parse(&bytes).map_err(|error| Cause::Config {
            path: path.join("config.json").display().to_string(),
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
            return Err(Error::call(object(), "open", rustix::io::Errno::NOTDIR));
        }
        Ok(Bundle {
            rootfs: canonical(rootfs)?,
            path,
            spec,
            json: None,
        })
    }

    /// The same with another configuration.
    pub(crate) fn with_spec(&self, spec: Spec) -> Bundle {
        Bundle {
            path: self.path.clone(),
            rootfs: self.rootfs.clone(),
            spec,
            json: None,
        }
    }

    /// The configuration as JSON: as it was read, or else made from it.
    pub(crate) fn to_json(&self) -> Cow<'_, [u8]> {
        match &self.json {
            Some(json) => Cow::Borrowed(json),
            None => Cow::Owned(spec::to_json(&self.spec).into_bytes()),
        }
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
    let path = canonical(path)?;
    let config = path.join("config.json");
    let bytes = file::read_at_most(rustix::fs::CWD, &config, CONFIG_MAX)
        .map_err(|errno| Error::call(config.display().to_string(), "open", errno))?;
    Ok((path, bytes))
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
    file::real_path(path)
        .map_err(|errno| Error::call(path.display().to_string(), "realpath", errno))
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
    fn only_a_link_leads_a_root_out_in_silence() {
        let led = |root, rootfs| led_out(Path::new("/b"), root, Path::new(rootfs));
        assert!(led("rootfs", "/elsewhere"));
        assert!(led("./a/rootfs", "/b2/rootfs"));
        assert!(!led("rootfs", "/b/other"));
        assert!(!led("../rootfs", "/rootfs"));
        assert!(!led("/rootfs", "/elsewhere"));
    }
}
