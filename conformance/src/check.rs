//! What a check is, and what it needs of the machine.

use std::fmt;

use crate::lab::Lab;

/// Something that not every lane has. The only reason to skip a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// This cgroup v2 controller, delegated to the lane.
    Controller(&'static str),
}

impl Need {
    /// Whether it is there. Asked in the lane.
    #[must_use]
    pub fn is_met(self) -> bool {
        let Self::Controller(wanted) = self;
        let found = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
        found.is_ok_and(|text| text.split_whitespace().any(|name| name == wanted))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Controller(name) = self;
        write!(f, "controller {name}")
    }
}

/// One statement about a runtime's behaviour and the code that tries it.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The file of the check.
    pub facility: &'static str,
    /// The function's name: the statement as a sentence.
    pub name: &'static str,
    /// What it can't be tried without.
    pub needs: &'static [Need],
    /// Panics if the statement does not hold.
    pub run: fn(&Lab),
}

impl Check {
    /// `facility::name`, as a test is named.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}::{}", self.facility, self.name)
    }

    /// Why it can't be tried in this lane, if so.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let missing = self.needs.iter().find(|need| !need.is_met())?;
        Some(format!("needs {missing}"))
    }
}

/// Declares the checks of one file: its facility and its functions, each with what it
/// needs of the machine, if anything: `name [Need::Controller("cpu")]`.
macro_rules! checks {
    ($facility:literal: $($name:ident $([$($need:expr),+])?),+ $(,)?) => {
        pub(crate) const CHECKS: &[$crate::check::Check] = &[
            $($crate::check::Check {
                facility: $facility,
                name: stringify!($name),
                needs: &[$($($need),+)?],
                run: $name,
            }),+
        ];
    };
}
pub(crate) use checks;

/// Every check there is.
pub fn all() -> impl Iterator<Item = Check> {
    crate::checks::ALL.iter().copied().flatten().copied()
}

/// The checks whose path contains any of the words; all without words.
#[must_use]
pub fn matching(words: &[String]) -> Vec<Check> {
    let wanted = |check: &Check| {
        words
            .iter()
            .any(|word| check.path().contains(word.as_str()))
    };
    all()
        .filter(|check| words.is_empty() || wanted(check))
        .collect()
}
