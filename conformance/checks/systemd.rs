//! systemd as the maker of cgroups: a container is a scope.
//!
//! These checks run on a machine that systemd manages, by `--systemd-cgroup`, the option
//! that all runtimes of this kind have.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::cgroup::cgroup_of;
use super::limits::setting;
use crate::bundle::Bundle;
use crate::check::Need::Systemd;
use crate::check::checks;
use crate::lab::Lab;
use crate::wait;

checks!("systemd":
    a_container_is_a_scope_in_the_slice_of_its_path [Systemd],
    a_slice_with_dashes_lies_in_its_parents [Systemd],
    limits_are_the_units_and_the_files [Systemd],
    an_update_changes_the_unit_and_the_files [Systemd],
    an_update_that_fails_changes_neither_the_unit_nor_the_files [Systemd],
    an_oom_kill_in_a_scope_is_told [Systemd],
    limits_and_denied_devices_survive_a_reload_of_systemd [Systemd],
    the_container_sees_its_scope_as_the_root [Systemd],
    a_process_of_exec_is_in_the_scope [Systemd],
    the_scope_goes_with_the_container [Systemd],
    a_scope_that_failed_before_is_no_obstacle [Systemd],
    a_program_that_can_not_start_leaves_no_scope [Systemd],
    an_annotation_sets_a_property_of_the_unit [Systemd],
    a_path_that_names_no_slice_is_refused,
    without_systemd_it_is_an_error_that_says_so,
);

const MIB: u64 = 1 << 20;

fn bundle(lab: &Lab, words: &[&str], path: &str) -> Bundle {
    lab.runtime.add_flag("--systemd-cgroup");
    let mut bundle = lab.bundle_of(words);
    bundle.config["linux"]["cgroupsPath"] = json!(path);
    bundle
}

/// A property as `systemctl show` prints it.
fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", unit, "--value", "--property", name])
}

