//! Other limits for a container, all of them or none.
//!
//! By files that every cgroup has: a lane need not have a controller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corten_conformance::wait;
use corten_core::spec::Resources;
use corten_core::{Container, CreateOptions, ErrorKind, ExecOptions};
use serde_json::json;

use crate::killed::corten_under_strace;
use crate::lab::{self, Lab};

const DEPTH: &str = "cgroup.max.depth";
const DESCENDANTS: &str = "cgroup.max.descendants";

fn limits(values: &[(&str, &str)]) -> Resources {
    let values: BTreeMap<_, _> = values.iter().copied().collect();
    let text = json!({"unified": values}).to_string();
    Resources::parse(text.as_bytes()).expect("limits")
}

fn group(container: &Container) -> PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid()));
    let text = text.expect("it runs");
    let path = text.trim().strip_prefix("0::/").or_else(|| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix("0::/"))
    });
    Path::new("/sys/fs/cgroup").join(path.expect("cgroup v2"))
}

/// Both files.
fn found(group: &Path) -> [String; 2] {
    [DEPTH, DESCENDANTS].map(|file| {
        let text = std::fs::read_to_string(group.join(file)).expect("the cgroup is there");
        text.trim().to_owned()
    })
}

#[test]
fn an_update_changes_what_it_names_and_is_known_to_other_programs() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["sleep"]);
        folder.config["linux"]["resources"]["unified"] = json!({DEPTH: "5"});
        let mut container = lab.create(&folder, CreateOptions::default());
        let group = group(&container);
        assert_eq!(found(&group), ["5", "max"]);
        lab::done(container.update(&limits(&[(DESCENDANTS, "7")])));
        assert_eq!(found(&group), ["5", "7"]);
        lab::done(container.update(&Resources::default()));
        // By another value of it, and again by the first.
        let mut other = lab::done(lab.runtime.container(container.id()));
        lab::done(other.update(&limits(&[(DEPTH, "6")])));
        lab::done(container.update(&limits(&[(DESCENDANTS, "8")])));
        assert_eq!(found(&group), ["6", "8"]);
        lab::delete(container);
    });
}

#[test]
fn an_update_that_is_refused_changes_nothing() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        let group = group(&container);
        lab::done(container.update(&limits(&[(DEPTH, "5"), (DESCENDANTS, "5")])));
        for (wrong, wanted) in [
            (limits(&[(DEPTH, "6"), (DESCENDANTS, "many")]), DESCENDANTS),
            (
                limits(&[(DEPTH, "6"), ("cgroup.nonsense", "1")]),
                "cgroup.nonsense",
            ),
            (
                limits(&[(DEPTH, "6"), ("cgroup.procs", "1")]),
                "by the runtime only",
            ),
        ] {
            let error = container.update(&wrong).expect_err(wanted);
            let text = format!("{error:#}");
            assert!(text.contains(wanted), "{text}");
            assert_eq!(found(&group), ["5", "5"], "{text}");
        }
        lab::delete(container);
    });
}

#[test]
fn a_container_that_has_ended_is_not_updated() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        lab::done(container.start());
        lab::done(container.wait());
        let error = container.update(&limits(&[(DEPTH, "5")]));
        let error = error.expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::NotRunning, "{error:#}");
        lab::delete(container);
    });
}

/// Calls after which nothing of an update is left to do, or that are the program's own.
const OTHERS: [&str; 12] = [
    "execve",
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "exit_group",
    "getpid",
    "geteuid",
    "close",
];

fn strace(lab: &Lab, options: &[&str], file: &Path, id: &str) -> Command {
    let mut command = Command::new("strace");
    command.arg("-qq").args(options).arg(lab::corten());
    command.arg("--root").arg(lab.runtime.root());
    command.args(["update", "--resources"]).arg(file).arg(id);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    command
}

fn succeeds(mut command: Command) -> bool {
    let mut child = command.spawn().expect("strace is installed");
    let status = wait::child(&mut child, lab::LIMIT).expect("an own child");
    status.expect("it ends").success()
}

#[test]
fn an_update_in_which_any_system_call_fails_does_all_or_nothing() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        let (group, id) = (group(&container), container.id().to_owned());
        let file = lab.folder().join("limits.json");
        let text = json!({"unified": {DEPTH: "6", DESCENDANTS: "6"}}).to_string();
        std::fs::write(&file, text).expect("the lab's folder is writable");
        let log = lab.folder().join("calls");
        let mut command = strace(lab, &["-o", &log.to_string_lossy()], &file, &id);
        assert!(command.status().expect("strace is installed").success());
        assert_eq!(found(&group), ["6", "6"]);
        let text = std::fs::read_to_string(&log).expect("strace writes it");
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, _) in text.lines().filter_map(|line| line.split_once('(')) {
            *counts.entry(name).or_default() += 1;
        }
        counts.retain(|name, _| !OTHERS.contains(name) && !name.starts_with('+'));
        let (mut failed, mut done) = (0, 0);
        for (name, nth) in counts
            .iter()
            .flat_map(|(name, n)| (1..=*n).map(move |i| (name, i)))
        {
            lab::done(container.update(&limits(&[(DEPTH, "5"), (DESCENDANTS, "5")])));
            let (trace, inject) = (
                format!("trace={name}"),
                format!("inject={name}:error=EIO:when={nth}"),
            );
            let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
            let good = succeeds(strace(lab, &options, &file, &id));
            let expected = if good { ["6", "6"] } else { ["5", "5"] };
            assert_eq!(found(&group), expected, "{name} {nth}");
            if good {
                done += 1;
            } else {
                failed += 1;
            }
        }
        println!("{failed} failed, {done} done");
        assert!(failed > 15);
        std::fs::remove_file(file).expect("it is there");
        std::fs::remove_file(log).expect("it is there");
        lab::delete(container);
    });
}

