//! [`Saved`]: events that containerd has not taken when their shim ends.
//!
//! They wait in the bundles of their containers. So `delete`, which is called for each of these,
//! finds its own, and they go with the bundle if nobody ever asks. What reads them is `deliver`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use prost::Message as _;

use crate::daemon::Shim;
use crate::failure::Failure;

const NAME: &str = "events";

/// The name until all is written.
const NEW: &str = "events.new";

/// What such a file begins with; another form would have another number.
const HEADER: &[u8] = b"corten events 1\n";

/// Most that is kept of one container: some 50,000 events. They are in memory then, where
/// bundles are.
const MAX: usize = 8 << 20;

/// What is behind the header.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Saved {
    /// Where containerd took events from this shim.
    #[prost(string, tag = "1")]
    pub(crate) address: String,
    /// Requests, in their order.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) requests: Vec<Vec<u8>>,
}

impl Saved {
    /// Header and message.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [HEADER, &self.encode_to_vec()].concat()
    }

    /// Reads what [`Self::to_bytes`] gives.
    pub(crate) fn read(file: impl io::Read) -> io::Result<Saved> {
        let mut bytes = Vec::new();
        // Numbers and lengths come on top of the events.
        file.take(2 * MAX as u64).read_to_end(&mut bytes)?;
        let message = bytes.strip_prefix(HEADER);
        let message = message.ok_or_else(|| io::Error::other("no events of a shim"))?;
        Saved::decode(message).map_err(io::Error::other)
    }

    /// Leaves out the oldest above a limit: the last tell how a container ended. Says how many.
    fn limit(&mut self, max: usize) -> usize {
        let mut length = 0;
        let lengths = self.requests.iter().rev().map(Vec::len);
        let fit = lengths.take_while(|one| {
            length += one;
            length <= max
        });
        let rest = self.requests.len() - fit.count();
        drop(self.requests.drain(..rest));
        rest
    }
}

/// Puts events into a bundle, all or none.
fn write(bundle: &Path, saved: &Saved) -> Result<(), Failure> {
    let (new, path) = (bundle.join(NEW), bundle.join(NAME));
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&new);
    // A crash of the machine takes all bundles: nothing has to reach a disk.
    file.and_then(|mut file| file.write_all(&saved.to_bytes()))
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(|error| {
            if let Err(error) = remove_file(&new) {
                log::warn!("{}: {error}", new.display());
            }
            Failure::call(path.display(), error)
        })
}

/// The events in a bundle, if there are any.
pub(crate) fn read(bundle: &Path) -> Result<Option<Saved>, Failure> {
    let path = bundle.join(NAME);
    let mut options = OpenOptions::new();
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = options.read(true).custom_flags(flags).open(&path);
    match file.and_then(|file: File| Saved::read(file)) {
        Ok(saved) => Ok(Some(saved)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::call(path.display(), error)),
    }
}

/// Removes them: they are published, or in other hands.
pub(crate) fn remove(bundle: &Path) -> Result<(), Failure> {
    let path = bundle.join(NAME);
    remove_file(&path).map_err(|error| Failure::call(path.display(), error))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Shim {
    /// Puts what containerd has not taken into the bundles, for `delete`; says in the log what is
    /// lost because that can't be, as where the bundle is gone. Nothing is told any more.
    pub(crate) fn save_events(&mut self) {
        // Of what has just ended.
        self.collect_all();
        self.tell_untold();
        let address = self.publisher.address().display().to_string();
        let mut bundles = BTreeMap::new();
        for event in self.publisher.left() {
            let (saved, topics) = bundles.entry(event.bundle.as_path()).or_insert_with(|| {
                let requests = Vec::new();
                let address = address.clone();
                (Saved { address, requests }, BTreeMap::<&str, usize>::new())
            });
            saved.requests.push(event.payload.clone());
            *topics.entry(&event.topic).or_default() += 1;
        }
        for (bundle, (mut saved, topics)) in bundles {
            let over = saved.limit(MAX);
            if over > 0 {
                log::error!("{}: the first {over} events are lost", bundle.display());
            }
            if let Err(failure) = write(bundle, &saved) {
                log::error!("{failure}: lost events: {topics:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn saved(lengths: &[usize]) -> Saved {
        Saved {
            address: "/run/c.sock.ttrpc".to_owned(),
            requests: lengths.iter().map(|length| vec![7; *length]).collect(),
        }
    }

    #[test]
    fn events_are_read_as_they_were_saved_by_nobody_but_root() {
        let folder = std::env::temp_dir().join(format!("corten-saved-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(read(&folder).unwrap(), None);
        write(&folder, &saved(&[3, 0, 1])).unwrap();
        assert_eq!(read(&folder).unwrap(), Some(saved(&[3, 0, 1])));
        let path = folder.join(NAME);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        // What is there is not followed, waited for, or taken for events.
        std::fs::write(&path, "corten events").unwrap();
        assert!(read(&folder).is_err());
        remove(&folder).unwrap();
        let other = folder.join("other");
        std::fs::write(&other, saved(&[1]).to_bytes()).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(read(&folder).is_err());
        remove(&folder).unwrap();
        std::fs::remove_file(other).unwrap();
        let left = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(left, 0);
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn of_too_many_events_the_last_are_kept() {
        let mut all = saved(&[5, 1, 2, 3]);
        assert_eq!(all.limit(11), 0);
        assert_eq!(all.limit(8), 1);
        assert_eq!(all, saved(&[1, 2, 3]));
        assert_eq!(all.limit(5), 1);
        assert_eq!(all, saved(&[2, 3]));
        assert_eq!(all.limit(2), 2);
    }
}
