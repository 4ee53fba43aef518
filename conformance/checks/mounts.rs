//! `mounts`, `linux.maskedPaths` and `linux.readonlyPaths`.

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::Need::Kernel;
use crate::check::checks;
use crate::facts::{self, mounted_with};
use crate::lab::Lab;

checks!("mounts":
    the_default_mounts_are_there_with_their_options,
    mounts_are_made_in_the_order_of_the_list,
    a_bind_mount_shows_the_source,
    a_relative_source_is_relative_to_the_bundle,
    a_read_only_bind_mount_is_read_only,
    every_flag_of_a_bind_mount_is_set,
    a_recursive_bind_brings_the_mounts_below_it,
    a_plain_bind_leaves_out_the_mounts_below_it,
    a_file_can_be_bound,
    a_missing_destination_is_made,
    a_destination_that_is_a_symlink_stays_inside_the_root,
    a_destination_below_a_dangling_symlink_is_made_inside_the_root,
    a_file_is_bound_over_a_dangling_symlink_as_resolv_conf_often_is,
    a_tmpfs_has_its_size_and_mode,
    a_tmpfs_can_be_read_only,
    an_option_that_only_the_kernel_knows_reaches_it [Kernel(6, 4)],
    propagation_options_are_applied,
    a_mount_made_in_the_container_is_not_seen_outside,
    masked_files_are_empty_and_masked_folders_too,
    readonly_paths_are_read_only,
    a_missing_masked_or_readonly_path_is_no_error,
    every_default_masked_and_readonly_path_that_exists_is_covered,
    proc_and_sysfs_are_new_mounts,
    devpts_is_an_instance_of_its_own,
    mqueue_is_the_containers_own,
);

fn folder(lab: &Lab, name: &str) -> std::path::PathBuf {
    let path = lab.folder().join(name);
    std::fs::create_dir_all(&path).expect("the lab is writable");
    std::fs::write(path.join("file"), "from outside\n").expect("the lab is writable");
    path
}

fn bind(bundle: &mut Bundle, source: &std::path::Path, to: &str, options: &[&str]) {
    let entry = json!({"destination": to, "type": "bind", "source": source, "options": options});
    bundle.push("/mounts", entry);
}

fn the_default_mounts_are_there_with_their_options(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    let safe = ["nosuid", "nodev", "noexec"];
    let expected: [(&str, &str, &[&str]); 7] = [
        ("/proc", "proc", &[]),
        ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755"]),
        (
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "mode=620", "ptmxmode=666"],
        ),
        ("/dev/shm", "tmpfs", &safe),
        ("/dev/mqueue", "mqueue", &safe),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        (
            "/sys/fs/cgroup",
            "cgroup2",
            &["ro", "nosuid", "nodev", "noexec"],
        ),
    ];
    for (point, kind, options) in expected {
        let mount = facts::mount(&facts, point);
        assert_eq!(mount["type"], kind, "{point}");
        for option in options {
            // strictatime shows as the absence of relatime.
            let there = match *option {
                "strictatime" => !mounted_with(mount, "relatime"),
                option => mounted_with(mount, option),
            };
            assert!(there, "{point} lacks {option}: {mount:#}");
        }
    }
}

fn mounts_are_made_in_the_order_of_the_list(lab: &Lab) {
    let (one, two) = (folder(lab, "one"), folder(lab, "two"));
    std::fs::write(two.join("file"), "second\n").expect("the lab is writable");
    let mut bundle = lab.bundle_of(&["read-file", "/mnt/file"]);
    bind(&mut bundle, &one, "/mnt", &["bind"]);
    bind(&mut bundle, &two, "/mnt", &["bind"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "second\n");
}

fn a_bind_mount_shows_the_source(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["read-file", "/mnt/file"]);
    bind(
        &mut bundle,
        &folder(lab, "source"),
        "/mnt",
        &["rbind", "rw"],
    );
    assert_eq!(lab.run(&bundle).ok().stdout(), "from outside\n");
}

