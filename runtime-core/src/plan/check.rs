//! That every slot is filled before it is read, on every path, and how many are open.

use std::collections::{BTreeMap, BTreeSet};

use corten_init::abi::{OnError, Op, Slot};

use super::{Action, InitOp, PlanError, RunOp, Step};

/// What is known of the slots on the way through the steps.
#[derive(Default)]
struct Slots {
    /// The last step that may rely on a slot's descriptor.
    sure: BTreeMap<Slot, usize>,
    /// Slots that may hold a descriptor.
    open: BTreeSet<Slot>,
}

/// A slot that is filled for good.
const ALWAYS: usize = usize::MAX;

impl Slots {
    fn fill(&mut self, slot: Slot, until: usize) {
        self.open.insert(slot);
        let last = self.sure.entry(slot).or_insert(until);
        *last = until.max(*last);
    }

    fn is_sure(&self, slot: Slot, index: usize) -> bool {
        self.sure.get(&slot).is_some_and(|last| index <= *last)
    }

    /// The step that closes the slot may be left out itself.
    fn close(&mut self, slot: Slot, surely: bool) {
        self.sure.remove(&slot);
        if surely {
            self.open.remove(&slot);
        }
    }
}

/// Walks the steps. The most descriptors that init holds at once, with those for plan
/// and report, which it closes first.
pub(super) fn slots(steps: &[Step]) -> Result<usize, PlanError> {
    let mut slots = Slots::default();
    slots.fill(Slot::SOCKET, ALWAYS);
    // Plan and report are open at first.
    let mut peak = slots.open.len() + 2;
    // Last steps of the groups that are left out together.
    let mut groups: Vec<usize> = Vec::new();
    // Init counts its own steps only.
    let mut index = 0;
    for (position, step) in steps.iter().enumerate() {
        let op = match &step.action {
            Action::Run(RunOp::Launch {
                stage0: true,
                into_cgroup: false,
                ..
            }) => {
                slots.fill(Slot::CGROUP, ALWAYS);
                continue;
            }
            Action::Run(RunOp::MakeIdMap { slot, .. } | RunOp::TakeProcess { slot }) => {
                slots.fill(*slot, ALWAYS);
                continue;
            }
            Action::Run(RunOp::MakeFifos) => {
                slots.fill(Slot::EXEC_FIFO, ALWAYS);
                slots.fill(Slot::DONE, ALWAYS);
                peak = peak.max(slots.open.len() + 2);
                continue;
            }
            Action::Run(_) => continue,
            Action::Init(op) => op,
        };
        let empty = |slot: &Slot| !slots.is_sure(*slot, index);
        if let Some(slot) = given(reads(op)).find(empty) {
            return Err(PlanError::EmptySlot {
                step: position + 1,
                slot: slot.0,
            });
        }
        groups.retain(|last| index <= *last);
        let here = groups.iter().min().copied().unwrap_or(ALWAYS);
        let until = here.min(match step.on_error {
            OnError::Fail => ALWAYS,
            OnError::Warn => index,
            OnError::Skip { steps, .. } => index + usize::from(steps),
        });
        for slot in given(fills(op)) {
            slots.fill(slot, until);
        }
        // A file system context, a mount point and a tree besides the slots.
        peak = peak.max(slots.open.len() + 3);
        for slot in given(closes(op)) {
            slots.close(slot, until == ALWAYS);
        }
        if let OnError::Skip { steps, .. } = step.on_error {
            groups.push(index + usize::from(steps));
        }
        index += 1;
    }
    Ok(peak)
}

/// The slots of an op, and [`Slot::NONE`] where it has fewer: a list for each of a hundred steps, three times, is more
/// than the rest of the walk.
type Pair = [Slot; 2];

fn given(slots: Pair) -> impl Iterator<Item = Slot> {
    slots.into_iter().filter(|slot| *slot != Slot::NONE)
}

