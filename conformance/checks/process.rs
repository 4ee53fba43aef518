//! `process` of config.json, as the process itself sees it.

use rustix::thread::CapabilitySet;
use serde_json::json;

use crate::check::Need::Capability;
use crate::check::checks;
use crate::facts;
use crate::lab::Lab;
use crate::wait;

checks!("process":
    args_are_passed_as_they_are,
    a_program_without_a_slash_is_searched_in_the_containers_path,
    env_is_passed_in_order_and_nothing_is_added_but_home,
    of_an_environment_variable_named_twice_the_last_wins,
    a_value_in_the_environment_may_hold_newlines,
    home_comes_from_the_containers_passwd,
    home_in_the_configuration_is_kept,
    cwd_is_the_configured_one,
    a_missing_cwd_is_made,
    uid_gid_and_additional_gids_are_set_everywhere,
    groups_of_the_caller_are_dropped,
    umask_is_the_configured_one,
    umask_is_0022_by_default,
    each_capability_set_is_what_the_configuration_says,
    without_capabilities_there_are_none,
    a_process_of_another_user_keeps_only_ambient_capabilities_over_exec,
    rlimits_are_set,
    a_hard_limit_may_be_above_the_callers [Capability(CapabilitySet::SYS_RESOURCE)],
    no_new_privileges_is_set_only_when_asked_for,
    oom_score_adj_is_set,
    oom_score_adj_may_be_below_the_callers [Capability(CapabilitySet::SYS_RESOURCE)],
    signals_are_default_and_unblocked,
    the_process_has_a_session_of_its_own,
    the_process_does_not_die_with_a_thread_of_its_creator,
    affinity_of_the_caller_is_not_inherited,
    only_the_standard_fds_are_open,
    preserved_fds_are_passed,
    the_session_keyring_is_the_containers_own,
    the_process_is_no_subreaper_and_is_dumpable,
    a_shell_script_runs_through_its_interpreter,
    what_spec_writes_is_what_the_process_gets,
    the_group_of_the_caller_is_not_inherited,
    the_real_uid_of_the_caller_is_not_inherited,
    inheritable_capabilities_of_the_caller_are_dropped,
    niceness_of_the_caller_is_not_inherited [Capability(CapabilitySet::SYS_NICE)],
);

const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_BIND_SERVICE: u64 = 1 << 10;

fn args_are_passed_as_they_are(lab: &Lab) {
    let words = ["two words", "", "$HOME", "käse", "-x"];
    let bundle = lab.bundle_of(&[&["echo"], &words[..]].concat());
    assert_eq!(lab.run(&bundle).ok().stdout(), "two words  $HOME käse -x\n");
}

fn a_program_without_a_slash_is_searched_in_the_containers_path(lab: &Lab) {
    let mut bundle = lab.bundle();
    let probe = std::fs::read(bundle.rootfs().join("probe")).expect("the probe");
    bundle
        .program("opt/tools/seek", &probe)
        .expect("the lab is writable");
    bundle.config["process"]["env"] = json!(["PATH=/nowhere:/opt/tools:/bin"]);
    bundle.args(&["seek"]);
    let facts = lab.facts(&bundle);
    assert_eq!(facts["exe"], "/opt/tools/seek");
    assert_eq!(facts["argv"], json!(["seek"]));
}

fn env_is_passed_in_order_and_nothing_is_added_but_home(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["env"] = json!(["Z=1", "PATH=/bin", "A=2=3", "EMPTY="]);
    let facts = lab.facts(&bundle);
    assert_eq!(
        facts["env"],
        json!(["Z=1", "PATH=/bin", "A=2=3", "EMPTY=", "HOME=/root"])
    );
}

fn of_an_environment_variable_named_twice_the_last_wins(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["env"] = json!(["PATH=/bin", "X=first", "X=last"]);
    let facts = lab.facts(&bundle);
    assert!(facts::has(&facts["env"], "X=last"), "{}", facts["env"]);
    if lab.is_corten() {
        assert!(!facts::has(&facts["env"], "X=first"), "{}", facts["env"]);
    }
}

fn a_value_in_the_environment_may_hold_newlines(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["env"] = json!(["PATH=/bin", "TEXT=one\ntwo\n"]);
    assert!(facts::has(&lab.facts(&bundle)["env"], "TEXT=one\ntwo\n"));
}

