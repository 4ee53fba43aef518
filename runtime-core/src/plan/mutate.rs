//! A plan without some of its steps: what the checks must notice.
//!
//! A test build only. Slots are not checked again: a step that misses its descriptor
//! fails when it runs, and that is noticed too.

use corten_init::abi::OnError;

use super::{Action, Plan, Step};

impl Step {
    /// The name of what the step does, as the source has it: `MaskPath`.
    #[must_use]
    pub fn op_name(&self) -> String {
        let shown = match &self.action {
            Action::Init(op) => format!("{op:?}"),
            Action::Run(op) => format!("{op:?}"),
        };
        let end = shown.find(|c: char| !c.is_ascii_alphanumeric());
        shown[..end.unwrap_or(shown.len())].to_owned()
    }
}

impl Plan {
    /// Drops every step that is not wanted. Groups that are left out together shrink with
    /// the steps that they lose.
    pub fn leave_out(&mut self, mut unwanted: impl FnMut(&Step) -> bool) {
        let mut index = 0;
        while let Some(step) = self.steps.get(index) {
            if !unwanted(step) {
                index += 1;
                continue;
            }
            if step.is_init() {
                self.shrink_groups(index);
            }
            self.steps.remove(index);
        }
    }

    /// Takes the step at this position out of the groups that reach over it.
    fn shrink_groups(&mut self, position: usize) {
        let before = self.steps.iter_mut().take(position);
        for (step, distance) in before.rev().filter(|step| step.is_init()).zip(1..) {
            if let OnError::Skip { steps, .. } = &mut step.on_error
                && u32::from(*steps) >= distance
            {
                *steps -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_init::abi::Op;

    use super::*;
    use crate::plan::Entry;

    fn step(what: &str) -> Step {
        Step::init(Op::NewSession {}, "process", what)
    }

    #[test]
    fn a_group_loses_the_step_that_is_left_out() {
        let steps = vec![
            step("a").or_skip(&[2], 1),
            step("b").or_skip(&[2], 2),
            step("c"),
            step("d"),
            step("e"),
        ];
        let mut plan = Plan {
            steps,
            argv: Vec::new(),
            envp: Vec::new(),
            entry: Entry::None,
            peak_fds: 0,
            warnings: Vec::new(),
            obstacles: Vec::new(),
            limits: Vec::new(),
            devices: None,
            preserve_fds: 0,
        };
        plan.leave_out(|step| step.what == "d");
        let groups: Vec<_> = plan.steps.iter().map(|step| step.on_error).collect();
        let skip = |steps| OnError::Skip {
            errnos: [2, 0, 0],
            steps,
        };
        let fail = OnError::Fail;
        assert_eq!(groups, [skip(1), skip(1), fail, fail]);
    }

    #[test]
    fn an_op_has_the_name_of_the_source() {
        assert_eq!(step("x").op_name(), "NewSession");
    }
}
