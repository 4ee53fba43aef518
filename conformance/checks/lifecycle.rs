//! create, start, state, kill, delete, run, list: what a container goes through.

use std::os::linux::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::{Agent, Answer};
use crate::bundle::Bundle;
use crate::check::{Need, checks};
use crate::console::ConsoleSocket;
use crate::lab::Lab;
use crate::wait;

checks!("lifecycle":
    run_returns_the_exit_code_of_the_process,
    run_returns_128_plus_the_signal_that_killed_the_process,
    run_passes_stdin_stdout_and_stderr_through,
    run_removes_the_container_at_the_end,
    run_keep_leaves_the_container_stopped,
    run_detached_returns_while_the_container_runs,
    run_forwards_signals_to_the_process,
    a_container_goes_through_created_running_stopped,
    a_created_container_has_not_run_its_program,
    a_container_outlives_the_create_that_made_it,
    start_of_a_running_container_is_refused,
    start_of_a_stopped_container_is_refused,
    kill_without_a_signal_sends_sigterm,
    kill_takes_names_and_numbers_of_signals,
    kill_of_a_stopped_container_is_refused,
    kill_with_an_unknown_signal_is_refused,
    delete_of_a_running_container_is_refused,
    delete_of_a_created_container_kills_it,
    delete_force_kills_a_running_container,
    delete_force_of_a_missing_container_succeeds,
    delete_removes_the_container_from_the_state_directory,
    state_has_what_the_specification_asks_for,
    list_shows_every_container_with_its_status,
    list_in_json_is_null_without_containers,
    a_pid_file_holds_the_pid_of_init_and_nothing_else,
    two_containers_can_be_created_at_once_from_one_bundle,
    the_bundle_is_by_default_the_current_directory,
    a_created_container_holds_no_fd_of_its_creator,
    init_is_not_a_file_of_the_host,
    a_create_killed_at_any_time_is_cleaned_up_by_delete_force,
    a_run_killed_at_any_time_is_cleaned_up_by_delete_force,
    spec_writes_a_configuration_and_never_over_another,
    a_created_container_holds_only_its_streams_and_fifos,
    a_created_container_with_mapped_mounts_holds_only_its_streams_and_fifos [Need::Kernel(6, 3)],
    a_run_holds_only_its_streams_and_a_socket_before_its_program_runs,
    a_run_with_mapped_mounts_holds_only_its_streams_and_a_socket [Need::Kernel(6, 3)],
    a_run_is_in_its_time_namespace_before_its_program_runs [Need::Namespace("time")],
    a_created_container_can_not_be_looked_into_without_the_right_to_trace,
);

fn run_returns_the_exit_code_of_the_process(lab: &Lab) {
    for code in [0, 1, 42, 255] {
        let output = lab.run(&lab.bundle_of(&["exit", &code.to_string()]));
        assert_eq!(output.code(), code, "{output}");
    }
}

fn run_returns_128_plus_the_signal_that_killed_the_process(lab: &Lab) {
    let bundle = lab.bundle_of(&["ignore-term"]);
    let mut command = lab.runtime.command();
    bundle.write().expect("the lab is writable");
    command
        .arg("run")
        .arg("--bundle")
        .arg(bundle.path())
        .arg("killed");
    let call = lab.runtime.spawn(command);
    call.wait_for_text("ready");
    drop(lab.runtime.call(&["kill", "killed", "KILL"]).ok());
    let output = call.finish(wait::CALL);
    assert_eq!(output.status.code(), Some(137), "{output}");
}

