//! Limits as another program reads them back: the crate `cgroups-rs`, which shares no code
//! with any of the runtimes. It knows no rates of disks and no rdma.

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
use crate::check::Need::Controller;
use crate::check::checks;
use crate::lab::{Container, Lab};

checks!("readback":
    memory_is_what_another_reader_finds [Controller("memory")],
    tasks_are_what_another_reader_finds [Controller("pids")],
    cpu_time_is_what_another_reader_finds [Controller("cpu")],
    processors_are_what_another_reader_finds [Controller("cpuset")],
    huge_pages_are_what_another_reader_finds [Controller("hugetlb")],
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
}
