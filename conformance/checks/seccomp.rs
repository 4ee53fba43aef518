//! `linux.seccomp`, as the filtered process itself meets it.

use serde_json::{Value, json};

use super::namespaces::user_namespace;
use crate::agent::{Agent, Answer};
use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::Lab;
use crate::wait;

checks!("seccomp":
    a_denied_call_gets_the_errno_of_its_rule,
    a_call_without_a_rule_gets_the_default,
    a_killing_rule_ends_the_process_with_sigsys,
    arguments_decide,
    a_profile_that_was_seen_before_is_not_taken_for_another,
    one_filter_is_loaded_with_and_without_no_new_privileges,
    no_new_privileges_is_not_set_by_a_filter,
    a_profile_like_dockers_runs_a_shell_of_another_user,
    a_profile_that_allows_little_more_than_execve_starts_a_program,
    a_step_that_the_filter_may_have_denied_names_its_rule,
    a_profile_of_what_init_needs_and_no_more_starts_a_program,
    a_profile_that_denies_execve_is_refused_by_name,
    a_profile_that_denies_what_init_still_needs_is_refused_by_name,
    an_unknown_architecture_is_refused_by_name,
    a_listener_gets_the_state_and_answers_for_the_process,
    every_process_of_exec_is_filtered_and_told_to_the_listener,
    the_connection_to_a_listener_is_closed_behind_the_state,
    a_listener_is_asked_in_a_user_namespace_too,
    calls_that_the_runtime_makes_itself_can_be_notified,
    a_hook_is_filtered_by_the_listener_too,
    without_its_listener_a_call_is_not_implemented,
    a_container_whose_listener_never_answers_can_be_deleted,
    a_listener_that_nobody_needs_is_not_asked,
    a_listener_that_can_not_be_had_is_refused,
);

/// SIGSYS, as a shell tells it.
const KILLED_BY_SIGSYS: i32 = 128 + 31;

/// A bundle with a profile that lets everything pass but for these rules.
fn with_rules(lab: &Lab, arguments: &[&str], rules: Value) -> Bundle {
    let mut bundle = lab.bundle_of(arguments);
    bundle.config["linux"]["seccomp"] =
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    bundle
}

fn printed(lab: &Lab, bundle: &Bundle) -> String {
    lab.run(bundle).ok().stdout().trim_end().to_owned()
}

fn a_denied_call_gets_the_errno_of_its_rule(lab: &Lab) {
    for (errno, name) in [(json!(13), "EACCES"), (Value::Null, "EPERM")] {
        let rule = json!([
            { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }
        ]);
        let bundle = with_rules(lab, &["personality", "0"], rule);
        assert_eq!(printed(lab, &bundle), name);
    }
}

fn a_call_without_a_rule_gets_the_default(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["personality", "0"]);
    bundle.config["linux"]["seccomp"] = docker_like();
    bundle.config["linux"]["seccomp"]["defaultErrnoRet"] = json!(5);
    let rules = bundle.config["linux"]["seccomp"]["syscalls"].as_array_mut();
    rules.expect("a list").remove(1);
    assert_eq!(printed(lab, &bundle), "EIO");
}

fn a_killing_rule_ends_the_process_with_sigsys(lab: &Lab) {
    for action in [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
    ] {
        let rule = json!([{ "names": ["personality"], "action": action }]);
        let output = lab.run(&with_rules(lab, &["personality", "0"], rule));
        assert_eq!(output.code(), KILLED_BY_SIGSYS, "{action}: {output}");
        assert_eq!(output.stdout(), "");
    }
}

/// A runtime may keep what it has compiled. crun 1.28 then goes by the profile without its errnos.
fn a_profile_that_was_seen_before_is_not_taken_for_another(lab: &Lab) {
    let other = json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 }]);
    for (errno, name) in [
        (1, "EPERM"),
        (2, "ENOENT"),
        (3, "ESRCH"),
        (2, "ENOENT"),
        (1, "EPERM"),
    ] {
        for _ in 0..2 {
            let rule = json!([
                { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }
            ]);
            assert_eq!(
                printed(lab, &with_rules(lab, &["personality", "0"], rule)),
                name
            );
            let another = with_rules(lab, &["personality", "0"], other.clone());
            assert_eq!(printed(lab, &another), "done");
        }
    }
}