fn home_comes_from_the_containers_passwd(lab: &Lab) {
    for (uid, home) in [
        (0, "HOME=/root"),
        (1000, "HOME=/home/alice"),
        (4242, "HOME=/"),
    ] {
        let mut bundle = lab.bundle();
        bundle.config["process"]["user"] = json!({"uid": uid, "gid": uid});
        let facts = lab.facts(&bundle);
        assert!(facts::has(&facts["env"], home), "{uid}: {}", facts["env"]);
    }
}

fn home_in_the_configuration_is_kept(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["env"] = json!(["HOME=/mine", "PATH=/bin"]);
    let facts = lab.facts(&bundle);
    assert_eq!(facts["env"], json!(["HOME=/mine", "PATH=/bin"]));
}

fn cwd_is_the_configured_one(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["cwd"] = json!("/tmp");
    assert_eq!(lab.facts(&bundle)["cwd"], "/tmp");
}

fn a_missing_cwd_is_made(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["cwd"] = json!("/made/here");
    assert_eq!(lab.facts(&bundle)["cwd"], "/made/here");
}

fn uid_gid_and_additional_gids_are_set_everywhere(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["user"] =
        json!({"uid": 1000, "gid": 1001, "additionalGids": [2000, 2001]});
    let facts = lab.facts(&bundle);
    for key in ["uid", "euid", "suid", "fsuid"] {
        assert_eq!(facts[key], 1000, "{key}");
    }
    for key in ["gid", "egid", "sgid", "fsgid"] {
        assert_eq!(facts[key], 1001, "{key}");
    }
    let groups = facts["groups"].as_array().expect("a list");
    let extra: Vec<_> = groups
        .iter()
        .filter(|group| **group != json!(1001))
        .collect();
    assert_eq!(extra, [&json!(2000), &json!(2001)]);
}

fn groups_of_the_caller_are_dropped(lab: &Lab) {
    let under = ["setpriv", "--groups", "4000,4001", "--"];
    let facts = lab.run_under(&under, &lab.bundle()).json();
    let groups = facts["groups"].as_array().expect("a list");
    assert!(groups.iter().all(|group| *group == json!(0)), "{groups:?}");
}

fn umask_is_the_configured_one(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["user"]["umask"] = json!(0o077);
    assert_eq!(lab.facts(&bundle)["umask"], "0077");
}

fn umask_is_0022_by_default(lab: &Lab) {
    let under = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
    let facts = lab.run_under(&under, &lab.bundle()).json();
    assert_eq!(facts["umask"], "0022");
}

fn each_capability_set_is_what_the_configuration_says(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    });
    // Not root, or execve would fill the sets anew.
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let facts = lab.facts(&bundle);
    assert_eq!(
        facts::capabilities(&facts, "bounding"),
        CHOWN | KILL | NET_BIND_SERVICE
    );
    assert_eq!(facts::capabilities(&facts, "inheritable"), KILL);
    assert_eq!(facts::capabilities(&facts, "ambient"), KILL);
    // capabilities(7): over execve without root only the ambient ones stay.
    assert_eq!(facts::capabilities(&facts, "permitted"), KILL);
    assert_eq!(facts::capabilities(&facts, "effective"), KILL);
}

fn without_capabilities_there_are_none(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["capabilities"] = json!({});
    let facts = lab.facts(&bundle);
    for set in [
        "bounding",
        "permitted",
        "effective",
        "inheritable",
        "ambient",
    ] {
        assert_eq!(facts::capabilities(&facts, set), 0, "{set}");
    }
}

fn a_process_of_another_user_keeps_only_ambient_capabilities_over_exec(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let sets = ["bounding", "permitted", "effective", "inheritable"];
    let set = json!(["CAP_KILL"]);
    bundle.config["process"]["capabilities"] = sets
        .iter()
        .map(|name| ((*name).to_owned(), set.clone()))
        .collect();
    let facts = lab.facts(&bundle);
    assert_eq!(facts::capabilities(&facts, "effective"), 0);
    assert_eq!(facts::capabilities(&facts, "permitted"), 0);
}

