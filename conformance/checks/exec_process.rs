//! What a process of `exec` is: directory, environment, credentials, limits. As its flags say,
//! else as the container's own process.

use serde_json::json;

use super::exec::{assert_refused, exec, facts_in, facts_of, sleeping};
use crate::check::checks;
use crate::facts;
use crate::lab::Lab;

checks!("exec_process":
    no_signal_is_ignored_or_blocked,
    the_process_has_the_directory_environment_and_user_of_the_container,
    cwd_is_the_directory_of_the_process,
    a_directory_that_is_missing_is_an_error,
    env_adds_variables_and_replaces_those_of_the_container,
    a_program_is_looked_for_in_the_path_of_the_process,
    user_sets_uid_and_gid,
    additional_gids_are_added_to_those_of_the_container,
    home_is_that_of_the_user,
    capabilities_are_those_of_the_container,
    cap_adds_a_capability,
    an_unknown_capability_is_a_warning,
    no_new_privs_is_set_by_its_flag_and_by_the_container,
    rlimits_and_oom_score_are_those_of_the_container,
    the_umask_is_that_of_the_container,
    personality_scheduler_and_io_priority_are_those_of_the_container,
    the_profile_of_the_container_filters_the_process,
    the_final_cpus_of_the_container_are_those_of_the_process,
);

fn no_signal_is_ignored_or_blocked(lab: &Lab) {
    let signals = &facts_in(lab, &mut lab.bundle(), &[])["signals"];
    for kind in ["blocked", "pending", "ignored"] {
        assert_eq!(signals[kind], json!([]), "{kind}");
    }
}

fn the_process_has_the_directory_environment_and_user_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["cwd"] = json!("/etc");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 7, "additionalGids": [8]});
    bundle.push("/process/env", json!("OWN=container"));
    let facts = facts_in(lab, &mut bundle, &[]);
    assert_eq!(facts["cwd"], "/etc");
    assert_eq!((&facts["uid"], &facts["gid"]), (&json!(1000), &json!(7)));
    assert_eq!(facts["groups"], json!([8]));
    assert!(
        facts::has(&facts["env"], "OWN=container"),
        "{}",
        facts["env"]
    );
}

fn cwd_is_the_directory_of_the_process(lab: &Lab) {
    let facts = facts_in(lab, &mut lab.bundle(), &["--cwd", "/tmp"]);
    assert_eq!(facts["cwd"], "/tmp");
}

fn a_directory_that_is_missing_is_an_error(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let run = |cwd| exec(lab, &container, &["--cwd", cwd], &["/probe", "true"]);
    let output = run("tmp");
    // crun takes it as below the root.
    if lab.runtime.name() != "crun" {
        assert_refused(
            lab,
            &output,
            "process.cwd: must be an absolute path, not \"tmp\"",
        );
    }
    let text = "process.cwd: change directory to /no/such: no such file or directory";
    assert_refused(lab, &run("/no/such"), text);
    let text = "process.cwd: change directory to /probe: not a directory";
    assert_refused(lab, &run("/probe"), text);
}

fn env_adds_variables_and_replaces_those_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.push("/process/env", json!("A=container"));
    bundle.push("/process/env", json!("B=container"));
    let flags = ["-e", "A=1", "-e", "C=two words\nand a line", "-e", "D="];
    let facts = facts_in(lab, &mut bundle, &flags);
    let env = &facts["env"];
    for entry in ["A=1", "B=container", "C=two words\nand a line", "D="] {
        assert!(facts::has(env, entry), "{entry:?}: {env}");
    }
    // crun gives both.
    if lab.runtime.name() != "crun" {
        assert!(!facts::has(env, "A=container"), "{env}");
    }
}

fn a_program_is_looked_for_in_the_path_of_the_process(lab: &Lab) {
    let mut bundle = lab.bundle();
    let link = bundle.rootfs().join("tmp/linked");
    std::os::unix::fs::symlink("/probe", link).expect("the lab is writable");
    let container = sleeping(lab, &mut bundle);
    let flags = ["-e", "PATH=/nowhere:/tmp"];
    let output = exec(lab, &container, &flags, &["linked", "exit", "6"]);
    assert_eq!(output.code(), 6, "{output}");
}

fn user_sets_uid_and_gid(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    for (user, uid, gid) in [("5:6", 5, 6), ("7", 7, 0), ("0:9", 0, 9)] {
        let facts = facts_of(lab, &container, &["--user", user]);
        for id in ["uid", "euid", "suid", "fsuid"] {
            assert_eq!(facts[id], uid, "{user}: {id}");
        }
        for id in ["gid", "egid", "sgid", "fsgid"] {
            assert_eq!(facts[id], gid, "{user}: {id}");
        }
    }
}

fn additional_gids_are_added_to_those_of_the_container(lab: &Lab) {
    if lab.runtime.name() == "crun" {
        return; // It has no such flag.
    }
    let mut bundle = lab.bundle();
    bundle.config["process"]["user"]["additionalGids"] = json!([8]);
    let facts = facts_in(lab, &mut bundle, &["-g", "20", "-g", "10"]);
    assert_eq!(facts["groups"], json!([8, 10, 20]));
}

