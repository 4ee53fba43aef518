//! `root`: the root file system, what is left of the host's, and propagation.

use serde_json::json;

use crate::check::checks;
use crate::facts;
use crate::lab::Lab;

checks!("rootfs":
    the_root_is_the_bundles,
    a_read_only_root_can_not_be_written,
    a_writable_root_is_written_in_the_bundle,
    root_path_may_be_absolute,
    nothing_of_the_hosts_mounts_is_left,
    the_root_has_no_parent_to_escape_to,
    no_pivot_changes_the_root_too,
);

fn the_root_is_the_bundles(lab: &Lab) {
    let bundle = lab.bundle_of(&["list", "/"]);
    bundle.file("mark", "").expect("the lab is writable");
    let list = lab.run(&bundle).json();
    assert_eq!(facts::entry(&list, "name", "mark")["type"], "RegularFile");
    assert!(facts::find(&list, "name", "boot").is_none(), "{list:#}");
}

fn a_read_only_root_can_not_be_written(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["write-file", "/new", "text"]);
    bundle.config["root"]["readonly"] = json!(true);
    let output = lab.run(&bundle);
    assert_eq!(output.stderr(), "EROFS\n", "{output}");
}

fn a_writable_root_is_written_in_the_bundle(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["write-file", "/new", "text"]);
    bundle.config["root"]["readonly"] = json!(false);
    drop(lab.run(&bundle).ok());
    let text = std::fs::read_to_string(bundle.rootfs().join("new")).expect("it was written");
    assert_eq!(text, "text");
}

fn root_path_may_be_absolute(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["echo", "here"]);
    bundle.config["root"]["path"] = json!(bundle.rootfs());
    assert_eq!(lab.run(&bundle).ok().stdout(), "here\n");
}

fn nothing_of_the_hosts_mounts_is_left(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    let mounts = facts["mounts"].as_array().expect("a list");
    for mount in mounts {
        let point = mount["point"].as_str().unwrap_or_default();
        let known = ["/", "/dev", "/proc", "/sys"];
        let below = known[1..]
            .iter()
            .any(|top| point.starts_with(&format!("{top}/")));
        assert!(known.contains(&point) || below, "{mount:#}");
    }
    // Once each: what is over-mounted would come back after an umount.
    for point in ["/", "/dev", "/proc", "/sys"] {
        let count = mounts
            .iter()
            .filter(|mount| mount["point"] == point)
            .count();
        assert_eq!(count, 1, "{point}");
    }
}

fn the_root_has_no_parent_to_escape_to(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["stat", "/", "/..", "/../../.."]);
    bundle.config["process"]["cwd"] = json!("/");
    let stat = lab.run(&bundle).json();
    assert_eq!(stat["/"]["inode"], stat["/.."]["inode"]);
    assert_eq!(stat["/"]["inode"], stat["/../../.."]["inode"]);
}

fn no_pivot_changes_the_root_too(lab: &Lab) {
    let bundle = lab.bundle_of(&["list", "/"]);
    bundle.file("mark", "").expect("the lab is writable");
    let list = lab
        .command(&["run", "--no-pivot"], &bundle, "no-pivot")
        .json();
    assert!(facts::find(&list, "name", "mark").is_some(), "{list:#}");
    assert!(facts::find(&list, "name", "boot").is_none(), "{list:#}");
}
