//! Creations that hang: a delete by force ends them, and nothing is left.
//!
//! The lab's check at the end of each test sees what is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corten_conformance::agent::{Agent, Answer};
use corten_conformance::bundle::Bundle as Folder;
use corten_conformance::wait;
use corten_core::{Bundle, Container, CreateOptions, Delete, Error, ErrorKind, Runtime};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::lab::{self, LIMIT, Lab};

const ID: &str = "hangs";

/// How long the end of what hangs may take: less than the limit for a lock that is not given.
const SOON: Duration = Duration::from_secs(5);

/// A bundle with a hook that never ends and a child of it in its group; the file is there
/// when it has begun.
fn with_hook(lab: &Lab, kind: &str) -> (Folder, PathBuf) {
    // For a mapped root too.
    let anybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(lab.folder(), anybody).expect("the lab's own");
    let begun = lab.folder().join("begun");
    let line = format!("sleep 1000 & : >{}; wait", begun.display());
    let mut folder = lab.bundle(&["sleep"]);
    let env = json!(["PATH=/usr/bin:/bin"]);
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", line], "env": env});
    folder.config["hooks"] = json!({kind: [hook]});
    (folder, begun)
}

#[track_caller]
fn wait_for(file: &Path) {
    let there = wait::until(LIMIT, || file.exists().then_some(()));
    there.unwrap_or_else(|| panic!("{} does not come", file.display()));
    std::fs::remove_file(file).expect("the test's own");
}

/// [`Runtime::create`] or [`Runtime::run`].
type Make = fn(&Runtime, &str, &Bundle, CreateOptions) -> Result<Container, Error>;

/// Deletes by force while another thread creates: what the creation's error says.
#[track_caller]
fn delete_while_it_hangs(lab: &Lab, bundle: &Bundle, hangs: impl Fn()) -> String {
    delete_while_hanging(Runtime::create, lab, bundle, hangs)
}

#[track_caller]
fn delete_while_hanging(make: Make, lab: &Lab, bundle: &Bundle, hangs: impl Fn()) -> String {
    let runtime = &lab.runtime;
    std::thread::scope(|scope| {
        let create = move || make(runtime, ID, bundle, CreateOptions::default());
        let creation = scope.spawn(move || create().map(drop));
        hangs();
        // Who could enter it now would find the machine's own files.
        let error = runtime.container(ID).map(drop);
        assert_eq!(
            error.expect_err("nothing to enter").kind(),
            ErrorKind::NotFound
        );
        let begin = Instant::now();
        lab::done(lab.runtime.delete_leftovers(ID));
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        let created = creation.join().expect("it does not panic");
        format!("{:#}", created.expect_err("it was called off"))
    })
}

#[test]
fn a_creation_that_hangs_in_a_hook_is_ended_by_a_delete() {
    lab::test(|lab| {
        for kind in ["prestart", "createRuntime"] {
            let (folder, begun) = with_hook(lab, kind);
            let text = delete_while_it_hangs(lab, &lab::load(&folder), || wait_for(&begun));
            let words = format!(
                "hooks.{kind}[0]: error running {kind} hook #0: /bin/sh: \
                 called off: the container is being deleted by force (step "
            );
            assert!(text.starts_with(&words), "{text}");
            lab.assert_clean_but(&[folder.path()]);
        }
    });
}

#[test]
fn a_creation_whose_init_hangs_is_ended_by_a_delete() {
    lab::test(|lab| {
        let (folder, begun) = with_hook(lab, "createContainer");
        let mut mapped = with_hook(lab, "createContainer").0;
        lab::in_user_namespace(&mut mapped);
        for folder in [&folder, &mapped] {
            let text = delete_while_it_hangs(lab, &lab::load(folder), || wait_for(&begun));
            let words =
                "hooks.createContainer[0]: run createContainer hook #0: /bin/sh: called off";
            assert!(text.starts_with(words), "{text}");
            lab.assert_no_process("after the delete");
        }
    });
}

/// A filter under which init asks the agent at this path before it is done.
fn notifying(path: &Path) -> serde_json::Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "listenerPath": path,
        "syscalls": [{ "names": ["capset"], "action": "SCMP_ACT_NOTIFY" }],
    })
}

/// An agent that never answers, and a bundle whose init asks it.
fn unanswered(lab: &Lab, path: &Path) -> (Agent, Folder) {
    let agent = Agent::listen(path, &[(libc::SYS_capset, Answer::Never)]);
    let mut folder = lab.bundle(&["sleep"]);
    folder.config["process"]["noNewPrivileges"] = json!(false);
    folder.config["linux"]["seccomp"] = notifying(path);
    (agent, folder)
}

#[test]
fn a_creation_whose_seccomp_agent_does_not_answer_is_ended_by_a_delete() {
    lab::test(|lab| {
        let path = lab.folder().join("agent.sock");
        for make in [Runtime::create as Make, Runtime::run] {
            let (agent, folder) = unanswered(lab, &path);
            let text = delete_while_hanging(make, lab, &lab::load(&folder), || {
                let asked = || (agent.count(libc::SYS_capset) > 0).then_some(());
                let asked = wait::until(LIMIT, asked);
                asked.expect("init sets its capabilities under the filter");
            });
            let words = "called off: the container is being deleted by force; it may be because \
                         of linux.seccomp.syscalls[0]: SCMP_ACT_NOTIFY for capset";
            assert!(text.contains(words), "{text}");
            drop(agent);
            std::fs::remove_file(&path).expect("the agent's");
        }
    });
}

