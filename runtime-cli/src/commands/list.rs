//! `list`: the containers below the root directory.

use corten_core::State;

use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::parse::Matches;
use crate::{output, table};

const HEADER: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let states = app.runtime()?.list()?;
    let format = matches
        .value("format")
        .map(|format| format.to_string_lossy());
    let text = if matches.switch("quiet") {
        states
            .iter()
            .map(|state| format!("{}\n", state.id))
            .collect()
    } else {
        match format.as_deref() {
            None | Some("table") => rows(&states),
            Some("json") => json(&states)?,
            Some(_) => return Err(Failure::new("invalid format option")),
        }
    };
    output::print(&text).map(|()| 0)
}

fn rows(states: &[State]) -> String {
    let mut rows = vec![HEADER.map(String::from)];
    rows.extend(states.iter().map(|state| {
        [
            state.id.clone(),
            state.pid.to_string(),
            state.status.to_string(),
            state.bundle.display().to_string(),
            state.created.clone(),
            state.owner.clone(),
        ]
    }));
    table::align(&rows)
}

/// One line; runc writes an empty list as `null`, and its readers know that.
fn json(states: &[State]) -> Result<String, Failure> {
    if states.is_empty() {
        return Ok("null\n".to_owned());
    }
    let json = serde_json::to_string(states);
    json.map(|json| json + "\n")
        .map_err(|error| Failure::new(format_args!("list: {error}")))
}
