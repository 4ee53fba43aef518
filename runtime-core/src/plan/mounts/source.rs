//! Where a mount comes from: a new file system, a part of the host's tree, or what is
//! mounted there already.

use crate::plan::options::Options;
use crate::plan::{Context, PlanError};
use crate::spec::{Mount, NamespaceKind};

/// Where a mount comes from.
pub(super) enum Source {
    /// A new file system of this type.
    Fs { kind: String, source: String },
    /// A copy of a part of the host's tree.
    Bind { path: Vec<u8>, recursive: bool },
    /// A copy of a symbolic link of the host, by what it holds.
    Link { target: Vec<u8> },
    /// What is mounted there already.
    Remount,
}

impl Source {
    /// Reads it off one of `mounts`, the one with this index.
    pub(super) fn new(
        cx: &Context<'_>,
        mount: &Mount,
        options: &Options,
        index: usize,
    ) -> Result<Source, PlanError> {
        let kind = mount.kind.as_deref().unwrap_or("");
        let given = mount.source.as_deref().unwrap_or("");
        if options.remount {
            return Ok(Source::Remount);
        }
        let bind = options.bind.or((kind == "bind").then_some(false));
        if let Some(recursive) = bind {
            return bind_of(cx, given, recursive, index);
        }
        match kind {
            "" | "none" => {
                let field = format!("mounts[{index}].type");
                Err(PlanError::value(field, "missing"))
            }
            "cgroup" | "cgroup2" => Ok(cgroup(cx, given)),
            _ => Ok(Source::Fs {
                kind: kind.to_owned(),
                source: given.to_owned(),
            }),
        }
    }

    /// The type of a new file system.
    pub(super) fn kind(&self) -> Option<&str> {
        match self {
            Source::Fs { kind, .. } => Some(kind),
            _ => None,
        }
    }
}

fn bind_of(
    cx: &Context<'_>,
    given: &str,
    recursive: bool,
    index: usize,
) -> Result<Source, PlanError> {
    if given.is_empty() {
        let field = format!("mounts[{index}].source");
        return Err(PlanError::value(field, "a bind mount needs one"));
    }
    if let Some(target) = cx.facts.mounts.links.get(&index) {
        let target = target.as_os_str().as_encoded_bytes().to_vec();
        return Ok(Source::Link { target });
    }
    // A relative source is relative to the bundle (config.md, mounts).
    let path = cx.facts.bundle.join(given);
    Ok(Source::Bind {
        path: path.as_os_str().as_encoded_bytes().to_vec(),
        recursive,
    })
}

/// In its own cgroup namespace a container gets a new mount, whose root is its cgroup. In the
/// host's it sees the host's tree, by a bind: a new mount would set the options of the one
/// file system anew, without `nsdelegate` (`cgroup_get_tree` of the kernel).
fn cgroup(cx: &Context<'_>, given: &str) -> Source {
    if cx.other_namespace(NamespaceKind::Cgroup) {
        return Source::Fs {
            kind: "cgroup2".to_owned(),
            source: given.to_owned(),
        };
    }
    Source::Bind {
        path: b"/sys/fs/cgroup".to_vec(),
        recursive: false,
    }
}
