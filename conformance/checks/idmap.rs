//! Id-mapped mounts, and sources of binds in a user namespace.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::{Need, checks};
use crate::facts;
use crate::lab::Lab;
use crate::wait;

checks!("idmap":
    a_mount_shows_ids_as_its_map_says [TMPFS],
    what_is_made_through_a_mapped_mount_has_the_id_of_the_source [TMPFS],
    a_map_may_have_several_lines [TMPFS],
    uids_and_gids_have_maps_of_their_own [TMPFS],
    two_mounts_have_maps_of_their_own [TMPFS],
    an_id_map_goes_with_other_options [TMPFS],
    idmap_is_for_the_mount_itself_and_ridmap_for_all_below [TMPFS],
    an_option_can_have_the_map [TMPFS],
    a_map_is_for_uids_and_gids,
    without_a_map_it_is_that_of_the_user_namespace [TMPFS],
    in_a_user_namespace_a_mount_can_have_its_ids [TMPFS],
    in_a_user_namespace_a_mount_can_have_other_ids [TMPFS],
    a_relative_map_is_one_of_the_user_namespace [TMPFS],
    a_joined_user_namespace_lends_its_map [TMPFS],
    a_file_system_that_can_not_be_mapped_is_named,
    a_source_behind_folders_of_others_is_bound_in_a_user_namespace,
    many_sources_are_bound_in_a_user_namespace,
    a_plain_bind_of_a_tree_with_mounts_works_in_a_user_namespace,
    a_mount_made_below_a_bind_in_a_user_namespace_stays_inside,
    nothing_of_the_sources_is_left_in_a_user_namespace,
    dev_can_be_bound_in_a_user_namespace,
    hooks_are_in_the_bundle_with_binds_in_a_user_namespace,
);

/// The ids of a tmpfs can be mapped from this kernel on.
const TMPFS: Need = Need::Kernel(6, 3);

/// A folder with files that belong to these ids, uid and gid.
fn owned(lab: &Lab, name: &str, ids: &[u32]) -> PathBuf {
    let path = lab.folder().join(name);
    std::fs::create_dir_all(&path).expect("the lab is writable");
    std::fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("ours");
    for id in ids {
        let file = path.join(id.to_string());
        std::fs::write(&file, "").expect("the lab is writable");
        std::os::unix::fs::chown(&file, Some(*id), Some(*id)).expect("root may");
    }
    path
}

/// Lines of a map, each: first id in the source, first id in the mount, count.
fn map(lines: &[[u32; 3]]) -> Value {
    let line = |[inside, outside, size]: &[u32; 3]| json!({"containerID": inside, "hostID": outside, "size": size});
    lines.iter().map(line).collect()
}

fn bind(bundle: &mut Bundle, source: &Path, to: &str, options: &[&str]) {
    let entry = json!({"destination": to, "type": "bind", "source": source, "options": options});
    bundle.push("/mounts", entry);
}

/// A bind with a map for uids and gids alike.
fn mapped(bundle: &mut Bundle, source: &Path, to: &str, options: &[&str], lines: &[[u32; 3]]) {
    let entry = json!({
        "destination": to, "type": "bind", "source": source, "options": options,
        "uidMappings": map(lines), "gidMappings": map(lines),
    });
    bundle.push("/mounts", entry);
}

/// Gives the bundle a user namespace with these lines, and its root the first.
fn with_user_namespace(bundle: &mut Bundle, lines: &[[u32; 3]]) {
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    bundle.config["linux"]["uidMappings"] = map(lines);
    bundle.config["linux"]["gidMappings"] = map(lines);
    bundle.give_to(lines[0][1]).expect("root may");
}

const USUAL: [[u32; 3]; 1] = [[0, 100_000, 65_536]];

/// The uid and gid of paths, as the container sees them.
fn ids(lab: &Lab, bundle: &mut Bundle, paths: &[&str]) -> Vec<[u64; 2]> {
    bundle.probe(&[&["stat"], paths].concat());
    let stat = lab.run(bundle).json();
    let id =
        |path: &&str| ["uid", "gid"].map(|name| stat[*path][name].as_u64().unwrap_or(u64::MAX));
    paths.iter().map(id).collect()
}

