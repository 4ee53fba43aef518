//! Containers without a mount namespace of their own: in the host's, or in one that is
//! joined. Nothing can be mounted for them alone.

use std::os::linux::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command};

use rustix::mount::{UnmountFlags, unmount};
use serde_json::json;

use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::Lab;
use crate::wait;

checks!("mount_namespace":
    without_a_mount_namespace_the_root_is_entered_and_nothing_else_changes,
    without_a_mount_namespace_nothing_is_left_on_the_host,
    without_a_mount_namespace_the_hosts_own_root_can_be_the_root,
    a_user_namespace_needs_no_mount_namespace,
    a_joined_mount_namespace_stays_as_it_is,
    a_joined_mount_namespace_has_its_own_view_of_the_root,
    a_joined_mount_namespace_can_not_lead_the_root_to_the_host,
);

/// A bundle that asks for nothing that would have to be mounted.
fn plain(lab: &Lab, arguments: &[&str]) -> Bundle {
    let mut bundle = lab.bundle_of(arguments);
    bundle.without_namespace("mount");
    bundle.config["mounts"] = json!([]);
    bundle.config["root"]["readonly"] = json!(false);
    for field in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][field] = json!([]);
    }
    bundle
}

fn namespace(pid: impl std::fmt::Display) -> u64 {
    let path = format!("/proc/{pid}/ns/mnt");
    std::fs::metadata(path).expect("it runs").st_ino()
}

fn mounts(pid: impl std::fmt::Display) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it runs")
}

fn without_a_mount_namespace_the_root_is_entered_and_nothing_else_changes(lab: &Lab) {
    let bundle = plain(lab, &["sleep"]);
    let before = mounts("self");
    let container = lab.start(&bundle);
    let pid = container.pid();
    assert_eq!(namespace(pid), namespace("self"));
    let root = std::fs::read_link(format!("/proc/{pid}/root")).expect("it runs");
    assert_eq!(root, bundle.rootfs());
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs");
    assert_eq!(cwd, bundle.rootfs());
    assert_eq!(mounts("self"), before);
}

/// Either it is refused to mount there, or it is taken back.
fn without_a_mount_namespace_nothing_is_left_on_the_host(lab: &Lab) {
    let mut bundle = plain(lab, &["true"]);
    bundle.push(
        "/mounts",
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
    );
    let before = mounts("self");
    let output = lab.run(&bundle);
    let after = mounts("self");
    // So that the bundle can be removed.
    for place in ["rootfs/proc", "rootfs"] {
        let place = bundle.path().join(place);
        if let Err(error) = unmount(&place, UnmountFlags::DETACH) {
            println!("{}: {error}", place.display());
        }
    }
    assert_eq!(after, before, "{output}");
    if lab.is_corten() {
        let text = "corten: mounts: needs a new mount namespace";
        assert!(output.stderr().starts_with(text), "{output}");
    }
}

fn without_a_mount_namespace_the_hosts_own_root_can_be_the_root(lab: &Lab) {
    let mut bundle = plain(lab, &["sleep"]);
    bundle.config["root"]["path"] = json!("/");
    let probe = bundle.rootfs().join("probe");
    bundle.args(&[&probe.to_string_lossy(), "sleep"]);
    let links = ["ptmx", "null", "fd", "console"].map(|name| Path::new("/dev").join(name));
    let look = || {
        links
            .clone()
            .map(|link| std::fs::symlink_metadata(link).ok().map(|m| m.st_ino()))
    };
    let before = look();
    let container = lab.start(&bundle);
    let root = std::fs::read_link(format!("/proc/{}/root", container.pid()));
    assert_eq!(root.expect("it runs"), Path::new("/"));
    assert_eq!(look(), before, "{links:?}");
}

fn a_user_namespace_needs_no_mount_namespace(lab: &Lab) {
    let mut bundle = plain(lab, &["sleep"]);
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    for field in ["uidMappings", "gidMappings"] {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        bundle.config["linux"][field] = map;
    }
    bundle.give_to(100_000).expect("root may");
    let container = lab.start(&bundle);
    assert_eq!(namespace(container.pid()), namespace("self"));
    let root = std::fs::read_link(format!("/proc/{}/root", container.pid()));
    assert_eq!(root.expect("it runs"), bundle.rootfs());
}

/// A process in a mount namespace of its own, which shell commands have changed.
struct Other(Child);

impl Other {
    fn new(lab: &Lab, commands: &str) -> Other {
        let ready = lab.folder().join("ready");
        let script = format!(
            "set -e; {commands}\ntouch {}; exec sleep 600",
            ready.display()
        );
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .spawn()
            .expect("unshare is there");
        let seen = wait::until(wait::CALL, || ready.exists().then_some(()));
        assert!(seen.is_some(), "{script}");
        std::fs::remove_file(ready).expect("the lab is writable");
        Other(child)
    }

    fn join(&self, bundle: &mut Bundle) {
        let path = format!("/proc/{}/ns/mnt", self.0.id());
        bundle.push("/linux/namespaces", json!({"type": "mount", "path": path}));
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if self.0.kill().and_then(|()| self.0.wait()).is_err() {
            eprintln!("process {} does not end", self.0.id());
        }
    }
}

fn a_joined_mount_namespace_stays_as_it_is(lab: &Lab) {
    let other = Other::new(lab, "true");
    let before = mounts(other.0.id());
    let mut bundle = plain(lab, &["sleep"]);
    other.join(&mut bundle);
    let container = lab.start(&bundle);
    assert_eq!(namespace(container.pid()), namespace(other.0.id()));
    assert_eq!(mounts(other.0.id()), before);
    drop(container);
    assert_eq!(mounts(other.0.id()), before);
}

fn a_joined_mount_namespace_has_its_own_view_of_the_root(lab: &Lab) {
    let mut bundle = plain(lab, &["list", "/"]);
    let root = bundle.rootfs().to_string_lossy().into_owned();
    let mark = format!(
        "cp {root}/probe {root}/../copy; mount -n -t tmpfs mark {root}; cp {root}/../copy {root}/probe; \
         mkdir {root}/dev {root}/proc {root}/mark"
    );
    let other = Other::new(lab, &mark);
    other.join(&mut bundle);
    let list = lab.run(&bundle).json();
    assert!(
        crate::facts::find(&list, "name", "mark").is_some(),
        "{list:#}"
    );
    assert!(!bundle.rootfs().join("mark").exists());
}

/// Whoever rules the namespace can make any link in it, and the runtime can follow any.
fn a_joined_mount_namespace_can_not_lead_the_root_to_the_host(lab: &Lab) {
    let mut bundle = plain(lab, &["list", "/"]);
    let folder = bundle.path().to_string_lossy().into_owned();
    let link = format!("mount -n -t tmpfs links {folder}; ln -s /proc/1/root {folder}/rootfs");
    let other = Other::new(lab, &link);
    other.join(&mut bundle);
    let probe = bundle.rootfs().join("probe");
    bundle.args(&[&probe.to_string_lossy(), "list", "/"]);
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        assert!(
            output.stderr().starts_with("corten: root.path: "),
            "{output}"
        );
    }
}