fn systemctl(words: &[&str]) -> String {
    let output = Command::new("systemctl").args(words).output();
    let output = output.expect("systemctl is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether systemd forgets the unit, which it may do a moment later.
fn is_forgotten(unit: &str) -> bool {
    let gone = || (property(unit, "LoadState") == "not-found").then_some(());
    wait::until(wait::CALL, gone).is_some()
}

fn a_container_is_a_scope_in_the_slice_of_its_path(lab: &Lab) {
    let container = bundle(lab, &["sleep"], "system.slice:box:one");
    let container = lab.create(&container);
    let path = Path::new("/sys/fs/cgroup/system.slice/box-one.scope");
    assert_eq!(cgroup_of(&container), path);
    assert_eq!(property("box-one.scope", "Slice"), "system.slice");
    assert_eq!(property("box-one.scope", "Delegate"), "yes");
    assert_eq!(property("box-one.scope", "ActiveState"), "active");
}

fn a_slice_with_dashes_lies_in_its_parents(lab: &Lab) {
    let container = bundle(lab, &["sleep"], "boxes-small.slice:box:two");
    let container = lab.create(&container);
    let path = "/sys/fs/cgroup/boxes.slice/boxes-small.slice/box-two.scope";
    assert_eq!(cgroup_of(&container), Path::new(path));
    drop(container);
    // The slices are systemd's, which keeps them for a while.
    systemctl(&["stop", "boxes-small.slice", "boxes.slice"]);
}

fn limits_are_the_units_and_the_files(lab: &Lab) {
    let mut bundle = bundle(lab, &["sleep"], "system.slice:box:three");
    bundle.config["linux"]["resources"] = json!({
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
        "pids": {"limit": 50},
        "cpu": {"quota": 50_000, "period": 100_000, "shares": 262_144, "cpus": "0"},
    });
    let container = lab.create(&bundle);
    let bytes = |mebibytes: u64| (mebibytes * MIB).to_string();
    for (file, value) in [
        ("memory.max", bytes(64)),
        ("memory.swap.max", bytes(32)),
        ("memory.low", bytes(32)),
        ("pids.max", "50".to_owned()),
        ("cpu.max", "50000 100000".to_owned()),
        ("cpu.weight", "10000".to_owned()),
        ("cpuset.cpus", "0".to_owned()),
    ] {
        assert_eq!(setting(&container, file), value, "{file}");
    }
    for (name, value) in [
        ("MemoryMax", bytes(64)),
        ("MemorySwapMax", bytes(32)),
        ("MemoryLow", bytes(32)),
        ("TasksMax", "50".to_owned()),
        ("CPUQuotaPerSecUSec", "500ms".to_owned()),
        ("CPUWeight", "10000".to_owned()),
        ("AllowedCPUs", "0".to_owned()),
    ] {
        assert_eq!(property("box-three.scope", name), value, "{name}");
    }
}

fn an_update_changes_the_unit_and_the_files(lab: &Lab) {
    let mut bundle = bundle(lab, &["sleep"], "system.slice:box:eleven");
    bundle.config["linux"]["resources"] = json!({
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB},
        "pids": {"limit": 50},
        "cpu": {"quota": 50_000, "period": 100_000},
    });
    let container = lab.start(&bundle);
    let flags = [
        "--memory=96m",
        "--memory-swap=128m",
        "--pids-limit=60",
        "--cpu-quota=30000",
        "--cpu-share=262144",
        "--cpuset-cpus=1",
    ];
    drop(container.call_with("update", &flags).ok());
    let agree = |moment: &str| {
        for (file, value, name, shown) in [
            ("memory.max", "100663296", "MemoryMax", "100663296"),
            ("memory.swap.max", "33554432", "MemorySwapMax", "33554432"),
            ("pids.max", "60", "TasksMax", "60"),
            ("cpu.max", "30000 100000", "CPUQuotaPerSecUSec", "300ms"),
            ("cpu.weight", "10000", "CPUWeight", "10000"),
            ("cpuset.cpus", "1", "AllowedCPUs", "1"),
        ] {
            assert_eq!(setting(&container, file), value, "{file} {moment}");
            assert_eq!(property("box-eleven.scope", name), shown, "{name} {moment}");
        }
    };
    agree("at once");
    systemctl(&["daemon-reload"]);
    agree("after a reload");
}

fn an_update_that_fails_changes_neither_the_unit_nor_the_files(lab: &Lab) {
    let mut bundle = bundle(lab, &["sleep"], "system.slice:box:twelve");
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 50}});
    let container = lab.start(&bundle);
    let file = lab.folder().join("limits.json");
    let limits = json!({"pids": {"limit": 44}, "unified": {"memory.nonsense": "1"}});
    std::fs::write(&file, limits.to_string()).expect("the lab's folder is writable");
    let output = container.call_with("update", &["-r", &file.to_string_lossy()]);
    assert!(!output.status.success(), "{output}");
    assert_eq!(setting(&container, "pids.max"), "50");
    assert_eq!(property("box-twelve.scope", "TasksMax"), "50");
}

fn an_oom_kill_in_a_scope_is_told(lab: &Lab) {
    let mut bundle = bundle(lab, &[], "system.slice:box:thirteen");
    bundle.busybox().expect("busybox-static is installed");
    let script = "while [ ! -e /go ]; do /bin/busybox usleep 50000; done; exec /probe allocate 256";
    bundle.args(&["/bin/sh", "-c", script]);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 * MIB, "swap": 64 * MIB});
    let container = lab.start(&bundle);
    let mut command = lab.runtime.command();
    // The kill falls between two statistics: while it reads them, on a slow machine, systemd takes the count away.
    command.args(["events", "--interval", "3s", &container.id]);
    let call = lab.runtime.spawn(command);
    call.wait_for_text("stats");
    std::fs::write(bundle.rootfs().join("go"), "").expect("the bundle is ours");
    let output = call.finish(wait::CALL);
    assert!(output.stdout().contains(r#""type":"oom""#), "{output}");
}

fn limits_and_denied_devices_survive_a_reload_of_systemd(lab: &Lab) {
    let mut bundle = bundle(lab, &[], "system.slice:box:four");
    bundle.busybox().expect("busybox-static is installed");
    let script = "while [ ! -e /go ]; do /bin/busybox usleep 50000; done; \
        echo x > /dev/null && echo allowed; /bin/busybox cat /dev/denied 2>&1";
    bundle.args(&["/bin/sh", "-c", script]);
    bundle.config["linux"]["resources"] = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 64 * MIB},
        "cpu": {"quota": 50_000, "period": 100_000},
    });
    // The port to /dev/mem's neighbour, /dev/port: there is one on every PC.
    let device = json!({"path": "/dev/denied", "type": "c", "major": 1, "minor": 4});
    bundle.push("/linux/devices", device);
    let container = lab.start(&bundle);
    systemctl(&["daemon-reload"]);
    assert_eq!(setting(&container, "memory.max"), (64 * MIB).to_string());
    assert_eq!(setting(&container, "cpu.max"), "50000 100000");
    std::fs::write(bundle.rootfs().join("go"), "").expect("the bundle is ours");
    container.wait_for("stopped");
    let printed = container.printed();
    assert!(printed.starts_with("allowed\n"), "{printed}");
    assert!(
        printed.contains("/dev/denied': Operation not permitted"),
        "{printed}"
    );
}

