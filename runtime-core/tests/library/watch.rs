//! What a program is told of a container that it watches.
//!
//! OOM kills need a memory controller: they are checks of `conformance`, by `events`.

use std::time::Duration;

use corten_conformance::wait;
use corten_core::{CreateOptions, Event};

use crate::lab::{self, LIMIT};

const NOW: Option<Duration> = Some(Duration::ZERO);

#[test]
fn the_end_of_a_container_is_told_again_and_again() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        let mut early = lab::done(container.watch());
        lab::done(container.start());
        assert_eq!(lab::done(early.next(NOW)), None);
        let readable = wait::readable(&early, Duration::from_millis(20));
        assert!(!readable.expect("it can be polled"));
        lab::done(container.kill(libc::SIGKILL));
        assert!(wait::readable(&early, LIMIT).expect("it can be polled"));
        for _ in 0..2 {
            assert_eq!(lab::done(early.next(None)), Some(Event::Ended));
        }
        lab::done(container.wait());
        let mut late = lab::done(container.watch());
        assert_eq!(lab::done(late.next(NOW)), Some(Event::Ended));
        lab::delete(container);
        assert_eq!(lab::done(late.next(NOW)), Some(Event::Ended));
    });
}

#[test]
fn without_a_pid_namespace_a_container_ends_with_its_last_process() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["children", "2"]);
        folder.without_namespace("pid");
        let (reader, writer) = std::io::pipe().expect("there are descriptors");
        let mut options = CreateOptions::default();
        options.stdio.stdout = Some(writer.into());
        let mut container = lab.create(&folder, options);
        lab::done(container.start());
        assert!(wait::readable(&reader, LIMIT).expect("it can be polled"));
        let mut watch = lab::done(container.watch());
        // All of them run: there is nothing to tell, which is said at once.
        assert_eq!(lab::done(watch.next(NOW)), None);
        let pid = rustix::process::Pid::from_raw(container.pid()).expect("it runs");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
        lab::done(container.wait());
        // Its process has ended, the children have not: and that is not told all the time.
        assert_eq!(lab::done(watch.next(Some(Duration::from_millis(50)))), None);
        let readable = wait::readable(&watch, Duration::ZERO);
        assert!(!readable.expect("it can be polled"));
        lab::done(container.kill_all(libc::SIGKILL));
        assert_eq!(lab::done(watch.next(Some(LIMIT))), Some(Event::Ended));
        lab::delete(container);
    });
}

#[test]
fn who_counts_oom_kills_is_known() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        let container = lab.create(&folder, CreateOptions::default());
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
        let has_memory = controllers.expect("cgroup v2").contains("memory");
        let watch = lab::done(container.watch());
        assert_eq!(watch.oom_killed(), has_memory.then_some(false));
        lab::delete(container);
    });
}
