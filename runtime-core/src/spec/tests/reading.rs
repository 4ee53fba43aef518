//! What can be read, and what is said of what can't.

use serde_json::{Value, json};

use super::{DOCKER, FULL, minimal, with};
use crate::spec::json::Object;
use crate::spec::{NamespaceKind, SeccompAction, SeccompOperator, Spec, SpecError, parse};

#[test]
fn every_field_is_read_and_written_back() {
    let spec = parse(FULL.as_bytes()).unwrap();
    let written = serde_json::to_value(&spec).unwrap();
    let original: Value = serde_json::from_str(FULL).unwrap();
    assert_eq!(written, original);
    assert_eq!(parse(written.to_string().as_bytes()).unwrap(), spec);
}

#[test]
fn every_field_of_the_full_config_ends_up_in_the_structs() {
    let spec = parse(FULL.as_bytes()).unwrap();
    let shown = format!("{spec:?}");
    for nothing in ["None", "[]", "{}", "\"\""] {
        let times = shown.matches(nothing).count();
        // Only the namespaces that are made have no path, and five hooks have nothing but a path.
        let expected = match nothing {
            "None" => 7 + 5,
            "[]" => 10,
            _ => 0,
        };
        assert_eq!(times, expected, "{nothing} in {shown}");
    }
}

#[test]
fn a_config_as_docker_writes_it_is_read_and_right() {
    let spec = parse(DOCKER.as_bytes()).unwrap();
    assert_eq!(crate::spec::problems(&spec), []);
    assert_eq!(crate::spec::warnings(&spec), Vec::<String>::new());
    let linux = spec.linux.as_ref().unwrap();
    assert_eq!(linux.masked_paths.len(), 12);
    let seccomp = linux.seccomp.as_ref().unwrap();
    let seccomp = seccomp.seccomp().unwrap();
    assert_eq!(seccomp.default_action, SeccompAction::Errno);
    assert_eq!(seccomp.syscalls[3].args[0].op, SeccompOperator::MaskedEqual);
    assert_eq!(
        spec.process.unwrap().capabilities.unwrap().ambient,
        Vec::<String>::new()
    );
}

#[test]
fn null_is_the_same_as_absent_wherever_a_field_may_be() {
    // Every member of the full config in turn, but the words that say what the rest is.
    let full: Value = serde_json::from_str(FULL).unwrap();
    let mut members = Vec::new();
    members_of(&full, String::new(), &mut members);
    assert!(members.len() > 150, "{}", members.len());
    for pointer in members {
        let mut without = full.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = without
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .unwrap();
        parent.remove(key);
        let mut null = full.clone();
        *null.pointer_mut(&pointer).unwrap() = Value::Null;
        let (without, null) = (read(&without), read(&null));
        match without {
            Ok(spec) => assert_eq!(null.unwrap(), spec, "{pointer}"),
            // What can't be absent: a type of namespace, an action, an operator.
            Err(error) => {
                assert!(error.to_string().contains("missing field"), "{error}");
                assert!(null.is_err(), "{pointer}");
            }
        }
    }
}

fn read(config: &Value) -> Result<Spec, SpecError> {
    parse(config.to_string().as_bytes())
}