/// What belongs to nobody that the map knows.
const NOBODY: u64 = 65_534;

fn a_mount_shows_ids_as_its_map_says(lab: &Lab) {
    let source = owned(lab, "source", &[0, 5, 10]);
    let mut bundle = lab.bundle();
    mapped(
        &mut bundle,
        &source,
        "/mnt",
        &["bind", "idmap"],
        &[[0, 1000, 10]],
    );
    let found = ids(lab, &mut bundle, &["/mnt/0", "/mnt/5", "/mnt/10"]);
    assert_eq!(found, [[1000, 1000], [1005, 1005], [NOBODY, NOBODY]]);
    // As it is without the map.
    let mut bundle = lab.bundle();
    bind(&mut bundle, &source, "/mnt", &["bind"]);
    assert_eq!(
        ids(lab, &mut bundle, &["/mnt/0", "/mnt/10"]),
        [[0, 0], [10, 10]]
    );
}

fn what_is_made_through_a_mapped_mount_has_the_id_of_the_source(lab: &Lab) {
    let source = owned(lab, "source", &[]);
    let mut bundle = lab.bundle_of(&["write-file", "/mnt/new", "text"]);
    mapped(
        &mut bundle,
        &source,
        "/mnt",
        &["bind", "idmap"],
        &[[0, 1000, 10]],
    );
    bundle.config["process"]["user"] = json!({"uid": 1003, "gid": 1004});
    drop(lab.run(&bundle).ok());
    let made = std::fs::metadata(source.join("new")).expect("it was made");
    assert_eq!((made.uid(), made.gid()), (3, 4));
}

fn a_map_may_have_several_lines(lab: &Lab) {
    let source = owned(lab, "source", &[0, 1, 7]);
    let mut bundle = lab.bundle();
    let lines = [[0, 1000, 1], [1, 50, 1], [7, 0, 3]];
    mapped(&mut bundle, &source, "/mnt", &["bind", "idmap"], &lines);
    let found = ids(lab, &mut bundle, &["/mnt/0", "/mnt/1", "/mnt/7"]);
    assert_eq!(found, [[1000, 1000], [50, 50], [0, 0]]);
}

fn uids_and_gids_have_maps_of_their_own(lab: &Lab) {
    let source = owned(lab, "source", &[0]);
    let mut bundle = lab.bundle();
    let entry = json!({
        "destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"],
        "uidMappings": map(&[[0, 11, 1]]), "gidMappings": map(&[[0, 22, 1]]),
    });
    bundle.push("/mounts", entry);
    assert_eq!(ids(lab, &mut bundle, &["/mnt/0"]), [[11, 22]]);
}

fn two_mounts_have_maps_of_their_own(lab: &Lab) {
    let source = owned(lab, "source", &[0]);
    let mut bundle = lab.bundle();
    for (to, id) in [("/a", 11), ("/b", 22), ("/c", 11)] {
        mapped(&mut bundle, &source, to, &["bind", "idmap"], &[[0, id, 1]]);
    }
    let found = ids(lab, &mut bundle, &["/a/0", "/b/0", "/c/0"]);
    assert_eq!(found, [[11, 11], [22, 22], [11, 11]]);
}

fn an_id_map_goes_with_other_options(lab: &Lab) {
    let source = owned(lab, "source", &[0]);
    let mut bundle = lab.bundle();
    let options = ["rbind", "idmap", "ro", "nosuid", "rslave"];
    mapped(&mut bundle, &source, "/mnt", &options, &[[0, 11, 1]]);
    assert_eq!(ids(lab, &mut bundle, &["/mnt/0"]), [[11, 11]]);
    bundle.probe(&["facts"]);
    let facts = lab.facts(&bundle);
    let mount = facts::mount(&facts, "/mnt");
    assert!(facts::has(&mount["options"], "ro") && facts::has(&mount["options"], "nosuid"));
}

