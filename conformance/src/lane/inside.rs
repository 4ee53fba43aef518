//! Pid 1 of the lane: makes the machine that the command sees, starts it, reaps.
//!
//! mount_namespaces(7), pid_namespaces(7), cgroup_namespaces(7).

use std::ffi::{CStr, OsString};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use super::{VARIABLE, context, detach, private};
use crate::leaks::{self, Snapshot};
use crate::{runtime, sys};

/// Becomes the lane's pid 1: makes everything, runs the command, returns its exit code.
///
/// `arguments` are the lane's cgroup, flags, `--` and the command.
///
/// # Errors
///
/// If the lane can't be made or the command can't be started.
pub fn run(arguments: &[OsString]) -> io::Result<i32> {
    let [group, rest @ ..] = arguments else {
        return Err(io::Error::other("lane-init: no cgroup"));
    };
    let end = rest
        .iter()
        .position(|argument| argument == "--")
        .unwrap_or(rest.len());
    let (flags, command) = rest.split_at(end);
    let [_, program, arguments @ ..] = command else {
        return Err(io::Error::other("no command to run"));
    };
    let has = |flag: &str| flags.iter().any(|given| given == flag);

    // If the outer process is killed, all of this must go too.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    enter_cgroup(&PathBuf::from(group))?;
    make_machine(has("--read-only"))?;

    let before = Snapshot::of_lane();
    let child = Command::new(program)
        .args(arguments)
        .env(VARIABLE, "native")
        .env("TMPDIR", "/run/tmp")
        .spawn()
        .map_err(context(&program.to_string_lossy()))?;
    let code = supervise(&child)?;
    if has("--leaks") && code == 0 {
        return Ok(leaks::report(&before, || {
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            Snapshot::of_lane()
        }));
    }
    Ok(code)
}

/// Moves into the lane's cgroup and makes it the root of a cgroup namespace.
fn enter_cgroup(group: &Path) -> io::Result<()> {
    std::fs::write(group.join("cgroup.procs"), "0").map_err(context("enter the lane's cgroup"))?;
    sys::unshare(UnshareFlags::NEWCGROUP | UnshareFlags::NEWNS).map_err(context("unshare"))
}

fn make_machine(read_only: bool) -> io::Result<()> {
    private("/")?;
    if read_only {
        sys::mount_setattr_read_only(c"/").map_err(context("make / read-only"))?;
    }
    for old in ["/sys", "/dev", "/run", "/proc"] {
        detach(old)?;
    }
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    put("proc", "/proc", safe, None)?;
    put("sysfs", "/sys", safe, None)?;
    put("cgroup2", "/sys/fs/cgroup", safe, None)?;
    // Bundles lie here: devices and setuid programs must work.
    put("tmpfs", "/run", MountFlags::empty(), Some(c"mode=0755"))?;
    std::fs::create_dir("/run/tmp")?;
    if read_only && !is_used("/tmp") {
        // runc copies by way of it.
        put("tmpfs", "/tmp", safe, Some(c"mode=1777"))?;
    }
    make_dev().map_err(context("/dev"))?;
    // As on most machines: a runtime must cope with a shared root.
    mount_change(
        "/",
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )?;

    rustix::system::sethostname(b"lane")?;
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    sys::loopback_up(&socket).map_err(context("loopback"))?;
    delegate_controllers()
}

/// Whether this program or the runtime under test is in a folder.
fn is_used(folder: &str) -> bool {
    let runtime = std::env::var_os(runtime::VARIABLE).map(PathBuf::from);
    let programs = [std::env::current_exe().ok(), runtime];
    programs
        .iter()
        .flatten()
        .any(|path| path.starts_with(folder))
}

fn put(kind: &str, on: &str, flags: MountFlags, data: Option<&CStr>) -> io::Result<()> {
    mount(kind, on, kind, flags, data)
        .map_err(|error| context(&format!("mount {kind} on {on}"))(error.into()))
}

/// A /dev with what null(4) and its neighbours describe. Made, never copied: a copy
/// once changed the mode of the machine's own /dev/null.
fn make_dev() -> io::Result<()> {
    const NODES: [(&str, u32, u32); 7] = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        ("net/tun", 10, 200),
    ];
    put("tmpfs", "/dev", MountFlags::NOSUID, Some(c"mode=0755"))?;
    for folder in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/net"] {
        std::fs::create_dir(folder)?;
    }
    let umask = rustix::process::umask(Mode::empty());
    for (name, major, minor) in NODES {
        let path = Path::new("/dev").join(name);
        let device = rustix::fs::makedev(major, minor);
        mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            device,
        )?;
    }
    rustix::process::umask(umask);
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        symlink(target, Path::new("/dev").join(name))?;
    }
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    put(
        "devpts",
        "/dev/pts",
        quiet,
        Some(c"newinstance,ptmxmode=0666,mode=0620"),
    )?;
    put(
        "tmpfs",
        "/dev/shm",
        quiet | MountFlags::NODEV,
        Some(c"mode=1777"),
    )?;
    put("mqueue", "/dev/mqueue", quiet | MountFlags::NODEV, None)
}

/// Moves this process into a leaf, so that controllers can be enabled for the rest.
fn delegate_controllers() -> io::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    std::fs::create_dir(root.join("tests"))?;
    std::fs::write(root.join("tests/cgroup.procs"), "0")?;
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        std::fs::write(
            root.join("cgroup.subtree_control"),
            format!("+{controller}"),
        )
        .map_err(context(controller))?;
    }
    Ok(())
}

/// Reaps every orphan until the child itself has ended; its exit code, 128 + signal if it
/// was killed.
pub(crate) fn supervise(child: &Child) -> io::Result<i32> {
    let main = i32::try_from(child.id()).unwrap_or(0);
    loop {
        // No limit here: who started this has one for all of it.
        let Some((pid, status)) = rustix::process::wait(WaitOptions::empty())? else {
            continue;
        };
        if pid.as_raw_pid() == main {
            let killed = status.terminating_signal().map(|signal| 128 + signal);
            return Ok(status.exit_status().or(killed).unwrap_or(1));
        }
    }
}
