//! Limits by device: how fast a disk may be used, how many huge pages.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::limits::{bundle_with, setting};
use crate::bundle::Bundle;
use crate::check::Need::{Controller, Machine};
use crate::check::checks;
use crate::lab::Lab;
use crate::lane;

checks!("disks":
    a_throttle_is_the_configured_one [Controller("io")],
    throttles_of_one_disk_do_not_replace_each_other [Controller("io")],
    a_throttle_slows_a_writer [Controller("io")],
    a_throttle_of_a_disk_that_is_not_there_is_an_error [Controller("io")],
    a_disk_weight_is_written_where_the_kernel_has_weights [Controller("io")],
    hugepage_limits_are_the_configured_ones [Controller("hugetlb")],
    a_huge_page_beyond_the_limit_is_refused [Controller("hugetlb"), Machine],
    hugepage_limits_of_a_size_the_machine_lacks_are_an_error [Controller("hugetlb")],
);

const MIB: u64 = 1 << 20;

/// The whole disk that a file lies on, as major and minor number.
fn disk_of(path: &Path) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata(path).expect("the file is there").dev();
    let numbers = |text: &str| {
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let dev = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    // Limits are a disk's; a partition lies in the folder of its disk.
    let whole = if dev.join("partition").exists() {
        dev.join("../dev")
    } else {
        dev.join("dev")
    };
    let text = std::fs::read_to_string(&whole);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", whole.display()));
    numbers(&text).expect("two numbers")
}

/// A place on the machine's disk.
const ON_DISK: &str = "/var/tmp";

pub(super) fn rate((major, minor): (u32, u32), rate: u64) -> Value {
    json!([{"major": major, "minor": minor, "rate": rate}])
}

fn a_throttle_is_the_configured_one(lab: &Lab) {
    let disk = disk_of(Path::new(ON_DISK));
    let limit = json!({"throttleReadBpsDevice": rate(disk, MIB)});
    let bundle = bundle_with(lab, &["sleep"], "blockIO", limit);
    let (major, minor) = disk;
    let expected = format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=max");
    assert_eq!(setting(&lab.create(&bundle), "io.max"), expected);
}

fn throttles_of_one_disk_do_not_replace_each_other(lab: &Lab) {
    let disk = disk_of(Path::new(ON_DISK));
    let limit = json!({
        "throttleReadBpsDevice": rate(disk, MIB),
        "throttleWriteBpsDevice": rate(disk, 2 * MIB),
        "throttleReadIOPSDevice": rate(disk, 30),
        "throttleWriteIOPSDevice": rate(disk, 40),
    });
    let bundle = bundle_with(lab, &["sleep"], "blockIO", limit);
    let (major, minor) = disk;
    let expected = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=30 wiops=40");
    assert_eq!(setting(&lab.create(&bundle), "io.max"), expected);
}

fn a_throttle_slows_a_writer(lab: &Lab) {
    /// 4 MiB at 1 MiB a second; the kernel lets the first moments pass.
    const LEAST: Duration = Duration::from_secs(2);
    let disk = Loop::new(lab, 4 * MIB);
    let number = disk.number();
    let limit = json!({"throttleWriteBpsDevice": rate(number, MIB)});
    let mut bundle = bundle_with(lab, &[], "blockIO", limit);
    bundle.busybox().expect("busybox-static is installed");
    disk.give_to(&mut bundle);
    // Past the page cache, which is written back by whom and when the kernel likes.
    let words = "/bin/busybox dd if=/dev/zero of=/disk oflag=direct bs=64k count=64";
    bundle.args(&words.split(' ').collect::<Vec<_>>());
    let begin = Instant::now();
    drop(lab.run(&bundle).ok());
    let took = begin.elapsed();
    assert!(took >= LEAST, "{took:?}");
}

/// A disk that may be written to: a file behind a loop device.
pub(super) struct Loop {
    node: String,
    minor: u32,
}

impl Loop {
    pub(super) fn new(lab: &Lab, size: u64) -> Self {
        // Loop devices are the machine's: by its name it is seen whose this one is.
        let file = lab.folder().join(format!("{}disk", lane::mark()));
        let made = std::fs::File::create(&file).and_then(|file| file.set_len(size));
        made.expect("the lab's folder is writable");
        // The lane's /dev has none of these.
        node("loop-control", FileType::CharacterDevice, 10, 237);
        for minor in 0..8 {
            node(&format!("loop{minor}"), FileType::BlockDevice, 7, minor);
        }
        let output = std::process::Command::new("losetup")
            .args(["--find", "--show", "--direct-io=off"])
            .arg(&file)
            .output()
            .expect("losetup is installed");
        let node = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let minor = node.strip_prefix("/dev/loop").and_then(|n| n.parse().ok());
        let error = String::from_utf8_lossy(&output.stderr);
        let minor = minor.unwrap_or_else(|| panic!("losetup: {node}{error}"));
        Self { node, minor }
    }

