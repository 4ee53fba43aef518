//! `exec`: one more process in a container, and what its flags make of it.
//!
//! What the process is, user, limits and the like, is in `exec_process`, terminals are in
//! `exec_console`, what hostile containers try against it is in `exec_security`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::cgroup::{cgroup_of, members};
use super::namespaces::user_namespace;
use crate::bundle::Bundle;
use crate::check::{Need, checks};
use crate::facts;
use crate::lab::{Container, Lab};
use crate::runtime::Output;
use crate::wait;

checks!("exec":
    the_exit_code_is_the_programs,
    a_signal_that_ends_the_program_is_128_and_its_number,
    a_program_that_is_missing_is_named,
    a_program_that_can_not_be_executed_is_named,
    a_stopped_container_takes_no_process,
    a_container_that_is_missing_is_an_error,
    a_created_container_takes_a_process,
    a_paused_container_takes_no_process,
    ignore_paused_starts_a_process_that_goes_on_with_the_container,
    without_a_program_it_is_an_error,
    what_follows_the_id_is_the_programs,
    an_error_goes_to_the_log_file,
    the_process_is_in_every_namespace_of_the_container,
    the_process_is_in_the_cgroup_of_the_container,
    the_process_is_no_child_of_a_process_of_the_container,
    a_namespace_of_the_host_is_shared_by_the_process_too,
    without_a_mount_namespace_the_process_is_in_the_root_of_the_container,
    in_a_user_namespace_the_process_has_its_ids,
    what_the_host_owns_is_joined_before_a_user_namespace,
    a_time_namespace_is_joined [Need::Namespace("time")],
    the_process_has_its_stdin_stdout_and_stderr,
    the_process_has_no_other_descriptor,
    preserved_descriptors_are_passed_on,
    signals_are_passed_on_to_the_process,
    a_process_file_says_all_of_the_process,
    a_process_file_has_a_umask,
    a_process_file_that_is_wrong_is_an_error,
    detached_it_comes_back_when_the_program_runs,
    a_pid_file_has_the_process_in_the_foreground_too,
    the_pidfd_socket_gets_the_process,
    a_process_of_its_own_cgroup_below_the_containers,
    a_cgroup_that_is_not_there_or_not_below_is_an_error,
    a_process_has_a_place_where_the_container_has_given_its_controllers_away [Need::Controller("memory")],
    the_session_keyring_is_not_the_callers,
    the_processes_end_with_a_pid_namespace,
    delete_reaches_a_process_in_the_pid_namespace_of_the_host,
    a_label_needs_its_module,
    twenty_processes_at_once_all_come_back,
);

/// A container whose first process sleeps.
pub(super) fn sleeping<'lab>(lab: &'lab Lab, bundle: &'lab mut Bundle) -> Container<'lab> {
    bundle.probe(&["sleep"]);
    lab.start(bundle)
}

/// `exec <flags> <id> <words>`, to its end.
pub(super) fn exec(lab: &Lab, container: &Container<'_>, flags: &[&str], words: &[&str]) -> Output {
    let id = container.id.as_str();
    lab.runtime.call(&[&["exec"], flags, &[id], words].concat())
}

/// The facts of a process that is started with these flags.
pub(super) fn facts_of(lab: &Lab, container: &Container<'_>, flags: &[&str]) -> Value {
    exec(lab, container, flags, &["/probe"]).json()
}

/// The facts in a container of this bundle.
pub(super) fn facts_in(lab: &Lab, bundle: &mut Bundle, flags: &[&str]) -> Value {
    let container = sleeping(lab, bundle);
    facts_of(lab, &container, flags)
}

/// An error before the program runs: status 255 and one line with these words; a peer must
/// fail in whatever way.
#[track_caller]
pub(super) fn assert_refused(lab: &Lab, output: &Output, text: &str) {
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let stderr = output.stderr();
        assert_eq!(output.code(), 255, "{output}");
        assert!(stderr.starts_with("corten: exec failed: "), "{output}");
        assert!(stderr.contains(text), "{text:?}: {output}");
        assert_eq!(stderr.lines().count(), 1, "{output}");
    }
}

fn the_exit_code_is_the_programs(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    for code in ["0", "1", "7", "255"] {
        let output = exec(lab, &container, &[], &["/probe", "exit", code]);
        assert_eq!(output.code().to_string(), code, "{output}");
        assert_eq!(output.stderr(), "");
    }
}

