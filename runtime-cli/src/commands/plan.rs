//! `plan`: the steps that would make a container, in order, and nothing done.

use corten_core::CreateOptions;

use super::bundle;
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::parse::Matches;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let format = matches
        .value("format")
        .map(|format| format.to_string_lossy());
    let id = matches
        .argument(0)
        .unwrap_or_else(|| "container".to_owned());
    let (runtime, options) = (app.runtime()?, CreateOptions::default());
    let bundle = runtime.load(bundle(matches))?;
    let plan = match matches.switch("run") {
        true => runtime.plan_run(&id, &bundle, &options)?,
        false => runtime.plan(&id, &bundle, &options)?,
    };
    let mut text = match format.as_deref() {
        None | Some("text") => plan.to_string(),
        Some("json") => plan.to_json(),
        Some(_) => return Err(Failure::new("invalid format option")),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    output::print(&text).map(|()| 0)
}
