//! Checks of id maps, against each other and against the ids the process wants.
//!
//! The kernel's own rules are in user_namespaces(7); it answers EINVAL for any of them, so they
//! are told apart here.

use super::super::{IdMapping, NamespaceKind, Spec, SpecError};
use super::{invalid, needs};

/// Most lines the kernel takes, `UID_GID_MAP_MAX_EXTENTS`.
const MAX_ENTRIES: usize = 340;

pub(super) fn check(found: &mut Vec<SpecError>, spec: &Spec) {
    let maps: [(&'static str, &[IdMapping]); 2] = match &spec.linux {
        Some(linux) => [
            ("linux.uidMappings", &linux.uid_mappings),
            ("linux.gidMappings", &linux.gid_mappings),
        ],
        None => return,
    };
    // The maps of a namespace that is joined are its owner's business.
    let new = spec
        .namespace(NamespaceKind::User)
        .is_some_and(|ns| ns.path.is_none());
    for (path, map) in maps {
        entries(found, path, map);
        if !map.is_empty() {
            needs(found, spec, path, NamespaceKind::User);
        } else if new {
            found.push(invalid(path, "must not be empty with a new user namespace"));
        }
    }
    if new {
        let [uids, gids] = maps;
        process_ids(found, spec, uids, gids);
    }
}

/// Checks one map by itself.
pub(super) fn entries(found: &mut Vec<SpecError>, path: &str, map: &[IdMapping]) {
    if map.len() > MAX_ENTRIES {
        let cause = format!("{} entries, the kernel takes {MAX_ENTRIES}", map.len());
        found.push(invalid(path, cause));
        return;
    }
    for (index, entry) in map.iter().enumerate() {
        let path_of = |index: usize| format!("{path}[{index}]");
        if entry.size == 0 {
            found.push(invalid(format!("{path}[{index}].size"), "must not be 0"));
        }
        for (side, id) in SIDES {
            let Some((from, to)) = range(entry, id) else {
                let cause = format!("{side} ids run past 4294967294, the last there is");
                found.push(invalid(path_of(index), cause));
                continue;
            };
            let overlaps = |other: &IdMapping| {
                let both = entry.size != 0 && other.size != 0;
                both && range(other, id).is_some_and(|(start, end)| start <= to && from <= end)
            };
            if let Some(first) = map.iter().take(index).position(overlaps) {
                let (path, first) = (path_of(index), path_of(first));
                found.push(SpecError::Overlap {
                    path,
                    side,
                    from,
                    to,
                    first,
                });
            }
        }
    }
}

/// A side of an entry and its first id.
type Side = (&'static str, fn(&IdMapping) -> u32);

const SIDES: [Side; 2] = [
    ("container", |map| map.container_id),
    ("host", |map| map.host_id),
];

/// First and last id on a side; `None` if they don't fit, as the last number is not an id.
fn range(entry: &IdMapping, id: fn(&IdMapping) -> u32) -> Option<(u32, u32)> {
    let from = id(entry);
    let end = from.checked_add(entry.size)?;
    Some((from, end.saturating_sub(1).max(from)))
}

fn process_ids(
    found: &mut Vec<SpecError>,
    spec: &Spec,
    uids: (&'static str, &[IdMapping]),
    gids: (&'static str, &[IdMapping]),
) {
    let Some(user) = spec.process.as_ref().map(|process| &process.user) else {
        return;
    };
    let mut mapped = |path: String, id: u32, (name, map): (&'static str, &[IdMapping])| {
        // An empty map was complained about already, and is the reason of all the rest.
        if !map.is_empty() && !map.iter().any(|entry| contains(entry, id)) {
            found.push(SpecError::Unmapped {
                path,
                id,
                map: name,
            });
        }
    };
    mapped("process.user.uid".to_owned(), user.uid, uids);
    mapped("process.user.gid".to_owned(), user.gid, gids);
    for (index, gid) in user.additional_gids.iter().enumerate() {
        mapped(format!("process.user.additionalGids[{index}]"), *gid, gids);
    }
}

fn contains(entry: &IdMapping, id: u32) -> bool {
    id.checked_sub(entry.container_id)
        .is_some_and(|offset| offset < entry.size)
}
