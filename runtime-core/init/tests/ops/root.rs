//! The root and what its mounts share with the namespace that they were copied from.

use std::fs;
use std::process::Command;

use corten_init::abi::{Barrier, Op, Slot};
use corten_init::sys::{errno, flag};

use super::flat::Hand;
use super::trial::{Stopped, Trial};

/// A second mount namespace, so that mounts shared in the first, which a descriptor keeps,
/// have peers there.
const PEERS: &str = "unshare --mount --propagation unchanged";
const KEEP: &str = "exec 3</proc/self/ns/mnt; cat /proc/self/mountinfo >first";

/// A root below a mount that is shared with the first namespace, with a mount in it.
fn shared(name: &str) -> Trial {
    Trial::new(name)
        .before("mount -t tmpfs around rootfs; mkdir -p rootfs/a/b/root/inner; cd rootfs/a/b")
        .before("mount -t tmpfs inner root/inner; cd ../../..")
        .before("mount --make-rshared /")
        .before(KEEP)
        .started_by(PEERS)
}

fn root(trial: &Trial) -> String {
    format!("{}/a/b/root", trial.root())
}

fn private_parent(trial: Trial) -> Trial {
    let path = root(&trial);
    trial.step(Op::PrivateParent { path })
}

fn bind_root(trial: Trial) -> Trial {
    let (path, into) = (root(&trial), Slot::ROOT);
    trial.step(Op::BindRoot { path, into })
}

/// Mount points, sources and the like: mountinfo without numbers and what is shared.
fn places(mountinfo: &str) -> Vec<String> {
    let place = |line: &str| {
        let (left, right) = line.split_once(" - ").unwrap();
        let left: Vec<&str> = left.split(' ').skip(2).take(4).collect();
        format!("{} {right}", left.join(" "))
    };
    mountinfo.lines().map(place).collect()
}

/// The first namespace's mounts, before init ran and now.
fn first(init: &Stopped) -> [Vec<String>; 2] {
    let before = fs::read_to_string(init.trial.dir.join("first")).unwrap();
    let namespace = format!("--mount=/proc/{}/fd/3", init.pid());
    let now = Command::new("nsenter")
        .args([&namespace, "cat", "/proc/self/mountinfo"])
        .output()
        .unwrap();
    let now = String::from_utf8(now.stdout).unwrap();
    [before, now].map(|text| places(&text))
}

#[test]
fn nothing_of_the_root_gets_out_of_its_private_parent() {
    let open = bind_root(shared("parent-shared")).stop();
    let [before, now] = first(&open);
    assert_ne!(before, now, "the trial shows nothing");
    drop(open);
    let init = bind_root(private_parent(shared("parent"))).stop();
    let [before, now] = first(&init);
    assert_eq!(before, now);
    let parent = init.mount_on("");
    assert_eq!(
        (parent.source.as_str(), parent.optional.as_str()),
        ("around", "")
    );
}

#[test]
fn a_root_that_is_a_mount_is_its_own_parent() {
    let path = |trial: &Trial| trial.root();
    let trial = shared("parent-mount");
    let path = path(&trial);
    let init = trial.step(Op::PrivateParent { path }).stop();
    assert_eq!(init.mount_on("").optional, "");
    let others = init.mounts();
    let top = others.iter().find(|mount| mount.point == "/");
    assert!(top.unwrap().optional.starts_with("shared:"), "{others:?}");
}

#[test]
fn the_parent_of_a_root_is_found_however_far_above_it_is() {
    for levels in [1, 7, 8, 9, 20] {
        let below = "/d".repeat(levels);
        let trial = shared(&format!("parent-{levels}")).before(&format!("mkdir -p rootfs{below}"));
        let path = format!("{}{below}", trial.root());
        let init = trial.step(Op::PrivateParent { path }).stop();
        let parent = init.mount_on("");
        let found = (parent.source.as_str(), parent.optional.as_str());
        assert_eq!(found, ("around", ""), "{levels} levels");
        assert!(
            init.mounts()
                .iter()
                .any(|mount| mount.optional.starts_with("shared:"))
        );
    }
}

