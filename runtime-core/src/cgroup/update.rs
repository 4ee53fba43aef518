//! New limits for a cgroup that is in use.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::io::Errno;

use super::settings::Absent;
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

    /// Has the kernel free what is above a new limit, so that none is killed for it.
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
        if !self.reclaim(limit, used)? {
            self.reclaim_by_high(setting)?;
        }
        match used().filter(|used| *used > limit) {
            None => Ok(()),
            Some(used) => Err(CgroupError::UsedUp {
                origin: setting.origin.clone(),
                limit,
                used,
                path: self.path().to_owned(),
            }),
        }
    }

    /// By `memory.reclaim`, which changes nothing that would stay if this is interrupted; false
    /// before Linux 5.19, which does not have it.
    fn reclaim(&self, limit: u64, used: impl Fn() -> Option<u64>) -> Result<bool, CgroupError> {
        /// The kernel tries many times itself; what runs may take more meanwhile.
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            let above = used().map_or(0, |used| used.saturating_sub(limit));
            if above == 0 {
                break;
            }
            let amount = above.to_string();
            match file::write_at(self.dir(), Path::new("memory.reclaim"), amount.as_bytes()) {
                Ok(()) => {}
                Err(Errno::NOENT) => return Ok(false),
                // It could not free all of that.
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(io("write memory.reclaim", self.path())(errno)),
            }
        }
        Ok(true)
    }

    /// By `memory.high`, at which the kernel only frees, for as long as that takes.
    fn reclaim_by_high(&self, setting: &Setting) -> Result<(), CgroupError> {
        let high = Path::new("memory.high");
        let failed = || io("write memory.high", self.path());
        let old = file::read_once_at(self.dir(), high).map_err(failed())?;
        file::write_at(self.dir(), high, setting.value.as_bytes()).map_err(failed())?;
        file::write_at(self.dir(), high, old.trim_ascii()).map_err(failed())
    }

    /// The files of these settings as they are now, the last first.
    fn before(&self, changes: &[Setting]) -> Vec<Setting> {
        let mut before: Vec<Setting> = Vec::new();
        for change in changes {
            let instead = match change.absent {
                Absent::Instead { file, .. } => Some(file),
                Absent::Fail | Absent::Fine => None,
            };
            // The one that is there is the one that is written.
            let names = [Some(change.file.as_str()), instead];
            let found = names.into_iter().flatten().find_map(|name| {
                let text = file::read_at(self.dir(), Path::new(name)).ok()?;
                Some((name, String::from_utf8_lossy(&text).trim_end().to_owned()))
            });
            let Some((name, text)) = found else { continue };
            if before.iter().any(|setting| setting.file == name) {
                continue;
            }
            let text = with_devices(name, text, changes);
            before.insert(0, Setting::new(name, text, change.origin.clone()));
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

/// A file with a line per device, with one for each that had none and gets one.
fn with_devices(file: &str, mut text: String, changes: &[Setting]) -> String {
    let none = match file {
        "io.max" => " rbps=max wbps=max riops=max wiops=max",
        "io.weight" | "io.bfq.weight" => " default",
        _ => return text,
    };
    let is_it = |setting: &&Setting| match &setting.absent {
        Absent::Instead { file: other, .. } if *other == file => true,
        _ => setting.file == file,
    };
    let changes = changes.iter().filter(is_it);
    let devices = changes.filter_map(|setting| setting.value.split(' ').next());
    for device in devices.filter(|device| device.contains(':')) {
        let has = |line: &str| line.split(' ').next() == Some(device);
        if !text.lines().any(has) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(device);
            text.push_str(none);
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
            with_devices(
                "io.max",
                "8:0 rbps=1 wbps=max riops=max wiops=max".into(),
                &changes
            ),
            "8:0 rbps=1 wbps=max riops=max wiops=max\n\
             8:16 rbps=max wbps=max riops=max wiops=max"
        );
    }

    /// A folder with these files in place of a cgroup.
    fn in_folder(name: &str, files: &[(&str, &str)], test: impl FnOnce(&Cgroup, &Path)) {
        let name = format!("corten-test-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
        test(&Cgroup::open(&path, Path::new("/")).unwrap(), &path);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn room_is_made_without_a_change_of_another_limit() {
        let files = [
            ("memory.current", "100"),
            ("memory.reclaim", ""),
            ("memory.high", "max"),
            ("memory.max", "200"),
        ];
        let setting = Setting::new("memory.max", "30", "m");
        in_folder("reclaim", &files, |cgroup, path| {
            let written = std::fs::metadata(path.join("memory.high")).unwrap();
            let error = cgroup.update(None, std::slice::from_ref(&setting));
            let error = error.unwrap_err();
            assert!(matches!(error, CgroupError::UsedUp { used: 100, .. }));
            let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
            assert_eq!(read("memory.reclaim"), "70");
            assert_eq!(read("memory.max"), "200");
            // Not even for a moment.
            let after = std::fs::metadata(path.join("memory.high")).unwrap();
            assert_eq!(after.modified().unwrap(), written.modified().unwrap());
        });
        // As before Linux 5.19.
        in_folder("no-reclaim", &files[2..], |cgroup, path| {
            std::fs::write(path.join("memory.current"), "100").unwrap();
            let error = cgroup.update(None, &[setting]).unwrap_err();
            assert!(matches!(error, CgroupError::UsedUp { .. }));
            assert_eq!(std::fs::read(path.join("memory.high")).unwrap(), b"max");
        });
    }

    #[test]
    fn what_was_written_to_another_file_instead_is_taken_back_there() {
        let read = |json: &str| Resources::parse(json.as_bytes()).unwrap();
        let limits = r#"{"blockIO": {"weight": 500,
            "weightDevice": [{"major": 8, "minor": 16, "weight": 20}]}}"#;
        let mut list = settings(&read(limits)).unwrap();
        list.push(Setting::new("pids.max", "5", "p"));
        in_folder(
            "instead",
            &[("io.weight", "default 70\n8:0 80\n")],
            |cgroup, path| {
                // The last has no file: all is taken back.
                cgroup.update(None, &list).unwrap_err();
                let before: Vec<_> = cgroup.before(&list);
                assert_eq!(before.len(), 1);
                assert_eq!(before[0].file, "io.weight");
                let text = std::fs::read_to_string(path.join("io.weight")).unwrap();
                // Each line is a write of its own to a file that is not truncated here.
                assert!(text.starts_with("8:16 default"), "{text}");
            },
        );
    }
}
