//! Hooks: when each kind runs, where, with what, and what its failure means.

use std::path::Path;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::Lab;
use crate::runtime::Output;
use crate::wait;

checks!("hooks":
    all_kinds_run_in_their_order,
    every_hook_reads_the_state_on_its_standard_input,
    a_hook_has_its_own_environment_and_nothing_else,
    the_first_argument_is_the_hooks_name,
    a_hook_has_no_descriptors_of_the_runtime,
    a_hook_finds_itself_in_the_bundle_and_never_in_the_image,
    a_create_runtime_hook_is_outside_and_sees_the_containers_mounts,
    a_create_container_hook_is_in_the_containers_namespaces_before_the_pivot,
    what_a_create_container_hook_mounts_is_in_the_container,
    a_create_container_hook_is_the_mapped_root_of_a_user_namespace,
    a_start_container_hook_has_the_containers_root_privileges_and_filter,
    a_start_container_hook_without_an_environment_has_the_containers,
    a_hook_of_create_that_fails_ends_it_and_leaves_nothing,
    a_hook_that_is_missing_or_killed_is_told_as_such,
    poststop_hooks_follow_a_create_that_failed_in_a_hook,
    a_start_container_hook_that_fails_keeps_the_program_from_running,
    a_poststart_hook_that_fails_fails_start_and_ends_the_container,
    a_poststop_hook_that_fails_is_a_warning_and_the_others_run,
    a_hook_that_takes_too_long_is_killed_with_all_it_started,
    what_a_hook_leaves_in_the_background_is_not_waited_for,
    a_create_killed_in_the_middle_of_a_hook_is_cleaned_up,
    a_hook_that_hangs_in_start_does_not_keep_the_container_from_being_deleted,
);

const PATH: &str = "PATH=/usr/bin:/bin";

/// A hook that is a line of shell.
fn hook(line: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", line], "env": [PATH]})
}

/// A bundle with these hooks, each a kind and a line of shell. `$LAB` is the lab's folder,
/// in a startContainer hook that of the container: `/lab`.
fn bundle(lab: &Lab, hooks: &[(&str, &str)]) -> Bundle {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.busybox().expect("busybox");
    let folder = lab.folder().join("shared");
    std::fs::create_dir_all(&folder).expect("the lab is writable");
    bundle.push(
        "/mounts",
        json!({"destination": "/lab", "type": "bind", "source": folder, "options": ["bind"]}),
    );
    bundle.config["hooks"] = json!({});
    for (kind, line) in hooks {
        let inside = *kind == "startContainer";
        let place = if inside { Path::new("/lab") } else { &folder };
        let line = line.replace("$LAB", &place.to_string_lossy());
        bundle.push(&format!("/hooks/{kind}"), hook(&line));
    }
    bundle
}

/// A file that a hook has written. runc's `start` does not wait for startContainer hooks.
fn read(lab: &Lab, name: &str) -> String {
    let path = lab.folder().join("shared").join(name);
    let text = wait::until(wait::CALL, || {
        let text = std::fs::read_to_string(&path).ok();
        text.filter(|text| !text.is_empty())
    });
    text.unwrap_or_else(|| panic!("{}: never written", path.display()))
}

fn exists(lab: &Lab, name: &str) -> bool {
    lab.folder().join("shared").join(name).exists()
}

/// A field of a /proc/PID/status.
fn status<'s>(text: &'s str, field: &str) -> &'s str {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {field} in {text}"))
        .trim()
}

/// A call that fails with the words that engines look for.
fn refused(lab: &Lab, output: &Output, words: &str) {
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        assert!(output.stderr().contains(words), "{output}");
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
}

