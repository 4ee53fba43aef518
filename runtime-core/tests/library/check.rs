//! `Runtime::check`: what is told of which bundle.

use std::path::Path;

use corten_conformance::bundle::Bundle as Folder;
use corten_conformance::leaks::Snapshot;
use corten_core::{CreateOptions, ErrorKind, Level};
use serde_json::{Value, json};

use crate::lab::{self, Lab};

fn found(lab: &Lab, folder: &Folder) -> Vec<String> {
    folder.write().expect("the lab's folder is writable");
    let found = lab.runtime.check(folder.path(), &CreateOptions::default());
    lab::done(found).iter().map(ToString::to_string).collect()
}

/// A bundle of which nothing is to be said.
fn quiet(lab: &Lab) -> Folder {
    let mut folder = lab.bundle(&["true"]);
    folder.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["acct"], "action": "SCMP_ACT_ERRNO" }],
    });
    // No limit is possible where the hierarchy has no controllers.
    folder
}

/// Puts a value in place of what is there.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer
        .rsplit_once('/')
        .expect("a JSON pointer has a slash");
    match config.pointer_mut(parent).expect("the object exists") {
        Value::Array(list) => list[name.parse::<usize>().expect("an index")] = value,
        object => object[name] = value,
    }
}

/// Of every bundle here, since there are no limits.
const NO_LIMITS: [&str; 2] = [
    "warning: linux.resources.memory.limit: no limit: it may use all memory",
    "warning: linux.resources.pids.limit: no limit: a fork bomb takes the host along",
];

/// What a change of a quiet bundle makes known.
#[track_caller]
fn expect(lab: &Lab, pointer: &str, value: Value, expected: &[&str]) {
    let mut folder = quiet(lab);
    folder.push(pointer, value.clone());
    let lines = found(lab, &folder);
    let rest: Vec<_> = lines
        .iter()
        .map(|line| line.replace(&*folder.path().to_string_lossy(), "BUNDLE"))
        .filter(|line| !NO_LIMITS.contains(&line.as_str()))
        .collect();
    assert_eq!(rest, expected, "{pointer}: {value}");
}

#[test]
fn a_bundle_without_fault_has_no_findings_but_those_of_missing_limits() {
    lab::test(|lab| assert_eq!(found(lab, &quiet(lab)), NO_LIMITS));
}

#[test]
fn all_problems_are_told_at_once_and_nothing_is_made() {
    lab::test(|lab| {
        let mut folder = quiet(lab);
        folder.args(&["/no/such/program"]);
        folder.config["process"]["cwd"] = json!("relative");
        folder.config["root"]["readOnly"] = json!(true);
        folder.config["linux"]["rootfsPropagation"] = json!("public");
        folder.push(
            "/mounts",
            json!({ "destination": "/a", "type": "bind", "source": "/none" }),
        );
        folder.push("/linux/namespaces", json!({ "type": "pid" }));
        folder.write().expect("the lab's folder is writable");
        let before = Snapshot::of_lane();
        let lines = found(lab, &folder);
        let after = Snapshot::of_lane().since(&before);
        assert_eq!(after, Vec::<String>::new());
        let begins = |text: &str| lines.iter().any(|line| line.starts_with(text));
        for text in [
            "error: process.cwd: ",
            "error: process.args[0]: /no/such/program: no such file or directory",
            "error: linux.rootfsPropagation: ",
            "error: mounts[7].source: /none: no such file or directory",
            "error: linux.namespaces[",
            "warning: root.readOnly: is not known, and ignored: is readonly meant?",
        ] {
            assert!(begins(text), "{text}: {lines:#?}");
        }
        // Errors come first.
        let first_warning = lines.iter().position(|line| line.starts_with("warning"));
        let last_error = lines.iter().rposition(|line| line.starts_with("error"));
        assert!(last_error < first_warning, "{lines:#?}");
    });
}

