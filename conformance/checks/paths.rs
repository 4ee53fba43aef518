//! `linux.maskedPaths` and `linux.readonlyPaths`: what they hide, in which order, how many.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::facts;
use crate::lab::Lab;

checks!("paths":
    all_masked_folders_share_one_tmpfs,
    a_path_can_be_masked_twice,
    a_path_can_be_masked_and_read_only,
    a_masked_path_stays_masked_below_a_read_only_one,
    what_is_mounted_on_a_masked_path_is_masked,
    what_is_mounted_below_a_read_only_path_keeps_its_own_flags,
    a_read_only_file_keeps_the_other_flags_of_its_mount,
    a_link_masks_what_it_leads_to_inside,
    a_path_below_a_file_is_as_one_that_is_missing,
    a_thousand_paths_are_masked_with_few_descriptors,
    a_thousand_paths_are_read_only,
);

/// A bundle with these folders, a file in each, and a root that could be written.
fn with(lab: &Lab, folders: &[&str]) -> Bundle {
    let mut bundle = lab.bundle();
    for folder in folders {
        bundle
            .file(&format!("{folder}/file"), "secret")
            .expect("the lab is writable");
    }
    bundle.config["root"]["readonly"] = json!(false);
    bundle
}

fn set(bundle: &mut Bundle, masked: &[&str], readonly: &[&str]) {
    bundle.config["linux"]["maskedPaths"] = json!(masked);
    bundle.config["linux"]["readonlyPaths"] = json!(readonly);
}

/// What a program gets that opens each path for writing.
fn written(lab: &Lab, bundle: &mut Bundle, paths: &[&str]) -> Value {
    bundle.probe(&[&["open", "w"], paths].concat());
    lab.run(bundle).json()
}

fn all_masked_folders_share_one_tmpfs(lab: &Lab) {
    let folders = ["one", "two", "deep/three"];
    let mut bundle = with(lab, &folders);
    set(&mut bundle, &["/one", "/two", "/deep/three"], &[]);
    let facts = lab.facts(&bundle);
    let mount = |folder: &str| facts::mount(&facts, &format!("/{folder}"));
    for folder in folders {
        let found = mount(folder);
        assert_eq!(found["type"], "tmpfs", "{found:#}");
        assert!(facts::mounted_with(found, "ro"), "{found:#}");
        assert_eq!(found["device"], mount("one")["device"], "{folder}");
    }
}

