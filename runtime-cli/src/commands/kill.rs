//! `kill`: a signal for the container's first process, or for all.

use corten_core::ErrorKind;

use super::container;
use crate::app::App;
use crate::failure::Outcome;
use crate::parse::Matches;
use crate::signals;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let (_runtime, container) = container(app, matches)?;
    let name = matches.argument(1).filter(|name| !name.is_empty());
    let signal = signals::parse(name.as_deref().unwrap_or("SIGTERM"))?;
    if matches.switch("all") {
        match container.kill_all(signal) {
            // As in runc: with nobody left, all have got it.
            Err(error) if error.kind() != ErrorKind::NotRunning => Err(error.into()),
            _ => Ok(0),
        }
    } else {
        container.kill(signal)?;
        Ok(0)
    }
}
