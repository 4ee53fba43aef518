//! New limits for a cgroup that is in use.

use std::collections::BTreeSet;
use std::path::Path;

use super::systemd::{self, Unit};
use super::{Cgroup, CgroupError, Setting, io, settings};
use crate::spec::{Memory, Resources};
use crate::sys::file;

/// What has to be written so that the limits become `new`, which is `old` changed by `by`.
/// What `by` gives is written also where it is no change: somebody else may have written.
pub(crate) fn changes(
    old: &Resources,
    by: &Resources,
    new: &mut Resources,
) -> Result<Vec<Setting>, CgroupError> {
    let given = files(by);
    // A file that is written by name, and now by a field: the field is newer.
    new.unified
        .retain(|file, _| by.unified.contains_key(file) || !given.contains(file));
    let old = settings(old)?;
    let mut list = settings(new)?;
    // An idle cgroup that is none any more has the usual weight again, whatever it had.
    let idle = |list: &[Setting]| list.iter().any(|s| s.file == "cpu.idle" && s.value == "1");
    let awake = idle(&old) && !idle(&list);
    let same = |a: &Setting, b: &Setting| (&a.file, &a.value) == (&b.file, &b.value);
    list.retain(|setting| {
        given.contains(&setting.file)
            || (awake && setting.file == "cpu.weight")
            || !old.iter().any(|old| same(old, setting))
    });
    Ok(list)
}

/// The files that these limits are about, wrong or not.
fn files(by: &Resources) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut add = |condition: bool, file: &str| {
        if condition {
            files.insert(file.to_owned());
        }
    };
    // Swap means nothing without a limit, which may be an old one.
    if let Some(memory) = &by.memory {
        let Memory {
            limit,
            swap,
            reservation,
            ..
        } = memory;
        let given = |value: &Option<i64>| value.is_some_and(|bytes| bytes != 0);
        add(given(limit), "memory.max");
        add(given(limit) || given(swap), "memory.swap.max");
        add(given(reservation), "memory.low");
    }
    let rest = Resources {
        memory: None,
        ..by.clone()
    };
    // What is wrong in itself is wrong in the new limits too, and told there.
    let rest = settings(&rest).unwrap_or_default();
    files.extend(rest.into_iter().map(|setting| setting.file));
    files
}

impl Cgroup {
    /// Writes new limits, all or none: after an error the old ones hold. They are the
    /// answer, for [`Self::restore`].
    ///
    /// A memory limit below what is in use is refused if the kernel can't free enough:
    /// it would kill instead.
    pub(crate) fn update(
        &self,
        unit: Option<&Unit>,
        changes: &[Setting],
    ) -> Result<Vec<Setting>, CgroupError> {
        for setting in changes {
            self.make_room(setting)?;
        }
        let before = self.before(changes);
        let written = match unit {
            // First: systemd writes the files from what it knows, and then they are made exact.
            Some(unit) => systemd::set(unit, systemd::of_settings(changes)),
            None => Ok(()),
        };
        let written = written.and_then(|()| self.apply(changes));
        match written {
            Ok(()) => Ok(before),
            Err(error) => {
                self.restore(unit, &before);
                Err(error)
            }
        }
    }

    /// Has the kernel free what is above a new limit, by `memory.high`, at which it only frees.
    fn make_room(&self, setting: &Setting) -> Result<(), CgroupError> {
        let limit = match setting.value.trim().parse::<u64>() {
            Ok(limit) if setting.file == "memory.max" && setting.above.is_none() => limit,
            _ => return Ok(()),
        };
        let used = || {
            let bytes = file::read_once_at(self.dir(), Path::new("memory.current")).ok()?;
            str::from_utf8(&bytes).ok()?.trim().parse::<u64>().ok()
        };
        // What can't be read has nothing to say against the limit.
        if used().is_none_or(|used| used <= limit) {
            return Ok(());
        }
        let high = Path::new("memory.high");
        let failed = || io("write memory.high", self.path());
        let old = file::read_once_at(self.dir(), high).map_err(failed())?;
        file::write_at(self.dir(), high, setting.value.as_bytes()).map_err(failed())?;
        let left = used();
        file::write_at(self.dir(), high, old.trim_ascii()).map_err(failed())?;
        match left.filter(|used| *used > limit) {
            None => Ok(()),
            Some(used) => Err(CgroupError::UsedUp {
                origin: setting.origin.clone(),
                limit,
                used,
                path: self.path().to_owned(),
            }),
        }
    }

