//! `features`: what this runtime can do.

use corten_core::features;
use corten_core::host::Host;

use crate::failure::Outcome;
use crate::output;

pub(crate) fn run() -> Outcome {
    let document = features(&Host::probe()?);
    output::print(&format!("{document:#}\n")).map(|()| 0)
}
