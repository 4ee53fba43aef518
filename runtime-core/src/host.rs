//! [`Host`] and [`Facts`]: what planning must know and can't find out by itself.
//!
//! Both are plain data, probed here and nowhere else, and can be printed.
//!
//! # Layout
//! - `joined`: the namespaces that config.json names by path
//! - `mounts`: what `mounts` refers to

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use serde::Serialize;

use crate::cgroup;
pub use crate::cgroup::CgroupMode;
pub use crate::cgroup::systemd::Unit;
use crate::error::Error;
use crate::plan::PlanOptions;
pub use crate::seccomp::Architecture;
use crate::spec::{NamespaceKind, Spec};
use crate::sys::{call, file, process};

mod joined;
mod mounts;

pub use joined::Joined;
pub use mounts::MountFacts;

/// How init can be executed from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemfdExec {
    /// With `MFD_EXEC`, which Linux 6.3 and newer want said.
    Flag,
    /// As any memfd was before.
    Plain,
    /// Not at all: `vm.memfd_noexec` is 2.
    Forbidden,
}

impl MemfdExec {
    /// By what became of a memfd with `MFD_EXEC`: that is refused where memfds may never be executed, and unknown
    /// before 6.3.
    pub(crate) fn of<T>(made: &Result<T, Errno>) -> MemfdExec {
        match made {
            Ok(_) => MemfdExec::Flag,
            Err(Errno::INVAL) => MemfdExec::Plain,
            Err(_) => MemfdExec::Forbidden,
        }
    }

    /// Flags of a memfd that is never executed: `MFD_NOEXEC_SEAL` where the kernel knows it.
    pub(crate) fn of_data(self) -> MemfdFlags {
        match self {
            MemfdExec::Plain => MemfdFlags::empty(),
            MemfdExec::Flag | MemfdExec::Forbidden => MemfdFlags::NOEXEC_SEAL,
        }
    }
}

/// What is true of this machine, and of the caller on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Host {
    /// Kernel release, as uname(2) says it.
    pub kernel: String,
    /// Effective uid of the caller.
    pub euid: u32,
    /// Its effective gid.
    pub egid: u32,
    /// Permitted capabilities of the caller, as bits.
    pub permitted_caps: u64,
    /// Highest capability that the kernel knows.
    pub last_cap: u32,
    /// What is mounted on /sys/fs/cgroup.
    pub cgroup: CgroupMode,
    /// Whether systemd manages the machine.
    pub systemd: bool,
    /// Whether `clone3(2)` may be called; a seccomp filter can hide it.
    pub clone3: bool,
    /// The kinds of namespaces that the kernel has.
    pub namespaces: Vec<NamespaceKind>,
    /// How init can be executed from memory.
    pub memfd_exec: MemfdExec,
    /// Whether /proc/kcore exists.
    pub kcore: bool,
    /// Whether the caller is in another user namespace than the machine's first, as in a container
    /// or where an engine of a user without privileges runs.
    pub user_namespace: bool,
    /// Whether something is mounted over a part of /proc: a user namespace then has no other.
    pub proc_hidden: bool,
    /// Whether AppArmor confines processes.
    pub apparmor: bool,
    /// Whether SELinux labels processes.
    pub selinux: bool,
    /// The architecture whose system calls programs make; none that has no table here.
    pub architecture: Option<Architecture>,
    /// Flags of `seccomp(2)` that the kernel knows, as bits; none if it has no filters.
    pub seccomp_flags: Option<u32>,
    /// Whether `pidfd_getfd(2)` may be called.
    pub pidfd_getfd: bool,
}

/// What is true of this bundle now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Facts {
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// The container's cgroup, below the root of the hierarchy; none without cgroups.
    pub cgroup: Option<PathBuf>,
    /// The unit that systemd makes that cgroup for; none without systemd.
    pub unit: Option<Unit>,
    /// The namespaces that config.json names by path.
    pub joined: BTreeMap<NamespaceKind, Joined>,
    /// What `mounts` refers to.
    pub mounts: MountFacts,
    /// Where resctrl is mounted; only looked up where `linux.intelRdt` asks for it. Of a
    /// container that is there: the directory that its processes join.
    pub resctrl: Option<PathBuf>,
}

/// What a plan asks that not every plan asks, and that takes a while to find out.
struct Asked {
    namespaces: Vec<NamespaceKind>,
    /// What a creation depends on and a process in a container does not: the mode of the
    /// cgroups, systemd, /proc/kcore.
    creation: bool,
    apparmor: bool,
    selinux: bool,
    seccomp: bool,
}

impl Asked {
    fn by(spec: &Spec) -> Self {
        let (process, linux) = (spec.process.as_ref(), spec.linux.as_ref());
        let named = spec.namespaces().iter().map(|namespace| namespace.kind);
        Self {
            namespaces: named.collect(),
            creation: true,
            apparmor: process.is_some_and(|process| process.apparmor_profile.is_some()),
            selinux: process.is_some_and(|process| process.selinux_label.is_some())
                || linux.is_some_and(|linux| linux.mount_label.is_some()),
            seccomp: linux.is_some_and(|linux| linux.seccomp.is_some()),
        }
    }
}

