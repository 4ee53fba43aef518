//! Overlays with so many layers that their names don't fit into a page, which is all that
//! mount(2) takes.
//!
//! As containerd does: what all names begin with becomes the working directory of a thread
//! that has one of its own.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::failure::Failure;
use crate::sys;

/// From this size on names are shortened: a page, less what containerd leaves free.
const LONG: usize = 4096 - 512;

const LOWER: &str = "lowerdir=";

/// Makes the names of the layers relative if they are too long: to the folder returned.
pub(super) fn shorten(data: &mut [String]) -> Option<PathBuf> {
    if data.iter().map(String::len).sum::<usize>() < LONG {
        return None;
    }
    let option = data.iter_mut().find(|option| option.starts_with(LOWER))?;
    let layers: Vec<&str> = option.strip_prefix(LOWER)?.split(':').collect();
    let folder = common(&layers)?;
    let mut relative = Vec::with_capacity(layers.len());
    for layer in &layers {
        let inside = Path::new(layer).strip_prefix(&folder).ok()?;
        relative.push(inside.to_str().filter(|inside| !inside.is_empty())?);
    }
    let shortened = format!("{LOWER}{}", relative.join(":"));
    *option = shortened;
    Some(folder)
}

/// The deepest folder that all layers are in.
fn common(layers: &[&str]) -> Option<PathBuf> {
    let mut folder = Path::new(layers.first()?).parent()?;
    while !layers
        .iter()
        .all(|layer| Path::new(layer).starts_with(folder))
    {
        folder = folder.parent()?;
    }
    (layers.len() > 1 && folder != Path::new("/")).then(|| folder.to_owned())
}

/// Calls something on a thread whose working directory is this.
pub(super) fn in_folder(
    folder: &Path,
    call: impl FnOnce() -> Result<(), Errno> + Send,
) -> Result<Result<(), Errno>, Failure> {
    let failed = |error| Failure::call(folder.display(), error);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, || {
                sys::own_working_directory()?;
                std::env::set_current_dir(folder)?;
                Ok(call())
            })
            .map_err(failed)?;
        let done: std::io::Result<_> = thread
            .join()
            .map_err(|_| Failure::other("mount: the thread has panicked"))?;
        done.map_err(failed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(count: usize) -> Vec<String> {
        let names = (0..count).map(|number| format!("/var/lib/snapshots/{number}/fs"));
        vec![
            "index=off".to_owned(),
            format!("{LOWER}{}", names.collect::<Vec<_>>().join(":")),
        ]
    }

    #[test]
    fn few_layers_stay_as_they_are() {
        let mut data = layers(3);
        assert_eq!(shorten(&mut data), None);
        assert_eq!(data, layers(3));
    }

    #[test]
    fn many_layers_become_relative_to_what_they_share() {
        let mut data = layers(200);
        let folder = shorten(&mut data).unwrap();
        assert_eq!(folder, Path::new("/var/lib/snapshots"));
        assert!(data[1].starts_with("lowerdir=0/fs:1/fs:"), "{}", data[1]);
        assert!(data[1].len() < 4096);
    }

    #[test]
    fn layers_that_share_nothing_can_not_be_shortened() {
        let long = "x".repeat(2000);
        let mut data = vec![format!("{LOWER}/{long}:/y{long}")];
        assert_eq!(shorten(&mut data), None);
    }
}
