//! What each field of `linux.resources` becomes.

use super::*;
use crate::spec::{BlockIo, HugepageLimit, Rdma, ThrottleDevice, WeightDevice};

/// The settings as `file=value` lines.
fn lines(resources: &Resources) -> Vec<String> {
    let list = settings(resources).unwrap();
    list.iter()
        .map(|s| format!("{}={}", s.file, s.value))
        .collect()
}

fn refused(resources: &Resources) -> String {
    settings(resources).unwrap_err().to_string()
}

fn memory(limit: Option<i64>, reservation: Option<i64>, swap: Option<i64>) -> Resources {
    Resources {
        memory: Some(Memory {
            limit,
            reservation,
            swap,
            ..Memory::default()
        }),
        ..Resources::default()
    }
}

fn cpu(cpu: Cpu) -> Resources {
    Resources {
        cpu: Some(cpu),
        ..Resources::default()
    }
}

fn pids(limit: Option<i64>) -> Resources {
    Resources {
        pids: Some(Pids { limit }),
        ..Resources::default()
    }
}

fn disk(io: BlockIo) -> Resources {
    Resources {
        block_io: Some(io),
        ..Resources::default()
    }
}

fn unified(files: &[(&str, &str)]) -> Resources {
    Resources {
        unified: files
            .iter()
            .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
            .collect(),
        ..Resources::default()
    }
}

#[test]
fn nothing_asked_for_is_nothing_written() {
    assert!(lines(&Resources::default()).is_empty());
    // What Docker writes when nobody asked for a limit.
    assert!(lines(&memory(Some(0), Some(0), Some(0))).is_empty());
    assert!(lines(&pids(None)).is_empty());
    let zeros = Cpu {
        shares: Some(0),
        quota: Some(0),
        period: Some(0),
        ..Cpu::default()
    };
    assert!(lines(&cpu(zeros)).is_empty());
}

#[test]
fn memory_fields_become_their_files() {
    assert_eq!(
        lines(&memory(Some(1 << 20), None, None)),
        ["memory.max=1048576"]
    );
    assert_eq!(lines(&memory(None, Some(4096), None)), ["memory.low=4096"]);
    assert_eq!(lines(&memory(None, Some(-1), None)), ["memory.low=max"]);
}

#[test]
fn swap_is_what_remains_of_the_sum() {
    let both = |limit, swap| lines(&memory(Some(limit), None, Some(swap)));
    assert_eq!(both(100, 300), ["memory.swap.max=200", "memory.max=100"]);
    assert_eq!(both(100, 100), ["memory.swap.max=0", "memory.max=100"]);
    assert_eq!(both(100, -1), ["memory.swap.max=max", "memory.max=100"]);
    assert_eq!(both(-1, 300), ["memory.swap.max=300", "memory.max=max"]);
    assert_eq!(both(-1, -1), ["memory.swap.max=max", "memory.max=max"]);
    assert_eq!(both(-1, 0), ["memory.swap.max=max", "memory.max=max"]);
    assert_eq!(both(100, 0), ["memory.max=100"]);
}

#[test]
fn swap_that_contradicts_memory_is_refused_by_name() {
    assert_eq!(
        refused(&memory(None, None, Some(5))),
        "linux.resources.memory.swap: unable to set swap limit without memory limit"
    );
    assert_eq!(
        refused(&memory(Some(100), None, Some(50))),
        "linux.resources.memory.swap: 50: memory+swap limit should be >= memory limit (100)"
    );
    assert_eq!(
        refused(&memory(Some(-7), None, None)),
        "linux.resources.memory.limit: -7 is not a number of bytes"
    );
    assert!(refused(&memory(Some(-7), None, Some(5))).contains("memory.limit"));
    assert!(refused(&memory(Some(7), None, Some(-5))).contains("memory.swap"));
}

#[test]
fn only_a_setting_that_asks_for_no_limit_may_be_absent() {
    let list = settings(&memory(Some(-1), None, Some(-1))).unwrap();
    assert!(
        list.iter()
            .all(|s| s.absent == Absent::Fine && s.needs().is_none())
    );
    let list = settings(&memory(Some(1), None, Some(2))).unwrap();
    assert!(list.iter().all(|s| s.needs() == Some("memory")));
    let list = settings(&unified(&[("cgroup.max.depth", "3")])).unwrap();
    assert!(
        list.iter()
            .all(|s| s.absent == Absent::Fail && s.needs().is_none())
    );
}

#[test]
fn shares_become_weight_on_the_quadratic_curve() {
    for (shares, weight) in [
        (0, None),
        (1, Some(1)),
        (2, Some(1)),
        (1024, Some(100)),
        (262_144, Some(10_000)),
        (u64::MAX, Some(10_000)),
    ] {
        assert_eq!(cpu_weight(shares), weight, "{shares}");
    }
    let mut last = 0;
    for shares in 2..=262_144 {
        let weight = cpu_weight(shares).unwrap();
        assert!((last.max(1)..=10_000).contains(&weight), "{shares}");
        last = weight;
    }
}

