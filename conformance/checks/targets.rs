//! Unusual things to mount, unusual places, and many of them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::facts;
use crate::lab::Lab;

checks!("targets":
    the_hosts_root_can_be_bound,
    the_hosts_root_can_be_bound_in_a_user_namespace,
    a_file_on_a_folder_is_refused,
    a_folder_on_a_file_is_refused,
    a_place_below_a_file_is_refused,
    a_source_that_is_missing_is_refused_by_name,
    a_hundred_mounts_are_made_in_order,
    a_hundred_mounts_are_made_in_a_user_namespace,
    the_bundle_itself_can_be_the_root,
    the_hosts_root_can_be_the_root,
    overlay_takes_more_than_a_page_of_layers,
    without_a_pivot_everything_is_mounted_too,
);

fn bind(bundle: &mut Bundle, source: &Path, to: &str, options: &[&str]) {
    let entry = json!({"destination": to, "type": "bind", "source": source, "options": options});
    bundle.push("/mounts", entry);
}

fn host_root(lab: &Lab, mut bundle: Bundle) {
    let file = lab.folder().join("mark");
    std::fs::write(&file, "of the host").expect("the lab is writable");
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
    bind(
        &mut bundle,
        Path::new("/"),
        "/host",
        &["rbind", "ro", "rslave"],
    );
    let seen = format!("/host{}", file.display());
    bundle.probe(&["read-file", &seen]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "of the host");
    // The lab's folder is on a mount below. Root of a user namespace may not write anyway.
    bundle.probe(&["open", "w", "/host/etc/passwd"]);
    assert_ne!(lab.run(&bundle).json()["/host/etc/passwd"], "ok");
    bundle.probe(&[]);
    let facts = lab.facts(&bundle);
    assert!(facts::has(&facts::mount(&facts, "/host")["options"], "ro"));
    assert_eq!(facts::mount(&facts, "/host/proc")["type"], "proc");
    let after = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
    assert_eq!(before, after);
}

fn the_hosts_root_can_be_bound(lab: &Lab) {
    host_root(lab, lab.bundle());
}

fn the_hosts_root_can_be_bound_in_a_user_namespace(lab: &Lab) {
    let bundle = super::namespaces::user_namespace(lab);
    host_root(lab, bundle);
}

/// Fails; Corten says why, in these words.
fn refused(lab: &Lab, bundle: &Bundle, expected: &str) {
    let index = bundle.config["mounts"].as_array().map_or(0, Vec::len) - 1;
    let output = lab.run(bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let text = format!("corten: mounts[{index}]: {expected} (step ");
        assert!(output.stderr().starts_with(&text), "{output}");
    }
}

fn a_file_on_a_folder_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    let source = bundle.rootfs().join("etc/passwd");
    bind(&mut bundle, &source, "/tmp", &["bind"]);
    let why = "what is there is a directory, the source a file";
    refused(
        lab,
        &bundle,
        &format!("attach /tmp: {why}: not a directory"),
    );
}

fn a_folder_on_a_file_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    let source = bundle.rootfs().join("etc");
    bind(&mut bundle, &source, "/etc/passwd", &["bind"]);
    let why = "what is there is a file, the source a directory";
    let text = format!("attach /etc/passwd: {why}: not a directory");
    refused(lab, &bundle, &text);
    // A file system is a folder, too.
    let mut bundle = lab.bundle();
    let mount = json!({"destination": "/etc/passwd", "type": "tmpfs", "source": "tmpfs"});
    bundle.push("/mounts", mount);
    refused(lab, &bundle, &text);
}

fn a_place_below_a_file_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    let source = bundle.rootfs().join("etc");
    bind(&mut bundle, &source, "/etc/passwd/x", &["bind"]);
    refused(lab, &bundle, "attach /etc/passwd/x: not a directory");
}

fn a_source_that_is_missing_is_refused_by_name(lab: &Lab) {
    let mut bundle = lab.bundle();
    bind(&mut bundle, Path::new("/not/there"), "/tmp", &["bind"]);
    let text = "bind /not/there on /tmp: no such file or directory";
    refused(lab, &bundle, text);
}