fn a_relative_source_is_relative_to_the_bundle(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["read-file", "/mnt/file"]);
    std::fs::create_dir(bundle.path().join("beside")).expect("the lab is writable");
    std::fs::write(bundle.path().join("beside/file"), "beside\n").expect("the lab is writable");
    bind(
        &mut bundle,
        std::path::Path::new("beside"),
        "/mnt",
        &["bind"],
    );
    assert_eq!(lab.run(&bundle).ok().stdout(), "beside\n");
}

fn a_read_only_bind_mount_is_read_only(lab: &Lab) {
    let source = folder(lab, "source");
    let mut bundle = lab.bundle_of(&["write-file", "/mnt/file", "changed"]);
    bind(&mut bundle, &source, "/mnt", &["bind", "ro"]);
    let output = lab.run(&bundle);
    assert_eq!(output.stderr(), "EROFS\n", "{output}");
    let text = std::fs::read_to_string(source.join("file")).expect("the source");
    assert_eq!(text, "from outside\n");
}

fn every_flag_of_a_bind_mount_is_set(lab: &Lab) {
    let mut bundle = lab.bundle();
    let flags = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"];
    bind(
        &mut bundle,
        &folder(lab, "all"),
        "/mnt/all",
        &[&["bind"], &flags[..]].concat(),
    );
    bind(&mut bundle, &folder(lab, "none"), "/mnt/none", &["bind"]);
    let facts = lab.facts(&bundle);
    for flag in flags {
        let (all, none) = (
            facts::mount(&facts, "/mnt/all"),
            facts::mount(&facts, "/mnt/none"),
        );
        assert!(facts::has(&all["options"], flag), "{flag}: {all:#}");
        assert!(!facts::has(&none["options"], flag), "{flag}: {none:#}");
    }
}

