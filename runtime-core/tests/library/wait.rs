//! How a container ended, as its parent and as others learn it.
//!
//! waitid(2), ioctl_pidfd(2), proc_pid_stat(5).

use std::os::fd::AsFd as _;
use std::process::Command;

use corten_conformance::wait;
use corten_core::{Container, CreateOptions, Exit, ExitStatus};
use rustix::process::{Pid, Signal};

use crate::lab::{self, Lab};
use crate::sys;

/// `PIDFD_GET_INFO` of linux/pidfd.h, and its answer that an exit status is kept.
const GET_INFO: u32 = 0xc040_ff0b;

/// Programs and how they end. A signal of its own does not hurt a pid 1.
const ENDS: [(&[&str], ExitStatus); 3] = [
    (&["true"], ExitStatus::Code(0)),
    (&["exit", "42"], ExitStatus::Code(42)),
    (&["exit", "255"], ExitStatus::Code(255)),
];

/// Whether this kernel keeps the status of a reaped process (Linux 6.15 and newer).
fn kernel_keeps_status() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>());
    let number = |part: Option<Result<u32, _>>| part.and_then(Result::ok).unwrap_or(0);
    (number(parts.next()), number(parts.next())) >= (6, 15)
}

/// What is said where only the kernel can know it.
fn if_kept(status: ExitStatus) -> ExitStatus {
    if kernel_keeps_status() {
        status
    } else {
        ExitStatus::Unknown
    }
}

#[track_caller]
fn started(lab: &Lab, arguments: &[&str]) -> (corten_conformance::bundle::Bundle, Container) {
    let folder = lab.bundle(arguments);
    let mut container = lab.create(&folder, CreateOptions::default());
    container.start().expect("it starts");
    (folder, container)
}

#[track_caller]
fn ended(container: &mut Container) -> Exit {
    lab::done(container.wait())
}

/// `pid` as it was before the start: it is 0 as soon as the process has ended.
#[track_caller]
fn wait_until_reaped(pid: i32) {
    let path = format!("/proc/{pid}");
    assert!(pid > 0);
    let gone = wait::until(lab::LIMIT, || {
        (!std::path::Path::new(&path).exists()).then_some(())
    });
    gone.expect("somebody reaps it");
}

#[test]
fn a_parent_gets_code_and_usage() {
    lab::test(|lab| {
        for (arguments, status) in ENDS {
            let (_folder, mut container) = started(lab, arguments);
            let exit = ended(&mut container);
            assert_eq!(exit.status, status);
            let usage = exit.rusage.expect("the parent gets it");
            assert!(usage.max_rss > 4096, "{usage:?}");
            assert!(usage.system + usage.user < lab::LIMIT, "{usage:?}");
            lab::delete(container);
        }
    });
}

#[test]
fn a_parent_gets_the_signal() {
    lab::test(|lab| {
        for signal in [libc::SIGKILL, libc::SIGTERM, 40] {
            let mut folder = lab.bundle(&["sleep"]);
            // As pid 1 of its own namespace it would not be hurt by most signals.
            folder.without_namespace("pid");
            let mut container = lab.create(&folder, CreateOptions::default());
            container.start().expect("it starts");
            container.kill(signal).expect("it runs");
            assert_eq!(ended(&mut container).status, ExitStatus::Signal(signal));
            lab::delete(container);
        }
    });
}

#[test]
fn a_second_wait_says_the_same() {
    lab::test(|lab| {
        let (_folder, mut container) = started(lab, &["exit", "9"]);
        let first = ended(&mut container);
        assert_eq!(first.status, ExitStatus::Code(9));
        assert_eq!(ended(&mut container), first);
        let mut other = lab.runtime.container(container.id()).expect("it is there");
        // It ended before this value was made: no pidfd, no memory of it anywhere.
        assert_eq!(ended(&mut other).status, ExitStatus::Unknown);
        lab::delete(container);
    });
}

