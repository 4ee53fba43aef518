//! That every slot is filled before it is read, on every path, and how many are open.

use corten_init::abi::{OnError, Op, Slot};

use super::{Action, InitOp, PlanError, RunOp, Step};

/// Walks the steps. The most descriptors that init holds at once, with those for plan
/// and report, which it closes first.
pub(super) fn slots(steps: &[Step]) -> Result<usize, PlanError> {
    let mut filled = vec![Slot::SOCKET, Slot::EXEC_FIFO, Slot::DONE];
    let mut peak = filled.len() + 2;
    let mut reliable_from = 0;
    for (index, step) in steps.iter().enumerate() {
        let op = match &step.action {
            Action::Run(RunOp::Launch { stage0, .. }) => {
                if *stage0 {
                    filled.push(Slot::CGROUP);
                }
                continue;
            }
            Action::Run(_) => continue,
            Action::Init(op) => op,
        };
        if let Some(slot) = reads(op).into_iter().find(|slot| !filled.contains(slot)) {
            return Err(PlanError::EmptySlot {
                step: index + 1,
                slot: slot.0,
            });
        }
        // What a step fills while it may be left out can't be relied on.
        if let OnError::Skip { steps, .. } = step.on_error {
            reliable_from = reliable_from.max(index + 1 + usize::from(steps));
        }
        let reliable = index >= reliable_from;
        for slot in fills(op) {
            if reliable && !filled.contains(&slot) {
                filled.push(slot);
            }
        }
        // A file system context, a mount point and a tree besides the slots.
        peak = peak.max(filled.len() + 3);
        let closed = closes(op);
        filled.retain(|slot| !closed.contains(slot));
    }
    Ok(peak)
}

/// Slots that an op needs. `Slot::EMPTY` is filled by the first mask that needs it.
fn reads(op: &InitOp) -> Vec<Slot> {
    match *op {
        Op::Clone { cgroup, .. } if cgroup != Slot::NONE => vec![Slot::SOCKET, cgroup],
        Op::Clone { .. } | Op::Wait { .. } => vec![Slot::SOCKET],
        Op::SetAttr { mount, .. } => vec![mount],
        Op::Attach { mount, .. } => vec![Slot::ROOT, mount],
        Op::SetAttrAt { .. } | Op::OpenDir { .. } | Op::ReadonlyPath { .. } => vec![Slot::ROOT],
        Op::MaskPath { .. } => vec![Slot::ROOT, Slot::NULL],
        Op::PivotRoot {} | Op::MoveRoot {} | Op::OpenPty { .. } => vec![Slot::ROOT],
        Op::MakeNode { dir, .. } | Op::BindNode { dir, .. } | Op::MakeLink { dir, .. } => vec![dir],
        Op::BindConsole {} => vec![Slot::DEV, Slot::PTY],
        Op::SendConsole {} => vec![Slot::SOCKET, Slot::PTY_MASTER],
        Op::UseConsole {} => vec![Slot::PTY],
        Op::WaitStart {} => vec![Slot::EXEC_FIFO, Slot::DONE],
        _ => Vec::new(),
    }
}

fn fills(op: &InitOp) -> Vec<Slot> {
    match *op {
        Op::BindRoot { into, .. }
        | Op::NewFs { into, .. }
        | Op::OpenTree { into, .. }
        | Op::OpenDir { into, .. }
        | Op::OpenNull { into } => vec![into],
        Op::OpenPty { .. } => vec![Slot::PTY, Slot::PTY_MASTER],
        _ => Vec::new(),
    }
}

fn closes(op: &InitOp) -> Vec<Slot> {
    match *op {
        Op::Close { slot } => vec![slot],
        Op::PivotRoot {} | Op::MoveRoot {} => vec![Slot::ROOT],
        Op::UseConsole {} => vec![Slot::PTY],
        Op::SendConsole {} => vec![Slot::PTY_MASTER],
        Op::WaitStart {} => vec![Slot::EXEC_FIFO],
        _ => Vec::new(),
    }
}