fn all_kinds_run_in_their_order(lab: &Lab) {
    let kinds = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    let mut lines = Vec::new();
    for kind in kinds {
        for number in [1, 2] {
            // crun does not survive a hook that does not read.
            lines.push((
                kind,
                format!("cat >/dev/null; echo {kind}{number} >>$LAB/order"),
            ));
        }
    }
    let lines: Vec<_> = lines.iter().map(|(k, l)| (*k, l.as_str())).collect();
    let bundle = bundle(lab, &lines);
    let order = || {
        let text = read(lab, "order");
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let named = |kinds: &[&str]| {
        let both = |kind: &&str| [format!("{kind}1"), format!("{kind}2")];
        kinds.iter().flat_map(both).collect::<Vec<_>>()
    };
    let container = lab.create(&bundle);
    assert_eq!(order(), named(&kinds[..3]));
    drop(container.call(&["start"]).ok());
    assert_eq!(order(), named(&kinds[..5]));
    drop(container.call_with("kill", &["KILL"]));
    container.wait_for("stopped");
    assert_eq!(order(), named(&kinds[..5]));
    drop(container.call(&["delete"]).ok());
    assert_eq!(order(), named(&kinds));
}

fn every_hook_reads_the_state_on_its_standard_input(lab: &Lab) {
    let expected = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    let lines: Vec<(&str, String)> = expected
        .iter()
        .map(|(kind, _)| (*kind, format!("cat >$LAB/{kind}")))
        .collect();
    let lines: Vec<_> = lines.iter().map(|(k, l)| (*k, l.as_str())).collect();
    let mut bundle = bundle(lab, &lines);
    bundle.config["annotations"] = json!({"org.example.a": "x \"y\"\n"});
    let container = lab.start(&bundle);
    let pid = container.pid();
    drop(container.call(&["delete", "--force"]).ok());
    for (kind, wanted) in expected {
        let state: Value = serde_json::from_str(&read(lab, kind)).expect("JSON");
        assert_eq!(state["id"], container.id, "{kind}");
        // crun's startContainer hooks are told "/".
        let known = state["bundle"] == json!(bundle.path());
        assert!(known || !lab.is_corten(), "{kind}: {state}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        let annotations = &state["annotations"];
        assert_eq!(annotations["org.example.a"], "x \"y\"\n", "{kind}");
        if lab.is_corten() {
            assert_eq!(state["status"], wanted, "{kind}");
            assert_eq!(state["ociVersion"], bundle.config["ociVersion"], "{kind}");
        }
        match kind {
            // Of the container's own pid namespace.
            "createContainer" | "startContainer" => {
                // crun tells 0 or 1.
                assert!(state["pid"] == 1 || !lab.is_corten(), "{kind}: {state}");
            }
            "poststop" => assert!(state["pid"].as_u64().unwrap_or(0) == 0, "{state}"),
            _ => assert_eq!(state["pid"], pid, "{kind}"),
        }
    }
}

fn a_hook_has_its_own_environment_and_nothing_else(lab: &Lab) {
    let mut lines = Vec::new();
    for kind in ["createRuntime", "createContainer", "poststop"] {
        lines.push((
            kind,
            format!("tr '\\0' '\\n' </proc/self/environ >$LAB/{kind}"),
        ));
    }
    let lines: Vec<_> = lines.iter().map(|(k, l)| (*k, l.as_str())).collect();
    let mut bundle = bundle(lab, &lines);
    // What the image or the engine says is for the container (nvidia CVE-2025-23266).
    bundle.push("/process/env", json!("LD_PRELOAD=/evil.so"));
    drop(lab.create(&bundle).call(&["delete"]).ok());
    for kind in ["createRuntime", "createContainer", "poststop"] {
        let mut lines: Vec<String> = read(lab, kind).lines().map(str::to_owned).collect();
        // The shell's own.
        lines.retain(|line| {
            !["PWD=", "OLDPWD=", "SHLVL=", "_="]
                .iter()
                .any(|own| line.starts_with(own))
        });
        assert_eq!(lines, [PATH], "{kind}");
    }
}

fn the_first_argument_is_the_hooks_name(lab: &Lab) {
    let mut bundle = bundle(lab, &[]);
    let out = lab.folder().join("shared/argv");
    let line = format!("tr '\\0' ' ' </proc/$$/cmdline >{}", out.display());
    let hook = json!({"path": "/bin/sh", "args": ["my own name", "-c", line], "env": [PATH]});
    bundle.config["hooks"] = json!({"createRuntime": [hook]});
    drop(lab.create(&bundle));
    let argv = read(lab, "argv");
    assert!(argv.starts_with("my own name -c "), "{argv}");
}

fn a_hook_has_no_descriptors_of_the_runtime(lab: &Lab) {
    let line = |kind: &str| format!("ls -l /proc/self/fd >$LAB/{kind}");
    let kinds = [
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
    ];
    let lines: Vec<_> = kinds.iter().map(|kind| (*kind, line(kind))).collect();
    let lines: Vec<_> = lines.iter().map(|(k, l)| (*k, l.as_str())).collect();
    let bundle = bundle(lab, &lines);
    bundle.write().expect("the lab is writable");
    let mark = lab.folder().join("mark");
    std::fs::write(&mark, "").expect("the lab is writable");
    let mut command = std::process::Command::new("sh");
    let script = "exec 3<\"$0\" 4<\"$0\" 9<\"$0\"; exec \"$@\"";
    command.args(["-c", script]).arg(&mark);
    command.arg(lab.runtime.program()).arg("--root");
    command.arg(lab.runtime.root());
    command.args(["run", "--detach", "--preserve-fds", "2", "--bundle"]);
    command.arg(bundle.path()).arg("fds");
    drop(lab.runtime.spawn(command).finish(wait::CALL).ok());
    drop(lab.runtime.call(&["delete", "--force", "fds"]).ok());
    for kind in kinds {
        let fds = read(lab, kind);
        if lab.is_corten() {
            // A total, the streams, and the folder that is listed.
            assert!(fds.lines().count() <= 5, "{kind}: {fds}");
            assert!(!fds.contains("/mark"), "{kind}: {fds}");
        }
    }
}

fn a_hook_finds_itself_in_the_bundle_and_never_in_the_image(lab: &Lab) {
    let kinds = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    let line = |kind: &str| format!("readlink /proc/self/cwd >$LAB/{kind}");
    let lines: Vec<_> = kinds.iter().map(|kind| (*kind, line(kind))).collect();
    let lines: Vec<_> = lines.iter().map(|(k, l)| (*k, l.as_str())).collect();
    let bundle = bundle(lab, &lines);
    drop(lab.start(&bundle));
    for kind in kinds {
        let cwd = read(lab, kind);
        if lab.is_corten() {
            assert_eq!(Path::new(cwd.trim()), bundle.path(), "{kind}");
        }
    }
}

/// A line that says the caller's namespaces of these kinds.
const NAMESPACES: &str = "readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/uts";

fn namespaces_of(process: &str) -> String {
    let kinds = ["mnt", "pid", "uts"];
    let one = |kind: &&str| {
        let link = std::fs::read_link(format!("/proc/{process}/ns/{kind}"));
        format!("{}\n", link.expect("it runs").display())
    };
    kinds.iter().map(one).collect()
}

fn a_create_runtime_hook_is_outside_and_sees_the_containers_mounts(lab: &Lab) {
    let line = format!(
        "{NAMESPACES} >$LAB/ns; pid=$(grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*'); \
         cat /proc/$pid/mountinfo >$LAB/mounts; readlink /proc/$pid/ns/mnt >$LAB/inside"
    );
    let bundle = bundle(lab, &[("createRuntime", &line)]);
    let container = lab.create(&bundle);
    assert_eq!(read(lab, "ns"), namespaces_of("self"));
    let inside = std::fs::read_link(format!("/proc/{}/ns/mnt", container.pid()));
    assert_eq!(
        read(lab, "inside").trim(),
        inside.expect("it runs").to_string_lossy()
    );
    // Before the pivot the mounts are below the bundle's root file system.
    let point = format!(" {}/proc ", bundle.rootfs().display());
    assert!(
        read(lab, "mounts").contains(&point),
        "{}",
        read(lab, "mounts")
    );
}

fn a_create_container_hook_is_in_the_containers_namespaces_before_the_pivot(lab: &Lab) {
    let line = format!("{NAMESPACES} >$LAB/ns; cat /proc/mounts >$LAB/mounts; hostname >$LAB/name");
    let bundle = bundle(lab, &[("createContainer", &line)]);
    let container = lab.create(&bundle);
    assert_eq!(read(lab, "ns"), namespaces_of(&container.pid().to_string()));
    // The host's tree is still there: the hook is a program of the host.
    assert!(read(lab, "mounts").contains(&*bundle.rootfs().to_string_lossy()));
}

fn what_a_create_container_hook_mounts_is_in_the_container(lab: &Lab) {
    let mut bundle = bundle(lab, &[]);
    let target = bundle.rootfs().join("tmp");
    let line = format!(
        "busybox mount -t tmpfs hooked {0} && echo text >{0}/file",
        target.display()
    );
    bundle.config["hooks"] = json!({"createContainer": [hook(&line)]});
    bundle.probe(&["read-file", "/tmp/file"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "text\n");
    assert!(!target.join("file").exists());
}

fn a_create_container_hook_is_the_mapped_root_of_a_user_namespace(lab: &Lab) {
    let line = "cat /proc/self/uid_map >$LAB/map; id -u >$LAB/id";
    let mut bundle = bundle(
        lab,
        &[
            ("createContainer", line),
            ("createRuntime", "id -u >$LAB/host"),
        ],
    );
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.give_to(100_000).expect("root may");
    let shared = lab.folder().join("shared");
    std::os::unix::fs::chown(shared, Some(100_000), Some(100_000)).expect("root may");
    drop(lab.create(&bundle));
    assert_eq!(read(lab, "id"), "0\n");
    assert_eq!(read(lab, "host"), "0\n");
    let map = read(lab, "map");
    assert_eq!(
        map.split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "65536"]
    );
}

fn a_start_container_hook_has_the_containers_root_privileges_and_filter(lab: &Lab) {
    for no_new_privileges in [true, false] {
        let line = "cat /proc/self/status >$LAB/status; ls / >$LAB/root; id -u >$LAB/id";
        let mut bundle = bundle(lab, &[("startContainer", line)]);
        let shared = lab.folder().join("shared");
        std::os::unix::fs::chown(&shared, Some(1000), Some(1000)).expect("root may");
        bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO"}],
        });
        bundle.probe(&["true"]);
        drop(lab.run(&bundle).ok());
        let text = read(lab, "status");
        assert_eq!(read(lab, "id"), "1000\n");
        assert_eq!(status(&text, "Seccomp"), "2", "{no_new_privileges}");
        assert_eq!(
            status(&text, "NoNewPrivs"),
            if no_new_privileges { "1" } else { "0" }
        );
        assert_eq!(status(&text, "CapEff"), "0000000000000000");
        assert!(read(lab, "root").lines().any(|name| name == "probe"));
        for name in ["status", "root", "id"] {
            std::fs::remove_file(shared.join(name)).expect("it was read");
        }
    }
}

