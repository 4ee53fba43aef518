//! A cgroup that somebody else has, or wants at the same time.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Barrier;

use corten_conformance::bundle::Bundle as Folder;
use corten_core::{CreateOptions, Delete};
use serde_json::json;

use crate::lab::{self, Lab};

const PATH: &str = "/shared-cgroup";

fn group() -> PathBuf {
    Path::new("/sys/fs/cgroup").join(PATH.trim_start_matches('/'))
}

fn folder(lab: &Lab, probe: &[&str]) -> Folder {
    let mut folder = lab.bundle(probe);
    folder.config["linux"]["cgroupsPath"] = json!(PATH);
    folder
}

/// A process in the cgroup that is not the container's.
fn stranger() -> Child {
    let child = Command::new("sleep").arg("600").spawn();
    let child = child.expect("sleep is installed");
    let moved = std::fs::write(group().join("cgroup.procs"), child.id().to_string());
    moved.expect("the cgroup is there");
    child
}

#[test]
fn a_delete_of_a_stopped_container_kills_nobody_else_in_its_cgroup() {
    lab::test(|lab| {
        let folder = folder(lab, &["true"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        let id = container.id().to_owned();
        lab::done(container.start());
        lab::done(container.wait());
        let mut other = stranger();
        let error = container
            .delete(Delete::IfStopped)
            .expect_err("it is in use");
        let text = format!("{error:#}");
        let who = format!("others use its cgroup: process {}", other.id());
        assert!(text.contains(&who), "{text}");
        assert!(other.try_wait().expect("an own child").is_none());
        // By force: whoever it is.
        let again = lab::done(lab.runtime.container(&id));
        std::thread::scope(|scope| {
            scope.spawn(|| other.wait().expect("an own child"));
            lab::delete(again);
        });
        assert!(!group().exists());
    });
}

#[test]
fn a_signal_to_all_of_a_stopped_container_reaches_nobody_else_in_its_cgroup() {
    lab::test(|lab| {
        let folder = folder(lab, &["true"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        lab::done(container.start());
        lab::done(container.wait());
        let mut other = stranger();
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            lab::done(container.kill_all(signal));
        }
        assert!(other.try_wait().expect("an own child").is_none());
        other.kill().expect("an own child");
        other.wait().expect("an own child");
        lab::delete(container);
    });
}

#[test]
fn without_a_pid_namespace_a_delete_kills_what_a_stopped_container_left() {
    lab::test(|lab| {
        let mut folder = folder(lab, &["true"]);
        folder.without_namespace("pid");
        let mut container = lab.create(&folder, CreateOptions::default());
        lab::done(container.start());
        lab::done(container.wait());
        let mut other = stranger();
        std::thread::scope(|scope| {
            scope.spawn(|| other.wait().expect("an own child"));
            lab::done(container.delete(Delete::IfStopped));
        });
        assert!(!group().exists());
    });
}

#[test]
fn of_creations_at_the_same_time_in_one_cgroup_one_succeeds() {
    const THREADS: usize = 4;
    lab::test(|lab| {
        let folder = folder(lab, &["sleep"]);
        let bundle = lab::load(&folder);
        let runtime = &lab.runtime;
        for round in 0..10 {
            let barrier = Barrier::new(THREADS);
            let (barrier, bundle) = (&barrier, &bundle);
            let create = |thread: usize| {
                barrier.wait();
                let id = format!("race-{round}-{thread}");
                runtime.create(&id, bundle, CreateOptions::default())
            };
            let made: Vec<_> = std::thread::scope(|scope| {
                let spawn = |thread| scope.spawn(move || create(thread));
                let threads: Vec<_> = (0..THREADS).map(spawn).collect();
                let ends = threads.into_iter().map(|thread| thread.join());
                ends.map(|made| made.expect("no panic")).collect()
            });
            let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
            for error in bad.into_iter().filter_map(Result::err) {
                let text = format!("{error:#}");
                assert!(text.contains("container's cgroup is not empty"), "{text}");
            }
            assert_eq!(good.len(), 1);
            good.into_iter()
                .filter_map(Result::ok)
                .for_each(lab::delete);
        }
    });
}

#[test]
fn what_a_creation_that_was_killed_early_has_left_is_deleted_without_its_neighbour() {
    lab::test(|lab| {
        let folder = folder(lab, &["sleep"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        lab::done(container.start());
        // It had written down what it was about to make, and then another one was faster.
        let left = lab.runtime.root().join("left");
        std::fs::create_dir(&left).expect("the lab's own");
        let intent = json!({"id": "left", "cgroup": PATH, "made_cgroups": [PATH]});
        std::fs::write(left.join("intent.json"), intent.to_string()).expect("the lab's own");
        lab::done(lab.runtime.delete_leftovers("left"));
        assert!(!left.exists());
        let state = lab::done(container.state());
        assert_eq!(state.status.to_string(), "running");
        lab::delete(container);
        assert!(!group().exists());
    });
}
