//! What config.json may ask for that this version can't do.
//!
//! Refused by name, because a runtime that ignores a label or a limit is dangerous. To
//! support a field, delete its row. A row fires only if the field asks for something: what is
//! empty or the kernel's default anyway may stand in the file.

use super::{Linux, Spec, SpecError};

/// A path below the table's object, and whether the object asks for it.
type Row<T> = (&'static str, fn(&T) -> bool);

const LINUX: &[Row<Linux>] = &[("intelRdt", |l| l.intel_rdt.is_some())];

/// Everything the spec asks for that is not done yet, in the order of the fields.
///
/// Meant for a spec that [`validate`](super::validate) has accepted.
pub fn unsupported(spec: &Spec) -> Vec<SpecError> {
    let mut found = Vec::new();
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
