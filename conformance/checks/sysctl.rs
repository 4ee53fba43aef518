//! `linux.sysctl`: what is set, where, and what is not the container's to set.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::{Need, checks};
use crate::lab::Lab;

checks!("sysctl":
    parameters_of_the_containers_namespaces_are_set,
    a_key_may_be_written_with_dots_or_slashes,
    a_value_is_written_as_it_is,
    a_parameter_is_set_in_a_user_namespace_too,
    a_caller_in_a_user_namespace_with_a_masked_proc_sets_a_parameter,
    a_parameter_of_a_namespace_that_is_the_hosts_is_refused,
    a_parameter_of_the_whole_machine_is_refused,
    a_key_that_climbs_out_of_its_namespace_is_refused [Need::Machine],
    an_unknown_parameter_is_told_by_name,
    a_mount_on_the_containers_proc_swallows_no_parameter,
);

/// A bundle with these parameters that reads these files of /proc/sys.
fn bundle(lab: &Lab, parameters: Value, files: &[&str]) -> Bundle {
    let mut bundle = lab.bundle();
    bundle.busybox().expect("busybox");
    let paths: Vec<String> = files
        .iter()
        .map(|file| format!("/proc/sys/{file}"))
        .collect();
    let mut args = vec!["/bin/busybox", "cat"];
    args.extend(paths.iter().map(String::as_str));
    bundle.args(&args);
    bundle.config["linux"]["sysctl"] = parameters;
    bundle
}

