//! What a container uses, in containerd's message.

use std::collections::BTreeMap;

use corten_core::Container;
use corten_core::stats::{BlkioEntry, MemoryStats, PressureStats, Stats};

use crate::proto::Any;
use crate::proto::stats::{
    CpuStat, HugeTlbStat, IoEntry, IoStat, MemoryEvents, MemoryStat, Metrics, PidsStat, PsiData,
    PsiStats,
};

/// Times of the library are in nanoseconds, those of the message in microseconds.
const NANOS: u64 = 1000;

/// What a container uses now.
pub(crate) fn packed(container: &Container) -> Result<Any, corten_core::Error> {
    let metrics = metrics(&container.stats()?);
    Ok(Any::pack("io.containerd.cgroups.v2.Metrics", &metrics))
}

fn metrics(stats: &Stats) -> Metrics {
    let cpu = &stats.cpu;
    let hugetlb = stats.hugetlb.iter().map(|(size, used)| HugeTlbStat {
        current: used.usage,
        max: 0,
        pagesize: size.clone(),
        failcnt: used.failcnt,
    });
    Metrics {
        pids: Some(PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
        }),
        cpu: Some(CpuStat {
            usage_usec: cpu.usage.total / NANOS,
            user_usec: cpu.usage.user / NANOS,
            system_usec: cpu.usage.kernel / NANOS,
            nr_periods: cpu.throttling.periods,
            nr_throttled: cpu.throttling.throttled_periods,
            throttled_usec: cpu.throttling.throttled_time / NANOS,
            psi: cpu.psi.as_ref().map(pressure),
            ..CpuStat::default()
        }),
        memory: Some(memory(&stats.memory)),
        rdma: None,
        io: Some(IoStat {
            usage: io(
                &stats.blkio.io_service_bytes_recursive,
                &stats.blkio.io_serviced_recursive,
            ),
            psi: stats.blkio.psi.as_ref().map(pressure),
        }),
        hugetlb: hugetlb.collect(),
        memory_events: memory_events(&stats.memory.events),
    }
}

fn memory(memory: &MemoryStats) -> MemoryStat {
    let raw = |name: &str| memory.raw.get(name).copied().unwrap_or_default();
    MemoryStat {
        anon: raw("anon"),
        file: raw("file"),
        kernel_stack: raw("kernel_stack"),
        slab: raw("slab"),
        sock: raw("sock"),
        shmem: raw("shmem"),
        file_mapped: raw("file_mapped"),
        file_dirty: raw("file_dirty"),
        file_writeback: raw("file_writeback"),
        anon_thp: raw("anon_thp"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        slab_reclaimable: raw("slab_reclaimable"),
        slab_unreclaimable: raw("slab_unreclaimable"),
        pgfault: raw("pgfault"),
        pgmajfault: raw("pgmajfault"),
        workingset_refault: raw("workingset_refault"),
        workingset_activate: raw("workingset_activate"),
        workingset_nodereclaim: raw("workingset_nodereclaim"),
        pgrefill: raw("pgrefill"),
        pgscan: raw("pgscan"),
        pgsteal: raw("pgsteal"),
        pgactivate: raw("pgactivate"),
        pgdeactivate: raw("pgdeactivate"),
        pglazyfree: raw("pglazyfree"),
        pglazyfreed: raw("pglazyfreed"),
        thp_fault_alloc: raw("thp_fault_alloc"),
        thp_collapse_alloc: raw("thp_collapse_alloc"),
        usage: memory.usage.usage,
        usage_limit: memory.usage.limit,
        // The library counts swap with memory, as cgroup v1 did.
        swap_usage: memory.swap.usage.saturating_sub(memory.usage.usage),
        swap_limit: swap_limit(memory),
        max_usage: memory.usage.max,
        swap_max_usage: memory.swap.max.saturating_sub(memory.usage.max),
        psi: memory.psi.as_ref().map(pressure),
    }
}

fn swap_limit(memory: &MemoryStats) -> u64 {
    match memory.swap.limit {
        u64::MAX => u64::MAX,
        limit => limit.saturating_sub(memory.usage.limit),
    }
}

/// `memory.events`; none without memory controller.
fn memory_events(events: &BTreeMap<String, u64>) -> Option<MemoryEvents> {
    let of = |name: &str| events.get(name).copied().unwrap_or(0);
    (!events.is_empty()).then(|| MemoryEvents {
        low: of("low"),
        high: of("high"),
        max: of("max"),
        oom: of("oom"),
        oom_kill: of("oom_kill"),
        oom_group_kill: of("oom_group_kill"),
    })
}

/// One entry for a device, from one for each device and direction.
fn io(bytes: &[BlkioEntry], operations: &[BlkioEntry]) -> Vec<IoEntry> {
    let mut devices = BTreeMap::<(u64, u64), IoEntry>::new();
    for (entries, count_bytes) in [(bytes, true), (operations, false)] {
        for entry in entries {
            let device = devices.entry((entry.major, entry.minor)).or_default();
            device.major = entry.major;
            device.minor = entry.minor;
            let number = match (entry.op.to_ascii_lowercase().as_str(), count_bytes) {
                ("read", true) => &mut device.rbytes,
                ("write", true) => &mut device.wbytes,
                ("read", false) => &mut device.rios,
                ("write", false) => &mut device.wios,
                _ => continue,
            };
            *number = entry.value;
        }
    }
    devices.into_values().collect()
}

fn pressure(stats: &PressureStats) -> PsiStats {
    let data = |part: &corten_core::stats::Pressure| {
        Some(PsiData {
            avg10: part.avg10,
            avg60: part.avg60,
            avg300: part.avg300,
            total: part.total,
        })
    };
    PsiStats {
        some: data(&stats.some),
        full: data(&stats.full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_memory_are_those_of_the_statistics() {
        let mut stats = Stats::default();
        assert_eq!(metrics(&stats).memory_events, None);
        let kills = [("oom_kill".to_owned(), 3), ("max".to_owned(), 7)];
        stats.memory.events = kills.into();
        let events = metrics(&stats).memory_events.unwrap();
        assert_eq!((events.oom_kill, events.max, events.oom), (3, 7, 0));
    }
}
