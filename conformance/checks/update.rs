//! `update`: other limits for a container that is there.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::disks::Loop;
use super::limits::{bundle_with, setting};
use crate::bundle::Bundle;
use crate::check::Need::Controller;
use crate::check::checks;
use crate::lab::{Container, Lab};
use crate::runtime::Output;
use crate::wait;

checks!("update":
    what_is_not_named_stays_as_it_is [Controller("memory"), Controller("pids")],
    limits_are_lifted_by_minus_one [Controller("memory"), Controller("pids")],
    a_quota_or_a_period_alone_keeps_the_other [Controller("cpu")],
    an_update_is_known_to_the_next_one [Controller("cpu"), Controller("memory")],
    memory_and_swap_are_counted_together [Controller("memory")],
    shares_and_burst_are_updated [Controller("cpu")],
    a_cgroup_becomes_idle_and_awake_again [Controller("cpu")],
    limits_are_read_from_a_file [Controller("memory"), Controller("pids")],
    limits_are_read_from_stdin [Controller("pids")],
    device_rules_are_not_touched [Controller("pids")],
    a_container_that_had_no_limits_gets_some [Controller("memory"), Controller("pids")],
    a_created_and_a_paused_container_are_updated [Controller("pids")],
    a_stopped_container_is_not_updated,
    a_limit_below_what_is_in_use_is_refused_and_kills_nothing [Controller("memory")],
    a_limit_that_the_kernel_can_make_room_for_is_taken [Controller("memory")],
    an_update_that_fails_changes_nothing [Controller("memory"), Controller("pids")],
    processors_are_updated [Controller("cpuset")],
    a_limit_of_cgroup_v1_is_refused_by_name [Controller("cpu")],
    the_new_limit_is_kept_by_the_kernel [Controller("memory")],
    shares_of_the_cache_are_refused_where_there_is_no_resctrl,
);

const MIB: u64 = 1 << 20;

fn update(container: &Container<'_>, flags: &[&str]) -> Output {
    // Options first: crun knows no other order.
    container.call(&[&["update"], flags].concat())
}

/// With limits that must stay as they are.
fn limited(lab: &Lab) -> Bundle {
    let limit = json!({"limit": 64 * MIB, "swap": 64 * MIB});
    let mut bundle = bundle_with(lab, &["sleep"], "memory", limit);
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
    bundle
}

fn mebibytes(container: &Container<'_>, file: &str) -> u64 {
    let text = setting(container, file);
    text.parse::<u64>().expect("a number") / MIB
}

fn what_is_not_named_stays_as_it_is(lab: &Lab) {
    let bundle = limited(lab);
    let container = lab.start(&bundle);
    drop(update(&container, &["--pids-limit", "60"]).ok());
    assert_eq!(setting(&container, "pids.max"), "60");
    assert_eq!(mebibytes(&container, "memory.max"), 64);
    drop(update(&container, &["--memory-reservation", "32m", "--memory=48m"]).ok());
    assert_eq!(mebibytes(&container, "memory.max"), 48);
    assert_eq!(mebibytes(&container, "memory.low"), 32);
    if lab.is_corten() {
        // Older runc lifts the limit of tasks whenever it is not named.
        assert_eq!(setting(&container, "pids.max"), "60");
    }
}

fn limits_are_lifted_by_minus_one(lab: &Lab) {
    let bundle = limited(lab);
    let container = lab.start(&bundle);
    drop(update(&container, &["--memory", "-1", "--pids-limit", "-1"]).ok());
    for file in ["memory.max", "memory.swap.max", "pids.max"] {
        assert_eq!(setting(&container, file), "max", "{file}");
    }
}

fn a_quota_or_a_period_alone_keeps_the_other(lab: &Lab) {
    let cpu = json!({"quota": 30_000, "period": 60_000});
    let bundle = bundle_with(lab, &["sleep"], "cpu", cpu);
    let container = lab.start(&bundle);
    drop(update(&container, &["--cpu-quota", "50000"]).ok());
    assert_eq!(setting(&container, "cpu.max"), "50000 60000");
    drop(update(&container, &["--cpu-period", "80000"]).ok());
    assert_eq!(setting(&container, "cpu.max"), "50000 80000");
    drop(update(&container, &["--cpu-quota", "-1"]).ok());
    assert_eq!(setting(&container, "cpu.max"), "max 80000");
}