/// A mount of the lane, gone at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).expect("the lab is writable");
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None).expect("root may mount");
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

fn idmap_is_for_the_mount_itself_and_ridmap_for_all_below(lab: &Lab) {
    let outer = Mounted::tmpfs(lab.folder().join("outer"));
    std::fs::write(outer.0.join("0"), "").expect("a fresh tmpfs");
    let inner = Mounted::tmpfs(outer.0.join("inner"));
    std::fs::write(inner.0.join("0"), "").expect("a fresh tmpfs");
    for (option, below) in [("idmap", 0), ("ridmap", 11)] {
        let mut bundle = lab.bundle();
        mapped(
            &mut bundle,
            &outer.0,
            "/mnt",
            &["rbind", option],
            &[[0, 11, 1]],
        );
        let found = ids(lab, &mut bundle, &["/mnt/0", "/mnt/inner/0"]);
        assert_eq!(found, [[11, 11], [below, below]], "{option}");
    }
}

fn an_option_can_have_the_map(lab: &Lab) {
    let source = owned(lab, "source", &[0, 5]);
    let mut bundle = lab.bundle();
    let option = "idmap=uids=0-1000-1#5-50-1;gids=0-2000-10";
    bind(&mut bundle, &source, "/mnt", &["bind", option]);
    assert_eq!(
        ids(lab, &mut bundle, &["/mnt/0", "/mnt/5"]),
        [[1000, 2000], [50, 2005]]
    );
}

fn a_map_is_for_uids_and_gids(lab: &Lab) {
    let source = owned(lab, "source", &[0]);
    let mut bundle = lab.bundle_of(&["true"]);
    let entry = json!({
        "destination": "/mnt", "type": "bind", "source": source, "options": ["bind"],
        "uidMappings": map(&[[0, 11, 1]]),
    });
    bundle.push("/mounts", entry);
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let expected = "corten: mounts[7].gidMappings: missing: an id map is for uids and gids";
        assert_eq!(output.stderr().trim_end(), expected);
    }
}

fn without_a_map_it_is_that_of_the_user_namespace(lab: &Lab) {
    let source = owned(lab, "source", &[0, 5]);
    let mut bundle = lab.bundle();
    bind(&mut bundle, &source, "/mnt", &["bind", "idmap"]);
    let output = lab.run(&bundle);
    assert!(
        !output.status.success(),
        "without a user namespace there is none: {output}"
    );
    with_user_namespace(&mut bundle, &USUAL);
    assert_eq!(
        ids(lab, &mut bundle, &["/mnt/0", "/mnt/5"]),
        [[0, 0], [5, 5]]
    );
}

fn in_a_user_namespace_a_mount_can_have_its_ids(lab: &Lab) {
    let source = owned(lab, "source", &[0, 5]);
    let mut bundle = lab.bundle();
    mapped(&mut bundle, &source, "/mnt", &["rbind", "ro"], &USUAL);
    bind(&mut bundle, &source, "/plain", &["bind"]);
    with_user_namespace(&mut bundle, &USUAL);
    let found = ids(lab, &mut bundle, &["/mnt/0", "/mnt/5", "/plain/0"]);
    assert_eq!(found, [[0, 0], [5, 5], [NOBODY, NOBODY]]);
    bundle.probe(&["write-file", "/mnt/new", "text"]);
    assert_eq!(lab.run(&bundle).stderr(), "EROFS\n");
}

fn in_a_user_namespace_a_mount_can_have_other_ids(lab: &Lab) {
    let source = owned(lab, "source", &[0, 1000]);
    let mut bundle = lab.bundle();
    // The id 1000 of the source is that of the container's root, and its root nobody here.
    mapped(
        &mut bundle,
        &source,
        "/mnt",
        &["bind", "idmap"],
        &[[1000, 100_000, 1]],
    );
    with_user_namespace(&mut bundle, &USUAL);
    let found = ids(lab, &mut bundle, &["/mnt/0", "/mnt/1000"]);
    assert_eq!(found, [[NOBODY, NOBODY], [0, 0]]);
}

