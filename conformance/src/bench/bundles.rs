//! The bundles that every subject runs: `floor/bundles.rs` has the same as constants.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The names of the three.
pub(super) const KINDS: [&str; 3] = ["minimal", "default", "docker"];

/// floor itself: a static program of a few KiB, and without arguments a `true`.
pub(super) const FLOOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor"));

/// Docker's default profile as it stands in the configuration of an ordinary container: of
/// Docker 20.10, for amd64 and Docker's default capabilities.
const SECCOMP: &str = include_str!("docker-seccomp.json");

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What bundle `kind` has as its config.json. `has` tells whether there is a controller.
pub(super) fn config(kind: &str, args: &[&str], has: &dyn Fn(&str) -> bool) -> Value {
    let mut config = match kind {
        "minimal" => minimal(),
        "default" => default(),
        _ => docker(has),
    };
    config["process"]["args"] = json!(args);
    config
}

/// Writes a bundle whose process is `/true`, with this configuration.
pub(super) fn write(folder: &Path, mut config: Value, probe: &Path) -> Result<PathBuf, String> {
    let told = |error: std::io::Error| format!("{}: {error}", folder.display());
    let rootfs = folder.join("rootfs");
    for name in ["proc", "sys", "dev", "tmp", "etc"] {
        std::fs::create_dir_all(rootfs.join(name)).map_err(told)?;
    }
    for name in ["resolv.conf", "hostname", "hosts"] {
        std::fs::write(folder.join(name), name).map_err(told)?;
        std::fs::write(rootfs.join("etc").join(name), "").map_err(told)?;
    }
    program(&rootfs.join("true"), FLOOR).map_err(told)?;
    std::fs::copy(probe, rootfs.join("probe")).map_err(told)?;
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        if let Some(name) = mount["source"].as_str().filter(|_| mount["type"] == "bind") {
            mount["source"] = json!(folder.join(name));
        }
    }
    let file = folder.join("config.json");
    // As engines write it: without a space.
    std::fs::write(file, config.to_string()).map_err(told)?;
    Ok(folder.to_owned())
}

/// An executable file.
pub(super) fn program(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, contents)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

fn mount(kind: &str, source: &str, target: &str, options: &str) -> Value {
    let options: Vec<&str> = options.split(',').filter(|word| !word.is_empty()).collect();
    json!({"destination": target, "type": kind, "source": source, "options": options})
}

const SAFE: &str = "nosuid,noexec,nodev";

fn dev() -> Value {
    mount(
        "tmpfs",
        "tmpfs",
        "/dev",
        "nosuid,strictatime,mode=755,size=65536k",
    )
}

fn pts() -> Value {
    let options = "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount("devpts", "devpts", "/dev/pts", options)
}

fn shm() -> Value {
    mount(
        "tmpfs",
        "shm",
        "/dev/shm",
        &format!("{SAFE},mode=1777,size=65536k"),
    )
}

fn mqueue() -> Value {
    mount("mqueue", "mqueue", "/dev/mqueue", SAFE)
}

fn sys() -> Value {
    mount("sysfs", "sysfs", "/sys", &format!("{SAFE},ro"))
}

fn cgroup() -> Value {
    mount(
        "cgroup",
        "cgroup",
        "/sys/fs/cgroup",
        &format!("{SAFE},relatime,ro"),
    )
}

fn namespaces(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| json!({"type": kind})).collect()
}

const ALL: [&str; 6] = ["pid", "network", "ipc", "uts", "mount", "cgroup"];

fn capabilities(names: &str) -> Value {
    let names: Vec<String> = names.split(' ').map(|name| format!("CAP_{name}")).collect();
    json!({"bounding": names, "effective": names, "permitted": names})
}

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// As little as all of them accept.
fn minimal() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "env": [PATH], "cwd": "/"},
        "root": {"path": "rootfs"},
        "mounts": [mount("proc", "proc", "/proc", ""), dev()],
        "linux": {"namespaces": namespaces(&["pid", "mount"])},
    })
}

/// What `runc spec` writes, without a terminal.
fn default() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "env": [PATH, "TERM=xterm"], "cwd": "/",
            "capabilities": capabilities("AUDIT_WRITE KILL NET_BIND_SERVICE"),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": [
            mount("proc", "proc", "/proc", ""), dev(), pts(), shm(), mqueue(), sys(), cgroup(),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces(&ALL),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": READ_ONLY,
        },
    })
}

/// What Docker makes of `docker run` without options, but for its network; limits as far as
/// there are controllers.
fn docker(has: &dyn Fn(&str) -> bool) -> Value {
    let bind = |name: &str| {
        json!({
            "destination": format!("/etc/{name}"), "type": "bind",
            "source": name, "options": ["rbind", "rprivate"],
        })
    };
    let seccomp: Value = serde_json::from_str(SECCOMP).expect("the profile is JSON");
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "env": [PATH, "HOSTNAME=docker"], "cwd": "/",
            "capabilities": capabilities(
                "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP \
                 NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE",
            ),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": false,
        },
        "root": {"path": "rootfs"},
        "hostname": "docker",
        "mounts": [
            mount("proc", "proc", "/proc", SAFE), dev(), pts(), sys(), cgroup(), mqueue(), shm(),
            bind("resolv.conf"), bind("hostname"), bind("hosts"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces(&ALL),
            "seccomp": seccomp,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
                "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
            ],
            "readonlyPaths": READ_ONLY,
        },
    });
    let limits = [
        ("memory", json!({"limit": 536_870_912})),
        ("pids", json!({"limit": 1000})),
        ("cpu", json!({"quota": 100_000, "period": 100_000})),
    ];
    for (controller, limit) in limits {
        if has(controller) {
            config["linux"]["resources"][controller] = limit;
            // Not below the bench's own, which has processes and so no controllers to give.
            config["linux"]["cgroupsPath"] = json!("/bench-docker");
        }
    }
    config
}