impl Host {
    /// Looks at the machine.
    ///
    /// # Errors
    /// When /proc is not readable.
    pub fn probe() -> Result<Host, Error> {
        let all = Asked {
            namespaces: NamespaceKind::ALL.to_vec(),
            creation: true,
            apparmor: true,
            selinux: true,
            seccomp: true,
        };
        Self::look(&all, memfd_exec)
    }

    /// Looks at what the plan of this configuration depends on. All else is as if the machine
    /// did not have it. `memfd_exec` tells what [`Host::memfd_exec`] is, as [`memfd_exec`] or from a
    /// file that is made anyway.
    ///
    /// # Errors
    /// As [`Host::probe`].
    pub(crate) fn probe_for(
        spec: &Spec,
        memfd_exec: impl FnOnce() -> MemfdExec,
    ) -> Result<Host, Error> {
        Self::look(&Asked::by(spec), memfd_exec)
    }

    /// Looks at what one more process in a container of this configuration depends on. Its
    /// namespaces are there, so that the kernel knows them.
    ///
    /// # Errors
    /// As [`Host::probe`].
    pub(crate) fn probe_in_container(
        spec: &Spec,
        memfd_exec: impl FnOnce() -> MemfdExec,
    ) -> Result<Host, Error> {
        let asked = Asked {
            namespaces: Vec::new(),
            creation: false,
            ..Asked::by(spec)
        };
        Self::look(&asked, memfd_exec)
    }

    fn look(asked: &Asked, memfd_exec: impl FnOnce() -> MemfdExec) -> Result<Host, Error> {
        let last_cap = process::last_cap();
        let user_namespace = in_user_namespace();
        // Only a user namespace depends on what its creator sees of /proc.
        let user = user_namespace || asked.namespaces.contains(&NamespaceKind::User);
        let cgroup = match asked.creation {
            true => cgroup::mode(Path::new(cgroup::MOUNT)),
            false => CgroupMode::None,
        };
        Ok(Host {
            kernel: kernel()?,
            euid: process::geteuid().map_err(|errno| Error::call("uid", "geteuid", errno))?,
            egid: process::getegid().map_err(|errno| Error::call("gid", "getegid", errno))?,
            permitted_caps: permitted_caps()?,
            last_cap: last_cap.map_err(|errno| Error::call("capabilities", "prctl", errno))?,
            cgroup,
            systemd: asked.creation && cgroup::systemd::is_there(),
            clone3: crate::sys::launch::has_clone3(),
            namespaces: joined::known(&asked.namespaces, cgroup)?,
            memfd_exec: memfd_exec(),
            kcore: asked.creation && is_there("/proc/kcore"),
            user_namespace,
            proc_hidden: user && proc_hidden()?,
            apparmor: asked.apparmor && apparmor(),
            selinux: asked.selinux && is_there("/sys/fs/selinux/enforce"),
            architecture: Architecture::native(),
            seccomp_flags: asked
                .seccomp
                .then(crate::sys::seccomp::known_flags)
                .flatten(),
            pidfd_getfd: asked.seccomp && process::has_pidfd_getfd(),
        })
    }
}

impl Facts {
    /// Looks at what a bundle refers to.
    ///
    /// # Errors
    /// When `linux.cgroupsPath` makes no sense, or /proc is not readable.
    pub fn probe(
        spec: &Spec,
        bundle: &Path,
        rootfs: &Path,
        options: &PlanOptions,
    ) -> Result<Facts, Error> {
        let linux = spec.linux.as_ref();
        let asked = linux.and_then(|linux| linux.cgroups_path.as_deref());
        let unit = match options.systemd {
            true => Some(Unit::new(asked, &options.id)?),
            false => None,
        };
        let cgroup = if options.no_cgroup {
            None
        } else if let Some(unit) = &unit {
            Some(unit.path())
        } else {
            // Without cgroup v2 there is none: the plan then says so.
            let own = || cgroup::own_cgroup().unwrap_or_else(|_| PathBuf::from("/"));
            let resources = linux.and_then(|linux| linux.resources.as_deref());
            let settings = resources.map_or(Ok(Vec::new()), cgroup::settings)?;
            Some(cgroup::cgroup_path(asked, &options.id, own, &settings)?)
        };
        Ok(Facts {
            bundle: bundle.to_owned(),
            rootfs: rootfs.to_owned(),
            cgroup,
            unit,
            joined: joined::probe(spec),
            mounts: mounts::probe(spec, bundle),
            resctrl: match linux.is_some_and(|linux| linux.intel_rdt.is_some()) {
                true => resctrl(options.resctrl.as_deref())?,
                false => None,
            },
        })
    }
}

