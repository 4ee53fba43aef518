//! Checks of `linux.namespaces` and of what belongs to some of them: clocks and devices.

use super::super::error::{member, quoted};
use super::super::{NamespaceKind, Spec, SpecError};
use super::{in_range, invalid, needs};

pub(super) fn check(found: &mut Vec<SpecError>, spec: &Spec) {
    namespaces(found, spec);
    time_offsets(found, spec);
    net_devices(found, spec);
}

fn namespaces(found: &mut Vec<SpecError>, spec: &Spec) {
    let all = spec.namespaces();
    for (index, ns) in all.iter().enumerate() {
        let path = || format!("linux.namespaces[{index}]");
        if let Some(first) = all
            .iter()
            .take(index)
            .position(|other| other.kind == ns.kind)
        {
            found.push(SpecError::Duplicate {
                path: path(),
                what: "ns",
                value: ns.kind.to_string(),
                first: format!("linux.namespaces[{first}]"),
            });
        }
        if let Some(file) = ns.path.as_ref().filter(|file| !file.starts_with('/')) {
            let (path, value) = (member(&path(), "path"), file.clone());
            found.push(SpecError::NotAbsolute { path, value });
        }
    }
}

/// See time_namespaces(7).
fn time_offsets(found: &mut Vec<SpecError>, spec: &Spec) {
    let Some(linux) = spec.linux.as_ref() else {
        return;
    };
    let path = "linux.timeOffsets";
    if linux.time_offsets.is_empty() {
        return;
    }
    needs(found, spec, path, NamespaceKind::Time);
    let time = spec.namespace(NamespaceKind::Time);
    if time.is_some_and(|time| time.path.is_some()) {
        found.push(invalid(
            path,
            "the clocks of a namespace that is joined are set already",
        ));
    }
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            found.push(SpecError::Unknown {
                path: path.to_owned(),
                value: clock.clone(),
                expected: "monotonic or boottime",
            });
        }
        let path = format!("{}.nanosecs", member(path, clock));
        found.extend(in_range(path, offset.nanosecs, 0..=999_999_999, "0 to 999999999").err());
    }
}

/// Names of devices, as the kernel takes them (`dev_valid_name`). In the container one may
/// have a `%d`, which the kernel makes a number of.
fn net_devices(found: &mut Vec<SpecError>, spec: &Spec) {
    let Some(linux) = spec
        .linux
        .as_ref()
        .filter(|linux| !linux.net_devices.is_empty())
    else {
        return;
    };
    needs(found, spec, "linux.netDevices", NamespaceKind::Network);
    let mut names: Vec<(&String, String)> = Vec::new();
    for (name, device) in &linux.net_devices {
        let path = member("linux.netDevices", name);
        device_name(found, &path, name, name);
        let mut place = (name, path.clone());
        if let Some(inside) = &device.name {
            place = (inside, member(&path, "name"));
            let counted = inside.replacen("%d", "0", 1);
            device_name(found, &place.1, inside, &counted);
            if counted != *inside {
                continue;
            }
        }
        if let Some((_, first)) = names.iter().find(|(other, _)| *other == place.0) {
            found.push(SpecError::Duplicate {
                path: place.1.clone(),
                what: "network device",
                value: place.0.clone(),
                first: first.clone(),
            });
        }
        names.push(place);
    }
}

/// `name` is what the kernel may make of what is `given`.
fn device_name(found: &mut Vec<SpecError>, path: &str, given: &str, name: &str) {
    // IFNAMSIZ of linux/if.h, with the NUL.
    const LONGEST: usize = 15;
    let bad = |c: char| c.is_ascii_whitespace() || matches!(c, '/' | ':' | '%' | '\u{b}');
    if !(1..=LONGEST).contains(&name.len()) || name == "." || name == ".." || name.contains(bad) {
        let cause = format!("{} can't name a network device", quoted(given));
        found.push(invalid(path, cause));
    }
}
