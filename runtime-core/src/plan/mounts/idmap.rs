//! Id maps of mounts: `uidMappings`, `gidMappings` and the options `idmap` and `ridmap`.
//!
//! See mount_setattr(2). The kernel takes a map from a user namespace: of the container's
//! own, which is the map where none is given, or of one that is made for it.

use corten_init::abi::{ID_MAPS, Op, Slot};

use crate::plan::enter::map_text;
use crate::plan::options::Options;
use crate::plan::{Context, PlanError, RunOp, Step};
use crate::spec::{IdMapping, Mount, NamespaceKind, quoted};

/// Which user namespace has a map.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Map {
    /// One that is made with these lines in `uid_map` and `gid_map`.
    Made { uids: String, gids: String },
    /// The one that the container joins.
    Joined,
}

/// The user namespaces that the mounts of a plan need, one slot for each.
#[derive(Default)]
pub(super) struct Maps {
    known: Vec<(Map, String)>,
}

impl Maps {
    /// The slot of a mount's map, and whether it goes for all below; none if it has none.
    pub(super) fn of(
        &mut self,
        cx: &Context<'_>,
        mount: &Mount,
        options: &Options,
        origin: &str,
    ) -> Result<Option<(Slot, bool)>, PlanError> {
        let Some((map, field, recursive)) = find(cx, mount, options, origin)? else {
            return Ok(None);
        };
        let index = match self.known.iter().position(|(known, _)| *known == map) {
            Some(index) => index,
            None if self.known.len() < ID_MAPS => {
                self.known.push((map, field));
                self.known.len() - 1
            }
            None => {
                let what = format!("more than {ID_MAPS} different id maps of mounts");
                return Err(PlanError::unsupported(field, what));
            }
        };
        Ok(Some((slot(index), recursive)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Makes the user namespaces, before init is started.
    pub(super) fn make(&self) -> Vec<Step> {
        let made = self
            .known
            .iter()
            .enumerate()
            .filter_map(|(index, (map, field))| {
                let Map::Made { uids, gids } = map else {
                    return None;
                };
                let shown = |lines: &str| lines.trim_end().replace('\n', ", ");
                let what = format!(
                    "make a user namespace with uids {} and gids {}",
                    shown(uids),
                    shown(gids)
                );
                let op = RunOp::MakeIdMap {
                    slot: slot(index),
                    uids: uids.clone(),
                    gids: gids.clone(),
                };
                Some(Step::run(op, field.clone(), what))
            });
        made.collect()
    }

    /// Opens the one that the container joins.
    pub(super) fn open(&self, cx: &Context<'_>) -> Option<Step> {
        let index = self.known.iter().position(|(map, _)| *map == Map::Joined)?;
        let kind = NamespaceKind::User;
        let path = cx.spec.namespace(kind).and_then(|ns| ns.path.as_deref());
        let path = path.unwrap_or_default();
        let op = Op::OpenNamespace {
            path: path.into(),
            kind: kind.clone_flag(),
            into: slot(index),
        };
        let what = format!("open {kind} namespace {}", quoted(path));
        Some(Step::init(op, cx.origin(kind), what))
    }

    /// Closes them all.
    pub(super) fn close(&self) -> Vec<Step> {
        let close = |(index, (_, field)): (usize, &(Map, String))| {
            let op = Op::Close { slot: slot(index) };
            Step::init(op, field.clone(), "close the user namespace of the id map")
        };
        self.known.iter().enumerate().map(close).collect()
    }
}

/// The slot of a map; there are no more than [`ID_MAPS`].
fn slot(index: usize) -> Slot {
    Slot(Slot::ID_MAPS.0.saturating_add(index as u8))
}

/// The map that a mount asks for, the place that says so, and whether it goes for all below.
fn find(
    cx: &Context<'_>,
    mount: &Mount,
    options: &Options,
    origin: &str,
) -> Result<Option<(Map, String, bool)>, PlanError> {
    let (uids, gids) = (&mount.uid_mappings, &mount.gid_mappings);
    let option = options.idmap.as_ref();
    let recursive = option.is_some_and(|idmap| idmap.recursive);
    let given = option.and_then(|idmap| idmap.map.as_deref());
    let field = |name: &str| format!("{origin}.{name}");
    if uids.is_empty() != gids.is_empty() {
        let name = if uids.is_empty() {
            "uidMappings"
        } else {
            "gidMappings"
        };
        let what = "missing: an id map is for uids and gids";
        return Err(PlanError::value(field(name), what));
    }
    let map = match given {
        Some(_) if !uids.is_empty() => {
            let what = "the id map is in uidMappings and gidMappings too";
            return Err(PlanError::value(field("options"), what));
        }
        Some(text) => (parse(cx, text, &field("options"))?, field("options")),
        None if !uids.is_empty() => {
            let (uids, gids) = (map_text(uids), map_text(gids));
            (Map::Made { uids, gids }, field("uidMappings"))
        }
        None if option.is_some() => (implied(cx, &field("options"))?, field("options")),
        None => return Ok(None),
    };
    let (map, field) = map;
    Ok(Some((map, field, recursive)))
}

/// The ids of the container's own user namespace. A new one is made only later, so another
/// with the same ids stands for it.
fn implied(cx: &Context<'_>, field: &str) -> Result<Map, PlanError> {
    let linux = cx.spec.linux.as_ref();
    match linux {
        Some(linux) if cx.new_namespace(NamespaceKind::User) => Ok(Map::Made {
            uids: map_text(&linux.uid_mappings),
            gids: map_text(&linux.gid_mappings),
        }),
        _ if cx.joined_namespace(NamespaceKind::User) => Ok(Map::Joined),
        _ => {
            let what = "an id map without ids needs a user namespace (linux.namespaces)";
            Err(PlanError::value(field, what))
        }
    }
}

/// `uids=0-1000-10#10-2000-5;gids=@0-0-10`: first id in the file system, first id in the
/// mount, count; after an `@` the second is an id of the container.
fn parse(cx: &Context<'_>, text: &str, field: &str) -> Result<Map, PlanError> {
    let linux = cx.spec.linux.as_ref();
    let (mut uids, mut gids) = (String::new(), String::new());
    for part in text.split(';') {
        let refused = |why: &str| {
            let what = format!("id map {}: {why}", quoted(part));
            PlanError::value(field, what)
        };
        let (lines, ids, own) = match part.split_once('=') {
            Some(("uids", ids)) => (&mut uids, ids, linux.map(|linux| &linux.uid_mappings)),
            Some(("gids", ids)) => (&mut gids, ids, linux.map(|linux| &linux.gid_mappings)),
            _ => return Err(refused("expected uids= or gids=")),
        };
        let own = own.map_or(&[][..], Vec::as_slice);
        for range in ids.split('#') {
            let map = numbers(range.strip_prefix('@').unwrap_or(range));
            let map = map.ok_or_else(|| refused("expected ID-ID-COUNT"))?;
            let whole = if range.starts_with('@') {
                relative(map, own).ok_or_else(|| refused("not in the container's own id map"))?
            } else {
                vec![map]
            };
            lines.push_str(&map_text(&whole));
        }
    }
    if uids.is_empty() || gids.is_empty() {
        let what = format!("id map {}: it needs uids and gids", quoted(text));
        return Err(PlanError::value(field, what));
    }
    Ok(Map::Made { uids, gids })
}

/// Three numbers, the last not 0.
fn numbers(text: &str) -> Option<IdMapping> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits)
    };
    let mut parts = text.split('-').map(number);
    let map = IdMapping {
        container_id: parts.next()??,
        host_id: parts.next()??,
        size: parts.next()??,
    };
    (parts.next().is_none() && map.size > 0).then_some(map)
}