#[test]
fn what_create_refuses_is_an_error_here_too() {
    lab::test(|lab| {
        for (pointer, value) in [
            ("/process/args/0", json!("/nothing")),
            ("/process/args/0", json!("/")),
            ("/process/cwd", json!("x")),
            ("/root/path", json!("nowhere")),
            ("/root/path", json!("config.json")),
            ("/linux/sysctl", json!({ "kernel.pid_max": "9" })),
            ("/linux/intelRdt", json!({ "closID": "gold" })),
            (
                "/linux/namespaces/0",
                json!({ "type": "network", "path": "/nothing" }),
            ),
            ("/linux/resources/cpu", json!({ "quota": 50_000 })),
            ("/process/selinuxLabel", json!("a:b:c:d")),
            ("/hooks", json!({ "prestart": [{ "path": "/nothing" }] })),
            (
                "/hooks",
                json!({ "createRuntime": [{ "path": "/etc/passwd" }] }),
            ),
            (
                "/mounts/0",
                json!({ "destination": "/proc", "type": "bind", "source": "/nothing" }),
            ),
            (
                "/mounts/0",
                json!({ "destination": "/proc", "type": "none", "source": "/etc/passwd",
                "options": ["bind"] }),
            ),
        ] {
            let mut folder = quiet(lab);
            std::fs::create_dir_all(folder.rootfs().join("proc")).expect("a fresh root");
            set(&mut folder.config, pointer, value.clone());
            let lines = found(lab, &folder);
            let created = corten_core::Bundle::load(folder.path()).and_then(|bundle| {
                lab.runtime
                    .create(&lab.id(), &bundle, CreateOptions::default())
            });
            let error = match created {
                Err(error) => error,
                Ok(container) => {
                    lab::delete(container);
                    panic!("{pointer}: {value}: created; {lines:#?}");
                }
            };
            let told = lines.iter().any(|line| line.starts_with("error"));
            assert!(
                told,
                "{pointer}: {value}: create says {error:#}, check {lines:#?}"
            );
        }
    });
}

#[test]
fn a_script_or_program_is_looked_up_as_the_kernel_would() {
    lab::test(|lab| {
        let mut folder = quiet(lab);
        folder
            .program("script", b"#!/bin/nosh\n")
            .expect("a fresh root");
        folder.program("text", b"echo\n").expect("a fresh root");
        folder.file("plain", "x").expect("a fresh root");
        std::os::unix::fs::symlink("/probe", folder.rootfs().join("link")).expect("a fresh root");
        let host = std::fs::read("/bin/ls").expect("Debian has it");
        folder.program("linked", &host).expect("a fresh root");
        let mut told = |program: &str| {
            folder.args(&[program]);
            let mut lines = found(lab, &folder);
            lines.retain(|line| line.contains("args"));
            lines
        };
        assert_eq!(
            told("/script"),
            ["error: process.args[0]: /script: is run by /bin/nosh: no such file or directory"]
        );
        assert_eq!(
            told("/text"),
            ["warning: process.args[0]: /text: is neither a program nor a script"]
        );
        assert_eq!(
            told("/plain"),
            ["error: process.args[0]: /plain: permission denied"]
        );
        assert_eq!(told("/link"), Vec::<String>::new());
        assert_eq!(
            told("nothing"),
            ["error: process.args[0]: nothing: executable file not found in $PATH"]
        );
        let linked = told("/linked");
        assert!(
            linked[0].starts_with("error: process.args[0]: /linked: is run by /lib64/ld-linux"),
            "{linked:?}"
        );
        // The image's links lead nowhere outside of it.
        assert_eq!(
            told("/../../../../bin/ls"),
            ["error: process.args[0]: /../../../../bin/ls: no such file or directory"]
        );
        // Without PATH there is nothing to look through, and create finds nothing either.
        folder.config["process"]["env"] = json!([]);
        folder.args(&["probe"]);
        let lines = found(lab, &folder);
        let missing = "error: process.args[0]: probe: executable file not found in $PATH";
        assert_eq!(lines[0], missing);
    });
}