fn a_signal_that_ends_the_program_is_128_and_its_number(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    for signal in [9, 15, 34] {
        let words = ["/probe", "kill-self", &signal.to_string()];
        let output = exec(lab, &container, &[], &words);
        assert_eq!(output.code(), 128 + signal, "{output}");
    }
}

fn a_program_that_is_missing_is_named(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let output = exec(lab, &container, &[], &["nosuch"]);
    let text = "exec: \"nosuch\": executable file not found in $PATH";
    assert_refused(lab, &output, text);
    let output = exec(lab, &container, &[], &["/no/such"]);
    assert_refused(lab, &output, "exec /no/such: no such file or directory");
    assert_eq!(members(&cgroup_of(&container)).len(), 1);
}

fn a_program_that_can_not_be_executed_is_named(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle
        .file("text", "no program")
        .expect("the lab is writable");
    bundle
        .program("script", b"#!/no/such/shell\n")
        .expect("the lab is writable");
    let container = sleeping(lab, &mut bundle);
    let output = exec(lab, &container, &[], &["/text"]);
    assert_refused(lab, &output, "exec /text: permission denied");
    let output = exec(lab, &container, &[], &["/script"]);
    let text = "exec /script: its interpreter /no/such/shell: no such file or directory";
    assert_refused(lab, &output, text);
}

fn a_stopped_container_takes_no_process(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.start(&bundle);
    container.wait_for("stopped");
    let output = exec(lab, &container, &[], &["/probe", "true"]);
    assert_refused(lab, &output, "cannot exec in a stopped container");
}

fn a_container_that_is_missing_is_an_error(lab: &Lab) {
    let output = lab.runtime.call(&["exec", "nosuch", "/probe"]);
    assert_refused(lab, &output, "container does not exist");
}

fn a_created_container_takes_a_process(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.create(&bundle);
    let output = exec(lab, &container, &[], &["/probe", "exit", "3"]);
    assert_eq!(output.code(), 3, "{output}");
    assert_eq!(container.state()["status"], "created");
    drop(container.call(&["start"]).ok());
    container.wait_for("stopped");
}

fn a_paused_container_takes_no_process(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    drop(container.call(&["pause"]).ok());
    let output = exec(lab, &container, &[], &["/probe", "true"]);
    let text = "cannot exec in a paused container (use --ignore-paused to override)";
    assert_refused(lab, &output, text);
    assert_eq!(members(&cgroup_of(&container)).len(), 1);
    drop(container.call(&["resume"]).ok());
}

fn ignore_paused_starts_a_process_that_goes_on_with_the_container(lab: &Lab) {
    if lab.runtime.name() == "crun" {
        return; // It has no such flag.
    }
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    drop(container.call(&["pause"]).ok());
    let mut command = lab.runtime.command();
    command.args([
        "exec",
        "--ignore-paused",
        &container.id,
        "/probe",
        "exit",
        "4",
    ]);
    let call = lab.runtime.spawn(command);
    // It gets as far as into the cgroup.
    let group = cgroup_of(&container);
    let entered = || (members(&group).len() > 1).then_some(());
    assert!(wait::until(wait::CALL, entered).is_some());
    drop(container.call(&["resume"]).ok());
    assert_eq!(call.finish(wait::CALL).code(), 4);
}

fn without_a_program_it_is_an_error(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let output = exec(lab, &container, &[], &[]);
    assert_refused(lab, &output, "process.args: must not be empty");
    let output = lab.runtime.call(&["exec"]);
    assert!(!output.status.success(), "{output}");
}

fn what_follows_the_id_is_the_programs(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let words = ["/probe", "echo", "--user", "5", "-t", "--", "-e"];
    let output = exec(lab, &container, &[], &words).ok();
    assert_eq!(output.stdout(), "--user 5 -t -- -e\n");
}

fn an_error_goes_to_the_log_file(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let log = lab.folder().join("exec.log");
    let mut command = lab.runtime.command();
    command
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json"]);
    command.args(["exec", &container.id, "nosuch"]);
    let output = lab.runtime.spawn(command).finish(wait::CALL);
    assert!(!output.status.success(), "{output}");
    let text = std::fs::read_to_string(&log).expect("the runtime writes it");
    let line = text.lines().last().expect("there was an error");
    let json: Value = serde_json::from_str(line).unwrap_or_default();
    // crun's are no JSON.
    let message = json["msg"].as_str().unwrap_or(line);
    if lab.runtime.name() != "crun" {
        let begin = "exec failed: unable to start container process: ";
        assert!(message.starts_with(begin), "{message}");
        assert!(message.contains("nosuch"), "{message}");
    }
}

