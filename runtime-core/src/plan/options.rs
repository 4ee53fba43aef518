//! Mount options: words of fstab(5) to attributes, propagation and file system data.
//!
//! See mount(8), mount_setattr(2). A word that is none of these is the file system's.

use crate::spec::Mount;

/// `MOUNT_ATTR_*` of linux/mount.h.
pub(super) const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
/// The field of the access time modes.
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

const MS_UNBINDABLE: u64 = 1 << 17;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;

/// The words that are understood here; sorted.
#[rustfmt::skip]
pub(crate) const MOUNT_OPTIONS: &[&str] = &[
    "async", "atime", "bind", "copy-symlink", "defaults", "dest-nofollow", "dev",
    "diratime", "dirsync", "exec", "idmap", "lazytime", "loud", "noatime",
    "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime",
    "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev",
    "rdiratime", "relatime", "remount", "rexec", "ridmap", "rnoatime", "rnodev",
    "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro",
    "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime",
    "rsuid", "rsymfollow", "runbindable", "rw", "shared", "silent", "slave",
    "src-nofollow", "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable",
];

/// Attributes to set and to clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) set: u64,
    pub(super) clear: u64,
}

impl Change {
    pub(super) fn add(&mut self, word: Change) {
        // The last word wins; the access time modes are one field.
        self.set = (self.set & !word.clear) | word.set;
        self.clear = (self.clear & !word.set) | word.clear;
    }

    pub(super) fn is_none(self) -> bool {
        self == Change::default()
    }
}

/// `idmap` (or, for all below, `ridmap`), with its map if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Idmap {
    pub(super) recursive: bool,
    pub(super) map: Option<String>,
}

/// A mount's options, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Of the mount itself.
    pub(super) attrs: Change,
    /// Of the mount and all below it (the `r` words).
    pub(super) recursive: Change,
    /// `MS_*` and whether it goes for all below too, one after the other.
    pub(super) propagation: Vec<(u64, bool)>,
    /// `bind` (false) or `rbind` (true).
    pub(super) bind: Option<bool>,
    pub(super) remount: bool,
    /// `tmpcopyup`: a tmpfs begins with what it hides.
    pub(super) copy_up: bool,
    /// `copy-symlink`: a source that is a link is copied.
    pub(super) copy_symlink: bool,
    /// `src-nofollow`: a source that is a link is mounted itself.
    pub(super) source_nofollow: bool,
    /// `dest-nofollow`: the destination must be there, and may be a link.
    pub(super) dest_nofollow: bool,
    /// `idmap` or `ridmap`.
    pub(super) idmap: Option<Idmap>,
    /// What the file system gets, in order, as it is written.
    pub(super) data: Vec<String>,
    /// What asks for something that can't be had.
    pub(super) ignored: Vec<String>,
}

/// Sorts the options of one mount.
pub(super) fn parse(options: &[String]) -> Options {
    let mut sorted = Options::default();
    for word in options.iter().flat_map(|option| words(option)) {
        if let Some(change) = attribute(word) {
            sorted.attrs.add(change);
        } else if let Some(change) = word.strip_prefix('r').and_then(attribute) {
            sorted.recursive.add(change);
        } else if let Some(propagation) = propagation(word) {
            sorted.propagation.push(propagation);
        } else if let Some(idmap) = idmap(word) {
            sorted.idmap = Some(idmap);
        } else {
            sorted.add_other(word);
        }
    }
    sorted
}

