//! Ids of the host that a container's map may name: those of the caller's own user namespace,
//! and of these, for a caller that is not root, its own id and its subordinate ones.
//!
//! See subuid(5), newuidmap(1) and user_namespaces(7).

use std::path::Path;

use super::Findings;
use crate::spec::{IdMapping, Linux, NamespaceKind, Spec};
use crate::sys::file;

/// The first id and the last; what comes after the last is a number too.
type Range = (u64, u64);

/// A kind of ids: where its map is, where the caller's own, where the subordinate ones.
struct Kind {
    field: &'static str,
    own_map: &'static str,
    subordinate: &'static str,
    word: &'static str,
    maps: fn(&Linux) -> &[IdMapping],
    caller: u32,
}

pub(super) fn check(found: &mut Findings, spec: &Spec) {
    let is_new = spec
        .namespace(NamespaceKind::User)
        .is_some_and(|ns| ns.path.is_none());
    let Some(linux) = spec.linux.as_ref().filter(|_| is_new) else {
        return;
    };
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let kinds = [
        Kind {
            field: "linux.uidMappings",
            own_map: "/proc/self/uid_map",
            subordinate: "/etc/subuid",
            word: "uid",
            maps: |linux| &linux.uid_mappings,
            caller: uid.as_raw(),
        },
        Kind {
            field: "linux.gidMappings",
            own_map: "/proc/self/gid_map",
            subordinate: "/etc/subgid",
            word: "gid",
            maps: |linux| &linux.gid_mappings,
            caller: gid.as_raw(),
        },
    ];
    for kind in kinds {
        let subordinate = (!uid.is_root()).then(|| {
            let name = text("/etc/passwd")
                .lines()
                .find_map(|line| name_of(line, uid.as_raw()).map(str::to_owned));
            subordinate(&text(kind.subordinate), uid.as_raw(), name.as_deref())
        });
        let own = own_map(&text(kind.own_map));
        for (index, map) in (kind.maps)(linux).iter().enumerate() {
            if let Some(why) = refusal(&kind, map, &own, subordinate.as_deref()) {
                let (first, last) = range(map);
                let text = format!("host ids {first}-{last}: {why}");
                found.error(format!("{}[{index}].hostID", kind.field), text);
            }
        }
    }
}

/// What a file says; one that can't be read says nothing.
fn text(path: &str) -> String {
    let bytes = file::read(Path::new(path)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why the caller may not use these ids, if so.
fn refusal(
    kind: &Kind,
    map: &IdMapping,
    own: &[Range],
    subordinate: Option<&[Range]>,
) -> Option<String> {
    let wanted = range(map);
    if !covers(own, wanted) {
        return Some(format!("not in this user namespace ({})", kind.own_map));
    }
    let caller = u64::from(kind.caller);
    match subordinate {
        Some(ranges) if wanted != (caller, caller) && !covers(ranges, wanted) => Some(format!(
            "neither the caller's own {} {caller} nor among its subordinate ones ({})",
            kind.word, kind.subordinate
        )),
        _ => None,
    }
}

fn range(map: &IdMapping) -> Range {
    let first = u64::from(map.host_id);
    (first, first + u64::from(map.size).saturating_sub(1))
}

/// Whether ranges, together, have all of this one.
fn covers(ranges: &[Range], (first, last): Range) -> bool {
    let mut next = first;
    while next <= last {
        let ends = ranges
            .iter()
            .filter(|(from, to)| (*from..=*to).contains(&next));
        match ends.map(|(_, to)| *to).max() {
            Some(end) => next = end + 1,
            None => return false,
        }
    }
    true
}

/// The name of a line of passwd(5), if it is of this uid.
fn name_of(line: &str, uid: u32) -> Option<&str> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
}

/// The ranges of one user: `name:first:count`, or with the number of the user.
fn subordinate(text: &str, uid: u32, name: Option<&str>) -> Vec<Range> {
    let range = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (first, count) = (number(fields.next()?)?, number(fields.next()?)?);
        let is_own = Some(owner) == name || owner.parse() == Ok(uid);
        (is_own && count > 0).then(|| (first, first.saturating_add(count - 1)))
    };
    text.lines().filter_map(range).collect()
}

/// The ids that there are in the caller's user namespace: `inside outside count`.
fn own_map(text: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace();
        let (first, count) = (number(fields.next()?)?, number(fields.nth(1)?)?);
        Some((first, first + count.checked_sub(1)?))
    };
    text.lines().filter_map(range).collect()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_ranges_are_under_its_name_or_number() {
        let text = "alice:100000:65536\nbob:200000:10\n1000:300000:5\nalice:x:1\nalice:7:0\n";
        let of_alice = subordinate(text, 1000, Some("alice"));
        assert_eq!(of_alice, [(100_000, 165_535), (300_000, 300_004)]);
        assert_eq!(subordinate(text, 1001, None), []);
        let passwd = "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh";
        let mut lines = passwd.lines();
        assert_eq!(lines.find_map(|line| name_of(line, 1000)), Some("alice"));
    }

    #[test]
    fn ranges_that_touch_cover_together() {
        let ranges = [(10, 19), (20, 29), (40, 49)];
        assert!(covers(&ranges, (12, 27)));
        assert!(covers(&ranges, (40, 49)));
        assert!(!covers(&ranges, (25, 40)));
        assert!(!covers(&ranges, (9, 10)));
        assert!(!covers(&[], (0, 0)));
    }

    #[test]
    fn ids_outside_of_the_own_namespace_can_not_be_mapped() {
        let own = own_map("         0     100000      65536\n     65536       1000          1\n");
        assert_eq!(own, [(0, 65_535), (65_536, 65_536)]);
        let kind = Kind {
            field: "",
            own_map: "OWN",
            subordinate: "SUB",
            word: "uid",
            maps: |linux| &linux.uid_mappings,
            caller: 1000,
        };
        let why = |host_id, size, subordinate: Option<&[Range]>| {
            let map = IdMapping {
                container_id: 0,
                host_id,
                size,
            };
            refusal(&kind, &map, &own, subordinate)
        };
        assert_eq!(why(0, 65_537, None), None);
        let outside = why(0, 65_538, None).expect("a reason");
        assert_eq!(outside, "not in this user namespace (OWN)");
        let subordinate = [(5000, 5999)];
        assert_eq!(why(1000, 1, Some(&subordinate)), None);
        assert_eq!(why(5000, 1000, Some(&subordinate)), None);
        for (first, size) in [(1000, 2), (5000, 1001), (0, 1)] {
            let text = why(first, size, Some(&subordinate)).expect("a reason");
            let expected = "neither the caller's own uid 1000 nor among its subordinate ones (SUB)";
            assert_eq!(text, expected);
        }
    }
}