/// The inodes of a process's namespaces.
fn namespaces_of(pid: u64) -> Value {
    use std::os::linux::fs::MetadataExt as _;
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let inode = |kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        std::fs::metadata(path).map_or(Value::Null, |file| json!(file.st_ino()))
    };
    kinds
        .into_iter()
        .map(|kind| (kind.to_owned(), inode(kind)))
        .collect()
}

#[track_caller]
fn assert_same_namespaces(facts: &Value, container: &Container<'_>) {
    let expected = namespaces_of(container.pid());
    for (kind, inode) in expected.as_object().expect("a map") {
        assert_eq!(&facts["namespaces"][kind], inode, "{kind}");
    }
}

fn the_process_is_in_every_namespace_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    assert_same_namespaces(&facts_of(lab, &container, &[]), &container);
}

fn the_process_is_in_the_cgroup_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let file = lab.folder().join("pid");
    let flags = ["--detach", "--pid-file", &file.to_string_lossy()];
    drop(exec(lab, &container, &flags, &["/probe", "sleep"]).ok());
    let pid: u64 = std::fs::read_to_string(&file)
        .expect("the runtime writes it")
        .parse()
        .expect("a number");
    let found = members(&cgroup_of(&container));
    assert!(found.contains(&pid), "{pid}: {found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
}

fn the_process_is_no_child_of_a_process_of_the_container(lab: &Lab) {
    let facts = facts_in(lab, &mut lab.bundle(), &[]);
    assert_eq!(facts["ppid"], 0);
    assert!(facts["pid"].as_u64() > Some(1), "{}", facts["pid"]);
    // It leads a session of its own.
    assert_eq!(facts["sid"], facts["pid"]);
}

fn a_namespace_of_the_host_is_shared_by_the_process_too(lab: &Lab) {
    let mut bundle = lab.bundle();
    for kind in ["network", "ipc", "uts", "pid", "cgroup"] {
        bundle.without_namespace(kind);
    }
    bundle.config["hostname"] = Value::Null;
    bundle.without_mount("/sys");
    let container = sleeping(lab, &mut bundle);
    let facts = facts_of(lab, &container, &[]);
    assert_same_namespaces(&facts, &container);
    let own = namespaces_of(u64::from(std::process::id()));
    for kind in ["net", "ipc", "uts", "pid", "cgroup"] {
        assert_eq!(facts["namespaces"][kind], own[kind], "{kind}");
    }
}

fn without_a_mount_namespace_the_process_is_in_the_root_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.without_namespace("mount");
    for list in ["mounts", "hostname"] {
        bundle.config[list] = Value::Null;
    }
    bundle.config["root"]["readonly"] = json!(false);
    for list in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][list] = Value::Null;
    }
    if !lab.is_corten() {
        return; // Their processes are in the host's root.
    }
    bundle.file("here", "").expect("the lab is writable");
    let container = lab.start(&bundle);
    let output = exec(lab, &container, &[], &["/probe", "list", "/"]).ok();
    assert!(output.stdout().contains("\"here\""), "{output}");
}

fn in_a_user_namespace_the_process_has_its_ids(lab: &Lab) {
    let mut bundle = user_namespace(lab);
    let container = sleeping(lab, &mut bundle);
    let facts = facts_of(lab, &container, &[]);
    assert_same_namespaces(&facts, &container);
    for id in [
        "uid", "euid", "suid", "fsuid", "gid", "egid", "sgid", "fsgid",
    ] {
        assert_eq!(facts[id], 0, "{id}");
    }
    assert_eq!(facts["groups"], json!([]));
    let facts = facts_of(lab, &container, &["--user", "5:6"]);
    assert_eq!((&facts["uid"], &facts["gid"]), (&json!(5), &json!(6)));
    let output = exec(
        lab,
        &container,
        &["--user", "70000000"],
        &["/probe", "true"],
    );
    assert_refused(lab, &output, "70000000 is not mapped in the user namespace");
}

fn what_the_host_owns_is_joined_before_a_user_namespace(lab: &Lab) {
    // A network namespace of the host's user namespace, held by another container.
    let mut other = lab.bundle();
    let other = sleeping(lab, &mut other);
    let mut bundle = user_namespace(lab);
    bundle.without_namespace("network");
    let path = format!("/proc/{}/ns/net", other.pid());
    bundle.push(
        "/linux/namespaces",
        json!({"type": "network", "path": path}),
    );
    // Only who owns the network may mount a sysfs.
    bundle.without_mount("/sys");
    for mount in bundle.config["mounts"].as_array_mut().expect("a list") {
        assert_ne!(mount["type"], "sysfs");
    }
    bundle.without_mount("/sys/fs/cgroup");
    let container = sleeping(lab, &mut bundle);
    assert_same_namespaces(&facts_of(lab, &container, &[]), &container);
}