fn run_passes_stdin_stdout_and_stderr_through(lab: &Lab) {
    let bundle = lab.bundle_of(&["cat"]);
    bundle.write().expect("the lab is writable");
    let text = lab.folder().join("text");
    std::fs::write(&text, "one\ntwo\n").expect("the lab is writable");
    let mut command = lab.runtime.command();
    command
        .arg("run")
        .arg("--bundle")
        .arg(bundle.path())
        .arg("cat");
    command.stdin(std::fs::File::open(text).expect("just written"));
    let output = lab.runtime.spawn(command).finish(wait::CALL);
    assert_eq!(output.stdout(), "one\ntwo\n", "{output}");

    let output = lab.run(&lab.bundle_of(&["errors", "told"]));
    assert_eq!(output.stderr(), "told\n", "{output}");
}

fn run_removes_the_container_at_the_end(lab: &Lab) {
    drop(lab.run(&lab.bundle_of(&["true"])).ok());
    drop(lab.run(&lab.bundle_of(&["exit", "3"])));
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn run_keep_leaves_the_container_stopped(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    drop(lab.command(&["run", "--keep"], &bundle, "kept").ok());
    let state = lab.runtime.call(&["state", "kept"]).json();
    assert_eq!(state["status"], "stopped");
    drop(lab.runtime.call(&["delete", "kept"]).ok());
}

fn run_detached_returns_while_the_container_runs(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    drop(lab.command(&["run", "--detach"], &bundle, "detached").ok());
    let state = lab.runtime.call(&["state", "detached"]).json();
    assert_eq!(state["status"], "running");
    drop(lab.runtime.call(&["delete", "--force", "detached"]).ok());
}

fn run_forwards_signals_to_the_process(lab: &Lab) {
    let bundle = lab.bundle_of(&["wait-signal"]);
    bundle.write().expect("the lab is writable");
    let mut command = lab.runtime.command();
    command
        .arg("run")
        .arg("--bundle")
        .arg(bundle.path())
        .arg("forward");
    let call = lab.runtime.spawn(command);
    call.wait_for_text("ready");
    let pid = i32::try_from(call.child.id()).expect("a pid is an i32");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid is not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it runs");
    let output = call.finish(wait::CALL);
    assert_eq!(output.stdout(), "ready\n1\n", "{output}");
}

fn a_container_goes_through_created_running_stopped(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.create(&bundle);
    assert_eq!(container.state()["status"], "created");
    drop(container.call(&["start"]).ok());
    assert_eq!(container.state()["status"], "running");
    drop(container.call_with("kill", &["KILL"]).ok());
    container.wait_for("stopped");
    assert_eq!(container.state()["pid"], 0);
    drop(container.call(&["delete"]).ok());
    assert!(!container.call(&["state"]).status.success());
}

fn a_created_container_has_not_run_its_program(lab: &Lab) {
    let bundle = lab.bundle_of(&["echo", "here"]);
    let container = lab.create(&bundle);
    let pid = container.pid();
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).expect("init runs");
    assert!(
        !String::from_utf8_lossy(&command).contains("/probe"),
        "{command:?}"
    );
    assert_eq!(container.printed(), "");
    drop(container.call(&["start"]).ok());
    container.wait_for("stopped");
    assert_eq!(container.printed(), "here\n");
}

fn a_container_outlives_the_create_that_made_it(lab: &Lab) {
    let bundle = lab.bundle_of(&["wait-signal"]);
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid()));
    let status = status.expect("init runs");
    // Handed on to the lane's own init, as to any machine's.
    assert!(status.lines().any(|line| line == "PPid:\t1"), "{status}");
}

fn start_of_a_running_container_is_refused(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let output = lab.start(&bundle).call(&["start"]);
    assert_eq!(output.code(), 1, "{output}");
    if lab.is_corten() {
        assert_eq!(
            output.stderr(),
            "corten: cannot start an already running container\n"
        );
    }
}

fn start_of_a_stopped_container_is_refused(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.start(&bundle);
    container.wait_for("stopped");
    let output = container.call(&["start"]);
    assert_eq!(output.code(), 1, "{output}");
    if lab.is_corten() {
        assert_eq!(
            output.stderr(),
            "corten: cannot start a container that has stopped\n"
        );
    }
}

