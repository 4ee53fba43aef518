//! `linux.seccomp`, as the filtered process itself meets it.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::Lab;

checks!("seccomp":
    a_denied_call_gets_the_errno_of_its_rule,
    a_call_without_a_rule_gets_the_default,
    a_killing_rule_ends_the_process_with_sigsys,
    arguments_decide,
    one_filter_is_loaded_with_and_without_no_new_privileges,
    no_new_privileges_is_not_set_by_a_filter,
    a_profile_like_dockers_runs_a_shell_of_another_user,
    a_profile_that_allows_little_more_than_execve_starts_a_program,
    a_profile_that_denies_execve_is_refused_by_name,
    a_profile_that_denies_what_init_still_needs_is_refused_by_name,
    an_unknown_architecture_is_refused_by_name,
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
    assert_eq!(lab.run(&bundle).code(), KILLED_BY_SIGSYS);
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
