//! Nodes and links of the container's /dev.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use corten_init::abi::{Existing, Kind, OnError, Op, Slot};
use corten_init::sys::{errno, flag};

use super::flat::{Failed, Hand};
use super::trial::{Trial, must};

fn open_dev() -> Op<Hand> {
    Op::OpenDir {
        path: "/dev".to_owned(),
        into: Slot::DEV,
    }
}

fn node(name: &str, mode: u32, uid: u32) -> Op<Hand> {
    Op::MakeNode {
        dir: Slot::DEV,
        name: name.to_owned(),
        mode: flag::S_IFCHR | mode,
        major: 1,
        minor: 3,
        uid,
        gid: uid,
    }
}

fn bind(name: &str, source: &str, minor: u32) -> Op<Hand> {
    Op::BindNode {
        dir: Slot::DEV,
        name: name.to_owned(),
        source: source.to_owned(),
        kind: flag::S_IFCHR,
        major: 1,
        minor,
    }
}

fn link(name: &str, target: &str) -> Op<Hand> {
    Op::MakeLink {
        dir: Slot::DEV,
        name: name.to_owned(),
        target: target.to_owned(),
        existing: Existing::Keep,
    }
}

fn force_link(name: &str, target: &str) -> Op<Hand> {
    Op::MakeLink {
        dir: Slot::DEV,
        name: name.to_owned(),
        target: target.to_owned(),
        existing: Existing::Replace,
    }
}

fn trial(name: &str, before: &str) -> Trial {
    Trial::new(name)
        .before("mkdir rootfs/dev")
        .before(before)
        .bind_root()
        .step(open_dev())
}

#[test]
fn a_node_has_exactly_its_mode_number_and_owner_whatever_the_umask() {
    let init = trial("node", "umask 077")
        .step(node("null", 0o666, 0))
        .step(node("odd", 0o751, 7))
        .stop();
    for (name, mode, owner) in [("null", 0o666, 0), ("odd", 0o751, 7)] {
        let meta = fs::symlink_metadata(init.path(&format!("/dev/{name}"))).unwrap();
        assert!(meta.file_type().is_char_device());
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{name}");
        assert_eq!((meta.uid(), meta.gid()), (owner, owner));
        assert_eq!(meta.rdev(), 0x103);
    }
}

