//! How the process is scheduled, where its memory comes from, what it takes itself for.

use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::{Need, checks};
use crate::lab::Lab;

checks!("scheduling":
    an_ordinary_policy_and_its_nice_value_are_set,
    a_real_time_policy_and_its_priority_are_set [Need::Capability(NICE)],
    a_deadline_is_set [Need::Capability(NICE)],
    the_policy_is_set_in_a_user_namespace_too [Need::Capability(NICE)],
    a_policy_that_no_kernel_has_is_told_with_the_kernels_reason,
    the_io_priority_is_set [Need::Capability(NICE)],
    limits_above_the_callers_hard_limit_are_set [Need::Capability(RESOURCE)],
    a_memory_policy_is_set,
    a_memory_policy_for_nodes_that_are_not_there_is_refused,
    the_personality_is_set,
    a_flag_of_the_personality_is_a_warning,
    the_affinity_for_exec_does_not_touch_the_first_process,
    wrong_values_are_refused_by_name,
);

const RESOURCE: rustix::thread::CapabilitySet = rustix::thread::CapabilitySet::SYS_RESOURCE;
const NICE: rustix::thread::CapabilitySet = rustix::thread::CapabilitySet::SYS_NICE;

/// The facts of a process with this scheduler.
fn scheduled(lab: &Lab, scheduler: Value) -> Value {
    let mut bundle = lab.bundle();
    bundle.config["process"]["scheduler"] = scheduler;
    lab.facts(&bundle)
}

fn an_ordinary_policy_and_its_nice_value_are_set(lab: &Lab) {
    for (policy, nice) in [("SCHED_OTHER", 5), ("SCHED_BATCH", 7), ("SCHED_OTHER", -3)] {
        let facts = scheduled(lab, json!({"policy": policy, "nice": nice}));
        assert_eq!(facts["scheduler"]["policy"], policy);
        assert_eq!(facts["nice"], nice, "{policy}");
        assert_eq!(facts["scheduler"]["reset_on_fork"], false, "{policy}");
    }
    let facts = scheduled(lab, json!({"policy": "SCHED_IDLE"}));
    assert_eq!(facts["scheduler"]["policy"], "SCHED_IDLE");
}

/// Whether this machine lets a process of a cgroup run in real time: with
/// `CONFIG_RT_GROUP_SCHED` and cgroup v2 no kernel does.
fn has_real_time() -> bool {
    let tried = Command::new("chrt").args(["--fifo", "1", "true"]).output();
    tried.expect("util-linux is here").status.success()
}

fn a_real_time_policy_and_its_priority_are_set(lab: &Lab) {
    if !has_real_time() {
        let mut bundle = lab.bundle();
        bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 1});
        let text = "process.scheduler: schedule by SCHED_FIFO, priority 1: operation not permitted";
        refused(lab, &bundle, text);
        return;
    }
    for (policy, priority) in [("SCHED_FIFO", 10), ("SCHED_RR", 1)] {
        let flags = ["SCHED_FLAG_RESET_ON_FORK"];
        let scheduler = json!({"policy": policy, "priority": priority, "flags": flags});
        let facts = scheduled(lab, scheduler);
        assert_eq!(facts["scheduler"]["policy"], policy);
        assert_eq!(facts["scheduler"]["priority"], priority);
        assert_eq!(facts["scheduler"]["reset_on_fork"], true);
    }
}

fn a_deadline_is_set(lab: &Lab) {
    let facts = scheduled(
        lab,
        json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 20_000_000,
               "period": 40_000_000, "flags": ["SCHED_FLAG_RECLAIM"]}),
    );
    assert_eq!(facts["scheduler"]["policy"], "SCHED_DEADLINE");
    let times = json!([10_000_000, 20_000_000, 40_000_000]);
    assert_eq!(facts["scheduler"]["times"], times);
}

fn in_user_namespace(bundle: &mut Bundle) {
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.give_to(100_000).expect("root may");
}

fn the_policy_is_set_in_a_user_namespace_too(lab: &Lab) {
    let mut bundle = lab.bundle();
    in_user_namespace(&mut bundle);
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 3});
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_RT", "priority": 1});
    // The peers ask in the container, whose root has no say over the machine's time.
    if lab.is_corten() && has_real_time() {
        let facts = lab.facts(&bundle);
        assert_eq!(facts["scheduler"]["policy"], "SCHED_FIFO");
        assert_eq!(facts["scheduler"]["priority"], 3);
        assert_eq!(facts["ioprio"], json!({"class": 1, "level": 1}));
    }
}

fn a_policy_that_no_kernel_has_is_told_with_the_kernels_reason(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_ISO"});
    refused(
        lab,
        &bundle,
        "process.scheduler: schedule by SCHED_ISO, nice 0: invalid argument",
    );
}

