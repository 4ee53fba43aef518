//! Groups of resctrl: shares of the cache and of the memory's bandwidth.
//!
//! See the kernel's Documentation/filesystems/resctrl.rst. A directory at the root of the
//! file system is a class of service; the kernel fills it, and takes what it put there
//! along with it. Its `schemata` has a line for each resource, as `L3:0=ff;1=ff`, and a pid
//! that is written to `tasks` moves that one task, whose later children go with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::plan::{Group, Ownership};
use crate::sys::{call, file};

/// How often, and after which pause each, another look is taken at a class that differs.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// Why a group can't be had: the object, and the cause.
type Refusal = String;

impl Group {
    /// Makes what has to be made. What of it is to be removed again is put into `made`.
    pub(crate) fn make(&self, made: &mut Vec<PathBuf>) -> Result<(), Refusal> {
        let new = self.ownership != Ownership::Existing && self.make_class(made)?;
        if !self.schemata.is_empty() {
            if new {
                // Nobody else could use what has the kernel's shares only.
                self.write_schemata().inspect_err(|_| self.give_up())?;
            } else {
                self.compare_schemata_soon()?;
            }
        }
        let Some(monitor) = &self.monitor else {
            return Ok(());
        };
        make_dir(monitor).map_err(|errno| self.told(monitor, errno))?;
        made.push(monitor.clone());
        Ok(())
    }

    /// Whether the class is new.
    fn make_class(&self, made: &mut Vec<PathBuf>) -> Result<bool, Refusal> {
        match make_dir(&self.dir) {
            Ok(()) if self.ownership == Ownership::Own => {
                made.push(self.dir.clone());
                Ok(true)
            }
            Ok(()) => Ok(true),
            Err(Errno::EXIST) if self.ownership == Ownership::Shared => Ok(false),
            Err(Errno::NOSPC) => Err(format!(
                "{}: the hardware has no class of service left",
                self.dir.display()
            )),
            Err(errno) => Err(self.told(&self.dir, errno)),
        }
    }

    fn write_schemata(&self) -> Result<(), Refusal> {
        let path = self.dir.join("schemata");
        let text = self.schemata.join("\n") + "\n";
        write(&path, text.as_bytes()).map_err(|errno| self.told(&path, errno))
    }