fn a_relative_map_is_one_of_the_user_namespace(lab: &Lab) {
    let source = owned(lab, "source", &[0, 1]);
    let mut bundle = lab.bundle();
    let option = "idmap=uids=@0-1-1#@1-7-1;gids=@0-20-2";
    bind(&mut bundle, &source, "/mnt", &["bind", option]);
    with_user_namespace(&mut bundle, &USUAL);
    assert_eq!(
        ids(lab, &mut bundle, &["/mnt/0", "/mnt/1"]),
        [[1, 20], [7, 21]]
    );
}

/// A process in a user namespace whose root is uid 100000 outside, until it is dropped.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--user", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare starts");
        let own = std::fs::metadata("/proc/self/ns/user")
            .expect("a /proc")
            .ino();
        let path = format!("/proc/{}", child.id());
        let made = wait::until(wait::CALL, || {
            let theirs = std::fs::metadata(format!("{path}/ns/user")).ok()?.ino();
            (theirs != own).then_some(())
        });
        made.expect("it makes a user namespace");
        for file in ["uid_map", "gid_map"] {
            let line = "0 100000 65536\n";
            std::fs::write(format!("{path}/{file}"), line).expect("root may");
        }
        Self(child)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.0.kill().expect("an own child can be killed");
        self.0.wait().expect("and waited for");
    }
}

fn a_joined_user_namespace_lends_its_map(lab: &Lab) {
    let namespace = Namespace::new();
    let source = owned(lab, "source", &[0, 5]);
    let mut bundle = lab.bundle();
    bind(&mut bundle, &source, "/mnt", &["bind", "idmap"]);
    let path = format!("/proc/{}/ns/user", namespace.0.id());
    bundle.push("/linux/namespaces", json!({"type": "user", "path": path}));
    bundle.give_to(100_000).expect("root may");
    assert_eq!(
        ids(lab, &mut bundle, &["/mnt/0", "/mnt/5"]),
        [[0, 0], [5, 5]]
    );
}

fn a_file_system_that_can_not_be_mapped_is_named(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    mapped(
        &mut bundle,
        Path::new("/proc"),
        "/mnt",
        &["bind", "idmap"],
        &[[0, 11, 1]],
    );
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let expected = "corten: mounts[7]: map the ids of /proc: the ids of its file system (proc)";
        assert!(output.stderr().starts_with(expected), "{output}");
    }
}

/// A folder that only its owner may enter, with a source in it.
fn behind(lab: &Lab, name: &str, owner: u32) -> PathBuf {
    let closed = lab.folder().join(name);
    let source = closed.join("deep/source");
    std::fs::create_dir_all(&source).expect("the lab is writable");
    std::fs::write(source.join("file"), "seen\n").expect("the lab is writable");
    for path in [&closed.join("deep"), &closed] {
        std::os::unix::fs::chown(path, Some(owner), Some(owner)).expect("root may");
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).expect("root may");
    }
    source
}

fn a_source_behind_folders_of_others_is_bound_in_a_user_namespace(lab: &Lab) {
    for (name, owner) in [
        ("of-root", 0),
        ("of-another", 1234),
        ("of-a-subordinate", 150_000),
    ] {
        let source = behind(lab, name, owner);
        let mut bundle = lab.bundle_of(&["read-file", "/mnt/file"]);
        bind(&mut bundle, &source, "/mnt", &["rbind"]);
        bind(&mut bundle, &source.join("file"), "/etc/hosts", &["bind"]);
        with_user_namespace(&mut bundle, &USUAL);
        assert_eq!(lab.run(&bundle).ok().stdout(), "seen\n", "{name}");
        bundle.probe(&["read-file", "/etc/hosts"]);
        assert_eq!(lab.run(&bundle).ok().stdout(), "seen\n", "{name}");
    }
}

