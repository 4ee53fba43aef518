//! Limits of `linux.resources`, enforced by the kernel: what a container may use, seen
//! from outside by its cgroup's files and from inside by what happens.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cgroup::{cgroup_of, members};
use crate::bundle::Bundle;
use crate::check::Need::Controller;
use crate::check::checks;
use crate::lab::{Container, Lab};
use crate::wait;

checks!("limits":
    a_memory_hog_is_killed_at_its_limit [Controller("memory")],
    a_hog_without_a_limit_is_killed_at_that_of_a_cgroup_above [Controller("memory")],
    an_end_after_the_kill_of_a_container_before_is_not_for_want_of_memory [Controller("memory")],
    memory_within_the_limit_is_given [Controller("memory")],
    the_memory_limits_are_the_configured_ones [Controller("memory")],
    memory_without_a_limit_has_none [Controller("memory")],
    the_container_sees_its_own_limit [Controller("memory")],
    a_limit_holds_below_groups_that_the_runtime_made [Controller("memory")],
    a_fork_beyond_the_pids_limit_gives_eagain [Controller("pids")],
    a_fork_bomb_is_stopped_and_dies_with_the_container [Controller("pids")],
    no_pids_limit_is_no_limit [Controller("pids")],
    a_cpu_quota_is_kept_within_a_tenth [Controller("cpu")],
    cpu_shares_become_a_weight [Controller("cpu")],
    a_cpu_quota_without_a_period_has_the_usual_one [Controller("cpu")],
    a_unified_value_is_written_as_it_is [Controller("cpu"), Controller("memory")],
    a_unified_file_that_does_not_exist_is_an_error [Controller("memory")],
    the_processors_are_the_configured_ones [Controller("cpuset")],
    a_memory_limit_that_leaves_no_room_for_init_hurts_nobody_else [Controller("memory")],
);

const MIB: u64 = 1 << 20;

pub(super) fn bundle_with(lab: &Lab, probe: &[&str], pointer: &str, value: Value) -> Bundle {
    let mut bundle = lab.bundle_of(probe);
    bundle.config["linux"]["resources"][pointer] = value;
    bundle
}

/// A file of the container's cgroup.
pub(super) fn setting(container: &Container<'_>, file: &str) -> String {
    let path = cgroup_of(container).join(file);
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim_end().to_owned()
}

/// Whether there is no limit in a file of the cgroup. Without a limit the runtime need not
/// delegate the controller, and without the controller there is no file.
fn is_unlimited(container: &Container<'_>, file: &str) -> bool {
    let text = std::fs::read_to_string(cgroup_of(container).join(file));
    text.is_ok_and(|text| text == "max\n") || !cgroup_of(container).join(file).exists()
}

/// A number in a file with a line `key number` for each.
fn number(path: &Path, key: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(name, _)| *name == key);
    found
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_else(|| panic!("{}: no {key} in {text:?}", path.display()))
}

fn a_memory_hog_is_killed_at_its_limit(lab: &Lab) {
    let limit = json!({"limit": 64 * MIB, "swap": 64 * MIB});
    let output = lab.run(&bundle_with(lab, &["allocate", "256"], "memory", limit));
    assert_eq!(output.code(), 137, "{output}");
    assert_eq!(output.stdout(), "", "{output}");
    if lab.is_corten() {
        assert!(output.stderr().contains("out of memory"), "{output}");
    }
}

fn memory_within_the_limit_is_given(lab: &Lab) {
    let limit = json!({"limit": 128 * MIB, "swap": 128 * MIB});
    let bundle = bundle_with(lab, &["allocate", "64"], "memory", limit);
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    let used: u64 = setting(&container, "memory.current")
        .parse()
        .expect("a number");
    assert!((64 * MIB..=128 * MIB).contains(&used), "{used}");
}

fn a_hog_without_a_limit_is_killed_at_that_of_a_cgroup_above(lab: &Lab) {
    let root = Path::new("/sys/fs/cgroup");
    let above = root.join("narrow");
    std::fs::create_dir(&above).expect("the lane's cgroup is writable");
    for (file, text) in [("memory.max", "67108864"), ("memory.swap.max", "0")] {
        std::fs::write(above.join(file), text).expect("memory is enabled for it");
    }
    for pid in [true, false] {
        let mut bundle = lab.bundle_of(&["allocate", "256"]);
        bundle.config["linux"]["cgroupsPath"] = json!("/narrow/box");
        if !pid {
            bundle.without_namespace("pid");
        }
        let output = lab.run(&bundle);
        assert_eq!(output.code(), 137, "{output}");
        if lab.is_corten() {
            assert!(output.stderr().contains("out of memory"), "{output}");
        }
    }
    std::fs::remove_dir(above).expect("no container is in it");
}

