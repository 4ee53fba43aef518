//! What `validate` refuses and what it warns of.

use serde_json::{Value, json};

use super::with;
use crate::spec::{
    SpecError, default_spec, parse_process, problems, rootless_spec, to_json, validate,
    validate_process, validate_read, warnings,
};

/// The config with these changes has exactly this problem.
#[track_caller]
pub(super) fn refused(changes: Value, expected: &str) {
    let spec = with(changes);
    let found: Vec<String> = problems(&spec).iter().map(ToString::to_string).collect();
    assert_eq!(found, [expected]);
    let read = validate_read(&spec, to_json(&spec).as_bytes());
    assert_eq!(read.unwrap_err().to_string(), expected);
}

#[track_caller]
pub(super) fn accepted(changes: Value) {
    let spec = with(changes);
    assert_eq!(problems(&spec), []);
    assert_eq!(validate_read(&spec, to_json(&spec).as_bytes()), Ok(()));
}

#[test]
fn the_smallest_config_and_the_defaults_are_right() {
    accepted(json!({}));
    for spec in [default_spec(), rootless_spec(1000, 1000)] {
        assert_eq!(problems(&spec), []);
        assert_eq!(warnings(&spec), Vec::<String>::new());
        assert_eq!(validate(&spec), Ok(()));
    }
}

#[test]
fn an_empty_config_is_told_what_it_lacks() {
    let spec = crate::spec::parse(b"{}").unwrap();
    let found: Vec<String> = problems(&spec).iter().map(ToString::to_string).collect();
    let expected =
        ["ociVersion", "process", "root"].map(|path| format!("{path}: must not be empty"));
    assert_eq!(found, expected);
    assert_eq!(validate(&spec).unwrap_err().to_string(), expected[0]);
}

#[test]
fn any_version_1_is_taken_and_no_other() {
    for version in [
        "1.0.0",
        "1.0.2-dev",
        "1.1.0+dev",
        "1.0.0-rc5-dev+a.1",
        "1.3.0",
        "1.99.0",
    ] {
        accepted(json!({ "/ociVersion": version }));
    }
    let bad = [
        "2.0.0",
        "0.9.0",
        "1",
        "1.0",
        "1.0.0.0",
        "v1.0.0",
        "1.0.x",
        "1.01.0",
        "+1.0.0",
        "1.0.0-",
        "1.0.0-a b",
    ];
    for version in bad {
        let expected = format!("ociVersion: {version:?} is unknown, expected 1.x.y");
        refused(json!({ "/ociVersion": version }), &expected);
    }
}

#[test]
fn the_program_its_directory_and_the_root_are_needed() {
    refused(
        json!({ "/process/args": null }),
        "process.args: must not be empty",
    );
    refused(
        json!({ "/process/args": [] }),
        "process.args: must not be empty",
    );
    refused(
        json!({ "/process/args": [""] }),
        "process.args[0]: must not be empty",
    );
    refused(
        json!({ "/process/cwd": null }),
        "process.cwd: must not be empty",
    );
    refused(
        json!({ "/process/cwd": "srv" }),
        "process.cwd: must be an absolute path, not \"srv\"",
    );
    refused(json!({ "/root/path": "" }), "root.path: must not be empty");
    accepted(json!({ "/process/args": ["sh", ""] }));
}

#[test]
fn environment_entries_need_a_name_and_an_equals_sign() {
    refused(
        json!({ "/process/env": ["A=1", "B"] }),
        "process.env[1]: invalid environment variable \"B\": missing '='",
    );
    refused(
        json!({ "/process/env": ["=1"] }),
        "process.env[0]: invalid environment variable \"=1\": name cannot be empty",
    );
    accepted(json!({ "/process/env": ["A=", "A=b=c\nd", "A=2"] }));
}

#[test]
fn names_need_a_uts_namespace_and_fit_into_it() {
    refused(
        json!({ "/hostname": "db1" }),
        "hostname: needs a uts namespace (linux.namespaces)",
    );
    refused(
        json!({ "/domainname": "example.org" }),
        "domainname: needs a uts namespace (linux.namespaces)",
    );
    let namespaces = json!([{ "type": "mount" }, { "type": "uts" }]);
    accepted(json!({ "/hostname": "x".repeat(64), "/linux/namespaces": namespaces }));
    refused(
        json!({ "/hostname": "x".repeat(65), "/linux/namespaces": namespaces }),
        "hostname: 65 bytes, the kernel takes 64",
    );
    // A joined one is the container's as well.
    let joined = json!([{ "type": "mount" }, { "type": "uts", "path": "/run/uts" }]);
    accepted(json!({ "/hostname": "db1", "/linux/namespaces": joined }));
}

