//! A shim that is killed, at whatever moment: `delete` leaves nothing.
//!
//! The moments are by a clock, but nothing here depends on what each of them hits.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use corten_conformance::lane;

use crate::fake::container::Web;
use crate::fake::{self, kill};

/// How many moments are tried, and how far apart they are. More by hand: `CORTEN_KILLS=500`.
const MOMENTS: u64 = 25;
const STEP: Duration = Duration::from_micros(800);

fn moments() -> impl Iterator<Item = Duration> {
    let count = std::env::var("CORTEN_KILLS").map_or(MOMENTS, |count| count.parse().unwrap());
    let all = MOMENTS as u32 * STEP;
    (0..count).map(move |number| all.mul_f64(number as f64 / count as f64))
}

/// All processes of the lane, whose pid namespace is its own.
fn processes() -> BTreeSet<u32> {
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect()
}

/// What `delete` has to bring back; `before` are the processes from before.
#[track_caller]
fn nothing_is_left(web: &Web, before: &BTreeSet<u32>, moment: Duration) {
    web.containerd.delete("web", &web.bundle);
    let mut left = BTreeSet::new();
    let none = || {
        left = processes().difference(before).copied().collect();
        left.is_empty().then_some(())
    };
    let gone = corten_conformance::wait::until(fake::LIMIT, none);
    assert!(gone.is_some(), "{moment:?}: processes {left:?}");
    assert!(!web.client.path.exists(), "{moment:?}: socket");
    let state = std::fs::read_dir("/run/containerd/corten/test");
    // Kept filters are no container's.
    let hidden = |name: std::ffi::OsString| name.to_string_lossy().starts_with('.');
    let state = state.map_or(0, |all| {
        let names = all.map(|entry| entry.unwrap().file_name());
        names.filter(|name| !hidden(name.clone())).count()
    });
    assert_eq!(state, 0, "{moment:?}: state");
    let rootfs = web.bundle.join("rootfs/bin");
    assert!(!rootfs.exists(), "{moment:?}: root file system");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("/run/fake/"), "{moment:?}: {mounts}");
    let cgroups = std::fs::read_dir("/sys/fs/cgroup").unwrap();
    let cgroups = cgroups.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().contains("web")
    });
    assert_eq!(cgroups.count(), 0, "{moment:?}: cgroup");
}

#[test]
fn in_the_middle_of_a_create_and_start() {
    lane::test(|| {
        for moment in moments() {
            let before = processes();
            let mut web = Web::new("sleep 1000");
            let shim = web.client.shim_pid();
            std::fs::write(web.bundle.join("config.json"), web.config.to_string()).unwrap();
            web.client.send("Create", &web.request.clone());
            web.ask("Start", "");
            std::thread::sleep(moment);
            kill(shim);
            nothing_is_left(&web, &before, moment);
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

#[test]
fn in_the_middle_of_an_exec() {
    lane::test(|| {
        for moment in moments() {
            let before = processes();
            let mut web = Web::new("sleep 1000");
            let shim = web.client.shim_pid();
            web.run();
            for exec in ["one", "two"] {
                web.add_exec(exec, "sleep 1000").unwrap();
                web.ask("Start", exec);
            }
            std::thread::sleep(moment);
            kill(shim);
            nothing_is_left(&web, &before, moment);
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

#[test]
fn in_the_middle_of_an_end_and_delete() {
    lane::test(|| {
        for moment in moments() {
            let before = processes();
            let mut web = Web::new("sleep 1000");
            let shim = web.client.shim_pid();
            web.run();
            web.kill("", 9, true).unwrap();
            web.ask("Wait", "");
            web.ask("Delete", "");
            std::thread::sleep(moment);
            web.ask("Delete", "");
            web.ask("Shutdown", "");
            // It may just have ended by itself.
            let mut command = Command::new("kill");
            command.args(["-9", &shim.to_string()]).output().unwrap();
            fake::gone(shim);
            nothing_is_left(&web, &before, moment);
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}