fn kill_without_a_signal_sends_sigterm(lab: &Lab) {
    let bundle = lab.bundle_of(&["wait-signal"]);
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    drop(container.call(&["kill"]).ok());
    container.wait_for("stopped");
    assert_eq!(container.printed(), "ready\n15\n");
}

fn kill_takes_names_and_numbers_of_signals(lab: &Lab) {
    let signals = [
        ("HUP", 1),
        ("SIGUSR1", 10),
        ("usr2", 12),
        ("34", 34),
        ("SIGINT", 2),
    ];
    for (word, number) in signals {
        let bundle = lab.bundle_of(&["wait-signal"]);
        let container = lab.start(&bundle);
        container.creation.wait_for_text("ready");
        drop(container.call_with("kill", &[word]).ok());
        container.wait_for("stopped");
        assert_eq!(container.printed(), format!("ready\n{number}\n"), "{word}");
    }
}

fn kill_of_a_stopped_container_is_refused(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.start(&bundle);
    container.wait_for("stopped");
    let output = container.call_with("kill", &["TERM"]);
    assert_eq!(output.code(), 1, "{output}");
    if lab.is_corten() {
        assert_eq!(output.stderr(), "corten: container not running\n");
    }
}

fn kill_with_an_unknown_signal_is_refused(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    for word in ["FROB", "SIGFROB", "65", "-1"] {
        let output = container.call_with("kill", &[word]);
        assert!(!output.status.success(), "{output}");
        if lab.is_corten() && word == "FROB" {
            assert_eq!(output.stderr(), "corten: unknown signal \"FROB\"\n");
        }
    }
    assert_eq!(container.state()["status"], "running");
}

fn delete_of_a_running_container_is_refused(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    let output = container.call(&["delete"]);
    assert_eq!(output.code(), 1, "{output}");
    if lab.is_corten() {
        let id = &container.id;
        let text = format!("corten: cannot delete container {id} that is not stopped: running\n");
        assert_eq!(output.stderr(), text);
    }
    assert_eq!(container.state()["status"], "running");
}

fn delete_of_a_created_container_kills_it(lab: &Lab) {
    let bundle = lab.bundle_of(&["echo", "never"]);
    let container = lab.create(&bundle);
    let init = format!("/proc/{}", container.pid());
    drop(container.call(&["delete"]).ok());
    let gone = wait::until(wait::CALL, || (!Path::new(&init).exists()).then_some(()));
    assert!(gone.is_some(), "init still runs");
    assert_eq!(container.printed(), "");
}

fn delete_force_kills_a_running_container(lab: &Lab) {
    let bundle = lab.bundle_of(&["ignore-term"]);
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    let init = format!("/proc/{}", container.pid());
    drop(container.call(&["delete", "--force"]).ok());
    let gone = wait::until(Duration::from_secs(5), || {
        (!Path::new(&init).exists()).then_some(())
    });
    assert!(gone.is_some(), "init still runs");
}

fn delete_force_of_a_missing_container_succeeds(lab: &Lab) {
    let output = lab.runtime.call(&["delete", "--force", "missing"]);
    assert_eq!(output.code(), 0, "{output}");
    let output = lab.runtime.call(&["delete", "missing"]);
    assert_eq!(output.code(), 1, "{output}");
}