impl Facts {
    /// What is true of a container's process, which must be there until this comes back.
    /// `spec` is the container's configuration.
    ///
    /// # Errors
    /// When its namespaces can't be looked at.
    pub(crate) fn of_container(
        spec: &Spec,
        pid: i32,
        [bundle, rootfs]: [&Path; 2],
        [cgroup, resctrl]: [Option<PathBuf>; 2],
    ) -> Result<Facts, Error> {
        let joined = joined::of_process(spec, pid).map_err(|errno| match errno {
            Errno::SRCH | Errno::NOENT => crate::error::Cause::NotRunning.into(),
            errno => Error::call(format!("/proc/{pid}/ns"), "stat", errno),
        })?;
        Ok(Facts {
            bundle: bundle.to_owned(),
            rootfs: rootfs.to_owned(),
            cgroup,
            unit: None,
            joined,
            resctrl,
            mounts: MountFacts::default(),
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?)
    }
}

fn kernel() -> Result<String, Error> {
    let uname = call("uname", || Ok(rustix::system::uname()))
        .map_err(|errno| Error::call("kernel", "uname", errno))?;
    Ok(uname.release().to_string_lossy().into_owned())
}

/// The first user namespace has an inode number of its own: `USER_NS_INIT_INO` in linux/nsfs.h.
fn in_user_namespace() -> bool {
    const FIRST: u64 = 0xEFFF_FFFD;
    call("stat", || rustix::fs::stat("/proc/self/ns/user")).is_ok_and(|own| own.st_ino != FIRST)
}

fn permitted_caps() -> Result<u64, Error> {
    let caps = call("capget", || rustix::thread::capabilities(None))
        .map_err(|errno| Error::call("capabilities", "capget", errno))?;
    Ok(caps.permitted.bits())
}

fn is_there(path: &str) -> bool {
    call("access", || {
        rustix::fs::access(path, rustix::fs::Access::EXISTS)
    })
    .is_ok()
}

/// The module says so itself, where it is built into the kernel at all.
fn apparmor() -> bool {
    let enabled = file::read(Path::new("/sys/module/apparmor/parameters/enabled"));
    enabled.is_ok_and(|text| text.starts_with(b"Y"))
}

/// The mounts that the caller sees, see proc_pid_mountinfo(5).
fn mountinfo() -> Result<String, Error> {
    let path = "/proc/self/mountinfo";
    let bytes = file::read(Path::new(path)).map_err(|errno| Error::call(path, "read", errno))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a mount hides a part of /proc. Where the kernel itself has an empty directory for
/// a mount, as for binfmt_misc, nothing is hidden.
fn proc_hidden() -> Result<bool, Error> {
    Ok(mountinfo()?.lines().any(hides_proc))
}

fn hides_proc(mount: &str) -> bool {
    let point = mount.split(' ').nth(4).unwrap_or_default();
    let below = point.strip_prefix("/proc/");
    below.is_some_and(|below| below != "sys/fs/binfmt_misc")
}

/// Where resctrl is: where the caller says, else where it is mounted.
pub(crate) fn resctrl(given: Option<&Path>) -> Result<Option<PathBuf>, Error> {
    match given {
        Some(path) => Ok(Some(path.to_owned())),
        None => Ok(resctrl_mount(&mountinfo()?)),
    }
}

/// Where resctrl is mounted, by the text of /proc/self/mountinfo.
fn resctrl_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (own, file_system) = line.split_once(" - ")?;
        let is_it = file_system.split(' ').next() == Some("resctrl");
        // Only a mount of its root has classes in it.
        let mut fields = own.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (is_it && root == "/").then(|| PathBuf::from(point))
    })
}

/// Tries it.
pub(crate) fn memfd_exec() -> MemfdExec {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::EXEC;
    MemfdExec::of(&call("memfd_create", || {
        rustix::fs::memfd_create(c"corten-probe", flags)
    }))
}

/// Descriptors 0, 1 and 2 of the caller, if they are standard streams. In a program that has
/// closed one, that number is whatever was opened next, a directory of the host's perhaps: all
/// that this library opens, and what Rust's does, is close-on-exec.
pub(crate) fn own_stdio() -> [Option<BorrowedFd<'static>>; 3] {
    [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ]
    .map(|fd| crate::sys::ipc::is_inherited(fd).then_some(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_capability_is_found_without_proc() {
        let told = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        assert_eq!(process::last_cap(), Ok(told.trim().parse().unwrap()));
    }

    #[test]
    fn the_mount_of_the_whole_of_resctrl_is_found() {
        let info = "20 1 0:20 / /proc rw - proc proc rw\n\
            30 1 0:30 /class /mnt rw shared:1 - resctrl resctrl rw\n\
            31 1 0:30 / /sys/fs/resctrl rw,nosuid shared:2 - resctrl resctrl rw,mba_MBps\n";
        assert_eq!(resctrl_mount(info), Some(PathBuf::from("/sys/fs/resctrl")));
        assert_eq!(
            resctrl_mount("20 1 0:20 / /resctrl rw - tmpfs resctrl rw\n"),
            None
        );
    }
}