impl Options {
    fn add_other(&mut self, word: &str) {
        match word {
            "bind" => self.bind = self.bind.or(Some(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "copy-symlink" => self.copy_symlink = true,
            "src-nofollow" => self.source_nofollow = true,
            "dest-nofollow" => self.dest_nofollow = true,
            // Words for the tools that read fstab, and the kernel's own defaults.
            "" | "defaults" | "loud" | "silent" | "nomand" | "noiversion" | "norelatime"
            | "rnorelatime" | "rasync" | "rnomand" => {}
            // No call takes these for a mount, or a superblock, any more.
            "iversion" | "mand" | "rmand" | "rsync" | "rdirsync" => {
                self.ignored.push(word.to_owned());
            }
            _ => self.data.push(word.to_owned()),
        }
    }
}

/// The words of one option: one, but tools that read fstab join them with commas. A comma
/// in quotes, or behind a backslash, is part of the word.
fn words(option: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(option);
    std::iter::from_fn(move || {
        let all = rest?;
        let split = separator(all).and_then(|at| all.split_at_checked(at));
        rest = split.and_then(|(_, rest)| rest.get(1..));
        Some(split.map_or(all, |(word, _)| word))
    })
}

/// Where the first word ends.
fn separator(option: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    option.bytes().position(|byte| {
        let separates = byte == b',' && !quoted && !escaped;
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        separates
    })
}

/// Whether a mount copies a symbolic link, and doesn't follow it.
pub(crate) fn copies_symlink(options: &[String]) -> bool {
    parse(options).copy_symlink
}

/// Whether a mount is a bind mount.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    mount.kind.as_deref() == Some("bind") || parse(&mount.options).bind.is_some()
}

/// Whether nothing can be written through a mount.
pub(crate) fn is_read_only(mount: &Mount) -> bool {
    let options = parse(&mount.options);
    (options.attrs.set | options.recursive.set) & RDONLY != 0
}

/// The flag of `mount(2)` that an option of a superblock sets or clears.
pub(super) fn superblock_flag(word: &str) -> Option<Change> {
    const MS_SYNCHRONOUS: u64 = 0x10;
    const MS_DIRSYNC: u64 = 0x80;
    const MS_LAZYTIME: u64 = 0x200_0000;
    match word {
        "sync" => set(MS_SYNCHRONOUS),
        "async" => clear(MS_SYNCHRONOUS),
        "dirsync" => set(MS_DIRSYNC),
        "lazytime" => set(MS_LAZYTIME),
        "nolazytime" => clear(MS_LAZYTIME),
        _ => None,
    }
}

/// Attributes that are set, as `MS_*` of `mount(2)`.
pub(super) fn mount_flags(attrs: u64) -> u64 {
    const MS_NOSYMFOLLOW: u64 = 0x100;
    const MS_NOATIME: u64 = 0x400;
    const MS_NODIRATIME: u64 = 0x800;
    const MS_STRICTATIME: u64 = 0x100_0000;
    let same = attrs & (RDONLY | NOSUID | NODEV | NOEXEC);
    let others = [
        (NOSYMFOLLOW, NOSYMFOLLOW, MS_NOSYMFOLLOW),
        (NODIRATIME, NODIRATIME, MS_NODIRATIME),
        (ATIME, NOATIME, MS_NOATIME),
        (ATIME, STRICTATIME, MS_STRICTATIME),
    ];
    let given = others
        .iter()
        .filter(|(field, value, _)| attrs & field == *value);
    given.fold(same, |flags, (_, _, flag)| flags | flag)
}

const fn set(bits: u64) -> Option<Change> {
    Some(Change {
        set: bits,
        clear: 0,
    })
}

const fn clear(bits: u64) -> Option<Change> {
    Some(Change {
        set: 0,
        clear: bits,
    })
}

/// An access time mode replaces whatever was there.
const fn atime(mode: u64) -> Option<Change> {
    Some(Change {
        set: mode,
        clear: ATIME,
    })
}

fn attribute(word: &str) -> Option<Change> {
    match word {
        "ro" => set(RDONLY),
        "rw" => clear(RDONLY),
        "nosuid" => set(NOSUID),
        "suid" => clear(NOSUID),
        "nodev" => set(NODEV),
        "dev" => clear(NODEV),
        "noexec" => set(NOEXEC),
        "exec" => clear(NOEXEC),
        "nosymfollow" => set(NOSYMFOLLOW),
        "symfollow" => clear(NOSYMFOLLOW),
        "nodiratime" => set(NODIRATIME),
        "diratime" => clear(NODIRATIME),
        "noatime" => atime(NOATIME),
        "strictatime" => atime(STRICTATIME),
        "relatime" | "atime" | "nostrictatime" => atime(0),
        _ => None,
    }
}

fn propagation(word: &str) -> Option<(u64, bool)> {
    let known = |word: &str| match word {
        "private" => Some(MS_PRIVATE),
        "shared" => Some(MS_SHARED),
        "slave" => Some(MS_SLAVE),
        "unbindable" => Some(MS_UNBINDABLE),
        _ => None,
    };
    match known(word) {
        Some(kind) => Some((kind, false)),
        None => Some((known(word.strip_prefix('r')?)?, true)),
    }
}

fn idmap(word: &str) -> Option<Idmap> {
    let (name, map) = match word.split_once('=') {
        Some((name, map)) => (name, Some(map)),
        None => (word, None),
    };
    let map = map.filter(|map| !map.is_empty()).map(str::to_owned);
    match name {
        "idmap" | "ridmap" => Some(Idmap {
            recursive: name == "ridmap",
            map,
        }),
        _ => None,
    }
}

/// The word for a propagation.
pub(super) fn propagation_name(kind: u64, recursive: bool) -> &'static str {
    match (kind, recursive) {
        (MS_SHARED, false) => "shared",
        (MS_SHARED, true) => "rshared",
        (MS_SLAVE, false) => "slave",
        (MS_SLAVE, true) => "rslave",
        (MS_UNBINDABLE, false) => "unbindable",
        (MS_UNBINDABLE, true) => "runbindable",
        (_, false) => "private",
        (_, true) => "rprivate",
    }
}

