//! Containers that stand still, by the cgroup's freezer.

use crate::check::checks;
use crate::lab::{Container, Lab};
use crate::wait;

checks!("pause":
    a_paused_container_stands_still_and_goes_on,
    a_signal_that_ends_a_paused_container_waits_until_it_goes_on,
    a_paused_container_is_not_started,
    what_is_not_paused_is_not_resumed,
    a_stopped_container_is_not_paused,
    a_paused_container_is_deleted_by_force,
);

/// A container whose first process burns CPU time.
fn burning<'lab>(lab: &'lab Lab, bundle: &'lab crate::bundle::Bundle) -> Container<'lab> {
    let container = lab.start(bundle);
    container.creation.wait_for_text("ready");
    container
}

/// CPU time of the container's cgroup so far, in microseconds.
fn used(container: &Container<'_>) -> u64 {
    let path = super::cgroup::cgroup_of(container).join("cpu.stat");
    let text = std::fs::read_to_string(path).expect("the container's cgroup");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    value
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

fn grows(container: &Container<'_>) -> bool {
    let before = used(container);
    wait::until(wait::CALL, || (used(container) > before).then_some(())).is_some()
}

fn a_paused_container_stands_still_and_goes_on(lab: &Lab) {
    let bundle = lab.bundle_of(&["burn"]);
    let container = burning(lab, &bundle);
    assert!(grows(&container));
    drop(container.call(&["pause"]).ok());
    assert_eq!(container.state()["status"], "paused");
    let before = used(&container);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(used(&container), before);
    drop(container.call(&["resume"]).ok());
    assert_eq!(container.state()["status"], "running");
    assert!(grows(&container));
}

fn a_signal_that_ends_a_paused_container_waits_until_it_goes_on(lab: &Lab) {
    let bundle = lab.bundle_of(&["wait-signal"]);
    let container = burning(lab, &bundle);
    drop(container.call(&["pause"]).ok());
    drop(container.call_with("kill", &["TERM"]).ok());
    assert_eq!(container.state()["status"], "paused");
    drop(container.call(&["resume"]).ok());
    container.wait_for("stopped");
}

fn a_paused_container_is_not_started(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.create(&bundle);
    drop(container.call(&["pause"]).ok());
    let output = container.call(&["start"]);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("paused"), "{output}");
    drop(container.call(&["resume"]).ok());
    drop(container.call(&["start"]).ok());
    container.wait_for("stopped");
}

fn what_is_not_paused_is_not_resumed(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let output = container.call(&["resume"]);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("not paused"), "{output}");
    assert_eq!(container.state()["status"], "running");
}

fn a_stopped_container_is_not_paused(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.start(&bundle);
    container.wait_for("stopped");
    let output = container.call(&["pause"]);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("not running"), "{output}");
}

fn a_paused_container_is_deleted_by_force(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let group = super::cgroup::cgroup_of(&container);
    drop(container.call(&["pause"]).ok());
    drop(container.call(&["delete", "--force"]).ok());
    assert!(!group.exists());
}