fn arguments_decide(lab: &Lab) {
    let args = json!([{ "index": 0, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ" }]);
    for (persona, expected) in [("0", "done"), ("8", "ESRCH"), ("4", "done")] {
        let rule = json!([
            { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3, "args": args }
        ]);
        let bundle = with_rules(lab, &["personality", persona], rule);
        assert_eq!(printed(lab, &bundle), expected, "{persona}");
    }
}

fn one_filter_is_loaded_with_and_without_no_new_privileges(lab: &Lab) {
    for wanted in [true, false] {
        let mut bundle = with_rules(lab, &[], json!([]));
        bundle.config["process"]["noNewPrivileges"] = json!(wanted);
        let seccomp = &lab.facts(&bundle)["seccomp"];
        assert_eq!(seccomp["mode"], 2, "{seccomp}");
        // What this machine itself has put on us comes first.
        bundle.config["linux"]["seccomp"] = Value::Null;
        let own = lab.facts(&bundle)["seccomp"]["filters"].as_u64();
        assert_eq!(seccomp["filters"].as_u64(), own.map(|own| own + 1));
    }
}

fn no_new_privileges_is_not_set_by_a_filter(lab: &Lab) {
    let mut bundle = with_rules(lab, &[], json!([]));
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    assert_eq!(lab.facts(&bundle)["no_new_privs"], false);
}

/// Default EPERM, and what a program needs; much shorter than Docker's own.
fn docker_like() -> Value {
    let names = "accept4 access arch_prctl bind brk capget capset chdir chmod chown clock_gettime \
        clock_nanosleep clone close close_range connect dup dup2 dup3 epoll_create1 epoll_ctl \
        epoll_pwait eventfd2 execve exit exit_group faccessat faccessat2 fchdir fchmod fchown fcntl \
        fork fstat fstatfs futex getcwd getdents64 getegid geteuid getgid getgroups getpgid getpgrp \
        getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid \
        gettid getuid getxattr ioctl keyctl kill lseek lstat madvise mkdir mmap mprotect mremap \
        munmap nanosleep newfstatat open openat openat2 pipe pipe2 poll ppoll prctl pread64 \
        prlimit64 pselect6 read readlink readlinkat readv rename rseq rt_sigaction rt_sigpending \
        rt_sigprocmask rt_sigreturn rt_sigtimedwait sched_getaffinity sched_getparam \
        sched_getscheduler sched_yield select sendmsg setgid setgroups setpgid setresgid setresuid \
        set_robust_list setsid set_tid_address setuid sigaltstack socket stat statfs statx \
        symlink sysinfo tgkill time times umask uname unlink utimensat vfork wait4 waitid write \
        writev";
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {
                "names": names.split_whitespace().collect::<Vec<_>>(),
                "action": "SCMP_ACT_ALLOW",
            },
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": 0xffff_ffff_u32, "op": "SCMP_CMP_EQ" }],
            },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ],
    })
}

fn a_profile_like_dockers_runs_a_shell_of_another_user(lab: &Lab) {
    for no_new_privileges in [true, false] {
        let mut bundle = lab.bundle();
        bundle.busybox().expect("the lab is writable");
        bundle.config["linux"]["seccomp"] = docker_like();
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        let script = "for i in 1 2 3; do echo $(echo $i); done; busybox id -u; \
            busybox chroot / true 2>/dev/null || echo denied";
        bundle.args(&["/bin/sh", "-c", script]);
        let output = lab.run(&bundle).ok();
        assert_eq!(output.stdout(), "1\n2\n3\n1000\ndenied\n");
    }
}

