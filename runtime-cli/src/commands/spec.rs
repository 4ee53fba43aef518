//! `spec`: a config.json to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use corten_core::spec::{default_spec, rootless_spec, to_json};

use crate::failure::{Failure, Outcome};
use crate::parse::Matches;

pub(crate) fn run(matches: &Matches) -> Outcome {
    let directory = matches.value("bundle").filter(|path| !path.is_empty());
    let path = directory
        .map_or(Path::new("."), Path::new)
        .join("config.json");
    let spec = if matches.switch("rootless") {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        rootless_spec(uid.as_raw(), gid.as_raw())
    } else {
        default_spec()
    };
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::new("File config.json exists. Remove it first"));
        }
        file => file.map_err(|error| Failure::io(&path, &error))?,
    };
    file.write_all(to_json(&spec).as_bytes())
        .map_err(|error| Failure::io(&path, &error))?;
    Ok(0)
}
