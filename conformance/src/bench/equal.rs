//! What keeps floor honest: its containers are ours, and its system calls are those on its list.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::bundles::KINDS;
use super::calls::{self, Calls};
use super::subject::Lab;
use crate::{compare, lane};

/// Floor's system calls, as they are checked in: a line per call, its count for each of
/// [`KINDS`].
const LIST: &str = include_str!("../../floor/calls.txt");

/// What a container of floor sees otherwise than one of this runtime, bundle by bundle.
///
/// # Errors
///
/// If one of them can't be made.
pub fn floor_differs(runtime: &Path) -> Result<Vec<String>, String> {
    lane::require();
    let lab = Lab::new(&[runtime.to_owned()], Path::new("/run/bench-equal"), 1)?;
    lab.take_filter()?;
    let mut all = Vec::new();
    for kind in KINDS {
        lab.bundle(kind, lab.config(kind, &["/probe"]))?;
        let id = "bench-equal";
        let words = ["run", "--bundle", "{}", id];
        let ours = facts(&mut lab.command(lab.ours(), kind, &words)?)?;
        let floor = facts(&mut lab.floor(kind, id, &["/probe"])?)?;
        let places: std::collections::BTreeSet<&String> = ours.keys().chain(floor.keys()).collect();
        let differ = places
            .into_iter()
            .filter(|place| ours.get(*place) != floor.get(*place))
            // Floor leaves what its caller has.
            .filter(|place| !["signals ignored", "nice"].contains(&place.as_str()));
        all.extend(differ.map(|place| {
            format!(
                "{kind}: {place}: {:?}, floor {:?}",
                ours.get(place),
                floor.get(place)
            )
        }));
    }
    lab.end()?;
    Ok(all)
}

fn facts(command: &mut std::process::Command) -> Result<BTreeMap<String, String>, String> {
    let output = command
        .stdout(Stdio::piped())
        .output()
        .map_err(|error| error.to_string())?;
    let facts: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{command:?}: {error}: {output:?}"))?;
    Ok(compare::flat(facts))
}

/// Where floor's system calls are not those of its list: a line per call and bundle.
///
/// # Errors
///
/// If it does not run under strace(1).
pub fn floor_calls_differ(runtime: &Path) -> Result<Vec<String>, String> {
    lane::require();
    let lab = Lab::new(&[runtime.to_owned()], Path::new("/run/bench-calls"), 1)?;
    lab.take_filter()?;
    let mut all = Vec::new();
    for (column, kind) in KINDS.iter().enumerate() {
        let expected = expected(column, &lab.config(kind, &[]))?;
        let made = calls::of_floor(&lab, kind)?;
        let names: std::collections::BTreeSet<&String> =
            expected.keys().chain(made.keys()).collect();
        let count = |calls: &Calls, name: &str| calls.get(name).copied().unwrap_or(0);
        let differ = names.into_iter().filter_map(|name| {
            let (made, listed) = (count(&made, name), count(&expected, name));
            (made != listed).then(|| format!("{kind}: {name}: {made}, listed: {listed}"))
        });
        all.extend(differ);
    }
    lab.end()?;
    Ok(all)
}

/// The list's column, and what comes on top on this machine: directories need a second mount to
/// be masked, what is there a call to be read-only, a limit two where it has a controller.
fn expected(column: usize, config: &Value) -> Result<Calls, String> {
    let mut calls = Calls::new();
    for line in LIST.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (name, count) = (words.next(), words.nth(column));
        let count = count.and_then(|count| count.parse().ok());
        let (Some(name), Some(count)) = (name, count) else {
            return Err(format!("floor/calls.txt: {line:?}"));
        };
        if count > 0 {
            calls.insert(name.to_owned(), count);
        }
    }
    let paths = |list: &'static str| {
        config["linux"][list]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    };
    let resources = config["linux"]["resources"].as_object();
    let limits = resources.map_or(0, |all| {
        all.keys().filter(|name| *name != "devices").count()
    });
    let more = [
        ("write", limits),
        ("close", limits),
        (
            "mount",
            paths("maskedPaths")
                .filter(|path| Path::new(path).is_dir())
                .count(),
        ),
        (
            "mount_setattr",
            paths("readonlyPaths")
                .filter(|path| Path::new(path).exists())
                .count(),
        ),
    ];
    for (name, count) in more.into_iter().filter(|(_, count)| *count > 0) {
        *calls.entry(name.to_owned()).or_default() += u32::try_from(count).unwrap_or(0);
    }
    Ok(calls)
}