fn an_end_after_the_kill_of_a_container_before_is_not_for_want_of_memory(lab: &Lab) {
    let group = Path::new("/sys/fs/cgroup/reused");
    std::fs::create_dir(group).expect("the lane's cgroup is writable");
    let limit = json!({"limit": 64 * MIB, "swap": 64 * MIB});
    let mut bundle = bundle_with(lab, &["sleep"], "memory", limit);
    bundle.config["linux"]["cgroupsPath"] = json!("/reused");
    std::fs::write(group.join("memory.max"), "1048576").expect("memory is enabled for it");
    std::fs::write(group.join("memory.swap.max"), "0").expect("memory is enabled for it");
    let mut hog = std::process::Command::new("/bin/sh");
    // Waits until it is in the cgroup.
    hog.args(["-c", "read line; head -c 64m /dev/zero | tail >/dev/null"]);
    let mut hog = hog
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    std::fs::write(group.join("cgroup.procs"), hog.id().to_string()).expect("it runs");
    drop(hog.stdin.take());
    hog.wait().expect("an own child");
    let kills = || number(&group.join("memory.events"), "oom_kill");
    assert!(kills() > 0);
    std::fs::write(group.join("memory.max"), "max").expect("memory is enabled for it");
    bundle.probe(&["true"]);
    let output = lab.run(&bundle).ok();
    assert!(!output.stderr().contains("out of memory"), "{output}");
    drop(std::fs::remove_dir(group));
}

