//! A shim that has no descriptor left, and what it is given.

use std::path::Path;

use corten_conformance::lane;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

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
        let before = web.descriptors() as u64;
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
            assert_eq!(web.descriptors() as u64, before, "{more}");
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
        let before = web.descriptors() as u64;
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
            assert_eq!(web.descriptors() as u64, before, "{more}");
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

#[test]
fn a_shim_takes_all_descriptors_that_it_may_and_its_processes_get_what_it_was_given() {
    lane::test(|| {
        let own = getrlimit(Resource::Nofile);
        let given = Rlimit {
            current: Some(200),
            ..own
        };
        setrlimit(Resource::Nofile, given).unwrap();
        let mut web = Web::new("ulimit -Sn; ulimit -Hn; sleep 1000");
        web.config["process"]["rlimits"] = serde_json::json!([]);
        let mut stdout = web.stdout();
        web.run();
        let shim = Pid::from_raw(web.client.shim_pid().cast_signed());
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", shim.unwrap())).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let fields: Vec<&str> = line.unwrap().split_whitespace().collect();
        assert_eq!(fields[3], fields[4], "{line:?}");
        let expected = format!("200\n{}\n", fields[4]);
        assert_eq!(fake::container::read(&mut stdout, expected.len()), expected);
        let name = web.fifo("exec-stdout");
        let mut printed = fake::container::open_reader(&name);
        let name = name.to_string_lossy().into_owned();
        web.add_exec_to("one", "ulimit -Sn", &name).unwrap();
        web.start("one").unwrap();
        assert_eq!(fake::container::read(&mut printed, 4), "200\n");
        web.end();
    });
}

#[test]
fn a_logger_gets_the_limit_of_then_from_a_shim_that_has_more_descriptors() {
    lane::test(|| {
        let own = getrlimit(Resource::Nofile);
        let given = Rlimit {
            current: Some(64),
            ..own
        };
        setrlimit(Resource::Nofile, given).unwrap();
        let mut web = Web::new("echo hello; sleep 1000");
        let address = format!("unix://{}", web.client.path.display());
        // Each is a descriptor of the shim, which has raised its own limit.
        let shim = web.client.shim_pid();
        setrlimit(Resource::Nofile, own).unwrap();
        let callers: Vec<Client> = (0..100).map(|_| Client::new(3, &address)).collect();
        let taken = || {
            let all = std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap();
            (all.count() > 100).then_some(())
        };
        assert!(corten_conformance::wait::until(fake::LIMIT, taken).is_some());
        let printed = web.fifo("printed");
        let mut reader = fake::container::open_reader(&printed);
        let script = format!(
            "exec >{}; ulimit -Sn; exec 5>&-; exec cat <&3",
            printed.display()
        );
        web.request.stdout = web.logger(&script);
        web.run();
        assert_eq!(fake::container::read(&mut reader, 9), "64\nhello\n");
        drop(callers);
        web.end();
    });
}
