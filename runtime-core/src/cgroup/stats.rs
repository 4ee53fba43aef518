//! What a cgroup has used, in the shape that engines know from runc's `events`.
//!
//! Times are in nanoseconds, amounts in bytes; a number that the kernel does not tell is 0.
//! The files are described in the kernel's admin-guide/cgroup-v2 and accounting/psi.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::io::Errno;
use serde::Serialize;

use super::fs::value_of;
use super::{Cgroup, CgroupError, io};
use crate::sys::file;

/// What a container has used and may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// `cpu.stat`.
    pub cpu: CpuStats,
    /// The `memory` controller.
    pub memory: MemoryStats,
    /// The `pids` controller.
    pub pids: PidsStats,
    /// `io.stat`.
    pub blkio: BlkioStats,
    /// The `hugetlb` controller, by page size as `2MB`.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
}

/// CPU time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CpuStats {
    /// Time used.
    pub usage: CpuUsage,
    /// Time withheld by a quota.
    pub throttling: Throttling,
    /// Time lost by waiting for a CPU; none where the kernel does not measure it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<PressureStats>,
}

/// CPU time used, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// In user space.
    pub user: u64,
}

/// What a CPU quota has withheld.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Throttling {
    /// Periods in which something ran.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Periods that ended throttled.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Time withheld, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory without swap.
    pub usage: MemoryEntry,
    /// Memory and swap together, as with cgroup v1.
    pub swap: MemoryEntry,
    /// Memory of the kernel; it has no limit of its own.
    pub kernel: MemoryEntry,
    /// Buffers of sockets; they have no limit of their own.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat` as it is.
    pub raw: BTreeMap<String, u64>,
    /// `memory.events` as it is: how often limits were met, and what was killed for it.
    #[serde(skip)]
    pub events: BTreeMap<String, u64>,
    /// Time lost by waiting for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<PressureStats>,
}

/// One kind of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryEntry {
    /// The limit; `u64::MAX` is none.
    pub limit: u64,
    /// In use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that was in use at once (Linux 5.19; swap 6.5).
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PidsStats {
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// How many there may be; 0 is any number.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BlkioStats {
    /// Bytes by device and direction.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations by device and direction.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Time lost by waiting for disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<PressureStats>,
}

/// A number of one device and direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BlkioEntry {
    /// Major number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read` or `Write`.
    pub op: &'static str,
    /// The number.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HugetlbStats {
    /// In use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Time in which some tasks, or all, could not go on for want of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PressureStats {
    /// At least one task.
    pub some: Pressure,
    /// All tasks at once.
    pub full: Pressure,
}

/// Shares of time in percent, over the last seconds, and the sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pressure {
    /// Over 10 s.
    pub avg10: f64,
    /// Over 60 s.
    pub avg60: f64,
    /// Over 300 s.
    pub avg300: f64,
    /// Since the beginning, in microseconds.
    pub total: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Cgroup {
    /// What the cgroup and all below it have used. Controllers that are not enabled, and
    /// files that this kernel lacks, leave their numbers at 0.
    pub(crate) fn stats(&self) -> Result<Stats, CgroupError> {
        let files = Files(self);
        Ok(Stats {
            cpu: cpu(&files)?,
            memory: memory(&files)?,
            pids: PidsStats {
                current: tasks(&files)?,
                limit: files
                    .number("pids.max")
                    .map(|max| if max == u64::MAX { 0 } else { max })?,
            },
            blkio: blkio(&files)?,
            hugetlb: hugetlb(&files)?,
        })
    }
}

/// Reads the files of a cgroup.
struct Files<'a>(&'a Cgroup);

impl Files<'_> {
    /// The text of a file; empty where there is none.
    fn text(&self, name: &str) -> Result<String, CgroupError> {
        match file::read_at(self.0.dir(), Path::new(name)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            // PSI that is switched off at boot answers EOPNOTSUPP.
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(String::new()),
            Err(errno) => Err(io("read the statistics of", self.0.path())(errno)),
        }
    }

    /// A file with one number; `max` is the greatest.
    fn number(&self, name: &str) -> Result<u64, CgroupError> {
        let text = self.text(name)?;
        Ok(match text.trim() {
            "max" => u64::MAX,
            number => number.parse().unwrap_or(0),
        })
    }

    /// A file with a line for each name and its number.
    fn flat(&self, name: &str) -> Result<BTreeMap<String, u64>, CgroupError> {
        let text = self.text(name)?;
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines
            .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
            .collect())
    }

    fn pressure(&self, name: &str) -> Result<Option<PressureStats>, CgroupError> {
        Ok(pressure(&self.text(name)?))
    }
}

/// Without the controller: how many processes there are.
fn tasks(files: &Files<'_>) -> Result<u64, CgroupError> {
    let text = files.text("pids.current")?;
    Ok(match text.trim().parse() {
        Ok(tasks) => tasks,
        Err(_) => u64::try_from(files.0.procs()?.len()).unwrap_or(u64::MAX),
    })
}

fn cpu(files: &Files<'_>) -> Result<CpuStats, CgroupError> {
    let stat = files.text("cpu.stat")?;
    let value = |key| value_of(stat.as_bytes(), key).unwrap_or(0);
    let nanoseconds = |key| value(key).saturating_mul(1000);
    Ok(CpuStats {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
        },
        throttling: Throttling {
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
        psi: files.pressure("cpu.pressure")?,
    })
}

