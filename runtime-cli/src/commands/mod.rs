//! One command, one file: flags in, a few calls of the library, an exit status out.

pub(crate) mod check;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;

use std::path::{Path, PathBuf};

use corten_core::{Bundle, Container, Runtime};

use crate::app::App;
use crate::failure::Failure;
use crate::parse::Matches;

/// The first argument.
fn id(matches: &Matches) -> String {
    matches.argument(0).unwrap_or_default()
}

/// The container that the first argument names.
fn container(app: &App, matches: &Matches) -> Result<(Runtime, Container), Failure> {
    let runtime = app.runtime()?;
    let container = runtime.container(&id(matches))?;
    Ok((runtime, container))
}

/// The path of this flag, if it was given and is not empty.
fn path(matches: &Matches, flag: &str) -> Option<PathBuf> {
    let path = matches.value(flag).filter(|path| !path.is_empty());
    path.map(PathBuf::from)
}

/// The bundle of `--bundle`, or the one in the current directory.
fn bundle(matches: &Matches) -> Result<Bundle, Failure> {
    let path = matches.value("bundle").filter(|path| !path.is_empty());
    Ok(Bundle::load(path.map_or(Path::new("."), Path::new))?)
}
