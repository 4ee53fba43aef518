//! Pause and resume, and what a container has used.

use std::time::Duration;

use corten_conformance::wait;
use corten_core::{Container, CreateOptions, Delete, ErrorKind, Status};

use crate::lab::{self, LIMIT};

fn status(container: &Container) -> Status {
    lab::done(container.state()).status
}

/// CPU time used so far, in nanoseconds.
fn used(container: &Container) -> u64 {
    lab::done(container.stats()).cpu.usage.total
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    lab::test(|lab| {
        let folder = lab.bundle(&["burn"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        lab::done(container.start());
        let grows = || {
            let before = used(&container);
            wait::until(LIMIT, || (used(&container) > before).then_some(())).is_some()
        };
        assert!(grows());
        lab::done(container.pause());
        assert_eq!(status(&container), Status::Paused);
        let before = used(&container);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(used(&container), before);
        let error = container.pause().expect_err("it stands still");
        assert_eq!(error.kind(), ErrorKind::NotRunning);
        lab::done(container.resume());
        assert_eq!(status(&container), Status::Running);
        assert!(grows());
        lab::delete(container);
    });
}

#[test]
fn pause_and_resume_are_refused_in_the_wrong_state() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        let error = container.resume().expect_err("it was not paused");
        assert_eq!(error.kind(), ErrorKind::WrongState);
        assert_eq!(error.to_string(), "container not paused");
        lab::done(container.start());
        lab::done(container.wait());
        let error = container.pause().expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::NotRunning);
        lab::done(container.delete(Delete::IfStopped));
    });
}

#[test]
fn a_paused_container_is_deleted_by_force() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        lab::done(container.start());
        lab::done(container.pause());
        lab::delete(container);
    });
}

#[test]
fn the_times_used_add_up() {
    lab::test(|lab| {
        let folder = lab.bundle(&["burn"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        lab::done(container.start());
        let stats = wait::until(LIMIT, || {
            let stats = lab::done(container.stats());
            (stats.cpu.usage.user > 20_000_000).then_some(stats)
        });
        let usage = stats.expect("it burns").cpu.usage;
        // The kernel rounds each of them by itself, to a microsecond.
        let sum = usage.user + usage.kernel;
        assert!(usage.total.abs_diff(sum) <= 2000, "{usage:?}");
        lab::delete(container);
    });
}
