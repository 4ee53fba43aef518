//! The default devices and links of the specification, and /dev as a whole.

use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::facts;
use crate::lab::Lab;

checks!("devices":
    the_default_devices_are_the_real_ones,
    the_default_links_are_there,
    devices_can_be_used,
    a_configured_device_is_made_or_refused_by_name,
    a_device_that_is_not_allowed_gives_eperm,
    a_device_is_allowed_for_the_access_given,
    a_later_device_rule_wins,
    there_is_no_console_without_a_terminal,
    there_are_no_other_devices,
    in_a_user_namespace_the_default_devices_are_there_too,
    without_a_mount_on_dev_the_devices_are_in_the_roots_own,
    a_device_that_is_not_allowed_can_not_be_opened,
);

const DEFAULT: [(&str, &str); 6] = [
    ("null", "1:3"),
    ("zero", "1:5"),
    ("full", "1:7"),
    ("random", "1:8"),
    ("urandom", "1:9"),
    ("tty", "5:0"),
];

fn device<'f>(facts: &'f Value, name: &str) -> &'f Value {
    facts::entry(&facts["dev"], "name", name)
}

fn the_default_devices_are_the_real_ones(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    for (name, number) in DEFAULT {
        let found = device(&facts, name);
        assert_eq!(found["type"], "CharacterDevice", "{name}");
        assert_eq!(found["device"], number, "{name}");
        assert_eq!(found["mode"], "0666", "{name}");
        assert_eq!(
            (&found["uid"], &found["gid"]),
            (&json!(0), &json!(0)),
            "{name}"
        );
    }
}

fn the_default_links_are_there(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        assert_eq!(device(&facts, name)["target"], target, "{name}");
    }
}

fn devices_can_be_used(lab: &Lab) {
    let paths = [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
    ];
    let opened = lab
        .run(&lab.bundle_of(&[&["open", "r"], &paths[..]].concat()))
        .json();
    for path in paths {
        assert_eq!(opened[path], "ok", "{path}");
    }
    let output = lab.run(&lab.bundle_of(&["write-file", "/dev/full", "text"]));
    assert_eq!(output.stderr(), "ENOSPC\n", "{output}");
}

fn a_configured_device_is_made_or_refused_by_name(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/deep/pipe", "type": "p", "fileMode": 0o600},
    ]);
    if lab.refuses(&bundle, "linux.devices") {
        return;
    }
    let facts = lab.facts(&bundle);
    let mine = device(&facts, "mine");
    assert_eq!(mine["device"], "1:5");
    assert_eq!(mine["mode"], "0640");
    assert_eq!((&mine["uid"], &mine["gid"]), (&json!(7), &json!(8)));
    bundle.probe(&["stat", "/dev/deep/pipe"]);
    assert_eq!(lab.run(&bundle).json()["/dev/deep/pipe"]["type"], "Fifo");
}

/// A bundle with a node of the kernel's log in its root, under these rules after the usual
/// ones, that tries to open it.
fn log_under(lab: &Lab, mode: &str, rules: &[Value]) -> Bundle {
    let mut bundle = lab.bundle_of(&["open", mode, "/log", "/dev/null"]);
    let path = bundle.rootfs().join("log");
    let (kind, device) = (FileType::CharacterDevice, rustix::fs::makedev(1, 11));
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).expect("the lane may");
    for rule in rules {
        bundle.push("/linux/resources/devices", rule.clone());
    }
    bundle
}

fn a_device_that_is_not_allowed_gives_eperm(lab: &Lab) {
    let opened = lab.run(&log_under(lab, "w", &[])).json();
    assert_eq!(opened, json!({"/log": "EPERM", "/dev/null": "ok"}));
}

fn a_device_is_allowed_for_the_access_given(lab: &Lab) {
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"});
    for (mode, outcome) in [("w", "ok"), ("r", "EPERM")] {
        let opened = lab
            .run(&log_under(lab, mode, std::slice::from_ref(&rule)))
            .json();
        assert_eq!(opened["/log"], outcome, "{mode}");
    }
}

fn a_later_device_rule_wins(lab: &Lab) {
    let all = json!({"allow": true, "type": "c", "major": 1, "access": "rwm"});
    let none = json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"});
    for (rules, outcome) in [([&all, &none], "EPERM"), ([&none, &all], "ok")] {
        let rules = rules.map(Clone::clone);
        let opened = lab.run(&log_under(lab, "w", &rules)).json();
        assert_eq!(opened["/log"], outcome, "{rules:?}");
    }
}

fn there_is_no_console_without_a_terminal(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    assert!(facts::find(&facts["dev"], "name", "console").is_none());
}

fn there_are_no_other_devices(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    let known = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    let names: Vec<_> = facts["dev"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| &e["name"])
        .collect();
    // runc links /proc/kcore to /dev/core where the host has it.
    let names: Vec<_> = names
        .into_iter()
        .filter(|name| **name != json!("core"))
        .collect();
    assert_eq!(
        names,
        known.map(|name| json!(name)).iter().collect::<Vec<_>>()
    );
}

fn in_a_user_namespace_the_default_devices_are_there_too(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.give_to(100_000).expect("root may");
    let facts = lab.facts(&bundle);
    for (name, number) in DEFAULT {
        assert_eq!(device(&facts, name)["device"], number, "{name}");
    }
}

fn without_a_mount_on_dev_the_devices_are_in_the_roots_own(lab: &Lab) {
    let mut bundle = lab.bundle();
    for point in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(point);
    }
    let facts = lab.facts(&bundle);
    for (name, number) in DEFAULT {
        assert_eq!(device(&facts, name)["device"], number, "{name}");
    }
    assert!(facts::find(&facts["mounts"], "point", "/dev").is_none());
}

fn a_device_that_is_not_allowed_can_not_be_opened(lab: &Lab) {
    // fuse(4), which anybody may open where no rule is against it.
    let bundle = lab.bundle_of(&["open", "r", "/fuse", "/null"]);
    for (name, major, minor) in [("fuse", 10, 229), ("null", 1, 3)] {
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let device = rustix::fs::makedev(major, minor);
        let kind = rustix::fs::FileType::CharacterDevice;
        let path = bundle.rootfs().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, device).expect("root may");
        // The umask took some away.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("ours");
    }
    let opened = lab.run(&bundle).json();
    assert_eq!(opened, json!({"/fuse": "EPERM", "/null": "ok"}));
}
