//! Creators that are killed, or fail, at every system call that they make.
//!
//! strace(1) kills the `corten` command as it enters its n-th call of a kind, before the
//! kernel does that call, or makes the call fail. So each state between two calls is
//! seen, the same ones in every run, and none depends on timing.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use corten_conformance::bundle::Bundle as Folder;
use corten_conformance::leaks::Snapshot;
use corten_conformance::wait;
use corten_core::Status;

use crate::lab::{self, Lab};

const ID: &str = "killed";

/// How long a delete may take: it waits for processes to die, not for a timeout.
const DELETE: Duration = Duration::from_secs(5);

/// A call: its name, and the how many-th of this name it is.
pub(crate) type Call = (String, usize);

/// `strace OPTIONS corten --root ROOT WORD --bundle FOLDER killed`.
fn strace(lab: &Lab, options: &[&str], word: &str, folder: &Folder) -> Command {
    let mut command = corten_under_strace(lab, options);
    command.args([word, "--bundle"]).arg(folder.path()).arg(ID);
    command
}

/// `strace OPTIONS corten --root ROOT`.
pub(crate) fn corten_under_strace(lab: &Lab, options: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.arg("-qq").args(options).arg(lab::corten());
    command.arg("--root").arg(lab.runtime.root());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    command
}

pub(crate) fn finish(mut command: Command) -> ExitStatus {
    let mut child = command.spawn().expect("strace is installed");
    let status = wait::child(&mut child, lab::LIMIT).expect("an own child");
    status.unwrap_or_else(|| {
        child.kill().expect("an own child");
        panic!("{command:?} hangs")
    })
}

/// The calls of a whole run, from the one that makes the container's directory on.
fn calls(lab: &Lab, word: &str, folder: &Folder) -> Vec<Call> {
    let log = lab.folder().join("calls");
    let output = log.to_string_lossy().into_owned();
    let status = finish(strace(lab, &["-o", &output], word, folder));
    assert!(status.success(), "{word} under strace: {status}");
    let text = std::fs::read_to_string(&log).expect("strace writes it");
    std::fs::remove_file(log).expect("just read");
    let directory = format!("\"{}\", 0711)", lab.runtime.root().join(ID).display());
    let found = calls_in(&text, |line| {
        line.starts_with("mkdir") && line.contains(&directory)
    });
    assert!(found.len() > 50, "{word}: {} calls:\n{text}", found.len());
    found
}

/// The calls in what strace wrote, from the one on that begins it.
pub(crate) fn calls_in(text: &str, begins: impl Fn(&str) -> bool) -> Vec<Call> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut found, mut begun) = (Vec::new(), false);
    for line in text.lines() {
        let Some((name, _)) = line.split_once('(') else {
            continue;
        };
        // Signals and the end are lines too.
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            continue;
        }
        begun |= begins(line);
        let count = counts.entry(name).or_default();
        *count += 1;
        // Asked by debug builds before each close: no state between these two differs.
        if begun && !line.contains(", F_GETFD)") {
            found.push((name.to_owned(), *count));
        }
    }
    found
}

/// Runs `corten WORD` with something done to it as it enters this call.
fn inject(lab: &Lab, (name, nth): &Call, what: &str, word: &str, folder: &Folder) -> ExitStatus {
    let (trace, inject) = (
        format!("trace={name}"),
        format!("inject={name}:{what}:when={nth}"),
    );
    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    // strace ends as its child did.
    finish(strace(lab, &options, word, folder))
}

/// Kills it there; false if it never made this call.
fn kill_at(lab: &Lab, call: &Call, word: &str, folder: &Folder) -> bool {
    let status = inject(lab, call, "signal=KILL", word, folder);
    assert!(
        status.success() || status.signal() == Some(libc::SIGKILL),
        "{word} killed at {call:?}: {status}"
    );
    !status.success()
}

