//! `mounts[].options`: attributes, propagation, links, remounts, what file systems are told.

use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::facts::{self, mounted_with};
use crate::lab::Lab;

checks!("mountoptions":
    a_recursive_attribute_reaches_the_mounts_below,
    a_plain_attribute_does_not,
    a_recursive_attribute_can_be_taken_away,
    a_recursive_word_counts_more_than_a_plain_one,
    nosymfollow_is_set_and_taken_away,
    attributes_of_the_source_stay_unless_they_are_named,
    words_may_be_joined_with_commas,
    shared_and_unbindable_are_applied,
    a_slave_can_be_shared_again,
    recursive_propagation_reaches_the_mounts_below,
    options_of_the_superblock_reach_it,
    an_option_that_the_file_system_does_not_know_is_named,
    a_bind_ignores_what_is_for_a_file_system,
    src_nofollow_mounts_the_link_itself,
    dest_nofollow_mounts_over_a_link,
    copy_symlink_makes_the_same_link,
    copy_symlink_binds_what_is_no_link,
    a_remount_changes_what_was_mounted_before,
    a_remount_changes_the_size_of_a_tmpfs,
    dev_is_remounted_read_only_after_its_nodes,
    the_root_can_be_remounted,
    overlay_takes_more_layers_than_one_option_holds,
    overlay_takes_a_layer_with_a_comma,
    in_a_user_namespace_a_read_only_source_stays_so,
    in_a_user_namespace_a_lock_of_the_source_can_not_be_undone_inside,
);

/// A folder with a file in it.
fn folder(lab: &Lab, name: &str) -> PathBuf {
    let path = lab.folder().join(name);
    std::fs::create_dir_all(&path).expect("the lab is writable");
    std::fs::write(path.join("file"), "from outside\n").expect("the lab is writable");
    path
}

/// Mounts of the lane, unmounted at the end, the last one first.
struct Mounted(Vec<PathBuf>);

impl Mounted {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// A tmpfs, with a file in it.
    fn tmpfs(&mut self, path: &Path, flags: MountFlags) {
        std::fs::create_dir_all(path).expect("the lab is writable");
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).expect("root may mount");
        std::fs::write(path.join("file"), "from outside\n").expect("a fresh tmpfs");
        self.0.push(path.to_owned());
        let flags = flags | MountFlags::BIND;
        rustix::mount::mount_remount(path, flags, "").expect("root may mount");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            if let Err(error) = unmount(path, UnmountFlags::DETACH) {
                eprintln!("{}: {error}", path.display());
            }
        }
    }
}

/// A tmpfs with another one in `inner`, both with these flags.
fn nested(lab: &Lab, flags: MountFlags) -> (PathBuf, Mounted) {
    let outer = lab.folder().join("outer");
    let mut mounted = Mounted::new();
    mounted.tmpfs(&outer, MountFlags::empty());
    mounted.tmpfs(&outer.join("inner"), flags);
    rustix::mount::mount_remount(&outer, flags | MountFlags::BIND, "").expect("root may mount");
    (outer, mounted)
}

fn bind(bundle: &mut Bundle, source: &Path, to: &str, options: &[&str]) {
    let entry = json!({"destination": to, "type": "bind", "source": source, "options": options});
    bundle.push("/mounts", entry);
}

fn new_fs(bundle: &mut Bundle, kind: &str, to: &str, options: &[&str]) {
    let entry = json!({"destination": to, "type": kind, "source": kind, "options": options});
    bundle.push("/mounts", entry);
}

fn has(facts: &Value, point: &str, option: &str) -> bool {
    facts::has(&facts::mount(facts, point)["options"], option)
}

const ATTRIBUTES: [&str; 6] = ["ro", "nosuid", "nodev", "noexec", "nodiratime", "noatime"];

fn a_recursive_attribute_reaches_the_mounts_below(lab: &Lab) {
    let (outer, _mounted) = nested(lab, MountFlags::empty());
    for attribute in ATTRIBUTES {
        let mut bundle = lab.bundle();
        bind(
            &mut bundle,
            &outer,
            "/mnt",
            &["rbind", &format!("r{attribute}")],
        );
        let facts = lab.facts(&bundle);
        for point in ["/mnt", "/mnt/inner"] {
            assert!(has(&facts, point, attribute), "{attribute} on {point}");
        }
    }
    let mut bundle = lab.bundle();
    bind(&mut bundle, &outer, "/mnt", &["rbind", "rstrictatime"]);
    let facts = lab.facts(&bundle);
    for point in ["/mnt", "/mnt/inner"] {
        assert!(!has(&facts, point, "relatime"), "{point}");
    }
}

