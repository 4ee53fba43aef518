//! create, start, state, kill, delete, run, list: what a container goes through.

use serde_json::json;

use crate::check::checks;
use crate::lab::Lab;

checks!("lifecycle":
    run_returns_the_exit_code_of_the_process,
    a_container_goes_through_created_running_stopped,
);

fn run_returns_the_exit_code_of_the_process(lab: &Lab) {
    for code in [0, 1, 42, 255] {
        let output = lab.run(&lab.bundle_of(&["exit", &code.to_string()]));
        assert_eq!(output.code(), code, "{output}");
    }
}

fn a_container_goes_through_created_running_stopped(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.create(&bundle);
    let state = container.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], json!(container.id));
    drop(container.call(&["start"]).ok());
    assert_eq!(container.state()["status"], "running");
    drop(container.call_with("kill", &["KILL"]).ok());
    container.wait_for("stopped");
    drop(container.call(&["delete"]).ok());
    assert!(!container.call(&["state"]).status.success());
}
