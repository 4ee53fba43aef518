//! A test build: leaves out of every plan the steps that the environment names, and
//! writes down which steps there were. What drives it is `conformance mutate`.
//!
//! A step is named by three words with tabs between: op, origin without its numbers, what
//! it does. The third may be missing: then all steps of this op and origin are meant. Those
//! of `exec`, and of a plan that starts the container at once, have `exec` or `run` before the
//! first word: many are a creation's too.

use std::io::Write as _;

use corten_core::plan::{Plan, Step};

/// Names the steps to leave out.
const LEAVE_OUT: &str = "CORTEN_MUTATE";
/// Names the file that gets a line for each step of each plan.
const LOG: &str = "CORTEN_MUTATE_LOG";
/// Ends a line that is whole.
const END: &str = "end";

/// Edits a plan of a creation before it is carried out.
pub(crate) fn edit(plan: &mut Plan) {
    edit_of(if plan.waits_for_start() { "" } else { "run " }, plan);
}

/// Whether `run` is to be `create` and then `start`: a step of `create` is to be left out, and
/// most checks only run.
pub(crate) fn two_steps() -> bool {
    let wanted = std::env::var(LEAVE_OUT);
    wanted.is_ok_and(|step| !step.starts_with("run ") && !step.starts_with("exec "))
}

/// Edits a plan of `exec` before it is carried out.
pub(crate) fn edit_exec(plan: &mut Plan) {
    edit_of("exec ", plan);
}

fn edit_of(command: &str, plan: &mut Plan) {
    if let Some(path) = std::env::var_os(LOG) {
        let names = plan.steps.iter().map(|step| {
            let (kind, what) = name(command, step);
            format!("{kind}\t{what}\t{END}\n")
        });
        // A command killed in the middle of this leaves a part of a line behind.
        let text: String = std::iter::once("\n".to_owned()).chain(names).collect();
        let file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
            log::warn!("{LOG}: {error}");
        }
    }
    if let Ok(wanted) = std::env::var(LEAVE_OUT) {
        plan.leave_out(|step| {
            let (kind, what) = name(command, step);
            wanted == kind || wanted == format!("{kind}\t{what}")
        });
    }
}

/// Op and origin, and what the step does.
fn name<'s>(command: &str, step: &'s Step) -> (String, &'s str) {
    let mut origin = String::new();
    let mut in_brackets = false;
    for c in step.origin.chars() {
        in_brackets &= c.is_ascii_digit();
        if !in_brackets {
            origin.push(c);
        }
        in_brackets |= c == '[';
    }
    let op = step.op_name();
    (format!("{command}{op}\t{origin}"), &step.what)
}