fn a_plain_attribute_does_not(lab: &Lab) {
    let (outer, _mounted) = nested(lab, MountFlags::empty());
    let mut bundle = lab.bundle();
    bind(
        &mut bundle,
        &outer,
        "/mnt",
        &[&["rbind"], &ATTRIBUTES[..]].concat(),
    );
    let facts = lab.facts(&bundle);
    for attribute in ATTRIBUTES {
        assert!(has(&facts, "/mnt", attribute), "{attribute}");
        assert!(!has(&facts, "/mnt/inner", attribute), "{attribute}");
    }
}

fn a_recursive_attribute_can_be_taken_away(lab: &Lab) {
    let all = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let (outer, _mounted) = nested(lab, all);
    let mut bundle = lab.bundle();
    bind(
        &mut bundle,
        &outer,
        "/mnt",
        &["rbind", "rrw", "rsuid", "rdev", "rexec"],
    );
    let facts = lab.facts(&bundle);
    for point in ["/mnt", "/mnt/inner"] {
        for attribute in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(!has(&facts, point, attribute), "{attribute} on {point}");
        }
    }
}

fn a_recursive_word_counts_more_than_a_plain_one(lab: &Lab) {
    let (outer, _mounted) = nested(lab, MountFlags::empty());
    for options in [["rbind", "rro", "rw"], ["rbind", "rw", "rro"]] {
        let mut bundle = lab.bundle();
        bind(&mut bundle, &outer, "/mnt", &options);
        let facts = lab.facts(&bundle);
        assert!(
            has(&facts, "/mnt", "ro") && has(&facts, "/mnt/inner", "ro"),
            "{options:?}"
        );
    }
}

fn nosymfollow_is_set_and_taken_away(lab: &Lab) {
    let source = folder(lab, "source");
    let mut bundle = lab.bundle();
    bind(&mut bundle, &source, "/mnt/plain", &["bind", "nosymfollow"]);
    bind(&mut bundle, &source, "/mnt/all", &["rbind", "rnosymfollow"]);
    bind(
        &mut bundle,
        &source,
        "/mnt/none",
        &["bind", "nosymfollow", "symfollow"],
    );
    let facts = lab.facts(&bundle);
    assert!(has(&facts, "/mnt/plain", "nosymfollow"));
    assert!(has(&facts, "/mnt/all", "nosymfollow"));
    assert!(!has(&facts, "/mnt/none", "nosymfollow"));
}

