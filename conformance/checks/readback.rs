//! Limits as another program reads them back: the crate `cgroups-rs`, which shares no code
//! with any of the runtimes, or where it has no reader [`cgroup_files`], which knows the
//! forms of the kernel's documentation and nothing else.
//!
//! | limit | file | reader | shown in |
//! |---|---|---|---|
//! | memory.limit, swap, reservation | memory.max, swap.max, low | `cgroups-rs` | uml, full |
//! | cpu.quota, period, shares | cpu.max, weight | `cgroups-rs` | uml, full |
//! | cpu.burst, idle | cpu.max.burst, cpu.idle | own | uml, full |
//! | cpu.cpus, mems | cpuset.cpus, mems | `cgroups-rs` | full |
//! | pids.limit | pids.max | `cgroups-rs` | uml, full |
//! | blockIO.throttle* | io.max | own | uml, full |
//! | blockIO.weight, weightDevice | io.bfq.weight or io.weight | own | where the kernel has one |
//! | hugepageLimits | hugetlb.SIZE.max | `cgroups-rs` | full |
//! | hugepageLimits, reserved | hugetlb.SIZE.rsvd.max | own | full |
//! | rdma | rdma.max | own | what is written: no lane's machine has such a device |
//! | unified | any, here memory.high, oom.group, min, cgroup.max.* | both | uml, full |
//! | unified misc.max | misc.max | own | what is written: no lane's machine has a resource |
//!
//! What is written to rdma.max, misc.max and io.max is read by the same reader in the tests of
//! the library (`cgroup::settings`); that the kernel refuses a device that is not there is
//! shown here. `cgroups-rs` 0.5 reads no more of v2 than 0.3 but rdma.max as plain text.

use cgroups_rs::cgroup::Cgroup;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::hierarchies::V2;
use cgroups_rs::hugetlb::HugeTlbController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Controller as _, MaxValue};
use serde_json::{Value, json};

use super::cgroup::cgroup_of;
use super::disks::{Loop, rate};
use super::limits::{bundle_with, setting};
use crate::cgroup_files::{self, flat_keyed, nested_keyed};
use crate::check::Need::Controller;
use crate::check::checks;
use crate::lab::{Container, Lab};

checks!("readback":
    memory_is_what_another_reader_finds [Controller("memory")],
    tasks_are_what_another_reader_finds [Controller("pids")],
    cpu_time_is_what_another_reader_finds [Controller("cpu")],
    processors_are_what_another_reader_finds [Controller("cpuset")],
    huge_pages_are_what_another_reader_finds [Controller("hugetlb")],
    rates_of_disks_are_what_another_reader_finds [Controller("io")],
    weights_of_disks_are_what_another_reader_finds [Controller("io")],
    burst_and_idle_are_what_another_reader_finds [Controller("cpu")],
    files_by_name_are_what_another_reader_finds [Controller("memory")],
    a_device_or_resource_that_is_not_there_is_refused_by_name [Controller("rdma"), Controller("misc")],
);

const MIB: i64 = 1 << 20;

/// Makes a container with these limits, looks, updates it with these flags, and looks again.
fn before_and_after(
    lab: &Lab,
    limits: Value,
    update: &[&str],
    mut look: impl FnMut(&Cgroup, usize),
) {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.config["linux"]["resources"] = limits;
    let container = lab.start(&bundle);
    look(&read(&container), 0);
    if !update.is_empty() {
        drop(container.call(&[&["update"], update].concat()).ok());
        look(&read(&container), 1);
    }
}

fn read(container: &Container<'_>) -> Cgroup {
    let path = cgroup_of(container);
    let below = path
        .strip_prefix("/sys/fs/cgroup")
        .expect("it is mounted there");
    Cgroup::load(Box::new(V2::new()), below)
}