/// Binds, file systems, each in the one before or beside it.
fn hundred(lab: &Lab, mut bundle: Bundle) {
    let source = lab.folder().join("source");
    std::fs::create_dir(&source).expect("the lab is writable");
    let mut places = Vec::new();
    for number in 0..25 {
        let top = format!("/many/{number}");
        let tmpfs = json!({"destination": top, "type": "tmpfs", "source": "tmpfs"});
        bundle.push("/mounts", tmpfs);
        places.push(top.clone());
        for name in ["a", "b", "a/c"] {
            let place = format!("{top}/{name}");
            match name {
                "b" => bind(&mut bundle, &source, &place, &["bind", "ro"]),
                _ => drop(bundle.push(
                    "/mounts",
                    json!({"destination": place, "type": "tmpfs", "source": "tmpfs"}),
                )),
            }
            places.push(place);
        }
    }
    assert_eq!(places.len(), 100);
    let facts = lab.facts(&bundle);
    let mounts = facts["mounts"].as_array().expect("a list");
    let points = mounts.iter().filter_map(|mount| mount["point"].as_str());
    let points: Vec<&str> = points.filter(|point| point.starts_with("/many/")).collect();
    assert_eq!(points, places);
}

fn a_hundred_mounts_are_made_in_order(lab: &Lab) {
    hundred(lab, lab.bundle());
}

fn a_hundred_mounts_are_made_in_a_user_namespace(lab: &Lab) {
    let bundle = super::namespaces::user_namespace(lab);
    hundred(lab, bundle);
}

fn the_bundle_itself_can_be_the_root(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["list", "/"]);
    bundle.config["process"]["args"][0] = json!("/rootfs/probe");
    for path in [".", "./", "rootfs/.."] {
        bundle.config["root"]["path"] = json!(path);
        let list = lab.run(&bundle).json();
        for name in ["config.json", "rootfs", "proc", "dev"] {
            assert!(facts::find(&list, "name", name).is_some(), "{path}: {name}");
        }
    }
}

fn the_hosts_root_can_be_the_root(lab: &Lab) {
    let mut bundle = lab.bundle();
    let probe = lab.folder().join("probe");
    bundle.config["process"]["args"] = json!([probe]);
    bundle.config["root"]["path"] = json!("/");
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
    let facts = lab.facts(&bundle);
    let after = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
    assert_eq!(before, after);
    assert!(facts::has(&facts::mount(&facts, "/")["options"], "ro"));
    assert_eq!(facts["pid"], 1);
}

fn overlay_takes_more_than_a_page_of_layers(lab: &Lab) {
    let mut layers = Vec::new();
    for number in 0..100 {
        let name = format!("layer-{number}-{}", "x".repeat(40));
        let layer = lab.folder().join("layers").join(&name);
        std::fs::create_dir_all(layer.join(number.to_string())).expect("the lab is writable");
        layers.push(layer.to_string_lossy().into_owned());
    }
    let lower = format!("lowerdir={}", layers.join(":"));
    assert!(lower.len() > 4096);
    let mut bundle = lab.bundle_of(&["list", "/mnt"]);
    let mount = json!({
        "destination": "/mnt", "type": "overlay", "source": "overlay", "options": [lower],
    });
    bundle.push("/mounts", mount);
    let output = lab.run(&bundle);
    if output.status.success() {
        let list = output.json();
        assert_eq!(list.as_array().map(Vec::len), Some(100), "{list:#}");
    } else if lab.is_corten() {
        // A kernel that does not take the layers one by one.
        let text = output.stderr();
        let expected = format!("{} bytes, the kernel takes 4095", lower.len());
        assert!(text.contains(&expected), "{output}");
    }
}

/// What is mounted where, and how.
fn mounts(facts: &Value) -> BTreeSet<String> {
    let mounts = facts["mounts"].as_array().expect("a list");
    let line = |mount: &Value| {
        let of = |key: &str| mount[key].to_string();
        format!("{} {} {}", of("point"), of("type"), of("options"))
    };
    mounts.iter().map(line).collect()
}

fn without_a_pivot_everything_is_mounted_too(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.file("secret/file", "").expect("the lab is writable");
    bundle.file("frozen/file", "").expect("the lab is writable");
    let source = bundle.rootfs().join("etc");
    bind(&mut bundle, &source, "/bound", &["rbind", "ro"]);
    bind(&mut bundle, Path::new("/"), "/host", &["bind"]);
    bundle.push("/linux/maskedPaths", json!("/secret"));
    bundle.push("/linux/readonlyPaths", json!("/frozen"));
    let with = lab.facts(&bundle);
    let without = lab
        .command(&["run", "--no-pivot"], &bundle, "no-pivot")
        .json();
    assert_eq!(mounts(&with), mounts(&without));
    assert!(mounts(&with).len() > 15, "{:#?}", mounts(&with));
    bundle.probe(&["open", "w", "/secret/file", "/frozen/file", "/bound/passwd"]);
    let opened = lab
        .command(&["run", "--no-pivot"], &bundle, "no-pivot")
        .json();
    let expected = json!({
        "/secret/file": "ENOENT", "/frozen/file": "EROFS", "/bound/passwd": "EROFS",
    });
    assert_eq!(opened, expected);
}