fn attributes_of_the_source_stay_unless_they_are_named(lab: &Lab) {
    let source = lab.folder().join("source");
    let mut mounted = Mounted::new();
    mounted.tmpfs(
        &source,
        MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV,
    );
    let mut bundle = lab.bundle();
    bind(&mut bundle, &source, "/mnt/same", &["bind"]);
    bind(&mut bundle, &source, "/mnt/exec", &["bind", "exec"]);
    bind(&mut bundle, &source, "/mnt/ro", &["bind", "ro"]);
    let facts = lab.facts(&bundle);
    for (point, expected) in [
        ("/mnt/same", ["nosuid", "nodev", "noexec"].as_slice()),
        ("/mnt/exec", &["nosuid", "nodev"]),
        // mount(8) keeps them too, from version 2.39 on.
        ("/mnt/ro", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        for option in expected {
            assert!(has(&facts, point, option), "{option} on {point}");
        }
    }
    assert!(!has(&facts, "/mnt/exec", "noexec"));
}

fn words_may_be_joined_with_commas(lab: &Lab) {
    let mut bundle = lab.bundle();
    new_fs(
        &mut bundle,
        "tmpfs",
        "/mnt",
        &["size=64k,mode=711", "nr_inodes=20"],
    );
    let facts = lab.facts(&bundle);
    let mount = facts::mount(&facts, "/mnt");
    for option in ["size=64k", "mode=711", "nr_inodes=20"] {
        assert!(mounted_with(mount, option), "{option}: {mount:#}");
    }
}

/// The optional fields of a mount's line, as one text.
fn optional(facts: &Value, point: &str) -> String {
    facts::mount(facts, point)["optional"].to_string()
}

fn shared_and_unbindable_are_applied(lab: &Lab) {
    let source = folder(lab, "source");
    let mut bundle = lab.bundle();
    for word in ["shared", "rshared", "unbindable", "runbindable"] {
        bind(
            &mut bundle,
            &source,
            &format!("/mnt/{word}"),
            &["rbind", word],
        );
    }
    new_fs(&mut bundle, "tmpfs", "/mnt/tmpfs", &["shared"]);
    let facts = lab.facts(&bundle);
    for word in ["shared", "rshared", "tmpfs"] {
        assert!(
            optional(&facts, &format!("/mnt/{word}")).contains("shared:"),
            "{word}"
        );
    }
    for word in ["unbindable", "runbindable"] {
        assert!(
            optional(&facts, &format!("/mnt/{word}")).contains("unbindable"),
            "{word}"
        );
    }
}

fn a_slave_can_be_shared_again(lab: &Lab) {
    let source = lab.folder().join("source");
    let mut mounted = Mounted::new();
    mounted.tmpfs(&source, MountFlags::empty());
    mount_change(&source, MountPropagationFlags::SHARED).expect("root may mount");
    let mut bundle = lab.bundle();
    bind(&mut bundle, &source, "/mnt", &["bind", "slave", "shared"]);
    let found = optional(&lab.facts(&bundle), "/mnt");
    assert!(
        found.contains("master:") && found.contains("shared:"),
        "{found}"
    );
}

fn recursive_propagation_reaches_the_mounts_below(lab: &Lab) {
    let (outer, _mounted) = nested(lab, MountFlags::empty());
    let mut bundle = lab.bundle();
    bind(&mut bundle, &outer, "/mnt/all", &["rbind", "rshared"]);
    bind(&mut bundle, &outer, "/mnt/top", &["rbind", "shared"]);
    let facts = lab.facts(&bundle);
    let shared = |point: &str| optional(&facts, point).contains("shared:");
    assert!(shared("/mnt/all") && shared("/mnt/all/inner"));
    assert!(shared("/mnt/top") && !shared("/mnt/top/inner"));
}

fn options_of_the_superblock_reach_it(lab: &Lab) {
    let mut bundle = lab.bundle();
    new_fs(
        &mut bundle,
        "tmpfs",
        "/mnt",
        &["sync", "dirsync", "lazytime", "loud", "nomand"],
    );
    new_fs(&mut bundle, "tmpfs", "/not", &["sync", "async"]);
    let facts = lab.facts(&bundle);
    let mount = facts::mount(&facts, "/mnt");
    for option in ["sync", "dirsync", "lazytime"] {
        assert!(
            facts::has(&mount["super_options"], option),
            "{option}: {mount:#}"
        );
    }
    let mount = facts::mount(&facts, "/not");
    assert!(!facts::has(&mount["super_options"], "sync"), "{mount:#}");
}

fn an_option_that_the_file_system_does_not_know_is_named(lab: &Lab) {
    let mut bundle = lab.bundle();
    new_fs(&mut bundle, "tmpfs", "/mnt", &["nosuid", "frobnicate=1"]);
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let text = output.stderr();
        assert!(
            text.starts_with("corten: mounts[7]: mount \"tmpfs\" on /mnt"),
            "{text}"
        );
        assert!(text.contains("Unknown parameter 'frobnicate'"), "{text}");
    }
}

fn a_bind_ignores_what_is_for_a_file_system(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["read-file", "/mnt/file"]);
    bind(
        &mut bundle,
        &folder(lab, "source"),
        "/mnt",
        &["bind", "mode=755"],
    );
    let output = lab.run(&bundle).ok();
    assert_eq!(output.stdout(), "from outside\n");
    if lab.is_corten() {
        let expected = "corten: warning: mounts[7].options: a bind mount ignores mode=755\n";
        assert_eq!(output.stderr(), expected);
    }
}

