//! Tests of the spec: one table per question, and configs as engines write them.

mod checking;
mod converting;
mod limits;
mod reading;
mod writing;

use serde_json::{Value, json};

use super::{Spec, parse};

/// Every field there is, all with a value that is not the default.
const FULL: &str = include_str!("full.json");

/// As Docker writes it, for a web server with a few limits.
const DOCKER: &str = include_str!("docker.json");

/// The smallest config that is right.
fn minimal() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": { "args": ["/bin/app"], "cwd": "/" },
        "root": { "path": "rootfs" },
        "linux": { "namespaces": [{ "type": "mount" }] },
    })
}

/// The minimal config with members set, by JSON pointer as `/process/cwd`; `null` removes one.
fn with(changes: Value) -> Spec {
    let mut config = minimal();
    for (pointer, value) in changes.as_object().expect("a map of changes") {
        set(&mut config, pointer, value.clone());
    }
    parse(config.to_string().as_bytes()).expect("a config that can be read")
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let mut place = config;
    for key in pointer.split('/').skip(1) {
        if place.is_null() {
            *place = json!({});
        }
        place = &mut place[key];
    }
    *place = value;
}