fn an_update_is_known_to_the_next_one(lab: &Lab) {
    let limit = json!({"limit": 64 * MIB, "swap": 128 * MIB});
    let bundle = bundle_with(lab, &["sleep"], "memory", limit);
    let container = lab.start(&bundle);
    drop(update(&container, &["--cpu-period", "70000"]).ok());
    drop(update(&container, &["--cpu-quota", "20000"]).ok());
    assert_eq!(setting(&container, "cpu.max"), "20000 70000");
    drop(update(&container, &["--memory", "96m"]).ok());
    assert_eq!(mebibytes(&container, "memory.swap.max"), 32);
    drop(update(&container, &["--memory-swap", "160m"]).ok());
    assert_eq!(mebibytes(&container, "memory.swap.max"), 64);
}

fn memory_and_swap_are_counted_together(lab: &Lab) {
    let bundle = limited(lab);
    let container = lab.start(&bundle);
    drop(update(&container, &["--memory", "80m", "--memory-swap", "100m"]).ok());
    assert_eq!(mebibytes(&container, "memory.max"), 80);
    assert_eq!(mebibytes(&container, "memory.swap.max"), 20);
    drop(update(&container, &["--memory-swap", "-1"]).ok());
    assert_eq!(setting(&container, "memory.swap.max"), "max");
    let output = update(&container, &["--memory", "80m", "--memory-swap", "10m"]);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("memory"), "{output}");
    assert_eq!(mebibytes(&container, "memory.max"), 80);
}

fn shares_and_burst_are_updated(lab: &Lab) {
    let cpu = json!({"quota": 30_000, "period": 100_000});
    let bundle = bundle_with(lab, &["sleep"], "cpu", cpu);
    let container = lab.start(&bundle);
    let flags = ["--cpu-share", "262144", "--cpu-burst", "10000"];
    drop(update(&container, &flags).ok());
    assert_eq!(setting(&container, "cpu.weight"), "10000");
    assert_eq!(setting(&container, "cpu.max.burst"), "10000");
    // The old burst is above the new quota.
    let flags = ["--cpu-quota", "5000", "--cpu-burst", "4000"];
    drop(update(&container, &flags).ok());
    assert_eq!(setting(&container, "cpu.max.burst"), "4000");
    assert_eq!(setting(&container, "cpu.max"), "5000 100000");
}

fn a_cgroup_becomes_idle_and_awake_again(lab: &Lab) {
    let bundle = bundle_with(lab, &["sleep"], "cpu", json!({"shares": 262_144}));
    let container = lab.start(&bundle);
    drop(update(&container, &["--cpu-idle", "1"]).ok());
    assert_eq!(setting(&container, "cpu.idle"), "1");
    let flags = ["--cpu-idle", "0", "--cpu-share", "2"];
    drop(update(&container, &flags).ok());
    assert_eq!(setting(&container, "cpu.idle"), "0");
    assert_eq!(setting(&container, "cpu.weight"), "1");
}

fn limits_are_read_from_a_file(lab: &Lab) {
    let bundle = limited(lab);
    let container = lab.start(&bundle);
    let file = lab.folder().join("limits.json");
    let limits = json!({"memory": {"limit": 96 * MIB, "swap": 96 * MIB}, "pids": {"limit": 70}});
    std::fs::write(&file, limits.to_string()).expect("the lab's folder is writable");
    let path = file.to_string_lossy();
    // Other flags do not count.
    let flags = ["--resources", &path, "--memory", "70m"];
    drop(update(&container, &flags).ok());
    assert_eq!(mebibytes(&container, "memory.max"), 96);
    assert_eq!(setting(&container, "pids.max"), "70");
    std::fs::write(&file, "{\"memory\": {\"limit\": \"much\"}}").expect("it is there");
    let output = update(&container, &["-r", &path]);
    assert!(!output.status.success(), "{output}");
}