#[test]
fn what_is_made_on_the_way_has_its_mode_whatever_the_umask() {
    let init = Trial::new("umask")
        .before("umask 077")
        .bind_root()
        .step(open_dev())
        .stop();
    let mode = fs::metadata(init.path("/dev"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn a_node_that_an_image_or_an_earlier_container_has_is_taken_if_it_is_the_right_one() {
    let init = trial("again", "mknod -m 600 rootfs/dev/null c 1 3")
        .step(node("null", 0o666, 0))
        .stop();
    let meta = fs::metadata(init.path("/dev/null")).unwrap();
    assert_eq!(meta.rdev(), 0x103);
}

#[test]
fn a_name_that_is_taken_by_something_else_is_an_impostor() {
    let taken = |name: &str, before: &str| -> Failed {
        trial(name, before).step(node("null", 0o666, 0)).fails()
    };
    for (name, before) in [
        ("taken-file", "echo text >rootfs/dev/null"),
        ("taken-other", "mknod rootfs/dev/null c 1 5"),
        ("taken-block", "mknod rootfs/dev/null b 1 3"),
        ("taken-dir", "mkdir rootfs/dev/null"),
        ("taken-link", "ln -s /dev/zero rootfs/dev/null"),
        ("taken-dangling", "ln -s nothing rootfs/dev/null"),
    ] {
        let failed = taken(name, before);
        assert_eq!(
            (failed.errno, failed.kind),
            (errno::EEXIST, Kind::Impostor),
            "{name}"
        );
        assert_eq!(failed.detail, "null");
    }
}

#[test]
fn what_a_link_in_the_place_of_a_node_leads_to_is_not_changed() {
    let init = trial(
        "victim",
        "touch rootfs/victim; chmod 600 rootfs/victim; ln -s ../victim rootfs/dev/null",
    )
    .steps([(node("null", 0o666, 0), OnError::Warn)])
    .stop();
    let meta = fs::metadata(init.path("/victim")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_node_of_the_host_is_bound_over_an_empty_file() {
    let init = trial("bind", "").step(bind("null", "/dev/null", 3)).stop();
    let meta = fs::metadata(init.path("/dev/null")).unwrap();
    assert_eq!(meta.rdev(), 0x103);
    assert_eq!(init.mount_on("/dev/null").root, "/null");
}

#[test]
fn a_node_of_the_host_that_is_not_what_it_should_be_is_an_impostor() {
    let failed = trial("bind-other", "")
        .step(bind("null", "/dev/zero", 3))
        .fails();
    assert_eq!((failed.errno, failed.kind), (errno::ENODEV, Kind::Impostor));
    assert_eq!(failed.detail, "/dev/zero");
    let failed = trial("bind-missing", "")
        .step(bind("null", "/dev/corten-none", 3))
        .fails();
    assert_eq!(failed.errno, errno::ENOENT);
}

#[test]
fn a_node_is_not_bound_over_a_link() {
    let failed = trial(
        "bind-link",
        "touch rootfs/other; ln -s ../other rootfs/dev/null",
    )
    .step(bind("null", "/dev/null", 3))
    .fails();
    assert_eq!(failed.errno, errno::ELOOP);
}

#[test]
fn the_hosts_null_device_must_be_one() {
    let null = |name: &str, before: &str| {
        let into = Slot::NULL;
        Trial::new(name)
            .before(before)
            .step(Op::OpenNull { into })
            .fails()
    };
    let failed = null("null-file", "touch file; mount --bind file /dev/null");
    assert_eq!((failed.errno, failed.kind), (errno::ENODEV, Kind::Impostor));
    let failed = null("null-other", "mount --bind /dev/zero /dev/null");
    assert_eq!(
        (failed.kind, failed.detail.as_str()),
        (Kind::Impostor, "/dev/null")
    );
}

#[test]
fn a_link_holds_its_target_and_what_is_there_stays() {
    let init = trial(
        "links",
        "ln -s elsewhere rootfs/dev/fd; echo text >rootfs/dev/stdin",
    )
    .step(link("ptmx", "pts/ptmx"))
    .step(link("fd", "/proc/self/fd"))
    .step(link("stdin", "/proc/self/fd/0"))
    .stop();
    let target = |name: &str| fs::read_link(init.path(&format!("/dev/{name}")));
    assert_eq!(target("ptmx").unwrap().to_str(), Some("pts/ptmx"));
    assert_eq!(target("fd").unwrap().to_str(), Some("elsewhere"));
    assert_eq!(fs::read(init.path("/dev/stdin")).unwrap(), b"text\n");
}

#[test]
fn a_link_takes_the_place_of_what_is_there_if_it_has_to() {
    let init = trial(
        "replace",
        "cd rootfs/dev; ln -s pts/ptmx right; ln -s ../victim other; echo text >file; mkdir dir; \
         mknod node c 5 2; echo in the image >../victim; cd ../..",
    )
    .steps(["right", "other", "file", "dir", "node"].map(|name| must(force_link(name, "pts/ptmx"))))
    .stop();
    for name in ["right", "other", "file", "dir", "node"] {
        let target = fs::read_link(init.path(&format!("/dev/{name}"))).unwrap();
        assert_eq!(target.to_str(), Some("pts/ptmx"), "{name}");
    }
    assert_eq!(fs::read(init.path("/victim")).unwrap(), b"in the image\n");
}

#[test]
fn a_link_does_not_take_the_place_of_a_mount_or_of_a_full_folder() {
    let before = "touch rootfs/dev/ptmx; mount --bind /dev/zero rootfs/dev/ptmx";
    let init = trial("busy", before)
        .step(force_link("ptmx", "pts/ptmx"))
        .stop();
    assert_eq!(fs::metadata(init.path("/dev/ptmx")).unwrap().rdev(), 0x105);
    let failed = trial("full", "mkdir -p rootfs/dev/ptmx/below")
        .step(force_link("ptmx", "pts/ptmx"))
        .fails();
    assert_eq!(failed.errno, errno::ENOTEMPTY);
}

#[test]
fn a_block_device_of_the_host_is_bound_only_if_it_is_one() {
    let as_block = |number: u32| Op::BindNode {
        dir: Slot::DEV,
        name: "disk".to_owned(),
        source: "/dev/disk".to_owned(),
        kind: flag::S_IFBLK,
        major: 7,
        minor: number,
    };
    // In a /dev of its own, so that the machine's stays as it is.
    let before = "mount -t tmpfs tmpfs /dev; mknod /dev/disk b 7 63";
    let init = trial("block", before).step(as_block(63)).stop();
    let meta = fs::metadata(init.path("/dev/disk")).unwrap();
    assert!(meta.file_type().is_block_device());
    let failed = trial("block-other", before).step(as_block(62)).fails();
    assert_eq!(failed.kind, Kind::Impostor);
    let before = "mount -t tmpfs tmpfs /dev; mknod /dev/disk c 7 63";
    let failed = trial("block-char", before).step(as_block(63)).fails();
    assert_eq!(failed.kind, Kind::Impostor);
}

#[test]
fn a_fifo_is_made_with_its_mode_and_owner() {
    let fifo = Op::MakeNode {
        dir: Slot::DEV,
        name: "fifo".to_owned(),
        mode: flag::S_IFIFO | 0o640,
        major: 0,
        minor: 0,
        uid: 7,
        gid: 8,
    };
    let init = trial("fifo", "").step(fifo.clone()).stop();
    let meta = fs::metadata(init.path("/dev/fifo")).unwrap();
    assert!(meta.file_type().is_fifo());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    assert_eq!((meta.uid(), meta.gid()), (7, 8));
    // And taken again by the next container of the same root.
    drop(
        trial("fifo-again", "mkfifo rootfs/dev/fifo")
            .step(fifo)
            .stop(),
    );
}

#[test]
fn a_node_whose_owner_is_not_said_is_of_who_makes_it() {
    let before = "chmod 777 rootfs/dev; chown 7:8 rootfs/dev";
    let init = trial("as-made", before)
        .step(node("null", 0o666, u32::MAX))
        .stop();
    let meta = fs::symlink_metadata(init.path("/dev/null")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (0, 0));
    assert_eq!(meta.permissions().mode() & 0o7777, 0o666);
}

#[test]
fn the_owner_of_a_node_is_not_that_of_its_folder() {
    let init = trial("setgid", "chgrp 50 rootfs/dev; chmod g+s rootfs/dev")
        .step(node("null", 0o666, 0))
        .stop();
    let meta = fs::metadata(init.path("/dev/null")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (0, 0));
}
