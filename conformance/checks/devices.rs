//! The default devices and links of the specification, and /dev as a whole.

use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::{Need, checks};
use crate::facts;
use crate::lab::Lab;

checks!("devices":
    the_default_devices_are_the_real_ones,
    the_default_links_are_there,
    devices_can_be_used,
    a_configured_device_has_its_number_mode_and_owner,
    every_type_of_device_is_made,
    a_device_below_a_missing_folder_or_outside_of_dev_is_made,
    a_configured_device_takes_the_place_of_a_default_one,
    a_device_that_can_not_be_made_is_named,
    a_device_of_an_unknown_type_is_refused,
    a_device_on_ptmx_gives_way_to_the_link,
    ptmx_of_the_image_becomes_the_link_to_the_containers_own,
    a_device_is_made_outside_of_a_bound_dev_only,
    a_device_below_a_link_of_the_image_stays_inside_the_root,
    in_a_user_namespace_a_configured_device_is_the_hosts,
    in_a_user_namespace_a_device_that_the_host_lacks_is_named,
    in_a_user_namespace_a_fifo_is_made,
    dev_of_the_image_as_a_link_hurts_nothing_outside [Need::Machine],
    null_of_the_image_as_a_link_is_no_source_of_a_mask [Need::Machine],
    a_device_that_is_not_allowed_gives_eperm,
    a_device_is_allowed_for_the_access_given,
    a_later_device_rule_wins,
    device_rules_need_no_locked_memory,
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

/// A bundle with these devices that prints what the paths are.
fn with_devices(lab: &Lab, devices: Value, paths: &[&str]) -> Bundle {
    let mut bundle = lab.bundle_of(&[&["stat"], paths].concat());
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["devices"] = devices;
    bundle
}

fn a_configured_device_has_its_number_mode_and_owner(lab: &Lab) {
    let devices = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/plain", "type": "c", "major": 1, "minor": 5},
    ]);
    let bundle = with_devices(lab, devices, &["/dev/mine", "/dev/plain"]);
    let stat = lab.run(&bundle).json();
    let (mine, plain) = (&stat["/dev/mine"], &stat["/dev/plain"]);
    assert_eq!(
        (&mine["device"], &mine["mode"]),
        (&json!("1:5"), &json!("0640"))
    );
    assert_eq!((&mine["uid"], &mine["gid"]), (&json!(7), &json!(8)));
    assert_eq!(
        (&plain["device"], &plain["mode"]),
        (&json!("1:5"), &json!("0666"))
    );
    assert_eq!((&plain["uid"], &plain["gid"]), (&json!(0), &json!(0)));
}

fn every_type_of_device_is_made(lab: &Lab) {
    let types = [
        ("b", "BlockDevice", json!("7:63")),
        ("c", "CharacterDevice", json!("7:63")),
        ("u", "CharacterDevice", json!("7:63")),
        ("p", "Fifo", json!(null)),
    ];
    for (word, kind, number) in types {
        let mut devices = json!([{"path": "/dev/x", "type": word, "major": 7, "minor": 63}]);
        if word == "p" {
            devices = json!([{"path": "/dev/x", "type": word}]);
        }
        let stat = lab.run(&with_devices(lab, devices, &["/dev/x"])).json();
        assert_eq!(stat["/dev/x"]["type"], kind, "{word}");
        assert_eq!(stat["/dev/x"]["device"], number, "{word}");
    }
}

fn a_device_below_a_missing_folder_or_outside_of_dev_is_made(lab: &Lab) {
    let paths = ["/dev/deep/er/one", "/dev/deep/two", "/srv/three", "/four"];
    let devices = paths.map(|path| json!({"path": path, "type": "c", "major": 1, "minor": 5}));
    let stat = lab.run(&with_devices(lab, devices.into(), &paths)).json();
    for path in paths {
        assert_eq!(stat[path]["device"], "1:5", "{path}");
    }
}

fn a_configured_device_takes_the_place_of_a_default_one(lab: &Lab) {
    let devices = json!([
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "gid": 9},
        {"path": "/dev/tty", "type": "c", "major": 1, "minor": 5},
    ]);
    let stat = lab
        .run(&with_devices(lab, devices, &["/dev/null", "/dev/tty"]))
        .json();
    let null = &stat["/dev/null"];
    assert_eq!(
        (&null["device"], &null["mode"]),
        (&json!("1:3"), &json!("0600"))
    );
    assert_eq!(null["gid"], 9);
    assert_eq!(stat["/dev/tty"]["device"], "1:5");
}

