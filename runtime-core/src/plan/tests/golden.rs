//! Every plan, and every refusal, against its golden file.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::cases::{self, Case};
use crate::spec::{self, SpecError};

/// Plans whose JSON is kept as well: it has the ops and their arguments.
const WITH_JSON: [&str; 6] = [
    "bind",
    "environment",
    "home-empty",
    "minimal",
    "spec-default",
    "user-namespace",
];

/// Compares a text with a file, or writes the file if asked to. What is wrong, if so.
pub(super) fn compare(file: &Path, text: &str) -> Option<String> {
    if std::env::var_os("CORTEN_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(file, text).unwrap();
        return None;
    }
    let golden = std::fs::read_to_string(file).unwrap_or_default();
    if golden == text {
        return None;
    }
    let mut report = format!("{} differs:\n", file.display());
    let (old, new): (Vec<&str>, Vec<&str>) = (golden.lines().collect(), text.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    for (sign, lines) in [('-', old), ('+', new)] {
        for line in lines.iter().skip(same).take(8) {
            writeln!(report, "{sign}{line}").unwrap();
        }
    }
    Some(report)
}

pub(super) fn assert_none(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "{}\nIf that is right: CORTEN_BLESS=1 cargo test -p corten-core, and read the difference.",
        differences.join("\n")
    );
}

#[test]
fn every_plan_prints_as_its_golden_file_says() {
    let mut differences = Vec::new();
    for case in cases::all() {
        assert_eq!(spec::problems(&case.spec), [], "{}", case.name);
        let file = |suffix: &str| cases::folder().join(format!("{}.{suffix}", case.name));
        let plan = case
            .plan()
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        differences.extend(compare(&file("txt"), &plan.to_string()));
        if WITH_JSON.contains(&case.name.as_str()) {
            differences.extend(compare(&file("plan.json"), &(plan.to_json() + "\n")));
        }
    }
    assert_none(&differences);
}

#[test]
fn the_default_and_the_rootless_configuration_are_what_spec_writes() {
    for (name, written) in [
        ("spec-default", spec::default_spec()),
        ("spec-rootless", spec::rootless_spec(1000, 1000)),
    ] {
        let file = cases::folder().join(format!("{name}.json"));
        assert_none(&Vec::from_iter(compare(
            &file,
            &(spec::to_json(&written) + "\n"),
        )));
    }
}

/// What the configurations in errors.json are refused with: by the checks of the file, and
/// by planning alone, which must not rely on them.
#[test]
fn every_refusal_reads_as_its_golden_line_says() {
    let read = |name: &str| std::fs::read_to_string(cases::folder().join(name)).unwrap();
    let base: Value = serde_json::from_str(&read("minimal.json")).unwrap();
    let patches: Value = serde_json::from_str(&read("errors/errors.json")).unwrap();
    let mut text = String::new();
    for (name, patch) in patches.as_object().unwrap() {
        let mut config = base.clone();
        merge(&mut config, patch);
        let bytes = serde_json::to_vec(&config).unwrap();
        let spec = spec::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        writeln!(text, "{name}").unwrap();
        let found: Option<SpecError> = spec::problems(&spec).into_iter().next();
        if let Some(error) = found {
            writeln!(text, "  config: {error}").unwrap();
        }
        let mut case = Case::new(name, spec);
        case.options.no_cgroup = name.contains("cgroups disabled");
        case.options.no_pivot = name.contains("no pivot");
        match case.plan() {
            Ok(_) => writeln!(text, "  plan: no error").unwrap(),
            Err(error) => writeln!(text, "  plan: {error}").unwrap(),
        }
    }
    let file = cases::folder().join("errors/errors.txt");
    assert_none(&Vec::from_iter(compare(&file, &text)));
}

/// JSON merge patch, RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}