/// By the library and by the command, in turn.
fn delete(lab: &Lab, by_command: bool, at: &str) {
    let begin = Instant::now();
    if by_command {
        let mut command = lab.corten();
        drop(lab::succeed(command.args(["delete", "--force", ID])));
    } else {
        let deleted = lab.runtime.delete_leftovers(ID);
        deleted.unwrap_or_else(|error| panic!("{at}: {error:#}"));
    }
    assert!(begin.elapsed() < DELETE, "{at}: {:?}", begin.elapsed());
}

fn check(lab: &Lab, word: &str, folder: &Folder) {
    let calls = calls(lab, word, folder);
    delete(lab, false, "after the run that was not killed");
    lab.assert_clean_but(&[folder.path()]);
    let clean = Snapshot::of_lane();
    let (mut killed, mut created) = (0, 0);
    for (number, call) in calls.iter().enumerate() {
        let at = format!("{word} killed at call {number} ({} {})", call.0, call.1);
        killed += usize::from(kill_at(lab, call, word, folder));
        if lab.runtime.root().join(ID).join("state.json").exists() {
            // It may be a whole container, which outlives its creator.
            created += 1;
        } else {
            lab.assert_no_process(&at);
        }
        delete(lab, number % 2 == 0, &at);
        lab::assert_same(&clean, &at, |_| true);
    }
    let tried = calls.len();
    println!("{word}: {tried} calls, {killed} killed, {created} with a state");
    // Some calls come more or less often: polls, and what init's speed decides.
    assert!(killed * 10 > tried * 9, "{killed} of {tried}");
    assert!(created < killed);
    assert!(Path::new(lab.runtime.root()).exists());
}

#[test]
fn a_create_killed_at_any_system_call_leaves_nothing_that_delete_can_not_remove() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        folder.write().expect("the lab is writable");
        check(lab, "create", &folder);
    });
}

#[test]
fn a_create_with_a_user_namespace_killed_at_any_system_call_leaves_nothing() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["sleep"]);
        lab::in_user_namespace(&mut folder);
        folder.write().expect("the lab is writable");
        check(lab, "create", &folder);
    });
}

#[test]
fn a_create_with_hooks_killed_at_any_system_call_leaves_nothing() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["sleep"]);
        let hooks = serde_json::json!([{"path": "/bin/true"}]);
        for kind in ["createRuntime", "createContainer", "poststop"] {
            folder.config["hooks"][kind] = hooks.clone();
        }
        folder.write().expect("the lab is writable");
        check(lab, "create", &folder);
    });
}

#[test]
fn a_run_killed_at_any_system_call_leaves_nothing_that_delete_can_not_remove() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep", "0.05"]);
        folder.write().expect("the lab is writable");
        check(lab, "run", &folder);
    });
}

#[test]
fn a_run_in_a_user_namespace_killed_at_any_system_call_leaves_nothing() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["sleep", "0.05"]);
        lab::in_user_namespace(&mut folder);
        folder.write().expect("the lab is writable");
        check(lab, "run", &folder);
    });
}

#[test]
fn want_of_a_thread_is_not_told_as_the_limit_of_the_container() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        folder.write().expect("the lab is writable");
        let run = |which: &str| {
            let inject = format!("inject=clone3:error=EAGAIN:when={which}");
            let options = ["-o", "/dev/null", "-e", "trace=clone3", "-e", &inject];
            let mut command = strace(lab, &options, "run", &folder);
            command.stderr(Stdio::piped());
            let output = command.output().expect("strace is installed");
            (output.status.success(), lab::text(&output.stderr))
        };
        // The first is of a thread, the second asks only whether there is such a call. Without the thread the launch
        // makes another one.
        let (alone, thread, child) = (run("1"), run("1+2"), run("3"));
        assert!(alone.0, "{}", alone.1);
        assert!(
            !thread.0 && thread.1.contains("a thread of the caller"),
            "{}",
            thread.1
        );
        assert!(!thread.1.contains("pids.max"), "{}", thread.1);
        assert!(!child.0 && child.1.contains("pids.max"), "{}", child.1);
    });
}