fn delete_removes_the_container_from_the_state_directory(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.start(&bundle);
    container.wait_for("stopped");
    assert_eq!(lab.state_directory(), [container.id.as_str()]);
    drop(container.call(&["delete"]).ok());
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn state_has_what_the_specification_asks_for(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.config["annotations"] = json!({"org.example.key": "value"});
    let container = lab.create(&bundle);
    let state = container.state();
    assert_eq!(state["id"], json!(container.id));
    assert_eq!(state["bundle"], json!(bundle.path()));
    assert_eq!(state["annotations"], json!({"org.example.key": "value"}));
    assert!(
        state["ociVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("1."))
    );
    let pid = state["pid"].as_u64().expect("a pid");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    if lab.is_corten() {
        assert_eq!(state["ociVersion"], bundle.config["ociVersion"]);
        assert_eq!(state["rootfs"], json!(bundle.rootfs()));
        let created = state["created"].as_str().expect("a time");
        assert!(created.ends_with('Z') && created.contains('.'), "{created}");
        let mut keys: Vec<&String> = state.as_object().expect("an object").keys().collect();
        keys.sort();
        let all = "annotations bundle created id ociVersion owner pid rootfs status";
        assert_eq!(keys, all.split(' ').collect::<Vec<_>>());
    }
}

fn list_shows_every_container_with_its_status(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let created = lab.create(&bundle);
    let running = lab.start(&bundle);
    let list = lab.runtime.call(&["list", "--format", "json"]).json();
    let status = |id: &str| crate::facts::entry(&list, "id", id)["status"].clone();
    assert_eq!(status(&created.id), "created");
    assert_eq!(status(&running.id), "running");

    let quiet = lab.runtime.call(&["list", "--quiet"]).ok().stdout();
    let mut ids: Vec<&str> = quiet.lines().collect();
    ids.sort_unstable();
    assert_eq!(ids, [created.id.as_str(), running.id.as_str()]);

    let table = lab.runtime.call(&["list"]).ok().stdout();
    let header = table.lines().next().unwrap_or_default();
    let header: Vec<&str> = header.split_whitespace().collect();
    assert_eq!(header[..5], ["ID", "PID", "STATUS", "BUNDLE", "CREATED"]);
}

fn list_in_json_is_null_without_containers(lab: &Lab) {
    std::fs::create_dir_all(lab.runtime.root()).expect("the lab is writable");
    let list = lab.runtime.call(&["list", "--format", "json"]).json();
    // crun writes an empty list; both mean the same to a reader.
    assert!(list == Value::Null || list == json!([]), "{list}");
    if lab.is_corten() {
        assert_eq!(list, Value::Null);
    }
}

fn a_pid_file_holds_the_pid_of_init_and_nothing_else(lab: &Lab) {
    let file = lab.folder().join("pid");
    let path = file.to_string_lossy();
    let bundle = lab.bundle_of(&["sleep"]);
    drop(
        lab.command(&["create", "--pid-file", &path], &bundle, "with-file")
            .ok(),
    );
    let pid = lab.runtime.call(&["state", "with-file"]).json()["pid"].to_string();
    assert_eq!(std::fs::read_to_string(&file).expect("the pid file"), pid);
    drop(lab.runtime.call(&["delete", "--force", "with-file"]).ok());
}

fn two_containers_can_be_created_at_once_from_one_bundle(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    bundle.write().expect("the lab is writable");
    let calls: Vec<_> = (0..8)
        .map(|number| {
            let mut command = lab.runtime.command();
            command
                .arg("run")
                .arg("--bundle")
                .arg(bundle.path())
                .arg(format!("many-{number}"));
            lab.runtime.spawn(command)
        })
        .collect();
    for call in calls {
        drop(call.finish(wait::CALL).ok());
    }
}

fn the_bundle_is_by_default_the_current_directory(lab: &Lab) {
    let bundle = lab.bundle_of(&["echo", "here"]);
    bundle.write().expect("the lab is writable");
    let mut command = lab.runtime.command();
    command.args(["run", "here"]).current_dir(bundle.path());
    let output = lab.runtime.spawn(command).finish(wait::CALL).ok();
    assert_eq!(output.stdout(), "here\n");
}

fn a_created_container_holds_no_fd_of_its_creator(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    bundle.write().expect("the lab is writable");
    let mark = lab.folder().join("mark");
    std::fs::write(&mark, "").expect("the lab is writable");
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "exec 7<\"$0\" 9<\"$0\"; exec \"$@\""])
        .arg(&mark);
    command
        .arg(lab.runtime.program())
        .arg("--root")
        .arg(lab.runtime.root());
    command
        .arg("create")
        .arg("--bundle")
        .arg(bundle.path())
        .arg("clean");
    drop(lab.runtime.spawn(command).finish(wait::CALL).ok());
    let pid = lab.runtime.call(&["state", "clean"]).json()["pid"].clone();
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("init runs");
    let held: Vec<_> = fds
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .collect();
    assert!(!held.contains(&mark), "{held:?}");
    drop(lab.runtime.call(&["delete", "--force", "clean"]).ok());
}

