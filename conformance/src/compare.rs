//! What a container sees under several runtimes, side by side: only the differences.
//!
//! The same bundle runs under each, with the probe as its process. What differs from run
//! to run anyway (inodes, ids of mounts, devices and keys, pids, clocks) is made equal
//! first. All of it happens in one native lane.
//!
//! Corten wants to be like runc. Where it is not, docs/differences.md has a row with the
//! reason; a difference without one makes the comparison fail.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::ClockId;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::lab::Lab;
use crate::lane;

mod reasons;
mod suite;

/// The limit for everything.
const LIMIT: Duration = Duration::from_secs(900);

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The runtimes, two or more.
    pub runtimes: Vec<PathBuf>,
    /// Folders with a config.json; its process becomes the probe, its root a fresh one.
    pub bundles: Vec<PathBuf>,
    /// The built-in list of bundles as well.
    pub suite: bool,
}

/// Facts by their place, such as `mounts /proc options`.
pub(crate) type Facts = BTreeMap<String, String>;

/// Runs the comparison in a lane. Returns its exit code: 1 if anything differs without a
/// reason.
///
/// # Errors
///
/// If the lane can't be made.
pub fn run(arguments: &[OsString]) -> Result<i32, String> {
    if lane::inside() {
        return Err("compare: can't be run in a lane".to_owned());
    }
    let failed = |error: std::io::Error| error.to_string();
    let options = lane::Options {
        read_only: true,
        leaks: false,
        limit: Some(LIMIT),
    };
    let mut command = vec![
        std::env::current_exe().map_err(failed)?.into(),
        "compare-here".into(),
    ];
    command.extend(arguments.iter().cloned());
    lane::native(&options, &command).map_err(failed)
}

/// The inside of [`run`]. True if nothing differs without a reason.
///
/// # Errors
///
/// If a bundle can't be read or made.
pub fn in_lane(options: &Options) -> Result<bool, String> {
    lane::require();
    let mut labs = Vec::new();
    for (number, program) in options.runtimes.iter().enumerate() {
        let folder = PathBuf::from(format!("/run/lab-{number}"));
        labs.push(Lab::new(program.clone(), folder)?);
    }
    let first = labs.first().ok_or("no runtime to compare")?;
    let mut found = Differences::default();
    for path in &options.bundles {
        let bundle = given(first, path)?;
        found.add(&path.display().to_string(), &observe(&labs, &bundle));
    }
    if options.suite {
        for (name, edit) in suite::BUNDLES {
            let mut bundle = first.bundle();
            edit(&mut bundle);
            found.add(name, &observe(&labs, &bundle));
        }
    }
    let names: Vec<String> = labs.iter().map(|lab| lab.runtime.name()).collect();
    print!("{}", found.text(&names));
    Ok(found.without_reason(&names) == 0)
}

/// A fresh bundle with the configuration of this one.
fn given(lab: &Lab, path: &Path) -> Result<Bundle, String> {
    let file = path.join("config.json");
    let text = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut bundle = lab.bundle();
    bundle.config =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    bundle.config["process"]["terminal"] = json!(false);
    bundle.config["root"]["path"] = json!("rootfs");
    bundle.probe(&[]);
    Ok(bundle)
}

/// Runs a bundle under each runtime.
fn observe(labs: &[Lab], bundle: &Bundle) -> Vec<Facts> {
    labs.iter()
        .map(|lab| {
            let output = lab.command(&["run"], bundle, "compare");
            let facts = serde_json::from_str(&output.stdout()).unwrap_or(Value::Null);
            let mut flat = Facts::new();
            if facts.is_object() {
                flat = self::flat(facts);
            } else {
                let text = output.stderr();
                let last = text.lines().last().unwrap_or("without a word");
                flat.insert("refused".to_owned(), last.to_owned());
            }
            flat.insert("exit code".to_owned(), output.code().to_string());
            drop(lab.runtime.call(&["delete", "--force", "compare"]));
            flat
        })
        .collect()
}

/// The facts by their place, without what differs from run to run.
pub(crate) fn flat(facts: Value) -> Facts {
    let mut flat = Facts::new();
    collect("", &normal(facts), &mut flat);
    flat
}