#[test]
fn rlimits_are_known_single_and_ordered() {
    let limit =
        |kind: &str, soft: u64, hard: u64| json!({ "type": kind, "soft": soft, "hard": hard });
    refused(
        json!({ "/process/rlimits": [limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_NOFILE", 2048, 1024)] }),
        "process.rlimits[1]: RLIMIT_NOFILE: soft limit 2048 is above the hard limit 1024",
    );
    refused(
        json!({ "/process/rlimits": [limit("RLIMIT_FOO", 1, 1)] }),
        "process.rlimits[0].type: \"RLIMIT_FOO\" is unknown, expected a name of getrlimit(2) as RLIMIT_NOFILE",
    );
    refused(
        json!({ "/process/rlimits": [limit("RLIMIT_AS", 1, 1), limit("RLIMIT_AS", 2, 2)] }),
        "process.rlimits[1]: duplicated rlimit type \"RLIMIT_AS\" (first in process.rlimits[0])",
    );
    accepted(json!({ "/process/rlimits": [limit("RLIMIT_CORE", u64::MAX, u64::MAX)] }));
}

#[test]
fn rlimit_names_have_the_kernels_numbers() {
    let number = |kind: &str| {
        crate::spec::Rlimit {
            kind: kind.to_owned(),
            soft: 0,
            hard: 0,
        }
        .resource()
    };
    assert_eq!(number("RLIMIT_CPU"), Some(libc::RLIMIT_CPU));
    assert_eq!(number("RLIMIT_NOFILE"), Some(libc::RLIMIT_NOFILE));
    assert_eq!(number("RLIMIT_MEMLOCK"), Some(libc::RLIMIT_MEMLOCK));
    assert_eq!(number("RLIMIT_AS"), Some(libc::RLIMIT_AS));
    assert_eq!(number("RLIMIT_RTTIME"), Some(libc::RLIMIT_RTTIME));
    assert_eq!(number("NOFILE"), None);
}

#[test]
fn numbers_of_the_process_are_what_the_kernel_takes() {
    refused(
        json!({ "/process/oomScoreAdj": 1001 }),
        "process.oomScoreAdj: 1001 is out of range, expected -1000 to 1000",
    );
    refused(
        json!({ "/process/user/umask": 512 }),
        "process.user.umask: 512 is out of range, expected 0 to 511 (octal 777)",
    );
    refused(
        json!({ "/process/consoleSize": { "height": 65536, "width": 80 } }),
        "process.consoleSize.height: 65536 is out of range, expected 0 to 65535",
    );
    accepted(json!({ "/process/oomScoreAdj": -1000, "/process/user/umask": 511 }));
}

#[test]
fn more_groups_than_the_kernel_takes_are_refused() {
    accepted(json!({ "/process/user/additionalGids": vec![7; 65536] }));
    refused(
        json!({ "/process/user/additionalGids": vec![7; 65537] }),
        "process.user.additionalGids: 65537 groups, the kernel takes 65536",
    );
}

#[test]
fn the_id_that_means_no_change_to_the_kernel_is_refused() {
    let last = u32::MAX;
    for (changes, path) in [
        (json!({ "/process/user/uid": last }), "process.user.uid"),
        (json!({ "/process/user/gid": last }), "process.user.gid"),
        (
            json!({ "/process/user/additionalGids": [1, last] }),
            "process.user.additionalGids[1]",
        ),
    ] {
        refused(
            changes,
            &format!("{path}: 4294967295 is out of range, expected 0 to 4294967294"),
        );
    }
}

#[test]
fn a_namespace_may_be_named_once() {
    refused(
        json!({ "/linux/namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "pid" }] }),
        "linux.namespaces[2]: duplicated ns \"pid\" (first in linux.namespaces[1])",
    );
    refused(
        json!({ "/linux/namespaces": [{ "type": "mount" }, { "type": "pid", "path": "x" }] }),
        "linux.namespaces[1].path: must be an absolute path, not \"x\"",
    );
}

/// Changes for a user namespace with these maps.
fn user_ns(uids: Value, gids: Value) -> Value {
    json!({
        "/linux/namespaces": [{ "type": "mount" }, { "type": "user" }],
        "/linux/uidMappings": uids,
        "/linux/gidMappings": gids,
    })
}

fn map(entries: &[[u32; 3]]) -> Value {
    entries
        .iter()
        .map(|[c, h, n]| json!({ "containerID": c, "hostID": h, "size": n }))
        .collect()
}

#[test]
fn maps_that_overlap_overflow_or_are_empty_are_refused() {
    let good = map(&[[0, 100_000, 65536]]);
    let cases: &[(&[[u32; 3]], &str)] = &[
        (
            &[[0, 1000, 10], [5, 2000, 10]],
            "[1]: container ids 5-14 overlap with linux.uidMappings[0]",
        ),
        (
            &[[0, 1000, 10], [9, 2000, 1]],
            "[1]: container ids 9-9 overlap with linux.uidMappings[0]",
        ),
        (
            &[[10, 1000, 10], [0, 995, 6]],
            "[1]: host ids 995-1000 overlap with linux.uidMappings[0]",
        ),
        (
            &[[0, 1000, 1], [1, 1000, 1]],
            "[1]: host ids 1000-1000 overlap with linux.uidMappings[0]",
        ),
        (&[[0, 1, 5], [100, 2, 0]], "[1].size: must not be 0"),
        (
            &[[0, u32::MAX, 1]],
            "[0]: host ids run past 4294967294, the last there is",
        ),
        (
            &[[1, 0, u32::MAX]],
            "[0]: container ids run past 4294967294, the last there is",
        ),
        (&[], ": must not be empty with a new user namespace"),
    ];
    for (entries, expected) in cases {
        let mut changes = user_ns(map(entries), good.clone());
        changes["/process/user/uid"] = json!(entries.first().map_or(0, |[c, ..]| *c));
        refused(changes, &format!("linux.uidMappings{expected}"));
    }
    accepted(user_ns(
        map(&[[0, 1000, 10], [10, 2000, 10], [20, 0, 1000]]),
        good.clone(),
    ));
    accepted(user_ns(map(&[[0, 0, u32::MAX]]), good));
}

#[test]
fn more_map_entries_than_the_kernel_takes_are_refused() {
    let entries = |n: u32| map(&(0..n).map(|i| [i, i, 1]).collect::<Vec<_>>());
    accepted(user_ns(entries(340), entries(1)));
    let expected = "linux.uidMappings: 341 entries, the kernel takes 340";
    refused(user_ns(entries(341), entries(1)), expected);
}

#[test]
fn maps_and_user_namespace_go_together() {
    refused(
        json!({ "/linux/gidMappings": map(&[[0, 0, 1]]) }),
        "linux.gidMappings: needs a user namespace (linux.namespaces)",
    );
    refused(
        user_ns(map(&[[0, 0, 1]]), json!([])),
        "linux.gidMappings: must not be empty with a new user namespace",
    );
    let joined = json!([{ "type": "mount" }, { "type": "user", "path": "/proc/7/ns/user" }]);
    accepted(json!({ "/linux/namespaces": joined }));
}

#[test]
fn ids_of_the_process_must_be_mapped() {
    let mut changes = user_ns(map(&[[0, 1000, 10]]), map(&[[0, 1000, 1], [5, 2000, 2]]));
    for (field, value, expected) in [
        (
            "uid",
            json!(10),
            "uid: 10 is not mapped in the user namespace (linux.uidMappings)",
        ),
        (
            "gid",
            json!(1),
            "gid: 1 is not mapped in the user namespace (linux.gidMappings)",
        ),
        (
            "additionalGids",
            json!([6, 7]),
            "additionalGids[1]: 7 is not mapped in the user namespace (linux.gidMappings)",
        ),
    ] {
        let mut changed = changes.clone();
        changed[format!("/process/user/{field}")] = value;
        refused(changed, &format!("process.user.{expected}"));
    }
    changes["/process/user"] = json!({ "uid": 9, "gid": 6, "additionalGids": [0, 5] });
    accepted(changes);
}

#[test]
fn hidden_paths_are_absolute_and_need_a_mount_namespace() {
    refused(
        json!({ "/linux/maskedPaths": ["/proc/kcore", "proc/keys"] }),
        "linux.maskedPaths[1]: must be an absolute path, not \"proc/keys\"",
    );
    refused(
        json!({ "/linux/readonlyPaths": [""] }),
        "linux.readonlyPaths[0]: must be an absolute path, not \"\"",
    );
    refused(
        json!({ "/linux/namespaces": [], "/linux/readonlyPaths": ["/proc/sys"] }),
        "linux.readonlyPaths: needs a mount namespace (linux.namespaces)",
    );
}

#[test]
fn propagation_is_one_of_eight_words() {
    for kind in ["shared", "slave", "private", "unbindable"] {
        accepted(json!({ "/linux/rootfsPropagation": kind }));
        accepted(json!({ "/linux/rootfsPropagation": format!("r{kind}") }));
    }
    refused(
        json!({ "/linux/rootfsPropagation": "rrslave" }),
        "linux.rootfsPropagation: \"rrslave\" is unknown, expected [r]shared, [r]slave, [r]private or [r]unbindable",
    );
}

#[test]
fn a_mount_needs_a_destination_and_a_relative_one_is_a_warning() {
    refused(
        json!({ "/mounts": [{ "type": "proc" }] }),
        "mounts[0].destination: must not be empty",
    );
    let spec = with(json!({ "/mounts": [{ "destination": "data", "type": "tmpfs" }] }));
    assert_eq!(problems(&spec), []);
    assert_eq!(
        warnings(&spec),
        ["mounts[0].destination: \"data\" is not absolute, taken as below /"]
    );
    assert_eq!(spec.mounts[0].absolute_destination(), "/data");
}

#[test]
fn unknown_capabilities_are_one_warning() {
    let spec = with(json!({ "/process/capabilities": {
        "bounding": ["CAP_KILL", "CAP_FOO", "kill"],
        "effective": ["CAP_FOO", "CAP\nBAR"],
    } }));
    assert_eq!(problems(&spec), []);
    assert_eq!(
        warnings(&spec),
        ["process.capabilities: ignoring unknown \"CAP_FOO\", \"kill\", \"CAP\\nBAR\""]
    );
}

#[test]
fn a_nul_byte_is_found_wherever_it_is() {
    for (changes, path) in [
        (
            json!({ "/process/args": ["sh", "a\0b"] }),
            "process.args[1]",
        ),
        (json!({ "/process/env": ["A=\0"] }), "process.env[0]"),
        (json!({ "/root/path": "a\0" }), "root.path"),
        (
            json!({ "/mounts": [{ "destination": "/a", "options": ["ro", "\0"] }] }),
            "mounts[0].options[1]",
        ),
        (
            json!({ "/mounts": [{ "destination": "/a", "type": "tmpfs\0" }] }),
            "mounts[0].type",
        ),
        (
            json!({ "/annotations": { "a\0": "b" } }),
            "annotations[\"a\\0\"]",
        ),
        (
            json!({ "/linux/resources/unified": { "cpu.max": "\0" } }),
            "linux.resources.unified[\"cpu.max\"]",
        ),
    ] {
        refused(changes, &format!("{path}: contains a nul byte"));
    }
    accepted(json!({ "/process/args": ["sh", "a\\u0000b"] }));
}

#[test]
fn a_nul_byte_in_a_process_of_exec_is_found_in_any_of_its_texts() {
    let sets = |set: &str| json!({ "capabilities": { set: ["CAP_KILL", "\0"] } });
    let process = [
        json!({ "args": ["sh", "a\0b"] }),
        json!({ "env": ["A=1", "A=\0"] }),
        json!({ "cwd": "/\0" }),
        json!({ "apparmorProfile": "\0" }),
        json!({ "selinuxLabel": "\0" }),
        json!({ "rlimits": [{ "type": "RLIMIT_NOFILE\0", "soft": 1, "hard": 1 }] }),
        json!({ "scheduler": { "policy": "SCHED_OTHER\0" } }),
        json!({ "scheduler": { "policy": "SCHED_OTHER", "flags": ["\0"] } }),
        json!({ "ioPriority": { "class": "IOPRIO_CLASS_BE\0" } }),
        json!({ "execCPUAffinity": { "initial": "0\0" } }),
        json!({ "execCPUAffinity": { "final": "0\0" } }),
    ];
    let kinds = [
        "bounding",
        "effective",
        "inheritable",
        "permitted",
        "ambient",
    ];
    for process in process.into_iter().chain(kinds.map(sets)) {
        let mut spec = with(json!({}));
        let parsed = parse_process(process.to_string().as_bytes()).unwrap();
        spec.process = Some(parsed.into());
        let error = validate_process(&spec).unwrap_err();
        assert!(
            matches!(error, SpecError::NulByte { .. }),
            "{process}: {error}"
        );
    }
}

#[test]
fn device_rules_are_checked() {
    let rule = |changes: Value| {
        let mut rule =
            json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" });
        for (key, value) in changes.as_object().unwrap() {
            rule[key] = value.clone();
        }
        json!({ "/linux/resources/devices": [rule] })
    };
    let path = "linux.resources.devices[0]";
    refused(
        rule(json!({ "type": "p" })),
        &format!("{path}.type: \"p\" is unknown, expected a, b or c"),
    );
    refused(
        rule(json!({ "access": null })),
        &format!("{path}.access: must not be empty"),
    );
    refused(
        rule(json!({ "access": "rx" })),
        &format!("{path}.access: \"rx\" has letters other than r, w and m"),
    );
    refused(
        rule(json!({ "major": -2 })),
        &format!("{path}.major: -2 is out of range, expected -1 to 4294967295"),
    );
    accepted(rule(
        json!({ "type": null, "major": -1, "minor": null, "access": "r" }),
    ));
}

#[test]
fn memory_limits_make_sense_together() {
    let memory = |limit: i64, swap: i64| json!({ "/linux/resources/memory": { "limit": limit, "swap": swap } });
    let swap = "linux.resources.memory.swap";
    refused(
        memory(0, 5),
        &format!("{swap}: can't be limited without linux.resources.memory.limit"),
    );
    refused(
        memory(-1, 5),
        &format!("{swap}: can't be limited when linux.resources.memory.limit is not"),
    );
    refused(
        memory(10, 5),
        &format!("{swap}: is memory plus swap, so not below linux.resources.memory.limit"),
    );
    refused(
        memory(10, -2),
        &format!("{swap}: -2 is out of range, expected -1 or more"),
    );
    for (limit, swap) in [(10, 10), (10, -1), (-1, -1), (-1, 0), (0, -1)] {
        accepted(memory(limit, swap));
    }
}

#[test]
fn cpu_limits_are_what_the_kernel_takes() {
    let cpu = |changes: Value| json!({ "/linux/resources/cpu": changes });
    for (changes, expected) in [
        (
            json!({ "period": 999 }),
            "period: 999 is out of range, expected 1000 to 1000000",
        ),
        (
            json!({ "period": 1_000_001 }),
            "period: 1000001 is out of range, expected 1000 to 1000000",
        ),
        (
            json!({ "quota": 1 }),
            "quota: 1 is out of range, expected 1000 or more, or 0 or less for no limit",
        ),
        (
            json!({ "idle": 2 }),
            "idle: 2 is out of range, expected 0 or 1",
        ),
    ] {
        refused(cpu(changes), &format!("linux.resources.cpu.{expected}"));
    }
    accepted(cpu(
        json!({ "period": 0, "quota": -1, "shares": 0, "idle": 0 }),
    ));
}

#[test]
fn unified_keys_are_file_names() {
    for key in ["../cgroup.procs", "a/b", "..", ""] {
        let changes = json!({ "/linux/resources/unified": { key: "1" } });
        let expected =
            format!("linux.resources.unified[{key:?}]: must be a file name (no slashes)");
        refused(changes, &expected);
    }
}

#[test]
fn all_problems_are_found_in_the_order_of_the_fields() {
    let spec = with(json!({
        "/ociVersion": "3.0.0",
        "/process/cwd": "x",
        "/hostname": "a",
        "/linux/maskedPaths": ["x"],
        "/linux/resources/cpu/idle": 5,
    }));
    let paths: Vec<String> = problems(&spec)
        .iter()
        .map(|p| p.path().to_owned())
        .collect();
    let expected = [
        "ociVersion",
        "process.cwd",
        "hostname",
        "linux.maskedPaths[0]",
        "linux.resources.cpu.idle",
    ];
    assert_eq!(paths, expected);
}
