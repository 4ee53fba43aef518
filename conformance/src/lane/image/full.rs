//! The full lane's image: a Debian with systemd and container engines, its kernel's
//! modules, and next to nothing that starts by itself.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{SUITE, debian, executable, file_system, set_up, write};
use crate::lane::apt::{self, Archive};
use crate::lane::cache::{Part, Work};
use crate::lane::context;

/// What the machine has beside the essential packages.
const PACKAGES: &[&str] = &[
    "aardvark-dns",
    "acl",
    "apparmor",
    "attr",
    "bats",
    "busybox-static",
    "ca-certificates",
    "containerd",
    "criu",
    "crun",
    "dbus",
    "dbus-user-session",
    "docker-cli",
    "docker.io",
    "e2fsprogs",
    "fuse-overlayfs",
    "iproute2",
    "iptables",
    "jq",
    "kmod",
    "libcap2-bin",
    "libpam-systemd",
    "mount",
    "netavark",
    "nftables",
    "openssl",
    "passt",
    "passwd",
    "podman",
    "procps",
    "psmisc",
    "runc",
    "slirp4netns",
    "strace",
    "systemd",
    "systemd-sysv",
    "udev",
    "uidmap",
    "util-linux",
];

/// Depends on the newest kernel for virtual machines: with NVMe, ext4 and the virtual
/// console built in, so that no initramfs is needed.
const KERNEL: &str = "linux-image-cloud-amd64";

const RUN: &str = include_str!("../../../lanes/full/run");
const SERVICE: &str = include_str!("../../../lanes/full/lane.service");
const TARGET: &str = include_str!("../../../lanes/full/lane.target");
const MASKED: &str = include_str!("../../../lanes/full/masked");

/// The image and the kernel it is for.
pub(in crate::lane) fn part() -> Part {
    let recipe = [
        include_str!("full.rs"),
        include_str!("../image.rs"),
        RUN,
        SERVICE,
        TARGET,
        MASKED,
    ];
    Part {
        name: "full-image".to_owned(),
        recipe: recipe.map(str::to_owned).to_vec(),
    }
}

/// Makes `root.ext4` and `vmlinuz`.
pub(in crate::lane) fn make(work: &Work) -> io::Result<()> {
    work.say("making the full lane's image");
    let needed = [
        ("mmdebstrap", "mmdebstrap"),
        ("mke2fs", "e2fsprogs"),
        ("depmod", "kmod"),
        ("xz", "xz-utils"),
        ("dpkg-deb", "dpkg"),
    ];
    apt::install(work, &needed)?;
    let root = work.path().join("root");
    debian(work, PACKAGES, &root)?;
    set_up(&root)?;
    kernel(work, &root)?;
    systemd(&root)?;
    user(work, &root)?;
    write(&root, "usr/local/sbin/lane-run", RUN)?;
    executable(&root.join("usr/local/sbin/lane-run"))?;
    file_system(work, &root, "root.ext4", "4G")?;
    std::fs::remove_dir_all(root)
}

/// The kernel beside the image, and its modules in it: unpacked, since the guest is slow.
fn kernel(work: &Work, root: &Path) -> io::Result<()> {
    let package = work.path().join("kernel");
    let archive = Archive::open(work, &[SUITE])?;
    let name = archive.dependency(KERNEL, "linux-image-")?;
    archive.unpack(&[&name], &package)?;
    archive.close()?;
    let version = name.trim_start_matches("linux-image-");
    std::fs::rename(
        package.join("boot").join(format!("vmlinuz-{version}")),
        work.path().join("vmlinuz"),
    )
    .map_err(context("vmlinuz"))?;
    let from = package.join("usr/lib/modules").join(version);
    let to = root.join("usr/lib/modules").join(version);
    std::fs::rename(from, &to).map_err(context("modules"))?;

    work.say("preparing the modules");
    let modules = packed_below(&to);
    for some in modules.chunks(100) {
        work.run(Command::new("xz").args(["-d", "-T2"]).args(some))?;
    }
    let mut depmod = Command::new("depmod");
    depmod.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    work.run(depmod.arg("-b").arg(root).arg(version))?;
    std::fs::remove_dir_all(package)
}

fn packed_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(packed_below(&path));
        } else if path.extension().is_some_and(|suffix| suffix == "xz") {
            found.push(path);
        }
    }
    found
}

/// Boots to the lane's own target, with little else.
fn systemd(root: &Path) -> io::Result<()> {
    const UNITS: &str = "etc/systemd/system";
    for folder in [
        "etc/systemd/journald.conf.d",
        "etc/systemd/system.conf.d",
        "etc/systemd/system-generators",
        "etc/systemd/system/user@.service.d",
        "var/lib/systemd/linger",
    ] {
        std::fs::create_dir_all(root.join(folder)).map_err(context(folder))?;
    }
    for line in MASKED.lines() {
        let folder = match line {
            "" => continue,
            comment if comment.starts_with('#') => continue,
            generator if generator.ends_with("-generator") => "etc/systemd/system-generators",
            _ => UNITS,
        };
        replace(&root.join(folder).join(line), "/dev/null")?;
    }
    // Nothing is started but on demand: `systemctl start docker`.
    for wants in ["multi-user.target.wants", "sockets.target.wants"] {
        let folder = root.join(UNITS).join(wants);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(context(wants))?;
        }
    }
    write(root, &format!("{UNITS}/lane.service"), SERVICE)?;
    write(root, &format!("{UNITS}/lane.target"), TARGET)?;
    replace(&root.join(UNITS).join("default.target"), "lane.target")?;
    write(
        root,
        "etc/systemd/journald.conf.d/lane.conf",
        "[Journal]\nStorage=volatile\nRateLimitBurst=0\n",
    )?;
    write(
        root,
        "etc/systemd/system.conf.d/lane.conf",
        "[Manager]\nDefaultTimeoutStartSec=300s\nDefaultTimeoutStopSec=10s\n",
    )?;
    // By default a user's session gets no more than memory and pids.
    write(
        root,
        "etc/systemd/system/user@.service.d/lane.conf",
        "[Service]\nDelegate=cpu cpuset io memory pids\n",
    )
}

/// A user with subordinate ids, for containers without root. subuid(5)
fn user(work: &Work, root: &Path) -> io::Result<()> {
    let mut command = Command::new("chroot");
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    command.arg(root);
    command.args(["useradd", "-m", "-u", "1000", "-s", "/bin/bash", "tester"]);
    work.run(&mut command)?;
    for file in ["etc/subuid", "etc/subgid"] {
        write(root, file, "tester:100000:65536\n")?;
    }
    Ok(())
}

fn replace(link: &Path, target: &str) -> io::Result<()> {
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(context(&link.to_string_lossy())(error));
        }
        _ => {}
    }
    symlink(target, link).map_err(context(&link.to_string_lossy()))
}
