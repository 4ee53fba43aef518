//! `start`: the program of a created container begins.

use super::container;
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::parse::Matches;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let (_runtime, mut container) = container(app, matches)?;
    container
        .start()
        .map_err(|error| Failure::not_started(&error))?;
    Ok(0)
}
