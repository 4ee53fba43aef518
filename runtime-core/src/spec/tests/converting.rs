//! Specs of the `oci-spec` crate.

use oci_spec::runtime as oci;
use serde_json::json;

use super::{DOCKER, FULL, with};
use crate::spec::{Spec, SpecError, parse};

fn there_and_back(spec: &Spec) -> Spec {
    let theirs = oci::Spec::try_from(spec).unwrap();
    Spec::try_from(&theirs).unwrap()
}

/// Their sets have no order.
fn sorted(mut spec: Spec) -> Spec {
    if let Some(capabilities) = spec.process.as_mut().and_then(|p| p.capabilities.as_mut()) {
        for set in [
            &mut capabilities.bounding,
            &mut capabilities.effective,
            &mut capabilities.permitted,
        ] {
            set.sort();
        }
    }
    spec
}

#[test]
fn every_field_survives_the_way_there_and_back() {
    for text in [FULL, DOCKER] {
        let spec = parse(text.as_bytes()).unwrap();
        assert_eq!(there_and_back(&spec), sorted(spec));
    }
}

#[test]
fn a_spec_of_the_builders_is_understood() {
    let theirs = oci::Spec::default();
    let spec = Spec::try_from(&theirs).unwrap();
    assert_eq!(spec.process.unwrap().args, ["sh"]);
    assert_eq!(spec.mounts.len(), 7);
}

#[test]
fn an_absent_pids_limit_stays_absent() {
    let spec = with(json!({ "/linux/resources/pids": {} }));
    assert_eq!(there_and_back(&spec), spec);
    let spec = with(json!({ "/linux/resources/pids": { "limit": -1 } }));
    assert_eq!(there_and_back(&spec), spec);
}

#[test]
fn a_capability_they_do_not_know_is_left_out() {
    let spec = with(json!({ "/process/capabilities/bounding": ["CAP_FOO", "CAP_KILL"] }));
    let back = there_and_back(&spec);
    assert_eq!(
        back.process.unwrap().capabilities.unwrap().bounding,
        ["CAP_KILL"]
    );
}

#[test]
fn what_they_have_no_value_for_is_told_with_its_path() {
    let spec = with(json!({ "/process/rlimits": [{ "type": "RLIMIT_FOO" }] }));
    let error = oci::Spec::try_from(&spec).unwrap_err();
    assert!(matches!(error, SpecError::Convert { .. }));
    assert!(
        error
            .to_string()
            .starts_with("process.rlimits[0].type: unknown variant `RLIMIT_FOO`")
    );
}
