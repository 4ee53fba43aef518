//! The file of `--pid-file`.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::failure::Failure;

/// Writes `pid` without a newline: whoever waits for `path` to appear finds it complete.
pub(crate) fn write(path: &Path, pid: i32) -> Result<(), Failure> {
    let mut temporary = OsString::from(".");
    temporary.push(path.file_name().unwrap_or_default());
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    write_new(&temporary, pid)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| {
            // Nothing to add where the temporary file was not even made.
            fs::remove_file(&temporary).ok();
            Failure::io(path, &error)
        })
}

fn write_new(path: &Path, pid: i32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(pid.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_stands_alone_and_no_temporary_file_is_left() {
        let dir = std::env::temp_dir().join(format!("corten-pid-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("web.pid");
        for pid in [42, 7] {
            write(&path, pid).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), pid.to_string());
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_missing_directory_is_named() {
        let failure = write(Path::new("/nonexistent/web.pid"), 1).unwrap_err();
        assert_eq!(
            failure.message,
            "/nonexistent/web.pid: no such file or directory"
        );
    }
}