fn a_device_that_can_not_be_made_is_named(lab: &Lab) {
    let devices = json!([
        {"path": "/dev/fine", "type": "c", "major": 1, "minor": 5},
        {"path": "/etc/passwd/x", "type": "c", "major": 1, "minor": 5},
    ]);
    let output = lab.run(&with_devices(lab, devices, &[]));
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let text = output.stderr();
        let expected = "corten: linux.devices[1]: open /etc/passwd: not a directory";
        assert!(text.starts_with(expected), "{output}");
    }
}

fn a_device_of_an_unknown_type_is_refused(lab: &Lab) {
    let devices = json!([{"path": "/dev/x", "type": "x", "major": 1, "minor": 5}]);
    let output = lab.run(&with_devices(lab, devices, &["/dev/x"]));
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let expected = "corten: linux.devices[0].type: \"x\" is unknown, expected b, c, u or p";
        assert_eq!(output.stderr().trim_end(), expected);
    }
}

fn a_device_on_ptmx_gives_way_to_the_link(lab: &Lab) {
    let devices = json!([{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}]);
    let stat = lab.run(&with_devices(lab, devices, &["/dev/ptmx"])).json();
    assert_eq!(stat["/dev/ptmx"]["target"], "pts/ptmx");
}

fn ptmx_of_the_image_becomes_the_link_to_the_containers_own(lab: &Lab) {
    let mut bundle = with_devices(lab, json!([]), &["/dev/ptmx"]);
    for point in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(point);
    }
    let path = bundle.rootfs().join("dev/ptmx");
    std::os::unix::fs::symlink("/somewhere/else", path).expect("a fresh root");
    assert_eq!(lab.run(&bundle).json()["/dev/ptmx"]["target"], "pts/ptmx");
}

fn a_device_is_made_outside_of_a_bound_dev_only(lab: &Lab) {
    let devices = json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5}]);
    let mut bundle = with_devices(lab, devices, &["/dev/mine", "/dev/null"]);
    for point in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(point);
    }
    let mount =
        json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]});
    bundle.push("/mounts", mount);
    let stat = lab.run(&bundle).json();
    assert_eq!(stat["/dev/mine"]["error"], "ENOENT");
    assert_eq!(stat["/dev/null"]["device"], "1:3");
    assert!(!std::path::Path::new("/dev/mine").exists());
}

fn a_device_below_a_link_of_the_image_stays_inside_the_root(lab: &Lab) {
    let victim = lab.folder().join("victim");
    std::fs::create_dir(&victim).expect("the lab is writable");
    let devices = json!([{"path": "/link/x", "type": "p"}]);
    let inside = format!("{}/x", victim.display());
    let bundle = with_devices(lab, devices, &[&inside]);
    std::os::unix::fs::symlink(&victim, bundle.rootfs().join("link")).expect("a fresh root");
    // What leads out of the root is an error for some, the same name inside for others.
    let output = lab.run(&bundle);
    if output.status.success() {
        assert_eq!(output.json()[&inside]["type"], "Fifo");
    }
    assert_eq!(std::fs::read_dir(&victim).expect("still there").count(), 0);
}

/// Gives the bundle a user namespace whose root is uid 100000 outside.
fn with_user_namespace(bundle: &mut Bundle) {
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.give_to(100_000).expect("root may");
}

/// Makes a node in the lane's own /dev.
fn host_node(name: &str, minor: u32) {
    let path = std::path::Path::new("/dev").join(name);
    let device = rustix::fs::makedev(1, minor);
    mknodat(
        CWD,
        &path,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        device,
    )
    .expect("the lane may");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("ours");
}

fn in_a_user_namespace_a_configured_device_is_the_hosts(lab: &Lab) {
    host_node("mine", 5);
    let devices = json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5}]);
    let mut bundle = with_devices(lab, devices, &["/dev/mine"]);
    with_user_namespace(&mut bundle);
    assert_eq!(lab.run(&bundle).json()["/dev/mine"]["device"], "1:5");
    bundle.probe(&["open", "r", "/dev/mine"]);
    assert_eq!(lab.run(&bundle).json()["/dev/mine"], "ok");
    std::fs::remove_file("/dev/mine").expect("ours");
}

fn in_a_user_namespace_a_device_that_the_host_lacks_is_named(lab: &Lab) {
    let devices = json!([{"path": "/dev/none", "type": "c", "major": 1, "minor": 5}]);
    let mut bundle = with_devices(lab, devices, &["/dev/none"]);
    with_user_namespace(&mut bundle);
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let expected = "corten: linux.devices[0]: bind the host's /dev/none: no such file";
        assert!(output.stderr().starts_with(expected), "{output}");
        // One that is something else is as bad.
        host_node("none", 7);
        let output = lab.run(&bundle);
        assert!(
            output
                .stderr()
                .contains("is not the device that it should be"),
            "{output}"
        );
        std::fs::remove_file("/dev/none").expect("ours");
    }
}