#[test]
fn quota_and_period_are_one_file_and_one_alone_leaves_the_other() {
    let max = |quota, period| {
        lines(&cpu(Cpu {
            quota,
            period,
            ..Cpu::default()
        }))
    };
    assert_eq!(max(Some(50_000), Some(200_000)), ["cpu.max=50000 200000"]);
    assert_eq!(max(Some(50_000), None), ["cpu.max=50000"]);
    assert_eq!(max(None, Some(200_000)), ["cpu.max=max 200000"]);
    assert_eq!(max(Some(-1), Some(200_000)), ["cpu.max=max 200000"]);
    assert_eq!(max(Some(-1), None), ["cpu.max=max"]);
}

#[test]
fn burst_is_written_after_quota_and_cpusets_last() {
    let all = Cpu {
        shares: Some(1024),
        quota: Some(50_000),
        burst: Some(10_000),
        idle: Some(0),
        cpus: Some("0-1".into()),
        mems: Some("0".into()),
        ..Cpu::default()
    };
    let list = settings(&cpu(all)).unwrap();
    let files: Vec<&str> = list.iter().map(|s| s.file.as_str()).collect();
    assert_eq!(
        files,
        [
            "cpu.idle",
            "cpu.weight",
            "cpu.max",
            "cpu.max.burst",
            "cpuset.cpus",
            "cpuset.mems"
        ]
    );
    assert_eq!(list[5].origin, "linux.resources.cpu.mems");
    assert_eq!(list[5].needs(), Some("cpuset"));
}

#[test]
fn an_idle_cgroup_with_a_weight_is_refused_wherever_they_come_from() {
    let mut both = cpu(Cpu {
        shares: Some(512),
        idle: Some(1),
        ..Cpu::default()
    });
    assert_eq!(
        refused(&both),
        "linux.resources.cpu.shares and linux.resources.cpu.idle: unable to apply both: \
         an idle cgroup has no weight"
    );
    both.unified.insert("cpu.idle".into(), "0".into());
    assert_eq!(lines(&both), ["cpu.idle=0", "cpu.weight=59"]);
    let both = unified(&[("cpu.idle", "1"), ("cpu.weight.nice", "3")]);
    assert!(refused(&both).contains("unable to apply both"));
    let odd = Cpu {
        idle: Some(2),
        ..Cpu::default()
    };
    assert_eq!(
        refused(&cpu(odd)),
        "linux.resources.cpu.idle: 2 is neither 0 nor 1"
    );
}

#[test]
fn pids_limit_zero_is_one_and_negative_is_max() {
    assert_eq!(lines(&pids(Some(42))), ["pids.max=42"]);
    assert_eq!(lines(&pids(Some(0))), ["pids.max=1"]);
    assert_eq!(lines(&pids(Some(-1))), ["pids.max=max"]);
}

#[test]
fn unified_wins_over_the_field_for_the_same_file() {
    let mut resources = memory(Some(1000), None, None);
    resources.unified.insert("memory.max".into(), "2000".into());
    resources
        .unified
        .insert("memory.high".into(), "1500".into());
    assert_eq!(lines(&resources), ["memory.max=2000", "memory.high=1500"]);
    let list = settings(&resources).unwrap();
    assert_eq!(list[0].origin, "linux.resources.unified[\"memory.max\"]");
}

#[test]
fn a_unified_key_that_is_no_limit_is_refused() {
    for (key, why) in [
        ("a/memory.max", "must be a file name (no slashes)"),
        ("memory", "must be in the form CONTROLLER.PARAMETER"),
        ("..", "must be in the form CONTROLLER.PARAMETER"),
        ("memory.", "must be in the form CONTROLLER.PARAMETER"),
        ("cgroup.procs", "is written by the runtime only"),
        ("cgroup.freeze", "is written by the runtime only"),
    ] {
        let text = refused(&unified(&[(key, "1")]));
        assert_eq!(text, format!("linux.resources.unified[{key:?}]: {why}"));
    }
}

#[test]
fn a_disk_weight_is_bfqs_or_the_other_one() {
    let io = BlockIo {
        weight: Some(500),
        weight_device: vec![WeightDevice {
            major: 8,
            minor: 16,
            weight: Some(10),
            leaf_weight: None,
        }],
        ..BlockIo::default()
    };
    let list = settings(&disk(io)).unwrap();
    let shown: Vec<String> = list.iter().map(Setting::to_string).collect();
    assert_eq!(
        shown,
        [
            "write 500 to io.bfq.weight, without that file 4950 to io.weight",
            "write 8:16 10 to io.bfq.weight, without that file 8:16 1 to io.weight",
        ]
    );
    assert_eq!(list[1].origin, "linux.resources.blockIO.weightDevice[0]");
    assert_eq!(list[0].needs(), Some("io"));
    let ends = [(1000, 10_000), (0, 1)].map(|(weight, expected)| {
        let io = BlockIo {
            weight: Some(weight),
            ..BlockIo::default()
        };
        let list = settings(&disk(io)).unwrap();
        (list.first().map(|s| s.absent.clone()), expected)
    });
    let (file, value) = ("io.weight", ends[0].1.to_string());
    assert_eq!(ends[0].0, Some(Absent::Instead { file, value }));
    // 0 is what engines write when nobody asked for a weight.
    assert_eq!(ends[1].0, None);
}