/// What opening these in the container gives.
fn opened(container: &Container, paths: &[&str]) -> serde_json::Value {
    use std::io::Read as _;
    let (mut reader, writer) = std::io::pipe().expect("there are descriptors");
    let mut options = ExecOptions::default();
    options.stdio.stdout = Some(writer.into());
    let mut process = lab::done(container.process());
    // To read the log takes another privilege.
    let words = [&["/probe", "open", "w"], paths].concat();
    process.args = words.into_iter().map(str::to_owned).collect();
    let mut process = lab::done(container.exec(process, options));
    let mut printed = String::new();
    reader.read_to_string(&mut printed).expect("UTF-8");
    lab::done(process.wait());
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[test]
fn devices_are_replaced_when_that_is_asked_for_and_not_by_an_update() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["sleep"]);
        let node = json!({"path": "/log", "type": "c", "major": 1, "minor": 11});
        folder.push("/linux/devices", node);
        let none = json!([{"allow": false, "access": "rwm"}]);
        folder.config["linux"]["resources"]["devices"] = none;
        let mut container = lab.create(&folder, CreateOptions::default());
        lab::done(container.start());
        let opens = |container: &Container, log: &str| {
            let found = opened(container, &["/log", "/dev/null"]);
            assert_eq!(found, json!({"/log": log, "/dev/null": "ok"}));
        };
        opens(&container, "EPERM");
        let rules = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11,
            "access": "w"}]}"#;
        let rules = Resources::parse(rules.as_bytes()).expect("rules");
        lab::done(container.update(&rules));
        opens(&container, "EPERM");
        lab::done(container.replace_devices(&rules.devices));
        opens(&container, "ok");
        lab::done(container.update(&limits(&[(DEPTH, "5")])));
        opens(&container, "ok");
        let mut wrong = rules.devices.clone();
        wrong[0].access = Some("x".to_owned());
        let error = container.replace_devices(&wrong).expect_err("no access");
        assert!(format!("{error:#}").contains("linux.resources.devices[0].access"));
        opens(&container, "ok");
        lab::done(container.replace_devices(&[]));
        opens(&container, "EPERM");
        // All of them, and back.
        let all = Resources::parse(br#"{"devices": [{"allow": true, "access": "rwm"}]}"#);
        lab::done(container.replace_devices(&all.expect("rules").devices));
        opens(&container, "ok");
        lab::done(container.replace_devices(&[]));
        opens(&container, "EPERM");
        lab::delete(container);
    });
}

#[test]
fn a_creation_that_failed_leaves_no_rules_on_a_cgroup_that_was_there() {
    lab::test(|lab| {
        let group = Path::new("/sys/fs/cgroup/stays");
        std::fs::create_dir(group).expect("the lane's cgroups are writable");
        let folder = |access: &str| {
            let mut folder = lab.bundle(&["sleep"]);
            let node = json!({"path": "/log", "type": "c", "major": 1, "minor": 11});
            folder.push("/linux/devices", node);
            folder.config["linux"]["cgroupsPath"] = json!("/stays");
            folder.config["linux"]["resources"]["devices"] = json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 11, "access": access},
            ]);
            folder
        };
        let mut fails = folder("r");
        fails.config["process"]["args"] = json!(["/not-there"]);
        let bundle = lab::load(&fails);
        let failed = lab
            .runtime
            .create("fails", &bundle, CreateOptions::default());
        failed.expect_err("there is no such program");
        let works = folder("rw");
        let mut container = lab.create(&works, CreateOptions::default());
        lab::done(container.start());
        assert_eq!(opened(&container, &["/log"]), json!({"/log": "ok"}));
        lab::delete(container);
    });
}

#[test]
fn device_rules_that_may_not_be_loaded_are_left_out_with_a_warning() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["open", "w", "/log"]);
        let node = json!({"path": "/log", "type": "c", "major": 1, "minor": 11});
        folder.push("/linux/devices", node);
        folder.write().expect("the lab's folder is writable");
        // As where the runtime is itself in a container.
        let options = [
            "-o",
            "/dev/null",
            "-e",
            "trace=bpf",
            "-e",
            "inject=bpf:error=EPERM",
        ];
        let mut command = corten_under_strace(lab, &options);
        command
            .args(["run", "--bundle"])
            .arg(folder.path())
            .arg("a");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = lab::succeed(&mut command);
        assert_eq!(lab::text(&output.stdout).trim(), r#"{"/log":"ok"}"#);
        let told = lab::text(&output.stderr);
        let text = "corten: warning: linux.resources.devices: not applied: ";
        let warnings: Vec<_> = told.lines().filter(|line| line.starts_with(text)).collect();
        assert_eq!(warnings.len(), 1, "{told}");
    });
}