fn rlimits_are_set(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 18_446_744_073_709_551_615_u64},
        {"type": "RLIMIT_RTTIME", "soft": 7, "hard": 8},
    ]);
    let limits = lab.facts(&bundle)["rlimits"].clone();
    assert_eq!(limits["RLIMIT_NOFILE"], json!({"soft": 100, "hard": 200}));
    assert_eq!(limits["RLIMIT_CORE"], json!({"soft": 0, "hard": 0}));
    assert_eq!(
        limits["RLIMIT_STACK"],
        json!({"soft": 1_048_576, "hard": "unlimited"})
    );
    assert_eq!(limits["RLIMIT_RTTIME"], json!({"soft": 7, "hard": 8}));
}

fn a_hard_limit_may_be_above_the_callers(lab: &Lab) {
    let mut bundle = lab.bundle();
    let limit = json!({"type": "RLIMIT_CORE", "soft": 4096, "hard": 8192});
    bundle.push("/process/rlimits", limit);
    let facts = lab.run_under(&["prlimit", "--core=0:0"], &bundle).json();
    let expected = json!({"soft": 4096, "hard": 8192});
    assert_eq!(facts["rlimits"]["RLIMIT_CORE"], expected);
}

fn no_new_privileges_is_set_only_when_asked_for(lab: &Lab) {
    for wanted in [true, false] {
        let mut bundle = lab.bundle();
        bundle.config["process"]["noNewPrivileges"] = json!(wanted);
        assert_eq!(lab.facts(&bundle)["no_new_privs"], wanted);
    }
}

fn oom_score_adj_is_set(lab: &Lab) {
    for score in [0, 300, 1000] {
        let mut bundle = lab.bundle();
        bundle.config["process"]["oomScoreAdj"] = json!(score);
        assert_eq!(lab.facts(&bundle)["oom_score_adj"], score);
    }
}

fn oom_score_adj_may_be_below_the_callers(lab: &Lab) {
    let under = ["choom", "--adjust", "200", "--"];
    let mut bundle = lab.bundle();
    bundle.config["process"]["oomScoreAdj"] = json!(-100);
    let facts = lab.run_under(&under, &bundle).json();
    assert_eq!(facts["oom_score_adj"], -100);
}

fn signals_are_default_and_unblocked(lab: &Lab) {
    let under = [
        "env",
        "--ignore-signal=HUP,PIPE,USR1",
        "--block-signal=USR2,CHLD",
    ];
    let facts = lab.run_under(&under, &lab.bundle()).json();
    let none = json!({"blocked": [], "ignored": [], "caught": [], "pending": []});
    if lab.is_corten() {
        assert_eq!(facts["signals"], none);
    }
    // What glibc's posix_spawn leaves ignored, its own signals 32 and 33, the peers pass on;
    // runc also what its caller had blocked.
    for signal in [1, 10, 13] {
        assert!(
            !facts["signals"]["ignored"]
                .to_string()
                .contains(&format!("[{signal},"))
        );
    }
}

fn the_process_has_a_session_of_its_own(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    assert_eq!(facts["pid"], 1);
    assert_eq!(facts["sid"], 1);
    assert_eq!(facts["pgid"], 1);
    assert_eq!(facts["controlling_tty"], false);
}

fn the_process_does_not_die_with_a_thread_of_its_creator(lab: &Lab) {
    assert_eq!(lab.facts(&lab.bundle())["pdeathsig"], 0);
}

fn affinity_of_the_caller_is_not_inherited(lab: &Lab) {
    let bundle = lab.bundle();
    let all = lab.facts(&bundle)["affinity"].clone();
    let facts = lab
        .run_under(&["taskset", "--cpu-list", "0"], &bundle)
        .json();
    assert_eq!(facts["affinity"], all);
}

fn only_the_standard_fds_are_open(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    let numbers: Vec<_> = facts["fds"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|fd| &fd["fd"])
        .collect();
    let targets = facts["fds"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|fd| fd["target"].to_string());
    let targets = targets.collect::<Vec<_>>();
    assert_eq!(numbers, [&json!(0), &json!(1), &json!(2)], "{targets:?}");
}

