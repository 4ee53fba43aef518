//! One more process in a container.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use corten_conformance::agent::{Agent, Answer};
use corten_conformance::bundle::Bundle as Folder;
use corten_conformance::leaks::Snapshot;
use corten_conformance::wait;
use corten_core::{
    Container, CreateOptions, Delete, ErrorKind, ExecOptions, ExecProcess, ExitStatus, Status,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::{Value, json};

use crate::killed::{Call, RUNTIME, calls_in, corten_under_strace, finish};
use crate::lab::{self, Lab};
use crate::sys;

/// A container whose own process sleeps.
///
/// Its config.json is gone: the container has its own.
fn sleeping(lab: &Lab, edit: impl FnOnce(&mut Folder)) -> (Folder, Container) {
    let mut folder = lab.bundle(&["sleep"]);
    edit(&mut folder);
    let mut container = lab.create(&folder, CreateOptions::default());
    lab::done(container.start());
    std::fs::remove_file(folder.path().join("config.json")).expect("it was written");
    (folder, container)
}

fn start(container: &Container, arguments: &[&str], options: ExecOptions) -> ExecProcess {
    let mut process = lab::done(container.process());
    process.args = vec!["/probe".to_owned()];
    process
        .args
        .extend(arguments.iter().map(|&word| word.to_owned()));
    lab::done(container.exec(process, options))
}

/// Runs the probe to its end: how it ended and what it printed.
fn run(container: &Container, arguments: &[&str]) -> (ExitStatus, String) {
    let (mut reader, writer) = std::io::pipe().expect("there are descriptors");
    let mut options = ExecOptions::default();
    options.stdio.stdout = Some(writer.into());
    let mut process = start(container, arguments, options);
    let mut printed = String::new();
    reader.read_to_string(&mut printed).expect("UTF-8");
    (lab::done(process.wait()).status, printed)
}

fn facts(container: &Container) -> Value {
    let (status, printed) = run(container, &["facts"]);
    assert_eq!(status, ExitStatus::Code(0), "{printed}");
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

fn namespaces(pid: i32) -> Vec<String> {
    let kinds = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"];
    let link = |kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    let text = |kind| link(kind).map(|link| link.display().to_string());
    kinds
        .into_iter()
        .filter_map(|kind| text(kind).ok())
        .collect()
}

fn cgroup(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it is there")
}

/// What takes such a number is a file of the host's, of this library or of another.
#[test]
fn a_standard_descriptor_that_the_program_has_closed_is_the_null_device() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let null = std::fs::File::open("/dev/null").expect("the lane has one");
        sys::put_at(std::os::fd::AsFd::as_fd(&null), 0);
        sys::close(0);
        for taken in [false, true] {
            let root = taken.then(|| std::fs::File::open("/").expect("there is one"));
            let mut container = lab.create(&folder, CreateOptions::default());
            lab::done(container.start());
            let other = lab::done(lab.runtime.container(container.id()));
            let mut process = start(&other, &["sleep"], ExecOptions::default());
            for pid in [container.pid(), process.pid()] {
                let input = std::fs::read_link(format!("/proc/{pid}/fd/0"));
                let input = input.expect("it has one");
                assert_eq!(input.to_string_lossy(), "/dev/null", "taken: {taken}");
            }
            lab::done(process.kill(libc::SIGKILL));
            lab::done(process.wait());
            lab::delete(container);
            drop((other, root));
        }
    });
}

#[test]
fn a_process_is_in_all_namespaces_and_the_cgroup_of_its_container() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, |_| {});
        let mut process = start(&container, &["sleep"], ExecOptions::default());
        assert_eq!(namespaces(process.pid()), namespaces(container.pid()));
        assert_eq!(cgroup(process.pid()), cgroup(container.pid()));
        lab::done(process.kill(libc::SIGKILL));
        let exit = lab::done(process.wait());
        assert_eq!(exit.status, ExitStatus::Signal(libc::SIGKILL));
        assert!(exit.rusage.is_some());
        assert_eq!(lab::done(process.wait()), exit);
        let error = process.kill(0).expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::NotRunning);
        lab::delete(container);
    });
}