fn a_start_container_hook_without_an_environment_has_the_containers(lab: &Lab) {
    let mut bundle = bundle(lab, &[]);
    let line = "echo \"$MINE $HOME\" >/lab/env";
    let bare = json!({"path": "/bin/sh", "args": ["sh", "-c", line]});
    bundle.config["hooks"] = json!({"startContainer": [bare]});
    bundle.push("/process/env", json!("MINE=of the container"));
    let _container = lab.start(&bundle);
    let home = if lab.is_corten() {
        "of the container /root\n"
    } else {
        "of the container"
    };
    assert!(read(lab, "env").starts_with(home), "{}", read(lab, "env"));
}

fn a_hook_of_create_that_fails_ends_it_and_leaves_nothing(lab: &Lab) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let fails = "echo one; echo the reason >&2; exit 3";
        let lines = [(kind, "true"), (kind, fails), (kind, "touch $LAB/after")];
        let bundle = bundle(lab, &lines);
        let output = lab.command(&["create"], &bundle, "failing");
        let words =
            format!("error running {kind} hook #1: /bin/sh: exit status 3, output: one the reason");
        refused(lab, &output, &words);
        assert!(!exists(lab, "after"), "{kind}");
        assert_eq!(lab.state_directory(), [""; 0], "{kind}");
    }
}

