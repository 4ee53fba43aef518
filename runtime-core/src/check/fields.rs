//! Fields of config.json that mean nothing here: misspelt, or of another platform.
//!
//! What was read is written again; a member that is not in it was not read.

use serde_json::Value;

use super::Findings;
use crate::spec::Spec;

/// Every name that a member of config.json on Linux has, sorted; of other platforms
/// only the top.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "access", "action", "additionalGids", "allow", "ambient", "annotations", "apparmorProfile",
    "architectures", "args", "blockIO", "bounding", "burst", "capabilities", "cgroupsPath",
    "checkBeforeUpdate", "class", "classID", "closID", "consoleSize", "containerID", "cpu",
    "cpus", "createContainer", "createRuntime", "cwd", "deadline", "defaultAction",
    "defaultErrnoRet", "destination", "devices", "disableOOMKiller", "domain", "domainname",
    "effective", "enableMonitoring", "env", "errnoRet", "execCPUAffinity", "fileMode", "final",
    "flags", "gid", "gidMappings", "hard", "hcaHandles", "hcaObjects", "height", "hooks",
    "hostID", "hostname", "hugepageLimits", "idle", "index", "inheritable", "initial", "intelRdt",
    "ioPriority", "kernel", "kernelTCP", "l3CacheSchema", "leafWeight", "limit", "linux",
    "listenerMetadata", "listenerPath", "major", "maskedPaths", "memBwSchema", "memory",
    "memoryPolicy", "mems", "minor", "mode", "mountLabel", "mounts", "name", "names",
    "namespaces", "nanosecs", "netDevices", "network", "nice", "noNewPrivileges", "nodes",
    "ociVersion", "oomScoreAdj", "op", "options", "pageSize", "path", "period", "permitted",
    "personality", "pids", "policy", "poststart", "poststop", "prestart", "priorities",
    "priority", "process", "quota", "rate", "rdma", "readonly", "readonlyPaths", "realtimePeriod",
    "realtimeRuntime", "reservation", "resources", "rlimits", "root", "rootfsPropagation",
    "runtime", "scheduler", "schemata", "seccomp", "secs", "selinuxLabel", "shares", "size",
    "soft", "source", "startContainer", "swap", "swappiness", "syscalls", "sysctl", "terminal",
    "throttleReadBpsDevice", "throttleReadIOPSDevice", "throttleWriteBpsDevice",
    "throttleWriteIOPSDevice", "timeOffsets", "timeout", "type", "uid", "uidMappings", "umask",
    "unified", "useHierarchy", "user", "value", "valueTwo", "weight", "weightDevice", "width",
];

/// Of the specification, and not for Linux.
const OTHER_PLATFORMS: [&str; 5] = ["solaris", "windows", "vm", "zos", "freebsd"];

/// How far a known name may be from the one that was written, in letters.
const NEAR: usize = 3;

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(super) fn check(found: &mut Findings, bytes: &[u8], spec: &Spec) {
    // Both were read and written before: there is nothing that can't be.
    let (Ok(given), Ok(read)) = (serde_json::from_slice(bytes), serde_json::to_value(spec)) else {
        return;
    };
    compare(found, "", &given, Some(&read));
}

fn compare(found: &mut Findings, path: &str, given: &Value, read: Option<&Value>) {
    match (given, read) {
        (Value::Object(given), Some(Value::Object(read))) => {
            for (name, value) in given {
                let path = crate::spec::member(path, name);
                match read.get(name) {
                    read @ Some(_) => compare(found, &path, value, read),
                    None if asks_for_nothing(value) => {}
                    None => unknown(found, &path, name),
                }
            }
        }
        (Value::Array(given), Some(Value::Array(read))) => {
            for (index, (given, read)) in given.iter().zip(read).enumerate() {
                compare(found, &format!("{path}[{index}]"), given, Some(read));
            }
        }
        _ => {}
    }
}

/// Whether a value is the same as none at all: such members are not written again.
fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.values().all(asks_for_nothing),
    }
}

fn unknown(found: &mut Findings, path: &str, name: &str) {
    if OTHER_PLATFORMS.contains(&path) {
        found.warning(path, "is for another platform, and ignored");
        return;
    }
    match nearest(name) {
        Some(near) if near == name => {
            found.warning(path, "is not known at this place, and ignored");
        }
        Some(near) => {
            found.warning(path, format!("is not known, and ignored: is {near} meant?"));
        }
        None => found.warning(path, "is not known, and ignored"),
    }
}

/// The known name that differs least, if it is near.
fn nearest(name: &str) -> Option<&'static str> {
    let limit = NEAR.min(name.chars().count() / 3);
    let distances = NAMES.iter().map(|known| (distance(name, known), *known));
    let (distance, known) = distances.min()?;
    (distance <= limit).then_some(known)
}

/// Letters to add, take away or change, whatever their case; see Levenshtein, 1965.
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (one, other) = (letters(one), letters(other));
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.iter().enumerate() {
        let mut next = vec![index + 1];
        for ((left, above), known) in row.iter().zip(row.iter().skip(1)).zip(&other) {
            let change = left + usize::from(letter != known);
            let before = next.last().copied().unwrap_or_default();
            next.push(change.min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::check::Finding;

    fn findings(config: &Value) -> Vec<String> {
        let bytes = serde_json::to_vec(config).unwrap();
        let spec = crate::spec::parse(&bytes).unwrap();
        let mut found = Findings::default();
        check(&mut found, &bytes, &spec);
        found.0.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn every_field_of_the_specification_is_known() {
        let full: Value = serde_json::from_str(include_str!("../spec/tests/full.json")).unwrap();
        let last = |field: &String| {
            let name = field.rsplit('.').next().unwrap_or_default();
            name.trim_end_matches(['[', ']', '{', '}']).to_owned()
        };
        let all: BTreeSet<String> = corten_conformance::config::fields(&full)
            .iter()
            .map(last)
            .collect();
        let missing: Vec<_> = all.iter().filter(|name| !is_known(name)).collect();
        assert_eq!(missing, Vec::<&String>::new());
        let spare: Vec<_> = NAMES.iter().filter(|name| !all.contains(**name)).collect();
        assert_eq!(spare, Vec::<&&str>::new());
        assert_eq!(findings(&full), Vec::<String>::new());
    }

    #[test]
    fn misspelt_fields_are_named_with_the_nearest_known_one() {
        let config = serde_json::json!({
            "ociVersion": "1.3.0",
            "procces": { "args": ["a"] },
            "root": { "path": "rootfs", "readOnly": true },
            "linux": {
                "maskedPath": ["/proc/kcore"],
                "readonlypaths": [],
                "resources": { "memory": { "limits": 5, "limit": 0 } },
                "namespaces": [{ "type": "pid", "Path": "/x" }],
                "somethingElse": 1,
                "sysctl": { "net.ipv4.ip_forward": "1" },
            },
            "windows": { "layerFolders": ["x"] },
            "args": ["b"],
        });
        assert_eq!(
            findings(&config),
            [
                "warning: args: is not known at this place, and ignored",
                "warning: linux.maskedPath: is not known, and ignored: is maskedPaths meant?",
                "warning: linux.namespaces[0].Path: is not known, and ignored: is path meant?",
                "warning: linux.resources.memory.limits: is not known, and ignored: is limit meant?",
                "warning: linux.somethingElse: is not known, and ignored",
                "warning: procces: is not known, and ignored: is process meant?",
                "warning: root.readOnly: is not known, and ignored: is readonly meant?",
                "warning: windows: is for another platform, and ignored",
            ]
        );
    }
}