/// With no_new_privs the filter comes right before execve: nothing of init is needed.
fn a_profile_that_allows_little_more_than_execve_starts_a_program(lab: &Lab) {
    if !lab.is_corten() {
        return; // The peers make more calls of their own under the filter.
    }
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["process"]["noNewPrivileges"] = json!(true);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [{ "names": ["execve"], "action": "SCMP_ACT_ALLOW" }],
    });
    // The program is started, and its loader's first call kills it.
    let output = lab.run(&bundle);
    assert_eq!(output.code(), KILLED_BY_SIGSYS);
    let rule = "linux.seccomp.defaultAction: SCMP_ACT_KILL_PROCESS for";
    let own = match std::env::consts::ARCH {
        "x86_64" => "arch_prctl",
        _ => "set_tid_address",
    };
    let [planned, died] = [
        format!("corten: warning: {rule} brk and mmap: no program can run"),
        format!("killed by SIGSYS, it may be because of {rule} brk, mmap, {own}"),
    ];
    assert!(output.stderr().contains(&planned), "{output}");
    assert!(output.stderr().contains(&died), "{output}");
}

fn a_step_that_the_filter_may_have_denied_names_its_rule(lab: &Lab) {
    if !lab.is_corten() {
        return; // The peers say what failed, not why.
    }
    // No rule that is sure for execve: its second argument, which is never null.
    let args = json!([{ "index": 1, "value": 0, "op": "SCMP_CMP_NE" }]);
    for (action, said) in [
        ("SCMP_ACT_ERRNO", "exec /probe: operation not permitted"),
        ("SCMP_ACT_NOTIFY", "exec /probe: operation not permitted"),
    ] {
        for no_new_privileges in [true, false] {
            let path = lab.folder().join("agent.sock");
            let answers = [(libc::SYS_execve, Answer::Errno(libc::EPERM))];
            let _agent = Agent::listen(&path, &answers);
            let rule = json!([{ "names": ["execve"], "action": action, "args": args }]);
            let mut bundle = with_rules(lab, &["true"], rule);
            bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            bundle.config["linux"]["seccomp"]["listenerPath"] = json!(path);
            let output = lab.run(&bundle);
            let rule = format!("linux.seccomp.syscalls[0]: {action} for execve");
            let text = format!("corten: process.args[0]: {said}; it may be because of {rule}");
            assert!(output.stderr().contains(&text), "{text}\n{output}");
            std::fs::remove_file(path).expect("the lab is writable");
        }
    }
    // In create: a call that only some of its steps make.
    let args = json!([{ "index": 1, "value": 0, "op": "SCMP_CMP_EQ" }]);
    for (action, said) in [
        ("SCMP_ACT_ERRNO", ": operation not permitted"),
        ("SCMP_ACT_KILL_PROCESS", ": init was killed"),
    ] {
        let rule = json!([{ "names": ["setresgid"], "action": action, "args": args }]);
        let mut bundle = with_rules(lab, &["true"], rule);
        bundle.config["process"]["noNewPrivileges"] = json!(false);
        let output = lab.run(&bundle);
        let rule = format!("linux.seccomp.syscalls[0]: {action} for setresgid");
        let text = format!("process.user.gid: set gid 0{said}; it may be because of {rule}");
        assert!(output.stderr().contains(&text), "{text}\n{output}");
    }
}

