//! Mounts whose options are one text, remounts, and links as sources and destinations.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use corten_init::abi::{Existing, Kind, Op, Place, Slot};
use corten_init::sys::errno;

use super::flat::Hand;
use super::trial::{Trial, must};

const MS_NOSUID: u64 = 2;

fn overlay(data: &str, path: &str) -> Op<Hand> {
    Op::MountAt {
        kind: "overlay".to_owned(),
        source: "layers".to_owned(),
        data: data.to_owned(),
        flags: MS_NOSUID,
        path: path.to_owned(),
    }
}

fn reconfigure(path: &str, options: &[&str]) -> Op<Hand> {
    Op::Reconfigure {
        path: path.to_owned(),
        data: options.iter().map(|word| format!("{word}\0")).collect(),
    }
}

fn open_tree(path: &str, nofollow: bool) -> Op<Hand> {
    Op::OpenTree {
        path: path.to_owned(),
        recursive: false,
        nofollow,
        into: Slot::MOUNT,
    }
}

fn attach(path: &str, place: Place) -> Op<Hand> {
    Op::Attach {
        mount: Slot::MOUNT,
        dir: Slot::ROOT,
        path: path.to_owned(),
        place,
    }
}

/// Layers on a tmpfs, since an overlay can't be made of every file system.
const LAYERS: &str = "mkdir t; mount -t tmpfs t t; mkdir t/a,b t/c t/up t/work
    echo a >t/a,b/of-a; echo c >t/c/of-c";

#[test]
fn a_file_system_with_its_options_as_one_text_is_mounted_where_it_belongs() {
    let trial = Trial::new("text").before(LAYERS).bind_root();
    let dir = trial.dir.to_str().unwrap().to_owned();
    let data = format!("lowerdir={dir}/t/a\\,b:{dir}/t/c,upperdir={dir}/t/up,workdir={dir}/t/work");
    // The working directory stays what it was: the relative path leads to the same folder.
    let init = trial
        .step(overlay(&data, "/new/place"))
        .step(open_tree("t/c", false))
        .step(attach("/c", Place::LikeSource))
        .stop();
    let mount = init.mount_on("/new/place");
    assert_eq!(
        (mount.kind.as_str(), mount.source.as_str()),
        ("overlay", "layers")
    );
    assert!(mount.has("nosuid"), "{mount:?}");
    assert_eq!(fs::read(init.path("/new/place/of-a")).unwrap(), b"a\n");
    assert_eq!(fs::read(init.path("/c/of-c")).unwrap(), b"c\n");
}

#[test]
fn a_text_that_the_file_system_does_not_take_is_an_error() {
    let failed = Trial::new("text-bad")
        .before(LAYERS)
        .bind_root()
        .step(overlay("frob=1", "/place"))
        .fails();
    assert_eq!(failed.errno, errno::EINVAL);
}

fn with_tmpfs(name: &str) -> Trial {
    Trial::new(name)
        .before("mkdir rootfs/t; mount -t tmpfs t rootfs/t; mkdir rootfs/t/dir")
        .bind_root()
}

#[test]
fn a_mounted_file_system_is_told_new_options() {
    let init = with_tmpfs("remount")
        .step(reconfigure("/t", &["size=128k"]))
        .stop();
    let mounts = init.mounts_on("/t");
    // Twice: where it was mounted, and in the tree of the root.
    assert!(
        mounts
            .iter()
            .all(|mount| mount.super_options.contains("size=128k")),
        "{mounts:?}"
    );
}

#[test]
fn options_that_can_not_be_changed_are_told_in_the_file_systems_words() {
    let failed = with_tmpfs("remount-bad")
        .step(reconfigure("/t", &["frob=1"]))
        .fails();
    assert_eq!(
        (failed.errno, failed.kind),
        (errno::EINVAL, Kind::FileSystem)
    );
    assert!(failed.detail.contains("frob"), "{failed:?}");
    // Nothing is mounted there.
    let failed = with_tmpfs("remount-none")
        .step(reconfigure("/t/dir", &["size=1m"]))
        .fails();
    assert_eq!(failed.errno, errno::EINVAL);
}

