//! The native lane: a command in private namespaces on this machine's own kernel.
//!
//! The command sees its own mounts, processes, network, host name, IPC and cgroup
//! tree: a fresh /proc, /sys, cgroup v2 on /sys/fs/cgroup (also where the machine's
//! own is hybrid), a /dev of its own on tmpfs, an empty /run. Everything it does to
//! these ends with it. What is left of the machine to hurt are its files, unless
//! `read_only` is asked for, and the sysctls below /proc/sys that have no namespace.
//!
//! Two processes stand around the command. The outer one stays outside, watches the
//! time and removes the cgroup at the end. The inner one ([`inside`]) is pid 1: it
//! mounts, reaps orphans as an init does, and looks for leaks. When it ends, the
//! kernel kills whatever is left.

mod apt;
mod boot;
mod cache;
mod cgroup;
mod full;
mod image;
pub mod inside;
mod kernel;
mod qemu;
mod uml;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use crate::{sys, wait};

pub(crate) use boot::left as left_in_the_cache;
pub use boot::{NO_CODE, Request};
pub(crate) use cgroup::is_in_use;
pub use full::Full;
pub(crate) use inside::supervise;
pub use kernel::Kernel;
pub use uml::Uml;

/// The environment variable that says that the lane is around this process.
pub const VARIABLE: &str = "CORTEN_LANE";

/// The environment variable with the lane's number, which no other lane of the machine has
/// at the same time.
const NUMBER: &str = "CORTEN_LANE_NUMBER";

/// What the outer process returns when the command took too long.
pub const TIMED_OUT: i32 = 124;

/// How to run a command in the lane.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Make every file of the machine read-only for the command.
    pub read_only: bool,
    /// Fail if the command leaves anything behind in the lane.
    pub leaks: bool,
    /// Kill everything after this time.
    pub limit: Option<Duration>,
}

/// Whether this process is in the native lane.
#[must_use]
pub fn inside() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|lane| lane == "native")
}

/// Whether this machine is a lane's own, which a check may wreck.
///
/// Only a boot of a lane runs the programs of /host from a disk of the lane.
#[must_use]
pub fn is_machine() -> bool {
    const DISKS: [&str; 2] = ["root=/dev/ubda", "root=/dev/nvme0n1"];
    let words = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let disk = words.split_whitespace().any(|word| DISKS.contains(&word));
    disk && std::env::current_exe().is_ok_and(|path| path.starts_with("/host"))
}

/// How the ids of this lane's containers begin: what has no namespace can then be told from
/// other lanes' by its name.
pub(crate) fn mark() -> String {
    let number = std::env::var(NUMBER).unwrap_or_default();
    format!("check-{number}-")
}

/// Stops a test that would touch the machine itself.
///
/// # Panics
///
/// If this process is not in a lane.
pub fn require() {
    assert!(
        inside(),
        "this test changes mounts and cgroups: run it in the lane, `conformance native -- COMMAND`"
    );
}

/// Runs a libtest test's body in the native lane, from outside as from inside.
///
/// Outside, the test's own program is started again in the lane for this one test,
/// so `cargo test` and nextest need no wrapper. Needs the `conformance` binary
/// built beside the test.
///
/// # Panics
///
/// If the test fails, there or here.
pub fn test(body: impl FnOnce()) {
    if inside() {
        return body();
    }
    let program = crate::built("conformance").unwrap_or_else(|error| panic!("{error}"));
    let this = std::env::current_exe().expect("a running program has a path");
    let output = Command::new(program)
        .args(["native", "--limit", "300", "--"])
        .arg(this)
        .args([&test_name(), "--exact", "--nocapture", "--test-threads=2"])
        .output()
        .expect("the conformance binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "in the native lane: {}\n{text}{errors}",
        output.status
    );
    // A name that matches no test would pass without running anything.
    assert!(
        text.contains("1 passed"),
        "in the native lane, no test ran:\n{text}{errors}"
    );
}

/// The libtest name of the running test: its thread's, or what `--exact` came with.
fn test_name() -> String {
    if let Some(name) = std::thread::current().name().filter(|name| *name != "main") {
        return name.to_owned();
    }
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    match names.as_slice() {
        [name] => name.clone(),
        _ => panic!("which test is this? Run with --test-threads=2, or with nextest"),
    }
}

/// Runs a command in the lane and returns its exit code, 128 + signal if it was killed.
///
/// Must be called by a program that has only one thread, and changes the namespaces of
/// its own future children.
///
/// # Errors
///
/// If the lane can't be made, with what failed.
pub fn native(options: &Options, command: &[OsString]) -> io::Result<i32> {
    if !rustix::process::geteuid().is_root() {
        return Err(io::Error::other("the native lane needs root"));
    }
    let namespaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC;
    sys::unshare(namespaces).map_err(context("unshare"))?;
    private("/")?;
    mount_cgroup2()?;
    let group = cgroup::Lane::create()?;

    let this = std::env::current_exe()?;
    let mut inner = Command::new(this);
    inner.arg("lane-init").arg(group.path());
    inner.env(NUMBER, std::process::id().to_string());
    inner.args(options.read_only.then_some("--read-only"));
    inner.args(options.leaks.then_some("--leaks"));
    let mut inner = inner.arg("--").args(command).spawn()?;

    let limit = options.limit.unwrap_or(Duration::from_secs(24 * 3600));
    let code = if let Some(status) = wait::child(&mut inner, limit)? {
        exit_code(status)
    } else {
        eprintln!("lane: still running after {} s:", limit.as_secs());
        group.print_processes();
        inner.kill()?;
        inner.wait()?;
        TIMED_OUT
    };
    group.remove()?;
    Ok(code)
}

/// The exit code that a shell would show.
#[must_use]
pub fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}

fn private(path: &str) -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(path, flags).map_err(|error| context("make / private")(error.into()))
}

/// Puts cgroup v2 in place of whatever is there, seen in this mount namespace only. Where
/// it is there already it stays: a mount without options such as `nsdelegate` takes them
/// from every other one of the machine. cgroup2 in the kernel's `cgroup-v2.rst`.
fn mount_cgroup2() -> io::Result<()> {
    const MAGIC: i64 = 0x6367_7270; // CGROUP2_SUPER_MAGIC
    const PATH: &str = "/sys/fs/cgroup";
    if rustix::fs::statfs(PATH).is_ok_and(|found| found.f_type == MAGIC) {
        return Ok(());
    }
    detach(PATH)?;
    mount("cgroup2", PATH, "cgroup2", MountFlags::empty(), None)
        .map_err(|error| context("mount cgroup2")(error.into()))
}

/// Takes away every mount at a path. All is private here, so nobody else loses them.
fn detach(path: &str) -> io::Result<()> {
    loop {
        match unmount(path, UnmountFlags::DETACH) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => return Ok(()), // No mount is left.
            Err(error) => return Err(context(path)(error.into())),
        }
    }
}

/// Puts what was tried before an error.
pub(crate) fn context(what: &str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}