#[test]
fn a_start_that_hangs_in_a_hook_is_ended_by_a_delete() {
    lab::test(|lab| {
        for kind in ["poststart", "startContainer"] {
            let (mut folder, begun) = with_hook(lab, kind);
            if kind == "startContainer" {
                // The container has no shell, and its file is not the host's.
                folder.config["hooks"][kind][0] =
                    json!({"path": "/probe", "args": ["probe", "sleep"]});
                std::fs::write(&begun, "").expect("the lab's folder is writable");
            }
            let mut container = lab.create(&folder, CreateOptions::default());
            let id = container.id().to_owned();
            std::thread::scope(|scope| {
                let start = scope.spawn(|| container.start());
                wait_for(&begun);
                lab::delete(lab::done(lab.runtime.container(&id)));
                let started = start.join().expect("it does not panic");
                started.expect_err("it was called off");
            });
            drop(container);
            lab.assert_clean_but(&[folder.path()]);
        }
    });
}

/// A `corten create` that hangs in a hook.
fn creator(lab: &Lab) -> Child {
    let (mut folder, begun) = with_hook(lab, "createRuntime");
    folder.config["linux"]["cgroupsPath"] = json!("/hangs");
    folder.write().expect("the lab's folder is writable");
    let mut command: Command = lab.corten();
    command.args(["create", "--bundle"]).arg(folder.path());
    command.arg(ID).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    let child = command.spawn().expect("corten starts");
    wait_for(&begun);
    child
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), signal).expect("an own child");
}

#[test]
fn the_command_ends_a_creation_of_another_process() {
    lab::test(|lab| {
        let mut creator = creator(lab);
        let begin = Instant::now();
        lab::succeed(lab.corten().args(["delete", "--force", ID]));
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        let status = wait::child(&mut creator, LIMIT).expect("an own child");
        assert_eq!(status.and_then(|status| status.code()), Some(1));
    });
}

#[test]
fn a_hook_ends_with_the_creator_that_waits_for_it() {
    lab::test(|lab| {
        let mut creator = creator(lab);
        creator.kill().expect("an own child");
        creator.wait().expect("an own child");
        lab::done(lab.runtime.delete_leftovers(ID));
        lab.assert_no_process("after the creator was killed");
    });
}

#[test]
fn a_creator_that_is_stopped_is_named_and_its_container_killed() {
    lab::test(|lab| {
        let mut creator = creator(lab);
        let populated = || {
            let events = std::fs::read_to_string("/sys/fs/cgroup/hangs/cgroup.events");
            events.is_ok_and(|text| text.contains("populated 1"))
        };
        assert!(populated());
        signal(&creator, Signal::STOP);
        let error = lab.runtime.delete_leftovers(ID).expect_err("it is stopped");
        let text = format!("{error:#}");
        let named = format!("process {} (state T", creator.id());
        assert!(text.contains(&named), "{text}");
        assert_eq!(error.kind(), ErrorKind::Other);
        assert!(!populated());
        signal(&creator, Signal::CONT);
        lab::done(lab.runtime.delete_leftovers(ID));
        let status = wait::child(&mut creator, LIMIT).expect("an own child");
        assert_eq!(status.and_then(|status| status.code()), Some(1));
        let gone = lab.runtime.container(ID).map(drop);
        assert_eq!(gone.expect_err("deleted").kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_slow_creation_that_nobody_deletes_succeeds() {
    lab::test(|lab| {
        let (mut folder, begun) = with_hook(lab, "createRuntime");
        let line = format!("sleep 1.5; : >{}", begun.display());
        folder.config["hooks"]["createRuntime"][0]["args"] = json!(["sh", "-c", line]);
        let container = lab.create(&folder, CreateOptions::default());
        wait_for(&begun);
        // Made after a second, gone with the wait.
        let dir = lab.runtime.root().join(container.id());
        assert!(!dir.join("calloff").exists());
        lab::done(container.delete(Delete::IfStopped));
    });
}

#[test]
fn without_a_cgroup_an_init_whose_creator_was_killed_is_found_too() {
    lab::test(|lab| {
        let path = lab.folder().join("agent.sock");
        let (agent, mut folder) = unanswered(lab, &path);
        let resources = folder.config["linux"].as_object_mut().expect("an object");
        resources.remove("resources");
        folder.write().expect("the lab's folder is writable");
        let mut command = lab.corten();
        command.args(["--cgroup-manager", "disabled", "create", "--bundle"]);
        command.arg(folder.path()).arg(ID);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut creator = command.spawn().expect("corten starts");
        let asked = wait::until(LIMIT, || (agent.count(libc::SYS_capset) > 0).then_some(()));
        asked.expect("init sets its capabilities under the filter");
        let error = lab.runtime.container(ID).expect_err("it is being created");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = "container does not exist: its creation has not finished";
        assert!(error.to_string().starts_with(text), "{error}");
        creator.kill().expect("an own child");
        creator.wait().expect("an own child");
        lab::done(lab.runtime.delete_leftovers(ID));
        lab.assert_no_process("after the creator was killed");
        drop(agent);
        std::fs::remove_file(path).expect("the agent's");
    });
}