fn the_memory_limits_are_the_configured_ones(lab: &Lab) {
    // The configuration's swap is memory and swap together.
    let limit = json!({"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB});
    let bundle = bundle_with(lab, &["sleep"], "memory", limit);
    let container = lab.create(&bundle);
    for (file, value) in [
        ("memory.max", 64),
        ("memory.swap.max", 32),
        ("memory.low", 32),
    ] {
        assert_eq!(
            setting(&container, file),
            (value * MIB).to_string(),
            "{file}"
        );
    }
}

fn memory_without_a_limit_has_none(lab: &Lab) {
    let bundle = bundle_with(lab, &["sleep"], "memory", json!({"limit": -1, "swap": -1}));
    let container = lab.create(&bundle);
    assert!(is_unlimited(&container, "memory.max"));
    assert!(is_unlimited(&container, "memory.swap.max"));
}

fn the_container_sees_its_own_limit(lab: &Lab) {
    let probe = ["read-file", "/sys/fs/cgroup/memory.max"];
    let bundle = bundle_with(lab, &probe, "memory", json!({"limit": 64 * MIB}));
    let output = lab.run(&bundle).ok();
    assert_eq!(output.stdout(), format!("{}\n", 64 * MIB));
}

fn a_limit_holds_below_groups_that_the_runtime_made(lab: &Lab) {
    let limit = json!({"limit": 64 * MIB, "swap": 64 * MIB});
    let mut bundle = bundle_with(lab, &["allocate", "256"], "memory", limit);
    bundle.config["linux"]["cgroupsPath"] = json!("/deep/er/box");
    assert_eq!(lab.run(&bundle).code(), 137);
    for left in ["deep/er", "deep"] {
        // Not the runtime's to remove; some do.
        drop(std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(left)));
    }
}

fn a_fork_beyond_the_pids_limit_gives_eagain(lab: &Lab) {
    let bundle = bundle_with(lab, &["children", "30"], "pids", json!({"limit": 20}));
    let output = lab.run(&bundle);
    assert_eq!(output.stderr(), "EAGAIN\n", "{output}");
    let bundle = bundle_with(lab, &["children", "10"], "pids", json!({"limit": 20}));
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    assert_eq!(setting(&container, "pids.max"), "20");
    assert_eq!(setting(&container, "pids.current"), "11");
}

fn a_fork_bomb_is_stopped_and_dies_with_the_container(lab: &Lab) {
    let mut bundle = bundle_with(lab, &[], "pids", json!({"limit": 32}));
    bundle.busybox().expect("busybox-static is installed");
    bundle.args(&[
        "/bin/sh",
        "-c",
        "b() { b | b & }; b 2>/dev/null; sleep 1000",
    ]);
    let container = lab.start(&bundle);
    let group = cgroup_of(&container);
    let stopped = wait::until(wait::CALL, || {
        (number(&group.join("pids.events"), "max") > 0).then_some(())
    });
    assert!(stopped.is_some(), "{} processes", members(&group).len());
    assert!(members(&group).len() <= 32);
    drop(container.call(&["delete", "--force"]).ok());
    assert!(!group.exists(), "{}", group.display());
}

fn no_pids_limit_is_no_limit(lab: &Lab) {
    let bundle = bundle_with(lab, &["sleep"], "pids", json!({"limit": -1}));
    assert!(is_unlimited(&lab.create(&bundle), "pids.max"));
}

fn a_cpu_quota_is_kept_within_a_tenth(lab: &Lab) {
    const WINDOW: Duration = Duration::from_secs(4);
    let quota = json!({"quota": 30_000, "period": 100_000});
    let bundle = bundle_with(lab, &["burn"], "cpu", quota);
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    assert_eq!(setting(&container, "cpu.max"), "30000 100000");
    let stat = cgroup_of(&container).join("cpu.stat");
    let used = || Duration::from_micros(number(&stat, "usage_usec"));
    let share = || {
        let (begin, before) = (Instant::now(), used());
        std::thread::sleep(WINDOW);
        (used() - before).as_secs_f64() / begin.elapsed().as_secs_f64()
    };
    // A busy machine may not give the container its share, or not look in time; what
    // is never near the quota is not limited by it.
    let shares: Vec<f64> = std::iter::repeat_with(share).take(5).collect();
    assert!(
        shares.iter().any(|share| (0.27..=0.33).contains(share)),
        "{shares:?}"
    );
    assert!(number(&stat, "nr_throttled") > 0);
}

fn cpu_shares_become_a_weight(lab: &Lab) {
    // How what is between becomes a weight has changed; the ends have not.
    for (shares, weight) in [(2, "1"), (262_144, "10000")] {
        let bundle = bundle_with(lab, &["sleep"], "cpu", json!({"shares": shares}));
        let container = lab.create(&bundle);
        assert_eq!(setting(&container, "cpu.weight"), weight, "{shares}");
    }
}

fn a_cpu_quota_without_a_period_has_the_usual_one(lab: &Lab) {
    let bundle = bundle_with(lab, &["sleep"], "cpu", json!({"quota": 50_000}));
    assert_eq!(setting(&lab.create(&bundle), "cpu.max"), "50000 100000");
}

fn a_unified_value_is_written_as_it_is(lab: &Lab) {
    let values = json!({"cpu.weight": "777", "memory.high": "41943040"});
    let bundle = bundle_with(lab, &["sleep"], "unified", values);
    let container = lab.create(&bundle);
    assert_eq!(setting(&container, "cpu.weight"), "777");
    assert_eq!(setting(&container, "memory.high"), "41943040");
}

fn a_unified_file_that_does_not_exist_is_an_error(lab: &Lab) {
    let values = json!({"memory.nonsense": "1"});
    let bundle = bundle_with(lab, &["true"], "unified", values);
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("memory.nonsense"), "{output}");
}

fn the_processors_are_the_configured_ones(lab: &Lab) {
    let bundle = bundle_with(lab, &["facts"], "cpu", json!({"cpus": "0"}));
    assert_eq!(lab.facts(&bundle)["affinity"], json!([0]));
}

/// The child that is to become init is in the cgroup and in the runtime's memory: the kernel,
/// killing for want of memory there, must not kill the runtime.
fn a_memory_limit_that_leaves_no_room_for_init_hurts_nobody_else(lab: &Lab) {
    for kib in [4, 8, 16, 32, 64, 96, 128, 160, 192] {
        let limit = json!({"limit": kib * 1024, "swap": kib * 1024});
        let bundle = bundle_with(lab, &["true"], "memory", limit);
        let container = lab.try_create(&bundle);
        let output = &container.creation;
        if output.status.success() || !lab.is_corten() {
            continue;
        }
        assert_eq!(output.code(), 1, "{kib} KiB: {output}");
        let text = output.stderr();
        assert!(text.contains("linux.resources.memory"), "{output}");
        assert_eq!(text.lines().count(), 1, "{output}");
    }
}