/// JSON pointers of all members of objects of the schema; those of maps are no fields.
fn members_of(value: &Value, pointer: String, found: &mut Vec<String>) {
    const MAPS: [&str; 6] = [
        "annotations",
        "sysctl",
        "rdma",
        "unified",
        "netDevices",
        "timeOffsets",
    ];
    match value {
        Value::Object(map) => {
            let is_map = MAPS.iter().any(|name| pointer.ends_with(name));
            for (key, value) in map {
                let pointer = format!("{pointer}/{}", key.replace('/', "~1"));
                members_of(value, pointer.clone(), found);
                if !is_map {
                    found.push(pointer);
                }
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                members_of(value, format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn unknown_fields_are_ignored_at_any_depth() {
    let spec = with(json!({
        "/future": { "deep": [1, { "er": null }] },
        "/process/user/username": "windows",
        "/linux/resources/future": 1,
        "/windows/layerFolders": ["C:\\a"],
    }));
    let mut expected = parse(minimal().to_string().as_bytes()).unwrap();
    expected.linux.as_mut().unwrap().resources = Some(Box::default());
    assert_eq!(spec, expected);
}

#[test]
fn an_empty_text_is_the_same_as_an_absent_one() {
    let spec = with(json!({
        "/hostname": "",
        "/linux/rootfsPropagation": "",
        "/linux/namespaces": [{ "type": "mount", "path": "" }],
    }));
    assert_eq!(spec, parse(minimal().to_string().as_bytes()).unwrap());
    assert_eq!(spec.namespace(NamespaceKind::Mount).unwrap().path, None);
}

#[test]
fn the_largest_numbers_are_kept() {
    let spec = with(json!({
        "/process/rlimits": [{ "type": "RLIMIT_CORE", "soft": u64::MAX, "hard": u64::MAX }],
        "/linux/resources/memory/limit": i64::MIN,
        "/process/user/uid": u32::MAX,
    }));
    let process = spec.process.unwrap();
    assert_eq!(process.rlimits[0].hard, u64::MAX);
    assert_eq!(process.user.uid, u32::MAX);
    let memory = spec.linux.unwrap().resources.unwrap().memory.unwrap();
    assert_eq!(memory.limit, Some(i64::MIN));
}

#[test]
fn what_is_not_json_is_told_with_line_and_column() {
    let cases = [
        ("", "not JSON: EOF while parsing a value at line 1 column 0"),
        ("\u{feff}{}", "not JSON: expected value at line 1 column 1"),
        ("{\n  \"hostname\": \"a\n", "not JSON"),
        ("{} x", "not JSON: trailing characters at line 1 column 4"),
        (
            "[]",
            "invalid type: sequence, expected an object at line 1 column 0",
        ),
        (
            "null",
            "invalid type: null, expected an object at line 1 column 4",
        ),
        (
            "{\n\t\"process\": {\n\t\t\"args\": [\"a\",]\n\t}\n}",
            "process.args: not JSON: trailing comma at line 3 column 16",
        ),
        (
            "{'a': 1}",
            "not JSON: key must be a string at line 1 column 2",
        ),
    ];
    for (text, expected) in cases {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(parse(b"{\"hostname\": \"\xff\"}").is_err());
}

/// Place, value, and how the message goes on after the place.
const WRONG_TYPES: &str = r#"
    /process/user/uid | "a" | invalid type: string "a", expected u32
    /process/user/uid | 4294967296 | invalid value: integer `4294967296`, expected u32
    /process/user/uid | -1 | invalid value: integer `-1`, expected u32
    /process/user/uid | 1.0 | invalid type: floating point `1.0`, expected u32
    /process/user/gid | true | invalid type: boolean `true`, expected u32
    /process/user | [0, 0] | invalid type: sequence, expected an object
    /process/terminal | 1 | invalid type: integer `1`, expected a boolean
    /process/args | "sh" | invalid type: string "sh", expected a sequence
    /process/oomScoreAdj | "0" | invalid type: string "0", expected i64
    /mounts | {} | invalid type: map, expected a sequence
    /annotations | ["a"] | invalid type: sequence, expected a map
    /linux/resources/blockIO/weight | 65536 | invalid value: integer `65536`, expected u16
    /linux/seccomp | {} | missing field `defaultAction`
    /linux/seccomp/defaultAction | "SCMP_ACT_DENY" | unknown variant `SCMP_ACT_DENY`, expected
"#;

#[test]
fn a_wrong_type_is_told_with_its_path() {
    for line in WRONG_TYPES.trim().lines() {
        let [pointer, value, expected] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let pointer = pointer.trim();
        let mut config = minimal();
        super::set(&mut config, pointer, value.parse().unwrap());
        let error = read(&config).unwrap_err();
        let path = pointer.trim_start_matches('/').replace('/', ".");
        assert_eq!(error.path(), path, "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{path}: {expected}")), "{text}");
        assert!(text.contains(" at line 1 column "), "{text}");
    }
}

#[test]
fn paths_name_the_element_of_a_list_and_the_key_of_a_map() {
    let cases = [
        (
            json!({ "mounts": [{}, { "options": ["ro", 5] }] }),
            "mounts[1].options[1]",
        ),
        (json!({ "mounts": [{}, []] }), "mounts[1]"),
        (
            json!({ "annotations": { "org.example/a": 1 } }),
            "annotations[\"org.example/a\"]",
        ),
        (
            json!({ "annotations": { "a\nb": 1 } }),
            "annotations[\"a\\nb\"]",
        ),
        (
            json!({ "linux": { "resources": { "rdma": { "mlx5": { "hcaHandles": "" } } } } }),
            "linux.resources.rdma.mlx5.hcaHandles",
        ),
        (
            json!({ "linux": { "timeOffsets": { "boottime": 1 } } }),
            "linux.timeOffsets.boottime",
        ),
        (
            json!({ "linux": { "namespaces": [{ "type": "net" }] } }),
            "linux.namespaces[0].type",
        ),
    ];
    for (config, path) in cases {
        assert_eq!(read(&config).unwrap_err().path(), path);
    }
}

#[test]
fn the_place_of_a_wrong_value_is_the_one_that_a_parser_with_a_path_tells() {
    // Values in turn become others, and bytes: by the second the file may be no JSON at all, where
    // the two may disagree on whether a member or the object around it is wrong.
    let full: Value = serde_json::from_str(FULL).unwrap();
    let mut wrong_values = 0;
    let mut members = Vec::new();
    members_of(&full, String::new(), &mut members);
    for pointer in members.into_iter().step_by(4) {
        for value in [
            json!(true),
            json!([[]]),
            json!({"a\"\n[": 1.5}),
            json!(-7),
            json!("\\\""),
        ] {
            let mut config = full.clone();
            *config.pointer_mut(&pointer).unwrap() = value;
            for text in [config.to_string(), format!("{config:#}")] {
                wrong_values += usize::from(compare_places(text.as_bytes()));
            }
        }
    }
    assert!(wrong_values > 300, "{wrong_values}");
    for at in (0..FULL.len()).step_by(61) {
        for byte in *b"\"[{}],:9t\\\n\xff" {
            let mut file = FULL.as_bytes().to_vec();
            file[at] = byte;
            compare_places(&file);
            file.truncate(at);
            compare_places(&file);
        }
    }
}

/// Whether a value is wrong.
fn compare_places(json: &[u8]) -> bool {
    let mut parser = serde_json::Deserializer::from_slice(json);
    let Err(told) = serde_path_to_error::deserialize::<_, Object<Spec>>(&mut parser) else {
        return false;
    };
    let expected = crate::spec::convert::dotted(told.path());
    let error = parse(json).unwrap_err();
    let near = |a: &str, b: &str| b.starts_with(a);
    let same = error.path() == expected;
    let is_value = told.inner().is_data();
    let good =
        same || !is_value && (near(error.path(), &expected) || near(&expected, error.path()));
    assert!(
        good,
        "{error}, not {expected:?}: {}",
        String::from_utf8_lossy(json)
    );
    is_value
}

#[test]
fn an_unknown_namespace_is_told_with_the_ones_there_are() {
    let error = read(&json!({ "linux": { "namespaces": [{ "type": "net" }] } })).unwrap_err();
    assert_eq!(
        error.to_string(),
        "linux.namespaces[0].type: unknown variant `net`, expected one of `pid`, `network`, \
         `mount`, `ipc`, `uts`, `user`, `cgroup`, `time` at line 1 column 37"
    );
}

#[test]
fn a_message_is_one_line_and_short_whatever_the_file_holds() {
    let long = "x\n".repeat(100_000);
    let config = json!({ "linux": { "namespaces": [{ "type": long }] } });
    let text = read(&config).unwrap_err().to_string();
    assert!(!text.contains('\n') && text.len() < 700, "{text}");
    assert!(text.contains("at line 1 column "), "{text}");
    let config = json!({ "annotations": { long: 1 } });
    let text = read(&config).unwrap_err().to_string();
    assert!(!text.contains('\n') && text.len() < 1500, "{text}");
}

#[test]
fn a_damaged_file_is_an_error_of_one_line_or_a_spec() {
    // Every ninth byte of the file in turn becomes one that means something to JSON, or is lost.
    for at in (0..FULL.len()).step_by(9) {
        for byte in [
            Some(b'"'),
            Some(b'['),
            Some(b'9'),
            Some(b'\\'),
            Some(0xff),
            None,
        ] {
            let mut file = FULL.as_bytes().to_vec();
            match byte {
                Some(byte) => file[at] = byte,
                None => drop(file.remove(at)),
            }
            let texts: Vec<String> = match parse(&file) {
                Err(error) => vec![error.to_string()],
                Ok(spec) => {
                    let found = crate::spec::problems(&spec).into_iter();
                    found.map(|error| error.to_string()).collect()
                }
            };
            for text in texts {
                assert!(!text.contains('\n'), "byte {at} as {byte:?}: {text}");
            }
        }
    }
}

#[test]
fn what_is_nested_without_end_or_named_without_end_is_told_in_a_line() {
    let nested = format!(r#"{{"ociVersion":"1.2.0","x":{}"#, "[".repeat(1 << 20));
    let named = format!(r#"{{"ociVersion":"1.2.0","{}":[}}"#, "n".repeat(1 << 20));
    for text in [nested, named] {
        let error = crate::spec::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.len() < 1000, "{} bytes", error.len());
    }
}
