//! One more process in a container.

use std::io::Read as _;

use corten_conformance::agent::{Agent, Answer};
use corten_conformance::bundle::Bundle as Folder;
use corten_core::{
    Container, CreateOptions, Delete, ErrorKind, ExecOptions, ExecProcess, ExitStatus,
};
use serde_json::{Value, json};

use crate::lab::{self, Lab};

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