#[test]
fn a_link_is_mounted_itself_and_over_a_link_if_it_is_to_be_so() {
    let before = "echo one >one; ln -s one link; echo two >rootfs/two; ln -s two rootfs/over";
    let trial = Trial::new("links").before(before).bind_root();
    let dir = trial.dir.to_str().unwrap().to_owned();
    let init = trial
        .step(open_tree(&format!("{dir}/link"), true))
        .step(attach("/made", Place::LikeSource))
        .step(open_tree(&format!("{dir}/one"), false))
        .step(attach("/over", Place::NoFollow))
        .stop();
    let target = fs::read_link(init.path("/made")).unwrap();
    assert_eq!(target.to_str(), Some("one"));
    assert_eq!(fs::read(init.path("/over")).unwrap(), b"one\n");
    // What the link leads to is as it was.
    assert_eq!(fs::read(init.path("/two")).unwrap(), b"two\n");
}

/// A tmpfs on /dev in its slot, and another one that is attached to a name in it.
fn in_new_dev(name: &str, before: &str, between: Option<Op<Hand>>) -> Trial {
    let tmpfs = |into| Op::NewFs {
        kind: "tmpfs".to_owned(),
        source: "new".to_owned(),
        data: "mode=755\0".to_owned(),
        attrs: 0,
        like: String::new(),
        into,
    };
    let to = |mount, dir, path: &str, place| Op::Attach {
        mount,
        dir,
        path: path.to_owned(),
        place,
    };
    let trial = Trial::new(name)
        .before(before)
        .bind_root()
        .step(tmpfs(Slot::DEV))
        .step(to(Slot::DEV, Slot::ROOT, "/dev", Place::LikeSource))
        .steps(between.map(must))
        .step(tmpfs(Slot::MOUNT));
    trial.step(to(Slot::MOUNT, Slot::DEV, "shm", Place::New))
}

#[test]
fn a_new_mount_point_is_made_by_the_descriptor_of_what_it_is_in() {
    // Whatever the image has in place of /dev, and whoever changes it meanwhile.
    for (name, before, place) in [
        ("new", "mkdir rootfs/dev", "/dev"),
        (
            "new-link",
            "mkdir rootfs/other; ln -s /other rootfs/dev",
            "/other",
        ),
    ] {
        let init = in_new_dev(name, before, None).stop();
        assert_eq!(init.mount_on(&format!("{place}/shm")).source, "new");
        let of = |path: &str| fs::metadata(init.path(path)).unwrap();
        assert_eq!(of(place).permissions().mode() & 0o7777, 0o755);
        // Nothing came into the image.
        let image = init.trial.dir.join("rootfs").join(&place[1..]);
        assert_eq!(fs::read_dir(image).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn a_new_mount_point_that_another_path_has_made_is_found() {
    let path = "/run/shm".to_owned();
    let into = Slot::MOUNT;
    let before = "mkdir rootfs/dev; ln -s dev rootfs/run";
    let between = Op::OpenDir { path, into };
    let init = in_new_dev("new-again", before, Some(between)).stop();
    assert_eq!(init.mount_on("/dev/shm").source, "new");
}

#[test]
fn a_new_mount_point_that_is_a_link_stays_in_what_it_is_in() {
    let link = Op::MakeLink {
        dir: Slot::DEV,
        name: "shm".to_owned(),
        target: "../../tmp".to_owned(),
        existing: Existing::Keep,
    };
    let init = in_new_dev("new-taken", "mkdir rootfs/dev rootfs/tmp", Some(link)).stop();
    assert_eq!(init.mount_on("/dev/tmp").source, "new");
    assert!(init.mounts_on("/tmp").is_empty());
}

#[test]
fn a_destination_that_is_not_followed_must_be_there_and_not_be_the_kernels() {
    let over = |name: &str, path: &str| {
        let trial = Trial::new(name)
            .before("touch one; mkdir rootfs/proc; mount -t proc proc rootfs/proc")
            .bind_root();
        let source = trial.dir.join("one").to_str().unwrap().to_owned();
        trial
            .step(open_tree(&source, false))
            .step(attach(path, Place::NoFollow))
            .fails()
    };
    assert_eq!(over("not-there", "/none").errno, errno::ENOENT);
    let failed = over("magic", "/proc/self/exe");
    assert_eq!((failed.errno, failed.kind), (errno::EPERM, Kind::Plain));
    assert!(failed.detail.contains("kernel"), "{failed:?}");
}