fn memory_is_what_another_reader_finds(lab: &Lab) {
    let limits = json!({"memory": {
        "limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB,
    }});
    let update = [
        "--memory=128m",
        "--memory-swap=192m",
        "--memory-reservation=16m",
    ];
    before_and_after(lab, limits, &update, |cgroup, at| {
        let memory: &MemController = cgroup.controller_of().expect("memory");
        let found = memory.get_mem().expect("the files are there");
        let expected = |values: [i64; 2]| Some(MaxValue::Value(values[at] * MIB));
        assert_eq!(found.max, expected([64, 128]));
        assert_eq!(found.low, expected([32, 16]));
        let swap = memory.memswap_v2().limit_in_bytes;
        assert_eq!(swap, [32, 64][at] * MIB);
    });
}

fn tasks_are_what_another_reader_finds(lab: &Lab) {
    let limits = json!({"pids": {"limit": 50}});
    before_and_after(lab, limits, &["--pids-limit=-1"], |cgroup, at| {
        let pids: &PidController = cgroup.controller_of().expect("pids");
        let expected = [MaxValue::Value(50), MaxValue::Max][at];
        assert_eq!(pids.get_pid_max().expect("the file is there"), expected);
    });
}

fn cpu_time_is_what_another_reader_finds(lab: &Lab) {
    let limits = json!({"cpu": {"quota": 30_000, "period": 60_000, "shares": 2}});
    let update = ["--cpu-quota=20000", "--cpu-share=262144"];
    before_and_after(lab, limits, &update, |cgroup, at| {
        let cpu: &CpuController = cgroup.controller_of().expect("cpu");
        assert_eq!(cpu.cfs_quota().expect("cpu.max"), [30_000, 20_000][at]);
        assert_eq!(cpu.cfs_period().expect("cpu.max"), 60_000);
        assert_eq!(cpu.shares().expect("cpu.weight"), [1, 10_000][at]);
    });
}

fn processors_are_what_another_reader_finds(lab: &Lab) {
    let limits = json!({"cpu": {"cpus": "0-1", "mems": "0"}});
    before_and_after(lab, limits, &["--cpuset-cpus=1"], |cgroup, at| {
        let set: &CpuSetController = cgroup.controller_of().expect("cpuset");
        let found = set.cpuset();
        assert_eq!(found.cpus, [vec![(0, 1)], vec![(1, 1)]][at]);
        assert_eq!(found.mems, [(0, 0)]);
    });
}

fn huge_pages_are_what_another_reader_finds(lab: &Lab) {
    let limits = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]});
    before_and_after(lab, limits, &[], |cgroup, _| {
        let pages: &HugeTlbController = cgroup.controller_of().expect("hugetlb");
        assert!(pages.exists());
        let limit = pages.limit_in_bytes("2MB").expect("the file is there");
        assert_eq!(limit, (4 * MIB).cast_unsigned());
    });
    let limits = json!([{"pageSize": "2MB", "limit": 4 * MIB}]);
    let bundle = bundle_with(lab, &["sleep"], "hugepageLimits", limits);
    let container = lab.create(&bundle);
    let reserved = setting(&container, "hugetlb.2MB.rsvd.max");
    assert_eq!(reserved.parse(), Ok(4 * MIB));
}