fn init_is_not_a_file_of_the_host(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.create(&bundle);
    let exe = std::fs::read_link(format!("/proc/{}/exe", container.pid())).expect("init runs");
    // CVE-2019-5736: through this link a container wrote to the runtime's binary.
    assert_ne!(exe, lab.runtime.program());
    if lab.is_corten() {
        assert!(
            exe.to_string_lossy().starts_with("/memfd:"),
            "{}",
            exe.display()
        );
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", container.pid()));
        let program = lab.runtime.program().to_string_lossy().into_owned();
        assert!(
            !maps.expect("init runs").contains(&program),
            "memory of its creator"
        );
    }
}

/// Starts, kills the runtime a little later each time, deletes.
fn killed_at_any_time(lab: &Lab, word: &str) {
    // Up to the time that a whole run needs on a slow machine.
    for step in 0..40_u64 {
        let mut bundle = lab.bundle_of(&["sleep"]);
        // A cgroup of its own each time: the next one would clean up behind this one.
        // Below others that it makes too, and that must not stay.
        let group = format!("/killed-{step}/deep/box");
        bundle.config["linux"]["cgroupsPath"] = json!(group);
        bundle.write().expect("the lab is writable");
        let mut command = lab.runtime.command();
        command
            .arg(word)
            .arg("--bundle")
            .arg(bundle.path())
            .arg("killed");
        let mut call = lab.runtime.spawn(command);
        std::thread::sleep(Duration::from_micros(250 * step));
        // It may have ended by itself.
        call.child.kill().expect("an own child can be killed");
        drop(call.finish(wait::CALL));
        drop(lab.runtime.call(&["delete", "--force", "killed"]).ok());
        assert_eq!(
            lab.state_directory(),
            [""; 0],
            "killed after {} us",
            250 * step
        );
    }
}

fn a_create_killed_at_any_time_is_cleaned_up_by_delete_force(lab: &Lab) {
    killed_at_any_time(lab, "create");
}

fn a_run_killed_at_any_time_is_cleaned_up_by_delete_force(lab: &Lab) {
    killed_at_any_time(lab, "run");
}

fn spec_writes_a_configuration_and_never_over_another(lab: &Lab) {
    let folder = lab.folder().join("empty");
    std::fs::create_dir(&folder).expect("the lab is writable");
    let path = folder.to_string_lossy();
    drop(lab.runtime.call(&["spec", "--bundle", &path]).ok());
    let text = std::fs::read(folder.join("config.json")).expect("it was written");
    let config: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["process"]["terminal"], true);
    let output = lab.runtime.call(&["spec", "--bundle", &path]);
    assert!(!output.status.success(), "{output}");
    assert_eq!(
        std::fs::read(folder.join("config.json")).expect("still there"),
        text
    );
    if lab.is_corten() {
        assert!(
            output
                .stderr()
                .contains("File config.json exists. Remove it first"),
            "{output}"
        );
    }
}