/// `ro,nosuid`: the attributes as mountinfo writes them.
pub(super) fn names(change: Change) -> String {
    let words = [
        (RDONLY, "ro", "rw"),
        (NOSUID, "nosuid", "suid"),
        (NODEV, "nodev", "dev"),
        (NOEXEC, "noexec", "exec"),
        (NOSYMFOLLOW, "nosymfollow", "symfollow"),
        (NODIRATIME, "nodiratime", "diratime"),
    ];
    let mut names = String::new();
    let mut add = |name| {
        if !names.is_empty() {
            names.push(',');
        }
        names.push_str(name);
    };
    for (bit, on, off) in words {
        if change.set & bit != 0 {
            add(on);
        } else if change.clear & bit != 0 {
            add(off);
        }
    }
    if change.clear & ATIME != 0 {
        add(match change.set & ATIME {
            NOATIME => "noatime",
            STRICTATIME => "strictatime",
            _ => "relatime",
        });
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Options {
        parse(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn every_word_that_is_said_to_be_understood_is() {
        assert!(MOUNT_OPTIONS.is_sorted());
        for word in MOUNT_OPTIONS {
            let options = parsed(&[word]);
            let known = |word: &String| superblock_flag(word).is_some();
            assert!(options.data.iter().all(known), "{word}");
            assert!(options.ignored.is_empty(), "{word}");
        }
        // And the other way round, for all that can be counted.
        for word in [
            "suid",
            "dev",
            "exec",
            "atime",
            "relatime",
            "diratime",
            "symfollow",
            "ro",
        ] {
            for word in [word.to_owned(), format!("r{word}")] {
                assert!(MOUNT_OPTIONS.contains(&word.as_str()), "{word}");
            }
        }
    }

    #[test]
    fn the_last_of_two_opposite_words_wins() {
        let options = parsed(&["ro", "rw", "noatime", "strictatime"]);
        assert_eq!(options.attrs.set, STRICTATIME);
        assert_eq!(options.attrs.clear, RDONLY | ATIME);
    }

    #[test]
    fn rw_and_relatime_are_not_recursive_words() {
        let options = parsed(&["rw", "relatime"]);
        assert!(options.recursive.is_none());
        assert!(options.data.is_empty());
    }

    #[test]
    fn recursive_words_are_kept_apart() {
        let options = parsed(&["rro", "rnosuid", "ratime", "ro"]);
        assert_eq!(
            options.recursive,
            Change {
                set: RDONLY | NOSUID,
                clear: ATIME
            }
        );
        assert_eq!(options.attrs.set, RDONLY);
    }

    #[test]
    fn what_is_no_option_of_a_mount_is_the_file_systems() {
        let options = parsed(&["nosuid", "mode=755", "size=64k", "newinstance"]);
        assert_eq!(options.data, ["mode=755", "size=64k", "newinstance"]);
    }

    #[test]
    fn propagation_and_bind_words() {
        let options = parsed(&["rbind", "rprivate"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.propagation, [(MS_PRIVATE, true)]);
        let options = parsed(&["bind", "slave", "rshared"]);
        assert_eq!(options.bind, Some(false));
        assert_eq!(options.propagation, [(MS_SLAVE, false), (MS_SHARED, true)]);
    }

    #[test]
    fn attributes_are_named_as_in_mountinfo() {
        assert_eq!(
            names(parsed(&["nosuid", "noexec", "nodev", "ro"]).attrs),
            "ro,nosuid,nodev,noexec"
        );
    }

    #[test]
    fn every_attribute_has_a_recursive_word() {
        let words = [
            "rro",
            "rrw",
            "rnosuid",
            "rsuid",
            "rnodev",
            "rdev",
            "rnoexec",
            "rexec",
            "rnosymfollow",
            "rsymfollow",
            "rnodiratime",
            "rdiratime",
            "rnoatime",
            "ratime",
            "rstrictatime",
            "rnostrictatime",
            "rrelatime",
        ];
        for word in words {
            let options = parsed(&[word]);
            assert!(!options.recursive.is_none(), "{word}");
            assert!(options.attrs.is_none() && options.data.is_empty(), "{word}");
        }
        assert_eq!(parsed(&["rnorelatime", "norelatime"]), Options::default());
    }

    #[test]
    fn commas_separate_words_unless_quoted_or_escaped() {
        let options = parsed(&[
            "ro,nosuid,size=1m,",
            r#"context="a,b",x=1"#,
            r"lowerdir=/a\,b\\,y",
        ]);
        assert_eq!(options.attrs.set, RDONLY | NOSUID);
        let expected = [
            "size=1m",
            r#"context="a,b""#,
            "x=1",
            r"lowerdir=/a\,b\\",
            "y",
        ];
        assert_eq!(options.data, expected);
    }

    #[test]
    fn attributes_have_their_flags_of_mount() {
        let attrs = parsed(&["ro", "nosuid", "nodev", "noexec", "nosymfollow", "noatime"])
            .attrs
            .set;
        assert_eq!(mount_flags(attrs), 0x50f);
        let attrs = parsed(&["nodiratime", "strictatime"]).attrs.set;
        assert_eq!(mount_flags(attrs), 0x100_0800);
        assert_eq!(mount_flags(parsed(&["relatime", "rw"]).attrs.set), 0);
    }
}
