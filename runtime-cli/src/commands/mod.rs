//! One command, one file: flags in, a few calls of the library, an exit status out.

pub(crate) mod check;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod ps;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod update;

use std::path::{Path, PathBuf};

use corten_core::{Container, Runtime};

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
fn bundle(matches: &Matches) -> &Path {
    let path = matches.value("bundle").filter(|path| !path.is_empty());
    path.map_or(Path::new("."), Path::new)
}

/// A number with or without a fraction, in the smaller unit that `factor` is of; digits too
/// small for it are left out.
fn decimal(text: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let mut sum = match whole {
        "" => 0,
        whole => whole.parse::<u64>().ok()?.checked_mul(factor)?,
    };
    let fraction = fraction.get(..18).unwrap_or(fraction);
    if let Ok(parts) = fraction.parse::<u128>() {
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        let part = parts * u128::from(factor) / scale;
        sum = sum.checked_add(u64::try_from(part).ok()?)?;
    }
    Some(sum)
}