fn nested(container: &Container<'_>, file: &str) -> cgroup_files::Nested {
    nested_keyed(&setting(container, file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn rates_of_disks_are_what_another_reader_finds(lab: &Lab) {
    let disk = Loop::new(lab, 1 << 20);
    let limit = json!({
        "throttleReadBpsDevice": rate(disk.number(), 3 << 20),
        "throttleWriteBpsDevice": rate(disk.number(), 2 << 20),
        "throttleWriteIOPSDevice": rate(disk.number(), 40),
    });
    let bundle = bundle_with(lab, &["sleep"], "blockIO", limit);
    let container = lab.start(&bundle);
    let (major, minor) = disk.number();
    let name = format!("{major}:{minor}");
    let expect = |expected: [&str; 4]| {
        let found = nested(&container, "io.max");
        assert_eq!(found.keys().collect::<Vec<_>>(), [&name]);
        let keys = ["rbps", "wbps", "riops", "wiops"];
        assert_eq!(keys.map(|key| found[&name][key].as_str()), expected);
    };
    expect(["3145728", "2097152", "max", "40"]);
    let file = lab.folder().join("limits.json");
    let by = json!({"blockIO": {
        "throttleReadBpsDevice": rate(disk.number(), 0),
        "throttleReadIOPSDevice": rate(disk.number(), 30),
    }});
    std::fs::write(&file, by.to_string()).expect("the lab's folder is writable");
    drop(
        container
            .call(&["update", "-r", &file.to_string_lossy()])
            .ok(),
    );
    if lab.is_corten() {
        expect(["max", "2097152", "30", "40"]);
    }
}

fn weights_of_disks_are_what_another_reader_finds(lab: &Lab) {
    let there = |file: &&str| {
        std::path::Path::new("/sys/fs/cgroup/tests")
            .join(file)
            .exists()
    };
    // Which of them is there depends on the schedulers that are loaded.
    let Some(file) = ["io.bfq.weight", "io.weight"].into_iter().find(there) else {
        return;
    };
    let bundle = bundle_with(lab, &["sleep"], "blockIO", json!({"weight": 500}));
    let container = lab.create(&bundle);
    let text = setting(&container, file);
    // BFQ has no key where no disk has a weight of its own, on some kernels.
    let found = flat_keyed(&text).map_or(text, |keys| keys["default"].clone());
    let expected = if file == "io.weight" { "4950" } else { "500" };
    assert_eq!(found, expected);
}

fn burst_and_idle_are_what_another_reader_finds(lab: &Lab) {
    let limits = json!({"quota": 30_000, "period": 60_000, "burst": 10_000});
    let bundle = bundle_with(lab, &["sleep"], "cpu", limits);
    let container = lab.start(&bundle);
    assert_eq!(setting(&container, "cpu.max.burst").parse(), Ok(10_000));
    drop(container.call(&["update", "--cpu-burst=20000"]).ok());
    assert_eq!(setting(&container, "cpu.max.burst").parse(), Ok(20_000));
    let bundle = bundle_with(lab, &["sleep"], "cpu", json!({"idle": 1}));
    let container = lab.start(&bundle);
    assert_eq!(setting(&container, "cpu.idle").parse(), Ok(1));
}

fn files_by_name_are_what_another_reader_finds(lab: &Lab) {
    let limits = json!({"unified": {
        "memory.high": (48 * MIB).to_string(), "memory.min": (8 * MIB).to_string(),
        "memory.oom.group": "1", "cgroup.max.descendants": "7",
    }});
    before_and_after(lab, limits.clone(), &[], |cgroup, _| {
        let memory: &MemController = cgroup.controller_of().expect("memory");
        let found = memory.get_mem().expect("the files are there");
        assert_eq!(found.high, Some(MaxValue::Value(48 * MIB)));
        assert_eq!(found.min, Some(MaxValue::Value(8 * MIB)));
    });
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.config["linux"]["resources"] = limits;
    let container = lab.create(&bundle);
    assert_eq!(setting(&container, "memory.oom.group").parse(), Ok(1));
    assert_eq!(setting(&container, "cgroup.max.descendants").parse(), Ok(7));
}

fn a_device_or_resource_that_is_not_there_is_refused_by_name(lab: &Lab) {
    let rdma = json!({"mlx5_9": {"hcaHandles": 3, "hcaObjects": 7}});
    let misc = json!({"misc.max": "sev 5"});
    for (field, value, file) in [("rdma", rdma, "rdma.max"), ("unified", misc, "misc.max")] {
        let output = lab.run(&bundle_with(lab, &["true"], field, value));
        assert!(!output.status.success(), "{output}");
        if lab.is_corten() {
            let place = format!("linux.resources.{field}[");
            assert!(output.stderr().contains(&place), "{output}");
            assert!(output.stderr().contains(file), "{output}");
        }
    }
}