/// The facts without what differs from run to run.
fn normal(mut facts: Value) -> Value {
    if let Some(namespaces) = facts["namespaces"].as_object_mut() {
        for (kind, inode) in namespaces {
            let own = std::fs::metadata(format!("/proc/self/ns/{kind}"));
            let same = own.is_ok_and(|own| json!(own.ino()) == *inode);
            *inode = json!(if same { "the caller's" } else { "new" });
        }
    }
    facts["mounts"] = by_name(&facts["mounts"], "point", &["id", "parent", "device"]);
    facts["dev"] = by_name(&facts["dev"], "name", &["inode", "size"]);
    facts["interfaces"] = by_name(&facts["interfaces"], "name", &[]);
    facts["fds"] = by_name(&facts["fds"], "fd", &["target"]);
    if let Some(mounts) = facts["mounts"].as_object_mut() {
        for mount in mounts.values_mut() {
            let text = mount["optional"].to_string();
            mount["optional"] = json!(text.replace(|c: char| c.is_ascii_digit(), ""));
            for list in ["options", "super_options"] {
                sort(&mut mount[list]);
            }
        }
    }
    // Seconds: those of another time namespace, or later than the others'.
    for (clock, id) in [
        ("boottime", ClockId::Boottime),
        ("monotonic", ClockId::Monotonic),
    ] {
        let now = rustix::time::clock_gettime(id).tv_sec;
        let ahead = facts["clocks"][clock].as_i64().map(|then| then - now);
        facts["clocks"][clock] = match ahead {
            Some(-60..=60) => json!("the caller's"),
            // Each runtime has its turn some seconds later.
            ahead => json!(ahead.map(|seconds| (seconds + 30).div_euclid(60))),
        };
    }
    // The other hierarchies of a hybrid machine are nobody's.
    if let Some(groups) = facts["cgroup"].as_array_mut() {
        groups.retain(|group| group["hierarchy"] == 0);
    }
    facts["session_keyring"] = json!(facts["session_keyring"]["id"].is_number());
    for key in ["pid", "ppid", "pgid", "sid"] {
        if facts[key].as_u64().is_some_and(|number| number > 1) {
            facts[key] = json!("of the host");
        }
    }
    facts
}

fn sort(list: &mut Value) {
    if let Some(list) = list.as_array_mut() {
        list.sort_by_key(ToString::to_string);
    }
}

/// A list of objects as an object by the name that each has; twice the same gets a number.
fn by_name(list: &Value, key: &str, without: &[&str]) -> Value {
    let mut named = serde_json::Map::new();
    for object in list.as_array().into_iter().flatten() {
        let mut object = object.clone();
        let name = match object[key].as_str() {
            Some(name) => name.to_owned(),
            None => object[key].to_string(),
        };
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|field, _| field != key && !without.contains(&field.as_str()));
        }
        let again = (2..).map(|count| format!("{name} ({count})"));
        let mut names = std::iter::once(name.clone()).chain(again);
        if let Some(free) = names.find(|name| !named.contains_key(name)) {
            named.insert(free, object);
        }
    }
    Value::Object(named)
}

/// Objects become longer names; everything else is one value.
fn collect(place: &str, value: &Value, into: &mut Facts) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                collect(format!("{place} {key}").trim_start(), value, into);
            }
        }
        value => {
            into.insert(place.to_owned(), value.to_string());
        }
    }
}

/// Each difference once, with the bundles that show it.
#[derive(Debug, Default)]
struct Differences {
    bundles: usize,
    rows: BTreeMap<(String, Vec<String>), Vec<String>>,
}

impl Differences {
    fn add(&mut self, bundle: &str, seen: &[Facts]) {
        self.bundles += 1;
        let refused = |facts: &&Facts| facts.contains_key("refused");
        let places: BTreeSet<&String> = if seen.iter().any(|facts| refused(&facts)) {
            // All else would differ as well.
            seen.iter()
                .filter(refused)
                .flat_map(|facts| facts.keys())
                .collect()
        } else {
            seen.iter().flat_map(Facts::keys).collect()
        };
        for place in places {
            // What one bundle does wrong says nothing about another.
            let shown = match place.as_str() {
                "refused" | "exit code" => format!("{bundle}: {place}"),
                other => other.to_owned(),
            };
            let value = |facts: &Facts| facts.get(place).cloned().unwrap_or_else(|| "-".into());
            let values: Vec<String> = seen.iter().map(value).collect();
            if values.iter().any(|value| *value != values[0]) {
                let row = self.rows.entry((shown, values)).or_default();
                row.push(bundle.to_owned());
            }
        }
    }

