//! The uml lane: a User Mode Linux kernel as one process of this machine.
//!
//! It has cgroup v2 with the controllers cpu, io, memory and pids. It lacks cpuset,
//! hugetlb, rdma, misc, PSI, several processors, `AppArmor`, landlock and nftables.
//! Its root is the image with a copy-on-write file on top; of this machine it sees the
//! boot's own folder and nothing else: `hostfs=` confines every hostfs mount to that.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::boot::{Folder, Line, Machine, Request};
use super::cache::Made;
use super::kernel::{self, Kernel};
use super::{context, image};

/// The machine's memory.
const MEMORY_MIB: u64 = 1024;

/// The files of a lane that can be booted.
#[derive(Debug)]
pub struct Uml {
    image: Made,
    kernel: Kernel,
    files: Made,
}

impl Uml {
    /// Makes what is missing.
    ///
    /// # Errors
    ///
    /// If something can't be fetched or made, with what was tried and what it said.
    pub fn build(kernel: Kernel) -> io::Result<Self> {
        Ok(Self {
            image: image::uml().get(image::make_uml)?,
            kernel,
            files: kernel::uml(kernel).get(|work| kernel::make_uml(work, kernel))?,
        })
    }

    /// Boots, runs one command, returns its exit code.
    ///
    /// # Errors
    ///
    /// If the machine can't be started.
    pub fn run(&self, request: &Request) -> io::Result<i32> {
        let folder = Folder::new(request)?;
        let lines = vec![Line::to(io::stdout())?, Line::to(io::stderr())?];
        let process = self
            .command(folder.path(), &lines)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.console())?)
            .process_group(0)
            .spawn()
            .map_err(context("User Mode Linux"))?;
        let machine = Machine {
            process,
            folder: &folder,
            lines,
        };
        Ok(machine.finish(request.limit)?.tell(&folder))
    }

    fn command(&self, folder: &Path, lines: &[Line]) -> io::Result<Command> {
        // Also where the caller is a test program that is beside it.
        let this = crate::built("conformance").map_err(io::Error::other)?;
        let at = folder.display();
        let mut command = Command::new(&this);
        // In the native lane, so that none of its many processes outlives it, and with
        // its memory on that lane's tmpfs. All of it dies with this process: see `cli`.
        command.arg("die-with-parent").arg(this);
        command.args(["native", "--", "env"]);
        command.args(self.kernel.variable(self.files.path()));
        command.arg(self.files.path().join("linux"));
        command.args(self.kernel.arguments());
        command.arg(format!(
            "ubd0c={at}/cow,{}/root.ext4",
            self.image.path().display()
        ));
        command.arg(format!(
            "ubd1r={}/modules.ext4",
            self.files.path().display()
        ));
        command.args(["root=/dev/ubda", "rootfstype=ext4", "rw"]);
        command.arg(format!("mem={MEMORY_MIB}M"));
        command.arg("init=/usr/local/sbin/lane-init");
        command.arg(format!("hostfs={at}"));
        command.args(["con=null", "con0=null,fd:2", "quiet", "loglevel=4"]);
        for (number, line) in lines.iter().enumerate() {
            let fd = line.write.as_raw_fd();
            command.arg(format!("con{}=null,fd:{fd}", number + 1));
        }
        command.arg(format!("uml_dir={at}"));
        Ok(command)
    }
}
