//! `state`: the OCI state as JSON.

use super::container;
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::parse::Matches;

/// Like runc's, the answer has no newline at its end.
pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let (_runtime, container) = container(app, matches)?;
    let state = container.state()?;
    let json = serde_json::to_string_pretty(&state)
        .map_err(|error| Failure::new(format_args!("state: {error}")))?;
    output::print(&json).map(|()| 0)
}