fn a_hook_that_is_missing_or_killed_is_told_as_such(lab: &Lab) {
    for kind in ["createRuntime", "createContainer"] {
        let mut bundle = bundle(lab, &[]);
        bundle.config["hooks"] = json!({kind: [{"path": "/nothing/here"}]});
        let output = lab.command(&["create"], &bundle, "failing");
        let words = format!("{kind} hook #0: /nothing/here: no such file or directory");
        refused(lab, &output, &words);
        bundle.config["hooks"] = json!({kind: [hook("kill -SEGV $$")]});
        let output = lab.command(&["create"], &bundle, "failing");
        refused(
            lab,
            &output,
            &format!("{kind} hook #0: /bin/sh: killed by signal 11"),
        );
    }
}

fn poststop_hooks_follow_a_create_that_failed_in_a_hook(lab: &Lab) {
    for kind in ["createRuntime", "createContainer"] {
        let lines = [(kind, "exit 1"), ("poststop", "cat >$LAB/poststop")];
        let bundle = bundle(lab, &lines);
        let output = lab.command(&["create"], &bundle, "failing");
        assert!(!output.status.success(), "{output}");
        if lab.is_corten() {
            let state: Value = serde_json::from_str(&read(lab, "poststop")).expect("JSON");
            assert_eq!(state["status"], "stopped", "{kind}");
            std::fs::remove_file(lab.folder().join("shared/poststop")).expect("it was read");
        }
    }
}