/// A bind mount on /mnt.
fn bind(source: &str, options: Value) -> Value {
    json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options })
}

#[test]
fn settings_that_weaken_the_container_are_warned_of() {
    lab::test(|lab| {
        expect(
            lab,
            "/process/capabilities/bounding",
            json!("CAP_SYS_ADMIN"),
            &[
                "warning: process.capabilities.bounding: CAP_SYS_ADMIN gives mounts, namespaces, \
               and most of what root may",
            ],
        );
        expect(
            lab,
            "/mounts",
            bind("/etc", json!(["rbind"])),
            &["warning: mounts[7].source: /etc: files of the host that the container may change"],
        );
        expect(lab, "/mounts", bind("/etc", json!(["rbind", "rro"])), &[]);
        expect(
            lab,
            "/mounts",
            bind("/opt", json!(["rbind", "rshared"])),
            &[
                "warning: mounts[7].options: rshared: what the container mounts there appears on \
               the host",
            ],
        );
    });
}

#[test]
fn all_weak_settings_of_a_bundle_are_warned_of_at_once() {
    lab::test(|lab| {
        let mut folder = quiet(lab);
        let socket = lab.folder().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a new name");
        let source = socket.to_string_lossy().into_owned();
        folder.push("/mounts", bind(&source, json!(["bind"])));
        folder.without_namespace("pid");
        folder.config["process"]["noNewPrivileges"] = json!(false);
        folder.config["linux"]["readonlyPaths"] = json!(["/proc/bus", "/proc/irq"]);
        folder.config["linux"]["seccomp"] = Value::Null;
        let lines = found(lab, &folder);
        let place = format!("warning: mounts[7].source: {source}: whoever may use this socket");
        for text in [
            place.as_str(),
            "warning: linux.namespaces: no pid namespace: it sees every process of the host",
            "warning: process.noNewPrivileges: ",
            "warning: linux.readonlyPaths: /proc/sys is not in it",
            "warning: linux.readonlyPaths: /proc/sysrq-trigger is not in it",
            "warning: linux.seccomp: every system call is allowed",
        ] {
            assert!(
                lines.iter().any(|line| line.starts_with(text)),
                "{text}: {lines:#?}"
            );
        }
        assert!(
            !lines
                .iter()
                .any(|line| line.contains("/proc/bus is not in it")),
            "{lines:#?}"
        );
        drop(listener);
        std::fs::remove_file(socket).expect("it was bound");
    });
}

#[test]
fn a_cgroup_in_use_and_a_missing_controller_are_told() {
    lab::test(|lab| {
        let used = Path::new("/sys/fs/cgroup/check-used");
        std::fs::create_dir(used).expect("root may");
        let mut sleeper = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("coreutils");
        std::fs::write(used.join("cgroup.procs"), sleeper.id().to_string()).expect("root may");
        let mut folder = quiet(lab);
        folder.config["linux"]["cgroupsPath"] = json!("/check-used");
        let lines = found(lab, &folder);
        sleeper.kill().expect("it runs");
        sleeper.wait().expect("it is a child");
        assert_eq!(
            lines[0],
            "error: linux.cgroupsPath: /sys/fs/cgroup/check-used: container's cgroup is not empty"
        );
        assert!(!found(lab, &folder).contains(&lines[0]));
        std::fs::remove_dir(used).expect("it is empty");
    });
}

#[test]
fn a_file_that_is_no_json_is_a_finding_and_none_at_all_an_error() {
    lab::test(|lab| {
        let folder = quiet(lab);
        let options = CreateOptions::default();
        std::fs::write(folder.path().join("config.json"), "{").expect("the folder is writable");
        let found = lab::done(lab.runtime.check(folder.path(), &options));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].level, Level::Error);
        std::fs::remove_file(folder.path().join("config.json")).expect("just written");
        let error = lab
            .runtime
            .check(folder.path(), &options)
            .expect_err("there is none");
        assert_eq!(error.kind(), ErrorKind::Other);
    });
}