fn the_container_sees_its_scope_as_the_root(lab: &Lab) {
    let bundle = bundle(
        lab,
        &["read-file", "/proc/self/cgroup"],
        "system.slice:box:five",
    );
    assert_eq!(lab.run(&bundle).ok().stdout(), "0::/\n");
}

fn a_process_of_exec_is_in_the_scope(lab: &Lab) {
    let container = bundle(lab, &["sleep"], "system.slice:box:exec");
    let container = lab.start(&container);
    let group = cgroup_of(&container);
    let output = super::exec::exec(lab, &container, &["-d"], &["/probe", "sleep"]);
    drop(output.ok());
    assert_eq!(super::cgroup::members(&group).len(), 2);
    // It has a place of its own in the scope too.
    std::fs::create_dir(group.join("below")).expect("root may");
    let flags = ["--cgroup", "below"];
    let facts = super::exec::facts_of(lab, &container, &flags);
    let v2 = crate::facts::entry(&facts["cgroup"], "controllers", "");
    assert_eq!(v2["path"], "/below");
}

fn the_scope_goes_with_the_container(lab: &Lab) {
    let bundle = bundle(lab, &["sleep"], "system.slice:box:six");
    let container = lab.start(&bundle);
    let group = cgroup_of(&container);
    assert!(group.exists());
    drop(container.call(&["delete", "--force"]).ok());
    assert!(!group.exists());
    assert!(is_forgotten("box-six.scope"));
}

fn a_scope_that_failed_before_is_no_obstacle(lab: &Lab) {
    let status = Command::new("systemd-run")
        .args(["--quiet", "--scope", "--unit=box-seven.scope"])
        .args(["--property=RuntimeMaxSec=1", "sleep", "1000"])
        .status();
    assert!(!status.expect("systemd-run is installed").success());
    assert_eq!(property("box-seven.scope", "ActiveState"), "failed");
    drop(
        lab.run(&bundle(lab, &["true"], "system.slice:box:seven"))
            .ok(),
    );
    assert!(is_forgotten("box-seven.scope"));
}

fn a_program_that_can_not_start_leaves_no_scope(lab: &Lab) {
    let mut bundle = bundle(lab, &[], "system.slice:box:eight");
    bundle.args(&["/not-there"]);
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    assert!(is_forgotten("box-eight.scope"));
}

fn an_annotation_sets_a_property_of_the_unit(lab: &Lab) {
    let mut bundle = bundle(lab, &["sleep"], "system.slice:box:nine");
    bundle.config["annotations"] =
        json!({"org.systemd.property.TimeoutStopUSec": "uint64 7000000"});
    let container = lab.create(&bundle);
    assert_eq!(property("box-nine.scope", "TimeoutStopUSec"), "7s");
    drop(container);
}

fn a_path_that_names_no_slice_is_refused(lab: &Lab) {
    let output = lab.run(&bundle(lab, &["true"], "/a/b"));
    assert!(!output.status.success(), "{output}");
    let text = output.stderr();
    assert!(
        text.contains("slice:prefix:name") || text.contains("SLICE:PREFIX:NAME"),
        "{output}"
    );
}

fn without_systemd_it_is_an_error_that_says_so(lab: &Lab) {
    // The lane of a check has a /run of its own, where no systemd listens.
    let output = lab.run(&bundle(lab, &["true"], "system.slice:box:ten"));
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("systemd"), "{output}");
}
