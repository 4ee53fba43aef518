//! Limits with a line per device or page size: `io`, `hugetlb`, `rdma`. Pure.

use std::collections::BTreeMap;

use super::{Setting, check_text, invalid};
use crate::cgroup::CgroupError;
use crate::spec::{BlockIo, HugepageLimit, Rdma, ThrottleDevice, WeightDevice};

/// `linux.resources.blockIO`. A weight of 0 is not set; a rate of 0 is no limit, as with
/// cgroup v1 (the kernel's `io.max` takes no 0).
///
/// Weights are the BFQ scheduler's where it is loaded, else those of `io.weight`.
pub(super) fn add_io(list: &mut Vec<Setting>, io: &BlockIo) {
    const PATH: &str = "linux.resources.blockIO";
    let weight = io.weight.filter(|weight| *weight != 0);
    list.extend(weight.map(|weight| weight_setting("", weight, format!("{PATH}.weight"))));
    for (index, device) in io.weight_device.iter().enumerate() {
        let Some(weight) = device.weight.filter(|weight| *weight != 0) else {
            continue;
        };
        let WeightDevice { major, minor, .. } = device;
        let origin = format!("{PATH}.weightDevice[{index}]");
        list.push(weight_setting(&format!("{major}:{minor} "), weight, origin));
    }
    for (field, key, devices) in throttles(io) {
        for (index, device) in devices.iter().enumerate() {
            let origin = format!("{PATH}.{field}[{index}]");
            list.push(Setting::new("io.max", throttle(device, key), origin));
        }
    }
}

/// The lists of rates, with their names in config.json and in `io.max`.
fn throttles(io: &BlockIo) -> [(&'static str, &'static str, &[ThrottleDevice]); 4] {
    [
        (
            "throttleReadBpsDevice",
            "rbps",
            &io.throttle_read_bps_device,
        ),
        (
            "throttleWriteBpsDevice",
            "wbps",
            &io.throttle_write_bps_device,
        ),
        (
            "throttleReadIOPSDevice",
            "riops",
            &io.throttle_read_iops_device,
        ),
        (
            "throttleWriteIOPSDevice",
            "wiops",
            &io.throttle_write_iops_device,
        ),
    ]
}

fn throttle(device: &ThrottleDevice, key: &str) -> String {
    let ThrottleDevice { major, minor, rate } = device;
    match rate {
        0 => format!("{major}:{minor} {key}=max"),
        rate => format!("{major}:{minor} {key}={rate}"),
    }
}

/// 10 to 1000 of the spec is 1 to 1000 of BFQ, and 1 to 10000 of `io.weight`.
fn weight_setting(device: &str, weight: u16, origin: String) -> Setting {
    let io_weight = 1 + u64::from(weight.saturating_sub(10)) * 9999 / 990;
    Setting::new("io.bfq.weight", format!("{device}{weight}"), origin)
        .or_instead("io.weight", format!("{device}{io_weight}"))
}

/// One of `linux.resources.hugepageLimits`, for pages in use and for reserved ones.
///
/// Before Linux 5.7 there was no limit of reservations.
pub(super) fn add_hugetlb(list: &mut Vec<Setting>, index: usize, limit: &HugepageLimit) {
    let origin = format!("linux.resources.hugepageLimits[{index}]");
    let HugepageLimit { page_size, limit } = limit;
    let set = |kind| {
        let file = format!("hugetlb.{page_size}.{kind}");
        Setting::new(file, limit.to_string(), origin.as_str())
    };
    list.extend([set("max"), set("rsvd.max").or_absent()]);
}

/// `linux.resources.rdma`; what is not given of a device stays as it is.
pub(super) fn add_rdma(
    list: &mut Vec<Setting>,
    devices: &BTreeMap<String, Rdma>,
) -> Result<(), CgroupError> {
    for (device, limit) in devices {
        let origin = format!("linux.resources.rdma[{device:?}]");
        check_text(&origin, device)?;
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(invalid(&origin, "is no name of a device"));
        }
        let values = [
            ("hca_handle", limit.hca_handles),
            ("hca_object", limit.hca_objects),
        ];
        let given: String = values
            .iter()
            .filter_map(|(key, value)| value.map(|value| format!(" {key}={value}")))
            .collect();
        if !given.is_empty() {
            list.push(Setting::new("rdma.max", format!("{device}{given}"), origin));
        }
    }
    Ok(())
}