#[test]
fn a_forced_delete_does_not_wait_for_processes_that_the_caller_has_not_waited_for() {
    lab::test(|lab| {
        for own_pid_namespace in [true, false] {
            let (_folder, container) = sleeping(lab, |folder| {
                if !own_pid_namespace {
                    folder.without_namespace("pid");
                }
            });
            let mut running = start(&container, &["sleep"], ExecOptions::default());
            let mut ended = start(&container, &["exit", "7"], ExecOptions::default());
            let dropped = start(&container, &["true"], ExecOptions::default()).pid();
            let seen = wait::readable(&ended, lab::LIMIT);
            assert!(seen.expect("a pidfd can be polled"));
            lab::done(container.delete(Delete::Force));
            // Nothing of how they ended is lost.
            let (exit, killed) = (lab::done(ended.wait()), lab::done(running.wait()));
            assert_eq!(exit.status, ExitStatus::Code(7));
            assert_eq!(killed.status, ExitStatus::Signal(libc::SIGKILL));
            assert!(exit.rusage.is_some() && killed.rusage.is_some());
            assert_eq!(lab::done(ended.wait()), exit);
            // Without the namespace nothing depends on it, and it is left to the caller.
            let dropped = waitpid(Pid::from_raw(dropped), WaitOptions::empty());
            assert_eq!(dropped.is_err(), own_pid_namespace);
        }
    });
}

#[test]
fn a_forced_delete_names_who_does_not_wait_for_its_child() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, |_| {});
        let mut command = lab.corten();
        command.args(["exec", container.id(), "/probe", "wait-signal"]);
        let mut parent = command.stdout(Stdio::piped()).spawn().expect("corten");
        let output = parent.stdout.as_ref().expect("a pipe");
        assert!(wait::readable(output, lab::LIMIT).expect("a pipe can be polled"));
        let pid = Pid::from_child(&parent);
        kill_process(pid, Signal::STOP).expect("an own child");

        let again = lab::done(lab.runtime.container(container.id()));
        let error = container.delete(Delete::Force);
        let error = error.expect_err("the namespace can't end").to_string();
        let words = format!(
            " has ended, and process {} does not wait for it",
            parent.id()
        );
        assert!(error.ends_with(&words), "{error}");

        kill_process(pid, Signal::CONT).expect("an own child");
        lab::delete(again);
        parent.wait().expect("an own child");
    });
}

#[test]
fn an_init_that_is_about_to_end_does_not_run() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        // As long as nobody has waited for this one, init can't end.
        let mut process = start(&container, &["true"], ExecOptions::default());
        assert!(wait::readable(&process, lab::LIMIT).expect("a pidfd can be polled"));
        lab::done(container.kill(libc::SIGKILL));
        let mut seen = Vec::new();
        let stopped = wait::until(lab::LIMIT, || {
            seen.push(lab::done(container.state()).status);
            (seen.last() != Some(&Status::Created)).then_some(())
        });
        assert!(stopped.is_some());
        assert_eq!(seen.last(), Some(&Status::Stopped));
        assert!(!wait::readable(&container, Duration::ZERO).expect("it can be polled"));
        let error = container.start().expect_err("it has stopped").to_string();
        assert_eq!(error, "cannot start a container that has stopped");
        lab::done(container.delete(Delete::IfStopped));
        assert_eq!(lab::done(process.wait()).status, ExitStatus::Code(0));
    });
}

#[test]
fn a_process_has_no_descriptor_but_its_stdio_and_its_own_exit_status() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, |_| {});
        let facts = facts(&container);
        assert_eq!(facts["fds"].as_array().map(Vec::len), Some(3), "{facts:#}");
        let (status, _) = run(&container, &["exit", "7"]);
        assert_eq!(status, ExitStatus::Code(7));
        lab::delete(container);
    });
}

