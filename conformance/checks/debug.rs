//! `--debug` and `--trace`: every step of a start, and what it took.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::Lab;
use crate::runtime::Output;
use crate::wait;

checks!("debug":
    run_tells_every_step_of_the_plan_and_its_time,
    create_and_start_tell_each_their_steps,
    exec_tells_its_steps_and_their_times,
    a_start_that_fails_tells_the_steps_up_to_the_one_that_failed,
    without_a_log_file_the_steps_go_to_stderr,
    without_the_flag_nothing_is_told,
    the_trace_of_exec_has_both_halves,
);

/// Lines of a log, each as its message.
fn messages(log: &Path, format: &str) -> Vec<String> {
    let text = std::fs::read_to_string(log).expect("the log file");
    let debug = text.lines().filter_map(|line| match format {
        "json" => {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let message = line["msg"].as_str().map(str::to_owned);
            message.filter(|_| line["level"] == "debug")
        }
        _ => {
            let message = line.split_once(" level=debug msg=\"")?.1;
            Some(message.strip_suffix('"')?.replace("\\\"", "\""))
        }
    });
    debug.collect()
}

/// The steps among messages: `init at 10 us, 2 us: hostname: set hostname ...`.
fn steps(messages: &[String]) -> Vec<String> {
    let step = |message: &String| {
        let (head, step) = message.split_once(" us: ")?;
        let mut words = head.split_whitespace();
        let half = words
            .next()
            .filter(|word| ["init", "runtime"].contains(word))?;
        assert_eq!(words.next(), Some("at"), "{message}");
        for unit in ["us,", ""] {
            let number = words.next().expect("a number");
            assert!(number.parse::<u64>().is_ok(), "{message}");
            assert!(unit.is_empty() || words.next() == Some(unit), "{message}");
        }
        Some(format!("{half} {step}"))
    };
    messages.iter().filter_map(step).collect()
}

/// Calls the runtime with a log file, and returns the steps in it.
fn logged(lab: &Lab, format: &str, words: &[&str]) -> (Output, Vec<String>) {
    let log = lab.folder().join("debug.log");
    let mut command = lab.runtime.command();
    command.args(["--debug", "--log-format", format, "--log"]);
    command.arg(&log).args(words).stdin(Stdio::null());
    let output = lab.runtime.spawn(command).finish(wait::CALL);
    let told = steps(&messages(&log, format));
    std::fs::remove_file(log).expect("it was there");
    (output, told)
}

/// The steps of the bundle's plan, but for what depends on the container's id.
fn planned(lab: &Lab, bundle: &Bundle) -> BTreeSet<String> {
    bundle.write().expect("the lab is writable");
    let path = bundle.path().to_string_lossy();
    let plan = lab
        .runtime
        .call(&["plan", "--run", "--format", "json", "--bundle", &path]);
    let plan = plan.json();
    let steps = plan["steps"].as_array().expect("a plan has steps");
    let step = |step: &Value| {
        let text = |field: &str| step[field].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("half"), text("origin"), text("what"))
    };
    let steps = steps.iter().map(step);
    steps.filter(|step| !step.contains("container")).collect()
}

fn run_tells_every_step_of_the_plan_and_its_time(lab: &Lab) {
    if !lab.is_corten() {
        return;
    }
    let bundle = lab.bundle_of(&["true"]);
    let planned = planned(lab, &bundle);
    assert!(planned.len() > 40, "{planned:#?}");
    let path = bundle.path().to_string_lossy();
    for format in ["text", "json"] {
        let (output, told) = logged(lab, format, &["run", "--bundle", &path, "debugged"]);
        drop(output.ok());
        let told: BTreeSet<String> = told.into_iter().collect();
        let missing: Vec<_> = planned.difference(&told).collect();
        assert!(missing.is_empty(), "{format}: {missing:#?} in {told:#?}");
    }
}

