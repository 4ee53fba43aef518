//! `check`: every problem of a bundle at once.

use corten_core::{CreateOptions, Level};

use super::bundle;
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::parse::Matches;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let format = matches
        .value("format")
        .map(|format| format.to_string_lossy());
    let found = app
        .runtime()?
        .check(bundle(matches), &CreateOptions::default())?;
    let text = match format.as_deref() {
        None | Some("text") => found.iter().map(|finding| format!("{finding}\n")).collect(),
        Some("json") => serde_json::to_string_pretty(&found).map_err(Failure::new)? + "\n",
        Some(_) => return Err(Failure::new("invalid format option")),
    };
    output::print(&text)?;
    let failed = found.iter().any(|finding| finding.level == Level::Error);
    Ok(u8::from(failed))
}
