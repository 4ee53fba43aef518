//! The shim in a lane's machine, where limits are enforced: scripts/test.sh has a part for it.
#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::unwrap_used, reason = "a test program")]

#[path = "shim/fake/mod.rs"]
#[allow(dead_code, reason = "the tests without a machine use the rest")]
mod fake;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use corten_conformance::lane::{self, Kernel, Request, Uml};
use corten_shim::proto::stats::Metrics;
use corten_shim::proto::task::{Mount, StatsResponse};
use prost::Message as _;

use fake::container::Web;

/// A process boots one machine at a time.
static BOOT: Mutex<()> = Mutex::new(());

/// Runs the test of this name again in a machine, with the shim beside it.
fn in_machine(name: &str) {
    in_machine_with(name, None);
}

/// The same, with one more file.
fn in_machine_with(name: &str, file: Option<(OsString, PathBuf)>) {
    let _alone = BOOT.lock();
    let words = ["/host/tests", "--ignored", "--exact", "--nocapture", name];
    let shim = "containerd-shim-corten-v2";
    let conformance = corten_conformance::built("conformance").unwrap();
    let mut programs: Vec<(OsString, PathBuf)> = vec![
        // It is what watches the command in there.
        ("conformance".into(), conformance),
        (shim.into(), fake::shim().into()),
        ("tests".into(), std::env::current_exe().unwrap()),
    ];
    programs.extend(file);
    let request = Request {
        programs,
        command: words.iter().map(Into::into).collect(),
        variables: vec![("CORTEN_SHIM", format!("/host/{shim}").into())],
        limit: Duration::from_secs(300),
    };
    let machine = Uml::build(Kernel::default()).unwrap();
    assert_eq!(
        machine.run(&request).unwrap(),
        0,
        "in the machine, see above"
    );
}

#[test]
#[ignore = "boots a machine: scripts/test.sh has a part for it"]
fn an_oom_kill_is_told_before_the_exit_that_it_causes() {
    if !lane::is_machine() {
        return in_machine("an_oom_kill_is_told_before_the_exit_that_it_causes");
    }
    let mut web = Web::new("exec busybox tail /dev/zero");
    let limit = serde_json::json!({"limit": 20 << 20, "swap": 20 << 20});
    web.config["linux"]["resources"]["memory"] = limit;
    for _ in 0..5 {
        web.run();
        let order = ["/tasks/create", "/tasks/start", "/tasks/oom"];
        assert_eq!(web.topics(3), order);
        assert_eq!(web.containerd.event().exit().exit_status, 137);
        assert_eq!(web.wait("").unwrap(), 137);
        // Of the cgroup, which outlives its processes.
        let answer: StatsResponse = web.client.name("Stats", "web", "").unwrap();
        let metrics = Metrics::decode(&*answer.stats.unwrap().value).unwrap();
        assert_eq!(metrics.memory_events.unwrap().oom_kill, 1);
        web.delete("").unwrap();
        web.containerd.event().delete();
    }
    web.client.shutdown();
}

#[test]
#[ignore = "boots a machine: scripts/test.sh has a part for it"]
fn an_exec_that_is_killed_for_want_of_memory_is_told_and_its_container_goes_on() {
    if !lane::is_machine() {
        return in_machine(
            "an_exec_that_is_killed_for_want_of_memory_is_told_and_its_container_goes_on",
        );
    }
    let mut web = Web::new("exec busybox sleep 1000");
    let limit = serde_json::json!({"limit": 20 << 20, "swap": 20 << 20});
    web.config["linux"]["resources"]["memory"] = limit;
    web.run();
    web.add_exec("hog", "exec busybox tail /dev/zero").unwrap();
    web.start("hog").unwrap();
    web.topics(4);
    assert_eq!(web.containerd.event().topic, "/tasks/oom");
    let exit = web.containerd.event().exit();
    assert_eq!((&*exit.id, exit.exit_status), ("hog", 137));
    assert_eq!(web.state("").unwrap().status, fake::container::RUNNING);
    web.delete("hog").unwrap();
    web.end();
}

/// An image of a file system with busybox; the machine has no program that makes one.
fn disk(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    for name in ["bin", "proc", "sys", "dev"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in ["sh", "test", "touch"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let disk = folder.join("disk");
    let mut command = Command::new("/sbin/mke2fs");
    command
        .args(["-q", "-t", "ext4", "-d"])
        .args([&root, &disk]);
    assert!(command.arg("32M").status().unwrap().success());
    disk
}

#[test]
#[ignore = "boots a machine: scripts/test.sh has a part for it"]
fn an_image_is_mounted_by_a_loop_device_that_goes_with_it() {
    if !lane::is_machine() {
        let folder = std::env::temp_dir().join(format!("corten-disk-{}", std::process::id()));
        let disk = disk(&folder);
        in_machine_with(
            "an_image_is_mounted_by_a_loop_device_that_goes_with_it",
            Some(("disk".into(), disk)),
        );
        return std::fs::remove_dir_all(folder).unwrap();
    }
    let mut web = Web::new("test -x /bin/busybox && ! touch /here");
    let image = web.containerd.folder.join("disk");
    std::fs::copy("/host/disk", &image).unwrap();
    web.request.rootfs = vec![Mount {
        r#type: "ext4".to_owned(),
        source: image.display().to_string(),
        target: String::new(),
        options: vec!["loop".to_owned(), "ro".to_owned()],
    }];
    web.run();
    let is_attached = || {
        let devices = std::fs::read_dir("/sys/block").unwrap();
        let mut files = devices.map(|device| device.unwrap().path().join("loop/backing_file"));
        files.any(|file| {
            let file = std::fs::read_to_string(file).unwrap_or_default();
            file.trim() == image.to_str().unwrap()
        })
    };
    assert!(is_attached());
    assert_eq!(web.wait("").unwrap(), 0);
    web.delete("").unwrap();
    let gone = || (!is_attached()).then_some(());
    assert!(corten_conformance::wait::until(fake::LIMIT, gone).is_some());
    web.client.shutdown();
}