/// A link beside the file that it leads to.
fn link(lab: &Lab) -> PathBuf {
    let link = folder(lab, "links").join("link");
    std::os::unix::fs::symlink("file", &link).expect("the lab is writable");
    link
}

fn src_nofollow_mounts_the_link_itself(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["stat", "/mnt/link"]);
    bundle.file("mnt/file", "inside\n").expect("a fresh root");
    std::os::unix::fs::symlink("other", bundle.rootfs().join("mnt/link")).expect("a fresh root");
    let options = ["bind", "src-nofollow", "dest-nofollow"];
    bind(&mut bundle, &link(lab), "/mnt/link", &options);
    assert_eq!(lab.run(&bundle).json()["/mnt/link"]["target"], "file");
    bundle.probe(&["read-file", "/mnt/link"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "inside\n");
}

fn dest_nofollow_mounts_over_a_link(lab: &Lab) {
    let source = folder(lab, "source").join("file");
    let mut bundle = lab.bundle_of(&["read-file", "/mnt/link"]);
    bundle.file("mnt/file", "inside\n").expect("a fresh root");
    std::os::unix::fs::symlink("file", bundle.rootfs().join("mnt/link")).expect("a fresh root");
    bind(
        &mut bundle,
        &source,
        "/mnt/link",
        &["bind", "dest-nofollow"],
    );
    assert_eq!(lab.run(&bundle).ok().stdout(), "from outside\n");
    bundle.probe(&["read-file", "/mnt/file"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "inside\n");
}

fn copy_symlink_makes_the_same_link(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["stat", "/mnt/deep/link"]);
    bind(
        &mut bundle,
        &link(lab),
        "/mnt/deep/link",
        &["bind", "copy-symlink"],
    );
    for _ in 0..2 {
        // The second time it is there already.
        assert_eq!(lab.run(&bundle).json()["/mnt/deep/link"]["target"], "file");
    }
    let made = bundle.rootfs().join("mnt/deep/link");
    std::fs::remove_file(&made).expect("it was made");
    std::os::unix::fs::symlink("other", &made).expect("a fresh root");
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    assert_eq!(
        std::fs::read_link(made).expect("still there"),
        Path::new("other")
    );
}

