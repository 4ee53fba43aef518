//! tmpfs: its mode and owner, and `tmpcopyup`.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::Lab;

checks!("tmpfs":
    a_tmpfs_has_the_mode_of_the_folder_that_it_hides,
    a_tmpfs_on_a_new_folder_is_for_everybody,
    a_mode_that_is_given_counts,
    a_tmpfs_belongs_to_root_whatever_it_hides,
    in_a_user_namespace_a_tmpfs_belongs_to_its_root,
    tmpcopyup_brings_what_is_hidden,
    tmpcopyup_leaves_the_root_file_system_as_it_is,
    tmpcopyup_of_a_missing_folder_is_an_empty_tmpfs,
    tmpcopyup_follows_no_link_of_the_image,
    tmpcopyup_works_where_the_tmpfs_is_to_be_read_only,
);

/// A bundle with tmpfs mounts that prints what the paths are.
fn with_tmpfs(lab: &Lab, mounts: &[(&str, &[&str])], paths: &[&str]) -> Bundle {
    let mut bundle = lab.bundle_of(&[&["stat"], paths].concat());
    for (destination, options) in mounts {
        let mount = json!({
            "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options,
        });
        bundle.push("/mounts", mount);
    }
    bundle
}

/// Makes a folder in the root file system.
fn folder(bundle: &Bundle, name: &str, mode: u32, owner: u32) {
    let path = bundle.rootfs().join(name);
    std::fs::create_dir_all(&path).expect("a fresh root");
    std::os::unix::fs::chown(&path, Some(owner), Some(owner)).expect("root may");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("root may");
}

fn a_tmpfs_has_the_mode_of_the_folder_that_it_hides(lab: &Lab) {
    let modes = [
        ("/a", 0o700),
        ("/b", 0o755),
        ("/c", 0o1777),
        ("/d", 0o2750),
        ("/e", 0o555),
    ];
    let mounts = modes.map(|(path, _)| (path, &["nosuid"][..]));
    let bundle = with_tmpfs(lab, &mounts, &modes.map(|(path, _)| path));
    for (path, mode) in modes {
        folder(&bundle, path.trim_start_matches('/'), mode, 0);
    }
    let stat = lab.run(&bundle).json();
    for (path, mode) in modes {
        assert_eq!(stat[path]["mode"], format!("{mode:04o}"), "{path}");
    }
}

fn a_tmpfs_on_a_new_folder_is_for_everybody(lab: &Lab) {
    let mounts: [(&str, &[&str]); 2] = [("/new", &[]), ("/new/deep/er", &["nosuid"])];
    let stat = lab
        .run(&with_tmpfs(lab, &mounts, &["/new", "/new/deep/er"]))
        .json();
    assert_eq!(stat["/new"]["mode"], "1777");
    assert_eq!(stat["/new/deep/er"]["mode"], "1777");
}

fn a_mode_that_is_given_counts(lab: &Lab) {
    let mounts: [(&str, &[&str]); 2] = [("/a", &["mode=711"]), ("/b", &["size=1m,mode=0700"])];
    let bundle = with_tmpfs(lab, &mounts, &["/a", "/b"]);
    folder(&bundle, "a", 0o755, 0);
    folder(&bundle, "b", 0o755, 0);
    let stat = lab.run(&bundle).json();
    assert_eq!(
        (&stat["/a"]["mode"], &stat["/b"]["mode"]),
        (&json!("0711"), &json!("0700"))
    );
}

fn a_tmpfs_belongs_to_root_whatever_it_hides(lab: &Lab) {
    let mounts: [(&str, &[&str]); 2] = [("/a", &[]), ("/b", &["uid=7", "gid=8"])];
    let bundle = with_tmpfs(lab, &mounts, &["/a", "/b"]);
    folder(&bundle, "a", 0o750, 5);
    folder(&bundle, "b", 0o750, 5);
    let stat = lab.run(&bundle).json();
    let owner = |path: &str| (stat[path]["uid"].clone(), stat[path]["gid"].clone());
    assert_eq!(owner("/a"), (json!(0), json!(0)));
    assert_eq!(owner("/b"), (json!(7), json!(8)));
}

