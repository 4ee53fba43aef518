//! Hooks: what they get, and what is said when they fail.

use std::fs;
use std::io::Read;

use corten_init::abi::{DETAIL_MAX, Kind, Op, Slot};
use corten_init::sys::errno;

use super::flat::{Failed, Hand, Step};
use super::trial::{Trial, fifo, must};

fn state(before: &str, after: &str) -> Step {
    must(Op::HookState {
        before: before.to_owned(),
        after: after.to_owned(),
        flags: 0,
        into: Slot::HOOK_STATE,
    })
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn hook(path: &str, args: &[&str], env: &[&str], timeout: u32) -> Op<Hand> {
    Op::RunHook {
        path: path.to_owned(),
        args: strings(args),
        env: strings(env),
        inherit: false,
        timeout,
        state: Slot::HOOK_STATE,
        lifeline: Slot::NONE,
    }
}

/// A hook that is a line of shell, in the trial's folder.
fn shell(line: &str) -> Step {
    must(hook(
        "/bin/sh",
        &["sh", "-c", line],
        &["PATH=/bin:/usr/bin"],
        0,
    ))
}

fn trial(name: &str) -> Trial {
    Trial::new(name).steps([state("{\"pid\":", "}")])
}

fn fails(name: &str, step: Step) -> Failed {
    let failed = trial(name).steps([step]).fails();
    assert_eq!(failed.step, 1, "{failed:?}");
    failed
}

#[test]
fn every_hook_reads_the_whole_state_with_inits_own_pid() {
    let init = trial("hook-state")
        .steps([shell("cat >one"), shell("cat >two")])
        .stop();
    let wanted = format!("{{\"pid\":{}}}", init.pid());
    for file in ["one", "two"] {
        assert_eq!(
            fs::read_to_string(init.trial.dir.join(file)).unwrap(),
            wanted
        );
    }
}

#[test]
fn a_state_without_a_place_for_a_pid_is_passed_as_it_is() {
    let init = Trial::new("hook-no-pid")
        .steps([state("{}", ""), shell("cat >one")])
        .stop();
    assert_eq!(fs::read(init.trial.dir.join("one")).unwrap(), b"{}");
}

#[test]
fn a_hook_can_not_change_what_the_next_one_reads() {
    let write = "if echo x >&0 2>/dev/null; then exit 9; fi; cat >one";
    let init = trial("hook-sealed").steps([shell(write)]).stop();
    let text = fs::read_to_string(init.trial.dir.join("one")).unwrap();
    assert!(text.starts_with("{\"pid\":"), "{text}");
}

#[test]
fn a_hook_has_its_own_name_arguments_environment_and_group() {
    let print = "cat /proc/self/stat >stat; tr '\\0' ' ' </proc/$$/cmdline >args; env >env";
    let env = &["PATH=/bin:/usr/bin", "A=1", "B=two words"];
    let args = &["my name", "-c", print];
    let init = trial("hook-argv")
        .env(&["OF=init"])
        .steps([must(hook("/bin/sh", args, env, 0))])
        .stop();
    let read = |name: &str| fs::read_to_string(init.trial.dir.join(name)).unwrap();
    assert!(read("args").starts_with("my name -c "), "{}", read("args"));
    let mut found: Vec<String> = read("env").lines().map(str::to_owned).collect();
    // The shell's own.
    found.retain(|line| {
        !["PWD=", "_=", "OLDPWD=", "SHLVL="]
            .iter()
            .any(|own| line.starts_with(own))
    });
    found.sort();
    assert_eq!(found, ["A=1", "B=two words", "PATH=/bin:/usr/bin"]);
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // State, parent, process group: the shell's, which init has started.
    assert_eq!(fields[1], fields[2], "{stat}");
    assert_ne!(fields[2], init.pid().to_string());
}

#[test]
fn a_hook_inherits_the_environment_of_the_container_where_it_is_told_to() {
    let op = Op::RunHook {
        path: "/bin/sh".to_owned(),
        args: strings(&["sh", "-c", "echo \"$OF $A\" >env"]),
        env: strings(&["A=1"]),
        inherit: true,
        timeout: 0,
        state: Slot::HOOK_STATE,
        lifeline: Slot::NONE,
    };
    let init = trial("hook-inherit")
        .env(&["OF=init"])
        .steps([must(op)])
        .stop();
    assert_eq!(fs::read(init.trial.dir.join("env")).unwrap(), b"init \n");
}

#[test]
fn a_hook_has_no_descriptor_but_its_streams() {
    // The shell's own script is no file; `ls` opens the folder that it lists.
    let init = trial("hook-fds")
        .before("exec 3</dev/null 4</dev/null")
        .keep_below(5)
        .steps([shell("cd /proc/self/fd && echo * >&2; exit 3")])
        .fails();
    let numbers: Vec<u32> = init
        .detail
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    // The shell opens the folder itself, to expand the star.
    assert!(
        numbers.starts_with(&[0, 1, 2]) && numbers.len() <= 4,
        "{init:?}"
    );
    assert!(!numbers.contains(&4), "{init:?}");
}

#[test]
fn a_hook_that_fails_is_told_with_its_code_and_the_end_of_what_it_wrote() {
    let failed = fails("hook-code", shell("echo out; echo err >&2; exit 3"));
    assert_eq!((failed.kind, failed.errno), (Kind::HookExited, 3));
    assert_eq!(failed.detail, "out err ");
    let failed = fails("hook-signal", shell("printf x; kill -9 $$"));
    assert_eq!((failed.kind, failed.errno), (Kind::HookKilled, 9));
    assert_eq!(failed.detail, "x");
}

#[test]
fn of_a_lot_of_output_the_end_is_kept() {
    let line = "yes 0123456789 | head -c 3000000; echo the end >&2; exit 1";
    let failed = fails("hook-loud", shell(line));
    assert_eq!(failed.detail.len(), DETAIL_MAX);
    assert!(failed.detail.ends_with("the end "), "{:?}", failed.detail);
    assert!(failed.detail.contains(" 0123456789 "), "{failed:?}");
}

#[test]
fn a_hook_that_can_not_be_executed_is_told_with_the_errno() {
    for (name, path, errno) in [
        ("hook-missing", "/nothing/here", errno::ENOENT),
        ("hook-denied", "/etc/passwd", errno::EACCES),
    ] {
        let failed = fails(name, must(hook(path, &["x"], &[], 0)));
        assert_eq!((failed.kind, failed.errno), (Kind::Plain, errno), "{path}");
    }
    // The errno of one hook is not that of the next.
    let failed = trial("hook-127")
        .steps([shell("exit 0"), shell("exit 127")])
        .fails();
    assert_eq!((failed.kind, failed.errno), (Kind::HookExited, 127));
}

#[test]
fn what_a_hook_leaves_behind_with_its_output_open_is_not_waited_for() {
    let trial = trial("hook-daemon");
    let pipe = trial.dir.join("alive");
    fifo(&pipe);
    // It ends when this test lets go of the fifo.
    let guard = fs::File::options()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let init = trial.steps([shell("cat <alive & exit 0")]).stop();
    drop((init, guard));
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_whole_group() {
    let trial = trial("hook-timeout");
    let pipe = trial.dir.join("alive");
    fifo(&pipe);
    let mut alive = fs::File::options()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let line = "exec 9>alive; trap '' TERM; echo slow; sleep 1000 & sleep 1000; exit 0";
    let args = &["sh", "-c", line];
    let step = must(hook("/bin/sh", args, &["PATH=/bin:/usr/bin"], 1));
    let failed = trial.steps([step]).fails();
    assert_eq!((failed.kind, failed.errno), (Kind::HookTimeout, 1));
    assert_eq!(failed.detail, "slow ");
    // Readable to its end only when nobody of the group is there any more.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&alive));
    alive = fs::File::open(path).unwrap();
    let mut rest = Vec::new();
    alive.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn endless_output_does_not_stop_the_clock() {
    let args = &["sh", "-c", "exec yes"];
    let step = must(hook("/bin/sh", args, &["PATH=/bin:/usr/bin"], 1));
    let failed = fails("hook-yes", step);
    assert_eq!((failed.kind, failed.errno), (Kind::HookTimeout, 1));
    assert!(failed.detail.contains("y y y"), "{failed:?}");
}
