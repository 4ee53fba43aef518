//! `linux.maskedPaths` and `linux.readonlyPaths`.
//!
//! What does not exist is left out. Before the pivot, by the root's descriptor; what is below
//! /proc and /sys by that of the mount itself: somebody who can write to the image could
//! else exchange the mount point with a folder, and would have a procfs without masks.

use std::collections::BTreeSet;

use corten_init::abi::{Op, Slot};

use super::mounts::clean;
use super::step::place;
use super::{Context, InitOp, Step, lsm};
use crate::sys::errno;

/// Where paths are hidden that protect the host.
const ANCHORS: [(&str, Slot); 2] = [("/proc", Slot::PROC_MOUNT), ("/sys", Slot::SYS_MOUNT)];

/// Where to keep what is mounted at a place, if there are paths to be hidden below.
pub(super) fn anchor(cx: &Context<'_>, place: &str) -> Option<Slot> {
    let (_, slot) = ANCHORS.iter().find(|(anchor, _)| *anchor == place)?;
    let linux = cx.spec.linux.as_ref()?;
    let all = || linux.masked_paths.iter().chain(&linux.readonly_paths);
    // Once that is covered, what is below is somewhere else.
    let covers = |path: &String| [place, "/"].contains(&&*clean(path));
    let useful = all().any(|path| rest(path, place).is_some()) && !all().any(covers);
    useful.then_some(*slot)
}

/// The path as seen from a place above it.
fn rest<'p>(path: &'p str, place: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(place)?;
    if !rest.starts_with('/') {
        return None;
    }
    let climbs = rest.contains('.') && rest.split('/').any(|part| part == "..");
    (!climbs).then_some(rest)
}

/// The descriptor that a path is looked up from, and the path from there.
fn from<'p>(path: &'p str, open: &Open) -> (Slot, &'p str) {
    let anchored = ANCHORS.iter().filter(|(_, slot)| open.slots.contains(slot));
    let mut found = anchored.filter_map(|(place, slot)| Some((*slot, rest(path, place)?)));
    found.next().unwrap_or((Slot::ROOT, path))
}

/// What hides a path.
fn mask(path: &str, open: &Open) -> InitOp {
    let (dir, below) = from(path, open);
    let is_name = |name: &&str| !name.contains('/') && !["", "."].contains(name);
    let name = below.strip_prefix('/').filter(is_name);
    let name = name.filter(|_| open.kernels.contains(&dir));
    Op::MaskPath {
        dir,
        path: name.unwrap_or(below).into(),
        kernels: name.is_some(),
    }
}

/// The slots that hold mounts in the end.
#[derive(Default)]
pub(super) struct Open {
    /// What is on /dev, /proc and /sys.
    pub(super) slots: BTreeSet<Slot>,
    /// Those with a procfs or a sysfs that was mounted for the container.
    pub(super) kernels: BTreeSet<Slot>,
}

/// Masks, then read-only paths.
pub(super) fn paths(cx: &Context<'_>, open: &Open) -> Vec<Step> {
    let Some(linux) = &cx.spec.linux else {
        return Vec::new();
    };
    let missing = [errno::ENOENT, errno::ENOTDIR];
    let mut steps = Vec::new();
    if !linux.masked_paths.is_empty() {
        steps.extend(lsm::mask_source(cx));
        let op = Op::OpenNull { into: Slot::NULL };
        steps.push(Step::init(
            op,
            "linux.maskedPaths",
            "open and check the host's /dev/null",
        ));
    }
    for (index, path) in linux.masked_paths.iter().enumerate() {
        let origin = place("linux.maskedPaths", index);
        let step = Step::init(mask(path, open), origin, ["mask ", path].concat());
        steps.push(step.or_skip(&missing, 0));
    }
    for slot in [Slot::NULL, Slot::EMPTY] {
        if !linux.masked_paths.is_empty() {
            let op = Op::Close { slot };
            steps.push(Step::init(
                op,
                "linux.maskedPaths",
                "close the source of masks",
            ));
        }
    }
    for (index, path) in linux.readonly_paths.iter().enumerate() {
        let (dir, below) = from(path, open);
        let path_in = below.into();
        let op = Op::ReadonlyPath { dir, path: path_in };
        let origin = place("linux.readonlyPaths", index);
        let what = ["make ", path, " read-only"].concat();
        let step = Step::init(op, origin, what);
        steps.push(step.or_skip(&missing, 0));
    }
    for (anchor, slot) in ANCHORS {
        if open.slots.contains(&slot) {
            let close = Op::Close { slot };
            steps.push(Step::init(close, "mounts", ["close ", anchor].concat()));
        }
    }
    steps
}
