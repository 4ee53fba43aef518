//! `linux.namespaces`, host name, id maps, the loopback interface.

use std::os::linux::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::check::{Need, checks};
use crate::facts;
use crate::lab::Lab;

checks!("namespaces":
    every_listed_namespace_is_new,
    a_namespace_that_is_not_listed_is_the_callers,
    the_hostname_is_set_inside_and_only_there,
    the_domainname_is_set_inside_and_only_there,
    the_process_is_pid_1_of_a_new_pid_namespace,
    without_a_pid_namespace_the_process_has_a_pid_of_the_host,
    a_new_network_namespace_has_only_a_loopback_that_is_up,
    the_hosts_network_is_kept_without_a_network_namespace,
    a_user_namespace_has_the_configured_id_maps,
    a_process_in_a_user_namespace_owns_the_mapped_files,
    a_user_namespace_does_not_give_root_outside,
    capabilities_hold_in_a_user_namespace,
    the_cgroup_namespace_hides_the_path_of_the_cgroup,
    time_offsets_move_the_clocks_of_the_container [Need::Namespace("time")],
    a_new_time_namespace_without_offsets_has_the_hosts_clocks [Need::Namespace("time")],
    a_created_container_is_in_its_time_namespace_already [Need::Namespace("time")],
    time_offsets_go_with_a_new_user_namespace [Need::Namespace("time")],
    time_offsets_that_make_no_sense_are_refused,
);

/// The inode of a namespace of this process, as the probe names it; null if the kernel
/// has no such kind.
fn own(kind: &str) -> Value {
    let metadata = std::fs::metadata(format!("/proc/self/ns/{kind}"));
    metadata.map_or(Value::Null, |metadata| json!(metadata.st_ino()))
}

fn every_listed_namespace_is_new(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(facts["namespaces"][kind], own(kind), "{kind}");
    }
    for kind in ["user", "time"] {
        assert_eq!(facts["namespaces"][kind], own(kind), "{kind}");
    }
}

fn a_namespace_that_is_not_listed_is_the_callers(lab: &Lab) {
    for (name, kind) in [
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("network", "net"),
        ("cgroup", "cgroup"),
    ] {
        let mut bundle = lab.bundle();
        bundle.without_namespace(name);
        bundle.without_mount("/sys");
        bundle.without_mount("/sys/fs/cgroup");
        bundle.without_mount("/dev/mqueue");
        if name == "uts" {
            bundle
                .config
                .as_object_mut()
                .expect("an object")
                .remove("hostname");
        }
        let facts = lab.facts(&bundle);
        assert_eq!(facts["namespaces"][kind], own(kind), "{kind}");
    }
}

fn the_hostname_is_set_inside_and_only_there(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["hostname"] = json!("inside");
    assert_eq!(lab.facts(&bundle)["hostname"], "inside");
    assert_eq!(rustix::system::uname().nodename().to_string_lossy(), "lane");
}

fn the_domainname_is_set_inside_and_only_there(lab: &Lab) {
    let before = rustix::system::uname().domainname().to_owned();
    let mut bundle = lab.bundle();
    bundle.config["domainname"] = json!("example.org");
    assert_eq!(lab.facts(&bundle)["domainname"], "example.org");
    assert_eq!(rustix::system::uname().domainname(), before.as_c_str());
}

fn the_process_is_pid_1_of_a_new_pid_namespace(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    assert_eq!(facts["pid"], 1);
    assert_eq!(facts["ppid"], 0);
}

fn without_a_pid_namespace_the_process_has_a_pid_of_the_host(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.without_namespace("pid");
    let container = lab.start(&bundle);
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid()));
    let status = status.expect("init runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("NSpid:"))
        .expect("NSpid");
    assert_eq!(line, format!("NSpid:\t{}", container.pid()));
}

fn a_new_network_namespace_has_only_a_loopback_that_is_up(lab: &Lab) {
    let interfaces = lab.facts(&lab.bundle())["interfaces"].clone();
    // Some kernels make tunnel devices in every new namespace; they are down.
    let up: Vec<&Value> = interfaces
        .as_array()
        .expect("a list")
        .iter()
        .filter(|interface| facts::has(&interface["flags"], "UP"))
        .map(|interface| &interface["name"])
        .collect();
    assert_eq!(up, [&json!("lo")], "{interfaces:#}");
}

fn the_hosts_network_is_kept_without_a_network_namespace(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.without_namespace("network");
    bundle.without_mount("/sys");
    bundle.without_mount("/sys/fs/cgroup");
    assert_eq!(lab.facts(&bundle)["namespaces"]["net"], own("net"));
}

/// A bundle whose root is uid 100000 of the host.
pub(super) fn user_namespace(lab: &Lab) -> crate::bundle::Bundle {
    let mut bundle = lab.bundle();
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([
        {"containerID": 0, "hostID": 100_000, "size": 1000},
        {"containerID": 1000, "hostID": 200_000, "size": 500},
    ]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.give_to(100_000).expect("root may");
    bundle
}

fn a_user_namespace_has_the_configured_id_maps(lab: &Lab) {
    let facts = lab.facts(&user_namespace(lab));
    assert_ne!(facts["namespaces"]["user"], own("user"));
    let map = json!([[0, 100_000, 1000], [1000, 200_000, 500]]);
    assert_eq!(facts["uid_map"], map);
    assert_eq!(facts["gid_map"], map);
    assert_eq!(facts["uid"], 0);
}

fn a_process_in_a_user_namespace_owns_the_mapped_files(lab: &Lab) {
    let mut bundle = user_namespace(lab);
    bundle.probe(&["stat", "/etc/passwd", "/", "/dev/null"]);
    let stat = lab.run(&bundle).json();
    assert_eq!(stat["/etc/passwd"]["uid"], 0);
    assert_eq!(stat["/"]["uid"], 0);
}

fn a_user_namespace_does_not_give_root_outside(lab: &Lab) {
    let mut bundle = user_namespace(lab);
    bundle.probe(&["sleep"]);
    let container = lab.start(&bundle);
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid()));
    let status = status.expect("init runs");
    let uids = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .expect("Uid");
    assert_eq!(uids, "Uid:\t100000\t100000\t100000\t100000");
}

