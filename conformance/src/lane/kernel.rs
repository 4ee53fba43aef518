//! The uml lane's kernels: User Mode Linux as Debian builds it, and its modules.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache::{Part, Work};
use super::{apt, context, image};

const XSTATE: &str = include_str!("../../lanes/uml/xstate.c");

/// Which kernel a lane boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernel {
    /// Linux 6.1 of Debian 12: the oldest that is tested.
    #[default]
    Linux6_1,
    /// The newest of Debian, sid's: 7.x.
    Newest,
}

impl Kernel {
    /// The one of this name on the command line.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "6.1" => Some(Self::Linux6_1),
            "newest" => Some(Self::Newest),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Linux6_1 => "6.1",
            Self::Newest => "newest",
        }
    }

    /// The suite whose package it is.
    fn suite(self) -> &'static str {
        match self {
            Self::Linux6_1 => "bookworm",
            Self::Newest => "sid",
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Linux6_1 => &["user-mode-linux"],
            Self::Newest => &["user-mode-linux", "libc6"],
        }
    }

    /// What it needs in its environment, when it lies in this folder.
    pub(super) fn variable(self, folder: &Path) -> Option<String> {
        match self {
            Self::Linux6_1 => Some(format!("LD_PRELOAD={}/xstate.so", folder.display())),
            Self::Newest => None,
        }
    }

    /// What it takes on its command line that others do not know.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Linux6_1 => &[],
            // Several times as fast as ptrace(2).
            Self::Newest => &["seccomp=on"],
        }
    }
}

/// The kernel with its modules.
pub(super) fn uml(kernel: Kernel) -> Part {
    Part {
        name: format!("uml-{}", kernel.name()),
        recipe: vec![include_str!("kernel.rs").to_owned(), XSTATE.to_owned()],
    }
}

/// Makes `linux`, `modules.ext4`, and what the kernel needs to run here.
pub(super) fn make_uml(work: &Work, kernel: Kernel) -> io::Result<()> {
    work.say(&format!("getting User Mode Linux {}", kernel.name()));
    let needed = [
        ("cc", "gcc"),
        ("strip", "binutils"),
        ("depmod", "kmod"),
        ("mke2fs", "e2fsprogs"),
        ("patchelf", "patchelf"),
        ("dpkg-deb", "dpkg"),
    ];
    apt::install(work, &needed)?;
    let package = work.path().join("package");
    apt::unpack(work, kernel.suite(), kernel.packages(), &package)?;
    std::fs::rename(package.join("usr/bin/linux.uml"), work.path().join("linux"))
        .map_err(context("linux.uml"))?;
    modules(work, &package)?;
    match kernel {
        Kernel::Linux6_1 => compile(work)?,
        Kernel::Newest => own_libc(work, &package)?,
    }
    std::fs::remove_dir_all(package)
}

/// Gives the kernel, which is a program, the C library of its suite: this machine's is too
/// old for it. To start it by the newer loader does not work, it starts itself again.
fn own_libc(work: &Work, package: &Path) -> io::Result<()> {
    const LOADER: &str = "ld-linux-x86-64.so.2";
    for name in [LOADER, "libc.so.6"] {
        let from = package.join("usr/lib/x86_64-linux-gnu").join(name);
        std::fs::copy(&from, work.path().join(name)).map_err(context(&from.to_string_lossy()))?;
    }
    let mut patchelf = Command::new("patchelf");
    patchelf
        .arg("--set-interpreter")
        .arg(work.goal().join(LOADER));
    patchelf.arg("--set-rpath").arg(work.goal());
    work.run(patchelf.arg(work.path().join("linux")))
}

/// Puts the modules where depmod looks for them, without those that no container needs.
fn modules(work: &Work, package: &Path) -> io::Result<()> {
    const UNUSED: &[&str] = &["kernel/sound", "kernel/drivers/media", "kernel/drivers/gpu"];
    work.say("preparing the modules");
    let lib = work.path().join("lib");
    std::fs::create_dir(&lib)?;
    let to = lib.join("modules");
    std::fs::rename(package.join("usr/lib/uml/modules"), &to).map_err(context("modules"))?;
    for version in std::fs::read_dir(&to)? {
        let version = version?;
        for folder in UNUSED {
            drop(std::fs::remove_dir_all(version.path().join(folder)));
        }
        for module in modules_below(&version.path()) {
            work.run(Command::new("strip").arg("-g").arg(module))?;
        }
        let mut depmod = Command::new("depmod");
        depmod.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        work.run(depmod.arg("-b").arg(work.path()).arg(version.file_name()))?;
    }
    image::file_system(work, &to, "modules.ext4", "256M")?;
    std::fs::remove_dir_all(lib)
}

fn modules_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(modules_below(&path));
        } else if path.extension().is_some_and(|suffix| suffix == "ko") {
            found.push(path);
        }
    }
    found
}

fn compile(work: &Work) -> io::Result<()> {
    let source = work.path().join("xstate.c");
    std::fs::write(&source, XSTATE)?;
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]);
    work.run(command.arg(work.path().join("xstate.so")).arg(source))
}
