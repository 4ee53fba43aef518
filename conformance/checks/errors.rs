//! Errors that no broken bundle makes (those are in `broken`), and what is only a warning.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::broken::{failed, without_numbers};
use crate::check::checks;
use crate::lab::Lab;

checks!("errors":
    a_duplicate_id_is_refused_and_the_first_container_lives,
    an_unknown_container_is_told_as_such,
    a_wrong_number_of_arguments_shows_the_usage,
    an_unknown_capability_is_only_a_warning,
    with_a_log_file_the_error_goes_there_too,
    a_removed_executable_is_refused_at_create,
);

fn a_duplicate_id_is_refused_and_the_first_container_lives(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    for words in [&["create"][..], &["run"]] {
        let output = lab.command(words, &bundle, &container.id);
        failed(
            lab,
            &bundle,
            &output,
            "container with given ID already exists",
        );
    }
    assert_eq!(container.state()["status"], "running");
}

fn an_unknown_container_is_told_as_such(lab: &Lab) {
    let bundle = lab.bundle();
    for words in [&["state"][..], &["start"], &["kill"], &["delete"]] {
        let output = lab.runtime.call(&[words, &["missing"]].concat());
        failed(lab, &bundle, &output, "container does not exist");
    }
}

fn a_wrong_number_of_arguments_shows_the_usage(lab: &Lab) {
    let output = lab.runtime.call(&["create"]);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        assert_eq!(output.code(), 1);
        assert!(output.stdout().contains("--bundle"), "{output}");
        let text = "\"create\" requires exactly 1 argument(s)";
        assert!(
            output.stderr().lines().any(|line| line.ends_with(text)),
            "{output}"
        );
    }
}

fn an_unknown_capability_is_only_a_warning(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    for set in ["bounding", "permitted", "effective"] {
        bundle.push(
            &format!("/process/capabilities/{set}"),
            json!("CAP_FROBNICATE"),
        );
    }
    let output = lab.run(&bundle).ok();
    if lab.is_corten() {
        let told = output.stderr();
        assert!(
            told.starts_with("corten: warning: ") && told.contains("CAP_FROBNICATE"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

fn with_a_log_file_the_error_goes_there_too(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.args(&["/missing"]);
    bundle.write().expect("the lab is writable");
    let log = lab.folder().join("log.json");
    let mut command = lab.runtime.command();
    command
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json", "create", "--bundle"]);
    command.arg(bundle.path()).arg("broken");
    let output = lab.runtime.spawn(command).finish(crate::wait::CALL);
    assert_eq!(output.code(), 1, "{output}");
    let text = std::fs::read_to_string(&log).expect("the log file");
    let last = text.lines().last().expect("a line");
    let line: serde_json::Value = serde_json::from_str(last).expect("JSON");
    let message = line["msg"].as_str().unwrap_or_default();
    assert!(
        message.contains("/missing") && message.contains("no such file"),
        "{text}"
    );
    if lab.is_corten() {
        let chain = "process.args[0]: exec /missing: no such file or directory (step # of #)";
        assert_eq!(without_numbers(&output.stderr()), format!("{chain}\n"));
        assert!(
            without_numbers(message).trim_end().ends_with(chain),
            "{text}"
        );
        assert_eq!(line["level"], "error");
        let mode = std::fs::metadata(&log)
            .expect("the log file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}

/// That of every other check, so that no other step looks for it.
fn a_removed_executable_is_refused_at_create(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    std::fs::remove_file(bundle.rootfs().join("probe")).expect("the lab is writable");
    let container = lab.try_create(&bundle);
    let told = &container.creation;
    assert_ne!(told.code(), 0, "{told}");
    assert!(told.stderr().contains("/probe"), "{told}");
}
