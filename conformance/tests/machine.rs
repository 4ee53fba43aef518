//! Commands in the machines of lanes: what comes back, and what is left when it goes wrong.
//!
//! They make the lanes if these are not there, and boot once per test: scripts/test.sh
//! runs them in a part of their own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corten_conformance::{lane, wait};

/// What is left of a machine must be gone in this time.
const END: Duration = Duration::from_secs(60);

fn start(kind: &str, options: &[&str], script: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["lane", "run", kind])
        .args(options)
        .args(["--", "sh", "-c", script, "its name", "a  'b' $c"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// Exit code, stdout, stderr.
fn run(kind: &str, options: &[&str], script: &str) -> (Option<i32>, String, String) {
    let child = start(kind, options, script);
    let id = child.id();
    let output = child.wait_with_output().expect("an own child");
    assert_eq!(processes_of(id), Vec::<String>::new());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Processes whose command line has the folder of this boot.
fn processes_of(id: u32) -> Vec<String> {
    let folder = format!("/boot-{id}/");
    let entries = std::fs::read_dir("/proc").expect("a /proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&folder)).collect()
}

fn the_command_gives_its_output_errors_and_code(kind: &str) {
    // More than a pipe holds; and a process that stays, with the output open.
    let script = "seq 100000; echo \"$1\" >&2; corten --version >&2; sleep 1000 & exit 7";
    let (code, output, errors) = run(kind, &[], script);
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(code, Some(7), "{errors}");
    assert!(output == expected, "{} bytes", output.len());
    let mut lines = errors.lines();
    assert!(lines.any(|line| line == "a  'b' $c"), "{errors}");
    assert!(
        lines.any(|line| line.starts_with("corten version ")),
        "{errors}"
    );
}

fn a_hang_ends_with_the_console(kind: &str) {
    let script = "echo in vain >/dev/console; sleep 1000";
    let (code, _, errors) = run(kind, &["--limit", "5"], script);
    assert_eq!(code, Some(lane::TIMED_OUT), "{errors}");
    for told in ["still running after 5 s", "  in vain"] {
        assert!(errors.contains(told), "{errors}");
    }
}

fn an_early_end_is_told(kind: &str) {
    let script = "echo goodbye >/dev/console; sync; busybox poweroff -f; sleep 1000";
    let (code, _, errors) = run(kind, &[], script);
    assert_eq!(code, Some(lane::NO_CODE), "{errors}");
    for told in ["ended without an exit code", "  goodbye"] {
        assert!(errors.contains(told), "{errors}");
    }
}

fn a_machine_dies_with_its_command(kind: &str) {
    let mut child = start(kind, &[], "echo ready; sleep 1000");
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("it is a pipe"));
    output.read_line(&mut line).expect("it can be read");
    assert_eq!(line, "ready\n");
    assert_ne!(processes_of(child.id()), Vec::<String>::new());
    child.kill().expect("an own child");
    child.wait().expect("an own child");
    let gone = wait::until(END, || processes_of(child.id()).is_empty().then_some(()));
    assert!(gone.is_some(), "{:?}", processes_of(child.id()));
}

/// The tests of one lane.
macro_rules! tests {
    ($lane:ident: $($name:ident),+ $(,)?) => {
        mod $lane {
            $(
                #[test]
                #[ignore = "boots a machine: scripts/test.sh has a part for it"]
                fn $name() {
                    super::$name(stringify!($lane));
                }
            )+
        }
    };
}

tests!(uml:
    the_command_gives_its_output_errors_and_code,
    a_hang_ends_with_the_console,
    an_early_end_is_told,
    a_machine_dies_with_its_command,
);

tests!(full:
    the_command_gives_its_output_errors_and_code,
    a_hang_ends_with_the_console,
    an_early_end_is_told,
    a_machine_dies_with_its_command,
    a_crash_ends_with_the_kernels_last_words,
    it_is_a_machine_with_systemd_and_every_controller,
);

fn a_crash_ends_with_the_kernels_last_words(kind: &str) {
    let (code, _, errors) = run(kind, &[], "echo c >/proc/sysrq-trigger; sleep 1000");
    assert_eq!(code, Some(lane::NO_CODE), "{errors}");
    assert!(errors.contains("Kernel panic"), "{errors}");
}

fn it_is_a_machine_with_systemd_and_every_controller(kind: &str) {
    // A folder that is there if this machine's files can be seen.
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).display().to_string();
    let script = format!(
        "cat /proc/1/comm /sys/fs/cgroup/cgroup.subtree_control; nproc
        systemctl is-active basic.target; ls -d {here}; grep -w cgroup2 /proc/mounts"
    );
    let (_, output, errors) = run(kind, &[], &script);
    let lines: Vec<&str> = output.lines().collect();
    let [first, controllers, processors, basic, mount] = lines.as_slice() else {
        panic!("{output}{errors}");
    };
    assert_eq!([*first, *processors, *basic], ["systemd", "2", "active"]);
    for name in "cpuset cpu io memory hugetlb pids rdma misc".split(' ') {
        assert!(
            controllers.split(' ').any(|found| found == name),
            "{name}: {controllers}"
        );
    }
    assert!(mount.contains("nsdelegate"), "{mount}");
    assert!(errors.contains(&here), "{errors}");
}

#[test]
#[ignore = "boots a machine: scripts/test.sh has a part for it"]
fn a_scope_of_systemd_that_is_left_is_told() {
    let command = "systemd-run --scope --unit=left sleep 1000 >/dev/null 2>&1 &
        until systemctl --quiet is-active left.scope; do sleep 0.1; done";
    let script = format!("exec conformance leaks --here --settle 2 -- sh -c '{command}'");
    let (code, _, errors) = run("full", &[], &script);
    assert_eq!(code, Some(1), "{errors}");
    for leak in ["unit left.scope", "cgroup /system.slice/left.scope"] {
        let told = format!("left behind: {leak}");
        assert!(errors.lines().any(|line| line == told), "{errors}");
    }
}
