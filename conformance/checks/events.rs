//! `events`: what a container uses, and when it runs out of memory. `ps`: its processes.

use std::time::Duration;

use serde_json::{Value, json};

use super::cgroup::{cgroup_of, members};
use super::limits::bundle_with;
use crate::check::Need::Controller;
use crate::check::checks;
use crate::lab::{Container, Lab};
use crate::runtime::Call;
use crate::wait;

checks!("events":
    stats_are_one_line_with_the_keys_of_runc,
    stats_tell_what_is_used [Controller("memory"), Controller("pids"), Controller("cpu")],
    stats_come_again_after_the_interval,
    an_oom_kill_is_an_event [Controller("memory")],
    an_oom_kill_of_a_child_is_an_event_and_the_container_goes_on [Controller("memory")],
    events_end_with_the_container,
    a_stopped_container_has_no_events,
    an_interval_of_nothing_is_refused,
    ps_lists_the_processes_of_the_container_only,
    ps_finds_processes_in_cgroups_below,
    ps_as_json_is_a_list_of_process_ids,
    ps_passes_options_on,
    ps_needs_a_column_of_process_ids,
);

const MIB: u64 = 1 << 20;

fn stats(container: &Container<'_>) -> Value {
    let output = container.call(&["events", "--stats"]).ok();
    let text = output.stdout();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn follow(lab: &Lab, container: &Container<'_>, interval: &str) -> Call {
    let mut command = lab.runtime.command();
    command.args(["events", "--interval", interval, &container.id]);
    lab.runtime.spawn(command)
}

fn stats_are_one_line_with_the_keys_of_runc(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let event = stats(&container);
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], container.id.as_str());
    for place in [
        "/cpu/usage/kernel",
        "/cpu/usage/user",
        "/cpu/throttling",
        "/memory/usage/limit",
        "/memory/usage/failcnt",
        "/memory/swap/limit",
        "/memory/kernel/limit",
        "/memory/kernelTCP/limit",
        "/memory/raw",
        "/pids/current",
        "/blkio",
        "/hugetlb",
        "/intel_rdt",
        "/network_interfaces",
    ] {
        let bare = place == "/memory/raw" && event["data"]["memory"]["usage"]["limit"] == 0;
        // Without a memory controller there is nothing to tell.
        assert!(
            event["data"].pointer(place).is_some() || bare,
            "{place}: {event}"
        );
    }
}

fn stats_tell_what_is_used(lab: &Lab) {
    let limit = json!({"limit": 128 * MIB, "swap": 128 * MIB});
    let mut bundle = bundle_with(lab, &["allocate", "32"], "memory", limit);
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 20});
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    let data = &stats(&container)["data"];
    let number = |place: &str| data.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let memory = number("/memory/usage/usage");
    assert!((32 * MIB..128 * MIB).contains(&memory), "{data}");
    assert_eq!(number("/memory/usage/limit"), 128 * MIB);
    assert!(number("/memory/raw/anon") >= 32 * MIB, "{data}");
    assert_eq!((number("/pids/current"), number("/pids/limit")), (1, 20));
    assert!(number("/cpu/usage/total") > 1_000_000, "{data}");
}

fn stats_come_again_after_the_interval(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let call = follow(lab, &container, "100ms");
    let seen = wait::until(wait::CALL, || {
        (call.stdout().lines().count() >= 3).then_some(())
    });
    assert!(seen.is_some(), "{}", call.stdout());
    drop(container.call(&["delete", "--force"]).ok());
    let output = call.finish(wait::CALL);
    for line in output.stdout().lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(event["type"], "stats");
    }
}