fn outer_with_inner(lab: &Lab) -> std::path::PathBuf {
    let outer = folder(lab, "outer");
    let inner = folder(lab, "outer/inner");
    rustix::mount::mount(
        "tmpfs",
        &inner,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .expect("root may mount");
    std::fs::write(inner.join("deep"), "deep\n").expect("the lab is writable");
    outer
}

fn unmount_inner(lab: &Lab) {
    let inner = lab.folder().join("outer/inner");
    unmount(&inner, UnmountFlags::empty()).expect("not busy");
}

fn a_recursive_bind_brings_the_mounts_below_it(lab: &Lab) {
    let outer = outer_with_inner(lab);
    let mut bundle = lab.bundle_of(&["read-file", "/mnt/inner/deep"]);
    bind(&mut bundle, &outer, "/mnt", &["rbind"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "deep\n");
    unmount_inner(lab);
}

fn a_plain_bind_leaves_out_the_mounts_below_it(lab: &Lab) {
    let outer = outer_with_inner(lab);
    let mut bundle = lab.bundle_of(&["open", "r", "/mnt/inner/deep", "/mnt/inner/file"]);
    bind(&mut bundle, &outer, "/mnt", &["bind"]);
    let expected = json!({"/mnt/inner/deep": "ENOENT", "/mnt/inner/file": "ok"});
    assert_eq!(lab.run(&bundle).json(), expected);
    unmount_inner(lab);
}

fn a_file_can_be_bound(lab: &Lab) {
    let source = folder(lab, "source").join("file");
    let mut bundle = lab.bundle_of(&["read-file", "/etc/hosts"]);
    bind(&mut bundle, &source, "/etc/hosts", &["bind", "ro"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "from outside\n");
}

fn a_missing_destination_is_made(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["list", "/new/deep"]);
    bind(
        &mut bundle,
        &folder(lab, "source"),
        "/new/deep/folder",
        &["bind"],
    );
    bind(
        &mut bundle,
        &folder(lab, "source").join("file"),
        "/new/deep/file",
        &["bind"],
    );
    let list = lab.run(&bundle).json();
    assert_eq!(facts::entry(&list, "name", "folder")["type"], "Directory");
    assert_eq!(facts::entry(&list, "name", "file")["type"], "RegularFile");
}

fn a_destination_that_is_a_symlink_stays_inside_the_root(lab: &Lab) {
    let victim = lab.folder().join("victim");
    std::fs::create_dir(&victim).expect("the lab is writable");
    for target in link_targets(&victim) {
        let mut bundle = lab.bundle();
        std::os::unix::fs::symlink(&target, bundle.rootfs().join("link")).expect("a fresh root");
        // The same path exists inside.
        let inside = format!("{}/keep", victim.display());
        bundle
            .file(inside.trim_start_matches('/'), "")
            .expect("the lab is writable");
        mounted_inside(lab, &mut bundle, "/link/deep", &victim);
    }
}

fn a_destination_below_a_dangling_symlink_is_made_inside_the_root(lab: &Lab) {
    let victim = lab.folder().join("victim");
    std::fs::create_dir(&victim).expect("the lab is writable");
    for target in link_targets(&victim) {
        let mut bundle = lab.bundle();
        std::os::unix::fs::symlink(&target, bundle.rootfs().join("link")).expect("a fresh root");
        mounted_inside(lab, &mut bundle, "/link/deep", &victim);
    }
}

/// A folder of the host as the target of a link, plainly and by leaving the root upwards.
fn link_targets(victim: &std::path::Path) -> [String; 2] {
    [
        victim.display().to_string(),
        format!("../../../../../..{}", victim.display()),
    ]
}

/// Binds a folder on `to`, which leads to `deep` in `victim`'s path inside the root; the
/// host's own `victim` must stay empty.
fn mounted_inside(lab: &Lab, bundle: &mut Bundle, to: &str, victim: &std::path::Path) {
    bind(bundle, &folder(lab, "source"), to, &["bind"]);
    let facts = lab.facts(bundle);
    let inside = format!("{}/deep", victim.display());
    assert_eq!(facts::mount(&facts, &inside)["point"], inside);
    let outside = std::fs::read_dir(victim).expect("still there").count();
    assert_eq!(outside, 0, "something was made outside the root");
}

fn a_file_is_bound_over_a_dangling_symlink_as_resolv_conf_often_is(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["read-file", "/etc/resolv.conf"]);
    let link = bundle.rootfs().join("etc/resolv.conf");
    std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", link)
        .expect("a fresh root");
    bind(
        &mut bundle,
        &folder(lab, "source").join("file"),
        "/etc/resolv.conf",
        &["rbind", "ro"],
    );
    assert_eq!(lab.run(&bundle).ok().stdout(), "from outside\n");
}

fn a_tmpfs_has_its_size_and_mode(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.push(
        "/mounts",
        json!({
            "destination": "/mnt", "type": "tmpfs", "source": "scratch",
            "options": ["nosuid", "size=64k", "mode=1770", "uid=5", "nr_inodes=20"],
        }),
    );
    let facts = lab.facts(&bundle);
    let mount = facts::mount(&facts, "/mnt");
    assert_eq!(mount["source"], "scratch");
    for option in ["nosuid", "size=64k", "mode=1770", "uid=5", "nr_inodes=20"] {
        assert!(mounted_with(mount, option), "{option}: {mount:#}");
    }
}

fn an_option_that_only_the_kernel_knows_reaches_it(lab: &Lab) {
    let mut bundle = lab.bundle();
    let mount = json!({
        "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["noswap"],
    });
    bundle.push("/mounts", mount);
    let facts = lab.facts(&bundle);
    let mount = facts::mount(&facts, "/mnt");
    assert!(mounted_with(mount, "noswap"), "{mount:#}");
}

fn a_tmpfs_can_be_read_only(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["write-file", "/mnt/file", "text"]);
    bundle.push(
        "/mounts",
        json!({
            "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["ro"],
        }),
    );
    assert_eq!(lab.run(&bundle).stderr(), "EROFS\n");
}

fn propagation_options_are_applied(lab: &Lab) {
    // A mount of its own: the one that the bundle lies on becomes private.
    let source = folder(lab, "source");
    mount("tmpfs", &source, "tmpfs", MountFlags::empty(), None).expect("root may mount");
    mount_change(&source, MountPropagationFlags::SHARED).expect("root may mount");
    let mut bundle = lab.bundle();
    for option in ["rprivate", "rslave"] {
        bind(
            &mut bundle,
            &source,
            &format!("/mnt/{option}"),
            &["rbind", option],
        );
    }
    bundle.config["linux"]["rootfsPropagation"] = json!("rslave");
    let facts = lab.facts(&bundle);
    let optional =
        |option: &str| facts::mount(&facts, &format!("/mnt/{option}"))["optional"].to_string();
    assert_eq!(optional("rprivate"), "[]");
    assert!(
        optional("rslave").contains("master:"),
        "{}",
        optional("rslave")
    );
    assert!(
        !optional("rslave").contains("shared:"),
        "{}",
        optional("rslave")
    );
    unmount(&source, UnmountFlags::empty()).expect("not busy");
}

