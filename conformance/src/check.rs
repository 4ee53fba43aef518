//! What a check is.

use crate::lab::Lab;

/// One statement about a runtime's behaviour and the code that tries it.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The file of the check.
    pub facility: &'static str,
    /// The function's name: the statement as a sentence.
    pub name: &'static str,
    /// Panics if the statement does not hold.
    pub run: fn(&Lab),
}

impl Check {
    /// `facility::name`, as a test is named.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}::{}", self.facility, self.name)
    }
}

/// Declares the checks of one file: its facility and its functions.
macro_rules! checks {
    ($facility:literal: $($name:ident),+ $(,)?) => {
        pub(crate) const CHECKS: &[$crate::check::Check] = &[
            $($crate::check::Check {
                facility: $facility,
                name: stringify!($name),
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