/// Exactly the calls that planning asks for, and death for any other.
fn a_profile_of_what_init_needs_and_no_more_starts_a_program(lab: &Lab) {
    if !lab.is_corten() {
        return;
    }
    let late = ["execve"];
    let early = "prctl setgroups setresgid setresuid capset statx faccessat2 sendmsg read close \
                 execve";
    let hooks = "lseek pipe2 clone setpgid dup3 close_range close ppoll read waitid kill execve";
    let early: Vec<&str> = early.split(' ').collect();
    let hooks: Vec<&str> = hooks.split(' ').collect();
    for no_new_privileges in [true, false] {
        for hooked in [false, true] {
            let mut names = if no_new_privileges {
                late.to_vec()
            } else {
                early.clone()
            };
            let mut bundle = lab.bundle_of(&["true"]);
            if hooked {
                names.extend(&hooks);
                // Its own calls fail, but only behind its execve. It could not even exit.
                names.push("exit_group");
                let hook = json!([{ "path": "/probe", "args": ["probe", "true"] }]);
                bundle.config["hooks"] = json!({ "startContainer": hook });
            }
            bundle.capabilities(&["CAP_KILL"]);
            bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            bundle.config["process"]["user"] =
                json!({ "uid": 1000, "gid": 1000, "additionalGids": [7] });
            bundle.config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_KILL_PROCESS",
                "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
            });
            if hooked {
                bundle.config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_ERRNO");
                bundle.config["linux"]["seccomp"]["defaultErrnoRet"] = json!(libc::ENOTTY);
            }
            let output = lab.run(&bundle);
            if hooked {
                let text = output.stderr();
                assert!(
                    text.contains("error running startContainer hook #0"),
                    "{output}"
                );
                assert!(!text.contains("inappropriate ioctl"), "{output}");
            } else {
                assert_eq!(output.code(), KILLED_BY_SIGSYS, "{output}");
                assert!(output.stderr().contains("killed by SIGSYS"), "{output}");
            }
        }
    }
}

fn refused(lab: &Lab, bundle: &Bundle, text: &str) {
    let output = lab.run(bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        assert_eq!(output.stderr(), format!("corten: {text}\n"));
    }
}

fn a_profile_that_denies_execve_is_refused_by_name(lab: &Lab) {
    for no_new_privileges in [true, false] {
        let rules = json!([
            { "names": ["personality"], "action": "SCMP_ACT_LOG" },
            { "names": ["execve"], "action": "SCMP_ACT_ERRNO" },
        ]);
        let mut bundle = with_rules(lab, &["true"], rules);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let text = "linux.seccomp.syscalls[1]: SCMP_ACT_ERRNO for execve, which corten still \
                    needs to exec /probe";
        refused(lab, &bundle, text);
    }
}

fn a_profile_that_denies_what_init_still_needs_is_refused_by_name(lab: &Lab) {
    let rules = json!([{ "names": ["setgroups"], "action": "SCMP_ACT_ERRNO" }]);
    let mut bundle = with_rules(lab, &["true"], rules);
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    let text = "linux.seccomp.syscalls[0]: SCMP_ACT_ERRNO for setgroups, which corten still needs \
                to set supplementary groups ()";
    refused(lab, &bundle, text);
    // With no_new_privs the filter comes behind it.
    bundle.config["process"]["noNewPrivileges"] = json!(true);
    drop(lab.run(&bundle).ok());
}

fn an_unknown_architecture_is_refused_by_name(lab: &Lab) {
    let mut bundle = with_rules(lab, &["true"], json!([]));
    bundle.config["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_VAX"]);
    let text = "linux.seccomp.architectures[0]: \"SCMP_ARCH_VAX\" is not an architecture";
    refused(lab, &bundle, text);
}

/// Bundles that notify of these calls, in both orders of privileges.
fn notifying(lab: &Lab, names: &[&str], make: impl Fn() -> Bundle) -> [Bundle; 2] {
    [false, true].map(|no_new_privileges| {
        let mut bundle = make();
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "listenerPath": lab.folder().join("agent.sock"),
            "listenerMetadata": "some \"text\"",
            "syscalls": [{ "names": names, "action": "SCMP_ACT_NOTIFY" }],
        });
        bundle
    })
}

/// The same for the call that the agents here have an answer for.
fn asking(lab: &Lab) -> [Bundle; 2] {
    notifying(lab, &["personality"], || {
        lab.bundle_of(&["personality", "0"])
    })
}

/// Answers that no filter and no kernel gives.
fn agent(lab: &Lab, answer: Answer) -> Agent {
    let path = lab.folder().join("agent.sock");
    Agent::listen(&path, &[(libc::SYS_personality, answer)])
}