fn create_and_start_tell_each_their_steps(lab: &Lab) {
    if !lab.is_corten() {
        return;
    }
    let bundle = lab.bundle_of(&["sleep"]);
    bundle.write().expect("the lab is writable");
    let path = bundle.path().to_string_lossy();
    let (created, of_create) = logged(lab, "text", &["create", "--bundle", &path, "debugged"]);
    drop(created.ok());
    let (started, of_start) = logged(lab, "text", &["start", "debugged"]);
    drop(started.ok());
    drop(lab.runtime.call(&["delete", "--force", "debugged"]).ok());
    let has = |told: &[String], words: &str| told.iter().any(|step| step.contains(words));
    assert!(
        has(&of_create, "runtime process: write state.json"),
        "{of_create:#?}"
    );
    assert!(has(&of_create, "init root.path: pivot into the root"));
    assert!(!has(&of_create, ": exec /probe"), "{of_create:#?}");
    assert!(
        has(&of_start, "init process.args[0]: exec /probe"),
        "{of_start:#?}"
    );
    assert!(!has(&of_start, "pivot"), "{of_start:#?}");
    // `run` has nobody to wait for.
    let of_run = planned(lab, &bundle);
    assert!(has(&of_create, "make exec.fifo") && has(&of_start, "wait for start"));
    let waits = |step: &String| step.contains("exec.fifo") || step.contains("wait for start");
    assert!(!of_run.iter().any(waits), "{of_run:#?}");
}

fn exec_tells_its_steps_and_their_times(lab: &Lab) {
    if !lab.is_corten() {
        return;
    }
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let (output, told) = logged(lab, "json", &["exec", &container.id, "/probe", "true"]);
    drop(output.ok());
    let has = |words: &str| told.iter().any(|step| step.contains(words));
    assert!(has("init process.args[0]: exec /probe"), "{told:#?}");
    assert!(has("runtime linux.namespaces: start init"), "{told:#?}");
    assert!(told.len() > 15, "{told:#?}");
}

fn a_start_that_fails_tells_the_steps_up_to_the_one_that_failed(lab: &Lab) {
    if !lab.is_corten() {
        return;
    }
    let mut bundle = lab.bundle();
    bundle.args(&["/missing"]);
    bundle.write().expect("the lab is writable");
    let path = bundle.path().to_string_lossy();
    let (output, told) = logged(lab, "text", &["create", "--bundle", &path, "debugged"]);
    assert_eq!(output.code(), 1, "{output}");
    // The runtime half may have begun a step later.
    let last = told.iter().rfind(|step| step.starts_with("init "));
    let last = last.expect("steps are told");
    assert_eq!(last, "init process.args[0]: find /missing");
}

fn without_a_log_file_the_steps_go_to_stderr(lab: &Lab) {
    lab.runtime.add_flag("--debug");
    let output = lab.run(&lab.bundle_of(&["true"])).ok();
    if !lab.is_corten() {
        return;
    }
    let told = output.stderr();
    let messages = told.lines().map(|line| {
        let message = line.strip_prefix("corten: debug: ");
        message.unwrap_or_else(|| panic!("{line}")).to_owned()
    });
    assert!(steps(&messages.collect::<Vec<_>>()).len() > 40, "{told}");
}

fn without_the_flag_nothing_is_told(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    assert_eq!(lab.run(&bundle).ok().stderr(), "");
    let path = bundle.path().to_string_lossy();
    let log = lab.folder().join("quiet.log");
    let mut command: Command = lab.runtime.command();
    command
        .arg("--log")
        .arg(&log)
        .args(["run", "--bundle", &path, "quiet"]);
    drop(lab.runtime.spawn(command).finish(wait::CALL).ok());
    let text = std::fs::read_to_string(log).unwrap_or_default();
    assert_eq!(text, "");
}

fn the_trace_of_exec_has_both_halves(lab: &Lab) {
    if !lab.is_corten() {
        return;
    }
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let file = lab.folder().join("trace.json");
    let shown = file.to_string_lossy();
    drop(
        lab.runtime
            .call(&["exec", "--trace", &shown, &container.id, "/probe", "true"])
            .ok(),
    );
    let trace: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("it is written")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    for (half, name) in [("init", "exec /probe"), ("runtime", "start init")] {
        let found = events.iter().any(|event| {
            let starts = event["name"]
                .as_str()
                .is_some_and(|text| text.starts_with(name));
            event["cat"] == half && starts
        });
        assert!(found, "{half} {name}: {trace:#}");
    }
}
