//! The fields of a config.json.

use std::collections::BTreeSet;

use serde_json::Value;

/// Members whose own members are names that the user chooses.
const MAPS: [&str; 6] = [
    "annotations",
    "sysctl",
    "unified",
    "rdma",
    "netDevices",
    "timeOffsets",
];

/// Every field of a configuration, as `linux.devices[].path`: `[]` is one of a list, `{}` one of a map.
#[must_use]
pub fn fields(config: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    collect(config, "", &mut all);
    all
}

fn collect(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    let Value::Object(members) = value else {
        return;
    };
    for (name, value) in members {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        match value {
            Value::Object(members) if MAPS.contains(&name.as_str()) => {
                let path = path + "{}";
                members
                    .values()
                    .for_each(|value| collect(value, &path, all));
                all.insert(path);
            }
            Value::Array(values) => {
                let path = path + "[]";
                values.iter().for_each(|value| collect(value, &path, all));
                all.insert(path);
            }
            value => {
                collect(value, &path, all);
                all.insert(path);
            }
        }
    }
}
