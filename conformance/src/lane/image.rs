//! The root file system of a lane: a small Debian on an ext4 image.

pub(super) mod full;

use std::io;
use std::path::Path;
use std::process::Command;

use super::apt;
use super::cache::{Part, Work};

/// The image's suite: its runc and crun are the peers that Debian ships.
const SUITE: &str = "trixie";

/// What a lane's machine has beside the essential packages.
const UML: &[&str] = &[
    "busybox-static",
    "crun",
    "iproute2",
    "kmod",
    "libcap2-bin",
    "mount",
    "procps",
    "runc",
    "strace",
    "util-linux",
];

const UML_INIT: &str = include_str!("../../lanes/uml/init");

/// The uml lane's image.
pub(super) fn uml() -> Part {
    Part {
        name: "uml-image".to_owned(),
        recipe: vec![include_str!("image.rs").to_owned(), UML_INIT.to_owned()],
    }
}

/// Makes `root.ext4`.
pub(super) fn make_uml(work: &Work) -> io::Result<()> {
    work.say("making the uml lane's image");
    apt::install(
        work,
        &[("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs")],
    )?;
    let root = work.path().join("root");
    debian(work, UML, &root)?;
    set_up(&root)?;
    write(&root, "usr/local/sbin/lane-init", UML_INIT)?;
    executable(&root.join("usr/local/sbin/lane-init"))?;
    file_system(work, &root, "root.ext4", "2G")?;
    std::fs::remove_dir_all(root)
}

fn debian(work: &Work, packages: &[&str], root: &Path) -> io::Result<()> {
    work.say(&format!("a Debian {SUITE} with {}", packages.join(" ")));
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=apt", "--mode=root"]);
    command.arg(format!("--include={}", packages.join(",")));
    command.arg("--aptopt=APT::Install-Recommends \"false\"");
    command.arg("--aptopt=Acquire::Retries \"3\"");
    for unused in ["doc", "man", "locale"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{unused}/*"));
    }
    work.run(command.arg(SUITE).arg(root).arg(apt::mirror()?))
}

/// What every lane's machine has in common.
fn set_up(root: &Path) -> io::Result<()> {
    write(root, "etc/hostname", "lane\n")?;
    write(
        root,
        "etc/hosts",
        "127.0.0.1 localhost lane\n::1 localhost\n",
    )?;
    write(root, "etc/fstab", "")?;
    write(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")?;
    // Of the machine that made it.
    write(root, "etc/resolv.conf", "")?;
    write(root, "etc/apt/sources.list", "")?;
    for folder in ["host", "usr/lib/modules"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    Ok(())
}

fn write(root: &Path, name: &str, text: &str) -> io::Result<()> {
    std::fs::write(root.join(name), text).map_err(super::context(name))
}

fn executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

/// Writes a folder to a new ext4 image. Without a journal and checksums: it is read-only
/// for good once it is made.
pub(super) fn file_system(work: &Work, from: &Path, name: &str, size: &str) -> io::Result<()> {
    work.say(&format!("writing {name}"));
    work.run(&mut mke2fs(from, &work.path().join(name), size))
}

/// The command that writes a folder to a new ext4 image.
pub(super) fn mke2fs(from: &Path, to: &Path, size: &str) -> Command {
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-t", "ext4", "-m", "0"]);
    command.args(["-O", "^has_journal,^metadata_csum,^resize_inode"]);
    command.args(["-E", "lazy_itable_init=1,root_owner=0:0", "-d"]);
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    command.arg(from).arg(to).arg(size);
    command
}