fn in_a_user_namespace_a_tmpfs_belongs_to_its_root(lab: &Lab) {
    let mounts: [(&str, &[&str]); 2] = [("/a", &["nosuid"]), ("/new", &[])];
    let mut bundle = with_tmpfs(lab, &mounts, &["/a", "/new"]);
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    folder(&bundle, "a", 0o750, 0);
    bundle.give_to(100_000).expect("root may");
    let stat = lab.run(&bundle).json();
    for (path, mode) in [("/a", "0750"), ("/new", "1777")] {
        assert_eq!(stat[path]["mode"], mode, "{path}");
        assert_eq!(
            (&stat[path]["uid"], &stat[path]["gid"]),
            (&json!(0), &json!(0))
        );
    }
}

/// A bundle with a tmpfs over a folder that has something of everything.
fn copied_up(lab: &Lab, options: &[&str], arguments: &[&str]) -> Bundle {
    let mut bundle = with_tmpfs(lab, &[("/full", options)], &[]);
    bundle.probe(arguments);
    bundle.file("full/file", "text\n").expect("a fresh root");
    bundle
        .file("full/a/b/deep", "deep\n")
        .expect("a fresh root");
    let root = bundle.rootfs();
    std::os::unix::fs::chown(root.join("full/file"), Some(3), Some(4)).expect("root may");
    std::fs::set_permissions(root.join("full/file"), PermissionsExt::from_mode(0o640))
        .expect("root may");
    std::os::unix::fs::symlink("file", root.join("full/link")).expect("a fresh root");
    folder(&bundle, "full/a", 0o1775, 9);
    folder(&bundle, "full", 0o751, 0);
    bundle
}

fn tmpcopyup_brings_what_is_hidden(lab: &Lab) {
    let paths = [
        "/full",
        "/full/file",
        "/full/link",
        "/full/a",
        "/full/a/b/deep",
    ];
    let bundle = copied_up(
        lab,
        &["tmpcopyup", "size=1m"],
        &[&["stat"], &paths[..]].concat(),
    );
    let stat = lab.run(&bundle).json();
    assert_eq!(stat["/full"]["mode"], "0751");
    let file = &stat["/full/file"];
    assert_eq!((&file["mode"], &file["size"]), (&json!("0640"), &json!(5)));
    assert_eq!((&file["uid"], &file["gid"]), (&json!(3), &json!(4)));
    assert_eq!(stat["/full/link"]["target"], "file");
    assert_eq!(stat["/full/a"]["mode"], "1775");
    assert_eq!(stat["/full/a"]["uid"], 9);
    assert_eq!(stat["/full/a/b/deep"]["size"], 5);
}

fn tmpcopyup_leaves_the_root_file_system_as_it_is(lab: &Lab) {
    let mut bundle = copied_up(
        lab,
        &["tmpcopyup"],
        &["write-file", "/full/file", "changed"],
    );
    bundle.config["process"]["user"]["uid"] = json!(3);
    drop(lab.run(&bundle).ok());
    let text = std::fs::read_to_string(bundle.rootfs().join("full/file")).expect("still there");
    assert_eq!(text, "text\n");
}

fn tmpcopyup_of_a_missing_folder_is_an_empty_tmpfs(lab: &Lab) {
    let mut bundle = with_tmpfs(lab, &[("/not/there", &["tmpcopyup"])], &[]);
    bundle.probe(&["list", "/not/there"]);
    assert_eq!(lab.run(&bundle).json(), json!([]));
}

fn tmpcopyup_follows_no_link_of_the_image(lab: &Lab) {
    let victim = lab.folder().join("victim");
    std::fs::create_dir(&victim).expect("the lab is writable");
    std::fs::write(victim.join("secret"), "secret").expect("the lab is writable");
    let bundle = copied_up(lab, &["tmpcopyup"], &["list", "/full"]);
    let link = bundle.rootfs().join("full/out");
    std::os::unix::fs::symlink(&victim, link).expect("a fresh root");
    let list: Value = lab.run(&bundle).json();
    let out = crate::facts::entry(&list, "name", "out");
    assert_eq!(out["type"], "Symlink");
    assert_eq!(out["target"], victim.display().to_string());
}

fn tmpcopyup_works_where_the_tmpfs_is_to_be_read_only(lab: &Lab) {
    let mut bundle = copied_up(lab, &["ro", "tmpcopyup"], &["read-file", "/full/a/b/deep"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "deep\n");
    bundle.probe(&["write-file", "/full/new", "text"]);
    assert_eq!(lab.run(&bundle).stderr(), "EROFS\n");
}
