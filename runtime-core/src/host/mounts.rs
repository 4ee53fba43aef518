//! What `mounts` refers to, as far as a plan depends on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::FsOpenFlags;
use serde::Serialize;

use crate::plan::{copies_symlink, has_long_layers};
use crate::spec::{Mount, Spec};
use crate::sys::call;

/// What is true of the sources of `mounts`, and of the file systems that they ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MountFacts {
    /// Sources that are symbolic links to be copied: the index of the mount, and what the
    /// link holds.
    pub links: BTreeMap<usize, PathBuf>,
    /// Whether overlay takes its lower layers one by one, as Linux 6.7 and newer do. Only
    /// asked where they don't fit into one option.
    pub overlay_layers: bool,
}

pub(super) fn probe(spec: &Spec, bundle: &Path) -> MountFacts {
    let links = spec.mounts.iter().enumerate();
    let links = links.filter(|(_, mount)| copies_symlink(&mount.options));
    let link = |(index, mount): (usize, &Mount)| {
        let path = bundle.join(mount.source.as_deref()?);
        let target = call("readlinkat", || {
            rustix::fs::readlinkat(CWD, &path, Vec::new())
        })
        .ok()?;
        let target = std::ffi::OsString::from(target.to_str().ok()?);
        Some((index, PathBuf::from(target)))
    };
    let asks = spec.mounts.iter().any(has_layers);
    MountFacts {
        links: links.filter_map(link).collect(),
        overlay_layers: asks && takes_layers().unwrap_or(false),
    }
}

fn has_layers(mount: &Mount) -> bool {
    let overlay = mount.kind.as_deref() == Some("overlay");
    overlay && mount.options.iter().any(|word| has_long_layers(word))
}

/// Asks overlay. Nothing is mounted. Before Linux 6.5 a context of it takes every option
/// there could be, and finds out later.
fn takes_layers() -> Result<bool, rustix::io::Errno> {
    let context = call("fsopen", || {
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
    })?;
    let takes = |key: &str| {
        let set = call("fsconfig", || {
            rustix::mount::fsconfig_set_string(&context, key, "/")
        });
        set.is_ok()
    };
    Ok(!takes("no-such-option") && takes("lowerdir+"))
}
