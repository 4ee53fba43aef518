//! Nodes and links of the container's /dev.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use corten_init::abi::{Kind, OnError, Op, Slot};
use corten_init::sys::{errno, flag};

use super::flat::{Failed, Hand};
use super::trial::Trial;

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
        major: 1,
        minor,
    }
}

fn link(name: &str, target: &str) -> Op<Hand> {
    Op::MakeLink {
        dir: Slot::DEV,
        name: name.to_owned(),
        target: target.to_owned(),
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
