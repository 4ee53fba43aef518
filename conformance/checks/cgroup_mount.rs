//! `mounts` of type `cgroup`: what a container sees of the cgroup tree.

use serde_json::json;

use super::namespaces;
use crate::bundle::Bundle;
use crate::check::{Need, checks};
use crate::facts;
use crate::lab::Lab;

checks!("cgroupmount":
    in_its_own_namespace_a_container_is_at_the_root_of_the_tree,
    a_read_only_cgroup_tree_can_not_be_written,
    a_writable_cgroup_tree_can_be_written,
    in_the_hosts_namespace_the_whole_tree_is_seen,
    in_a_user_namespace_the_tree_is_there_too,
    the_hosts_cgroup_tree_keeps_its_options [Need::Systemd],
);

const PLACE: &str = "/sys/fs/cgroup";
/// Below the top: the tree as a whole is not the container's.
const PATH: &str = "/seen";

/// A bundle with the cgroup tree mounted so, that does this.
fn with(lab: &Lab, access: &str, arguments: &[&str]) -> Bundle {
    let mut bundle = lab.bundle_of(arguments);
    mounted(&mut bundle, access);
    bundle
}

fn mounted(bundle: &mut Bundle, access: &str) {
    bundle.without_mount(PLACE);
    let mount = json!({
        "destination": PLACE, "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", access],
    });
    bundle.push("/mounts", mount);
    bundle.config["linux"]["cgroupsPath"] = json!(PATH);
}

fn procs(below: &str) -> String {
    format!("{PLACE}{below}/cgroup.procs")
}

fn in_its_own_namespace_a_container_is_at_the_root_of_the_tree(lab: &Lab) {
    let mut bundle = with(lab, "ro", &["read-file", &procs("")]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "1\n");
    bundle.probe(&[]);
    let facts = lab.facts(&bundle);
    let mount = facts::mount(&facts, PLACE);
    assert_eq!(mount["root"], "/", "{mount:#}");
    assert_eq!(mount["type"], "cgroup2", "{mount:#}");
}

/// Whether there is a namespace for it makes no difference.
fn a_read_only_cgroup_tree_can_not_be_written(lab: &Lab) {
    for (apart, below) in [(true, ""), (false, PATH)] {
        let mut bundle = with(lab, "ro", &["write-file", &procs(below), "0"]);
        if !apart {
            bundle.without_namespace("cgroup");
        }
        let output = lab.run(&bundle);
        assert_eq!(output.stderr(), "EROFS\n", "{output}");
    }
}

fn a_writable_cgroup_tree_can_be_written(lab: &Lab) {
    for (apart, below) in [(true, ""), (false, PATH)] {
        // A process that is moved to where it is.
        let mut bundle = with(lab, "rw", &["write-file", &procs(below), "0"]);
        if !apart {
            bundle.without_namespace("cgroup");
        }
        drop(lab.run(&bundle).ok());
    }
}

/// As tools expect that watch a machine from a container.
fn in_the_hosts_namespace_the_whole_tree_is_seen(lab: &Lab) {
    let mut bundle = with(lab, "ro", &["read-file", &procs(PATH)]);
    bundle.without_namespace("cgroup");
    assert_eq!(lab.run(&bundle).ok().stdout(), "1\n");
    bundle.probe(&[]);
    let facts = lab.facts(&bundle);
    assert_eq!(facts::mount(&facts, PLACE)["root"], "/");
}

fn in_a_user_namespace_the_tree_is_there_too(lab: &Lab) {
    for (apart, below) in [(true, ""), (false, PATH)] {
        let mut bundle = namespaces::user_namespace(lab);
        mounted(&mut bundle, "ro");
        if !apart {
            bundle.without_namespace("cgroup");
        }
        bundle.probe(&["read-file", &procs(below)]);
        assert_eq!(lab.run(&bundle).ok().stdout(), "1\n");
        bundle.probe(&["write-file", &procs(below), "0"]);
        // Under nice(1) there is a warning before it: this root can't raise the priority.
        let output = lab.run(&bundle);
        assert!(output.stderr().ends_with("EROFS\n"), "{output}");
    }
}

/// There is one file system, and mounting it once more sets its options anew, if it is done
/// from the machine's first cgroup namespace: only such a check runs there.
fn the_hosts_cgroup_tree_keeps_its_options(lab: &Lab) {
    let options = || {
        let text = std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc");
        let line = text.lines().find(|line| line.contains(" - cgroup2 "));
        line.unwrap_or_default().to_owned()
    };
    let before = options();
    assert!(before.contains("nsdelegate"), "systemd sets it: {before}");
    for apart in [true, false] {
        let mut bundle = with(lab, "ro", &["true"]);
        if !apart {
            bundle.without_namespace("cgroup");
        }
        drop(lab.run(&bundle).ok());
        assert_eq!(options(), before, "a namespace of its own: {apart}");
    }
}
