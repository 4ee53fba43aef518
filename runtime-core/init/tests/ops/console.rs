//! The pty: of the container's own devpts, sent out, the process's terminal.

use std::io::Read;

use corten_init::abi::{Kind, Op, Place, Slot, message};
use corten_init::sys::errno;

use super::flat::{Hand, Step};
use super::trial::{Trial, must};

fn devpts() -> [Step; 4] {
    [
        must(Op::NewFs {
            kind: "devpts".to_owned(),
            source: "devpts".to_owned(),
            data: "newinstance\0ptmxmode=0666\0mode=0620\0gid=5\0".to_owned(),
            attrs: 0,
            like: String::new(),
            into: Slot::MOUNT,
        }),
        must(Op::Attach {
            mount: Slot::MOUNT,
            dir: Slot::ROOT,
            path: "/dev/pts".to_owned(),
            place: Place::LikeSource,
        }),
        must(Op::Close { slot: Slot::MOUNT }),
        must(Op::OpenDir {
            path: "/dev".to_owned(),
            into: Slot::DEV,
        }),
    ]
}

fn open(uid: u32) -> Op<Hand> {
    Op::OpenPty {
        uid,
        rows: 40,
        columns: 132,
    }
}

#[test]
fn the_pty_is_the_containers_own_and_its_master_comes_out() {
    let mut init = Trial::new("pty")
        .bind_root()
        .steps(devpts())
        .steps([
            must(open(1000)),
            must(Op::BindConsole {}),
            must(Op::SendConsole {}),
            must(Op::NewSession {}),
            must(Op::UseConsole {}),
            must(Op::Exec {}),
        ])
        .args(&[
            "/bin/sh",
            "-c",
            "stty size; tty; stat -L -c '%u %g' /dev/fd/0; exit 3",
        ])
        .env(&["PATH=/bin:/usr/bin"])
        .go();
    let (kind, _, _, master) = init.hear();
    assert_eq!(kind, message::CONSOLE);
    let master = master.expect("a descriptor");
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    assert_eq!(name.to_str().unwrap(), "/dev/pts/0");
    let mut text = Vec::new();
    // EIO is a pty's way to say that its other side is closed.
    let end = std::fs::File::from(master)
        .read_to_end(&mut text)
        .unwrap_err();
    assert_eq!(end.raw_os_error(), Some(errno::EIO));
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"40 132"), "{text}");
    assert_eq!(lines.last(), Some(&"1000 5"), "{text}");
    assert_eq!(init.end(), Some(3));
}

#[test]
fn the_console_is_bound_on_dev_console() {
    let init = Trial::new("console")
        .bind_root()
        .steps(devpts())
        .steps([must(open(0)), must(Op::BindConsole {})])
        .stop();
    let console = init.mount_on("/dev/console");
    assert_eq!(
        (console.kind.as_str(), console.root.as_str()),
        ("devpts", "/0")
    );
}

#[test]
fn a_ptmx_that_is_none_is_an_impostor() {
    for (name, before) in [
        ("ptmx-file", "touch rootfs/dev/pts/ptmx"),
        ("ptmx-other", "mknod rootfs/dev/pts/ptmx c 1 3"),
        // The right number, but of the host's instance.
        ("ptmx-host", "mknod rootfs/dev/pts/ptmx c 5 2"),
    ] {
        let failed = Trial::new(name)
            .before("mkdir -p rootfs/dev/pts")
            .before(before)
            .bind_root()
            .step(open(0))
            .fails();
        assert_eq!(
            (failed.errno, failed.kind),
            (errno::ENODEV, Kind::Impostor),
            "{name}"
        );
        assert_eq!(failed.detail, "/dev/pts/ptmx");
    }
}

#[test]
fn a_ptmx_behind_a_link_is_refused() {
    for (name, before) in [
        (
            "ptmx-link",
            "mkdir rootfs/dev/pts; ln -s /dev/ptmx rootfs/dev/pts/ptmx",
        ),
        ("pts-link", "ln -s /elsewhere rootfs/dev/pts"),
    ] {
        let failed = Trial::new(name)
            .before("mkdir -p rootfs/dev rootfs/elsewhere")
            .before(before)
            .bind_root()
            .step(open(0))
            .fails();
        assert_eq!(failed.errno, errno::ELOOP, "{name}");
    }
}

#[test]
fn a_console_is_not_bound_over_a_link() {
    let failed = Trial::new("console-link")
        .before("mkdir -p rootfs/dev; touch rootfs/victim; ln -s ../victim rootfs/dev/console")
        .bind_root()
        .steps(devpts())
        .steps([must(open(0)), must(Op::BindConsole {})])
        .fails();
    assert_eq!(failed.errno, errno::ELOOP);
}