fn the_io_priority_is_set(lab: &Lab) {
    for (name, class, level) in [
        ("IOPRIO_CLASS_RT", 1, 4),
        ("IOPRIO_CLASS_BE", 2, 7),
        ("IOPRIO_CLASS_IDLE", 3, 0),
    ] {
        let mut bundle = lab.bundle();
        bundle.config["process"]["ioPriority"] = json!({"class": name, "priority": level});
        let facts = lab.facts(&bundle);
        assert_eq!(facts["ioprio"], json!({"class": class, "level": level}));
    }
}

fn limits_above_the_callers_hard_limit_are_set(lab: &Lab) {
    let mut bundle = lab.bundle();
    let limit = json!({"type": "RLIMIT_NOFILE", "soft": 5000, "hard": 6000});
    bundle.config["process"]["rlimits"] = json!([limit]);
    let under = ["prlimit", "--nofile=200:300", "--"];
    for user in [false, true] {
        if user {
            in_user_namespace(&mut bundle);
        }
        let facts = lab.run_under(&under, &bundle).json();
        let wanted = json!({"soft": 5000, "hard": 6000});
        assert_eq!(facts["rlimits"]["RLIMIT_NOFILE"], wanted, "{user}");
    }
}

/// Whether this kernel knows memory policies, as seen in a container.
fn has_memory_policies(lab: &Lab) -> bool {
    lab.facts(&lab.bundle())["memory_policy"].is_object()
}

fn a_memory_policy_is_set(lab: &Lab) {
    if !has_memory_policies(lab) {
        let mut bundle = lab.bundle();
        bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
        refused(
            lab,
            &bundle,
            "linux.memoryPolicy: set memory policy MPOL_BIND 0: function not implemented",
        );
        return;
    }
    const STATIC: u64 = 1 << 15;
    for (policy, mode, nodes) in [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), 2, 1),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), 1, 1),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            3 | STATIC,
            1,
        ),
        (json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}), 5, 1),
        (json!({"mode": "MPOL_LOCAL"}), 4, 0),
        (json!({"mode": "MPOL_DEFAULT"}), 0, 0),
    ] {
        let mut bundle = lab.bundle();
        bundle.config["linux"]["memoryPolicy"] = policy;
        let found = lab.facts(&bundle)["memory_policy"].clone();
        assert_eq!(found, json!({"mode": mode, "nodes": nodes}));
    }
}

fn a_memory_policy_for_nodes_that_are_not_there_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "900"});
    refused(
        lab,
        &bundle,
        "linux.memoryPolicy: set memory policy MPOL_BIND 900: ",
    );
}

fn the_personality_is_set(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    let facts = lab.facts(&bundle);
    assert_eq!(facts["personality"], 8);
    // User Mode Linux calls itself the same in both.
    let outside = Command::new("setarch")
        .args(["linux32", "uname", "-m"])
        .output();
    let outside = outside.expect("util-linux and coreutils are here").stdout;
    assert_eq!(facts["machine"], String::from_utf8_lossy(&outside).trim());
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX"});
    assert_eq!(lab.facts(&bundle)["personality"], 0);
}

fn a_flag_of_the_personality_is_a_warning(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["SOME"]});
    let output = lab.run(&bundle).ok();
    if lab.is_corten() {
        let warning = "warning: linux.personality.flags: ignoring \"SOME\"";
        assert!(output.stderr().contains(warning), "{output}");
    }
}

fn the_affinity_for_exec_does_not_touch_the_first_process(lab: &Lab) {
    let before = lab.facts(&lab.bundle())["affinity"].clone();
    let mut bundle = lab.bundle();
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    assert_eq!(lab.facts(&bundle)["affinity"], before);
}

fn refused(lab: &Lab, bundle: &Bundle, text: &str) {
    let output = lab.run(bundle);
    if lab.is_corten() {
        assert!(!output.status.success(), "{output}");
        assert!(
            output.stderr().starts_with(&format!("corten: {text}")),
            "{output}"
        );
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn wrong_values_are_refused_by_name(lab: &Lab) {
    for (field, value, text) in [
        (
            "scheduler",
            json!({"policy": "SCHED_FAIR"}),
            "process.scheduler.policy: \"SCHED_FAIR\"",
        ),
        (
            "scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            "process.scheduler.nice: 20",
        ),
        (
            "scheduler",
            json!({"policy": "SCHED_OTHER", "priority": 1}),
            "process.scheduler.priority: ",
        ),
        (
            "ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "process.ioPriority.priority: 8",
        ),
        (
            "ioPriority",
            json!({"class": "BE"}),
            "process.ioPriority.class: \"BE\"",
        ),
        (
            "execCPUAffinity",
            json!({"initial": "x"}),
            "process.execCPUAffinity.initial: \"x\"",
        ),
    ] {
        let mut bundle = lab.bundle();
        bundle.config["process"][field] = value;
        refused(lab, &bundle, text);
    }
}
