//! The native lane itself: what a command in it sees, and what is left after it.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use corten_conformance::lane;
use corten_conformance::leaks::Snapshot;

fn native(options: &[&str], script: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_conformance"))
        .arg("native")
        .args(options)
        .args(["--", "sh", "-c", script])
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_test_body_runs_in_the_lane() {
    lane::test(|| {
        lane::require();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for (point, kind) in [
            ("/sys/fs/cgroup", "cgroup2"),
            ("/dev", "tmpfs"),
            ("/run", "tmpfs"),
        ] {
            let line = mounts
                .lines()
                .rfind(|line| line.split(' ').nth(4) == Some(point));
            assert!(
                line.is_some_and(|line| line.contains(&format!(" - {kind} "))),
                "{point}: {mounts}"
            );
        }
        assert_eq!(rustix::system::uname().nodename().to_bytes(), b"lane");
    });
}

#[test]
fn a_failing_test_body_fails_the_test() {
    let outcome = std::panic::catch_unwind(|| lane::test(|| panic!("on purpose")));
    match outcome {
        // In the lane this fails as any test would; it is the outside that is tested.
        Err(panic) if lane::inside() => std::panic::resume_unwind(panic),
        outcome => assert!(outcome.is_err()),
    }
}

#[test]
fn the_exit_code_is_the_commands() {
    assert_eq!(native(&[], "exit 7").status.code(), Some(7));
    assert_eq!(native(&[], "kill -KILL $$").status.code(), Some(137));
}

#[test]
fn nothing_of_the_lane_is_seen_outside() {
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let output = native(
        &[],
        "mount -t tmpfs none /mnt && mkdir /sys/fs/cgroup/x && hostname other",
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        before,
        std::fs::read_to_string("/proc/self/mountinfo").unwrap()
    );
    assert_ne!(rustix::system::uname().nodename().to_bytes(), b"other");
}

/// Fails unless each of these is in a line of its own that tells of a leak.
fn assert_told(output: &Output, leaks: &[&str]) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let lines = || told.lines().filter_map(|l| l.strip_prefix("left behind: "));
    for leak in leaks {
        assert!(lines().any(|line| line.contains(leak)), "{leak}: {told}");
    }
}

#[test]
fn what_a_command_leaves_behind_is_told() {
    let script = "sleep 1000 & mkdir /sys/fs/cgroup/left; touch /run/left /dev/shm/left; \
        mount -t tmpfs none /mnt; touch /dev/mqueue/left; busybox tunctl -t left; \
        busybox nc -l -p 7000 & until grep -q :1B58 /proc/net/tcp*; do :; done";
    let leaks = [
        "process ",
        "cgroup /sys/fs/cgroup/left",
        "file /run/left",
        "file /dev/shm/left",
        " /mnt ",
        "queue /dev/mqueue/left",
        "interface left",
        "socket tcp",
    ];
    assert_told(&native(&["--leaks"], script), &leaks);
}

#[test]
fn everything_of_a_container_that_is_left_running_is_told() {
    let folder = Path::new(env!("CARGO_BIN_EXE_conformance")).parent();
    let built = folder.expect("a file has a folder").display();
    let script = format!(
        "mkdir -p /run/box/rootfs/proc /run/box/rootfs/sys /run/box/rootfs/dev && cd /run/box &&
        cp {built}/probe rootfs && {built}/corten spec &&
        sed -i 's/\"terminal\": true/\"terminal\": false/; s#\"sh\"#\"/probe\", \"sleep\"#' config.json &&
        {built}/corten run -d check-$CORTEN_LANE_NUMBER-left >/run/output 2>&1"
    );
    let leaks = [
        ": /probe sleep",
        "cgroup /sys/fs/cgroup/tests/check-",
        " at cgroup /sys/fs/cgroup/tests/check-",
        "keyring ",
        "namespace pid ",
        "namespace mnt ",
        "-left/state.json",
    ];
    assert_told(&native(&["--leaks"], &script), &leaks);
}

#[test]
fn a_loop_device_that_is_left_is_told() {
    // The kernel frees it with its mount, at the end of the lane.
    let script = "truncate -s 1M /run/image && PATH=$PATH:/sbin mke2fs -q /run/image &&
        mknod /dev/loop-control c 10 237 && mount -o loop /run/image /mnt";
    let nodes = "for n in $(seq 0 15); do mknod /dev/loop$n b 7 $n; done;";
    let output = native(&["--leaks"], &format!("{nodes}{script}"));
    assert_told(&output, &["loop device loop", " /mnt "]);
}