    /// Its major and minor number.
    pub(super) fn number(&self) -> (u32, u32) {
        (7, self.minor)
    }

    /// As /disk.
    pub(super) fn give_to(&self, bundle: &mut Bundle) {
        let mount = json!({"destination": "/disk", "type": "bind", "source": self.node, "options": ["bind"]});
        bundle.push("/mounts", mount);
        let rule =
            json!({"allow": true, "type": "b", "major": 7, "minor": self.minor, "access": "rw"});
        bundle.push("/linux/resources/devices", rule);
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let mut losetup = std::process::Command::new("losetup");
        drop(losetup.arg("--detach").arg(&self.node).status());
    }
}

fn node(name: &str, kind: FileType, major: u32, minor: u32) {
    let path = Path::new("/dev").join(name);
    let device = rustix::fs::makedev(major, minor);
    match rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), device) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn a_throttle_of_a_disk_that_is_not_there_is_an_error(lab: &Lab) {
    let limit = json!({"throttleReadBpsDevice": rate((4000, 1), MIB)});
    let output = lab.run(&bundle_with(lab, &["true"], "blockIO", limit));
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("io.max"), "{output}");
}

fn a_disk_weight_is_written_where_the_kernel_has_weights(lab: &Lab) {
    let bundle = bundle_with(lab, &["sleep"], "blockIO", json!({"weight": 500}));
    let root = Path::new("/sys/fs/cgroup/tests");
    // Which of them is there depends on the schedulers that are loaded.
    let [bfq, io] = ["io.bfq.weight", "io.weight"].map(|file| root.join(file).exists());
    match (bfq, io) {
        (true, _) => {
            let text = setting(&lab.create(&bundle), "io.bfq.weight");
            assert!(matches!(text.as_str(), "500" | "default 500"), "{text}");
        }
        (false, true) => {
            assert_eq!(setting(&lab.create(&bundle), "io.weight"), "default 4950");
        }
        (false, false) => {
            let output = lab.run(&bundle);
            assert!(!output.status.success(), "{output}");
            assert!(output.stderr().contains("weight"), "{output}");
        }
    }
}

/// The sizes of huge pages here, as the cgroup's files have them.
fn page_sizes() -> Vec<String> {
    let files = std::fs::read_dir("/sys/fs/cgroup/tests").expect("the lane's cgroup");
    files
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(".max")?;
            (!size.contains('.')).then(|| size.to_owned())
        })
        .collect()
}

fn hugepage_limits_are_the_configured_ones(lab: &Lab) {
    let sizes = page_sizes();
    assert!(!sizes.is_empty());
    for size in sizes {
        let limit = json!([{"pageSize": size, "limit": 0}]);
        let bundle = bundle_with(lab, &["sleep"], "hugepageLimits", limit);
        let container = lab.create(&bundle);
        for file in ["max", "rsvd.max"] {
            assert_eq!(setting(&container, &format!("hugetlb.{size}.{file}")), "0");
        }
    }
}

fn a_huge_page_beyond_the_limit_is_refused(lab: &Lab) {
    let pool = Path::new("/proc/sys/vm/nr_hugepages");
    let before = std::fs::read_to_string(pool).expect("the kernel has huge pages");
    std::fs::write(pool, "4").expect("the machine is the lane's own");
    let given = |limit: u64| {
        let limit = json!([{"pageSize": "2MB", "limit": limit}]);
        let bundle = bundle_with(lab, &["huge-pages", "2"], "hugepageLimits", limit);
        lab.run(&bundle).stdout()
    };
    let (enough, too_little) = (given(4 * MIB), given(2 * MIB));
    std::fs::write(pool, before.trim()).expect("the machine is the lane's own");
    assert_eq!(enough, "done\n");
    assert_eq!(too_little, "ENOMEM\n");
}

fn hugepage_limits_of_a_size_the_machine_lacks_are_an_error(lab: &Lab) {
    let limit = json!([{"pageSize": "3MB", "limit": 0}]);
    let output = lab.run(&bundle_with(lab, &["true"], "hugepageLimits", limit));
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("3MB"), "{output}");
}
