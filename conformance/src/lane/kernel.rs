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
}

impl Kernel {
    /// The one of this name on the command line.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "6.1" => Some(Self::Linux6_1),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Linux6_1 => "6.1",
        }
    }

    /// The suite whose package it is.
    fn suite(self) -> &'static str {
        match self {
            Self::Linux6_1 => "bookworm",
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

/// Makes `linux`, `xstate.so` and `modules.ext4`.
pub(super) fn make_uml(work: &Work, kernel: Kernel) -> io::Result<()> {
    work.say(&format!("getting User Mode Linux {}", kernel.name()));
    let needed = [
        ("cc", "gcc"),
        ("strip", "binutils"),
        ("depmod", "kmod"),
        ("mke2fs", "e2fsprogs"),
        ("dpkg-deb", "dpkg"),
    ];
    apt::install(work, &needed)?;
    let package = work.path().join("package");
    apt::unpack(work, kernel.suite(), &["user-mode-linux"], &package)?;
    std::fs::rename(package.join("usr/bin/linux.uml"), work.path().join("linux"))
        .map_err(context("linux.uml"))?;
    modules(work, &package)?;
    std::fs::remove_dir_all(package)?;
    compile(work)
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