#[test]
fn a_process_that_begins_on_its_makers_cpu_may_run_where_the_container_may() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, |_| {});
        let cpus = |of: &str| {
            let status = std::fs::read_to_string(format!("/proc/{of}/status")).unwrap();
            let mut lines = status.lines();
            let line = lines.find(|line| line.starts_with("Cpus_allowed:"));
            line.expect("every process has CPUs").to_owned()
        };
        let own = cpus("thread-self");
        let mut options = ExecOptions::default();
        options.stay_on_cpu = true;
        let mut process = start(&container, &["sleep"], options);
        let of_container = cpus(&container.pid().to_string());
        assert_eq!(cpus(&process.pid().to_string()), of_container);
        assert_eq!(cpus("thread-self"), own);
        lab::done(process.kill(libc::SIGKILL));
        lab::done(process.wait());
        lab::delete(container);
    });
}

#[test]
fn a_process_in_a_user_namespace_is_root_of_that() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, lab::in_user_namespace);
        let (status, printed) = run(&container, &["facts"]);
        assert_eq!(status, ExitStatus::Code(0), "{printed}");
        let mut process = start(&container, &["sleep"], ExecOptions::default());
        assert_eq!(namespaces(process.pid()), namespaces(container.pid()));
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()));
        let status = status.expect("it is there");
        assert!(
            status.contains("Uid:\t100000\t100000\t100000\t100000\n"),
            "{status}"
        );
        assert!(status.contains("Groups:\t \n"), "{status}");
        lab::done(process.kill(libc::SIGKILL));
        lab::done(process.wait());
        lab::delete(container);
    });
}

#[test]
fn a_process_that_was_asked_for_once_can_be_started_twice() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, |_| {});
        let mut process = lab::done(container.process());
        process.args = ["/probe", "exit", "3"].map(str::to_owned).to_vec();
        for _ in 0..2 {
            let started = container.exec(process.clone(), ExecOptions::default());
            let exit = lab::done(lab::done(started).wait());
            assert_eq!(exit.status, ExitStatus::Code(3));
        }
        lab::delete(container);
    });
}

#[test]
fn a_program_that_is_not_there_is_named_and_nothing_is_left() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, |_| {});
        let mut process = lab::done(container.process());
        process.args = vec!["nosuch".to_owned()];
        let error = container.exec(process, ExecOptions::default());
        let text = format!("{:#}", error.expect_err("there is no such program"));
        let found = text.contains("exec: \"nosuch\": executable file not found in $PATH");
        assert!(found, "{text}");
        lab::delete(container);
    });
}

#[test]
fn a_container_that_is_created_takes_processes_and_one_that_has_ended_none() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        assert_eq!(run(&container, &["exit", "3"]).0, ExitStatus::Code(3));
        lab::done(container.start());
        lab::done(container.wait());
        let process = lab::done(container.process());
        let error = container.exec(process, ExecOptions::default());
        let error = error.expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::WrongState);
        assert_eq!(error.to_string(), "cannot exec in a stopped container");
        lab::done(container.delete(Delete::IfStopped));
    });
}

#[test]
fn a_paused_container_takes_no_process() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, |_| {});
        lab::done(container.pause());
        let process = lab::done(container.process());
        let error = container.exec(process, ExecOptions::default());
        let text = error.expect_err("it is paused").to_string();
        assert!(
            text.starts_with("cannot exec in a paused container"),
            "{text}"
        );
        lab::delete(container);
    });
}

#[test]
fn a_listener_gets_the_filter_of_every_process() {
    lab::test(|lab| {
        let path = lab.folder().join("agent.sock");
        let answers = [(libc::SYS_personality, Answer::Errno(libc::ENOTTY))];
        let agent = Agent::listen(&path, &answers);
        for (index, no_new_privileges) in [false, true].into_iter().enumerate() {
            let (_folder, container) = sleeping(lab, |folder| {
                let rule = json!({ "names": ["personality"], "action": "SCMP_ACT_NOTIFY" });
                folder.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
                folder.config["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "listenerPath": &path,
                    "syscalls": [rule],
                });
            });
            let own = agent.state(2 * index);
            assert_eq!(own["pid"], container.pid());
            assert_eq!(own["state"]["status"], "creating");
            let (_, printed) = run(&container, &["personality", "0"]);
            assert_eq!(printed, "ENOTTY\n");
            let other = agent.state(2 * index + 1);
            assert_ne!(other["pid"], own["pid"]);
            assert_eq!(other["state"]["pid"], own["pid"]);
            assert_eq!(other["state"]["status"], "running");
            lab::delete(container);
        }
        std::fs::remove_file(path).expect("it was made");
    });
}

