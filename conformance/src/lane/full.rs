//! The full lane: a whole machine in QEMU, without KVM, with systemd as its first process.
//!
//! Debian's own kernel with every controller of cgroup v2, `AppArmor`, PSI and two
//! processors; containerd, Docker and podman are installed. Four to fifteen times as slow
//! as this machine. Its disk is the image, and what it writes there is gone with it. Of
//! this machine it sees a disk with copies of the programs under test and nothing else.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::boot::{End, Folder, Line, Machine, Request};
use super::cache::Made;
use super::{context, image, qemu};

/// The machine's memory and processors.
const MEMORY_MIB: u64 = 2048;
const PROCESSORS: u32 = 2;

/// How long a boot may take: six to eight seconds on a quiet machine.
const BOOT: Duration = Duration::from_secs(180);

/// What `lanes/full/run` writes to the console before the command.
const UP: &str = "lane: up";

/// `no_timer_check` and the clock source are needed where the processors are busy; the
/// last ones end the machine at a panic and keep the console for what is wrong.
const KERNEL_ARGUMENTS: &str = "root=/dev/nvme0n1 rootfstype=ext4 rw console=ttyS0 quiet \
    loglevel=3 mitigations=off audit=0 nowatchdog no_timer_check clocksource=hpet \
    random.trust_cpu=on panic=-1 systemd.show_status=0";

/// The files of a machine that can be booted.
#[derive(Debug)]
pub struct Full {
    image: Made,
    qemu: Made,
}

impl Full {
    /// Makes what is missing.
    ///
    /// # Errors
    ///
    /// If something can't be fetched or made, with what was tried and what it said.
    pub fn build() -> io::Result<Self> {
        Ok(Self {
            qemu: qemu::part().get(qemu::make)?,
            image: image::full::part().get(image::full::make)?,
        })
    }

    /// Boots, runs one command, returns its exit code.
    ///
    /// A guest that never gets as far as the command is booted once more: QEMU without
    /// KVM is rarely, but sometimes, at fault. What happens later is not tried again. The
    /// request's limit begins with the command.
    ///
    /// # Errors
    ///
    /// If the machine can't be started.
    pub fn run(&self, request: &Request) -> io::Result<i32> {
        let folder = Folder::new(request)?;
        share(&folder)?;
        let end = at_most_twice(|| {
            let boot = self.boot(&folder, request.limit)?;
            if let Boot::NeverUp(_) = boot {
                eprintln!("lane: the guest never came up, its console:");
                folder.print_console();
            }
            Ok(boot)
        })?;
        Ok(end.tell(&folder))
    }

    fn boot(&self, folder: &Folder, limit: Duration) -> io::Result<Boot> {
        let lines = vec![Line::to(io::stdout())?, Line::to(io::stderr())?];
        std::fs::write(folder.console(), "")?;
        // QEMU's own words too; both append.
        let console = File::options().append(true).open(folder.console())?;
        let process = self
            .command(folder, &lines)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(console)
            .process_group(0)
            .spawn()
            .map_err(context("QEMU"))?;
        let mut machine = Machine {
            process,
            folder,
            lines,
        };
        if machine.says(UP, BOOT) {
            return Ok(Boot::Up(machine.finish(limit)?));
        }
        Ok(Boot::NeverUp(machine.finish(Duration::ZERO)?))
    }