fn a_mount_made_in_the_container_is_not_seen_outside(lab: &Lab) {
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
    let mut bundle = lab.bundle_of(&["sleep"]);
    bind(&mut bundle, &folder(lab, "source"), "/mnt", &["rbind"]);
    let container = lab.start(&bundle);
    let during = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
    assert_eq!(before, during);
    drop(container);
}

fn masked_files_are_empty_and_masked_folders_too(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle
        .file("secret/file", "secret")
        .expect("the lab is writable");
    bundle
        .file("secret.txt", "secret")
        .expect("the lab is writable");
    bundle.config["linux"]["maskedPaths"] = json!(["/secret", "/secret.txt"]);
    bundle.probe(&["list", "/secret"]);
    assert_eq!(lab.run(&bundle).json(), json!([]));
    bundle.probe(&["read-file", "/secret.txt"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "");
    // Also for the one who would put something there.
    bundle.config["root"]["readonly"] = json!(false);
    bundle.probe(&["write-file", "/secret/new", "text"]);
    assert_eq!(lab.run(&bundle).stderr(), "EROFS\n");
}

fn readonly_paths_are_read_only(lab: &Lab) {
    let mut bundle = lab.bundle_of(&[
        "open",
        "w",
        "/frozen/file",
        "/open/file",
        "/proc/sys/kernel/domainname",
    ]);
    bundle.file("frozen/file", "").expect("the lab is writable");
    bundle.file("open/file", "").expect("the lab is writable");
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["readonlyPaths"] = json!(["/frozen", "/proc/sys"]);
    let expected = json!({
        "/frozen/file": "EROFS", "/open/file": "ok", "/proc/sys/kernel/domainname": "EROFS",
    });
    assert_eq!(lab.run(&bundle).json(), expected);
}

fn a_missing_masked_or_readonly_path_is_no_error(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/missing/one"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/missing/two"]);
    let output = lab.run(&bundle).ok();
    assert_eq!(output.stderr(), "");
}

fn proc_and_sysfs_are_new_mounts(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    let outside = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
    for point in ["/proc", "/sys"] {
        let device = facts::mount(&facts, point)["device"]
            .as_str()
            .unwrap_or_default();
        assert!(
            !outside.contains(&format!(" {device} ")),
            "{point} is the host's own"
        );
    }
}

fn devpts_is_an_instance_of_its_own(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["list", "/dev/pts"]);
    bundle.config["process"]["terminal"] = json!(false);
    let list = lab.run(&bundle).json();
    let names: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| &e["name"])
        .collect();
    assert_eq!(names, [&json!("ptmx")]);
}

fn mqueue_is_the_containers_own(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["write-file", "/dev/mqueue/queue", ""]);
    bundle.config["root"]["readonly"] = json!(false);
    drop(lab.run(&bundle).ok());
    assert!(!std::path::Path::new("/dev/mqueue/queue").exists());
}

fn every_default_masked_and_readonly_path_that_exists_is_covered(lab: &Lab) {
    let bundle = lab.bundle();
    let facts = lab.facts(&bundle);
    let mut covered = 0;
    for list in ["maskedPaths", "readonlyPaths"] {
        let paths = bundle.config["linux"][list].as_array().expect("a list");
        let paths = paths.iter().filter_map(Value::as_str);
        // /proc and /sys of the container are new mounts: they have what the lane's have.
        for path in paths.filter(|path| std::path::Path::new(path).exists()) {
            let mount = facts::mount(&facts, path);
            let hidden = mount["root"] == "/null" || mount["type"] == "tmpfs";
            let read_only = facts::mounted_with(mount, "ro");
            let right = if list == "maskedPaths" {
                hidden
            } else {
                read_only
            };
            assert!(right, "{path}: {mount:#}");
            covered += 1;
        }
    }
    assert!(covered > 3, "{covered}");
}