fn a_listener_gets_the_state_and_answers_for_the_process(lab: &Lab) {
    let agent = agent(lab, Answer::Errno(libc::ENOTTY));
    for (index, mut bundle) in asking(lab).into_iter().enumerate() {
        bundle.config["annotations"] = json!({ "some.key": "value" });
        let container = lab.create(&bundle);
        let pid = container.pid();
        if !lab.is_corten() {
            // crun sends it only now, if no_new_privs is set.
            drop(container.call(&["start"]).ok());
        }
        let sent = agent.state(index);
        let state = &sent["state"];
        assert_eq!(sent["fds"], json!(["seccompFd"]), "{sent}");
        assert_eq!(sent["metadata"], "some \"text\"", "{sent}");
        assert_eq!((&sent["pid"], &state["pid"]), (&json!(pid), &json!(pid)));
        assert!(sent["ociVersion"].is_string() && state["ociVersion"].is_string());
        assert_eq!(state["id"], container.id.as_str(), "{sent}");
        assert_eq!(state["annotations"]["some.key"], "value", "{sent}");
        assert_eq!(state["bundle"], json!(bundle.path()), "{sent}");
        assert_eq!(state["status"], "creating", "{sent}");
        if lab.is_corten() {
            drop(container.call(&["start"]).ok());
        }
        container.creation.wait_for_text("ENOTTY\n");
        assert_eq!(agent.count(libc::SYS_personality), index + 1);
    }
}

fn every_process_of_exec_is_filtered_and_told_to_the_listener(lab: &Lab) {
    let agent = agent(lab, Answer::Errno(libc::ENOTTY));
    for (index, mut bundle) in asking(lab).into_iter().enumerate() {
        bundle.probe(&["sleep"]);
        let container = lab.start(&bundle);
        let own = agent.state(2 * index);
        let output = container.call_with("exec", &["/probe", "personality", "0"]);
        assert_eq!(output.ok().stdout(), "ENOTTY\n");
        let sent = agent.state(2 * index + 1);
        assert_eq!(sent["state"]["pid"], own["pid"], "{sent}");
        assert_ne!(sent["pid"], own["pid"], "{sent}");
        assert_eq!(sent["state"]["status"], "running", "{sent}");
    }
}

fn the_connection_to_a_listener_is_closed_behind_the_state(lab: &Lab) {
    let agent = agent(lab, Answer::Never);
    for (index, bundle) in asking(lab).into_iter().enumerate() {
        let container = lab.start(&bundle);
        drop(agent.state(index));
        let closed = || (agent.closed() > index).then_some(());
        assert!(wait::until(wait::CALL, closed).is_some());
        drop(container);
    }
}

fn a_listener_is_asked_in_a_user_namespace_too(lab: &Lab) {
    let agent = agent(lab, Answer::Errno(libc::ENOTTY));
    let make = || {
        let mut bundle = user_namespace(lab);
        bundle.probe(&["personality", "0"]);
        bundle
    };
    for bundle in notifying(lab, &["personality"], make) {
        assert_eq!(printed(lab, &bundle), "ENOTTY");
    }
    assert_eq!(agent.states().len(), 2);
}

fn calls_that_the_runtime_makes_itself_can_be_notified(lab: &Lab) {
    let agent = agent(lab, Answer::Errno(libc::ENOTTY));
    let mut names = vec!["execve", "read", "close", "personality"];
    if lab.is_corten() {
        names.extend([
            "prctl",
            "setgroups",
            "setresgid",
            "setresuid",
            "capset",
            "sendmsg",
        ]);
        names.push("clock_gettime");
    }
    let make = || lab.bundle_of(&["personality", "0"]);
    for (index, bundle) in notifying(lab, &names, make).into_iter().enumerate() {
        assert_eq!(printed(lab, &bundle), "ENOTTY");
        assert_eq!(agent.count(libc::SYS_execve), index + 1);
    }
    assert_eq!(agent.states().len(), 2);
}

