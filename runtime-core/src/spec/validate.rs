//! Checks what a config.json means, as far as the file alone can tell.
//!
//! Nothing of the machine or the bundle is looked at: that a rootfs or an executable exists is for
//! later. What the reference runtime only warns about is a warning here too.

use super::error::quoted;
use super::{Mount, NamespaceKind, Spec, SpecError};

mod devices;
mod idmap;
mod namespaces;
mod process;
mod resctrl;
mod resources;
mod scheduling;
mod strings;

/// Refuses a spec that can't work or contradicts itself.
///
/// # Errors
/// The first of [`problems`].
pub fn validate(spec: &Spec) -> Result<(), SpecError> {
    problems(spec).into_iter().next().map_or(Ok(()), Err)
}

/// [`validate`] of a spec that was read from this JSON, for less.
pub(crate) fn validate_read(spec: &Spec, json: &[u8]) -> Result<(), SpecError> {
    if strings::may_have_nul(json) {
        return validate(spec);
    }
    let mut found = Vec::new();
    meaning(&mut found, spec);
    found.into_iter().next().map_or(Ok(()), Err)
}

/// [`validate`] of a spec of which only the process was not valid before.
pub(crate) fn validate_process(spec: &Spec) -> Result<(), SpecError> {
    let mut found = Vec::new();
    let process = spec.process.as_deref();
    if process.is_some_and(strings::process_may_have_nul) {
        let new = Spec {
            process: spec.process.clone(),
            ..Spec::default()
        };
        strings::nul_bytes(&mut found, &new);
    }
    meaning(&mut found, spec);
    found.into_iter().next().map_or(Ok(()), Err)
}

/// Everything [`validate`] would refuse, in the order of the fields.
pub fn problems(spec: &Spec) -> Vec<SpecError> {
    let mut found = Vec::new();
    strings::nul_bytes(&mut found, spec);
    meaning(&mut found, spec);
    found
}

/// All but what is wrong with the texts themselves.
fn meaning(found: &mut Vec<SpecError>, spec: &Spec) {
    version(found, &spec.oci_version);
    match &spec.process {
        Some(process) => process::check(found, process),
        None => found.push(missing("process")),
    }
    if spec.root.as_ref().is_none_or(|root| root.path.is_empty()) {
        found.push(missing(if spec.root.is_some() {
            "root.path"
        } else {
            "root"
        }));
    }
    hooks(found, spec);
    uts_name(found, spec, "hostname", spec.hostname.as_deref());
    uts_name(found, spec, "domainname", spec.domainname.as_deref());
    for (index, mount) in spec.mounts.iter().enumerate() {
        check_mount(found, index, mount);
    }
    namespaces::check(found, spec);
    idmap::check(found, spec);
    if let Some(linux) = &spec.linux {
        devices::check(found, &linux.devices);
        resctrl::check(found, linux.intel_rdt.as_ref());
        propagation(found, linux.rootfs_propagation.as_deref());
        hidden_paths(found, spec, "linux.maskedPaths", &linux.masked_paths);
        hidden_paths(found, spec, "linux.readonlyPaths", &linux.readonly_paths);
        if let Some(policy) = &linux.memory_policy {
            scheduling::memory_policy(found, policy);
        }
        if let Some(personality) = &linux.personality {
            scheduling::personality(found, personality);
        }
        if let Some(resources) = &linux.resources {
            resources::check(found, resources);
        }
    }
}

/// Everything that is wrong with limits alone, as those of an update.
pub(crate) fn resource_problems(resources: &super::Resources) -> Vec<SpecError> {
    let mut found = Vec::new();
    resources::check(&mut found, resources);
    found
}

/// What works, but hardly as it was meant. One line each, without the word "warning".
pub fn warnings(spec: &Spec) -> Vec<String> {
    let capabilities = spec
        .process
        .iter()
        .filter_map(|process| process::unknown_capabilities(process));
    let relative =
        spec.mounts.iter().enumerate().filter(|(_, mount)| {
            !mount.destination.is_empty() && !mount.destination.starts_with('/')
        });
    let relative = relative.map(|(index, mount)| {
        let destination = quoted(&mount.destination);
        format!("mounts[{index}].destination: {destination} is not absolute, taken as below /")
    });
    let resources = spec.linux.iter().flat_map(|linux| &linux.resources);
    let memory = resources.flat_map(|resources| &resources.memory);
    let ignored = memory.flat_map(resources::ignored);
    let personality = spec.linux.iter().flat_map(|linux| &linux.personality);
    let flags = personality.filter(|personality| !personality.flags.is_empty());
    let flags = flags.map(|personality| {
        let names: Vec<String> = personality.flags.iter().map(|flag| quoted(flag)).collect();
        let names = names.join(", ");
        format!("linux.personality.flags: ignoring {names}: the specification has none so far")
    });
    capabilities
        .chain(relative)
        .chain(ignored)
        .chain(flags)
        .collect()
}