fn home_is_that_of_the_user(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    for (user, home) in [("0", "/root"), ("1000", "/home/alice"), ("77", "/")] {
        let env = &facts_of(lab, &container, &["--user", user])["env"];
        assert!(facts::has(env, &format!("HOME={home}")), "{user}: {env}");
    }
}

fn capabilities_are_those_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    let sets = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_FOWNER"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "inheritable": [],
        "ambient": [],
    });
    bundle.config["process"]["capabilities"] = sets;
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let container = sleeping(lab, &mut bundle);
    let facts = facts_of(lab, &container, &[]);
    // Without ambient ones a user other than root keeps none over execve.
    assert_eq!(facts::capabilities(&facts, "effective"), 0);
    assert_eq!(facts::capabilities(&facts, "bounding"), 1 << 5 | 1 | 1 << 3);
    let facts = facts_of(lab, &container, &["--user", "0"]);
    // root gets its bounding set by execve.
    assert_eq!(
        facts::capabilities(&facts, "effective"),
        1 << 5 | 1 | 1 << 3
    );
}

fn cap_adds_a_capability(lab: &Lab) {
    let flags = ["-c", "CAP_SYS_PTRACE", "-c", "CAP_CHOWN"];
    let facts = facts_in(lab, &mut lab.bundle(), &flags);
    for set in ["bounding", "effective", "permitted"] {
        let bits = facts::capabilities(&facts, set);
        assert_eq!(bits & (1 << 19 | 1), 1 << 19 | 1, "{set}: {bits:x}");
    }
}

fn an_unknown_capability_is_a_warning(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let flags = ["--cap", "CAP_NO_SUCH"];
    let output = exec(lab, &container, &flags, &["/probe", "exit", "2"]);
    // crun refuses it.
    if lab.runtime.name() != "crun" {
        assert_eq!(output.code(), 2, "{output}");
    }
    if lab.is_corten() {
        assert!(output.stderr().contains("CAP_NO_SUCH"), "{output}");
    }
}

fn no_new_privs_is_set_by_its_flag_and_by_the_container(lab: &Lab) {
    for of_container in [false, true] {
        let mut bundle = lab.bundle();
        bundle.config["process"]["noNewPrivileges"] = json!(of_container);
        let container = sleeping(lab, &mut bundle);
        let set = |flags: &[&str]| facts_of(lab, &container, flags)["no_new_privs"].clone();
        assert_eq!(set(&[]), of_container);
        assert_eq!(set(&["--no-new-privs"]), true);
    }
}

fn rlimits_and_oom_score_are_those_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    let limit = json!({"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88});
    bundle.config["process"]["rlimits"] = json!([limit]);
    bundle.config["process"]["oomScoreAdj"] = json!(321);
    let facts = facts_in(lab, &mut bundle, &[]);
    assert_eq!(
        facts["rlimits"]["RLIMIT_NOFILE"],
        json!({"soft": 77, "hard": 88})
    );
    assert_eq!(facts["oom_score_adj"], 321);
}

fn the_umask_is_that_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    assert_eq!(facts_of(lab, &container, &[])["umask"], "0022");
    drop(container);
    let mut bundle = lab.bundle();
    bundle.config["process"]["user"]["umask"] = json!(0o027);
    assert_eq!(facts_in(lab, &mut bundle, &[])["umask"], "0027");
}

fn personality_scheduler_and_io_priority_are_those_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3});
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    let facts = facts_in(lab, &mut bundle, &[]);
    assert_eq!(facts["personality"], 8);
    assert_eq!(facts["scheduler"]["policy"], "SCHED_BATCH");
    assert_eq!(facts["nice"], 3);
    assert_eq!(facts["ioprio"]["class"], 3);
}

fn the_profile_of_the_container_filters_the_process(lab: &Lab) {
    for no_new_privileges in [false, true] {
        let mut bundle = lab.bundle();
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}],
        });
        let container = sleeping(lab, &mut bundle);
        let output = exec(lab, &container, &[], &["/probe", "personality", "0"]);
        assert_eq!(output.stdout(), "EPROTO\n", "{output}");
        let facts = facts_of(lab, &container, &[]);
        assert_eq!(facts["seccomp"]["mode"], 2);
    }
}

fn the_final_cpus_of_the_container_are_those_of_the_process(lab: &Lab) {
    let all = lab.facts(&lab.bundle())["affinity"].clone();
    let cpus = all.as_array().expect("a list");
    let last = cpus.last().expect("there is one").clone();
    let mut bundle = lab.bundle();
    let affinity = json!({"initial": cpus[0].to_string(), "final": last.to_string()});
    bundle.config["process"]["execCPUAffinity"] = affinity;
    assert_eq!(facts_in(lab, &mut bundle, &[])["affinity"], json!([last]));
    let mut bundle = lab.bundle();
    assert_eq!(facts_in(lab, &mut bundle, &[])["affinity"], all);
    if lab.runtime.name() == "crun" {
        return; // It sets the initial ones for the container's own processes only.
    }
    let mut bundle = lab.bundle();
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": cpus[0].to_string()});
    assert_eq!(
        facts_in(lab, &mut bundle, &[])["affinity"],
        json!([cpus[0]])
    );
}
