//! The config.json that `spec` writes: a shell in a read-only rootfs.
//!
//! The same as runc's, so that scripts which edit it with jq or sed go on working.

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceKind, OCI_VERSION,
    Process, Resources, Rlimit, Root, Spec,
};

/// A container for root: all namespaces but user and time, no access to devices beyond the usual.
pub fn default_spec() -> Spec {
    Spec {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(process().into()),
        root: Some(Root {
            path: "rootfs".to_owned(),
            readonly: true,
        }),
        hostname: Some("runc".to_owned()),
        mounts: mounts(),
        linux: Some(linux().into()),
        ..Spec::default()
    }
}

/// A container for anyone: a user namespace where only the given ids exist, as root; the host's
/// network, no cgroup limits.
///
/// `uid` and `gid` are those of the caller, outside.
pub fn rootless_spec(uid: u32, gid: u32) -> Spec {
    let mut spec = default_spec();
    let linux = spec.linux.get_or_insert_default();
    linux
        .namespaces
        .retain(|ns| ns.kind != NamespaceKind::Network);
    linux.namespaces.push(namespace(NamespaceKind::User));
    linux.uid_mappings = vec![IdMapping {
        container_id: 0,
        host_id: uid,
        size: 1,
    }];
    linux.gid_mappings = vec![IdMapping {
        container_id: 0,
        host_id: gid,
        size: 1,
    }];
    linux.resources = None;
    for mount in &mut spec.mounts {
        // A sysfs can only be mounted by who owns the network namespace.
        if mount.destination == "/sys" {
            *mount = self::mount("/sys", "none", "/sys", "rbind,nosuid,noexec,nodev,ro");
        }
        mount
            .options
            .retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
    }
    spec
}

/// The spec as `runc spec` would write it: indented with tabs, no line break at the end.
pub fn to_json(spec: &Spec) -> String {
    json(spec)
}

/// One form for all: each more is another copy of the serialiser.
pub(super) fn json(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"\t"));
    value
        .serialize(&mut serializer)
        .expect("texts, numbers and text keys always serialise");
    String::from_utf8(out).expect("serde_json writes UTF-8")
}

fn process() -> Process {
    let capabilities = words("CAP_AUDIT_WRITE,CAP_KILL,CAP_NET_BIND_SERVICE");
    Process {
        terminal: true,
        args: words("sh"),
        env: vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "TERM=xterm".to_owned(),
        ],
        cwd: "/".to_owned(),
        capabilities: Some(Capabilities {
            bounding: capabilities.clone(),
            effective: capabilities.clone(),
            permitted: capabilities,
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit {
            kind: "RLIMIT_NOFILE".to_owned(),
            hard: 1024,
            soft: 1024,
        }],
        no_new_privileges: true,
        ..Process::default()
    }
}

fn mounts() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", ""),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            "nosuid,strictatime,mode=755,size=65536k",
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            "nosuid,noexec,nodev,mode=1777,size=65536k",
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            "nosuid,noexec,nodev,relatime,ro",
        ),
    ]
}

fn linux() -> Linux {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    Linux {
        resources: Some(Box::new(Resources {
            devices: vec![DeviceRule {
                access: Some("rwm".to_owned()),
                ..DeviceRule::default()
            }],
            ..Resources::default()
        })),
        namespaces: [Pid, Network, Ipc, Uts, Mount, Cgroup]
            .map(namespace)
            .into(),
        masked_paths: words(
            "/proc/acpi,/proc/asound,/proc/kcore,/proc/keys,/proc/latency_stats,\
             /proc/timer_list,/proc/timer_stats,/proc/sched_debug,/sys/firmware,/proc/scsi",
        ),
        readonly_paths: words("/proc/bus,/proc/fs,/proc/irq,/proc/sys,/proc/sysrq-trigger"),
        ..Linux::default()
    }
}

fn namespace(kind: NamespaceKind) -> Namespace {
    Namespace { kind, path: None }
}

fn mount(destination: &str, kind: &str, source: &str, options: &str) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: words(options),
        ..Mount::default()
    }
}

/// A list from words with commas between them.
fn words(list: &str) -> Vec<String> {
    list.split(',')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}