fn limits_are_read_from_stdin(lab: &Lab) {
    let bundle = limited(lab);
    let container = lab.start(&bundle);
    let mut command = lab.runtime.command();
    command.args(["update", "--resources", "-", &container.id]);
    command.stdin(Stdio::piped());
    let mut call = lab.runtime.spawn(command);
    let limits = json!({"pids": {"limit": 33}}).to_string();
    let mut stdin = call.child.stdin.take().expect("a pipe");
    stdin.write_all(limits.as_bytes()).expect("it reads");
    drop(stdin);
    drop(call.finish(wait::CALL).ok());
    assert_eq!(setting(&container, "pids.max"), "33");
}

fn device_rules_are_not_touched(lab: &Lab) {
    let mut bundle = limited(lab);
    bundle.busybox().expect("busybox-static is installed");
    let script = "while [ ! -e /go ]; do /bin/busybox usleep 50000; done; \
        /bin/busybox cat /dev/denied 2>&1; echo end";
    bundle.args(&["/bin/sh", "-c", script]);
    bundle.config["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
    let device = json!({"path": "/dev/denied", "type": "c", "major": 1, "minor": 11});
    bundle.push("/linux/devices", device);
    let container = lab.start(&bundle);
    let file = lab.folder().join("limits.json");
    let limits = json!({
        "devices": [{"allow": true, "access": "rwm"}],
        "pids": {"limit": 40},
    });
    std::fs::write(&file, limits.to_string()).expect("the lab's folder is writable");
    let output = update(&container, &["-r", &file.to_string_lossy()]).ok();
    if lab.is_corten() {
        let told = "corten: warning: linux.resources.devices: ignored, an update leaves device \
                    rules alone\n";
        assert_eq!(output.stderr(), told);
    }
    assert_eq!(setting(&container, "pids.max"), "40");
    std::fs::write(bundle.rootfs().join("go"), "").expect("the bundle is ours");
    container.creation.wait_for_text("end");
    let printed = container.printed();
    assert!(printed.contains("Operation not permitted"), "{printed}");
}

fn a_container_that_had_no_limits_gets_some(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.config["linux"]["resources"] = Value::Null;
    // Not below the caller's own, which has processes.
    bundle.config["linux"]["cgroupsPath"] = json!("/had-none");
    let container = lab.start(&bundle);
    let flags = ["--memory", "64m", "--pids-limit", "30"];
    drop(update(&container, &flags).ok());
    assert_eq!(mebibytes(&container, "memory.max"), 64);
    assert_eq!(setting(&container, "pids.max"), "30");
}

fn a_created_and_a_paused_container_are_updated(lab: &Lab) {
    let bundle = limited(lab);
    let container = lab.create(&bundle);
    drop(update(&container, &["--pids-limit", "31"]).ok());
    assert_eq!(setting(&container, "pids.max"), "31");
    drop(container.call(&["start"]).ok());
    drop(container.call(&["pause"]).ok());
    drop(update(&container, &["--pids-limit", "32"]).ok());
    assert_eq!(setting(&container, "pids.max"), "32");
    assert_eq!(container.state()["status"], "paused");
}

fn a_stopped_container_is_not_updated(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.start(&bundle);
    container.wait_for("stopped");
    let output = update(&container, &["--pids-limit", "32"]);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("not running"), "{output}");
}

fn a_limit_below_what_is_in_use_is_refused_and_kills_nothing(lab: &Lab) {
    let limit = json!({"limit": 128 * MIB, "swap": 128 * MIB});
    let bundle = bundle_with(lab, &["allocate", "64"], "memory", limit);
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    let high = setting(&container, "memory.high");
    let output = update(&container, &["--memory", "16m", "--memory-swap", "16m"]);
    if lab.is_corten() {
        assert_eq!(output.code(), 1, "{output}");
        let text = output.stderr();
        assert!(text.contains("linux.resources.memory.limit"), "{output}");
        assert!(text.contains("16777216 is not above the"), "{output}");
        assert_eq!(container.state()["status"], "running");
        assert_eq!(mebibytes(&container, "memory.max"), 128);
        assert_eq!(setting(&container, "memory.high"), high);
    }
}