    fn command(&self, folder: &Folder, lines: &[Line]) -> io::Result<Command> {
        let (qemu, at) = (qemu::command(self.qemu.path()), folder.path().display());
        let mut command = Command::new(std::env::current_exe()?);
        // QEMU is one process; it dies with this one.
        command.arg("die-with-parent").arg(qemu.get_program());
        command.args(qemu.get_args());
        command.envs(
            qemu.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        // Where it keeps what the guest writes.
        command.env("TMPDIR", folder.path());
        command.args(["-machine", "q35,usb=off,sata=off,smbus=off", "-cpu", "max"]);
        command.args(["-accel", "tcg,thread=multi,tb-size=512"]);
        command.args([
            "-smp",
            &PROCESSORS.to_string(),
            "-m",
            &MEMORY_MIB.to_string(),
        ]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-rtc", "base=utc"]);
        command
            .arg("-kernel")
            .arg(self.image.path().join("vmlinuz"));
        command.args(["-append", KERNEL_ARGUMENTS]);
        command.arg("-chardev");
        command.arg(format!("file,id=console,path={at}/console,append=on"));
        command.args(["-serial", "chardev:console"]);
        disks(&mut command, self.image.path(), folder.path());
        command.arg("-fw_cfg");
        command.arg(format!("name=opt/lane/command,file={at}/control/command"));
        command.args(["-device", "virtio-serial-pci"]);
        for (number, (line, name)) in lines.iter().zip(["output", "errors"]).enumerate() {
            let (fd, set) = (line.write.as_raw_fd(), number + 1);
            command.arg("-add-fd").arg(format!("fd={fd},set={set}"));
            port(&mut command, name, &format!("/dev/fdset/{set},append=on"));
        }
        port(&mut command, "code", &format!("{at}/control/code"));
        Ok(command)
    }
}

/// One boot.
enum Boot {
    /// The guest got as far as the command.
    Up(End),
    NeverUp(End),
}

fn at_most_twice(mut boot: impl FnMut() -> io::Result<Boot>) -> io::Result<End> {
    if let Boot::Up(end) = boot()? {
        return Ok(end);
    }
    eprintln!("lane: booting once more");
    match boot()? {
        Boot::Up(end) | Boot::NeverUp(end) => Ok(end),
    }
}

/// The root, on NVMe because its driver is built in; and the programs, on virtio so that
/// there is only one disk of each kind: the order of two is not fixed.
fn disks(command: &mut Command, image: &Path, folder: &Path) {
    let root = image.join("root.ext4");
    command.arg("-drive").arg(format!(
        "if=none,id=root,file={},format=raw,file.locking=off,snapshot=on,cache=unsafe",
        root.display()
    ));
    command.args(["-device", "nvme,drive=root,serial=root"]);
    command.arg("-drive").arg(format!(
        "if=none,id=host,file={}/host.ext4,format=raw,readonly=on",
        folder.display()
    ));
    command.args(["-device", "virtio-blk-pci,drive=host"]);
}

/// A port of the virtual console that ends in a file.
fn port(command: &mut Command, name: &str, to: &str) {
    command.arg("-chardev");
    command.arg(format!("file,id={name},path={to}"));
    command.arg("-device");
    command.arg(format!("virtserialport,chardev={name},name=lane.{name}"));
}

/// Writes the programs under test to a disk, the fastest of the ways to share files.
fn share(folder: &Folder) -> io::Result<()> {
    let (from, to) = (folder.path().join("host"), folder.path().join("host.ext4"));
    let mut bytes = 0;
    for entry in std::fs::read_dir(&from)? {
        bytes += entry?.metadata()?.len();
    }
    // A quarter and some MiB for what the file system itself needs.
    let size = format!("{}M", bytes * 5 / 4 / (1 << 20) + 16);
    super::cache::output(&mut image::mke2fs(&from, &to, &size))?;
    std::fs::remove_dir_all(from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Boot, End, at_most_twice};

    /// How often it was booted, and the end of the last one.
    fn boots(mut outcomes: Vec<Boot>) -> (usize, End) {
        let all = outcomes.len();
        let end = at_most_twice(|| Ok(outcomes.remove(0))).unwrap();
        (all - outcomes.len(), end)
    }

    fn hang() -> End {
        End::TimedOut(Duration::ZERO)
    }

    #[test]
    fn only_a_guest_that_never_came_up_is_booted_again_and_only_once() {
        let (count, end) = boots(vec![Boot::Up(hang()), Boot::Up(End::Code(0))]);
        assert!(matches!((count, end), (1, End::TimedOut(_))));
        let (count, end) = boots(vec![Boot::NeverUp(hang()), Boot::Up(End::Code(0))]);
        assert!(matches!((count, end), (2, End::Code(0))));
        let never = || Boot::NeverUp(hang());
        let (count, end) = boots(vec![never(), never(), never()]);
        assert!(matches!((count, end), (2, End::TimedOut(_))));
    }
}
