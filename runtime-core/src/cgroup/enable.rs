//! Controllers, switched on for the children of each cgroup on the way down.
//!
//! What a limit needs must be there. What else the machine offers is switched on as well
//! where that works, since statistics are read from it (runc does the same).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;

use super::settings::Setting;
use super::{CgroupError, io};
use crate::sys::file;

const CONTROL: &str = "cgroup.subtree_control";
const CONTROLLERS: &str = "cgroup.controllers";

/// Whether `cgroup` gives its children all that `settings` need, and all else that it can give.
pub(super) fn gives_all(
    cgroup: BorrowedFd<'_>,
    at: &Path,
    settings: &[Setting],
) -> Result<bool, CgroupError> {
    let enabled = words(cgroup, at, CONTROL)?;
    let mut needed = settings.iter().filter_map(Setting::needs);
    if !needed.all(|need| has(&enabled, need)) {
        return Ok(false);
    }
    let there = words(cgroup, at, CONTROLLERS)?;
    let gives_all = there.iter().all(|controller| has(&enabled, controller));
    // One with processes of its own gives no more, whatever those above it are made to give.
    Ok(gives_all || has_processes(cgroup, at)?)
}

/// Whether `cgroup` itself has all that `settings` need.
pub(super) fn has_needed(
    cgroup: BorrowedFd<'_>,
    at: &Path,
    settings: &[Setting],
) -> Result<bool, CgroupError> {
    let there = words(cgroup, at, CONTROLLERS)?;
    let mut needed = settings.iter().filter_map(Setting::needs);
    Ok(needed.all(|need| has(&there, need)))
}

/// The controllers a cgroup has, before anything is switched on below it.
pub(super) fn offered(
    cgroup: BorrowedFd<'_>,
    at: &Path,
    settings: &[Setting],
) -> Result<Vec<String>, CgroupError> {
    let offered = words(cgroup, at, CONTROLLERS)?;
    refuse_missing(&offered, at, settings)?;
    Ok(offered)
}

/// Whether the hierarchy has the controllers that `settings` need, at all.
pub(crate) fn offers(settings: &[Setting]) -> Result<(), CgroupError> {
    let at = Path::new("/");
    let root =
        file::open_dir_at(rustix::fs::CWD, Path::new(super::MOUNT)).map_err(io("open", at))?;
    offered(root.as_fd(), at, settings).map(drop)
}

/// Switches what `cgroup` offers on for its children, in one write of what is missing.
///
/// Answers with what its children have then.
pub(super) fn enable(
    cgroup: BorrowedFd<'_>,
    at: &Path,
    offered: Vec<String>,
    settings: &[Setting],
) -> Result<Vec<String>, CgroupError> {
    let mut enabled = words(cgroup, at, CONTROL)?;
    let missing: Vec<&Setting> = settings
        .iter()
        .filter(|s| s.needs().is_some_and(|need| !has(&enabled, need)))
        .collect();
    let all: Vec<String> = offered
        .into_iter()
        .filter(|controller| !has(&enabled, controller))
        .collect();
    if all.is_empty() {
        return Ok(enabled);
    }
    if has_processes(cgroup, at)? {
        return match missing.first() {
            Some(setting) => Err(cannot_enable(setting, at, Errno::BUSY)),
            None => Ok(enabled),
        };
    }
    if write(cgroup, all.iter().map(String::as_str)).is_ok() {
        enabled.extend(all);
        return Ok(enabled);
    }
    // One of them can't be had. The needed ones must; the others are tried one by one.
    if let Some(setting) = missing.first() {
        let needs = || missing.iter().filter_map(|s| s.needs());
        write(cgroup, needs()).map_err(|errno| cannot_enable(setting, at, errno))?;
        enabled.extend(needs().map(str::to_owned));
    }
    for controller in all {
        if !has(&enabled, &controller) && write(cgroup, [controller.as_str()]).is_ok() {
            enabled.push(controller);
        }
    }
    Ok(enabled)
}

/// Whether children of `cgroup` could hold no processes if a controller were switched on.
///
/// The kernel refuses that for some controllers (`EBUSY`), and for others (cpu, cpuset,
/// pids) makes the cgroup the root of a threaded subtree, where a container can't live
/// (`EOPNOTSUPP`). The true root, which alone has no type, is exempt.
fn has_processes(cgroup: BorrowedFd<'_>, at: &Path) -> Result<bool, CgroupError> {
    match file::read_once_at(cgroup, Path::new("cgroup.type")) {
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(io("read cgroup.type", at)(errno)),
        Ok(_) => {}
    }
    match file::read_once_at(cgroup, Path::new("cgroup.procs")) {
        Ok(procs) => Ok(!procs.is_empty()),
        // Threaded: only threads are listed.
        Err(Errno::OPNOTSUPP) => Ok(true),
        Err(errno) => Err(io("read cgroup.procs", at)(errno)),
    }
}

fn refuse_missing(offered: &[String], at: &Path, settings: &[Setting]) -> Result<(), CgroupError> {
    for setting in settings {
        if let Some(controller) = setting.needs().filter(|need| !has(offered, need)) {
            return Err(CgroupError::NoController {
                origin: setting.origin.clone(),
                file: setting.file.clone(),
                controller: controller.to_owned(),
                ancestor: at.to_owned(),
            });
        }
    }
    Ok(())
}

fn cannot_enable(setting: &Setting, at: &Path, errno: Errno) -> CgroupError {
    CgroupError::EnableController {
        origin: setting.origin.clone(),
        file: setting.file.clone(),
        controller: setting.needs().unwrap_or_default().to_owned(),
        ancestor: at.to_owned(),
        errno,
    }
}

fn write<'a>(
    cgroup: BorrowedFd<'_>,
    controllers: impl IntoIterator<Item = &'a str>,
) -> Result<(), Errno> {
    let mut line = String::new();
    for controller in controllers {
        line.push('+');
        line.push_str(controller);
        line.push(' ');
    }
    file::write_at(cgroup, Path::new(CONTROL), line.trim_end().as_bytes())
}

fn words(
    cgroup: BorrowedFd<'_>,
    at: &Path,
    file: &'static str,
) -> Result<Vec<String>, CgroupError> {
    let bytes = file::read_once_at(cgroup, Path::new(file)).map_err(io(read_call(file), at))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
}

fn read_call(file: &str) -> &'static str {
    match file {
        CONTROL => "read cgroup.subtree_control",
        _ => "read cgroup.controllers",
    }
}

fn has(list: &[String], controller: &str) -> bool {
    list.iter().any(|have| have == controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_switched_on_in_one_write() {
        let name = format!("corten-test-{}-enable", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        let control = path.join(CONTROL);
        std::fs::write(&control, "cpu").unwrap();
        let dir = file::open_dir_at(rustix::fs::CWD, &path).unwrap();
        let offered = ["cpu", "memory", "io"].map(str::to_owned).to_vec();
        let enabled = enable(dir.as_fd(), &path, offered.clone(), &[]).unwrap();
        assert_eq!(enabled, ["cpu", "memory", "io"]);
        // A second write would have begun where the first one did.
        assert_eq!(std::fs::read_to_string(&control).unwrap(), "+memory +io");
        std::fs::write(&control, "io cpu memory").unwrap();
        enable(dir.as_fd(), &path, offered, &[]).unwrap();
        let left = std::fs::read_to_string(&control).unwrap();
        assert_eq!(left, "io cpu memory", "nothing to write");
        std::fs::remove_dir_all(path).unwrap();
    }
}