/// Slots that an op needs. `Slot::EMPTY` is filled by the first mask that needs it.
fn reads(op: &InitOp) -> Pair {
    match *op {
        Op::Clone { cgroup, .. } => [Slot::SOCKET, cgroup],
        Op::Wait { .. } | Op::WaitUntold {} => [Slot::SOCKET, Slot::NONE],
        Op::SetAttr { mount, .. } | Op::KeepTree { mount, .. } => [mount, Slot::NONE],
        Op::Idmap { mount, map, .. } => [mount, map],
        Op::Attach { mount, dir, .. } => [dir, mount],
        Op::CopyUp { mount, .. } => [Slot::ROOT, mount],
        Op::SetAttrAt { .. } | Op::OpenDir { .. } => [Slot::ROOT, Slot::NONE],
        Op::ReadonlyPath { dir, .. } => [dir, Slot::NONE],
        Op::MountAt { .. } | Op::Reconfigure { .. } => [Slot::ROOT, Slot::NONE],
        Op::MaskPath { dir, .. } => [dir, Slot::NULL],
        Op::PivotRoot {} | Op::MoveRoot {} | Op::Chroot {} => [Slot::ROOT, Slot::NONE],
        Op::OpenPty { .. } => [Slot::ROOT, Slot::NONE],
        Op::MakeNode { dir, .. } | Op::BindNode { dir, .. } | Op::MakeLink { dir, .. } => {
            [dir, Slot::NONE]
        }
        Op::BindConsole {} => [Slot::DEV, Slot::PTY],
        Op::SendConsole {} => [Slot::SOCKET, Slot::PTY_MASTER],
        Op::Join { from, .. } => [from, Slot::NONE],
        Op::EnterTime { proc } => [proc, Slot::NONE],
        Op::UseConsole {} => [Slot::PTY, Slot::NONE],
        Op::PassListener { from } => [Slot::SOCKET, from],
        Op::WaitStart {} => [Slot::EXEC_FIFO, Slot::DONE],
        Op::RunHook {
            state, lifeline, ..
        } => [state, lifeline],
        Op::WriteProc { proc, .. } | Op::WriteAttribute { proc, .. } => [proc, Slot::NONE],
        Op::LabelRoot { mount, .. } => [mount, Slot::NONE],
        _ => [Slot::NONE; 2],
    }
}

/// Whether a step of init's leaves a descriptor in the slot.
pub(super) fn fills_slot(step: &Step, slot: Slot) -> bool {
    match &step.action {
        Action::Init(op) => given(fills(op)).any(|filled| filled == slot),
        Action::Run(_) => false,
    }
}

fn fills(op: &InitOp) -> Pair {
    match *op {
        Op::BindRoot { into, .. }
        | Op::OpenRoot { into, .. }
        | Op::NewFs { into, .. }
        | Op::OpenTree { into, .. }
        | Op::OpenDir { into, .. }
        | Op::OpenNamespace { into, .. }
        | Op::OpenProc { into }
        | Op::OpenNull { into }
        | Op::HookState { into, .. } => [into, Slot::NONE],
        Op::OpenPty { .. } => [Slot::PTY, Slot::PTY_MASTER],
        Op::LoadSeccomp { listener, .. } => [listener, Slot::NONE],
        _ => [Slot::NONE; 2],
    }
}

fn closes(op: &InitOp) -> Pair {
    match *op {
        Op::Close { slot } => [slot, Slot::NONE],
        Op::Join { from, .. } | Op::PassListener { from } => [from, Slot::NONE],
        Op::EnterTime { proc } => [proc, Slot::NONE],
        Op::PivotRoot {} | Op::MoveRoot {} | Op::Chroot {} => [Slot::ROOT, Slot::NONE],
        Op::UseConsole {} => [Slot::PTY, Slot::NONE],
        Op::SendConsole {} => [Slot::PTY_MASTER, Slot::NONE],
        Op::WaitStart {} => [Slot::EXEC_FIFO, Slot::NONE],
        _ => [Slot::NONE; 2],
    }
}