/// What a process of this program keeps: descriptors, threads and children, and keys of its
/// user.
fn kept() -> [usize; 4] {
    let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let keys = std::fs::read_to_string("/proc/keys").unwrap_or_default();
    [
        entries("/proc/self/fd"),
        entries("/proc/self/task"),
        children.split_whitespace().count(),
        keys.lines().filter(|line| line.contains("_ses.")).count(),
    ]
}

/// Resident memory in bytes, without what is shared with files.
fn resident() -> u64 {
    let status = crate::snapshot::read("/proc/self/status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("the kernel tells it") << 10
}

#[test]
fn a_thousand_processes_leave_nothing() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, |_| {});
        let once = || {
            let mut process = start(&container, &["exit", "7"], ExecOptions::default());
            assert_eq!(lab::done(process.wait()).status, ExitStatus::Code(7));
        };
        (0..20).for_each(|_| once());
        let (before, memory) = (kept(), resident());
        (0..1000).for_each(|_| once());
        let [fds, threads, children, _] = kept();
        assert_eq!([fds, threads, children], before[..3]);
        // The kernel collects keys a moment later.
        let collected = || (kept()[3] <= before[3]).then_some(());
        assert!(corten_conformance::wait::until(lab::LIMIT, collected).is_some());
        let grown = resident().saturating_sub(memory);
        assert!(grown < 64 << 10, "{grown} bytes more");
        lab::delete(container);
    });
}

/// The calls of one `corten exec`, from its look at the container on.
fn calls(lab: &Lab, id: &str) -> Vec<Call> {
    let log = lab.folder().join("calls");
    let mut command = corten_under_strace(lab, &["-o", &log.to_string_lossy()]);
    command.args(["exec", id, "/probe", "true"]);
    assert!(finish(command).success());
    let text = std::fs::read_to_string(&log).expect("strace writes it");
    std::fs::remove_file(log).expect("just read");
    let directory = format!("\"{}\"", lab.runtime.root().join(id).display());
    let found = calls_in(&text, |line| line.contains(&directory));
    assert!(found.len() > 60, "{} calls:\n{text}", found.len());
    found
}

/// Does this to each call of `corten exec` in turn. Afterwards the container is as it was.
fn at_every_call(lab: &Lab, what: &str, mut ended: impl FnMut(&Call, std::process::ExitStatus)) {
    let (folder, container) = sleeping(lab, |_| {});
    let id = container.id();
    let mut calls = calls(lab, id);
    // uname(2) can't fail either.
    calls.retain(|(name, _)| !RUNTIME.contains(&name.as_str()) && name != "uname");
    let clean = Snapshot::of_lane();
    for call in &calls {
        let (name, nth) = call;
        let (trace, inject) = (
            format!("trace={name}"),
            format!("inject={name}:{what}:when={nth}"),
        );
        let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
        let mut command = corten_under_strace(lab, &options);
        command.args(["exec", id, "/probe", "true"]);
        ended(call, finish(command));
        lab::assert_same(&clean, &format!("exec, {what} at {call:?}"), |_| true);
        assert_eq!(
            lab::done(container.state()).status,
            corten_core::Status::Running
        );
    }
    lab::delete(container);
    drop(folder);
}

#[test]
fn an_exec_killed_at_any_system_call_leaves_the_container_as_it_was() {
    use std::os::unix::process::ExitStatusExt as _;
    lab::test(|lab| {
        let mut killed = 0;
        at_every_call(lab, "signal=KILL", |call, status| {
            let by_us = status.signal() == Some(libc::SIGKILL);
            assert!(status.success() || by_us, "{call:?}: {status}");
            killed += usize::from(by_us);
        });
        assert!(killed > 50, "{killed}");
    });
}