fn a_start_container_hook_that_fails_keeps_the_program_from_running(lab: &Lab) {
    let mut bundle = bundle(lab, &[("startContainer", "echo no >&2; exit 4")]);
    bundle.probe(&["write-file", "/lab/ran", "x"]);
    let container = lab.create(&bundle);
    let output = container.call(&["start"]);
    // The peers' `start` does not wait for the hook.
    if lab.is_corten() {
        let words = "error running startContainer hook #0: /bin/sh: exit status 4, output: no";
        refused(lab, &output, words);
    }
    container.wait_for("stopped");
    assert!(!exists(lab, "ran"));
}

fn a_poststart_hook_that_fails_fails_start_and_ends_the_container(lab: &Lab) {
    let lines = [("poststart", "exit 5"), ("poststart", "touch $LAB/second")];
    let bundle = bundle(lab, &lines);
    let container = lab.create(&bundle);
    let output = container.call(&["start"]);
    refused(
        lab,
        &output,
        "error running poststart hook #0: /bin/sh: exit status 5",
    );
    container.wait_for("stopped");
    assert!(!exists(lab, "second"));
}

fn a_poststop_hook_that_fails_is_a_warning_and_the_others_run(lab: &Lab) {
    let lines = [("poststop", "exit 6"), ("poststop", "touch $LAB/second")];
    let bundle = bundle(lab, &lines);
    let container = lab.create(&bundle);
    let output = container.call(&["delete", "--force"]).ok();
    assert!(exists(lab, "second"), "{output}");
    if lab.is_corten() {
        let words = "warning: error running poststop hook #0: /bin/sh: exit status 6";
        assert!(output.stderr().contains(words), "{output}");
    }
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn a_hook_that_takes_too_long_is_killed_with_all_it_started(lab: &Lab) {
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        let mut bundle = bundle(lab, &[]);
        let inside = kind == "startContainer";
        let shared = lab.folder().join("shared");
        let place = if inside { Path::new("/lab") } else { &shared };
        let line = format!(
            "trap '' TERM; sleep 997 & echo $! >{}/pid; sleep 998; exit 0",
            place.display()
        );
        let mut slow = hook(&line);
        slow["timeout"] = json!(1);
        bundle.config["hooks"] = json!({kind: [slow]});
        let words = format!("{kind} hook #0: /bin/sh: hook ran past specified timeout of 1.0s");
        let output = lab.command(&["run"], &bundle, "slow");
        refused(lab, &output, &words);
        if lab.is_corten() {
            // The lane has only this check's processes.
            let gone = wait::until(wait::CALL, || (!runs("sleep\0997")).then_some(()));
            assert!(gone.is_some(), "{kind}: a child of the hook lives");
        }
        assert_eq!(lab.state_directory(), [""; 0], "{kind}");
    }
}