fn a_time_namespace_is_joined(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    let offset = json!({"secs": 1_000_000_000, "nanosecs": 0});
    bundle.config["linux"]["timeOffsets"] = json!({ "boottime": offset });
    let container = sleeping(lab, &mut bundle);
    let facts = facts_of(lab, &container, &[]);
    assert_same_namespaces(&facts, &container);
    let boottime = facts["clocks"]["boottime"].as_f64();
    assert!(boottime > Some(1_000_000_000.0), "{boottime:?}");
}

fn the_process_has_its_stdin_stdout_and_stderr(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let input = lab.folder().join("input");
    std::fs::write(&input, "some text").expect("the lab is writable");
    let mut command = lab.runtime.command();
    command.args(["exec", &container.id, "/probe", "cat"]);
    command.stdin(std::fs::File::open(&input).expect("just written"));
    let output = lab.runtime.spawn(command).finish(wait::CALL).ok();
    assert_eq!(
        (output.stdout(), output.stderr()),
        ("some text".into(), String::new())
    );
    let output = exec(lab, &container, &[], &["/probe", "errors", "words"]).ok();
    assert_eq!(
        (output.stdout(), output.stderr()),
        (String::new(), "words\n".into())
    );
}

fn the_process_has_no_other_descriptor(lab: &Lab) {
    let facts = facts_in(lab, &mut lab.bundle(), &[]);
    let fds = facts["fds"].as_array().expect("a list");
    let numbers: Vec<_> = fds.iter().map(|fd| &fd["fd"]).collect();
    assert_eq!(numbers, [0, 1, 2], "{fds:#?}");
}

fn preserved_descriptors_are_passed_on(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let file = lab.folder().join("preserved");
    std::fs::write(&file, "kept").expect("the lab is writable");
    let run = |flags: &str, words: &str| {
        let script = format!(
            "exec {} --root {} exec {flags} {} {words} 4<{}",
            lab.runtime.program().display(),
            lab.runtime.root().display(),
            container.id,
            file.display()
        );
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &format!("exec 3</dev/null; {script}")]);
        command.stdin(Stdio::null());
        lab.runtime.spawn(command).finish(wait::CALL)
    };
    let output = run("--preserve-fds 2", "/probe print-fd 4").ok();
    assert_eq!(output.stdout(), "kept");
    let output = run("--preserve-fds 1", "/probe print-fd 4");
    assert_eq!(output.stderr(), "EBADF\n", "{output}");
    let output = run("--preserve-fds 7", "/probe true");
    // crun passes what there is.
    if lab.runtime.name() != "crun" {
        assert!(!output.status.success(), "{output}");
    }
}

fn signals_are_passed_on_to_the_process(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let mut command = lab.runtime.command();
    command.args(["exec", &container.id, "/probe", "wait-signal"]);
    let call = lab.runtime.spawn(command);
    call.wait_for_text("ready");
    let pid = i32::try_from(call.child.id()).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a child");
    let user1 = rustix::process::Signal::USR1;
    rustix::process::kill_process(pid, user1).expect("an own child");
    let output = call.finish(wait::CALL).ok();
    assert_eq!(output.stdout(), format!("ready\n{}\n", libc::SIGUSR1));
    assert_eq!(container.state()["status"], "running");
}

/// Writes a process.json.
pub(super) fn process_file(lab: &Lab, process: &Value) -> String {
    let path = lab.folder().join("process.json");
    std::fs::write(&path, process.to_string()).expect("the lab is writable");
    path.to_string_lossy().into_owned()
}