fn preserved_fds_are_passed(lab: &Lab) {
    let bundle = lab.bundle_of(&["print-fd", "3"]);
    bundle.write().expect("the lab is writable");
    let text = lab.folder().join("text");
    std::fs::write(&text, "passed").expect("the lab is writable");
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "exec 3<\"$0\"; exec \"$@\""])
        .arg(&text)
        .arg(lab.runtime.program());
    command
        .arg("--root")
        .arg(lab.runtime.root())
        .args(["run", "--preserve-fds", "1"]);
    command.arg("--bundle").arg(bundle.path()).arg("preserve");
    let output = lab.runtime.spawn(command).finish(wait::CALL).ok();
    assert_eq!(output.stdout(), "passed");
}

fn the_session_keyring_is_the_containers_own(lab: &Lab) {
    let one = lab.facts(&lab.bundle())["session_keyring"].clone();
    let two = lab.facts(&lab.bundle())["session_keyring"].clone();
    assert!(one["id"].is_number(), "{one}");
    assert_ne!(one["id"], two["id"]);
    let name = one["description"].as_str().unwrap_or_default();
    if lab.is_corten() {
        assert!(name.contains("_ses."), "{one}");
    }
}

fn the_process_is_no_subreaper_and_is_dumpable(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    assert_eq!(facts["subreaper"], false);
    assert_eq!(facts["dumpable"], 1);
}

fn a_shell_script_runs_through_its_interpreter(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.busybox().expect("busybox");
    bundle
        .program("run.sh", b"#!/bin/sh\necho script $1\n")
        .expect("the lab is writable");
    bundle.args(&["/run.sh", "one"]);
    assert_eq!(lab.run(&bundle).ok().stdout(), "script one\n");
}

fn what_spec_writes_is_what_the_process_gets(lab: &Lab) {
    let bundle = lab.bundle();
    let facts = lab.facts(&bundle);
    let process = &bundle.config["process"];
    assert_eq!(facts["cwd"], process["cwd"]);
    assert_eq!(facts["no_new_privs"], process["noNewPrivileges"]);
    assert_eq!(facts["hostname"], bundle.config["hostname"]);
    let known = [
        ("CAP_AUDIT_WRITE", 1 << 29),
        ("CAP_KILL", KILL),
        ("CAP_NET_BIND_SERVICE", NET_BIND_SERVICE),
    ];
    let wanted = known.iter().filter(|(name, _)| {
        let bounding = &process["capabilities"]["bounding"];
        facts::has(bounding, name)
    });
    let bits = wanted.fold(0, |bits, (_, bit)| bits | bit);
    if lab.is_corten() {
        assert_eq!(facts::capabilities(&facts, "bounding"), bits);
    }
    for limit in process["rlimits"].as_array().into_iter().flatten() {
        let name = limit["type"].as_str().unwrap_or_default();
        let wanted = json!({"soft": limit["soft"], "hard": limit["hard"]});
        assert_eq!(facts["rlimits"][name], wanted, "{name}");
    }
}

fn the_group_of_the_caller_is_not_inherited(lab: &Lab) {
    let mut bundle = lab.bundle();
    // Without CAP_SYS_RESOURCE only a process of the same ids may be limited.
    bundle.config["process"]["rlimits"] = json!([]);
    let under = ["setpriv", "--regid", "4242", "--keep-groups", "--"];
    let facts = lab.run_under(&under, &bundle).json();
    for key in ["gid", "egid", "sgid", "fsgid"] {
        assert_eq!(facts[key], 0, "{key}");
    }
}

fn the_real_uid_of_the_caller_is_not_inherited(lab: &Lab) {
    let mut bundle = lab.bundle();
    // See the group's check.
    bundle.config["process"]["rlimits"] = json!([]);
    let under = ["setpriv", "--ruid", "1000", "--"];
    let facts = lab.run_under(&under, &bundle).json();
    for key in ["uid", "euid", "suid", "fsuid"] {
        assert_eq!(facts[key], 0, "{key}");
    }
}

fn inheritable_capabilities_of_the_caller_are_dropped(lab: &Lab) {
    let under = ["setpriv", "--inh-caps", "+chown", "--"];
    let facts = lab.run_under(&under, &lab.bundle()).json();
    assert_eq!(facts::capabilities(&facts, "inheritable") & CHOWN, 0);
}

fn niceness_of_the_caller_is_not_inherited(lab: &Lab) {
    let facts = lab.run_under(&["nice", "-n", "5"], &lab.bundle()).json();
    // The peers pass it on.
    let wanted = if lab.is_corten() { 0 } else { 5 };
    assert_eq!(facts["nice"], wanted);
}