fn a_hook_is_filtered_by_the_listener_too(lab: &Lab) {
    let agent = agent(lab, Answer::Errno(libc::ENOTTY));
    let make = || {
        let mut bundle = lab.bundle();
        bundle.busybox().expect("the lab is writable");
        bundle.probe(&["true"]);
        let script = "[ $(ls /proc/self/fd | wc -l) = 4 ] && /probe personality 0 >&2; exit 1";
        let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        bundle.config["hooks"] = json!({ "startContainer": hook });
        bundle
    };
    for bundle in notifying(lab, &["personality"], make) {
        let output = lab.run(&bundle);
        assert!(!output.status.success() || !lab.is_corten(), "{output}");
        assert!(
            output.stderr().contains("ENOTTY") || !lab.is_corten(),
            "{output}"
        );
    }
    assert_eq!(agent.count(libc::SYS_personality), 2);
}

fn without_its_listener_a_call_is_not_implemented(lab: &Lab) {
    for bundle in asking(lab) {
        let set = bundle.config["process"]["noNewPrivileges"] == true;
        if set && lab.runtime.name() == "crun" {
            return; // It sends the listener only with `start`.
        }
        let agent = agent(lab, Answer::Never);
        let container = lab.create(&bundle);
        drop(agent.state(0));
        drop(agent);
        drop(container.call(&["start"]).ok());
        container.creation.wait_for_text("ENOSYS\n");
        std::fs::remove_file(lab.folder().join("agent.sock")).expect("the lab is writable");
    }
}

fn a_container_whose_listener_never_answers_can_be_deleted(lab: &Lab) {
    let agent = agent(lab, Answer::Never);
    for (index, bundle) in asking(lab).into_iter().enumerate() {
        let container = lab.start(&bundle);
        let asked = || (agent.count(libc::SYS_personality) > index).then_some(());
        assert!(wait::until(wait::CALL, asked).is_some());
        drop(container.call(&["delete", "--force"]).ok());
    }
}

fn a_listener_that_nobody_needs_is_not_asked(lab: &Lab) {
    let mut bundle = with_rules(lab, &["personality", "0"], json!([]));
    bundle.config["linux"]["seccomp"]["listenerPath"] = json!("/no/such/socket");
    bundle.config["linux"]["seccomp"]["listenerMetadata"] = json!("some");
    assert_eq!(printed(lab, &bundle), "done");
}

fn a_listener_that_can_not_be_had_is_refused(lab: &Lab) {
    let file = lab.folder().join("file");
    std::fs::write(&file, "").expect("the lab is writable");
    let (file, missing) = (
        file.display(),
        "linux.seccomp.listenerPath: failed to connect with",
    );
    let cases = [
        (
            "/no/such/socket",
            format!("{missing} seccomp agent at /no/such/socket: no such file"),
        ),
        (
            &file.to_string(),
            format!("{missing} seccomp agent at {file}: it is not a socket"),
        ),
        (
            "",
            "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY: seccomp listenerPath is not set"
                .to_owned(),
        ),
    ];
    for (path, text) in cases {
        for mut bundle in asking(lab) {
            bundle.config["linux"]["seccomp"]["listenerPath"] = json!(path);
            if path.is_empty() {
                bundle.config["linux"]["seccomp"]["listenerMetadata"] = Value::Null;
            }
            refused_with(lab, &bundle, &text);
        }
    }
    if !lab.is_corten() {
        return; // runc refuses the rest, crun does not.
    }
    let agent = agent(lab, Answer::Never);
    let make = || lab.bundle_of(&["true"]);
    for mut bundle in notifying(lab, &["personality", "write"], make) {
        let text =
            "linux.seccomp.syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall";
        refused_with(lab, &bundle, text);
        bundle.config["linux"]["seccomp"]["syscalls"] = json!([]);
        bundle.config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_NOTIFY");
        let text = "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action";
        refused_with(lab, &bundle, text);
    }
    assert!(agent.states().is_empty());
}

/// Refuses in one line that begins so, and leaves nothing.
fn refused_with(lab: &Lab, bundle: &Bundle, text: &str) {
    let output = lab.run(bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let begin = format!("corten: {text}");
        assert!(output.stderr().starts_with(&begin), "{begin}\n{output}");
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
    assert_eq!(lab.state_directory(), [""; 0]);
}