fn a_process_file_says_all_of_the_process(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["cwd"] = json!("/etc");
    bundle.push("/process/env", json!("OWN=container"));
    let container = sleeping(lab, &mut bundle);
    let kill = ["CAP_KILL"];
    let file = process_file(
        lab,
        &json!({
            "args": ["/probe"], "env": ["A=file"], "cwd": "/tmp",
            "user": {"uid": 0, "gid": 6, "additionalGids": [9]},
            "capabilities": {"bounding": kill, "effective": kill, "permitted": kill},
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
            "noNewPrivileges": true,
        }),
    );
    for flag in ["--process", "-p"] {
        let facts = lab
            .runtime
            .call(&["exec", flag, &file, &container.id])
            .json();
        assert_eq!(facts["cwd"], "/tmp");
        assert!(facts::has(&facts["env"], "A=file"), "{}", facts["env"]);
        assert!(
            !facts::has(&facts["env"], "OWN=container"),
            "{}",
            facts["env"]
        );
        assert_eq!((&facts["gid"], &facts["groups"]), (&json!(6), &json!([9])));
        for set in ["bounding", "effective", "permitted"] {
            assert_eq!(facts::capabilities(&facts, set), 1 << 5, "{set}");
        }
        assert_eq!(facts::capabilities(&facts, "inheritable"), 0);
        assert_eq!(
            facts["rlimits"]["RLIMIT_CORE"],
            json!({"soft": 1, "hard": 2})
        );
        assert_eq!(facts["no_new_privs"], true);
    }
}

fn a_process_file_has_a_umask(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let user = json!({"uid": 0, "gid": 0, "umask": 0o077});
    let process = json!({"args": ["/probe"], "cwd": "/", "user": user});
    let file = process_file(lab, &process);
    let facts = lab
        .runtime
        .call(&["exec", "-p", &file, &container.id])
        .json();
    assert_eq!(facts["umask"], "0077");
}

fn a_process_file_that_is_wrong_is_an_error(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let run = |file: &str| lab.runtime.call(&["exec", "-p", file, &container.id]);
    assert_refused(lab, &run("/no/such"), "/no/such: no such file or directory");
    let cases = [
        (json!({"cwd": "/"}), "process.args: must not be empty"),
        (
            json!({"args": ["/probe"]}),
            "process.cwd: must not be empty",
        ),
        (
            json!({"args": ["/probe"], "cwd": "/", "user": {"uid": 4_294_967_296_u64}}),
            "process.user.uid: invalid value",
        ),
        (json!([]), "process: invalid type"),
    ];
    for (process, text) in cases {
        let output = run(&process_file(lab, &process));
        if lab.runtime.name() == "crun" && process["cwd"].is_null() {
            continue; // It takes the root.
        }
        assert_refused(lab, &output, text);
    }
    let file = lab.folder().join("text");
    std::fs::write(&file, "{").expect("the lab is writable");
    assert_refused(lab, &run(&file.to_string_lossy()), "not JSON");
}

fn pid_in(file: &Path) -> u64 {
    let text = std::fs::read_to_string(file).expect("the runtime writes it");
    text.parse()
        .unwrap_or_else(|_| panic!("no number: {text:?}"))
}

fn detached_it_comes_back_when_the_program_runs(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let file = lab.folder().join("pid");
    let flags = ["-d", "--pid-file", &file.to_string_lossy()];
    let output = exec(lab, &container, &flags, &["/probe", "ignore-term"]).ok();
    let pid = pid_in(&file);
    let runs = || {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).expect("it is there");
        exe.ends_with("probe").then_some(())
    };
    // runc comes back a moment earlier.
    assert!(runs().is_some() || !lab.is_corten());
    assert!(wait::until(wait::CALL, runs).is_some());
    output.wait_for_text("ready");
    let output = exec(lab, &container, &["-d"], &["nosuch"]);
    assert!(!output.status.success(), "{output}");
    assert_eq!(members(&cgroup_of(&container)).len(), 2);
}

fn a_pid_file_has_the_process_in_the_foreground_too(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let file = lab.folder().join("pid");
    let mut command = lab.runtime.command();
    command.args(["exec", "--pid-file"]).arg(&file);
    command.args([&container.id, "/probe", "wait-signal"]);
    let call = lab.runtime.spawn(command);
    let pid = wait::until(wait::CALL, || file.exists().then(|| pid_in(&file)));
    let pid = pid.expect("the runtime writes it");
    call.wait_for_text("ready");
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let term = rustix::process::Signal::TERM;
    rustix::process::kill_process(pid.expect("a pid"), term).expect("it waits for one");
    assert_eq!(call.finish(wait::CALL).ok().stdout(), "ready\n15\n");
}

