//! What was wrong once, each as the statement that did not hold.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use super::cgroup::{cgroup_of, members};
use crate::check::checks;
use crate::facts;
use crate::lab::Lab;
use crate::wait;

checks!("regressions":
    a_read_only_dev_has_its_nodes,
    a_missing_cwd_is_made_in_a_read_only_root,
    a_root_in_a_user_namespace_gets_binds_that_only_the_hosts_root_can_reach,
    what_is_made_in_the_root_does_not_depend_on_the_callers_umask,
    a_frozen_created_container_is_paused_and_not_started,
    kill_reaches_what_the_first_process_left_in_the_hosts_pid_namespace,
    the_loader_is_blamed_only_where_it_is_missing,
    a_device_of_the_image_is_taken_if_it_is_the_right_one,
    a_state_that_can_not_be_looked_up_is_no_stopped_container,
);

fn a_read_only_dev_has_its_nodes(lab: &Lab) {
    let mut bundle = lab.bundle();
    for mount in bundle.config["mounts"].as_array_mut().expect("a list") {
        if mount["destination"] == "/dev" {
            mount["options"]
                .as_array_mut()
                .expect("a list")
                .push(json!("ro"));
        }
    }
    let facts = lab.facts(&bundle);
    let options = facts::mount(&facts, "/dev")["options"].to_string();
    assert!(options.contains("\"ro\""), "{options}");
    let null = facts::entry(&facts["dev"], "name", "null");
    assert_eq!(null["type"], "CharacterDevice", "{null:#}");
}

fn a_missing_cwd_is_made_in_a_read_only_root(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.config["process"]["cwd"] = json!("/not/there/yet");
    assert_eq!(lab.facts(&bundle)["cwd"], "/not/there/yet");
}

fn a_root_in_a_user_namespace_gets_binds_that_only_the_hosts_root_can_reach(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["list", "/data"]);
    let namespace = json!({"type": "user"});
    bundle.push("/linux/namespaces", namespace);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    let secret = lab.folder().join("secret");
    let shared = secret.join("shared");
    std::fs::create_dir_all(&shared).expect("the lab is writable");
    std::fs::write(shared.join("seen"), "").expect("the lab is writable");
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&secret, private).expect("root may");
    bundle.push(
        "/mounts",
        json!({"destination": "/data", "type": "bind", "source": shared, "options": ["bind", "ro"]}),
    );
    bundle.give_to(100_000).expect("root may");
    let list = lab.run(&bundle).json();
    assert!(facts::find(&list, "name", "seen").is_some(), "{list:#}");
}

fn what_is_made_in_the_root_does_not_depend_on_the_callers_umask(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["stat", "/made", "/made/cwd"]);
    bundle.config["process"]["cwd"] = json!("/made/cwd");
    bundle.config["root"]["readonly"] = json!(false);
    let under = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
    let stat = lab.run_under(&under, &bundle).json();
    for name in ["/made", "/made/cwd"] {
        let mode = std::fs::metadata(bundle.rootfs().join(&name[1..])).expect("it was made");
        assert_eq!(mode.permissions().mode() & 0o7777, 0o755, "{stat:#}");
    }
}

fn a_frozen_created_container_is_paused_and_not_started(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.create(&bundle);
    let freeze = cgroup_of(&container).join("cgroup.freeze");
    std::fs::write(&freeze, "1").expect("cgroup v2");
    let events = freeze.with_file_name("cgroup.events");
    let frozen = || {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        text.contains("frozen 1").then_some(())
    };
    assert!(wait::until(wait::CALL, frozen).is_some());
    let output = container.call(&["start"]);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let text = "cannot start a container in the paused state";
        assert!(output.stderr().contains(text), "{output}");
    }
    std::fs::write(&freeze, "0").expect("cgroup v2");
}

fn kill_reaches_what_the_first_process_left_in_the_hosts_pid_namespace(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["children", "2"]);
    bundle.without_namespace("pid");
    bundle.config["linux"]["cgroupsPath"] = json!("/left");
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    let group = cgroup_of(&container);
    let pids = members(&group);
    let first = container.pid();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(first).expect("a pid")).expect("a pid"),
        rustix::process::Signal::KILL,
    )
    .expect("root may");
    let gone = |pid: u64| !PathBuf::from(format!("/proc/{pid}/cgroup")).exists();
    container.wait_for("stopped");
    assert!(pids.iter().any(|pid| *pid != first), "{pids:?}");
    drop(container.call_with("kill", &["KILL"]).ok());
    for pid in pids.into_iter().filter(|pid| *pid != first) {
        let ended = || (gone(pid) || !members(&group).contains(&pid)).then_some(());
        assert!(wait::until(wait::CALL, ended).is_some(), "{pid} lives");
    }
}

fn the_loader_is_blamed_only_where_it_is_missing(lab: &Lab) {
    // A script whose interpreter is there, but an environment that is too large for it.
    let mut bundle = lab.bundle();
    bundle.busybox().expect("the lab is writable");
    bundle
        .program("run.sh", b"#!/bin/sh\n")
        .expect("the lab is writable");
    bundle.args(&["/run.sh"]);
    let long = format!("LONG={}", "x".repeat(140_000));
    bundle.push("/process/env", json!(long));
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    let text = output.stderr().to_lowercase();
    assert!(text.contains("argument list too long"), "{output}");
    assert!(!text.contains("interpreter"), "{output}");
}

fn a_device_of_the_image_is_taken_if_it_is_the_right_one(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["stat", "/dev/null"]);
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(destination);
    }
    bundle.config["root"]["readonly"] = json!(false);
    // The first run makes the nodes in the bundle, the second one finds them.
    for _ in 0..2 {
        let stat = lab.run(&bundle).json();
        assert_eq!(stat["/dev/null"]["type"], "CharacterDevice", "{stat:#}");
    }
    let null = bundle.rootfs().join("dev/null");
    std::fs::remove_file(&null).expect("it is there");
    std::os::unix::fs::symlink("/etc/passwd", &null).expect("the lab is writable");
    let output = lab.run(&bundle);
    assert!(!output.status.success() || !lab.is_corten(), "{output}");
}

fn a_state_that_can_not_be_looked_up_is_no_stopped_container(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let id = container.state()["id"].as_str().expect("an id").to_owned();
    for limit in 3..12 {
        let mut command = std::process::Command::new("prlimit");
        command
            .arg(format!("--nofile={limit}"))
            .arg(lab.runtime.program());
        command
            .arg("--root")
            .arg(lab.runtime.root())
            .args(["state", &id]);
        let output = lab.runtime.spawn(command).finish(wait::CALL);
        assert!(!output.stdout().contains("stopped"), "{limit}: {output}");
    }
}
