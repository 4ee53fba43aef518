//! `features`: a runtime tells what it can do, and does it.

use serde_json::{Value, json};

use crate::check::checks;
use crate::lab::Lab;

checks!("features":
    the_document_has_what_the_specification_asks_for,
    versions_of_the_specification_are_taken_up_to_the_one_it_names,
    every_mount_option_it_names_is_taken,
    every_capability_it_names_is_known,
    the_flags_of_seccomp_it_supports_can_be_used,
);

fn features(lab: &Lab) -> Value {
    lab.runtime.call(&["features"]).json()
}

fn words<'a>(document: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = document.pointer(pointer).and_then(Value::as_array);
    let list = list.unwrap_or_else(|| panic!("{pointer}: no list: {document:#}"));
    let word = |value: &'a Value| value.as_str().expect("a list of words");
    list.iter().map(word).collect()
}

fn the_document_has_what_the_specification_asks_for(lab: &Lab) {
    let document = features(lab);
    for version in ["ociVersionMin", "ociVersionMax"] {
        assert!(document[version].is_string(), "{document:#}");
    }
    let mut hooks = words(&document, "/hooks");
    hooks.sort_unstable();
    let all = [
        "createContainer",
        "createRuntime",
        "poststart",
        "poststop",
        "prestart",
        "startContainer",
    ];
    assert_eq!(hooks, all);
    for flag in ["apparmor", "selinux", "seccomp"] {
        let enabled = &document["linux"][flag]["enabled"];
        assert_eq!(*enabled, true, "{flag}");
    }
    assert_eq!(document["linux"]["cgroup"]["v2"], true);
    for kind in ["mount", "pid", "user", "cgroup"] {
        assert!(words(&document, "/linux/namespaces").contains(&kind));
    }
}

fn versions_of_the_specification_are_taken_up_to_the_one_it_names(lab: &Lab) {
    let document = features(lab);
    for version in ["ociVersionMin", "ociVersionMax"] {
        let mut bundle = lab.bundle_of(&["true"]);
        bundle.config["ociVersion"] = document[version].clone();
        drop(lab.run(&bundle).ok());
    }
}

fn every_mount_option_it_names_is_taken(lab: &Lab) {
    let document = features(lab);
    // Which file systems can be mapped depends on the kernel: `idmap` has checks of its own.
    let of_maps = |word: &&str| matches!(*word, "idmap" | "ridmap");
    for word in words(&document, "/mountOptions")
        .into_iter()
        .filter(|word| !of_maps(word))
    {
        let mut bundle = lab.bundle_of(&["true"]);
        let tmpfs = json!({
            "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [word],
        });
        let source = bundle.path().join("source");
        std::fs::create_dir_all(&source).expect("the bundle is writable");
        let bind = |options: Value| json!({ "destination": "/mnt", "type": "none", "source": source, "options": options });
        let mount = match word {
            "bind" | "rbind" => bind(json!([word])),
            "remount" => bind(json!(["bind", "remount", "ro"])),
            "copy-symlink" | "src-nofollow" | "dest-nofollow" => bind(json!(["bind", word])),
            _ => tmpfs,
        };
        if word == "dest-nofollow" {
            std::fs::create_dir(bundle.rootfs().join("mnt")).expect("a fresh root");
        }
        if word == "remount" {
            bundle.push("/mounts", bind(json!(["bind"])));
        }
        bundle.push("/mounts", mount);
        let output = lab.run(&bundle);
        assert!(output.status.success(), "{word}: {output}");
        assert_eq!(output.stderr(), "", "{word}");
    }
}

fn every_capability_it_names_is_known(lab: &Lab) {
    let document = features(lab);
    let all = words(&document, "/linux/capabilities");
    let mut bundle = lab.bundle_of(&["true"]);
    // In the bounding set, what the caller lacks is taken away from nobody.
    bundle.config["process"]["capabilities"] = json!({ "bounding": all });
    let output = lab.run(&bundle);
    assert!(!output.stderr().contains("unknown"), "{output}");
    assert!(all.contains(&"CAP_CHECKPOINT_RESTORE"), "{all:?}");
}

fn the_flags_of_seccomp_it_supports_can_be_used(lab: &Lab) {
    let document = features(lab);
    let flags = words(&document, "/linux/seccomp/supportedFlags");
    assert!(flags.contains(&"SECCOMP_FILTER_FLAG_LOG"), "{flags:?}");
    for flag in flags {
        // Only with a listener.
        if flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" {
            continue;
        }
        let mut bundle = lab.bundle_of(&["true"]);
        bundle.config["linux"]["seccomp"] =
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flag] });
        drop(lab.run(&bundle).ok());
    }
}
