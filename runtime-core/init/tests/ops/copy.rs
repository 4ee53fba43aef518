//! A new tmpfs that looks like what it hides: its mode, and its contents by `tmpcopyup`.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use corten_init::abi::{Op, Place, Slot};
use corten_init::sys::errno;

use super::flat::Hand;
use super::trial::{Stopped, Trial};

fn tmpfs(like: &str) -> Op<Hand> {
    Op::NewFs {
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        data: String::new(),
        attrs: 0,
        like: like.to_owned(),
        into: Slot::MOUNT,
    }
}

fn copy_up(path: &str) -> Op<Hand> {
    Op::CopyUp {
        path: path.to_owned(),
        mount: Slot::MOUNT,
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

/// A trial with a tmpfs on /full, which holds what was there.
fn copied(name: &str, before: &str) -> Trial {
    Trial::new(name)
        .before("mkdir rootfs/full; cd rootfs/full")
        .before(before)
        .before("cd ../..")
        .bind_root()
        .step(tmpfs("/full"))
        .step(copy_up("/full"))
        .step(attach("/full"))
}

fn mode(init: &Stopped, path: &str) -> u32 {
    let meta = fs::symlink_metadata(init.path(path)).unwrap();
    meta.permissions().mode() & 0o7777
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_hides_and_the_kernels_where_nothing_is() {
    for (path, expected) in [
        ("/plain", 0o750),
        ("/sticky", 0o3777),
        ("/none", 0o1777),
        ("/link", 0o750),
        ("/dangling", 0o1777),
    ] {
        let init = Trial::new(&format!("like{}", path.replace('/', "-")))
            .before("mkdir -m 750 rootfs/plain; mkdir -m 3777 rootfs/sticky")
            .before("ln -s /plain rootfs/link; ln -s /nothing rootfs/dangling")
            .bind_root()
            .step(tmpfs(path))
            .step(attach(path))
            .stop();
        let real = match path {
            "/link" => "/plain",
            "/dangling" => "/nothing",
            other => other,
        };
        assert_eq!(mode(&init, real), expected, "{path}");
        assert_eq!(init.mount_on(real).kind, "tmpfs");
    }
}

#[test]
fn files_folders_links_and_fifos_are_copied_with_mode_and_owner() {
    let init = copied(
        "all",
        "umask 077; echo text >file; chmod 4751 file; chown 7:8 file; chmod u+s file
         mkdir -p a/b/c; echo deep >a/b/c/deep; chmod 2775 a; chown 9:9 a/b
         ln -s /etc/shadow link; chown -h 5:6 link; mkfifo -m 622 fifo; mknod -m 640 null c 1 3
         touch empty; chmod 000 empty",
    )
    .stop();
    let at = |path: &str| format!("/full/{path}");
    assert_eq!(fs::read(init.path("/full/file")).unwrap(), b"text\n");
    assert_eq!(fs::read(init.path("/full/a/b/c/deep")).unwrap(), b"deep\n");
    let target = fs::read_link(init.path("/full/link")).unwrap();
    assert_eq!(target.to_str(), Some("/etc/shadow"));
    for (path, bits, uid, gid) in [
        ("file", 0o4751, 7, 8),
        ("a", 0o2775, 0, 0),
        ("a/b", 0o700, 9, 9),
        ("link", 0o777, 5, 6),
        ("fifo", 0o622, 0, 0),
        ("null", 0o640, 0, 0),
        ("empty", 0, 0, 0),
    ] {
        let meta = fs::symlink_metadata(init.path(&at(path))).unwrap();
        assert_eq!(mode(&init, &at(path)), bits, "{path}");
        assert_eq!((meta.uid(), meta.gid()), (uid, gid), "{path}");
    }
    let kind = |path: &str| fs::symlink_metadata(init.path(&at(path))).unwrap();
    assert!(kind("fifo").file_type().is_fifo());
    assert_eq!(kind("null").rdev(), 0x103);
    // What was there is as it was.
    assert_eq!(init.mount_on("/full").kind, "tmpfs");
}

#[test]
fn many_files_many_folders_and_a_large_file_are_all_there() {
    let init = copied(
        "many",
        "for i in $(seq 300); do mkdir d$i; echo $i >d$i/f; echo $i >f$i; done
         head -c 100001 /dev/urandom >large; cp large ../kept",
    )
    .stop();
    let names = fs::read_dir(init.path("/full")).unwrap().count();
    assert_eq!(names, 601);
    for i in 1..=300 {
        for path in [format!("/full/d{i}/f"), format!("/full/f{i}")] {
            let text = fs::read_to_string(init.path(&path)).unwrap();
            assert_eq!(text, format!("{i}\n"));
        }
    }
    let large = fs::read(init.path("/full/large")).unwrap();
    assert_eq!(large, fs::read(init.path("/kept")).unwrap());
}

#[test]
fn nothing_to_copy_is_no_error() {
    let init = Trial::new("copy-none")
        .bind_root()
        .step(tmpfs(""))
        .step(copy_up("/none"))
        .step(attach("/none"))
        .stop();
    assert_eq!(fs::read_dir(init.path("/none")).unwrap().count(), 0);
}

#[test]
fn a_tree_that_is_too_deep_ends_with_an_error_that_names_it() {
    let deep = |levels: usize| vec!["d"; levels].join("/");
    let init = copied("deep", &format!("mkdir -p {}", deep(127))).stop();
    assert!(init.path(&format!("/full/{}", deep(127))).is_dir());
    drop(init);
    let failed = copied("deeper", &format!("mkdir -p {}", deep(128))).fails();
    assert_eq!(failed.errno, errno::ELOOP);
    assert!(failed.detail.starts_with("d/d/d/"), "{failed:?}");
}

#[test]
fn a_tmpfs_that_is_full_is_named_with_the_file() {
    let Op::NewFs { kind, source, .. } = tmpfs("") else {
        unreachable!("made above");
    };
    let small = Op::NewFs {
        kind,
        source,
        data: "size=8k\0".to_owned(),
        attrs: 0,
        like: String::new(),
        into: Slot::MOUNT,
    };
    let failed = Trial::new("copy-full")
        .before("mkdir -p rootfs/full/a; head -c 100000 /dev/zero >rootfs/full/a/big")
        .bind_root()
        .step(small)
        .step(copy_up("/full"))
        .fails();
    const ENOSPC: i32 = 28;
    assert_eq!((failed.errno, failed.detail.as_str()), (ENOSPC, "a/big"));
}

#[test]
fn it_works_with_few_descriptors() {
    let deep = vec!["d"; 100].join("/");
    let init = copied("copy-fds", &format!("mkdir -p {deep}; touch {deep}/file"))
        .started_by("prlimit --nofile=24")
        .stop();
    assert!(init.path(&format!("/full/{deep}/file")).exists());
}