/// A range whose ids in the mount are the container's, as ids of the host: one range for
/// each part of the container's own map that it lies in.
fn relative(mut map: IdMapping, own: &[IdMapping]) -> Option<Vec<IdMapping>> {
    let mut whole = Vec::new();
    loop {
        let inside = |line: &&IdMapping| {
            let offset = map.host_id.checked_sub(line.container_id);
            offset.is_some_and(|offset| offset < line.size)
        };
        let line = own.iter().find(inside)?;
        let offset = map.host_id - line.container_id;
        let size = map.size.min(line.size - offset);
        whole.push(IdMapping {
            container_id: map.container_id,
            host_id: line.host_id.checked_add(offset)?,
            size,
        });
        map.size -= size;
        if map.size == 0 {
            return Some(whole);
        }
        map.container_id = map.container_id.checked_add(size)?;
        map.host_id = map.host_id.checked_add(size)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping {
            container_id,
            host_id,
            size,
        }
    }

    #[test]
    fn three_numbers_make_a_range_and_nothing_else_does() {
        assert_eq!(numbers("0-1000-10"), Some(line(0, 1000, 10)));
        for text in [
            "",
            "0-1",
            "0-1-0",
            "0-1-2-3",
            "a-1-2",
            "+0-1-2",
            "0--1-2",
            "0-1-4294967296",
        ] {
            assert_eq!(numbers(text), None, "{text}");
        }
    }

    #[test]
    fn a_relative_range_is_cut_where_the_containers_own_map_is() {
        let own = [line(0, 100_000, 10), line(10, 500_000, 10)];
        let whole = relative(line(5, 8, 4), &own).unwrap();
        assert_eq!(whole, [line(5, 100_008, 2), line(7, 500_000, 2)]);
        assert_eq!(
            relative(line(5, 19, 1), &own),
            Some(vec![line(5, 500_009, 1)])
        );
        assert_eq!(relative(line(5, 19, 2), &own), None);
        assert_eq!(relative(line(5, 0, 1), &[]), None);
    }
}
