//! `conformance bench` with few rounds: that it works, never how fast anything is. And that floor
//! makes the containers it should, by the calls on its list.

use std::path::PathBuf;
use std::process::{Command, Output};

use corten_conformance::{bench, built, lane};
use serde_json::Value;

fn corten() -> PathBuf {
    built("corten").unwrap_or_else(|error| panic!("{error}"))
}

fn run(words: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .arg("bench")
        .args(words)
        .output();
    let output = output.expect("the binary starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    output
}

#[test]
fn a_container_of_floor_sees_what_one_of_corten_sees() {
    lane::test(|| {
        let differences = bench::floor_differs(&corten()).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    });
}

#[test]
fn floor_makes_the_system_calls_of_its_list() {
    lane::test(|| {
        let differences = bench::floor_calls_differ(&corten()).unwrap();
        assert!(differences.is_empty(), "floor/calls.txt: {differences:#?}");
    });
}

#[test]
fn every_group_measures_every_subject() {
    let folder = std::env::temp_dir().join(format!("corten-bench-{}", std::process::id()));
    let (corten, pictures) = (corten(), folder.to_string_lossy().into_owned());
    let runtime = corten.to_string_lossy();
    let words = [
        "--rounds",
        "2",
        "--format",
        "json",
        "--output",
        &pictures,
        "--runtime",
        &runtime,
    ];
    let output = run(&words);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let measurements = found["measurements"].as_array().unwrap();
    let list = run(&["--list"]);
    let groups = String::from_utf8_lossy(&list.stdout).into_owned();
    for group in groups.lines().filter_map(|line| line.split('\t').next()) {
        let of_group = |one: &&Value| one["name"].as_str().unwrap().starts_with(group);
        let mut all = measurements.iter().filter(of_group).peekable();
        assert!(all.peek().is_some(), "{group}: nothing measured");
        for one in all {
            if one["name"] == "shim" {
                // Where there is no containerd.
                let notes = one["notes"].to_string();
                assert!(notes.contains("no containerd"), "{notes}");
                println!("every_group_measures_every_subject: shim: {notes}");
                continue;
            }
            let series = one["series"].as_array().unwrap();
            let first = series[0]["subject"].as_str().unwrap();
            assert!(
                first == "corten" || first == "large" || first.starts_with("with "),
                "{one}"
            );
            let samples = series
                .iter()
                .flat_map(|one| one["samples"].as_array().unwrap());
            assert!(samples.clone().count() > 0, "{one}");
            assert!(
                samples
                    .into_iter()
                    .all(|sample| sample.as_f64() > Some(0.0)),
                "{one}"
            );
        }
    }
    for name in ["run-default.svg", "trace-default.svg", "report.txt"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    let written = std::fs::read(folder.join("report.json")).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(
        written["measurements"].as_array().unwrap().len(),
        measurements.len()
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_unknown_group_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["bench", "nothing"])
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no group is named like"), "{text}");
}