/// What the container reads, in words.
fn seen(lab: &Lab, parameters: Value, files: &[&str]) -> String {
    let printed = lab.run(&bundle(lab, parameters, files)).ok().stdout();
    printed.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parameters_of_the_containers_namespaces_are_set(lab: &Lab) {
    let parameters = json!({
        "kernel.shmmax": "65537",
        "fs.mqueue.msg_max": "17",
        "net.ipv4.ip_default_ttl": "63",
    });
    let before = std::fs::read("/proc/sys/kernel/shmmax").expect("the lane has a /proc");
    let files = [
        "kernel/shmmax",
        "fs/mqueue/msg_max",
        "net/ipv4/ip_default_ttl",
    ];
    assert_eq!(seen(lab, parameters, &files), "65537 17 63");
    let after = std::fs::read("/proc/sys/kernel/shmmax").expect("the lane has a /proc");
    assert_eq!(before, after);
}

fn a_key_may_be_written_with_dots_or_slashes(lab: &Lab) {
    let parameters = json!({"kernel.msgmax": "4001", "net/ipv4/conf/lo/rp_filter": "2"});
    let files = ["kernel/msgmax", "net/ipv4/conf/lo/rp_filter"];
    assert_eq!(seen(lab, parameters, &files), "4001 2");
}

fn a_value_is_written_as_it_is(lab: &Lab) {
    let four = json!({"kernel.sem": "\t251  32001 33\t129\n"});
    assert_eq!(seen(lab, four, &["kernel/sem"]), "251 32001 33 129");
    // A sign that a shell would treat in its own way (CVE-2022-0811).
    let signed = json!({"net.ipv4.ip_default_ttl": "+62"});
    let output = lab.run(&bundle(lab, signed, &["net/ipv4/ip_default_ttl"]));
    if output.status.success() {
        assert_eq!(output.stdout(), "62\n");
    } else {
        // The kernel's own say.
        let told = output.stderr().to_lowercase();
        assert!(told.contains("ip_default_ttl"), "{output}");
        assert!(told.contains("invalid argument"), "{output}");
    }
    let parameters = json!({"kernel.domainname": "+a;b $(c)"});
    assert_eq!(seen(lab, parameters, &["kernel/domainname"]), "+a;b $(c)");
}

fn in_user_namespace(bundle: &mut Bundle) {
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.give_to(100_000).expect("root may");
}

fn a_parameter_is_set_in_a_user_namespace_too(lab: &Lab) {
    let parameters = json!({"net.ipv4.ip_forward": "1"});
    let mut bundle = bundle(lab, parameters, &["net/ipv4/ip_forward"]);
    in_user_namespace(&mut bundle);
    assert_eq!(lab.run(&bundle).ok().stdout(), "1\n");
}

/// An engine in a container, as it is there: it can't mount a procfs that shows more than its
/// own.
fn a_caller_in_a_user_namespace_with_a_masked_proc_sets_a_parameter(lab: &Lab) {
    let parameters = json!({"net.ipv4.ip_default_ttl": "61"});
    let mut bundle = bundle(lab, parameters, &["net/ipv4/ip_default_ttl"]);
    for mounted in ["/proc", "/sys", "/dev/pts"] {
        bundle.without_mount(mounted);
    }
    let options = ["rbind", "nosuid", "nodev", "noexec"];
    let own =
        json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": options});
    bundle.push("/mounts", own);
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    // A mask counts from the outside only.
    let script = "busybox mount -t tmpfs -o ro mask /proc/driver && \
                  exec unshare --user --map-root-user --mount --propagation private \"$@\"";
    let words = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let output = lab.run_under(&words, &bundle);
    assert_eq!(output.ok().stdout(), "61\n");
}

/// Refuses the key by name.
fn refused(lab: &Lab, bundle: &Bundle, key: &str, words: &str) {
    let output = lab.run(bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let text = format!("linux.sysctl: sysctl \"{key}\" {words}");
        assert!(output.stderr().contains(&text), "{output}");
    }
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn a_parameter_of_a_namespace_that_is_the_hosts_is_refused(lab: &Lab) {
    for (kind, key, words) in [
        (
            "ipc",
            "kernel.msgmax",
            "is not allowed in the hosts ipc namespace",
        ),
        (
            "network",
            "net.ipv4.ip_default_ttl",
            "is not allowed in the hosts network namespace",
        ),
        (
            "uts",
            "kernel.domainname",
            "is not in a separate kernel namespace",
        ),
    ] {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        // What it is anyway: nothing is lost where a runtime writes it.
        let value = std::fs::read_to_string(&path).expect("the lane has a /proc");
        let mut bundle = bundle(lab, json!({key: value.trim()}), &[]);
        bundle.without_namespace(kind);
        if kind == "uts" {
            bundle.config["hostname"] = Value::Null;
        }
        refused(lab, &bundle, key, words);
    }
}

fn a_parameter_of_the_whole_machine_is_refused(lab: &Lab) {
    for key in [
        "kernel.pid_max",
        "vm.swappiness",
        "kernel/threads-max",
        "fs.file-max",
    ] {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let value = std::fs::read_to_string(&path).expect("the lane has a /proc");
        let bundle = bundle(lab, json!({key: value.trim()}), &[]);
        refused(lab, &bundle, key, "is not in a separate kernel namespace");
    }
}

fn a_key_that_climbs_out_of_its_namespace_is_refused(lab: &Lab) {
    let pattern = "/proc/sys/kernel/core_pattern";
    let before = std::fs::read(pattern).expect("the machine has a /proc");
    for key in [
        "net/../kernel/core_pattern",
        "net.//.kernel.core_pattern",
        "fs/mqueue/../../kernel/core_pattern",
    ] {
        let bundle = bundle(lab, json!({key: "/tmp/climbed"}), &[]);
        refused(lab, &bundle, key, "is no name of a kernel parameter");
        let after = std::fs::read(pattern).expect("the machine has a /proc");
        assert_eq!(after, before, "{key}");
    }
}

fn an_unknown_parameter_is_told_by_name(lab: &Lab) {
    let bundle = bundle(lab, json!({"net.ipv4.no_such_thing": "1"}), &[]);
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("no_such_thing"), "{output}");
    assert!(output.stderr().contains("no such file"), "{output}");
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn a_mount_on_the_containers_proc_swallows_no_parameter(lab: &Lab) {
    // CVE-2019-16884 and CVE-2025-52881: a volume in the way of the write.
    for destination in ["/proc/sys", "/proc/sys/kernel"] {
        let mut bundle = lab.bundle();
        let fake = lab.folder().join("fake");
        std::fs::create_dir_all(fake.join("kernel")).expect("the lab is writable");
        for file in ["kernel/domainname", "domainname"] {
            std::fs::write(fake.join(file), "").expect("the lab is writable");
        }
        let volume = json!({"destination": destination, "type": "bind", "source": fake, "options": ["bind"]});
        bundle.push("/mounts", volume);
        bundle.config["linux"]["readonlyPaths"] = json!([]);
        bundle.config["linux"]["sysctl"] = json!({"kernel.domainname": "inside"});
        let output = lab.run(&bundle);
        if output.status.success() {
            // As uname(2) tells it: the file may be the volume's.
            assert_eq!(output.json()["domainname"], "inside", "{destination}");
        } else {
            assert!(!lab.is_corten(), "{output}");
        }
        for file in ["kernel/domainname", "domainname"] {
            let text = std::fs::read_to_string(fake.join(file)).expect("still there");
            assert_eq!(text, "", "{destination}");
        }
    }
}
