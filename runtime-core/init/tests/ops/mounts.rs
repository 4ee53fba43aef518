//! Mounts: the root, new file systems, binds, attributes, masks, the pivot.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use corten_init::abi::{Kind, Op, Place, Slot, report};
use corten_init::sys::{errno, flag};

use super::flat::Hand;
use super::trial::{Stopped, Trial, must, skip_on};

const MS_SHARED: u64 = 1 << 20;
const MS_SLAVE: u64 = flag::MS_SLAVE | flag::MS_REC;
const MOUNT_ATTR_NOATIME: u64 = 0x10;
const MOUNT_ATTR_ATIME: u64 = 0x70;

fn new_fs(kind: &str, data: &[&str], attrs: u64) -> Op<Hand> {
    let data: String = data.iter().map(|word| format!("{word}\0")).collect();
    Op::NewFs {
        kind: kind.to_owned(),
        source: format!("the-{kind}"),
        data,
        attrs,
        like: String::new(),
        into: Slot::MOUNT,
    }
}

fn open_tree(path: &str, recursive: bool) -> Op<Hand> {
    Op::OpenTree {
        path: path.to_owned(),
        recursive,
        nofollow: false,
        into: Slot::MOUNT,
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

fn attach_plain(path: &str) -> Op<Hand> {
    Op::Attach {
        mount: Slot::MOUNT,
        dir: Slot::ROOT,
        path: path.to_owned(),
        place: Place::OrdinaryDirectory,
    }
}

fn set_attr(set: u64, clear: u64, propagation: u64, recursive: bool) -> Op<Hand> {
    Op::SetAttr {
        mount: Slot::MOUNT,
        set,
        clear,
        propagation,
        recursive,
    }
}

fn set_attr_at(path: &str, set: u64, clear: u64) -> Op<Hand> {
    Op::SetAttrAt {
        path: path.to_owned(),
        set,
        clear,
        propagation: 0,
        recursive: false,
    }
}

fn mask(path: &str) -> Op<Hand> {
    let path = path.to_owned();
    let dir = Slot::ROOT;
    Op::MaskPath {
        dir,
        path,
        kernels: false,
    }
}

fn readonly(path: &str) -> Op<Hand> {
    let path = path.to_owned();
    let dir = Slot::ROOT;
    Op::ReadonlyPath { dir, path }
}

/// A trial with the root bound and a tmpfs ready in the slot.
fn with_tmpfs(name: &str) -> Trial {
    Trial::new(name)
        .before("echo in the image >rootfs/file; mkdir rootfs/dir")
        .bind_root()
        .step(new_fs("tmpfs", &[], 0))
}

fn names(stopped: &Stopped, path: &str) -> Vec<String> {
    let entries = fs::read_dir(stopped.path(path)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A second mount namespace, so that mounts shared in the first, which a descriptor keeps, have
/// peers there.
const PEERS: &str = "unshare --mount --propagation unchanged";
const KEEP: &str = "exec 3</proc/self/ns/mnt";

#[test]
fn the_root_is_a_private_mount_with_all_that_was_mounted_in_it() {
    let init = Trial::new("root")
        .before("mount --make-rshared /; mkdir rootfs/a")
        .before("mount -t tmpfs inner rootfs/a; mkdir rootfs/a/b")
        .before(KEEP)
        .started_by(PEERS)
        .step(Op::Propagation { kind: MS_SLAVE })
        .bind_root()
        .stop();
    let root = init.mount_on("");
    assert_eq!(root.optional, "");
    assert_eq!(names(&init, "a"), ["b"]);
    // What is mounted below keeps the propagation that it had.
    let inner = init.mounts_on("/a");
    assert!(!inner.is_empty());
    for mount in inner {
        assert_eq!(mount.source, "inner");
        assert!(mount.optional.starts_with("master:"), "{mount:?}");
    }
}

#[test]
fn a_root_that_is_no_directory_or_missing_is_an_error() {
    let root = |name: &str, path: &str| {
        let trial = Trial::new(name);
        let path = format!("{}/{path}", trial.root());
        let into = Slot::ROOT;
        trial
            .before("touch rootfs/file")
            .step(Op::BindRoot { path, into })
            .fails()
            .errno
    };
    assert_eq!(root("root-file", "file"), errno::ENOTDIR);
    assert_eq!(root("root-missing", "missing"), errno::ENOENT);
}

#[test]
fn propagation_is_set_for_all_mounts() {
    let optional = |name: &str, kind: u64| {
        let init = Trial::new(name)
            .before("mount --make-rshared /; mkdir rootfs/a; mount -t tmpfs x rootfs/a")
            .before(KEEP)
            .started_by(PEERS)
            .step(Op::Propagation { kind })
            .stop();
        init.mounts()
            .into_iter()
            .map(|mount| mount.optional)
            .collect::<Vec<_>>()
    };
    let slaves = optional("slave", MS_SLAVE);
    assert!(
        slaves.iter().all(|words| words.starts_with("master:")),
        "{slaves:?}"
    );
    let private = optional("private", flag::MS_PRIVATE | flag::MS_REC);
    assert!(private.iter().all(String::is_empty), "{private:?}");
}

#[test]
fn a_new_file_system_has_its_source_options_and_attributes() {
    let attrs = flag::MOUNT_ATTR_NOSUID | flag::MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME;
    let init = Trial::new("newfs")
        .bind_root()
        .step(new_fs(
            "tmpfs",
            &["size=64k", "mode=751", "uid=5", "gid=6"],
            attrs,
        ))
        .step(attach("/made/here"))
        .stop();
    let mount = init.mount_on("/made/here");
    assert_eq!(
        (mount.kind.as_str(), mount.source.as_str()),
        ("tmpfs", "the-tmpfs")
    );
    assert_eq!(mount.options, "rw,nosuid,nodev,noatime");
    assert!(mount.super_options.contains("size=64k"), "{mount:?}");
    let meta = fs::metadata(init.path("/made/here")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o751);
    assert_eq!((meta.uid(), meta.gid()), (5, 6));
}

#[test]
fn an_unknown_file_system_is_enodev() {
    let failed = Trial::new("nofs").step(new_fs("frobfs", &[], 0)).fails();
    assert_eq!((failed.errno, failed.kind), (errno::ENODEV, Kind::Plain));
}

#[test]
fn the_file_systems_own_words_are_in_the_report() {
    for (name, option) in [
        ("option", "frob"),
        ("option-value", "size=much"),
        ("option-key", "frob=1"),
    ] {
        let failed = Trial::new(name)
            .step(new_fs("tmpfs", &["mode=700", option], 0))
            .fails();
        assert_eq!(
            (failed.errno, failed.kind),
            (errno::EINVAL, Kind::FileSystem)
        );
        let word = option.split('=').next().unwrap();
        assert!(failed.detail.contains(word), "{failed:?}");
        assert!(!failed.detail.contains('\n'), "{failed:?}");
    }
}

#[test]
fn a_key_longer_than_the_kernel_takes_is_an_error() {
    let key = format!("{}=1", "k".repeat(300));
    let failed = Trial::new("key").step(new_fs("tmpfs", &[&key], 0)).fails();
    assert_eq!(failed.errno, errno::EINVAL);
}

#[test]
fn a_mount_point_that_is_missing_is_made_as_the_mounts_root_is() {
    let init = Trial::new("made")
        .before("echo text >source; mkdir dir")
        .bind_root();
    let dir = init.dir.clone();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let init = init
        .step(open_tree(&path("source"), false))
        .step(attach("/etc/new/file"))
        .step(open_tree(&path("dir"), false))
        .step(attach("/etc/new/dir"))
        .stop();
    assert_eq!(fs::read(init.path("/etc/new/file")).unwrap(), b"text\n");
    assert!(fs::metadata(init.path("/etc/new/dir")).unwrap().is_dir());
    assert_eq!(init.mount_on("/etc/new/dir").options, "rw,relatime");
}

#[test]
fn a_directory_is_not_attached_over_a_file_nor_a_file_over_a_directory() {
    assert_eq!(
        with_tmpfs("over-file").step(attach("/file")).fails().errno,
        errno::ENOTDIR
    );
    let trial = Trial::new("over-dir")
        .before("touch source; mkdir rootfs/dir")
        .bind_root();
    let source = trial.dir.join("source").to_str().unwrap().to_owned();
    let failed = trial
        .step(open_tree(&source, false))
        .step(attach("/dir"))
        .fails();
    assert_eq!(failed.errno, errno::ENOTDIR);
}

#[test]
fn a_mount_over_a_link_lands_where_the_link_leads_inside_the_root() {
    let init = with_tmpfs("link")
        .before("ln -s /../../dir rootfs/absolute; ln -s ../../../../new rootfs/dangling")
        .step(attach("/absolute"))
        .step(new_fs("tmpfs", &[], 0))
        .step(attach("/dangling/deep"))
        .stop();
    assert_eq!(init.mount_on("/dir").kind, "tmpfs");
    assert_eq!(init.mount_on("/new/deep").kind, "tmpfs");
}

#[test]
fn proc_and_sysfs_want_a_directory_without_a_link_on_the_way() {
    let through = |name: &str, commands: &str| {
        with_tmpfs(name)
            .before(commands)
            .step(attach_plain("/proc"))
            .fails()
    };
    let link = through("proc-link", "ln -s dir rootfs/proc");
    assert_eq!(
        (link.errno, link.kind),
        (errno::ELOOP, Kind::NotOrdinaryDirectory)
    );
    let dangling = through("proc-dangling", "ln -s nothing rootfs/proc");
    assert_eq!(dangling.kind, Kind::NotOrdinaryDirectory);
    assert_eq!(
        through("proc-file", "touch rootfs/proc").errno,
        errno::ENOTDIR
    );
    let init = with_tmpfs("proc-made").step(attach_plain("/proc")).stop();
    assert_eq!(init.mount_on("/proc").kind, "tmpfs");
}

#[test]
fn a_bind_takes_what_is_mounted_below_only_if_it_is_recursive() {
    let bound = |name: &str, recursive: bool| {
        let trial = Trial::new(name)
            .before("mkdir -p tree/sub; mount -t tmpfs inner tree/sub; touch tree/sub/inside")
            .bind_root();
        let tree = trial.dir.join("tree").to_str().unwrap().to_owned();
        let init = trial
            .step(open_tree(&tree, recursive))
            .step(attach("/tree"))
            .stop();
        names(&init, "/tree/sub")
    };
    assert_eq!(bound("rbind", true), ["inside"]);
    assert!(bound("bind", false).is_empty());
}

#[test]
fn attributes_are_set_and_cleared_on_a_tree_or_on_its_top() {
    let options = |name: &str, recursive: bool| {
        let trial = Trial::new(name)
            .before(
                "mkdir -p tree; mount -t tmpfs -o nodev,noatime top tree
                 mkdir tree/sub; mount -t tmpfs -o nodev inner tree/sub",
            )
            .bind_root();
        let tree = trial.dir.join("tree").to_str().unwrap().to_owned();
        let set = flag::MOUNT_ATTR_RDONLY | flag::MOUNT_ATTR_NOEXEC;
        let clear = flag::MOUNT_ATTR_NODEV | MOUNT_ATTR_ATIME;
        let init = trial
            .step(open_tree(&tree, true))
            .step(set_attr(set, clear, 0, recursive))
            .step(attach("/tree"))
            .stop();
        ["/tree", "/tree/sub"].map(|path| init.mount_on(path).options)
    };
    assert_eq!(
        options("attr", false),
        ["ro,noexec,relatime", "rw,nodev,relatime"]
    );
    assert_eq!(
        options("attr-tree", true),
        ["ro,noexec,relatime", "ro,noexec,relatime"]
    );
}

#[test]
fn propagation_of_one_mount_is_its_own() {
    let init = with_tmpfs("propagation")
        .step(set_attr(0, 0, MS_SHARED, false))
        .step(attach("/dir"))
        .stop();
    assert!(init.mount_on("/dir").optional.starts_with("shared:"));
    assert_eq!(init.mount_on("").optional, "");
}

#[test]
fn a_mount_in_place_is_changed_by_its_path_in_the_container() {
    let init = with_tmpfs("remount")
        .before("ln -s dir rootfs/link")
        .step(attach("/dir"))
        .step(set_attr_at("/link/../dir", flag::MOUNT_ATTR_RDONLY, 0))
        .step(set_attr_at("/", flag::MOUNT_ATTR_NOSUID, 0))
        .stop();
    assert!(init.mount_on("/dir").has("ro"));
    let root = init.mount_on("");
    assert!(root.has("nosuid") && root.has("rw"), "{root:?}");
}

#[test]
fn what_is_no_mount_can_not_be_changed_as_one() {
    let failed = with_tmpfs("nomount")
        .step(set_attr_at("/dir", 1, 0))
        .fails();
    assert_eq!(failed.errno, errno::EINVAL);
    let failed = with_tmpfs("nothing")
        .step(set_attr_at("/missing", 1, 0))
        .fails();
    assert_eq!(failed.errno, errno::ENOENT);
}

#[test]
fn a_directory_is_opened_or_made_and_must_be_one() {
    let open = |path: &str| Op::OpenDir {
        path: path.to_owned(),
        into: Slot::DEV,
    };
    let init = with_tmpfs("opendir")
        .step(open("/a/b"))
        .step(open("/dir"))
        .stop();
    assert!(init.path("/a/b").is_dir());
    let failed = with_tmpfs("opendir-file").step(open("/file")).fails();
    assert_eq!(failed.errno, errno::ENOTDIR);
}

#[test]
fn masked_directories_share_one_empty_read_only_file_system() {
    let into = Slot::NULL;
    let init = Trial::new("mask")
        .before("mkdir rootfs/a rootfs/b rootfs/c; touch rootfs/a/secret; ln -s b rootfs/link")
        .bind_root()
        .step(Op::OpenNull { into })
        .steps([must(mask("/a")), must(mask("/link")), must(mask("/c"))])
        .stop();
    let masks = ["/a", "/b", "/c"].map(|path| init.mount_on(path));
    for mask in &masks {
        assert_eq!((mask.kind.as_str(), mask.root.as_str()), ("tmpfs", "/"));
        assert_eq!(mask.device, masks[0].device);
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(mask.has(option), "{mask:?}");
        }
        assert!(mask.super_options.starts_with("ro"), "{mask:?}");
    }
    assert!(names(&init, "/a").is_empty());
    let error = fs::write(init.path("/a/new"), "").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30), "EROFS");
}

#[test]
fn masked_files_are_the_null_device() {
    let into = Slot::NULL;
    let init = Trial::new("mask-file")
        .before("echo secret >rootfs/file; echo secret >rootfs/other; ln -s other rootfs/link")
        .bind_root()
        .step(Op::OpenNull { into })
        .steps([must(mask("/file")), must(mask("/link"))])
        .stop();
    for path in ["/file", "/other"] {
        let meta = fs::metadata(init.path(path)).unwrap();
        assert!(meta.file_type().is_char_device(), "{path}");
        assert_eq!(fs::read(init.path(path)).unwrap(), b"");
    }
}

#[test]
fn a_missing_path_is_skipped_with_its_errno_in_the_report() {
    let (none, into) = ([2, 20, 0], Slot::NULL);
    let init = Trial::new("skip")
        .before("touch rootfs/file; mkdir rootfs/dir; ln -s nothing rootfs/dangling")
        .bind_root()
        .steps([
            must(Op::OpenNull { into }),
            skip_on(none, 0, mask("/missing")),
            skip_on(none, 0, readonly("/file/below")),
            skip_on(none, 0, mask("/dangling")),
            skip_on(none, 1, readonly("/also/missing")),
            must(mask("/left out too")),
            must(mask("/dir")),
        ])
        .stop();
    let report = init.trial.report();
    assert_eq!(report.outcome(2), (report::SKIPPED, errno::ENOENT));
    assert_eq!(report.outcome(3), (report::SKIPPED, errno::ENOTDIR));
    assert_eq!(report.outcome(4), (report::SKIPPED, errno::ENOENT));
    assert_eq!(report.outcome(5), (report::SKIPPED, errno::ENOENT));
    assert_eq!(report.outcome(7), (report::OK, 0));
    assert_eq!(report.failed(), None);
    assert!(init.mounts_on("/dangling").is_empty());
}

#[test]
fn names_of_a_procfs_are_hidden_by_its_descriptor() {
    let proc = Slot::PROC_MOUNT;
    let hide = |name: &str| Op::MaskPath {
        dir: proc,
        path: name.to_owned(),
        kernels: true,
    };
    let mut mount = new_fs("proc", &[], 0);
    if let Op::NewFs { into, .. } = &mut mount {
        *into = proc;
    }
    let mut attach = attach_plain("/proc");
    if let Op::Attach { mount, .. } = &mut attach {
        *mount = proc;
    }
    let into = Slot::NULL;
    let none = [2, 20, 0];
    let init = Trial::new("names")
        .before("mkdir rootfs/proc")
        .bind_root()
        .steps([mount, attach, Op::OpenNull { into }].map(must))
        .steps(["version", "driver", "tty"].map(|name| must(hide(name))))
        .steps([skip_on(none, 0, hide("missing")), must(hide("mounts"))])
        .stop();
    assert_eq!(init.mount_on("/proc/version").root, "/null");
    for name in ["driver", "tty"] {
        let mask = init.mount_on(&format!("/proc/{name}"));
        assert!(mask.kind == "tmpfs" && mask.has("ro"), "{mask:?}");
    }
    // The link itself stays: what it leads to is hidden.
    let link = format!("/proc/{}/mounts", init.pid());
    assert_eq!(init.mount_on(&link).root, "/null");
    let report = init.trial.report();
    assert_eq!(report.outcome(7), (report::SKIPPED, errno::ENOENT));
}

#[test]
fn a_read_only_path_keeps_its_other_attributes_and_what_is_mounted_below() {
    let init = Trial::new("readonly")
        .before(
            "mkdir rootfs/sys; mount -t tmpfs -o nodev,noexec sys rootfs/sys
             mkdir rootfs/sys/fs; mount -t tmpfs inner rootfs/sys/fs; touch rootfs/sys/fs/inside rootfs/plain",
        )
        .bind_root()
        .steps([must(readonly("/sys")), must(readonly("/plain"))])
        .stop();
    let top = init.mounts_on("/sys").pop().unwrap();
    assert_eq!(top.options, "ro,nodev,noexec,relatime");
    assert_eq!(names(&init, "/sys/fs"), ["inside"]);
    let error = fs::write(init.path("/sys/new"), "").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30), "EROFS");
    assert!(init.mount_on("/plain").has("ro"));
    // As runc does it: what is mounted below stays as it is.
    fs::write(init.path("/sys/fs/new"), "").unwrap();
}