#[test]
fn two_values_of_one_container_can_wait() {
    lab::test(|lab| {
        let folder = lab.bundle(&["exit", "9"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        let mut other = lab.runtime.container(container.id()).expect("it is there");
        container.start().expect("it starts");
        let statuses = std::thread::scope(|scope| {
            let first = scope.spawn(|| ended(&mut container));
            let second = scope.spawn(|| ended(&mut other));
            [first, second].map(|thread| thread.join().expect("no panic"))
        });
        let reaped = statuses.iter().filter(|exit| exit.rusage.is_some()).count();
        assert_eq!(reaped, 1, "{statuses:?}");
        for exit in statuses {
            let wanted = match exit.rusage {
                Some(_) => ExitStatus::Code(9),
                None => if_kept(ExitStatus::Code(9)),
            };
            assert_eq!(exit.status, wanted);
        }
        lab::delete(container);
    });
}

#[test]
fn where_sigchld_is_ignored_the_status_is_the_kernels_or_unknown() {
    lab::test(|lab| {
        sys::ignore(libc::SIGCHLD);
        for (arguments, status) in ENDS {
            let (_folder, mut container) = started(lab, arguments);
            let exit = ended(&mut container);
            assert_eq!(exit.status, if_kept(status));
            assert_eq!(exit.rusage, None);
            lab::delete(container);
        }
    });
}

/// As on a kernel older than 6.15: also where this one is newer.
#[test]
fn where_sigchld_is_ignored_and_the_kernel_keeps_nothing_the_status_is_unknown() {
    lab::test(|lab| {
        sys::hide_ioctl(GET_INFO);
        sys::ignore(libc::SIGCHLD);
        let folder = lab.bundle(&["true"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        let pid = container.pid();
        container.start().expect("it starts");
        // The kernel reaps at once; before that, /proc would have told.
        wait_until_reaped(pid);
        let exit = ended(&mut container);
        assert_eq!((exit.status, exit.rusage), (ExitStatus::Unknown, None));
        lab::delete(container);
    });
}

#[test]
fn where_sigchld_is_ignored_creation_failure_and_delete_work() {
    lab::test(|lab| {
        sys::ignore(libc::SIGCHLD);
        let mut folder = lab.bundle(&["sleep"]);
        lab::delete(lab.create(&folder, CreateOptions::default()));
        let (_folder, container) = started(lab, &["sleep"]);
        lab::delete(container);
        lab::in_user_namespace(&mut folder);
        lab::delete(lab.create(&folder, CreateOptions::default()));
        folder.args(&["/nothing"]);
        let bundle = lab::load(&folder);
        let failed = lab.runtime.create("no", &bundle, CreateOptions::default());
        let text = format!("{:#}", failed.expect_err("there is no such program"));
        assert!(
            text.contains("/nothing: no such file or directory"),
            "{text}"
        );
    });
}

/// The creator is gone and the lane's pid 1 reaps, within microseconds or much later:
/// the answer must not depend on that.
#[test]
fn another_process_than_the_parent_gets_the_status() {
    lab::test(|lab| {
        for _ in 0..10 {
            for (arguments, status) in ENDS {
                let folder = lab.bundle(arguments);
                let mut container = lab.create_elsewhere(&folder);
                container.start().expect("it starts");
                let exit = ended(&mut container);
                if kernel_keeps_status() || exit.status != ExitStatus::Unknown {
                    assert_eq!(exit.status, status);
                }
                assert_eq!(exit.rusage, None);
                lab::delete(container);
            }
        }
    });
}

/// A parent that does not reap: its zombie still has the status, on any kernel.
#[test]
fn the_status_is_known_before_the_parent_has_reaped() {
    lab::test(|lab| {
        for hide in [false, true] {
            if hide {
                sys::hide_ioctl(GET_INFO);
            }
            for (signal, arguments, status) in [
                (
                    libc::SIGKILL,
                    vec!["sleep"],
                    ExitStatus::Signal(libc::SIGKILL),
                ),
                (libc::SIGTERM, vec!["wait-signal"], ExitStatus::Code(0)),
            ] {
                let folder = lab.bundle(&arguments);
                folder.write().expect("the lab is writable");
                let id = lab.id();
                let mut command = lab.corten();
                command
                    .arg("run")
                    .arg("--bundle")
                    .arg(folder.path())
                    .arg(&id);
                command.stdout(std::process::Stdio::piped());
                let mut parent = command.spawn().expect("corten starts");
                let mut container = running(lab, &id);
                if arguments == ["wait-signal"] {
                    let output = parent.stdout.as_ref().expect("a pipe");
                    assert!(wait::readable(output, lab::LIMIT).expect("a pipe can be polled"));
                }
                let pid = i32::try_from(parent.id()).ok().and_then(Pid::from_raw);
                let pid = pid.expect("a pid is positive");
                rustix::process::kill_process(pid, Signal::STOP).expect("an own child");
                container.kill(signal).expect("it runs");
                let exit = ended(&mut container);
                assert_eq!((exit.status, exit.rusage), (status, None));
                rustix::process::kill_process(pid, Signal::CONT).expect("an own child");
                parent.wait().expect("an own child");
            }
        }
    });
}

#[track_caller]
fn running(lab: &Lab, id: &str) -> Container {
    let found = wait::until(lab::LIMIT, || {
        let container = lab.runtime.container(id).ok()?;
        let running = container.state().ok()?.status == corten_core::Status::Running;
        running.then_some(container)
    });
    found.expect("corten runs it")
}

#[test]
fn a_container_that_ended_long_ago_has_an_unknown_status_and_can_be_deleted() {
    lab::test(|lab| {
        let folder = lab.bundle(&["exit", "3"]);
        let mut first = lab.create_elsewhere(&folder);
        let pid = first.pid();
        first.start().expect("it starts");
        ended(&mut first);
        wait_until_reaped(pid);
        let mut second = lab.runtime.container(first.id()).expect("it is there");
        assert!(wait::readable(&second.as_fd(), lab::LIMIT).expect("it can be polled"));
        let exit = ended(&mut second);
        assert_eq!((exit.status, exit.rusage), (ExitStatus::Unknown, None));
        lab::delete(second);
    });
}

#[test]
fn other_children_of_the_program_are_left_to_it() {
    lab::test(|lab| {
        let mut child = Command::new("sh")
            .args(["-c", "exit 5"])
            .spawn()
            .expect("a shell");
        let (_folder, mut container) = started(lab, &["exit", "6"]);
        assert_eq!(ended(&mut container).status, ExitStatus::Code(6));
        lab::delete(container);
        let (_folder, container) = started(lab, &["sleep"]);
        lab::delete(container);
        assert_eq!(child.wait().expect("nobody else reaped it").code(), Some(5));
    });
}

#[test]
fn a_pidfd_is_readable_in_another_thread_once_the_process_has_ended() {
    lab::test(|lab| {
        let (_folder, mut container) = started(lab, &["sleep"]);
        let seen = std::thread::scope(|scope| {
            let poller = scope.spawn(|| wait::readable(&container, lab::LIMIT));
            let early = wait::readable(&container, std::time::Duration::from_millis(50));
            assert!(!early.expect("a pidfd can be polled"), "it still runs");
            container.kill(libc::SIGKILL).expect("it runs");
            poller.join().expect("no panic")
        });
        assert!(seen.expect("a pidfd can be polled"));
        let status = ended(&mut container).status;
        assert_eq!(status, ExitStatus::Signal(libc::SIGKILL));
        lab::delete(container);
    });
}

#[test]
fn a_process_killed_for_want_of_memory_is_told() {
    lab::test(|lab| {
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
        let has_memory = controllers.expect("cgroup v2").contains("memory");
        let (_folder, mut container) = started(lab, &["true"]);
        let exit = ended(&mut container);
        assert_eq!(exit.oom_killed, has_memory.then_some(false));
        lab::delete(container);
    });
}
