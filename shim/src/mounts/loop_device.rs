//! Loop devices: a file as a block device; loop(4).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::sys;

/// How often a free device is looked for: others take them too.
const ATTEMPTS: u32 = 100;

/// `EBUSY`: somebody else was faster.
const BUSY: i32 = 16;

/// A device. It goes away by itself once it is mounted nowhere and this is dropped.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) path: PathBuf,
    _file: File,
}

/// Makes a device of a file.
pub(super) fn attach(image: &Path, read_only: bool, direct_io: bool) -> io::Result<Device> {
    let image = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .open(image)?;
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    for _ in 0..ATTEMPTS {
        let path = PathBuf::from(format!("/dev/loop{}", sys::loop_free(&control)?));
        let device = OpenOptions::new().read(true).write(true).open(&path)?;
        match sys::loop_configure(&device, &image, read_only, direct_io) {
            Ok(()) => {
                return Ok(Device {
                    path,
                    _file: device,
                });
            }
            Err(error) if error.raw_os_error() == Some(BUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(BUSY))
}
