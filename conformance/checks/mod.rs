//! The checks: one file per facility, one function per statement.
//!
//! A check gets a [`Lab`](crate::lab::Lab) in a lane of its own and panics if its
//! statement does not hold. The statement is the function's name.

use crate::check::Check;

mod lifecycle;

/// Every facility's checks.
pub(crate) const ALL: &[&[Check]] = &[lifecycle::CHECKS];
