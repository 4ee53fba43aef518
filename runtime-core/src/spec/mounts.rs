//! `root` and `mounts`: what the container sees as its file system.
//!
//! Data only; the meaning of options is in mount(8) and mount_setattr(2).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::json::{nullable, objects, text, unset};
use super::linux::IdMapping;

/// `root`: the directory that becomes `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Root {
    /// Absolute, or relative to the bundle.
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    /// The container can't write to it.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub readonly: bool,
}

/// One of `mounts`, made in the order given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// Where in the container.
    #[serde(deserialize_with = "nullable")]
    pub destination: String,
    /// File system; means nothing for a bind mount.
    #[serde(
        rename = "type",
        deserialize_with = "text",
        skip_serializing_if = "unset"
    )]
    pub kind: Option<String>,
    /// Device, or the path that is bound, absolute or relative to the bundle.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub source: Option<String>,
    /// Options as in fstab(5), one each.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub options: Vec<String>,
    /// User ids shown through this mount.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids shown through this mount.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub gid_mappings: Vec<IdMapping>,
}

impl Mount {
    /// The destination as an absolute path: a relative one counts from `/`, as the spec says.
    ///
    /// Does not resolve `..` or symbolic links.
    pub fn absolute_destination(&self) -> Cow<'_, str> {
        if self.destination.starts_with('/') {
            Cow::Borrowed(&self.destination)
        } else {
            Cow::Owned(format!("/{}", self.destination))
        }
    }
}
