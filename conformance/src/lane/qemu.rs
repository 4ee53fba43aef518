//! QEMU as a folder: the program with every library it needs, down to the C library, so
//! that the machine's own packages do not change and do not matter.

use std::io;
use std::path::Path;
use std::process::Command;

use super::apt::{self, Archive};
use super::cache::{Part, Work};

/// QEMU 10. Debian 12's own 7.2 crashes at this kernel's boot with `-cpu max`.
const SUITES: [&str; 2] = ["bookworm", "bookworm-backports"];

const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// The folder.
pub(super) fn part() -> Part {
    Part {
        name: "full-qemu".to_owned(),
        recipe: vec![include_str!("qemu.rs").to_owned()],
    }
}

/// Makes it.
pub(super) fn make(work: &Work) -> io::Result<()> {
    work.say("getting QEMU");
    apt::install(work, &[("dpkg-deb", "dpkg")])?;
    let archive = Archive::open(work, &SUITES)?;
    archive.unpack_whole("qemu-system-x86", SUITES[1], work.path())?;
    archive.close()?;
    let mut version = command(work.path());
    work.run(version.arg("--version"))
}

/// The command that starts it. It looks for nothing outside of its folder.
pub(super) fn command(folder: &Path) -> Command {
    let paths = LIBRARIES.map(|name| folder.join(name).display().to_string());
    // By its own loader: this machine's may be older than its C library, or newer.
    let mut command = Command::new(folder.join(LIBRARIES[0]).join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(paths.join(":"));
    command.arg(folder.join("usr/bin/qemu-system-x86_64"));
    for data in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(folder.join(data));
    }
    command.env("QEMU_MODULE_DIR", folder.join(LIBRARIES[1]).join("qemu"));
    command
}
