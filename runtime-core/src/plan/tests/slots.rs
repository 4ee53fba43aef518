//! The check of slots, on lists of steps made by hand.

use corten_init::abi::{OnError, Op, Place, Slot};

use crate::plan::{InitOp, PlanError, RunOp, Step, check};
use crate::sys::errno;

fn step(op: InitOp) -> Step {
    Step::init(op, "process", "a step")
}

fn bind_root() -> Step {
    let (path, into) = ("/".into(), Slot::ROOT);
    step(Op::BindRoot { path, into })
}

fn open_null() -> Step {
    step(Op::OpenNull { into: Slot::NULL })
}

fn mask() -> Step {
    let path = "/proc/kcore".into();
    let dir = Slot::ROOT;
    step(Op::MaskPath {
        dir,
        path,
        kernels: false,
    })
}

fn attach(mount: Slot) -> Step {
    let (dir, path, place) = (Slot::ROOT, "/a".into(), Place::LikeSource);
    step(Op::Attach {
        mount,
        dir,
        path,
        place,
    })
}

fn open_tree() -> Step {
    let (path, recursive, into) = ("/".into(), false, Slot::MOUNT);
    step(Op::OpenTree {
        path,
        recursive,
        nofollow: false,
        into,
    })
}

fn close(slot: Slot) -> Step {
    step(Op::Close { slot })
}

fn launch(stage0: bool) -> Step {
    let op = RunOp::Launch {
        namespaces: 0,
        into_cgroup: false,
        stage0,
    };
    Step::run(op, "linux.namespaces", "start init")
}

/// Number of the step that reads an empty slot, and the slot.
fn empty(steps: &[Step]) -> Option<(usize, Slot)> {
    match check::slots(steps) {
        Ok(_) => None,
        Err(PlanError::EmptySlot { step, slot }) => Some((step, Slot(slot))),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_slot_must_be_filled_before_it_is_read() {
    assert_eq!(empty(&[bind_root(), open_null(), mask()]), None);
    assert_eq!(empty(&[open_null(), mask()]), Some((2, Slot::ROOT)));
    assert_eq!(empty(&[bind_root(), mask()]), Some((2, Slot::NULL)));
    let late = [bind_root(), mask(), open_null()];
    assert_eq!(empty(&late), Some((2, Slot::NULL)));
}

#[test]
fn a_closed_slot_is_empty() {
    let steps = [bind_root(), open_null(), mask(), close(Slot::NULL), mask()];
    assert_eq!(empty(&steps), Some((5, Slot::NULL)));
    for pivot in [Op::PivotRoot {}, Op::MoveRoot {}] {
        let steps = [bind_root(), open_tree(), step(pivot), attach(Slot::MOUNT)];
        assert_eq!(empty(&steps), Some((4, Slot::ROOT)));
    }
}

#[test]
fn closing_an_empty_slot_is_no_error() {
    assert_eq!(empty(&[close(Slot::MOUNT)]), None);
}

#[test]
fn what_a_step_fills_that_may_be_skipped_can_not_be_relied_on() {
    let maybe = open_null().or_skip(&[errno::ENOENT], 0);
    let steps = [bind_root(), maybe, mask()];
    assert_eq!(empty(&steps), Some((3, Slot::NULL)));
}

#[test]
fn steps_that_are_skipped_together_may_read_what_the_first_of_them_fills() {
    let first = || open_null().or_skip(&[errno::ENOENT], 1);
    assert_eq!(empty(&[bind_root(), first(), mask()]), None);
    // The second reader is not left out with the step that fills the slot.
    let steps = [bind_root(), first(), mask(), mask()];
    assert_eq!(empty(&steps), Some((4, Slot::NULL)));
}

#[test]
fn what_is_filled_among_skipped_steps_can_not_be_relied_on_behind_them() {
    let first = mask_nothing().or_skip(&[errno::ENOENT], 1);
    let steps = [bind_root(), first, open_null(), mask()];
    assert_eq!(empty(&steps), Some((4, Slot::NULL)));
}

/// A step that reads only the root.
fn mask_nothing() -> Step {
    let path = "/etc".into();
    step(Op::ReadonlyPath {
        dir: Slot::ROOT,
        path,
    })
}

#[test]
fn what_is_filled_before_and_again_among_skipped_steps_stays_filled() {
    let first = mask_nothing().or_skip(&[errno::ENOENT], 1);
    let steps = [bind_root(), open_null(), first, open_null(), mask()];
    assert_eq!(empty(&steps), None);
}

#[test]
fn a_step_whose_error_is_only_a_warning_fills_nothing_for_sure() {
    let steps = [bind_root(), open_null().or_warn(), mask()];
    assert_eq!(empty(&steps), Some((3, Slot::NULL)));
}

#[test]
fn a_step_that_ends_init_on_any_error_fills_its_slot() {
    assert_eq!(open_null().on_error, OnError::Fail);
    assert_eq!(empty(&[bind_root(), open_null(), mask()]), None);
}

#[test]
fn the_cgroup_is_in_its_slot_only_for_stage_0() {
    let clone = |cgroup| step(Op::Clone { flags: 0, cgroup });
    assert_eq!(empty(&[launch(true), clone(Slot::CGROUP)]), None);
    let steps = [launch(false), clone(Slot::CGROUP)];
    assert_eq!(empty(&steps), Some((2, Slot::CGROUP)));
    assert_eq!(empty(&[launch(false), clone(Slot::NONE)]), None);
}

#[test]
fn the_pty_and_its_master_come_together_and_go_apart() {
    let (uid, rows, columns) = (0, 0, 0);
    let open = step(Op::OpenPty { uid, rows, columns });
    let send = || step(Op::SendConsole {});
    let use_it = || step(Op::UseConsole {});
    let steps = [bind_root(), open, send(), use_it()];
    assert_eq!(empty(&steps), None);
    let twice = |again: Step| [&steps[..], &[again]].concat();
    assert_eq!(empty(&twice(send())), Some((5, Slot::PTY_MASTER)));
    assert_eq!(empty(&twice(use_it())), Some((5, Slot::PTY)));
}

#[test]
fn the_peak_counts_what_is_open_at_once() {
    let three = check::slots(&[bind_root(), open_null(), open_tree()]).unwrap();
    let steps = [
        bind_root(),
        open_null(),
        close(Slot::NULL),
        open_tree(),
        open_tree(),
    ];
    assert_eq!(check::slots(&steps).unwrap(), three - 1);
}
