//! `linux.maskedPaths` and `linux.readonlyPaths`.
//!
//! What does not exist is left out. Before the pivot, by the root's descriptor.

use corten_init::abi::{Op, Slot};

use super::{Context, Step, lsm};
use crate::sys::errno;

/// Masks, then read-only paths.
pub(super) fn paths(cx: &Context<'_>) -> Vec<Step> {
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
        let op = Op::MaskPath { path: path.into() };
        let step = Step::init(
            op,
            format!("linux.maskedPaths[{index}]"),
            format!("mask {path}"),
        );
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
        let op = Op::ReadonlyPath { path: path.into() };
        let origin = format!("linux.readonlyPaths[{index}]");
        let step = Step::init(op, origin, format!("make {path} read-only"));
        steps.push(step.or_skip(&missing, 0));
    }
    steps
}
