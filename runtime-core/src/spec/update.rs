//! `linux.resources`, read alone, and changed by others: what `update` asks for.

use super::{BlockIo, Cpu, Memory, Resources, SpecError, ThrottleDevice, WeightDevice};
use super::{default, read};

/// The kernel's own period of a CPU quota, in microseconds.
const PERIOD: u64 = 100_000;

impl Resources {
    /// Reads limits in the form that `linux.resources` has in config.json.
    ///
    /// # Errors
    /// [`SpecError::Parse`] with line, column and JSON path.
    pub fn parse(bytes: &[u8]) -> Result<Resources, SpecError> {
        read::read(bytes, |path| path)
    }

    pub(crate) fn to_json(&self) -> String {
        default::json(self)
    }

    /// These limits where `by` says nothing else. Device rules stay as they are.
    ///
    /// As in runc: a quota and its period may be given alone; no memory limit means no limit
    /// of swap either; a cgroup that becomes idle or not has no weight from before.
    pub(crate) fn updated(&self, by: &Resources) -> Resources {
        let mut new = self.clone();
        if let Some(memory) = &by.memory {
            new.memory.get_or_insert_default().update(memory);
        }
        if let Some(cpu) = &by.cpu {
            new.cpu.get_or_insert_default().update(cpu);
        }
        if let Some(limit) = by.pids.as_ref().and_then(|pids| pids.limit) {
            new.pids.get_or_insert_default().limit = Some(limit);
        }
        if let Some(io) = &by.block_io {
            new.block_io.get_or_insert_default().update(io);
        }
        merge(&mut new.hugepage_limits, &by.hugepage_limits, |a, b| {
            a.page_size == b.page_size
        });
        new.network = by.network.clone().or(new.network);
        for (device, limit) in &by.rdma {
            let known = new.rdma.entry(device.clone()).or_default();
            replace(&mut known.hca_handles, limit.hca_handles);
            replace(&mut known.hca_objects, limit.hca_objects);
        }
        let unified = by.unified.iter();
        new.unified
            .extend(unified.map(|(file, value)| (file.clone(), value.clone())));
        new
    }
}

impl Memory {
    fn update(&mut self, by: &Memory) {
        // As in config.json, 0 is not given.
        let amount = |value: Option<i64>| value.filter(|bytes| *bytes != 0);
        let (limit, swap) = (amount(by.limit), amount(by.swap));
        let unlimited = (limit == Some(-1)).then_some(-1);
        replace(&mut self.limit, limit);
        replace(&mut self.swap, swap.or(unlimited));
        replace(&mut self.reservation, amount(by.reservation));
        // Of this update only.
        self.check_before_update = by.check_before_update;
        self.swappiness = by.swappiness;
        self.disable_oom_killer = by.disable_oom_killer;
    }
}

impl Cpu {
    fn update(&mut self, by: &Cpu) {
        if by.idle.is_some() {
            self.shares = None;
        }
        replace(&mut self.shares, by.shares.filter(|shares| *shares != 0));
        // 0 is a value here: no limit, and the usual period.
        let no_limit = |quota| if quota == 0 { -1 } else { quota };
        replace(&mut self.quota, by.quota.map(no_limit));
        let usual = |period| if period == 0 { PERIOD } else { period };
        replace(&mut self.period, by.period.map(usual));
        replace(&mut self.burst, by.burst);
        replace(&mut self.idle, by.idle);
        replace(&mut self.cpus, by.cpus.clone());
        replace(&mut self.mems, by.mems.clone());
        self.realtime_runtime = by.realtime_runtime;
        self.realtime_period = by.realtime_period;
    }
}