    /// Why a row is as it is: Corten, the first, does as runc, or the page tells why not.
    fn reason(names: &[String], place: &str, values: &[String]) -> Option<String> {
        if names.first()? != "corten" {
            return None;
        }
        let ours = values.first()?;
        let runc = names.iter().position(|name| name == "runc");
        match runc.and_then(|at| values.get(at)) {
            Some(its) if its == ours => Some("as runc".to_owned()),
            _ => reasons::of(place, ours).map(str::to_owned),
        }
    }

    fn without_reason(&self, names: &[String]) -> usize {
        let rows = self.rows.keys();
        rows.filter(|(place, values)| Self::reason(names, place, values).is_none())
            .count()
    }

    fn text(&self, names: &[String]) -> String {
        let mut text = String::new();
        for ((place, values), bundles) in &self.rows {
            let having = match bundles.len() {
                count if count == self.bundles => "all bundles".to_owned(),
                count if count > 8 => format!("{count} bundles"),
                _ => bundles.join(", "),
            };
            text.push_str(&format!("{place}   [{having}]\n"));
            let width = names.iter().map(String::len).max().unwrap_or(0);
            for (name, value) in names.iter().zip(values) {
                text.push_str(&format!("    {name:width$}  {value}\n"));
            }
            let reason = Self::reason(names, place, values);
            let reason = reason.map_or_else(|| "UNEXPLAINED".to_owned(), |why| format!("({why})"));
            text.push_str(&format!("    {reason}\n"));
        }
        let (rows, bare) = (self.rows.len(), self.without_reason(names));
        text + &format!(
            "{} bundles, {rows} differences, {bare} unexplained\n",
            self.bundles
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_twice_keeps_both_mounts() {
        let list = json!([
            {"point": "/", "id": 1, "type": "a"},
            {"point": "/", "id": 2, "type": "b"},
        ]);
        let named = by_name(&list, "point", &["id"]);
        assert_eq!(named, json!({"/": {"type": "a"}, "/ (2)": {"type": "b"}}));
    }

    #[test]
    fn only_differences_are_told_each_once() {
        let facts = |umask: &str| {
            let mut flat = Facts::new();
            collect("", &json!({"umask": umask, "pid": 1}), &mut flat);
            flat
        };
        let mut found = Differences::default();
        for bundle in ["one", "two"] {
            found.add(bundle, &[facts("0022"), facts("0077")]);
        }
        let text = found.text(&["a".to_owned(), "bb".to_owned()]);
        assert_eq!(
            text,
            "umask   [all bundles]\n    a   \"0022\"\n    bb  \"0077\"\n    UNEXPLAINED\n\
             2 bundles, 1 differences, 1 unexplained\n"
        );
    }

    #[test]
    fn what_is_not_as_with_runc_needs_a_reason() {
        let names = ["corten", "crun", "runc"].map(str::to_owned);
        let reason = |ours: &str, crun: &str, runc: &str| {
            let values = [ours, crun, runc].map(str::to_owned);
            Differences::reason(&names, "umask", &values)
        };
        assert_eq!(reason("1", "2", "1"), Some("as runc".to_owned()));
        assert_eq!(reason("1", "1", "2"), None);
        let others = ["crun", "runc"].map(str::to_owned);
        let values = ["1", "2"].map(str::to_owned);
        assert_eq!(Differences::reason(&others, "umask", &values), None);
    }

    #[test]
    fn the_suite_has_40_bundles_with_names_of_their_own() {
        let names: BTreeSet<&str> = suite::BUNDLES.iter().map(|(name, _)| *name).collect();
        assert!(names.len() >= 40 && names.len() == suite::BUNDLES.len());
    }
}
