//! What config.json may ask for that this version can't do.
//!
//! Refused by name, because a runtime that ignores a label or a limit is dangerous. To
//! support a field, delete its row. A row fires only if the field asks for something: what is
//! empty or the kernel's default anyway may stand in the file.

use super::{Linux, Mount, Spec, SpecError};

/// A path below the table's object, and whether the object asks for it.
type Row<T> = (&'static str, fn(&T) -> bool);

const LINUX: &[Row<Linux>] = &[
    ("netDevices", |l| !l.net_devices.is_empty()),
    ("intelRdt", |l| l.intel_rdt.is_some()),
];

const MOUNT: &[Row<Mount>] = &[
    ("uidMappings", |m| !m.uid_mappings.is_empty()),
    ("gidMappings", |m| !m.gid_mappings.is_empty()),
];

/// Also refused with a value, as `idmap=uids=0-1-10`.
const MOUNT_OPTIONS: &[&str] = &["idmap", "ridmap"];

/// Everything the spec asks for that is not done yet, in the order of the fields.
///
/// Meant for a spec that [`validate`](super::validate) has accepted.
pub fn unsupported(spec: &Spec) -> Vec<SpecError> {
    let mut found = Vec::new();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let path = format!("mounts[{index}]");
        mount_options(&mut found, &path, mount);
        rows(&mut found, &path, mount, MOUNT);
    }
    if let Some(linux) = &spec.linux {
        of_linux(&mut found, linux);
    }
    found
}

fn rows<T>(found: &mut Vec<SpecError>, path: &str, object: &T, table: &[Row<T>]) {
    let asked = table.iter().filter(|(_, asks)| asks(object));
    found.extend(asked.map(|(field, _)| SpecError::Unsupported {
        path: format!("{path}.{field}"),
        value: None,
    }));
}

fn of_linux(found: &mut Vec<SpecError>, linux: &Linux) {
    rows(found, "linux", linux, LINUX);
}

fn mount_options(found: &mut Vec<SpecError>, path: &str, mount: &Mount) {
    for (index, option) in mount.options.iter().enumerate() {
        let name = option
            .split_once('=')
            .map_or(option.as_str(), |(name, _)| name);
        if MOUNT_OPTIONS.contains(&name) {
            let path = format!("{path}.options[{index}]");
            found.push(SpecError::Unsupported {
                path,
                value: Some(option.clone()),
            });
        }
    }
}
