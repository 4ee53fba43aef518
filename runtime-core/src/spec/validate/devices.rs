//! Checks of `linux.devices`.

use super::super::error::member;
use super::super::{Device, SpecError};
use super::{in_range, missing};

/// Device numbers have 12 and 20 bits, see makedev(3) and the kernel's `MINORBITS`.
const MAJORS: std::ops::RangeInclusive<i64> = 0..=0xfff;
const MINORS: std::ops::RangeInclusive<i64> = 0..=0xf_ffff;
/// All that `st_mode` can hold.
const MODES: std::ops::RangeInclusive<u32> = 0..=0o177_777;

pub(super) fn check(found: &mut Vec<SpecError>, devices: &[Device]) {
    for (index, device) in devices.iter().enumerate() {
        let path = format!("linux.devices[{index}]");
        if device.path.is_empty() {
            found.push(missing(member(&path, "path")));
        }
        if !matches!(device.kind.as_str(), "b" | "c" | "u" | "p") {
            found.push(SpecError::Unknown {
                path: member(&path, "type"),
                value: device.kind.clone(),
                expected: "b, c, u or p",
            });
        }
        let mode = device.file_mode.unwrap_or(0);
        found.extend(in_range(member(&path, "fileMode"), mode, MODES, "0 to 65535").err());
        if device.kind != "p" {
            let major = in_range(member(&path, "major"), device.major, MAJORS, "0 to 4095");
            let minor = in_range(member(&path, "minor"), device.minor, MINORS, "0 to 1048575");
            found.extend(major.err().into_iter().chain(minor.err()));
        }
    }
}