#[test]
fn what_a_failed_create_can_not_take_back_a_delete_by_force_can() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&[]);
        folder.args(&["/not-there"]);
        folder.write().expect("the lab is writable");
        let clean = Snapshot::of_lane();
        // No file and no cgroup can be removed.
        let options = [
            "-o",
            "/dev/null",
            "-e",
            "trace=unlinkat",
            "-e",
            "inject=unlinkat:error=EIO",
        ];
        let status = finish(strace(lab, &options, "create", &folder));
        assert_eq!(status.code(), Some(1));
        let left = lab::left(&clean, Duration::ZERO, |line| line.contains("cgroup"));
        assert!(!left.is_empty());
        assert!(lab.runtime.root().join(ID).join("intent.json").exists());
        delete(lab, true, "after the create that failed");
        lab::assert_same(&clean, "after the delete", |_| true);
    });
}

/// Calls of the program's own runtime rather than of Corten: what fails there ends it.
pub(crate) const RUNTIME: [&str; 12] = [
    "brk",
    "mmap",
    "munmap",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "exit_group",
    // These can't fail.
    "getpid",
    "getuid",
    "getegid",
    "geteuid",
    "clock_gettime",
];

#[test]
fn a_create_in_which_any_system_call_fails_leaves_nothing_or_succeeds() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["sleep"]);
        lab::in_user_namespace(&mut folder);
        folder.write().expect("the lab is writable");
        let mut calls = calls(lab, "create", &folder);
        delete(lab, false, "after the run in which nothing failed");
        lab.assert_clean_but(&[folder.path()]);
        calls.retain(|(name, _)| !RUNTIME.contains(&name.as_str()));
        let clean = Snapshot::of_lane();
        let (mut failed, mut created, mut left) = (0, 0, Vec::new());
        for call in &calls {
            let at = format!("create with a failing {} {}", call.0, call.1);
            let status = inject(lab, call, "error=EIO", "create", &folder);
            match status.code() {
                Some(0) => {
                    created += 1;
                    delete(lab, false, &at);
                }
                Some(1) => failed += 1,
                _ => left.push(format!("{at}: {status}")),
            }
            // All of them are told, not only the first.
            let here = lab::left(&clean, Duration::from_secs(2), |_| true);
            if !here.is_empty() {
                left.push(format!("{at}: {here:?}"));
                delete(lab, false, &at);
            }
            lab::assert_same(&clean, &at, |_| true);
        }
        println!("{failed} failed, {created} created");
        assert!(left.is_empty(), "{left:#?}");
        assert!(failed > 30);
    });
}

#[test]
fn a_container_whose_program_runs_is_found_though_its_creator_sleeps() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        folder.write().expect("the lab is writable");
        let calls = calls(lab, "run", &folder);
        let mut renames = calls.iter().filter(|(name, _)| name == "renameat");
        // The last gives the state its name.
        let (_, last) = renames.next_back().expect("the state is renamed");
        let folder = lab.bundle(&["wait-signal"]);
        folder.write().expect("the lab is writable");
        let inject = format!("inject=renameat:delay_enter=1500000:when={last}");
        let options = ["-o", "/dev/null", "-e", "trace=renameat", "-e", &inject];
        let mut command = strace(lab, &options, "run", &folder);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("strace is installed");
        let mut printed = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        printed.read_line(&mut line).expect("the probe says so");
        assert_eq!(line.trim(), "ready");
        // The list does not even wait for the creator.
        let listed = lab::done(lab.runtime.list());
        let renamed = lab.runtime.root().join(ID).join("state.json").exists();
        let listed: Vec<_> = listed.iter().map(|it| (&*it.id, it.status)).collect();
        assert_eq!(listed, [(ID, Status::Running)]);
        assert!(!renamed, "the creator was awake too soon");
        let container = lab::done(lab.runtime.container(ID));
        assert_eq!(lab::done(container.state()).status, Status::Running);
        lab::done(container.kill(libc::SIGKILL));
        let ended = wait::child(&mut child, lab::LIMIT).expect("an own child");
        ended.expect("it ends with its container");
    });
}