fn the_pidfd_socket_gets_the_process(lab: &Lab) {
    if lab.runtime.name() == "crun" {
        return; // It has no such flag.
    }
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let path = lab.folder().join("pidfd.sock");
    let socket = crate::console::ConsoleSocket::listen(&path).expect("a socket");
    let flags = ["-d", "--pidfd-socket", &path.to_string_lossy()];
    drop(exec(lab, &container, &flags, &["/probe", "sleep"]).ok());
    let (word, pidfd) = socket.receive().expect("the runtime sends it");
    assert_eq!(word, "setns");
    let kill = rustix::process::Signal::KILL;
    rustix::process::pidfd_send_signal(&pidfd, kill).expect("a pidfd");
    let alone = || (members(&cgroup_of(&container)).len() == 1).then_some(());
    assert!(wait::until(wait::CALL, alone).is_some());
}

fn a_process_of_its_own_cgroup_below_the_containers(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let group = cgroup_of(&container);
    std::fs::create_dir(group.join("below")).expect("root may");
    for path in ["below", "/below"] {
        let facts = facts_of(lab, &container, &["--cgroup", path]);
        let v2 = facts::entry(&facts["cgroup"], "controllers", "");
        assert_eq!(v2["path"], "/below", "{path}");
    }
}

fn a_cgroup_that_is_not_there_or_not_below_is_an_error(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let run = |path| exec(lab, &container, &["--cgroup", path], &["/probe", "true"]);
    assert_refused(
        lab,
        &run("nosuch"),
        "/nosuch: open: no such file or directory",
    );
    assert_refused(lab, &run("../.."), "../.. is not a sub cgroup path");
    assert_refused(lab, &run("cpu:x"), "unknown controller cpu");
}

fn a_process_has_a_place_where_the_container_has_given_its_controllers_away(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 1 << 30});
    let container = sleeping(lab, &mut bundle);
    let group = cgroup_of(&container);
    let init = group.join("init.scope");
    std::fs::create_dir(&init).expect("root may");
    let pid = container.pid().to_string();
    std::fs::write(init.join("cgroup.procs"), pid).expect("root may");
    std::fs::write(group.join("cgroup.subtree_control"), "+memory").expect("it is empty");
    let facts = facts_of(lab, &container, &[]);
    let v2 = facts::entry(&facts["cgroup"], "controllers", "");
    assert_eq!(v2["path"], "/init.scope");
}

fn the_session_keyring_is_not_the_callers(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let facts = facts_of(lab, &container, &[]);
    let description = facts["session_keyring"]["description"].to_string();
    let own = format!("_ses.{}", container.id);
    let expected = lab.runtime.name() == "crun" || description.contains(&own);
    assert!(expected, "{description}");
}

fn the_processes_end_with_a_pid_namespace(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let mut command = lab.runtime.command();
    command.args(["exec", &container.id, "/probe", "ignore-term"]);
    let call = lab.runtime.spawn(command);
    call.wait_for_text("ready");
    drop(container.call_with("kill", &["KILL"]).ok());
    assert_eq!(call.finish(wait::CALL).code(), 128 + libc::SIGKILL);
    container.wait_for("stopped");
}

fn delete_reaches_a_process_in_the_pid_namespace_of_the_host(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.without_namespace("pid");
    let container = sleeping(lab, &mut bundle);
    let group = cgroup_of(&container);
    drop(exec(lab, &container, &["-d"], &["/probe", "sleep"]).ok());
    assert_eq!(members(&group).len(), 2);
    drop(container.call(&["delete", "--force"]).ok());
    assert!(!group.exists());
}

fn a_label_needs_its_module(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    for (flag, module, field) in [
        (
            "--apparmor",
            "apparmor",
            "process.apparmorProfile: AppArmor",
        ),
        (
            "--process-label",
            "selinux",
            "process.selinuxLabel: SELinux",
        ),
    ] {
        if Need::Lsm(module).is_met() {
            continue;
        }
        let output = exec(lab, &container, &[flag, "box"], &["/probe", "true"]);
        // crun leaves them out.
        if lab.runtime.name() != "crun" {
            assert_refused(lab, &output, field);
        }
    }
}

fn twenty_processes_at_once_all_come_back(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let start = |code: i32| {
        let mut command = lab.runtime.command();
        command.args(["exec", &container.id, "/probe", "exit", &code.to_string()]);
        lab.runtime.spawn(command)
    };
    let calls: Vec<_> = (0..20).map(start).collect();
    for (call, code) in calls.into_iter().zip(0..) {
        let output = call.finish(wait::CALL);
        assert_eq!(output.code(), code, "{output}");
    }
    assert_eq!(members(&cgroup_of(&container)).len(), 1);
    let mode = std::fs::metadata(lab.runtime.root().join(&container.id));
    let mode = mode.expect("the state directory").permissions().mode();
    assert_eq!(mode & 0o077 & !0o011, 0, "{mode:o}");
}