    /// The files of these settings as they are now, the last first.
    fn before(&self, changes: &[Setting]) -> Vec<Setting> {
        let mut before: Vec<Setting> = Vec::new();
        for change in changes {
            if before.iter().any(|setting| setting.file == change.file) {
                continue;
            }
            let text = file::read_at(self.dir(), Path::new(&change.file));
            let Ok(text) = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) else {
                continue;
            };
            let mut text = text.trim_end().to_owned();
            if change.file == "io.max" {
                text = with_unlimited(text, changes);
            }
            let origin = change.origin.clone();
            before.insert(0, Setting::new(change.file.clone(), text, origin));
        }
        before
    }

    /// Writes limits of before again; what fails is told in the log.
    pub(crate) fn restore(&self, unit: Option<&Unit>, before: &[Setting]) {
        let told = unit.map_or(Ok(()), |unit| {
            systemd::set(unit, systemd::of_settings(before))
        });
        if let Err(error) = told {
            log::warn!("not taken back: {error}");
        }
        for setting in before {
            if let Err(error) = self.apply(std::slice::from_ref(setting)) {
                log::warn!("not taken back: {error}");
            }
        }
    }
}

/// `io.max` with a line for each device that had no limit and gets one.
fn with_unlimited(mut text: String, changes: &[Setting]) -> String {
    let changes = changes.iter().filter(|setting| setting.file == "io.max");
    for device in changes.filter_map(|setting| setting.value.split(' ').next()) {
        let has = |line: &str| line.split(' ').next() == Some(device);
        if !text.lines().any(has) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(device);
            text.push_str(" rbps=max wbps=max riops=max wiops=max");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(old: &str, by: &str) -> Vec<String> {
        let read = |json: &str| Resources::parse(json.as_bytes()).unwrap();
        let (old, by) = (read(old), read(by));
        let mut new = old.updated(&by);
        let changes = changes(&old, &by, &mut new).unwrap();
        let show = |setting: Setting| format!("{} {}", setting.file, setting.value);
        changes.into_iter().map(show).collect()
    }

    #[test]
    fn what_is_given_is_written_and_what_follows_from_it() {
        const OLD: &str = r#"{"memory": {"limit": 64, "swap": 96}, "pids": {"limit": 5},
            "cpu": {"quota": 5000, "period": 50000, "shares": 262144}}"#;
        for (old, by, expected) in [
            (OLD, "{}", &[][..]),
            (OLD, r#"{"pids": {"limit": 5}}"#, &["pids.max 5"]),
            (
                OLD,
                r#"{"memory": {"limit": 80}}"#,
                &["memory.swap.max 16", "memory.max 80"],
            ),
            (OLD, r#"{"memory": {"swap": 64}}"#, &["memory.swap.max 0"]),
            (
                OLD,
                r#"{"memory": {"limit": -1}}"#,
                &["memory.swap.max max", "memory.max max"],
            ),
            (
                OLD,
                r#"{"cpu": {"period": 100000}}"#,
                &["cpu.max 5000 100000"],
            ),
            (OLD, r#"{"cpu": {"quota": -1}}"#, &["cpu.max max 50000"]),
            (OLD, r#"{"cpu": {"idle": 1}}"#, &["cpu.idle 1"]),
            (
                r#"{"cpu": {"idle": 1}}"#,
                r#"{"cpu": {"idle": 0}}"#,
                &["cpu.idle 0"],
            ),
            (
                r#"{"unified": {"memory.max": "5", "pids.max": "7"}}"#,
                r#"{"memory": {"limit": 6}}"#,
                &["memory.max 6"],
            ),
        ] {
            assert_eq!(written(old, by), expected, "{by}");
        }
    }

    #[test]
    fn a_file_that_a_field_gives_is_no_longer_written_by_name() {
        let read = |json: &str| Resources::parse(json.as_bytes()).unwrap();
        let (old, by) = (
            read(r#"{"unified": {"memory.max": "5", "pids.max": "7"}}"#),
            read(r#"{"memory": {"limit": 6}}"#),
        );
        let mut new = old.updated(&by);
        changes(&old, &by, &mut new).unwrap();
        assert_eq!(new.unified.keys().collect::<Vec<_>>(), ["pids.max"]);
    }

    #[test]
    fn devices_without_a_limit_are_unlimited_again() {
        let changes = [
            Setting::new("io.max", "8:0 rbps=5", "a"),
            Setting::new("io.max", "8:16 rbps=5", "b"),
            Setting::new("io.max", "8:16 wbps=5", "c"),
        ];
        assert_eq!(
            with_unlimited("8:0 rbps=1 wbps=max riops=max wiops=max".into(), &changes),
            "8:0 rbps=1 wbps=max riops=max wiops=max\n\
             8:16 rbps=max wbps=max riops=max wiops=max"
        );
    }
}
