//! A shim that has no descriptor left.

use std::path::Path;

use corten_conformance::lane;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::fake::container::Web;
use crate::fake::{self, Client};

/// More than a creation opens.
const TRIED: u64 = 80;

/// Lets a shim have this many descriptors; `None`: as many as it may.
fn limit(shim: u32, count: Option<u64>) {
    let pid = Pid::from_raw(shim.cast_signed());
    let own = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: count.or(own.current),
        ..own
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

/// How many descriptors a shim has once its threads have gone.
fn descriptors(shim: u32) -> u64 {
    let count = |name: &str| {
        std::fs::read_dir(format!("/proc/{shim}/{name}"))
            .unwrap()
            .count()
    };
    let one = || (count("task") == 1).then_some(());
    assert!(corten_conformance::wait::until(fake::LIMIT, one).is_some());
    u64::try_from(count("fd")).unwrap()
}

#[test]
fn a_create_that_has_one_descriptor_too_few_leaves_nothing() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let _stdout = web.stdout();
        // What is kept for all creations is there then, and the connection for events.
        web.create().unwrap();
        web.delete("").unwrap();
        web.topics(3);
        let shim = web.client.shim_pid();
        let before = descriptors(shim);
        let mut failed = 0;
        for more in 0..TRIED {
            limit(shim, Some(before + more));
            let created = web.create();
            limit(shim, None);
            match created {
                Ok(_) => {
                    web.delete("").unwrap();
                }
                Err(status) => {
                    failed += 1;
                    let left: Vec<_> = std::fs::read_dir("/run/containerd/corten/test")
                        .map(|all| all.map(|entry| entry.unwrap().file_name()).collect())
                        .unwrap_or_default();
                    assert!(left.is_empty(), "{more}: {left:?} after {}", status.message);
                }
            }
            fake::children(shim, &[]);
            assert!(!web.bundle.join("rootfs/bin").exists(), "{more}: mounted");
            assert_eq!(descriptors(shim), before, "{more}");
        }
        assert!((10..TRIED - 10).contains(&failed), "{failed}");
        web.client.shutdown();
    });
}

#[test]
fn an_exec_that_has_one_descriptor_too_few_leaves_nothing() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let stdout = web.stdout();
        let name = web.request.stdout.clone();
        web.request.stdout.clear();
        let init = web.run();
        web.topics(2);
        let shim = web.client.shim_pid();
        let before = descriptors(shim);
        let mut failed = 0;
        for more in 0..TRIED {
            let exec = format!("exec-{more}");
            web.add_exec_to(&exec, "sleep 1000", &name).unwrap();
            limit(shim, Some(before + more));
            let started = web.start(&exec);
            limit(shim, None);
            if started.is_ok() {
                web.kill(&exec, 9, false).unwrap();
            } else {
                failed += 1;
                fake::children(shim, &[init]);
            }
            web.wait(&exec).unwrap();
            web.delete(&exec).unwrap();
            fake::children(shim, &[init]);
            assert_eq!(descriptors(shim), before, "{more}");
        }
        assert!((5..TRIED - 10).contains(&failed), "{failed}");
        assert!(Path::new(&format!("/proc/{init}")).exists());
        drop(stdout);
        web.end();
    });
}

#[test]
fn a_caller_that_can_not_be_taken_waits_and_the_shim_does_not_spin() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let shim = web.client.shim_pid();
        // Those that it has stay.
        limit(shim, Some(1));
        let mut late = Client::new(3, &format!("unix://{}", web.client.path.display()));
        let log = web.bundle.join("log");
        let lines = || {
            let text = std::fs::read_to_string(&log).unwrap();
            text.lines()
                .filter(|line| line.contains("callers wait"))
                .count()
        };
        let told = || (lines() > 0).then_some(());
        assert!(corten_conformance::wait::until(fake::LIMIT, told).is_some());
        // Each of these is a turn of the loop.
        for _ in 0..100 {
            web.client.shim_pid();
        }
        assert!(lines() < 50, "{}", lines());
        limit(shim, None);
        assert_eq!(late.shim_pid(), shim);
        web.client.shutdown();
    });
}