fn capabilities_hold_in_a_user_namespace(lab: &Lab) {
    let mut bundle = user_namespace(lab);
    let sets = ["bounding", "permitted", "effective"];
    bundle.config["process"]["capabilities"] = sets
        .iter()
        .map(|name| ((*name).to_owned(), json!(["CAP_KILL"])))
        .collect();
    let facts = lab.facts(&bundle);
    assert_eq!(facts::capabilities(&facts, "effective"), 1 << 5);
    assert_eq!(facts::capabilities(&facts, "bounding"), 1 << 5);
}

fn the_cgroup_namespace_hides_the_path_of_the_cgroup(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    let unified = facts["cgroup"]
        .as_array()
        .and_then(|list| list.iter().find(|c| c["hierarchy"] == 0));
    assert_eq!(unified.expect("cgroup v2")["path"], "/");
}

/// How far a clock in the container is ahead of the host's.
fn ahead(facts: &Value, clock: &str, id: libc::clockid_t) -> i64 {
    let inside = facts["clocks"][clock].as_i64().expect("a time");
    inside - crate::sys::clock_seconds(id)
}

/// The clocks go on between the two looks.
const SLACK: std::ops::RangeInclusive<i64> = -60..=0;

fn time_offsets_move_the_clocks_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] = json!({
        "monotonic": {"secs": 7_000_000, "nanosecs": 5},
        "boottime": {"secs": 50_000},
    });
    let facts = lab.facts(&bundle);
    assert_ne!(facts["namespaces"]["time"], own("time"));
    assert_eq!(
        facts["namespaces"]["time"],
        facts["namespaces"]["time_for_children"]
    );
    let monotonic = ahead(&facts, "monotonic", libc::CLOCK_MONOTONIC) - 7_000_000;
    let boottime = ahead(&facts, "boottime", libc::CLOCK_BOOTTIME) - 50_000;
    assert!(
        SLACK.contains(&monotonic) && SLACK.contains(&boottime),
        "{monotonic} {boottime}"
    );
}

fn a_new_time_namespace_without_offsets_has_the_hosts_clocks(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    let facts = lab.facts(&bundle);
    assert_ne!(facts["namespaces"]["time"], own("time"));
    assert!(SLACK.contains(&ahead(&facts, "monotonic", libc::CLOCK_MONOTONIC)));
}

/// From Linux 6.3 on execve(2) would move it there as well: too late for who joins it.
fn a_created_container_is_in_its_time_namespace_already(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 50_000}});
    let container = lab.create(&bundle);
    let number = |file: &str| {
        let path = format!("/proc/{}/ns/{file}", container.pid());
        json!(std::fs::metadata(path).expect("it waits").st_ino())
    };
    assert_ne!(number("time"), own("time"));
    assert_eq!(number("time"), number("time_for_children"));
}

fn time_offsets_go_with_a_new_user_namespace(lab: &Lab) {
    let mut bundle = user_namespace(lab);
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 50_000}});
    bundle.probe(&["sleep"]);
    let container = lab.start(&bundle);
    let path = |file: &str| format!("/proc/{}/ns/{file}", container.pid());
    let user = std::fs::metadata(path("user")).expect("it runs").st_ino();
    assert_eq!(
        crate::sys::namespace_owner(&path("time")).expect("it runs"),
        user
    );
    let offsets = std::fs::read_to_string(format!("/proc/{}/timens_offsets", container.pid()));
    let offsets = offsets.expect("it runs");
    let boottime = offsets.lines().find(|line| line.starts_with("boottime"));
    let words: Vec<&str> = boottime.expect("boottime").split_whitespace().collect();
    assert_eq!(words, ["boottime", "50000", "0"]);
}

fn time_offsets_that_make_no_sense_are_refused(lab: &Lab) {
    for (with_namespace, offsets, field) in [
        (false, json!({"monotonic": {"secs": 1}}), "timeOffsets"),
        (true, json!({"realtime": {"secs": 1}}), "timeOffsets"),
        (
            true,
            json!({"monotonic": {"nanosecs": 1_000_000_000}}),
            "timeOffsets.monotonic.nanosecs",
        ),
    ] {
        let mut bundle = lab.bundle();
        if with_namespace {
            bundle.push("/linux/namespaces", json!({"type": "time"}));
        }
        bundle.config["linux"]["timeOffsets"] = offsets.clone();
        let output = lab.run(&bundle);
        assert!(!output.status.success(), "{offsets}: {output}");
        if lab.is_corten() {
            let place = format!("corten: linux.{field}: ");
            assert!(output.stderr().starts_with(&place), "{output}");
        }
    }
}
