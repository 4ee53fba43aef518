//! The configs that `spec` writes.

use crate::spec::{default_spec, parse, rootless_spec, to_json};

// Written by runc 1.3.6; changed by hand: the version, and the cgroup namespace that runc adds on
// a host with cgroup v2.
const RUNC: &str = include_str!("runc-spec.json");
const RUNC_ROOTLESS: &str = include_str!("runc-spec-rootless.json");

#[test]
fn the_default_config_is_runcs_byte_for_byte() {
    assert_eq!(to_json(&default_spec()), RUNC);
}

#[test]
fn the_rootless_config_is_runcs_byte_for_byte() {
    assert_eq!(to_json(&rootless_spec(0, 0)), RUNC_ROOTLESS);
}

#[test]
fn the_rootless_config_maps_the_ids_given() {
    let linux = rootless_spec(1000, 100).linux.unwrap();
    assert_eq!(
        (linux.uid_mappings[0].host_id, linux.gid_mappings[0].host_id),
        (1000, 100)
    );
}

#[test]
fn what_is_written_reads_back_the_same() {
    for spec in [default_spec(), rootless_spec(1000, 1000)] {
        assert_eq!(parse(to_json(&spec).as_bytes()), Ok(spec));
    }
}
