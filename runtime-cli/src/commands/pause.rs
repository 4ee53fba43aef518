//! `pause` and `resume`: all processes of a container stand still, and go on.

use super::container;
use crate::app::App;
use crate::failure::Outcome;
use crate::parse::Matches;

pub(crate) fn pause(app: &App, matches: &Matches) -> Outcome {
    let (_runtime, container) = container(app, matches)?;
    container.pause()?;
    Ok(0)
}

pub(crate) fn resume(app: &App, matches: &Matches) -> Outcome {
    let (_runtime, container) = container(app, matches)?;
    container.resume()?;
    Ok(0)
}
