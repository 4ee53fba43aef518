//! What a check is, and what it needs of the machine.

use std::fmt;
use std::path::Path;

use rustix::thread::CapabilitySet;

use crate::lab::Lab;
use crate::lane;

/// Something that not every lane has. The only reason to skip a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// This cgroup v2 controller, delegated to the lane.
    Controller(&'static str),
    /// That this controller is not there, to be refused.
    Without(&'static str),
    /// A kernel of this version at least, by its two first numbers.
    Kernel(u32, u32),
    /// This capability, for the runtime: even root may lack it where the lane is itself in a
    /// container.
    Capability(CapabilitySet),
    /// A machine of the lane's own: what goes wrong could hurt the one that this is on.
    Machine,
    /// systemd, on a machine of the lane's own. Such a check runs on that machine itself, for
    /// systemd knows no namespaces, and alone.
    Systemd,
    /// This security module, switched on: `apparmor` or `selinux`.
    Lsm(&'static str),
    /// This kind of namespace, by its name in /proc/PID/ns.
    Namespace(&'static str),
}

impl Need {
    /// Whether it is there. Asked in the lane.
    #[must_use]
    pub fn is_met(self) -> bool {
        match self {
            Self::Controller(wanted) => has_controller(wanted),
            Self::Without(unwanted) => !has_controller(unwanted),
            Self::Kernel(major, minor) => {
                let system = rustix::system::uname();
                version(&system.release().to_string_lossy()) >= (major, minor)
            }
            Self::Capability(wanted) => {
                let own = rustix::thread::capabilities(None);
                own.is_ok_and(|own| own.effective.contains(wanted))
            }
            Self::Machine => lane::is_machine(),
            Self::Systemd => lane::is_machine() && Path::new("/run/systemd/system").exists(),
            Self::Lsm("selinux") => Path::new("/sys/fs/selinux/enforce").exists(),
            Self::Lsm(name) => {
                let file = format!("/sys/module/{name}/parameters/enabled");
                std::fs::read_to_string(file).is_ok_and(|text| text.starts_with('Y'))
            }
            Self::Namespace(kind) => Path::new("/proc/self/ns").join(kind).exists(),
        }
    }
}

/// Whether the lane's cgroups have a controller.
fn has_controller(wanted: &str) -> bool {
    let found = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    found.is_ok_and(|text| text.split_whitespace().any(|name| name == wanted))
}

/// The two first numbers of a kernel's release, such as `6.1.0-44-amd64`. uname(2)
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|text| text.parse().ok());
    (next().unwrap_or(0), next().unwrap_or(0))
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(name) => write!(f, "controller {name}"),
            Self::Without(name) => write!(f, "to be without controller {name}"),
            Self::Kernel(major, minor) => write!(f, "kernel {major}.{minor}"),
            Self::Capability(set) => {
                let names: Vec<&str> = set.iter_names().map(|(name, _)| name).collect();
                write!(f, "capability CAP_{}", names.join(" CAP_"))
            }
            Self::Machine => f.write_str("a machine of its own"),
            Self::Systemd => f.write_str("systemd"),
            Self::Lsm(name) => write!(f, "security module {name}"),
            Self::Namespace(kind) => write!(f, "{kind} namespaces"),
        }
    }
}

/// One statement about a runtime's behaviour and the code that tries it.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The file of the check.
    pub facility: &'static str,
    /// The function's name: the statement as a sentence.
    pub name: &'static str,
    /// What it can't be tried without.
    pub needs: &'static [Need],
    /// Panics if the statement does not hold.
    pub run: fn(&Lab),
}

impl Check {
    /// `facility::name`, as a test is named.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}::{}", self.facility, self.name)
    }

    /// Whether it runs on the lane's machine itself, and not in namespaces of its own. Asked
    /// outside of any.
    #[must_use]
    pub fn runs_on_the_machine(&self) -> bool {
        self.needs.contains(&Need::Systemd) && Need::Systemd.is_met()
    }

    /// Why it can't be tried in this lane, if so.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let missing = self.needs.iter().find(|need| !need.is_met())?;
        Some(format!("needs {missing}"))
    }
}

/// Declares the checks of one file: its facility and its functions, each with what it
/// needs of the machine, if anything: `name [Need::Controller("cpu")]`.
macro_rules! checks {
    ($facility:literal: $($name:ident $([$($need:expr),+])?),+ $(,)?) => {
        pub(crate) const CHECKS: &[$crate::check::Check] = &[
            $($crate::check::Check {
                facility: $facility,
                name: stringify!($name),
                needs: &[$($($need),+)?],
                run: $name,
            }),+
        ];
    };
}
pub(crate) use checks;

/// Every check there is.
pub fn all() -> impl Iterator<Item = Check> {
    crate::checks::ALL.iter().copied().flatten().copied()
}

/// The checks whose path contains any of the words; all without words.
#[must_use]
pub fn matching(words: &[String]) -> Vec<Check> {
    let wanted = |check: &Check| {
        words
            .iter()
            .any(|word| check.path().contains(word.as_str()))
    };
    all()
        .filter(|check| words.is_empty() || wanted(check))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_compared_by_numbers() {
        assert_eq!(version("6.1.0-44-amd64"), (6, 1));
        assert_eq!(version("6.12"), (6, 12));
        assert!(version("6.12.3") > version("6.3"));
        assert_eq!(version("7"), (7, 0));
    }

    #[test]
    fn what_is_needed_is_told_in_the_kernels_words() {
        let needs = [
            Need::Controller("cpu"),
            Need::Kernel(6, 4),
            Need::Capability(CapabilitySet::SYS_NICE),
        ];
        let told: Vec<String> = needs.iter().map(ToString::to_string).collect();
        let expected = ["controller cpu", "kernel 6.4", "capability CAP_SYS_NICE"];
        assert_eq!(told, expected);
        assert!(!Need::Kernel(1000, 0).is_met());
    }
}