fn missing(path: impl Into<String>) -> SpecError {
    SpecError::Missing { path: path.into() }
}

fn invalid(path: impl Into<String>, cause: impl Into<String>) -> SpecError {
    SpecError::Invalid {
        path: path.into(),
        cause: cause.into(),
    }
}

/// `Err` if the value is not in the range.
fn in_range<T: Copy + PartialOrd + Into<i128>>(
    path: impl Into<String>,
    value: T,
    range: std::ops::RangeInclusive<T>,
    expected: &'static str,
) -> Result<(), SpecError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(SpecError::OutOfRange {
        path: path.into(),
        value: value.into(),
        expected,
    })
}

/// Any 1.x is taken: within a major version the spec only grows.
fn version(found: &mut Vec<SpecError>, version: &str) {
    if version.is_empty() {
        found.push(missing("ociVersion"));
    } else if semver_major(version) != Some(1) {
        found.push(SpecError::Unknown {
            path: "ociVersion".to_owned(),
            value: version.to_owned(),
            expected: "1.x.y",
        });
    }
}

/// The major number of a semantic version, `None` if it is not one (semver.org, 2.0.0).
fn semver_major(version: &str) -> Option<u64> {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    let suffix = version.get(release.len()..).unwrap_or_default();
    let rest = suffix.get(1..).unwrap_or("0");
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let numbers = release.split('.').map(|part| {
        let plain = part == "0" || (!part.starts_with('0') && !part.starts_with('+'));
        part.parse::<u64>().ok().filter(|_| plain)
    });
    let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
    let well_formed = numbers.len() == 3 && !rest.is_empty() && rest.chars().all(word);
    numbers.first().copied().filter(|_| well_formed)
}

/// `__NEW_UTS_LEN` of the kernel, the most that sethostname(2) and setdomainname(2) take.
const UTS_NAME_MAX: usize = 64;

fn uts_name(found: &mut Vec<SpecError>, spec: &Spec, path: &str, name: Option<&str>) {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return;
    };
    if name.len() > UTS_NAME_MAX {
        found.push(invalid(
            path,
            format!("{} bytes, the kernel takes {UTS_NAME_MAX}", name.len()),
        ));
    }
    needs(found, spec, path, NamespaceKind::Uts);
}

fn hooks(found: &mut Vec<SpecError>, spec: &Spec) {
    let kinds = spec.hooks.iter().flat_map(|hooks| hooks.kinds());
    for (kind, list) in kinds {
        for (index, hook) in list.iter().enumerate() {
            let path = format!("hooks.{kind}[{index}]");
            if hook.path.is_empty() {
                found.push(missing(format!("{path}.path")));
            } else if !hook.path.starts_with('/') {
                let (path, value) = (format!("{path}.path"), hook.path.clone());
                found.push(SpecError::NotAbsolute { path, value });
            }
            let path = format!("{path}.timeout");
            let timeout = hook.timeout.unwrap_or(1);
            let seconds = 1..=i64::from(i32::MAX);
            found.extend(in_range(path, timeout, seconds, "1 to 2147483647").err());
        }
    }
}

fn needs(found: &mut Vec<SpecError>, spec: &Spec, path: &str, kind: NamespaceKind) {
    if spec.namespace(kind).is_none() {
        found.push(SpecError::NeedsNamespace {
            path: path.to_owned(),
            kind,
        });
    }
}

fn check_mount(found: &mut Vec<SpecError>, index: usize, mount: &Mount) {
    let path = |name| format!("mounts[{index}].{name}");
    if mount.destination.is_empty() {
        found.push(missing(path("destination")));
    }
    for (name, map) in [
        ("uidMappings", &mount.uid_mappings),
        ("gidMappings", &mount.gid_mappings),
    ] {
        if !map.is_empty() {
            idmap::entries(found, &path(name), map);
        }
    }
}

fn propagation(found: &mut Vec<SpecError>, value: Option<&str>) {
    let value = value.unwrap_or("private");
    let word = value.strip_prefix('r').unwrap_or(value);
    if !matches!(word, "shared" | "slave" | "private" | "unbindable") {
        found.push(SpecError::Unknown {
            path: "linux.rootfsPropagation".to_owned(),
            value: value.to_owned(),
            expected: "[r]shared, [r]slave, [r]private or [r]unbindable",
        });
    }
}

fn hidden_paths(found: &mut Vec<SpecError>, spec: &Spec, path: &str, list: &[String]) {
    for (index, value) in list
        .iter()
        .enumerate()
        .filter(|(_, value)| !value.starts_with('/'))
    {
        let (path, value) = (format!("{path}[{index}]"), value.clone());
        found.push(SpecError::NotAbsolute { path, value });
    }
    if !list.is_empty() {
        needs(found, spec, path, NamespaceKind::Mount);
    }
}