fn in_a_user_namespace_a_fifo_is_made(lab: &Lab) {
    let devices =
        json!([{"path": "/dev/fifo", "type": "p", "fileMode": 0o640, "uid": 7, "gid": 8}]);
    let mut bundle = with_devices(lab, devices, &["/dev/fifo"]);
    with_user_namespace(&mut bundle);
    let fifo = &lab.run(&bundle).json()["/dev/fifo"];
    assert_eq!(
        (&fifo["type"], &fifo["mode"]),
        (&json!("Fifo"), &json!("0640"))
    );
    assert_eq!((&fifo["uid"], &fifo["gid"]), (&json!(7), &json!(8)));
}

/// CVE-2026-41579, CVE-2026-47766: the links and the removal of ptmx went through it.
fn dev_of_the_image_as_a_link_hurts_nothing_outside(lab: &Lab) {
    let victim = lab.folder().join("victim");
    std::fs::create_dir(&victim).expect("the lab is writable");
    std::fs::write(victim.join("ptmx"), "keep\n").expect("the lab is writable");
    let targets = [
        victim.display().to_string(),
        format!("../../../../../../..{}", victim.display()),
    ];
    for target in &targets {
        for mounted in [true, false] {
            let devices = json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5}]);
            let mut bundle = with_devices(lab, devices, &["/dev/null"]);
            for point in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
                bundle.without_mount(point);
            }
            if !mounted {
                bundle.without_mount("/dev");
            }
            let dev = bundle.rootfs().join("dev");
            std::fs::remove_dir(&dev).expect("a fresh root");
            std::os::unix::fs::symlink(target, &dev).expect("a fresh root");
            let output = lab.run(&bundle);
            if lab.is_corten() {
                assert_eq!(output.ok().json()["/dev/null"]["device"], "1:3");
            }
            let left: Vec<_> = std::fs::read_dir(&victim).expect("still there").collect();
            assert_eq!(left.len(), 1, "{target} {mounted}: {left:?}");
            let text = std::fs::read_to_string(victim.join("ptmx")).expect("kept");
            assert_eq!(text, "keep\n");
        }
    }
}

/// CVE-2025-31133, CVE-2025-62161: a mask was bound from the image's own /dev/null.
fn null_of_the_image_as_a_link_is_no_source_of_a_mask(lab: &Lab) {
    const SETTING: &str = "/proc/sys/kernel/core_pattern";
    let before = std::fs::read_to_string(SETTING).expect("a /proc");
    for readonly in [json!(["/proc/sys"]), json!([])] {
        for mounted in [true, false] {
            let mut bundle = lab.bundle_of(&["write-file", "/secret", "|/evil"]);
            bundle
                .file("secret", "secret")
                .expect("the lab is writable");
            bundle.config["linux"]["maskedPaths"] = json!(["/secret"]);
            bundle.config["linux"]["readonlyPaths"] = readonly.clone();
            let dev = if mounted {
                // A /dev whose null is there before the runtime's nodes.
                let source = lab.folder().join("dev");
                std::fs::create_dir_all(&source).expect("the lab is writable");
                let mount = json!({
                    "destination": "/dev", "type": "bind", "source": source, "options": ["bind"],
                });
                bundle.without_mount("/dev").push("/mounts", mount);
                source
            } else {
                bundle.without_mount("/dev").rootfs().join("dev")
            };
            for point in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
                bundle.without_mount(point);
            }
            let null = dev.join("null");
            if std::fs::symlink_metadata(&null).is_err() {
                std::os::unix::fs::symlink(SETTING, &null).expect("a fresh folder");
            }
            let output = lab.run(&bundle);
            let after = std::fs::read_to_string(SETTING).expect("a /proc");
            if after != before {
                std::fs::write(SETTING, &before).expect("root may");
            }
            assert_eq!(after, before, "{readonly} {mounted}: {output}");
        }
    }
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

fn device_rules_need_no_locked_memory(lab: &Lab) {
    let under = ["prlimit", "--memlock=0:0", "--"];
    let opened = lab.run_under(&under, &log_under(lab, "w", &[])).json();
    assert_eq!(opened, json!({"/log": "EPERM", "/dev/null": "ok"}));
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
    with_user_namespace(&mut bundle);
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
