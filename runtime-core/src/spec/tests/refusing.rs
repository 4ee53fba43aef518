//! What this version does not do yet.

use serde_json::json;

use super::{DOCKER, FULL, with};
use crate::spec::{Spec, default_spec, parse, rootless_spec, unsupported};

fn paths(spec: &Spec) -> Vec<String> {
    unsupported(spec)
        .iter()
        .map(|error| error.path().to_owned())
        .collect()
}

#[test]
fn the_defaults_ask_for_nothing_that_is_not_done() {
    for spec in [default_spec(), rootless_spec(1, 1), with(json!({}))] {
        assert_eq!(unsupported(&spec), []);
    }
}

#[test]
fn every_field_that_is_not_done_is_named() {
    let expected = "linux.intelRdt";
    let found = paths(&parse(FULL.as_bytes()).unwrap());
    assert_eq!(found, expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn messages_name_the_field_and_where_it_matters_the_value() {
    let cases = [(
        json!({ "/linux/intelRdt": { "closID": "a" } }),
        "linux.intelRdt: not supported yet by this version of corten",
    )];
    for (changes, expected) in cases {
        let found: Vec<String> = unsupported(&with(changes))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, [expected]);
    }
}

#[test]
fn what_docker_writes_without_meaning_it_is_let_through() {
    assert_eq!(unsupported(&parse(DOCKER.as_bytes()).unwrap()), []);
}

#[test]
fn empty_fields_and_the_kernels_defaults_are_let_through() {
    let spec = with(json!({
        "/hooks": { "prestart": [], "poststop": null },
        "/process/execCPUAffinity": {},
        "/linux/sysctl": {},
        "/linux/devices": [],
        "/linux/timeOffsets": {},
        "/linux/personality": { "domain": "LINUX" },
        "/linux/resources": {
            "hugepageLimits": [], "rdma": {}, "network": {}, "blockIO": { "weightDevice": [] },
            "memory": { "kernel": 0, "disableOOMKiller": false, "limit": 1_000_000 },
            "unified": { "memory.high": "1" }, "pids": { "limit": 7 },
        },
    }));
    assert_eq!(unsupported(&spec), []);
}