impl BlockIo {
    fn update(&mut self, by: &BlockIo) {
        replace(&mut self.weight, by.weight.filter(|weight| *weight != 0));
        self.leaf_weight = by.leaf_weight;
        let same = |a: &WeightDevice, b: &WeightDevice| (a.major, a.minor) == (b.major, b.minor);
        merge(&mut self.weight_device, &by.weight_device, same);
        let same =
            |a: &ThrottleDevice, b: &ThrottleDevice| (a.major, a.minor) == (b.major, b.minor);
        for (list, by) in [
            (
                &mut self.throttle_read_bps_device,
                &by.throttle_read_bps_device,
            ),
            (
                &mut self.throttle_write_bps_device,
                &by.throttle_write_bps_device,
            ),
            (
                &mut self.throttle_read_iops_device,
                &by.throttle_read_iops_device,
            ),
            (
                &mut self.throttle_write_iops_device,
                &by.throttle_write_iops_device,
            ),
        ] {
            merge(list, by, same);
        }
    }
}

fn replace<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}

/// Each takes the place of the one for the same thing.
fn merge<T: Clone>(list: &mut Vec<T>, by: &[T], same: impl Fn(&T, &T) -> bool) {
    for new in by {
        match list.iter_mut().find(|old| same(old, new)) {
            Some(old) => *old = new.clone(),
            None => list.push(new.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Resources {
        Resources::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn only_what_is_given_changes() {
        for (old, by, new) in [
            ("{}", "{}", "{}"),
            (
                r#"{"memory": {"limit": 64, "swap": 96}, "pids": {"limit": 5}}"#,
                r#"{"memory": {"limit": 80}, "cpu": {"shares": 7}}"#,
                r#"{"memory": {"limit": 80, "swap": 96}, "pids": {"limit": 5}, "cpu": {"shares": 7}}"#,
            ),
            (
                r#"{"memory": {"limit": 64, "swap": 96, "reservation": 3}}"#,
                r#"{"memory": {"limit": -1, "reservation": 0}}"#,
                r#"{"memory": {"limit": -1, "swap": -1, "reservation": 3}}"#,
            ),
            (
                r#"{"cpu": {"quota": 5000, "period": 50000, "cpus": "0"}}"#,
                r#"{"cpu": {"quota": 9000, "mems": "1"}}"#,
                r#"{"cpu": {"quota": 9000, "period": 50000, "cpus": "0", "mems": "1"}}"#,
            ),
            (
                r#"{"cpu": {"quota": 5000, "period": 50000}}"#,
                r#"{"cpu": {"quota": 0, "period": 0}}"#,
                r#"{"cpu": {"quota": -1, "period": 100000}}"#,
            ),
            (
                r#"{"cpu": {"shares": 512}}"#,
                r#"{"cpu": {"idle": 1}}"#,
                r#"{"cpu": {"idle": 1}}"#,
            ),
            (
                r#"{"unified": {"memory.high": "1", "cpu.weight": "2"}, "rdma": {"a": {"hcaHandles": 3}}}"#,
                r#"{"unified": {"memory.high": "4"}, "rdma": {"a": {"hcaObjects": 5}}}"#,
                r#"{"unified": {"memory.high": "4", "cpu.weight": "2"},
                    "rdma": {"a": {"hcaHandles": 3, "hcaObjects": 5}}}"#,
            ),
            (
                r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}]}"#,
                r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 3}, {"pageSize": "64KB", "limit": 4}]}"#,
                r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 3}, {"pageSize": "1GB", "limit": 2},
                    {"pageSize": "64KB", "limit": 4}]}"#,
            ),
            (
                r#"{"blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}"#,
                r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2},
                    {"major": 8, "minor": 16, "rate": 3}]}}"#,
                r#"{"blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2},
                    {"major": 8, "minor": 16, "rate": 3}]}}"#,
            ),
        ] {
            assert_eq!(read(old).updated(&read(by)), read(new), "{old} by {by}");
        }
    }

    #[test]
    fn device_rules_stay_as_they_are() {
        let old = read(r#"{"devices": [{"allow": false, "access": "rwm"}]}"#);
        let by = read(r#"{"devices": [{"allow": true, "access": "r"}]}"#);
        assert_eq!(old.updated(&by), old);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = r#"{"memory": {"limit": 64}, "unified": {"memory.high": "max\n"}}"#;
        let limits = read(text);
        assert_eq!(read(&limits.to_json()), limits);
    }
}