#[test]
fn after_the_pivot_only_the_root_is_left() {
    for (name, op) in [("pivot", Op::PivotRoot {}), ("move", Op::MoveRoot {})] {
        let init = with_tmpfs(name).step(attach("/dir")).step(op).stop();
        let names: Vec<_> = fs::read_dir(init.own_path("/"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(fs::read(init.own_path("file")).unwrap(), b"in the image\n");
        let cwd = fs::read_link(format!("/proc/{}/cwd", init.pid())).unwrap();
        let root = fs::read_link(format!("/proc/{}/root", init.pid())).unwrap();
        assert_eq!(cwd, root);
        let points: Vec<String> = init.mounts().into_iter().map(|mount| mount.point).collect();
        if name == "pivot" {
            assert_eq!(points, ["/", "/dir"]);
        } else {
            // Only what is inside the root is shown.
            assert!(
                points.iter().all(|point| point == "/" || point == "/dir"),
                "{points:?}"
            );
        }
    }
}

#[test]
fn a_pivot_takes_nothing_from_the_host() {
    let init = with_tmpfs("pivot-host")
        .before("mount --make-rshared /")
        .steps([
            must(Op::Propagation { kind: MS_SLAVE }),
            must(Op::PivotRoot {}),
        ]);
    drop(init.stop());
    assert!(std::path::Path::new("/proc/self/mountinfo").exists());
}

#[test]
fn a_slot_that_is_filled_again_closes_what_was_there() {
    let init = Trial::new("slot")
        .step(Op::CloseFds {})
        .bind_root()
        .steps((0..20).map(|_| must(new_fs("tmpfs", &[], 0))))
        .step(Op::Close { slot: Slot::MOUNT })
        .step(Op::Close { slot: Slot::MOUNT })
        .stop();
    let fds = fs::read_dir(format!("/proc/{}/fd", init.pid()));
    // Standard input, output and error, the socket, two fifos and the root.
    assert_eq!(fds.unwrap().count(), 7);
}

#[test]
fn an_empty_slot_is_a_bad_descriptor() {
    let failed = Trial::new("empty").bind_root().step(attach("/dir")).fails();
    assert_eq!((failed.errno, failed.step), (errno::EBADF, 1));
}

#[test]
fn the_root_of_a_mount_gets_its_label() {
    let label = "system_u:object_r:container_file_t:s0";
    let init = with_tmpfs("label")
        .step(Op::LabelRoot {
            mount: Slot::MOUNT,
            label: label.to_owned(),
        })
        .step(attach("/here"))
        .stop();
    let mut value = [0; 100];
    let path = init.path("/here");
    let len = rustix::fs::getxattr(path, "security.selinux", &mut value).unwrap();
    assert_eq!(&value[..len], label.as_bytes());
}