fn copy_symlink_binds_what_is_no_link(lab: &Lab) {
    let source = folder(lab, "source").join("file");
    let mut bundle = lab.bundle_of(&["read-file", "/mnt/file"]);
    bind(&mut bundle, &source, "/mnt/file", &["bind", "copy-symlink"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "from outside\n");
}

fn a_remount_changes_what_was_mounted_before(lab: &Lab) {
    let mut bundle = lab.bundle();
    bind(&mut bundle, &folder(lab, "source"), "/mnt", &["bind"]);
    let remount = json!({
        "destination": "/mnt", "type": "bind", "source": "/mnt",
        "options": ["bind", "remount", "ro", "noexec"],
    });
    bundle.push("/mounts", remount);
    let facts = lab.facts(&bundle);
    assert!(has(&facts, "/mnt", "ro") && has(&facts, "/mnt", "noexec"));
    let count = facts["mounts"].as_array().expect("a list").iter();
    assert_eq!(count.filter(|mount| mount["point"] == "/mnt").count(), 1);
}

fn a_remount_changes_the_size_of_a_tmpfs(lab: &Lab) {
    let mut bundle = lab.bundle();
    new_fs(&mut bundle, "tmpfs", "/mnt", &["size=64k"]);
    new_fs(
        &mut bundle,
        "tmpfs",
        "/mnt",
        &["remount", "size=128k", "nosuid"],
    );
    let facts = lab.facts(&bundle);
    let mount = facts::mount(&facts, "/mnt");
    assert!(
        mounted_with(mount, "size=128k") && mounted_with(mount, "nosuid"),
        "{mount:#}"
    );
}

fn dev_is_remounted_read_only_after_its_nodes(lab: &Lab) {
    let mut bundle = lab.bundle();
    let remount = json!({
        "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "ro"],
    });
    bundle.push("/mounts", remount);
    let facts = lab.facts(&bundle);
    assert!(has(&facts, "/dev", "ro"));
    assert_eq!(facts::entry(&facts["dev"], "name", "null")["device"], "1:3");
}

fn the_root_can_be_remounted(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["root"]["readonly"] = json!(false);
    let remount = json!({"destination": "/", "options": ["remount", "bind", "nosuid", "ro"]});
    bundle.push("/mounts", remount);
    let facts = lab.facts(&bundle);
    assert!(has(&facts, "/", "nosuid") && has(&facts, "/", "ro"));
}

/// Layers for an overlay on a tmpfs, each with a file of its own.
fn layers(folder: &Path, names: &[String]) -> String {
    let mut paths = Vec::new();
    for name in names {
        let layer = folder.join(name);
        std::fs::create_dir_all(&layer).expect("the lab is writable");
        std::fs::write(layer.join(format!("of-{name}")), "").expect("the lab is writable");
        paths.push(layer.display().to_string());
    }
    paths.join(":")
}

fn overlay_takes_more_layers_than_one_option_holds(lab: &Lab) {
    let names: Vec<String> = (0..40)
        .map(|number| format!("layer-number-{number}"))
        .collect();
    let lower = layers(&lab.folder().join("layers"), &names);
    assert!(lower.len() > 1000, "{}", lower.len());
    let mut bundle = lab.bundle_of(&["list", "/mnt"]);
    new_fs(
        &mut bundle,
        "overlay",
        "/mnt",
        &["ro", &format!("lowerdir={lower}")],
    );
    let list = lab.run(&bundle).json();
    assert_eq!(list.as_array().map(Vec::len), Some(40), "{list:#}");
    bundle.probe(&["facts"]);
    let facts = lab.facts(&bundle);
    let mount = facts::mount(&facts, "/mnt");
    assert!(
        mounted_with(mount, "ro") && mount["type"] == "overlay",
        "{mount:#}"
    );
}

fn overlay_takes_a_layer_with_a_comma(lab: &Lab) {
    let names = ["a,b".to_owned(), "c".to_owned()];
    let lower = layers(&lab.folder().join("layers"), &names).replace(',', "\\,");
    let mut bundle = lab.bundle_of(&["list", "/mnt"]);
    new_fs(
        &mut bundle,
        "overlay",
        "/mnt",
        &[&format!("lowerdir={lower}")],
    );
    let list = lab.run(&bundle).json();
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list:#}");
}

/// Gives the bundle a user namespace whose root is uid 100000 outside.
fn with_user_namespace(bundle: &mut Bundle) {
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.give_to(100_000).expect("root may");
}

fn in_a_user_namespace_a_read_only_source_stays_so(lab: &Lab) {
    let source = lab.folder().join("source");
    let mut mounted = Mounted::new();
    mounted.tmpfs(&source, MountFlags::RDONLY | MountFlags::NOSUID);
    let mut bundle = lab.bundle();
    bind(&mut bundle, &source, "/mnt", &["rbind"]);
    with_user_namespace(&mut bundle);
    let facts = lab.facts(&bundle);
    assert!(has(&facts, "/mnt", "ro") && has(&facts, "/mnt", "nosuid"));
    // Asked for what can't be had, it says so.
    let mut bundle = lab.bundle();
    bind(&mut bundle, &source, "/mnt", &["rbind", "rw"]);
    with_user_namespace(&mut bundle);
    let output = lab.run(&bundle);
    if output.status.success() {
        assert!(has(&output.json(), "/mnt", "ro"));
    } else if lab.is_corten() {
        let expected = "corten: mounts[7]: set rw on /mnt: operation not permitted";
        assert!(output.stderr().starts_with(expected), "{output}");
    }
}

fn in_a_user_namespace_a_lock_of_the_source_can_not_be_undone_inside(lab: &Lab) {
    let source = lab.folder().join("source");
    let mut mounted = Mounted::new();
    mounted.tmpfs(&source, MountFlags::RDONLY);
    for options in [["rbind", "nosuid"], ["bind", "nosuid"]] {
        let mut bundle = lab.bundle_of(&["remount-rw", "/mnt"]);
        bind(&mut bundle, &source, "/mnt", &options);
        with_user_namespace(&mut bundle);
        let all = json!(["CAP_SYS_ADMIN"]);
        for set in ["bounding", "effective", "permitted"] {
            bundle.config["process"]["capabilities"][set] = all.clone();
        }
        assert_eq!(lab.run(&bundle).stdout(), "EPERM\n", "{options:?}");
    }
}
