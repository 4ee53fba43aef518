//! Mount options as fstab(5) writes them.

use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags};

use super::idmap::Maps;
use crate::failure::Failure;

/// What is written, sorted by what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: MountFlags,
    pub(super) propagation: MountPropagationFlags,
    pub(super) is_remount: bool,
    pub(super) is_loop: bool,
    /// Only with `loop`.
    pub(super) direct_io: bool,
    /// `uidmap=` and `gidmap=`.
    ids: Maps,
    /// What the file system itself is told.
    pub(super) data: Vec<String>,
}

impl Options {
    pub(super) fn parse(words: &[String]) -> Options {
        let mut options = Options {
            flags: MountFlags::empty(),
            propagation: MountPropagationFlags::empty(),
            is_remount: false,
            is_loop: false,
            direct_io: false,
            ids: Maps::default(),
            data: Vec::new(),
        };
        for word in words {
            if let Some((set, flag)) = flag(word) {
                options.flags.set(flag, set);
            } else if let Some(kind) = propagation(word) {
                options.propagation |= kind;
            } else {
                options.other(word);
            }
        }
        if options.is_loop {
            let before = options.data.len();
            options.data.retain(|word| word != "direct-io");
            options.direct_io = options.data.len() != before;
        }
        options
    }

    fn other(&mut self, word: &str) {
        match word {
            "defaults" => {}
            "remount" => self.is_remount = true,
            "loop" => self.is_loop = true,
            _ => {
                if let Some(map) = word.strip_prefix("uidmap=") {
                    map.clone_into(&mut self.ids.uids);
                } else if let Some(map) = word.strip_prefix("gidmap=") {
                    map.clone_into(&mut self.ids.gids);
                } else {
                    self.data.push(word.to_owned());
                }
            }
        }
    }

    /// The flags as attributes of one mount: those to set, and those to clear.
    pub(super) fn attributes(&self) -> (MountAttrFlags, MountAttrFlags) {
        use MountAttrFlags as Attr;

        let names = [
            (MountFlags::RDONLY, Attr::MOUNT_ATTR_RDONLY),
            (MountFlags::NOSUID, Attr::MOUNT_ATTR_NOSUID),
            (MountFlags::NODEV, Attr::MOUNT_ATTR_NODEV),
            (MountFlags::NOEXEC, Attr::MOUNT_ATTR_NOEXEC),
            (MountFlags::NODIRATIME, Attr::MOUNT_ATTR_NODIRATIME),
            // One number out of three, of which this is 0.
            (MountFlags::RELATIME, Attr::MOUNT_ATTR_RELATIME),
            (MountFlags::NOATIME, Attr::MOUNT_ATTR_NOATIME),
            (MountFlags::STRICTATIME, Attr::MOUNT_ATTR_STRICTATIME),
        ];
        let asked = names
            .into_iter()
            .filter(|(flag, _)| self.flags.contains(*flag));
        let set = asked.map(|(_, attribute)| attribute).collect();
        let times = MountFlags::RELATIME | MountFlags::NOATIME | MountFlags::STRICTATIME;
        let clear = if self.flags.intersects(times) {
            Attr::MOUNT_ATTR__ATIME
        } else {
            Attr::empty()
        };
        (set, clear)
    }

    /// The maps of ids, if there are any; then there must be both.
    pub(super) fn maps(&self) -> Result<Option<Maps>, Failure> {
        match (self.ids.uids.is_empty(), self.ids.gids.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(self.ids.clone())),
            _ => Err(Failure::invalid("uidmap and gidmap go together")),
        }
    }
}

/// Whether a word sets or clears a flag, and which.
fn flag(word: &str) -> Option<(bool, MountFlags)> {
    /// `MS_MANDLOCK`: without effect since Linux 5.15, and not in rustix.
    const MANDLOCK: MountFlags = MountFlags::from_bits_retain(0x40);
    /// `MS_STRICTATIME` is rustix's name too, of a bit that needs 64.
    const STRICT: MountFlags = MountFlags::STRICTATIME;
    Some(match word {
        "async" => (false, MountFlags::SYNCHRONOUS),
        "atime" => (false, MountFlags::NOATIME),
        "bind" => (true, MountFlags::BIND),
        "dev" => (false, MountFlags::NODEV),
        "diratime" => (false, MountFlags::NODIRATIME),
        "dirsync" => (true, MountFlags::DIRSYNC),
        "exec" => (false, MountFlags::NOEXEC),
        "mand" => (true, MANDLOCK),
        "noatime" => (true, MountFlags::NOATIME),
        "nodev" => (true, MountFlags::NODEV),
        "nodiratime" => (true, MountFlags::NODIRATIME),
        "noexec" => (true, MountFlags::NOEXEC),
        "nomand" => (false, MANDLOCK),
        "norelatime" => (false, MountFlags::RELATIME),
        "nostrictatime" => (false, STRICT),
        "nosuid" => (true, MountFlags::NOSUID),
        "rbind" => (true, MountFlags::BIND | MountFlags::REC),
        "relatime" => (true, MountFlags::RELATIME),
        "ro" => (true, MountFlags::RDONLY),
        "rw" => (false, MountFlags::RDONLY),
        "strictatime" => (true, STRICT),
        "suid" => (false, MountFlags::NOSUID),
        "sync" => (true, MountFlags::SYNCHRONOUS),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let recursive = MountPropagationFlags::REC;
    Some(match word {
        "shared" => MountPropagationFlags::SHARED,
        "rshared" => MountPropagationFlags::SHARED | recursive,
        "private" => MountPropagationFlags::PRIVATE,
        "rprivate" => MountPropagationFlags::PRIVATE | recursive,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "rslave" => MountPropagationFlags::DOWNSTREAM | recursive,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        "runbindable" => MountPropagationFlags::UNBINDABLE | recursive,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Options::parse(&words)
    }

    #[test]
    fn words_are_flags_propagation_or_data() {
        let options = parse(&["rbind", "ro", "rw", "nosuid", "rslave", "lowerdir=/a:/b"]);
        assert_eq!(
            options.flags,
            MountFlags::BIND | MountFlags::REC | MountFlags::NOSUID
        );
        assert!(
            options
                .propagation
                .contains(MountPropagationFlags::DOWNSTREAM)
        );
        assert_eq!(options.data, ["lowerdir=/a:/b"]);
    }

    #[test]
    fn attributes_are_what_is_asked_for_and_no_more() {
        use MountAttrFlags as Attr;

        let (set, clear) = parse(&["rbind", "ro", "nodev"]).attributes();
        assert_eq!(set, Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NODEV);
        assert_eq!(clear, Attr::empty());
        let (set, clear) = parse(&["ro", "noatime"]).attributes();
        assert_eq!(set, Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOATIME);
        assert_eq!(clear, Attr::MOUNT_ATTR__ATIME);
    }

    #[test]
    fn maps_of_ids_go_together() {
        assert_eq!(parse(&["ro"]).maps().unwrap(), None);
        assert!(parse(&["uidmap=0:1:2"]).maps().is_err());
        let both = parse(&["uidmap=0:1:2", "gidmap=0:3:4"]);
        let maps = both.maps().unwrap().unwrap();
        assert_eq!((&*maps.uids, &*maps.gids), ("0:1:2", "0:3:4"));
    }

    #[test]
    fn direct_io_is_for_the_loop_device_only() {
        let options = parse(&["loop", "direct-io"]);
        assert!(options.is_loop && options.direct_io && options.data.is_empty());
        assert_eq!(parse(&["direct-io"]).data, ["direct-io"]);
    }
}
