//! `start`: the program of a created container begins.

use std::os::fd::AsFd;

use super::{container, id};
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::notify::Notify;
use crate::parse::Matches;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let (runtime, mut container) = container(app, matches)?;
    let notify = Notify::bind(runtime.root(), &id(matches))?;
    let pid = container.pid();
    container
        .start()
        .map_err(|error| Failure::not_started(&error))?;
    if let Some(notify) = notify {
        notify.relay(container.as_fd(), pid);
    }
    Ok(0)
}
