//! `delete`: nothing of a container is left.

use corten_core::{Delete, ErrorKind};

use super::id;
use crate::app::App;
use crate::failure::Outcome;
use crate::parse::Matches;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let force = matches.switch("force");
    let runtime = app.runtime()?;
    let container = match runtime.container(&id(matches)) {
        // A creator that was killed early has left no state by which to find the container.
        Err(error) if force && error.kind() == ErrorKind::NotFound => {
            runtime.delete_leftovers(&id(matches))?;
            return Ok(0);
        }
        found => found?,
    };
    container.delete(if force {
        Delete::Force
    } else {
        Delete::IfStopped
    })?;
    Ok(0)
}
