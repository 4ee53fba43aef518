//! The checks: one file per facility, one function per statement.
//!
//! A check gets a [`Lab`](crate::lab::Lab) in a lane of its own and panics if its
//! statement does not hold. The statement is the function's name.

use crate::check::Check;

mod broken;
mod bundle_check;
mod cgroup;
mod cgroup_mount;
mod console;
mod debug;
mod devices;
mod disks;
mod errors;
mod events;
mod exec;
mod exec_caller;
mod exec_console;
mod exec_process;
mod exec_security;
mod features;
mod hooks;
mod idmap;
mod images;
mod joined;
mod lifecycle;
mod limits;
mod lsm;
mod mount_namespace;
mod mount_options;
mod mounts;
mod namespaces;
mod netdevices;
mod pairwise;
mod paths;
mod pause;
mod process;
mod propagation;
mod races;
mod readback;
mod regressions;
mod rootfs;
mod scheduling;
mod seccomp;
mod sockets;
mod sysctl;
mod systemd;
mod targets;
mod tmpfs;
mod update;

/// Every facility's checks.
pub(crate) const ALL: &[&[Check]] = &[
    lifecycle::CHECKS,
    exec::CHECKS,
    exec_process::CHECKS,
    exec_caller::CHECKS,
    exec_console::CHECKS,
    exec_security::CHECKS,
    process::CHECKS,
    pause::CHECKS,
    lsm::CHECKS,
    mounts::CHECKS,
    mount_options::CHECKS,
    targets::CHECKS,
    paths::CHECKS,
    cgroup_mount::CHECKS,
    idmap::CHECKS,
    tmpfs::CHECKS,
    namespaces::CHECKS,
    joined::CHECKS,
    mount_namespace::CHECKS,
    pairwise::CHECKS,
    netdevices::CHECKS,
    rootfs::CHECKS,
    races::CHECKS,
    images::CHECKS,
    propagation::CHECKS,
    devices::CHECKS,
    cgroup::CHECKS,
    limits::CHECKS,
    disks::CHECKS,
    update::CHECKS,
    readback::CHECKS,
    events::CHECKS,
    console::CHECKS,
    hooks::CHECKS,
    features::CHECKS,
    broken::CHECKS,
    debug::CHECKS,
    bundle_check::CHECKS,
    errors::CHECKS,
    regressions::CHECKS,
    scheduling::CHECKS,
    seccomp::CHECKS,
    sockets::CHECKS,
    sysctl::CHECKS,
    systemd::CHECKS,
];
