//! AppArmor profiles and SELinux labels.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::exec::{exec, facts_of};
use crate::bundle::Bundle;
use crate::check::{Need, checks};
use crate::lab::Lab;

checks!("lsm":
    a_profile_or_label_whose_module_is_missing_is_refused,
    an_apparmor_profile_confines_the_process [Need::Lsm("apparmor")],
    an_apparmor_profile_that_is_not_loaded_is_told_by_name [Need::Lsm("apparmor")],
    a_mount_on_the_containers_proc_does_not_swallow_the_profile [Need::Lsm("apparmor")],
    a_profile_is_set_with_no_new_privileges_and_a_filter [Need::Lsm("apparmor")],
    a_start_container_hook_is_confined_too [Need::Lsm("apparmor")],
    a_process_of_exec_is_confined_as_the_container_or_as_asked [Need::Lsm("apparmor")],
);

/// Refuses by field.
fn refused(lab: &Lab, bundle: &Bundle, text: &str) {
    let output = lab.run(bundle);
    if lab.is_corten() {
        assert!(!output.status.success(), "{output}");
        assert!(
            output.stderr().starts_with(&format!("corten: {text}")),
            "{output}"
        );
        assert_eq!(output.stderr().lines().count(), 1, "{output}");
    }
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn a_profile_or_label_whose_module_is_missing_is_refused(lab: &Lab) {
    let has = |module| Need::Lsm(module).is_met();
    if !has("apparmor") {
        let mut bundle = lab.bundle();
        bundle.config["process"]["apparmorProfile"] = json!("some-profile");
        refused(
            lab,
            &bundle,
            "process.apparmorProfile: AppArmor is disabled or not supported",
        );
    }
    if !has("selinux") {
        let mut bundle = lab.bundle();
        bundle.config["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0");
        refused(
            lab,
            &bundle,
            "process.selinuxLabel: SELinux is disabled or not supported",
        );
        let mut bundle = lab.bundle();
        bundle.config["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0");
        refused(
            lab,
            &bundle,
            "linux.mountLabel: SELinux is disabled or not supported",
        );
    }
    // Empty is as if it were not there: engines write it.
    let mut bundle = lab.bundle();
    bundle.config["process"]["apparmorProfile"] = json!("");
    bundle.config["process"]["selinuxLabel"] = json!("");
    bundle.config["linux"]["mountLabel"] = json!("");
    drop(lab.run(&bundle).ok());
}

/// Allows all but writes below /tmp.
const PROFILE: &str = "profile corten-check flags=(attach_disconnected,mediate_deleted) {
    file, capability, network, mount, umount, pivot_root, ptrace, signal, unix, dbus,
    deny /tmp/** w,
}
";

/// Loads the profile into the kernel of this machine, which is the lane's own.
fn load_profile() {
    let place = "/sys/kernel/security";
    run(&["mount", "-n", "-t", "securityfs", "securityfs", place]);
    let mut parser = Command::new("apparmor_parser")
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the image has apparmor");
    let mut input = parser.stdin.take().expect("a pipe");
    input.write_all(PROFILE.as_bytes()).expect("it reads");
    drop(input);
    assert!(parser.wait().expect("a child").success());
    run(&["umount", "-n", place]);
}

fn run(words: &[&str]) {
    let status = Command::new(words[0]).args(&words[1..]).status();
    assert!(status.expect("util-linux is here").success(), "{words:?}");
}

fn confined(lab: &Lab) -> Bundle {
    load_profile();
    let mut bundle = lab.bundle();
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["apparmorProfile"] = json!("corten-check");
    bundle
}

fn assert_confined(facts: &Value) {
    assert_eq!(facts["apparmor"], "corten-check (enforce)", "{facts}");
}

fn an_apparmor_profile_confines_the_process(lab: &Lab) {
    let mut bundle = confined(lab);
    assert_confined(&lab.facts(&bundle));
    bundle.probe(&["write-file", "/tmp/denied", "x"]);
    let output = lab.run(&bundle);
    assert!(output.stderr().contains("EACCES"), "{output}");
    bundle.probe(&["write-file", "/etc/allowed", "x"]);
    drop(lab.run(&bundle).ok());
}

fn an_apparmor_profile_that_is_not_loaded_is_told_by_name(lab: &Lab) {
    let mut bundle = confined(lab);
    bundle.config["process"]["apparmorProfile"] = json!("not-loaded");
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    assert!(
        output.stderr().contains("not-loaded") || !lab.is_corten(),
        "{output}"
    );
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn a_mount_on_the_containers_proc_does_not_swallow_the_profile(lab: &Lab) {
    // CVE-2019-16884: a volume of the image in place of /proc.
    let mut bundle = confined(lab);
    let fake = lab.folder().join("fake");
    for process in ["self", "thread-self", "1"] {
        let folder = fake.join(process).join("attr/apparmor");
        std::fs::create_dir_all(&folder).expect("the lab is writable");
        for file in ["exec", "../exec", "current"] {
            std::fs::write(folder.join(file), "").expect("the lab is writable");
        }
    }
    bundle.without_mount("/proc");
    let volume =
        json!({"destination": "/proc", "type": "bind", "source": fake, "options": ["bind"]});
    bundle.push("/mounts", volume);
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.probe(&["write-file", "/tmp/denied", "x"]);
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        assert!(output.stderr().contains("EACCES"), "{output}");
    }
}

fn a_profile_is_set_with_no_new_privileges_and_a_filter(lab: &Lab) {
    for no_new_privileges in [true, false] {
        let mut bundle = confined(lab);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO"}],
        });
        assert_confined(&lab.facts(&bundle));
    }
}

fn a_start_container_hook_is_confined_too(lab: &Lab) {
    let mut bundle = confined(lab);
    bundle.busybox().expect("busybox");
    let line = "cat /proc/self/attr/apparmor/current >/etc/label; echo x >/tmp/x";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/bin"]});
    bundle.config["hooks"] = json!({"startContainer": [hook]});
    let container = lab.create(&bundle);
    let output = container.call(&["start"]);
    if lab.is_corten() {
        // The shell's last command is denied.
        assert!(
            output
                .stderr()
                .contains("startContainer hook #0: /bin/sh: exit status"),
            "{output}"
        );
    }
    let label = std::fs::read_to_string(bundle.rootfs().join("etc/label"));
    assert_eq!(label.expect("the hook ran"), "corten-check (enforce)\n");
}

fn a_process_of_exec_is_confined_as_the_container_or_as_asked(lab: &Lab) {
    let mut bundle = confined(lab);
    bundle.probe(&["sleep"]);
    let container = lab.start(&bundle);
    assert_confined(&facts_of(lab, &container, &[]));
    drop(container);
    bundle.config["process"]["apparmorProfile"] = Value::Null;
    let container = lab.start(&bundle);
    assert_eq!(facts_of(lab, &container, &[])["apparmor"], "unconfined");
    let flags = ["--apparmor", "corten-check"];
    assert_confined(&facts_of(lab, &container, &flags));
    let output = exec(lab, &container, &["--apparmor", "nosuch"], &["/probe"]);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        assert!(
            output.stderr().contains("process.apparmorProfile"),
            "{output}"
        );
    }
}