#[test]
fn a_descriptor_that_a_process_keeps_is_told() {
    lane::test(|| {
        let before = Snapshot::of_lane();
        let file = std::fs::File::open("/dev/full").unwrap();
        let leaks = Snapshot::of_lane().since(&before);
        let ours = format!("descriptor of {} ", std::process::id());
        let is_told = |leak: &String| leak.starts_with(&ours) && leak.ends_with(" /dev/full");
        assert!(leaks.iter().any(is_told), "{leaks:?}");
        drop(file);
    });
}

#[test]
fn what_a_command_leaves_on_the_machine_is_told() {
    // The machine is a lane here.
    let script = "mount -t tmpfs none /mnt; mkdir /sys/fs/cgroup/left; busybox tunctl -t left;
        mkdir -p /run/runc/left; touch $TMPDIR/corten-left; setsid sleep 1000 &";
    let command = format!(
        "exec {} leaks --here --settle 1 -- sh -c '{script}'",
        env!("CARGO_BIN_EXE_conformance")
    );
    let leaks = [
        "process ",
        " /mnt ",
        "cgroup /left",
        "interface left",
        "file /run/runc/left",
        "/corten-left",
    ];
    assert_told(&native(&[], &command), &leaks);
    let command = command.replace(script, "sleep 0.01 & true");
    assert_eq!(native(&[], &command).status.code(), Some(0));
}

#[test]
fn a_namespace_that_a_process_keeps_is_told() {
    let script = "unshare --uts sleep 1000 & \
        for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1; done; kill -0 $!";
    assert_told(&native(&["--leaks"], script), &["namespace uts "]);
}

#[test]
fn leaks_alone_looks_at_the_lane_and_finds_nothing_new_on_the_machine() {
    let leaks = |script: &str| {
        Command::new(env!("CARGO_BIN_EXE_conformance"))
            .args(["leaks", "--", "sh", "-c", script])
            .output()
            .expect("the binary starts")
    };
    let output = leaks("touch /run/left");
    assert_told(&output, &["file /run/left"]);
    assert_eq!(
        text(&output.stderr).lines().count(),
        1,
        "{}",
        text(&output.stderr)
    );
    assert_eq!(leaks("true").status.code(), Some(0));
}

#[test]
fn a_clean_command_leaves_nothing() {
    let output = native(&["--leaks"], "sleep 0.01 & touch /run/x; rm /run/x; wait");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_machines_files_can_be_protected() {
    // Not in /tmp, which is the lane's own then.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("must-not-exist");
    let output = native(&["--read-only"], &format!("touch {}", file.display()));
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("Read-only file system"));
    assert!(!file.exists());
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_its_children() {
    let begin = Instant::now();
    let output = native(&["--limit", "1"], "setsid sleep 1000 & sleep 1000");
    assert_eq!(output.status.code(), Some(lane::TIMED_OUT));
    assert!(begin.elapsed() < Duration::from_secs(30));
    let told = text(&output.stderr);
    for state in ["conformance lane-init", ": sh -c", ": sleep 1000"] {
        assert!(told.contains(state), "{state}: {told}");
    }
}

#[test]
fn a_check_is_skipped_where_the_runtime_lacks_the_capability() {
    let output = Command::new("setpriv")
        .arg("--bounding-set=-sys_nice")
        .arg(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--expect-skips", "1", "process::niceness"])
        .output()
        .expect("setpriv is of util-linux");
    let told = text(&output.stdout);
    assert!(
        told.contains("needs capability CAP_SYS_NICE\n"),
        "{told}{}",
        text(&output.stderr)
    );
    assert!(output.status.success(), "{told}");
}

#[test]
fn the_lanes_cgroup_is_removed() {
    let output = native(&[], "sleep 1000 & cat /proc/self/mountinfo");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = native(&[], "true");
    assert!(output.status.success());
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let left = std::fs::read_dir(Path::new(mount))
            .into_iter()
            .flatten()
            .flatten();
        let left = left.filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Those of tests that run now have a living outer process.
            name.strip_prefix("corten-lane-")
                .is_some_and(|pid| !Path::new("/proc").join(pid).exists())
        });
        assert_eq!(left.count(), 0);
    }
}