fn many_sources_are_bound_in_a_user_namespace(lab: &Lab) {
    let source = behind(lab, "closed", 1234);
    let mut bundle = lab.bundle();
    for number in 0..60 {
        bind(
            &mut bundle,
            &source,
            &format!("/mnt/{number}"),
            &["bind", "ro"],
        );
    }
    with_user_namespace(&mut bundle, &USUAL);
    let facts = lab.facts(&bundle);
    for number in 0..60 {
        let mount = facts::mount(&facts, &format!("/mnt/{number}"));
        assert!(facts::has(&mount["options"], "ro"), "{mount:#}");
    }
}

fn a_plain_bind_of_a_tree_with_mounts_works_in_a_user_namespace(lab: &Lab) {
    let outer = Mounted::tmpfs(lab.folder().join("outer"));
    let inner = Mounted::tmpfs(outer.0.join("inner"));
    std::fs::write(inner.0.join("hidden"), "").expect("a fresh tmpfs");
    let mut bundle = lab.bundle_of(&["list", "/mnt/inner"]);
    bind(&mut bundle, &outer.0, "/mnt", &["bind"]);
    with_user_namespace(&mut bundle, &USUAL);
    assert_eq!(lab.run(&bundle).json(), json!([]));
}

/// Probed, no CVE: a bind that was cloned on the host's side stays a peer of its mount.
fn a_mount_made_below_a_bind_in_a_user_namespace_stays_inside(lab: &Lab) {
    let outer = Mounted::tmpfs(lab.folder().join("outer"));
    std::fs::create_dir(outer.0.join("below")).expect("a fresh tmpfs");
    std::os::unix::fs::chown(outer.0.join("below"), Some(100_000), None).expect("root may");
    mount_change(&outer.0, MountPropagationFlags::SHARED).expect("root may mount");
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
    for options in [["rbind", "rw"], ["rbind", "rshared"], ["bind", "shared"]] {
        let mut bundle = lab.bundle_of(&["mount-tmpfs", "/mnt/below"]);
        bind(&mut bundle, &outer.0, "/mnt", &options);
        with_user_namespace(&mut bundle, &USUAL);
        let all = json!(["CAP_SYS_ADMIN"]);
        for set in ["bounding", "effective", "permitted"] {
            bundle.config["process"]["capabilities"][set] = all.clone();
        }
        let output = lab.run(&bundle);
        assert_eq!(output.stdout(), "done\n", "{output}");
        let after = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
        assert_eq!(before, after, "{options:?}");
    }
}

fn nothing_of_the_sources_is_left_in_a_user_namespace(lab: &Lab) {
    let source = owned(lab, "source", &[0]);
    let mut bundle = lab.bundle();
    bind(&mut bundle, &source, "/mnt", &["bind"]);
    with_user_namespace(&mut bundle, &USUAL);
    let facts = lab.facts(&bundle);
    let known = ["/", "/dev", "/proc", "/sys", "/mnt"];
    for mount in facts["mounts"].as_array().expect("a list") {
        let point = mount["point"].as_str().unwrap_or_default();
        let below = known[1..]
            .iter()
            .any(|top| point.starts_with(&format!("{top}/")));
        assert!(known.contains(&point) || below, "{mount:#}");
    }
    for fd in facts["fds"].as_array().expect("a list") {
        assert!(fd["fd"].as_u64() < Some(3), "{fd:#}");
    }
}

fn dev_can_be_bound_in_a_user_namespace(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["stat", "/dev/null"]);
    for point in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(point);
    }
    bind(&mut bundle, Path::new("/dev"), "/dev", &["rbind"]);
    with_user_namespace(&mut bundle, &USUAL);
    assert_eq!(lab.run(&bundle).json()["/dev/null"]["device"], "1:3");
}

fn hooks_are_in_the_bundle_with_binds_in_a_user_namespace(lab: &Lab) {
    let source = owned(lab, "source", &[0]);
    let mut bundle = lab.bundle_of(&["echo", "here"]);
    bind(&mut bundle, &source, "/mnt", &["bind"]);
    with_user_namespace(&mut bundle, &USUAL);
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "test -e config.json"]});
    bundle.config["hooks"] = json!({"createContainer": [hook]});
    assert_eq!(lab.run(&bundle).ok().stdout(), "here\n");
}