#[test]
fn a_change_of_root_reaches_no_other_namespace_though_all_is_shared() {
    for (name, op) in [
        ("out-pivot", Op::PivotRoot {}),
        ("out-move", Op::MoveRoot {}),
    ] {
        let trial: Trial = bind_root(private_parent(shared(name)));
        let op: Op<Hand> = op;
        let init = trial.step(op).stop();
        let [before, now] = first(&init);
        assert_eq!(before, now, "{name}");
        // What the container has keeps what config.json gave it.
        let mounts = init.mounts();
        let inner = mounts.iter().find(|mount| mount.point == "/inner").unwrap();
        assert!(inner.optional.starts_with("shared:"), "{mounts:?}");
    }
}

#[test]
fn without_the_recursive_flag_only_the_top_changes() {
    let kinds = [
        (flag::MS_PRIVATE, ""),
        (1 << 17, "unbindable"),
        (flag::MS_SLAVE, "master:"),
        (1 << 20, "shared:"),
    ];
    for (kind, word) in kinds {
        let init = shared("propagation").step(Op::Propagation { kind }).stop();
        for mount in init.mounts() {
            let expected = if mount.point == "/" { word } else { "shared:" };
            let same = mount.optional.is_empty() == expected.is_empty();
            assert!(same && mount.optional.starts_with(expected), "{mount:?}");
        }
    }
}

#[test]
fn a_file_of_the_host_in_the_container_is_a_slave() {
    let trial = shared("files").before("touch rootfs/a/b/root/file rootfs/a/b/root/null");
    let into = Slot::NULL;
    let path = "/file".to_owned();
    let node = Op::BindNode {
        dir: Slot::ROOT,
        name: "null".to_owned(),
        source: "/dev/null".to_owned(),
        kind: 0o020_000,
        major: 1,
        minor: 3,
    };
    let init = bind_root(private_parent(trial))
        .step(Op::OpenNull { into })
        .step(Op::MaskPath {
            dir: Slot::ROOT,
            path,
            kernels: false,
        })
        .step(node)
        .stop();
    for name in ["file", "null"] {
        let bind = init.mount_on(&format!("/a/b/root/{name}"));
        assert!(bind.optional.starts_with("master:"), "{bind:?}");
    }
}

#[test]
fn a_chroot_changes_root_and_directory_and_no_mount() {
    let trial = Trial::new("chroot").before("mkdir rootfs/a; cat /proc/self/mountinfo >first");
    let (path, into) = (trial.root(), Slot::ROOT);
    let mut init = trial
        .step(Op::CloseFds {})
        .step(Op::OpenRoot { path, into })
        .step(Op::Wait {
            barrier: Barrier::Entered,
        })
        .step(Op::Chroot {})
        .step(Op::Wait {
            barrier: Barrier::Ready,
        })
        .go();
    init.hear_barrier(Barrier::Entered);
    let mounts = places(&init.proc("mountinfo"));
    let first = fs::read_to_string(init.trial.dir.join("first")).unwrap();
    assert_eq!(mounts, places(&first));
    let fds = |init: &Stopped| {
        fs::read_dir(format!("/proc/{}/fd", init.pid()))
            .unwrap()
            .count()
    };
    let open = fds(&init);
    init.go_on();
    init.hear_barrier(Barrier::Ready);
    for link in ["root", "cwd"] {
        let target = fs::read_link(format!("/proc/{}/{link}", init.pid())).unwrap();
        assert_eq!(target.to_str().unwrap(), init.trial.root());
    }
    assert_eq!(fds(&init), open - 1);
}

#[test]
fn a_root_is_not_opened_by_a_way_out_of_the_tree() {
    let open = |path: String| Op::OpenRoot {
        path,
        into: Slot::ROOT,
    };
    let link = |name: &str, target: &str| {
        let trial = Trial::new(name).before(&format!("ln -s {target} link"));
        let path = trial.dir.join("link").to_str().unwrap().to_owned();
        trial.step(open(path))
    };
    assert_eq!(
        link("root-magic", "/proc/self/root").fails().errno,
        errno::ELOOP
    );
    assert_eq!(
        link("root-file", "/etc/passwd").fails().errno,
        errno::ENOTDIR
    );
    drop(link("root-link", "rootfs").stop());
}
