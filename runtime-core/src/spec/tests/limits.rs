//! Checks of `linux.resources` that are about devices, page sizes and cgroup v1.

use serde_json::json;

use super::checking::{accepted, refused};
use super::with;
use crate::spec::{problems, warnings};

#[test]
fn limits_of_cgroup_v1_are_refused_by_name() {
    let cases = [
        (
            json!({ "memory": { "swappiness": 60 } }),
            "memory.swappiness",
        ),
        (
            json!({ "memory": { "disableOOMKiller": true } }),
            "memory.disableOOMKiller",
        ),
        (
            json!({ "cpu": { "realtimeRuntime": 950_000 } }),
            "cpu.realtimeRuntime",
        ),
        (
            json!({ "cpu": { "realtimePeriod": 1_000_000 } }),
            "cpu.realtimePeriod",
        ),
        (
            json!({ "blockIO": { "leafWeight": 10 } }),
            "blockIO.leafWeight",
        ),
        (
            json!({ "blockIO": { "weightDevice": [{ "major": 8, "minor": 0, "leafWeight": 10 }] } }),
            "blockIO.leafWeight",
        ),
        (json!({ "network": { "classID": 1 } }), "network.classID"),
        (
            json!({ "network": { "priorities": [{ "name": "lo", "priority": 1 }] } }),
            "network.priorities",
        ),
    ];
    for (resources, field) in cases {
        let expected = format!(
            "linux.resources.{field}: only cgroup v1 has this limit, and cgroup v2 is used"
        );
        refused(json!({ "/linux/resources": resources }), &expected);
    }
}

#[test]
fn what_engines_write_for_limits_nobody_asked_for_is_accepted() {
    accepted(json!({ "/linux/resources": {
        "memory": { "kernel": 0, "disableOOMKiller": false, "useHierarchy": true },
        "cpu": { "realtimeRuntime": 0, "realtimePeriod": 0 },
        "blockIO": { "weight": 0, "leafWeight": 0 },
        "network": { "classID": 0, "priorities": [] },
    }}));
}

#[test]
fn kernel_memory_limits_are_a_warning() {
    let spec = with(json!({ "/linux/resources": { "memory": { "kernel": 1, "kernelTCP": 2 } } }));
    assert_eq!(problems(&spec), []);
    let ignored = |field: &str| {
        format!("linux.resources.memory.{field}: ignored, the kernel has no such limit any more")
    };
    assert_eq!(warnings(&spec), [ignored("kernel"), ignored("kernelTCP")]);
}

#[test]
fn disk_limits_name_a_device_and_a_weight_that_exist() {
    for weight in [9, 1001] {
        refused(
            json!({ "/linux/resources": { "blockIO": { "weight": weight } } }),
            &format!(
                "linux.resources.blockIO.weight: {weight} is out of range, expected 10 to 1000"
            ),
        );
    }
    let device = json!([{ "major": 8, "minor": -1, "rate": 1 }]);
    refused(
        json!({ "/linux/resources": { "blockIO": { "throttleReadIOPSDevice": device } } }),
        "linux.resources.blockIO.throttleReadIOPSDevice[0].minor: -1 is out of range, expected 0 to 1048575",
    );
}

#[test]
fn a_huge_page_size_is_written_as_the_kernel_does() {
    for size in ["2MB", "64KB", "1GB", "16MB"] {
        let limits = json!([{ "pageSize": size, "limit": 1 }]);
        accepted(json!({ "/linux/resources": { "hugepageLimits": limits } }));
    }
    for size in [
        "", "MB", "2", "2mb", "02MB", "2M", "+2MB", "2MBKB", "../2MB",
    ] {
        let limits = json!([{ "pageSize": size, "limit": 1 }]);
        refused(
            json!({ "/linux/resources": { "hugepageLimits": limits } }),
            &format!(
                "linux.resources.hugepageLimits[0].pageSize: {size:?} is unknown, expected a size such as 64KB, 2MB or 1GB"
            ),
        );
    }
}