fn a_limit_that_the_kernel_can_make_room_for_is_taken(lab: &Lab) {
    let mut bundle = bundle_with(lab, &[], "memory", json!({"limit": 256 * MIB}));
    bundle.busybox().expect("busybox-static is installed");
    // What was read from a disk need not stay in memory.
    let disk = Loop::new(lab, 64 * MIB);
    disk.give_to(&mut bundle);
    // Its last close would give it back.
    let script = "exec 3</disk; /bin/busybox dd of=/dev/null bs=1M count=64 <&3 2>/dev/null; \
        echo ready; exec /bin/busybox sleep 1000";
    bundle.args(&["/bin/sh", "-c", script]);
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    assert!(mebibytes(&container, "memory.current") >= 64);
    drop(update(&container, &["--memory", "32m"]).ok());
    assert_eq!(mebibytes(&container, "memory.max"), 32);
    assert_eq!(container.state()["status"], "running");
}

fn an_update_that_fails_changes_nothing(lab: &Lab) {
    let bundle = limited(lab);
    let container = lab.start(&bundle);
    let file = lab.folder().join("limits.json");
    let limits = json!({
        "pids": {"limit": 44},
        "unified": {"memory.high": "50331648", "memory.nonsense": "1"},
    });
    std::fs::write(&file, limits.to_string()).expect("the lab's folder is writable");
    let high = setting(&container, "memory.high");
    let output = update(&container, &["-r", &file.to_string_lossy()]);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        assert!(output.stderr().contains("memory.nonsense"), "{output}");
    }
    assert_eq!(setting(&container, "memory.high"), high);
    assert_eq!(setting(&container, "pids.max"), "50");
    // Nor what the next one starts from.
    drop(update(&container, &["--memory", "60m", "--memory-swap", "60m"]).ok());
    if lab.is_corten() {
        assert_eq!(setting(&container, "pids.max"), "50");
    }
}

fn processors_are_updated(lab: &Lab) {
    let bundle = bundle_with(lab, &["sleep"], "cpu", json!({"cpus": "0-1"}));
    let container = lab.start(&bundle);
    drop(update(&container, &["--cpuset-cpus", "1", "--cpuset-mems", "0"]).ok());
    assert_eq!(setting(&container, "cpuset.cpus"), "1");
    assert_eq!(setting(&container, "cpuset.mems"), "0");
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid()));
    let status = status.expect("it runs");
    assert!(status.contains("Cpus_allowed_list:\t1\n"), "{status}");
}

fn a_limit_of_cgroup_v1_is_refused_by_name(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let output = update(&container, &["--cpu-rt-runtime", "1000"]);
    if lab.is_corten() {
        assert_eq!(output.code(), 1, "{output}");
        assert!(output.stderr().contains("realtimeRuntime"), "{output}");
    }
}

fn the_new_limit_is_kept_by_the_kernel(lab: &Lab) {
    let limit = json!({"limit": 512 * MIB, "swap": 512 * MIB});
    let mut bundle = bundle_with(lab, &[], "memory", limit);
    bundle.busybox().expect("busybox-static is installed");
    let script = "while [ ! -e /go ]; do /bin/busybox usleep 50000; done; exec /probe allocate 128";
    bundle.args(&["/bin/sh", "-c", script]);
    let container = lab.start(&bundle);
    drop(update(&container, &["--memory", "64m", "--memory-swap", "64m"]).ok());
    std::fs::write(bundle.rootfs().join("go"), "").expect("the bundle is ours");
    container.wait_for("stopped");
    assert_eq!(container.printed(), "");
}

/// No lane has it mounted. What it does with one is a test of the library.
fn shares_of_the_cache_are_refused_where_there_is_no_resctrl(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    for flag in ["--l3-cache-schema", "--mem-bw-schema"] {
        let output = update(&container, &[flag, "L3:0=f"]);
        assert!(!output.status.success(), "{output}");
        if lab.is_corten() {
            let text = "corten: linux.intelRdt: no resctrl file system is mounted on this host\n";
            assert_eq!(output.stderr(), text);
        }
    }
    assert_eq!(container.state()["status"], "running");
}