/// What init has open besides its streams: where it leads, or `pty`.
fn held(pid: u64) -> Vec<String> {
    let streams = ["0", "1", "2"].map(std::ffi::OsString::from);
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("init runs");
    let others = fds
        .flatten()
        .filter(|fd| !streams.contains(&fd.file_name()));
    let target = |fd: &std::fs::DirEntry| {
        let device = std::fs::metadata(fd.path()).map_or(0, |metadata| metadata.st_rdev());
        // Unix98 pty slaves have the majors from 136 on; their path is another namespace's.
        if (136..144).contains(&rustix::fs::major(device)) {
            return Some("pty".to_owned());
        }
        let target = std::fs::read_link(fd.path()).ok()?;
        Some(target.to_string_lossy().into_owned())
    };
    others.filter_map(|fd| target(&fd)).collect()
}

/// Bundles whose plans open descriptors of every kind.
fn that_open_much(lab: &Lab) -> Vec<Bundle> {
    let plain = lab.bundle_of(&["true"]);
    let mut mapped = lab.bundle_of(&["true"]);
    mapped.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    mapped.config["linux"]["uidMappings"] = map.clone();
    mapped.config["linux"]["gidMappings"] = map;
    // What a mapped root may not reach is opened before it is one.
    let bind =
        json!({"destination": "/bound", "source": "/run/tmp", "type": "bind", "options": ["bind"]});
    mapped.push("/mounts", bind);
    mapped.give_to(100_000).expect("root may");
    let mut elsewhere = lab.bundle_of(&["true"]);
    elsewhere.config["process"]["cwd"] = json!("/made/here");
    let mut rich = lab.bundle_of(&["true"]);
    let device = json!({"path": "/dev/deep/fuse", "type": "c", "major": 10, "minor": 229});
    rich.push("/linux/devices", device);
    rich.config["hooks"] = json!({"createContainer": [{"path": "/bin/true"}]});
    let mut written = lab.bundle_of(&["true"]);
    written.config["linux"]["sysctl"] = json!({"kernel.domainname": "a"});
    vec![plain, mapped, elsewhere, rich, written]
}

/// Creates a container and looks at what its init holds besides its streams.
fn assert_holds_only_the_fifos(lab: &Lab, bundle: &Bundle) {
    let container = lab.create(bundle);
    if lab.is_corten() {
        const KNOWN: [&str; 2] = ["/done", "/exec.fifo"];
        let is_known = |fd: &String| KNOWN.iter().any(|name| fd.ends_with(name));
        let right = |fds: &[String]| fds.iter().all(is_known) && fds.len() <= KNOWN.len();
        let pid = container.pid();
        // Init closes its socket once create has done all: it may just have returned.
        let closed = wait::until(Duration::from_secs(5), || right(&held(pid)).then_some(()));
        assert!(closed.is_some(), "{:?}", held(pid));
    }
}

fn a_created_container_holds_only_its_streams_and_fifos(lab: &Lab) {
    for bundle in &that_open_much(lab) {
        assert_holds_only_the_fifos(lab, bundle);
    }
    // A terminal's master is its reader's alone, and the streams are copies of the slave.
    let socket = ConsoleSocket::listen(&lab.folder().join("console.sock")).expect("a socket");
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["process"]["terminal"] = json!(true);
    let path = socket.path().to_string_lossy().into_owned();
    drop(
        lab.command(&["create", "--console-socket", &path], &bundle, "tty")
            .ok(),
    );
    let received = socket.receive().expect("the runtime sends the master");
    let pid = lab.runtime.call(&["state", "tty"]).json()["pid"].as_u64();
    let held = held(pid.expect("a pid"));
    assert!(!held.contains(&"pty".to_owned()), "{held:?}");
    drop(received);
    drop(lab.runtime.call(&["delete", "--force", "tty"]).ok());
}

