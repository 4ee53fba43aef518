//! The built-in bundles: what `spec` writes, with one thing changed each.

use serde_json::json;

use crate::bundle::Bundle;

/// Changes a fresh bundle.
type Edit = fn(&mut Bundle);

/// Every bundle: its name and what is changed.
pub(super) const BUNDLES: &[(&str, Edit)] = &[
    ("default", |_| {}),
    ("writable-root", |b| {
        b.config["root"]["readonly"] = json!(false)
    }),
    ("user", |b| {
        set(b, "user", json!({"uid": 1000, "gid": 1001}))
    }),
    ("groups", |b| {
        set(
            b,
            "user",
            json!({"uid": 1000, "gid": 1001, "additionalGids": [2000, 10]}),
        );
    }),
    ("root-with-groups", |b| {
        set(
            b,
            "user",
            json!({"uid": 0, "gid": 0, "additionalGids": [5, 6]}),
        );
    }),
    ("umask", |b| {
        b.config["process"]["user"]["umask"] = json!(0o027)
    }),
    ("no-capabilities", |b| set(b, "capabilities", json!({}))),
    ("ambient", |b| {
        set(b, "user", json!({"uid": 1000, "gid": 1000}));
        b.capabilities(&["CAP_KILL", "CAP_CHOWN"]);
    }),
    ("new-privileges", |b| {
        set(b, "noNewPrivileges", json!(false))
    }),
    ("rlimits", |b| {
        let core = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
        let files = json!({"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128});
        set(b, "rlimits", json!([core, files]));
    }),
    ("no-rlimits", |b| set(b, "rlimits", json!([]))),
    ("oom-score", |b| set(b, "oomScoreAdj", json!(500))),
    ("environment", |b| {
        set(b, "env", json!(["PATH=/bin", "A=1", "A=2", "EMPTY="]))
    }),
    ("no-environment", |b| set(b, "env", json!([]))),
    ("home", |b| set(b, "env", json!(["HOME=/mine"]))),
    ("cwd", |b| set(b, "cwd", json!("/tmp"))),
    ("hostname", |b| b.config["hostname"] = json!("other")),
    ("domainname", |b| {
        b.config["domainname"] = json!("example.org")
    }),
    ("host-network", |b| {
        b.without_namespace("network").without_mount("/sys");
        b.without_mount("/sys/fs/cgroup");
    }),
    ("host-pid", |b| {
        b.without_namespace("pid");
    }),
    ("host-ipc", |b| {
        b.without_namespace("ipc").without_mount("/dev/mqueue");
    }),
    ("host-uts", |b| {
        b.without_namespace("uts").config["hostname"].take();
    }),
    ("host-cgroup", |b| {
        b.without_namespace("cgroup")
            .without_mount("/sys/fs/cgroup");
    }),
    ("host-cgroup-mounted", |b| {
        b.without_namespace("cgroup");
    }),
    ("user-namespace", user_namespace),
    ("no-masks", |b| b.config["linux"]["maskedPaths"] = json!([])),
    ("no-readonly-paths", |b| {
        b.config["linux"]["readonlyPaths"] = json!([])
    }),
    ("no-dev", |b| {
        for point in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
            b.without_mount(point);
        }
    }),
    ("tmpfs", |b| {
        mount(
            b,
            json!({
                "destination": "/scratch", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "size=1m", "mode=1700"],
            }),
        );
    }),
    ("read-only-tmpfs", |b| {
        mount(
            b,
            json!({
                "destination": "/scratch", "type": "tmpfs", "source": "none",
                "options": ["ro", "noatime", "nodiratime"],
            }),
        );
    }),
    ("bind", |b| bind(b, json!(["bind", "nosuid", "noexec"]))),
    ("read-only-bind", |b| bind(b, json!(["rbind", "ro"]))),
    ("private-bind", |b| {
        bind(b, json!(["rbind", "rprivate", "nodev", "relatime"]))
    }),
    ("slave-bind", |b| {
        bind(b, json!(["rbind", "rslave", "strictatime"]))
    }),
    ("private-propagation", |b| {
        b.config["linux"]["rootfsPropagation"] = json!("private")
    }),
    ("recursively-private-propagation", |b| {
        bind(b, json!(["rbind"]));
        b.config["linux"]["rootfsPropagation"] = json!("rprivate");
    }),
    ("slave-propagation", |b| {
        bind(b, json!(["rbind"]));
        b.config["linux"]["rootfsPropagation"] = json!("slave");
    }),
    ("recursive-slave-propagation", |b| {
        bind(b, json!(["rbind"]));
        b.config["linux"]["rootfsPropagation"] = json!("rslave");
    }),
    ("shared-propagation", |b| {
        bind(b, json!(["rbind"]));
        b.config["linux"]["rootfsPropagation"] = json!("shared");
    }),
    ("recursively-shared-propagation", |b| {
        bind(b, json!(["rbind"]));
        b.config["linux"]["rootfsPropagation"] = json!("rshared");
    }),
    ("unbindable-propagation", |b| {
        bind(b, json!(["rbind"]));
        b.config["linux"]["rootfsPropagation"] = json!("unbindable");
    }),
    ("cgroup-path", |b| {
        b.config["linux"]["cgroupsPath"] = json!("/else/where")
    }),
    ("device", |b| {
        let device = json!({
            "path": "/dev/deep/fuse", "type": "c", "major": 10, "minor": 229,
            "fileMode": 0o640, "uid": 5, "gid": 6,
        });
        b.push("/linux/devices", device);
    }),
    ("time-namespace", |b| {
        b.push("/linux/namespaces", json!({"type": "time"}));
        let day = json!({"secs": 86_400, "nanosecs": 0});
        b.config["linux"]["timeOffsets"] = json!({"monotonic": day, "boottime": day});
    }),
    ("tmpfs-copy-up", |b| {
        drop(b.file("scratch/kept", "text"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
        drop(std::fs::set_permissions(b.rootfs().join("scratch"), mode));
        mount(
            b,
            json!({
                "destination": "/scratch", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "tmpcopyup"],
            }),
        );
    }),
    ("sysctl", |b| {
        b.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"});
    }),
    ("filter", |b| {
        b.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO"}],
        });
    }),
    ("masks", |b| {
        for file in ["secret/file", "frozen/file", "alone"] {
            drop(b.file(file, "text"));
        }
        b.push("/linux/maskedPaths", json!("/secret"));
        b.push("/linux/maskedPaths", json!("/alone"));
        b.push("/linux/maskedPaths", json!("/missing"));
        b.push("/linux/readonlyPaths", json!("/frozen"));
        b.push("/linux/readonlyPaths", json!("/etc/passwd"));
    }),
    ("user-namespace-devices", |b| {
        user_namespace(b);
        b.push(
            "/linux/devices",
            json!({"path": "/dev/full", "type": "c", "major": 1, "minor": 7}),
        );
    }),
    ("user-namespace-bind", |b| {
        user_namespace(b);
        bind(b, json!(["rbind", "ro"]));
    }),
    ("user-namespace-host-network", |b| {
        user_namespace(b);
        b.without_namespace("network").without_mount("/sys");
        b.without_mount("/sys/fs/cgroup");
    }),
    ("recursive-attributes", |b| {
        bind(b, json!(["rbind", "rro", "rnosuid", "rnoatime"]))
    }),
    ("several-tmpfs", |b| {
        for (place, options) in [
            ("/run", json!(["nosuid", "nodev", "mode=755", "size=64k"])),
            ("/tmp", json!(["nosuid", "nodev", "mode=1777"])),
            ("/run/lock", json!(["noexec", "uid=5", "gid=6"])),
        ] {
            let tmpfs = json!({
                "destination": place, "type": "tmpfs", "source": "tmpfs", "options": options,
            });
            mount(b, tmpfs);
        }
    }),
    ("new-cwd", |b| set(b, "cwd", json!("/not/there/yet"))),
    ("writable-cgroup", |b| {
        b.without_mount("/sys/fs/cgroup");
        mount(
            b,
            json!({
                "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "rw"],
            }),
        );
    }),
    ("personality", |b| {
        b.config["linux"]["personality"] = json!({"domain": "LINUX32"})
    }),
    ("scheduler", |b| {
        set(b, "scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}))
    }),
    ("io-priority", |b| {
        let priority = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        set(b, "ioPriority", priority);
    }),
    ("relative-destination", |b| {
        mount(
            b,
            json!({
                "destination": "scratch", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "mode=755"],
            }),
        );
    }),
    ("mount-through-a-link", |b| {
        drop(std::os::unix::fs::symlink("tmp", b.rootfs().join("link")));
        mount(
            b,
            json!({
                "destination": "/link/scratch", "type": "tmpfs", "source": "tmpfs",
                "options": ["nodev", "mode=700"],
            }),
        );
    }),
    ("bound-file", |b| {
        drop(b.file("etc/hosts", "127.0.0.1 localhost\n"));
        let hosts = b.rootfs().join("etc/passwd");
        let hosts = json!({
            "destination": "/etc/hosts", "type": "bind", "source": hosts,
            "options": ["bind", "ro", "nosuid", "nodev"],
        });
        mount(b, hosts);
    }),
    ("several-maps", |b| {
        user_namespace(b);
        let maps = json!([
            {"containerID": 0, "hostID": 100_000, "size": 1000},
            {"containerID": 1000, "hostID": 200_000, "size": 1},
            {"containerID": 1001, "hostID": 101_001, "size": 60_000},
        ]);
        b.config["linux"]["uidMappings"] = maps.clone();
        b.config["linux"]["gidMappings"] = maps;
        set(b, "user", json!({"uid": 1000, "gid": 1000}));
    }),
    ("cgroup-with-limits-of-files", |b| {
        b.config["linux"]["resources"]["unified"] = json!({"cgroup.max.descendants": "5"});
        b.config["linux"]["cgroupsPath"] = json!("/limited");
    }),
    ("no-mounts", |b| {
        b.config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    }),
];

fn set(bundle: &mut Bundle, field: &str, value: serde_json::Value) {
    bundle.config["process"][field] = value;
}

fn user_namespace(bundle: &mut Bundle) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    // The bundle is this process's own, which is root.
    drop(bundle.give_to(100_000));
}

fn mount(bundle: &mut Bundle, mount: serde_json::Value) {
    bundle.push("/mounts", mount);
}

fn bind(bundle: &mut Bundle, options: serde_json::Value) {
    mount(
        bundle,
        json!({"destination": "/bound", "type": "bind", "source": "/run/tmp", "options": options}),
    );
}