#[test]
fn an_exec_in_which_any_system_call_fails_leaves_the_container_as_it_was() {
    lab::test(|lab| {
        let mut failed = 0;
        at_every_call(lab, "error=EIO", |call, status| {
            // 1 where the program had run already, and its status could not be had.
            let known = matches!(status.code(), Some(0 | 1 | 255));
            assert!(known, "{call:?}: {status}");
            failed += usize::from(!status.success());
        });
        assert!(failed > 40, "{failed}");
    });
}

#[test]
fn a_process_that_is_born_into_a_frozen_cgroup_is_waited_for_only_if_asked() {
    lab::test(|lab| {
        let (_folder, container) = sleeping(lab, |_| {});
        let path = cgroup(container.pid());
        let path = path.lines().find_map(|line| line.strip_prefix("0::/"));
        let below = std::path::Path::new("/sys/fs/cgroup").join(path.expect("cgroup v2"));
        let below = below.join("frozen");
        std::fs::create_dir(&below).expect("the lane's cgroups are writable");
        let freeze = |word: &str| std::fs::write(below.join("cgroup.freeze"), word);
        freeze("1").expect("an empty cgroup freezes at once");
        // As if the container had been paused since it was looked at.
        let exec = |ignore_paused| {
            let mut process = lab::done(container.process());
            process.args = ["/probe", "true"].map(str::to_owned).to_vec();
            let mut options = ExecOptions::default();
            options.cgroup = Some("frozen".into());
            options.ignore_paused = ignore_paused;
            container.exec(process, options)
        };
        let error = exec(false).expect_err("it stands still");
        assert_eq!(error.kind(), ErrorKind::WrongState, "{error:#}");
        let text = "cannot exec in a paused container (use --ignore-paused to override)";
        assert_eq!(error.to_string(), text);
        let procs = std::fs::read_to_string(below.join("cgroup.procs"));
        assert_eq!(procs.expect("it is there"), "");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| exec(true));
            let born = corten_conformance::wait::until(lab::LIMIT, || {
                let procs = std::fs::read_to_string(below.join("cgroup.procs"));
                procs.is_ok_and(|text| !text.is_empty()).then_some(())
            });
            born.expect("init is in the cgroup");
            // Longer than one look takes to find out.
            std::thread::sleep(std::time::Duration::from_millis(1500));
            assert!(!waiting.is_finished());
            freeze("0").expect("it is there");
            let mut process = lab::done(waiting.join().expect("it does not panic"));
            assert_eq!(lab::done(process.wait()).status, ExitStatus::Code(0));
        });
        lab::delete(container);
    });
}

/// Session keyrings of a container.
fn keyrings(id: &str) -> usize {
    let keys = std::fs::read_to_string("/proc/keys").expect("the kernel has keyrings");
    let name = format!("_ses.{id}:");
    keys.lines().filter(|line| line.contains(&name)).count()
}

#[test]
fn a_keyring_goes_with_its_process() {
    lab::test(|lab| {
        // The names are the whole machine's.
        let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("procfs");
        let id = id.trim();
        let folder = lab.bundle(&["sleep"]);
        let bundle = lab::load(&folder);
        let created = lab.runtime.create(id, &bundle, CreateOptions::default());
        let mut container = lab::done(created);
        lab::done(container.start());
        assert_eq!(keyrings(id), 1);
        for _ in 0..60 {
            assert_eq!(run(&container, &["true"]).0, ExitStatus::Code(0));
        }
        // The kernel takes what nobody has any more a moment later.
        let flat =
            corten_conformance::wait::until(lab::LIMIT, || (keyrings(id) == 1).then_some(()));
        flat.unwrap_or_else(|| panic!("{} left", keyrings(id)));
        let mut process = start(&container, &["sleep"], ExecOptions::default());
        assert_eq!(keyrings(id), 2, "it has one of its own");
        lab::done(process.kill(libc::SIGKILL));
        lab::done(process.wait());
        lab::delete(container);
    });
}
