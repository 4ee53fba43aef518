//! What can be wrong with a config.json, in one line that begins with the place.
//!
//! Values are shown quoted and escaped, so no config can put a line break into a message or a log.

/// Something in config.json that can't be read, is contradictory, or is not done yet.
///
/// `Display` is one line: the JSON path, then the object and the cause. There is no `source`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Not JSON, or a value of the wrong type.
    #[error("{}{cause} at line {line} column {column}", prefix(path))]
    Parse {
        /// Where; empty for the document as a whole.
        path: String,
        /// What the parser says.
        cause: String,
        /// From 1.
        line: usize,
        /// From 1; 0 before the first character of a line.
        column: usize,
    },
    /// A field that has to be there is absent or empty.
    #[error("{path}: must not be empty")]
    Missing {
        /// Where.
        path: String,
    },
    /// A path that has to begin with `/`.
    #[error("{path}: must be an absolute path, not {}", quoted(value))]
    NotAbsolute {
        /// Where.
        path: String,
        /// The path given.
        value: String,
    },
    /// No system call can take this text.
    #[error("{path}: contains a nul byte")]
    NulByte {
        /// Where.
        path: String,
    },
    /// A word that is not one of those the spec knows.
    #[error("{path}: {} is unknown, expected {expected}", quoted(value))]
    Unknown {
        /// Where.
        path: String,
        /// The word given.
        value: String,
        /// What there is.
        expected: &'static str,
    },
    /// A number the kernel would refuse or take for another one.
    #[error("{path}: {value} is out of range, expected {expected}")]
    OutOfRange {
        /// Where.
        path: String,
        /// The number given.
        value: i128,
        /// What is possible.
        expected: &'static str,
    },
    /// A limit above the one that bounds it.
    #[error("{path}: {kind}: soft limit {soft} is above the hard limit {hard}")]
    SoftAboveHard {
        /// Where.
        path: String,
        /// Name of the limit.
        kind: String,
        /// As given.
        soft: u64,
        /// As given.
        hard: u64,
    },
    /// Something that may be there once only.
    #[error("{path}: duplicated {what} {} (first in {first})", quoted(value))]
    Duplicate {
        /// Where the second one is.
        path: String,
        /// `ns` or `rlimit type`.
        what: &'static str,
        /// What is there twice.
        value: String,
        /// Where the first one is.
        first: String,
    },
    /// Two id map entries that claim the same ids.
    #[error("{path}: {side} ids {from}-{to} overlap with {first}")]
    Overlap {
        /// Where the second one is.
        path: String,
        /// `container` or `host`.
        side: &'static str,
        /// First id of the second one.
        from: u32,
        /// Last id of the second one.
        to: u32,
        /// Where the first one is.
        first: String,
    },
    /// An id of the process that its user namespace doesn't have.
    #[error("{path}: {id} is not mapped in the user namespace ({map})")]
    Unmapped {
        /// Where.
        path: String,
        /// The id.
        id: u32,
        /// The map that lacks it.
        map: &'static str,
    },
    /// A field that means nothing without a namespace of the container's own.
    #[error("{path}: needs a {kind} namespace (linux.namespaces)")]
    NeedsNamespace {
        /// Where.
        path: String,
        /// Which.
        kind: super::NamespaceKind,
    },
    /// Any other contradiction.
    #[error("{path}: {cause}")]
    Invalid {
        /// Where.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// A limit that cgroup v2 does not have; a container that counts on it must not start.
    #[error("{path}: only cgroup v1 has this limit, and cgroup v2 is used")]
    OnlyCgroupV1 {
        /// Where.
        path: String,
    },
    /// Can't be said in the other crate's types.
    #[error("{}{cause}", prefix(path))]
    Convert {
        /// Where; empty for the document as a whole.
        path: String,
        /// What that crate says.
        cause: String,
    },
}

impl SpecError {
    /// The place in config.json, as `process.rlimits[0].soft`; empty for the document as a whole.
    pub fn path(&self) -> &str {
        match self {
            Self::Parse { path, .. }
            | Self::Missing { path }
            | Self::NotAbsolute { path, .. }
            | Self::NulByte { path }
            | Self::Unknown { path, .. }
            | Self::OutOfRange { path, .. }
            | Self::SoftAboveHard { path, .. }
            | Self::Duplicate { path, .. }
            | Self::Overlap { path, .. }
            | Self::Unmapped { path, .. }
            | Self::NeedsNamespace { path, .. }
            | Self::Invalid { path, .. }
            | Self::OnlyCgroupV1 { path }
            | Self::Convert { path, .. } => path,
        }
    }
}

/// Longest value that is shown whole; enough for a path, too little to flood a log.
const SHOWN: usize = 256;

/// A value as it may stand in a message: quoted, escaped, not too long.
pub(crate) fn quoted(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}...", value.get(..end).unwrap_or_default()),
    }
}

/// Text of a parser, which may quote the document as it is: one line, not too long.
///
/// The end is what is kept of a long one, as the expected type and the reason stand there.
pub(super) fn one_line(text: &str) -> String {
    let line: String = text.chars().flat_map(escape).collect();
    let (chars, keep) = (line.chars().count(), 2 * SHOWN);
    if chars <= keep {
        return line;
    }
    let start: String = line.chars().take(SHOWN).collect();
    let end: String = line.chars().skip(chars - SHOWN).collect();
    format!("{start}...{end}")
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let escaped = if c.is_control() {
        c.escape_debug().collect()
    } else {
        String::from(c)
    };
    escaped.chars().collect::<Vec<_>>().into_iter()
}

/// `path` and the member `key` of the object there.
pub(crate) fn member(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match (path, !key.is_empty() && key.chars().all(plain)) {
        ("", true) => key.to_owned(),
        (_, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{}]", quoted(key)),
    }
}

fn prefix(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("{path}: ")
    }
}
