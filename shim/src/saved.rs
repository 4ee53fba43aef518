//! [`Saved`]: events that containerd has not taken when their shim ends.
//!
//! They wait in the bundles of their containers. So `delete`, which is called for each of these,
//! finds its own, and they go with the bundle if nobody ever asks. What reads them is `deliver`,
//! which also takes those that find no room there.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use prost::Message as _;

use crate::daemon::Shim;
use crate::deliver;
use crate::engine::Key;
use crate::exit;
use crate::failure::Failure;
use crate::proto::events::TaskExit;

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
    /// How the first process of the container has ended, taken by containerd or not: `delete`
    /// answers it.
    #[prost(message, optional, tag = "3")]
    pub(crate) exit: Option<TaskExit>,
}

/// What a bundle has.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    Nothing,
    Events(Saved),
    /// Not what a shim has put there.
    Other(Failure),
}

impl Saved {
    /// Header and message.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [HEADER, &self.encode_to_vec()].concat()
    }

    /// Reads what [`Self::to_bytes`] gives; all else is `InvalidData`.
    pub(crate) fn read(file: impl io::Read) -> io::Result<Saved> {
        let mut bytes = Vec::new();
        // Numbers and lengths come on top of the events.
        file.take(2 * MAX as u64).read_to_end(&mut bytes)?;
        let message = bytes.strip_prefix(HEADER);
        let wrong = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let message = message.ok_or_else(|| wrong("no events of a shim".to_owned()))?;
        Saved::decode(message).map_err(|error| wrong(error.to_string()))
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

/// Puts events into a bundle in place of those that are there, all or none.
pub(crate) fn write(bundle: &Path, saved: &Saved) -> Result<(), Failure> {
    let (new, path) = (bundle.join(NEW), bundle.join(NAME));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    // One that was killed has left it.
    remove_file(&new)
        .and_then(|()| options.open(&new))
        // A crash of the machine takes all bundles: nothing has to reach a disk.
        .and_then(|mut file| file.write_all(&saved.to_bytes()))
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(|error| {
            if let Err(error) = remove_file(&new) {
                log::warn!("{}: {error}", new.display());
            }
            Failure::call(path.display(), error)
        })
}

/// The events in a bundle. One that fails may find them the next time.
pub(crate) fn read(bundle: &Path) -> Result<Found, Failure> {
    let path = bundle.join(NAME);
    let mut options = OpenOptions::new();
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = options.read(true).custom_flags(flags).open(&path);
    match file.and_then(|file: File| Saved::read(file)) {
        Ok(saved) => Ok(Found::Events(saved)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) if is_other(&error) => Ok(Found::Other(Failure::call(path.display(), error))),
        Err(error) => Err(Failure::call(path.display(), error)),
    }
}

/// Whether what was read can't be events: a symlink, a directory, a socket, other bytes. What a
/// full table of files or a disk says is no such thing.
fn is_other(error: &io::Error) -> bool {
    use nix::libc::{EISDIR, ELOOP, ENXIO};
    let kind = error.kind() == io::ErrorKind::InvalidData;
    kind || matches!(error.raw_os_error(), Some(ELOOP | EISDIR | ENXIO))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Shim {
    /// Puts what containerd has not taken into the bundles, for `delete`, and how containers
    /// have ended. Nothing is sent any more.
    ///
    /// Events that a bundle can't take, as one that is gone, are left to a process; the log says
    /// what is lost where that fails too.
    pub(crate) fn save_events(&mut self) {
        // Else what is sent now is saved as well.
        self.publisher.stop();
        // What waits would be begun, and never done.
        self.late.clear();
        self.draining.clear();
        self.finish_work();
        for id in self.tasks.keys().cloned().collect::<Vec<_>>() {
            self.tell_oom(&id);
        }
        // Of what has just ended.
        self.collect_all();
        self.tell_untold();
        for (bundle, mut saved) in self.unsaved() {
            let over = saved.limit(MAX);
            if over > 0 {
                log::error!("{}: the first {over} events are lost", bundle.display());
            }
            let Err(failure) = write(bundle, &saved) else {
                continue;
            };
            let count = saved.requests.len();
            if count == 0 {
                log::warn!("{failure}");
                continue;
            }
            let id = bundle.file_name().unwrap_or_default().to_string_lossy();
            match deliver::hand_over(&self.namespace, &id, &saved) {
                Ok(()) => log::warn!("{failure}: {count} events are left to a process"),
                Err(error) => log::error!("{failure}: {count} events are lost: {error}"),
            }
        }
    }

    /// What each bundle is to have.
    fn unsaved(&self) -> BTreeMap<&Path, Saved> {
        let mut bundles: BTreeMap<&Path, Saved> = BTreeMap::new();
        for event in self.publisher.left() {
            let saved = bundles.entry(&event.bundle).or_default();
            saved.requests.push(event.payload.clone());
        }
        for (id, task) in &self.tasks {
            if let Some(exit) = task.init.exit {
                let key = Key {
                    id: id.clone(),
                    exec: String::new(),
                };
                let saved = bundles.entry(Path::new(&task.bundle)).or_default();
                saved.exit = Some(exit::event(&key, task.init.pid, exit));
            }
        }
        let address = self.publisher.address().display().to_string();
        for saved in bundles.values_mut() {
            saved.address.clone_from(&address);
        }
        bundles
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
            exit: None,
        }
    }

    #[test]
    fn events_are_read_as_they_were_saved_by_nobody_but_root() {
        let folder = std::env::temp_dir().join(format!("corten-saved-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(read(&folder).unwrap(), Found::Nothing);
        // Of one that was killed.
        std::fs::write(folder.join(NEW), "corten").unwrap();
        for one in [saved(&[3]), saved(&[3, 0, 1])] {
            write(&folder, &one).unwrap();
            assert_eq!(read(&folder).unwrap(), Found::Events(one));
        }
        let path = folder.join(NAME);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let left = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(left, 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_not_of_a_shim_is_not_followed_waited_for_or_taken_for_events() {
        use std::os::unix::net::UnixListener;

        let folder = std::env::temp_dir().join(format!("corten-other-{}", std::process::id()));
        let path = folder.join(NAME);
        let other = folder.join("other");
        let all: [&dyn Fn(); 6] = [
            &|| std::fs::write(&path, "corten events").unwrap(),
            &|| std::fs::write(&path, [HEADER, b"\x0agarbage"].concat()).unwrap(),
            &|| std::os::unix::fs::symlink(&other, &path).unwrap(),
            &|| std::fs::create_dir(&path).unwrap(),
            &|| drop(UnixListener::bind(&path).unwrap()),
            &|| {
                let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
                rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
            },
        ];
        for make in all {
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(&other, saved(&[1]).to_bytes()).unwrap();
            make();
            let found = read(&folder).unwrap();
            assert!(matches!(found, Found::Other(_)), "{found:?}");
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }

    #[test]
    fn a_read_that_fails_is_not_taken_for_something_else_than_events() {
        // Nothing is mapped at the address 0.
        let mem = std::fs::File::open("/proc/self/mem").unwrap();
        let error = Saved::read(mem).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EIO));
        assert!(!is_other(&error));
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
