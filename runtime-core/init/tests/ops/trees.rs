//! Sources that are kept on a tmpfs, and ids of mounts.

use std::fs;
use std::os::unix::fs::MetadataExt;

use corten_init::abi::{Kind, Op, Place, Slot};
use corten_init::sys::errno;

use super::flat::Hand;
use super::trial::{Stopped, Trial};

const CLONE_NEWNS: u64 = 0x0002_0000;
const MS_SLAVE: u64 = 1 << 19;
const MS_REC: u64 = 0x4000;

fn open_tree(path: &str, recursive: bool) -> Op<Hand> {
    Op::OpenTree {
        path: path.to_owned(),
        recursive,
        nofollow: true,
        into: Slot::MOUNT,
    }
}

fn keep(name: &str) -> Op<Hand> {
    Op::KeepTree {
        mount: Slot::MOUNT,
        name: name.to_owned(),
    }
}

fn attach(path: &str) -> Op<Hand> {
    Op::Attach {
        mount: Slot::MOUNT,
        dir: Slot::ROOT,
        path: path.to_owned(),
        place: Place::LikeSource,
    }
}

/// A trial whose next steps are in a mount namespace of their own, with a tmpfs for trees.
fn with_trees(name: &str, before: &str) -> Trial {
    let trial = Trial::new(name).before("mkdir trees").before(before);
    let path = trial.dir.join("trees").to_str().unwrap().to_owned();
    trial
        .step(Op::Unshare { flags: CLONE_NEWNS })
        .step(Op::Propagation {
            kind: MS_SLAVE | MS_REC,
        })
        .step(Op::MountTrees { path })
}

/// Keeps a source in one mount namespace and takes it in the next, made from it.
fn kept_and_taken(trial: Trial, source: &str, recursive: bool) -> Stopped {
    let source = trial.dir.join(source).to_str().unwrap().to_owned();
    trial
        .step(open_tree(&source, recursive))
        .step(keep("0"))
        .step(Op::Close { slot: Slot::MOUNT })
        .step(Op::Unshare { flags: CLONE_NEWNS })
        .bind_root()
        .step(open_tree("0", true))
        .step(attach("/kept"))
        .stop()
}

#[test]
fn what_was_kept_is_taken_in_a_mount_namespace_that_is_made_later() {
    let before = "mkdir -p dir/sub; echo text >dir/file; mount -t tmpfs inner dir/sub";
    for recursive in [false, true] {
        let trial = with_trees(&format!("kept-{recursive}"), before);
        let init = kept_and_taken(trial, "dir", recursive);
        assert_eq!(fs::read(init.path("/kept/file")).unwrap(), b"text\n");
        let inner = init.mounts_on("/kept/sub");
        assert_eq!(inner.len(), usize::from(recursive), "{inner:?}");
    }
    let init = kept_and_taken(with_trees("kept-file", before), "dir/file", false);
    assert_eq!(fs::read(init.path("/kept")).unwrap(), b"text\n");
    let before = "ln -s somewhere link";
    let init = kept_and_taken(with_trees("kept-link", before), "link", false);
    let target = fs::read_link(init.path("/kept")).unwrap();
    assert_eq!(target.to_str(), Some("somewhere"));
}

#[test]
fn the_trees_are_nobody_elses_to_look_at() {
    let init = with_trees("trees", "").bind_root().stop();
    let path = init.trial.dir.join("trees");
    let found = init.own_path(path.to_str().unwrap());
    let mode = fs::metadata(found).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o711);
    let mounts = init.mounts();
    let trees = mounts.iter().find(|mount| mount.source == "trees").unwrap();
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(trees.has(option), "{trees:?}");
    }
}

/// The owner's own map of a user namespace that is in a slot, made by the shell before.
fn idmap(recursive: bool) -> Op<Hand> {
    Op::Idmap {
        mount: Slot::MOUNT,
        map: Slot::ID_MAPS,
        recursive,
    }
}

fn open_namespace() -> Op<Hand> {
    Op::OpenNamespace {
        path: "/proc/self/ns/user".to_owned(),
        kind: 0x1000_0000,
        into: Slot::ID_MAPS,
    }
}

#[test]
fn a_file_system_whose_ids_can_not_be_mapped_is_named_by_its_number() {
    // With the initial user namespace the kernel gives EPERM before it looks at the file
    // system, so this one has to be another.
    let failed = Trial::new("no-idmap")
        .namespace("--map-root-user")
        .before("mkdir p; mount -t proc proc p 2>/dev/null || mount --rbind /proc p")
        .step(open_namespace())
        .step(open_tree("/proc", true))
        .step(idmap(false))
        .fails();
    assert!(
        (failed.errno, failed.kind, failed.detail.as_str())
            == (errno::EINVAL, Kind::NoIdMap, "00009fa0")
            || failed.errno == errno::EPERM,
        "{failed:?}"
    );
}

#[test]
fn the_initial_user_namespace_is_no_map() {
    let failed = Trial::new("init-idmap")
        .before("mkdir dir; mount -t tmpfs t dir")
        .step(open_namespace())
        .step(open_tree("/tmp", false))
        .step(idmap(false))
        .fails();
    assert_eq!((failed.errno, failed.kind), (errno::EPERM, Kind::Plain));
}