/// Runs a container and looks at its process while that waits in execve(2), for an agent.
fn before_the_program(lab: &Lab, mut bundle: Bundle, look: impl Fn(u64)) {
    if !lab.is_corten() {
        return; // Others make more calls of the name, and have other things open.
    }
    let path = lab.folder().join("agent.sock");
    let agent = Agent::listen(&path, &[(libc::SYS_execve, Answer::Never)]);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "syscalls": [{ "names": ["execve"], "action": "SCMP_ACT_NOTIFY" }],
    });
    bundle.write().expect("the lab is writable");
    let mut command = lab.runtime.command();
    command.arg("run").arg("--bundle").arg(bundle.path());
    command.arg("waits");
    let call = lab.runtime.spawn(command);
    let pid = agent.state(0)["pid"].as_u64().expect("a pid");
    let waits = || (agent.count(libc::SYS_execve) > 0).then_some(());
    assert!(wait::until(wait::CALL, waits).is_some(), "no execve");
    look(pid);
    // Nobody answers any more: ENOSYS.
    drop(agent);
    assert!(!call.finish(wait::CALL).status.success());
    std::fs::remove_file(path).expect("the agent made it");
}

/// execve closes them anyway, but each counts in `RLIMIT_NOFILE`.
fn assert_holds_only_a_socket(pid: u64) {
    let held = held(pid);
    let is_socket = matches!(&*held, [only] if only.starts_with("socket:"));
    assert!(is_socket, "{held:?}");
}

fn a_run_holds_only_its_streams_and_a_socket_before_its_program_runs(lab: &Lab) {
    for mut bundle in that_open_much(lab) {
        // With either, run is create and start.
        let is_new = |namespace: &Value| namespace["type"] == "user";
        let namespaces = bundle.config["linux"]["namespaces"].as_array();
        if namespaces.is_some_and(|all| all.iter().any(is_new)) {
            continue;
        }
        bundle.config["hooks"] = Value::Null;
        before_the_program(lab, bundle, assert_holds_only_a_socket);
    }
}

fn a_run_with_mapped_mounts_holds_only_its_streams_and_a_socket(lab: &Lab) {
    before_the_program(lab, with_mapped_mounts(lab), assert_holds_only_a_socket);
}

fn a_run_is_in_its_time_namespace_before_its_program_runs(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000}});
    before_the_program(lab, bundle, |pid| {
        let link = |pid: &str, name: &str| {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}"));
            link.expect("it waits")
        };
        let (own, pid) = (link("self", "time"), pid.to_string());
        // Since Linux 6.2 execve enters it, before that only this.
        assert_ne!(link(&pid, "time"), own);
        assert_eq!(link(&pid, "time"), link(&pid, "time_for_children"));
    });
}

fn with_mapped_mounts(lab: &Lab) -> Bundle {
    let line = json!([{"containerID": 0, "hostID": 5, "size": 1}]);
    let mut bundle = lab.bundle_of(&["true"]);
    let by_field = json!({
        "destination": "/a", "source": "/run/tmp", "type": "bind", "options": ["bind"],
        "uidMappings": line, "gidMappings": line,
    });
    bundle.push("/mounts", by_field);
    // A map in an option is not for every runtime.
    if lab.is_corten() {
        let by_option = json!({
            "destination": "/b", "source": "/run/tmp", "type": "bind",
            "options": ["bind", "idmap=uids=0-7-1;gids=0-7-1"],
        });
        bundle.push("/mounts", by_option);
    }
    bundle
}

fn a_created_container_with_mapped_mounts_holds_only_its_streams_and_fifos(lab: &Lab) {
    assert_holds_only_the_fifos(lab, &with_mapped_mounts(lab));
}

fn a_created_container_can_not_be_looked_into_without_the_right_to_trace(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.create(&bundle);
    // Root, but as weak as a process of another container may be that sees this one.
    let exe = format!("/proc/{}/exe", container.pid());
    let look = |words: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(words).args(["--", "readlink", &exe]);
        lab.runtime.spawn(command).finish(wait::CALL)
    };
    drop(look(&["--bounding-set", "+all"]).ok());
    let output = look(&["--bounding-set", "-sys_ptrace"]);
    if lab.is_corten() {
        assert!(!output.status.success(), "{output}");
    }
}