    /// Other shares for a class that is there, and the lines that it had. The kernel may take
    /// one line and refuse the next: then the old ones are written again.
    pub(crate) fn rewrite(&self) -> Result<Vec<String>, Refusal> {
        let path = self.dir.join("schemata");
        let old = file::read(&path).map_err(|errno| self.told(&path, errno))?;
        if let Err(refusal) = self.write_schemata() {
            if let Err(errno) = write(&path, &old) {
                log::warn!("{}: not as before: {errno}", path.display());
            }
            return Err(refusal);
        }
        let old = String::from_utf8_lossy(&old);
        Ok(old.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Moves threads until there are no others; a new one is where its maker is.
    pub(crate) fn join_all(&self, tasks: impl Fn() -> Vec<i32>) -> Result<(), Refusal> {
        let path = self.dir.join("tasks");
        let mut moved = Vec::new();
        for _ in 0..TRIES {
            let mut new = tasks();
            new.retain(|task| !moved.contains(task));
            if new.is_empty() {
                break;
            }
            for task in new {
                match write(&path, task.to_string().as_bytes()) {
                    // It has ended.
                    Ok(()) | Err(Errno::SRCH) => moved.push(task),
                    Err(errno) => return Err(self.told(&path, errno)),
                }
            }
        }
        Ok(())
    }

    /// Removes a shared class that was made just now; a container's own is removed by `made`.
    fn give_up(&self) {
        if self.ownership == Ownership::Shared
            && let Err((path, errno)) = remove(std::slice::from_ref(&self.dir))
        {
            log::warn!("{}: not removed: {errno}", path.display());
        }
    }

    /// Whoever has made the class may not have written its shares yet.
    fn compare_schemata_soon(&self) -> Result<(), Refusal> {
        for _ in 0..TRIES {
            if self.compare_schemata().is_ok() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        self.compare_schemata()
    }

    /// Those who share a class must mean the same by it.
    fn compare_schemata(&self) -> Result<(), Refusal> {
        let path = self.dir.join("schemata");
        let shown = file::read(&path).map_err(|errno| self.told(&path, errno))?;
        let shown = shares(&String::from_utf8_lossy(&shown));
        // A later line wins.
        let mut wanted: Vec<Share> = Vec::new();
        for share in shares(&self.schemata.join("\n")) {
            wanted.retain(|(resource, domain, _)| (resource, domain) != (&share.0, &share.1));
            wanted.push(share);
        }
        let rounded = |share: &Share| self.rounded(share);
        match wanted.iter().find(|share| !shown.contains(&rounded(share))) {
            None => Ok(()),
            Some((resource, domain, value)) => Err(format!(
                "{}: has no {resource}:{domain}={value}, and others may use this class",
                path.display()
            )),
        }
    }

    /// As the kernel shows it: percents of bandwidth are multiples of what the hardware has.
    fn rounded(&self, share: &Share) -> Share {
        let (resource, domain, value) = share.clone();
        let steps = self.dir.ancestors().skip(1).find_map(|root| {
            let path = root.join("info").join(&resource).join("bandwidth_gran");
            let text = file::read(&path).ok()?;
            String::from_utf8_lossy(&text).trim().parse::<u64>().ok()
        });
        let number = value.parse::<u64>().ok();
        let value = match (steps.filter(|step| *step > 0), number) {
            (Some(step), Some(number)) => number.next_multiple_of(step).to_string(),
            _ => value,
        };
        (resource, domain, value)
    }

    /// Moves a process that has one task.
    pub(crate) fn join(&self, pid: i32) -> Result<(), Refusal> {
        let dir = self.monitor.as_ref().unwrap_or(&self.dir);
        let path = dir.join("tasks");
        write(&path, pid.to_string().as_bytes()).map_err(|errno| self.told(&path, errno))
    }

    /// The errno, and what the kernel itself says of the last command.
    fn told(&self, path: &Path, errno: Errno) -> Refusal {
        let root = self.dir.ancestors().find_map(|dir| {
            let status = dir.join("info/last_cmd_status");
            file::read(&status).ok()
        });
        let status = root.unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let cause = crate::error::errno_text(errno.raw_os_error());
        match status.trim() {
            "" | "ok" => format!("{}: {cause}", path.display()),
            status => format!("{}: {cause} ({status})", path.display()),
        }
    }
}

/// Removes groups with all that the kernel has put into them; their tasks go back to the
/// group above. One that is not there is fine.
pub(crate) fn remove(groups: &[PathBuf]) -> Result<(), (PathBuf, Errno)> {
    for path in groups.iter().rev() {
        match call("rmdir", || rustix::fs::rmdir(path)) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err((path.clone(), errno)),
        }
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<(), Errno> {
    call("mkdir", || {
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))
    })
}

/// In one call: the kernel takes every write for a command of its own.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = file::open_at(rustix::fs::CWD, path, flags)?;
    match call("write", || rustix::io::write(&file, bytes)) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(Errno::IO),
        Err(errno) => Err(errno),
    }
}

/// Resource, domain and value.
type Share = (String, String, String);

fn shares(schemata: &str) -> Vec<Share> {
    let line = |line: &str| {
        let (resource, domains) = line.split_once(':')?;
        let resource = resource.trim().to_owned();
        let share = move |share: &str| {
            let (domain, value) = share.split_once('=')?;
            Some((resource.clone(), plain(domain), plain(value)))
        };
        Some(domains.split(';').filter_map(share).collect::<Vec<_>>())
    };
    schemata.lines().filter_map(line).flatten().collect()
}

/// The kernel pads numbers, with spaces or zeros.
fn plain(number: &str) -> String {
    let number = number.trim().to_ascii_lowercase();
    let number = number.strip_prefix("0x").unwrap_or(&number);
    match number.trim_start_matches('0') {
        "" => "0".to_owned(),
        rest => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_and_not_their_padding() {
        let shown = "    L3:0=00ff;1=0F0\n    MB:0=100;1= 50\n";
        let wanted = "L3:0=0xff;1=f0\nMB:1=50;0=100";
        let mut wanted = shares(wanted);
        wanted.sort();
        let mut shown = shares(shown);
        shown.sort();
        assert_eq!(shown, wanted);
        assert_eq!(plain("000"), "0");
    }
}