fn memory(files: &Files<'_>) -> Result<MemoryStats, CgroupError> {
    let (raw, events) = (files.flat("memory.stat")?, files.flat("memory.events")?);
    let of = |key: &str| raw.get(key).copied().unwrap_or(0);
    let failures = |name, key| Ok(value_of(files.text(name)?.as_bytes(), key).unwrap_or(0));
    let usage = MemoryEntry {
        limit: files.number("memory.max")?,
        usage: files.number("memory.current")?,
        max: files.number("memory.peak")?,
        failcnt: events.get("max").copied().unwrap_or(0),
    };
    let swap = MemoryEntry {
        limit: usage.limit.saturating_add(files.number("memory.swap.max")?),
        usage: usage
            .usage
            .saturating_add(files.number("memory.swap.current")?),
        max: 0,
        failcnt: failures("memory.swap.events", "max")?,
    };
    let unlimited = |usage| MemoryEntry {
        limit: u64::MAX,
        usage,
        ..MemoryEntry::default()
    };
    Ok(MemoryStats {
        cache: of("file"),
        usage,
        swap,
        kernel: unlimited(of("kernel")),
        kernel_tcp: unlimited(of("sock")),
        psi: files.pressure("memory.pressure")?,
        raw,
        events,
    })
}

fn blkio(files: &Files<'_>) -> Result<BlkioStats, CgroupError> {
    let mut stats = BlkioStats {
        psi: files.pressure("io.pressure")?,
        ..BlkioStats::default()
    };
    let text = files.text("io.stat")?;
    for (device, values) in text.lines().filter_map(|line| line.split_once(' ')) {
        let Some((major, minor)) = device
            .split_once(':')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        else {
            continue;
        };
        for (key, value) in values.split(' ').filter_map(|pair| pair.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut stats.io_service_bytes_recursive, "Write"),
                "rios" => (&mut stats.io_serviced_recursive, "Read"),
                "wios" => (&mut stats.io_serviced_recursive, "Write"),
                // Discards have no name in this format.
                _ => continue,
            };
            list.push(BlkioEntry {
                major,
                minor,
                op,
                value: value.parse().unwrap_or(0),
            });
        }
    }
    Ok(stats)
}

fn hugetlb(files: &Files<'_>) -> Result<BTreeMap<String, HugetlbStats>, CgroupError> {
    let names = file::read_dir_names(files.0.dir());
    let names = names.map_err(io("list", files.0.path()))?;
    let sizes = names.iter().filter_map(|name| {
        let name = name.to_str()?.strip_prefix("hugetlb.")?;
        let size = name.strip_suffix(".current")?;
        (!size.contains('.')).then_some(size)
    });
    let mut all = BTreeMap::new();
    for size in sizes {
        let events = files.text(&format!("hugetlb.{size}.events"))?;
        let stats = HugetlbStats {
            usage: files.number(&format!("hugetlb.{size}.current"))?,
            failcnt: value_of(events.as_bytes(), "max").unwrap_or(0),
        };
        all.insert(size.to_owned(), stats);
    }
    Ok(all)
}

/// Lines as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; none where nothing is measured.
fn pressure(text: &str) -> Option<PressureStats> {
    let line = |word: &str| {
        let values = text
            .lines()
            .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))?;
        let value = |key: &str| {
            let mut pairs = values.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(name, value)| (name == key).then_some(value))
        };
        let share = |key| value(key)?.parse().ok();
        Some(Pressure {
            avg10: share("avg10")?,
            avg60: share("avg60")?,
            avg300: share("avg300")?,
            total: value("total")?.parse().ok()?,
        })
    };
    Some(PressureStats {
        some: line("some")?,
        // Before Linux 5.13 there was none for the CPU.
        full: line("full").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_with_and_without_a_full_line() {
        let some = "some avg10=0.12 avg60=3.40 avg300=100.00 total=987654\n";
        let both = format!("{some}full avg10=0.00 avg60=0.01 avg300=0.02 total=7\n");
        let expected = Pressure {
            avg10: 0.12,
            avg60: 3.4,
            avg300: 100.0,
            total: 987_654,
        };
        let full = Pressure {
            avg10: 0.0,
            avg60: 0.01,
            avg300: 0.02,
            total: 7,
        };
        let read = |text: &str| pressure(text).unwrap();
        assert_eq!((read(&both).some, read(&both).full), (expected, full));
        assert_eq!(read(some).full, Pressure::default());
        for nothing in ["", "some\n", "some avg10=x avg60=0 avg300=0 total=1\n"] {
            assert_eq!(pressure(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn the_keys_are_those_of_runcs_events() {
        let stats = Stats {
            blkio: BlkioStats {
                io_serviced_recursive: vec![BlkioEntry {
                    major: 8,
                    minor: 0,
                    op: "Read",
                    value: 3,
                }],
                ..BlkioStats::default()
            },
            hugetlb: BTreeMap::from([("2MB".to_owned(), HugetlbStats::default())]),
            ..Stats::default()
        };
        let expected = serde_json::json!({
            "cpu": { "usage": { "total": 0, "kernel": 0, "user": 0 }, "throttling": {} },
            "memory": {
                "usage": { "limit": 0, "failcnt": 0 }, "swap": { "limit": 0, "failcnt": 0 },
                "kernel": { "limit": 0, "failcnt": 0 }, "kernelTCP": { "limit": 0, "failcnt": 0 },
                "raw": {},
            },
            "pids": {},
            "blkio": { "ioServicedRecursive": [{ "major": 8, "op": "Read", "value": 3 }] },
            "hugetlb": { "2MB": { "failcnt": 0 } },
        });
        assert_eq!(serde_json::to_value(stats).unwrap(), expected);
    }
}