fn a_path_can_be_masked_twice(lab: &Lab) {
    let mut bundle = with(lab, &["one"]);
    let twice = ["/one", "/one/", "/etc/passwd", "/etc/passwd"];
    set(&mut bundle, &twice, &[]);
    bundle.probe(&["list", "/one"]);
    assert_eq!(lab.run(&bundle).json(), json!([]));
    bundle.probe(&["read-file", "/etc/passwd"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "");
}

fn a_path_can_be_masked_and_read_only(lab: &Lab) {
    let mut bundle = with(lab, &["one"]);
    let both = ["/one", "/one/file", "/etc/passwd"];
    set(&mut bundle, &both, &both);
    bundle.probe(&["list", "/one"]);
    assert_eq!(lab.run(&bundle).json(), json!([]));
    bundle.probe(&["read-file", "/etc/passwd"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "");
}

fn a_masked_path_stays_masked_below_a_read_only_one(lab: &Lab) {
    let mut bundle = with(lab, &["one", "one/two"]);
    set(&mut bundle, &["/one/two", "/one/file"], &["/one"]);
    bundle.probe(&["list", "/one/two"]);
    assert_eq!(lab.run(&bundle).json(), json!([]));
    bundle.probe(&["read-file", "/one/file"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "");
    assert_eq!(
        written(lab, &mut bundle, &["/one/two/file", "/one/new"]),
        json!({"/one/two/file": "ENOENT", "/one/new": "ENOENT"})
    );
}

/// Wherever in the configuration it is: mounts come first.
fn what_is_mounted_on_a_masked_path_is_masked(lab: &Lab) {
    let mut bundle = with(lab, &["one", "one/deep"]);
    let source = bundle.rootfs().join("one");
    for place in ["/mnt", "/mnt/deep"] {
        let mount = json!({
            "destination": place, "type": "bind", "source": source, "options": ["bind"],
        });
        bundle.push("/mounts", mount);
    }
    set(&mut bundle, &["/mnt/deep"], &[]);
    bundle.probe(&["list", "/mnt/deep"]);
    assert_eq!(lab.run(&bundle).json(), json!([]));
    bundle.probe(&["read-file", "/mnt/file"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "secret");
}

/// `readonlyPaths` is not recursive.
fn what_is_mounted_below_a_read_only_path_keeps_its_own_flags(lab: &Lab) {
    let mut bundle = with(lab, &["frozen", "frozen/open"]);
    let mount = json!({
        "destination": "/frozen/open", "type": "tmpfs", "source": "tmpfs", "options": ["nodev"],
    });
    bundle.push("/mounts", mount);
    set(&mut bundle, &[], &["/frozen"]);
    bundle.probe(&["write-file", "/frozen/open/new", "text"]);
    drop(lab.run(&bundle).ok());
    assert_eq!(
        written(lab, &mut bundle, &["/frozen/file"]),
        json!({"/frozen/file": "EROFS"})
    );
}

fn a_read_only_file_keeps_the_other_flags_of_its_mount(lab: &Lab) {
    let mut bundle = with(lab, &["one"]);
    let mount = json!({
        "destination": "/mnt", "type": "bind", "source": bundle.rootfs().join("one"),
        "options": ["bind", "nosuid", "nodev", "noexec", "noatime"],
    });
    bundle.push("/mounts", mount);
    set(&mut bundle, &[], &["/mnt/file", "/mnt"]);
    let facts = lab.facts(&bundle);
    for point in ["/mnt", "/mnt/file"] {
        let mount = facts::mount(&facts, point);
        for flag in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
            assert!(facts::has(&mount["options"], flag), "{flag}: {mount:#}");
        }
    }
}

fn a_link_masks_what_it_leads_to_inside(lab: &Lab) {
    let mut bundle = with(lab, &["one", "two"]);
    let victim = lab.folder().join("victim");
    std::fs::write(&victim, "").expect("the lab is writable");
    for (name, target) in [
        ("link", "/one".into()),
        ("frozen", "../../../two".into()),
        ("outside", victim.clone()),
    ] {
        std::os::unix::fs::symlink(target, bundle.rootfs().join(name)).expect("a fresh root");
    }
    set(&mut bundle, &["/link", "/outside"], &["/frozen"]);
    bundle.probe(&["list", "/one"]);
    assert_eq!(lab.run(&bundle).json(), json!([]));
    assert_eq!(
        written(lab, &mut bundle, &["/two/file"]),
        json!({"/two/file": "EROFS"})
    );
}

fn a_path_below_a_file_is_as_one_that_is_missing(lab: &Lab) {
    let mut bundle = with(lab, &[]);
    set(&mut bundle, &["/etc/passwd/x"], &["/etc/passwd/y"]);
    bundle.probe(&["true"]);
    let output = lab.run(&bundle).ok();
    assert_eq!(output.stderr(), "");
}

/// Names of so many files, and of the folders that they are in, all in `/many`.
fn many(lab: &Lab, count: usize) -> (Bundle, Vec<String>) {
    let bundle = with(lab, &[]);
    let folders = (0..count).map(|number| format!("many/{number}"));
    let names: Vec<String> = folders
        .flat_map(|folder| {
            bundle
                .file(&format!("{folder}/file"), "secret")
                .expect("the lab is writable");
            bundle
                .file(&format!("{folder}-file"), "secret")
                .expect("the lab is writable");
            [format!("/{folder}"), format!("/{folder}-file")]
        })
        .collect();
    (bundle, names)
}

/// 64 descriptors are much fewer than paths.
const FEW: [&str; 2] = ["prlimit", "--nofile=64"];

fn a_thousand_paths_are_masked_with_few_descriptors(lab: &Lab) {
    let (mut bundle, names) = many(lab, 500);
    bundle.config["linux"]["maskedPaths"] = json!(names);
    bundle.config["process"]["rlimits"] = json!([]);
    let facts = lab.run_under(&FEW, &bundle).json();
    let mounts = facts["mounts"].as_array().expect("a list");
    let below = |mount: &&Value| {
        let point = mount["point"].as_str().unwrap_or_default();
        point.starts_with("/many/")
    };
    assert_eq!(mounts.iter().filter(below).count(), names.len());
    let kinds = mounts.iter().filter(below).map(|mount| &mount["device"]);
    let kinds: std::collections::BTreeSet<String> = kinds.map(ToString::to_string).collect();
    // One tmpfs for all folders, and what the null device is on.
    assert_eq!(kinds.len(), 2, "{kinds:?}");
}

fn a_thousand_paths_are_read_only(lab: &Lab) {
    let (mut bundle, names) = many(lab, 500);
    bundle.config["linux"]["readonlyPaths"] = json!(names);
    bundle.config["process"]["rlimits"] = json!([]);
    let facts = lab.run_under(&FEW, &bundle).json();
    let mounts = facts["mounts"].as_array().expect("a list");
    let frozen = |mount: &&Value| {
        let point = mount["point"].as_str().unwrap_or_default();
        point.starts_with("/many/") && facts::has(&mount["options"], "ro")
    };
    assert_eq!(mounts.iter().filter(frozen).count(), names.len());
}