fn ooms(text: &str) -> usize {
    text.lines()
        .filter(|line| line.contains(r#""type":"oom""#))
        .count()
}

fn an_oom_kill_is_an_event(lab: &Lab) {
    let limit = json!({"limit": 64 * MIB, "swap": 64 * MIB});
    let mut bundle = bundle_with(lab, &[], "memory", limit);
    bundle.busybox().expect("busybox-static is installed");
    let script = "while [ ! -e /go ]; do /bin/busybox usleep 50000; done; exec /probe allocate 256";
    bundle.args(&["/bin/sh", "-c", script]);
    let container = lab.start(&bundle);
    let call = follow(lab, &container, "300ms");
    call.wait_for_text("stats");
    std::fs::write(bundle.rootfs().join("go"), "").expect("the bundle is ours");
    let output = call.finish(wait::CALL).ok();
    assert!(ooms(&output.stdout()) > 0, "{output}");
    let oom = format!(r#"{{"type":"oom","id":"{}"}}"#, container.id);
    assert!(output.stdout().lines().any(|line| line == oom), "{output}");
}

fn an_oom_kill_of_a_child_is_an_event_and_the_container_goes_on(lab: &Lab) {
    let limit = json!({"limit": 64 * MIB, "swap": 64 * MIB});
    let mut bundle = bundle_with(lab, &[], "memory", limit);
    bundle.busybox().expect("busybox-static is installed");
    let script = "while [ ! -e /go ]; do /bin/busybox usleep 50000; done; \
        /probe allocate 256; echo went on; exec /bin/busybox sleep 1000";
    bundle.args(&["/bin/sh", "-c", script]);
    let container = lab.start(&bundle);
    let call = follow(lab, &container, "300ms");
    call.wait_for_text("stats");
    std::fs::write(bundle.rootfs().join("go"), "").expect("the bundle is ours");
    call.wait_for_text("oom");
    container.creation.wait_for_text("went on");
    assert_eq!(container.state()["status"], "running");
    drop(container.call(&["delete", "--force"]).ok());
    let output = call.finish(wait::CALL);
    if lab.is_corten() {
        assert_eq!(ooms(&output.stdout()), 1, "{output}");
        assert!(output.status.success(), "{output}");
    }
}

fn events_end_with_the_container(lab: &Lab) {
    for namespace in [true, false] {
        let mut bundle = lab.bundle_of(&["wait-signal"]);
        if !namespace {
            bundle.without_namespace("pid");
        }
        let container = lab.start(&bundle);
        let mut call = follow(lab, &container, "200ms");
        call.wait_for_text("stats");
        assert!(call.child.try_wait().expect("an own child").is_none());
        drop(container.call_with("kill", &["KILL"]).ok());
        drop(call.finish(Duration::from_secs(10)).ok());
    }
}

fn a_stopped_container_has_no_events(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.start(&bundle);
    container.wait_for("stopped");
    let output = container.call(&["events"]);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("is not running"), "{output}");
}

fn an_interval_of_nothing_is_refused(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let output = container.call(&["events", "--interval", "0s"]);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("greater than 0"), "{output}");
}

fn ps_lists_the_processes_of_the_container_only(lab: &Lab) {
    let bundle = lab.bundle_of(&["children", "3"]);
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    let text = container.call(&["ps"]).ok().stdout();
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    assert!(head.starts_with("UID") && head.contains("PID"), "{text}");
    let pids = members(&cgroup_of(&container));
    let listed: Vec<u64> = lines
        .map(|line| {
            let word = line.split_whitespace().nth(1);
            word.and_then(|word| word.parse().ok()).expect("a pid")
        })
        .collect();
    assert_eq!(listed, pids, "{text}");
    assert_eq!(listed.len(), 4);
}

fn ps_finds_processes_in_cgroups_below(lab: &Lab) {
    let bundle = lab.bundle_of(&["children", "1"]);
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    let group = cgroup_of(&container);
    let below = group.join("below/deeper");
    std::fs::create_dir_all(&below).expect("the lane's cgroup is writable");
    let child = members(&group)
        .into_iter()
        .find(|pid| *pid != container.pid());
    let child = child.expect("a child");
    std::fs::write(below.join("cgroup.procs"), child.to_string()).expect("it runs");
    let text = container.call(&["ps", "--format", "json"]).ok().stdout();
    let pids: Vec<u64> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(pids.len(), 2, "{text}");
    assert!(pids.contains(&child), "{text}");
}

fn ps_as_json_is_a_list_of_process_ids(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let text = container.call(&["ps", "-f", "json"]).ok().stdout();
    assert_eq!(text, format!("[{}]\n", container.pid()));
}

fn ps_passes_options_on(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let output = container.call_with("ps", &["-e", "-o", "comm,pid"]).ok();
    let words: Vec<String> = output
        .stdout()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let pid = container.pid().to_string();
    assert_eq!(words, ["COMMAND", "PID", "probe", pid.as_str()], "{output}");
}

fn ps_needs_a_column_of_process_ids(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    for options in [["-e", "-o", "comm"], ["-e", "--nonsense", "-x"]] {
        let output = container.call_with("ps", &options);
        assert!(!output.status.success(), "{output}");
        assert!(output.stderr().contains("ps"), "{output}");
    }
}