/// Whether a process has this in its command line.
fn runs(words: &str) -> bool {
    let entries = std::fs::read_dir("/proc").expect("the lane has a /proc");
    entries.flatten().any(|entry| {
        let text = std::fs::read_to_string(entry.path().join("cmdline"));
        text.is_ok_and(|text| text.contains(words))
    })
}

fn what_a_hook_leaves_in_the_background_is_not_waited_for(lab: &Lab) {
    // Opened before the hook ends: who opens it after the guard is closed waits for ever.
    let line = "exec 3<$LAB/fifo; cat <&3 & exit 0";
    let bundle = bundle(lab, &[("createRuntime", line)]);
    let fifo = lab.folder().join("shared/fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("the lab is writable");
    // The `cat` ends when this is closed.
    let guard = std::fs::File::options().read(true).write(true).open(&fifo);
    if lab.is_corten() {
        drop(lab.create(&bundle));
    }
    drop(guard.expect("a fifo"));
}

fn a_create_killed_in_the_middle_of_a_hook_is_cleaned_up(lab: &Lab) {
    for kind in ["createRuntime", "createContainer"] {
        let line = "touch $LAB/begun; exec sleep 996";
        let bundle = bundle(lab, &[(kind, line)]);
        bundle.write().expect("the lab is writable");
        let mut command = lab.runtime.command();
        command
            .args(["create", "--bundle"])
            .arg(bundle.path())
            .arg("killed");
        let mut call = lab.runtime.spawn(command);
        let begun = wait::until(wait::CALL, || exists(lab, "begun").then_some(()));
        assert!(begun.is_some(), "{kind}: no hook");
        call.child.kill().expect("an own child can be killed");
        drop(call.finish(wait::CALL));
        drop(lab.runtime.call(&["delete", "--force", "killed"]).ok());
        assert_eq!(lab.state_directory(), [""; 0], "{kind}");
        // A hook of the runtime's is nobody's to kill but its own.
        end("sleep\0996");
        std::fs::remove_file(lab.folder().join("shared/begun")).expect("it was there");
    }
}

/// Kills this check's own processes with these words in their command line.
fn end(words: &str) {
    let ended = wait::until(wait::CALL, || {
        let entries = std::fs::read_dir("/proc").expect("the lane has a /proc");
        let mut found = false;
        for entry in entries.flatten() {
            let text = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw)
                && text.starts_with(words)
            {
                found = true;
                // It may be gone meanwhile.
                let killed = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                assert!(killed.is_ok() || killed == Err(rustix::io::Errno::SRCH));
            }
        }
        (!found).then_some(())
    });
    assert!(ended.is_some(), "{words:?} can't be killed");
}

fn a_hook_that_hangs_in_start_does_not_keep_the_container_from_being_deleted(lab: &Lab) {
    let bundle = bundle(
        lab,
        &[("startContainer", "touch $LAB/begun; exec sleep 995")],
    );
    let container = lab.create(&bundle);
    let mut command = lab.runtime.command();
    command.args(["start", &container.id]);
    let call = lab.runtime.spawn(command);
    let begun = wait::until(wait::CALL, || exists(lab, "begun").then_some(()));
    assert!(begun.is_some(), "no hook");
    drop(container.call(&["delete", "--force"]).ok());
    let output = call.finish(wait::CALL);
    assert!(!output.status.success() || !lab.is_corten(), "{output}");
    assert_eq!(lab.state_directory(), [""; 0]);
}