#[test]
fn each_throttle_is_a_line_of_io_max_and_zero_is_no_limit() {
    let device = |major, minor, rate| vec![ThrottleDevice { major, minor, rate }];
    let io = BlockIo {
        throttle_read_bps_device: device(8, 0, 1),
        throttle_write_bps_device: device(8, 1, 2),
        throttle_read_iops_device: device(259, 0, 3),
        throttle_write_iops_device: device(8, 0, 0),
        ..BlockIo::default()
    };
    let mut resources = disk(io);
    assert_eq!(
        lines(&resources),
        [
            "io.max=8:0 rbps=1",
            "io.max=8:1 wbps=2",
            "io.max=259:0 riops=3",
            "io.max=8:0 wiops=max",
        ]
    );
    let origin = "linux.resources.blockIO.throttleWriteIOPSDevice[0]";
    assert_eq!(settings(&resources).unwrap()[3].origin, origin);
    resources
        .unified
        .insert("io.max".into(), "8:0 rbps=9".into());
    assert_eq!(lines(&resources), ["io.max=8:0 rbps=9"]);
}

#[test]
fn huge_pages_are_limited_in_use_and_when_reserved() {
    let resources = Resources {
        hugepage_limits: vec![HugepageLimit {
            page_size: "2MB".into(),
            limit: 4_194_304,
        }],
        ..Resources::default()
    };
    let list = settings(&resources).unwrap();
    assert_eq!(
        lines(&resources),
        ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"]
    );
    assert_eq!(list[0].needs(), Some("hugetlb"));
    // The kernel has it since 5.7.
    assert_eq!(list[1].absent, Absent::Fine);
}

#[test]
fn rdma_limits_are_one_line_per_device_with_what_is_given() {
    let limit = |handles, objects| Rdma {
        hca_handles: handles,
        hca_objects: objects,
    };
    let rdma = |devices: &[(&str, Rdma)]| Resources {
        rdma: devices
            .iter()
            .map(|(name, limit)| ((*name).to_owned(), limit.clone()))
            .collect(),
        ..Resources::default()
    };
    let resources = rdma(&[
        ("mlx4_0", limit(Some(3), Some(10_000))),
        ("mlx5_1", limit(None, Some(7))),
        ("mlx6_0", limit(None, None)),
    ]);
    assert_eq!(
        lines(&resources),
        [
            "rdma.max=mlx4_0 hca_handle=3 hca_object=10000",
            "rdma.max=mlx5_1 hca_object=7",
        ]
    );
    for name in ["", "a b", "a\nb"] {
        let resources = rdma(&[(name, limit(Some(1), None))]);
        let text = refused(&resources);
        assert!(
            text.starts_with(&format!("linux.resources.rdma[{name:?}]: ")),
            "{text}"
        );
    }
}

#[test]
fn a_memory_limit_is_checked_against_what_is_used_only_on_request() {
    let with = |limit, check| {
        let mut resources = memory(Some(limit), None, None);
        resources.memory.as_mut().unwrap().check_before_update = check;
        settings(&resources).unwrap()[0].above
    };
    assert_eq!(with(4096, Some(true)), Some("memory.current"));
    assert_eq!(with(4096, Some(false)), None);
    assert_eq!(with(4096, None), None);
}

#[test]
fn what_is_written_is_what_another_reader_finds_in_it() {
    use corten_conformance::cgroup_files::{flat_keyed, nested_keyed};
    let resources = Resources::parse(
        br#"{"rdma": {"mlx4_0": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx5_1": {"hcaObjects": 7}},
            "unified": {"misc.max": "sev 5\nsev_es 6"},
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 5}],
                        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 6},
                                                    {"major": 8, "minor": 0, "rate": 0}]}}"#,
    );
    let list = settings(&resources.unwrap()).unwrap();
    let text = |file: &str| {
        let values = list.iter().filter(|setting| setting.file == file);
        let values: Vec<_> = values.map(|setting| setting.value.as_str()).collect();
        values.join("\n")
    };
    let rdma = nested_keyed(&text("rdma.max")).unwrap();
    assert_eq!(rdma["mlx4_0"]["hca_handle"], "3");
    assert_eq!(rdma["mlx4_0"]["hca_object"], "10000");
    assert_eq!(rdma["mlx5_1"]["hca_object"], "7");
    assert_eq!((rdma.len(), rdma["mlx5_1"].len()), (2, 1));
    let io = nested_keyed(&text("io.max")).unwrap();
    assert_eq!(io["8:16"]["rbps"], "5");
    assert_eq!(io["8:16"]["wiops"], "6");
    assert_eq!(io["8:0"]["wiops"], "max");
    let misc = flat_keyed(&text("misc.max")).unwrap();
    assert_eq!((misc["sev"].as_str(), misc["sev_es"].as_str()), ("5", "6"));
}
