//! What is allowed, and weakens the container.

use std::path::Path;

use super::Findings;
use crate::plan::{is_bind, is_read_only};
use crate::spec::{Linux, NamespaceKind, Process, Spec};

/// Capabilities that are as good as root on the host, or nearly, and what they give.
const CAPABILITIES: [(&str, &str); 9] = [
    (
        "CAP_SYS_ADMIN",
        "mounts, namespaces, and most of what root may",
    ),
    ("CAP_SYS_MODULE", "code in the kernel"),
    ("CAP_SYS_RAWIO", "the machine's memory and ports"),
    ("CAP_SYS_BOOT", "a reboot of the machine"),
    ("CAP_SYS_TIME", "the clock of the machine"),
    ("CAP_SYS_PTRACE", "the memory of every process it sees"),
    (
        "CAP_DAC_READ_SEARCH",
        "any file of the file systems it has one of",
    ),
    ("CAP_BPF", "programs in the kernel"),
    ("CAP_MAC_ADMIN", "the rules of the security module"),
];

/// Sockets of whoever rules the host.
const SOCKETS: [&str; 6] = [
    "docker.sock",
    "containerd.sock",
    "podman.sock",
    "crio.sock",
    "dockershim.sock",
    "system_bus_socket",
];

/// Directories of the host whose files are as good as root.
const PRECIOUS: [&str; 9] = [
    "/",
    "/etc",
    "/root",
    "/boot",
    "/dev",
    "/proc",
    "/sys",
    "/usr",
    "/var/run/docker.sock",
];

pub(super) fn check(found: &mut Findings, spec: &Spec) {
    let in_user_namespace = spec.namespace(NamespaceKind::User).is_some();
    if let Some(process) = &spec.process {
        capabilities(found, process, in_user_namespace);
        if !process.no_new_privileges {
            let text = "programs with set-uid bits or file capabilities gain privileges";
            found.warning("process.noNewPrivileges", text);
        }
    }
    namespaces(found, spec, in_user_namespace);
    mounts(found, spec, in_user_namespace);
    if let Some(linux) = &spec.linux {
        confinement(found, linux, spec, in_user_namespace);
        resources(found, linux);
    }
}

fn capabilities(found: &mut Findings, process: &Process, in_user_namespace: bool) {
    let Some(sets) = process.capabilities.as_ref().filter(|_| !in_user_namespace) else {
        return;
    };
    for (name, gives) in CAPABILITIES {
        if sets.bounding.iter().any(|given| given == name) {
            let text = format!("{name} gives {gives}");
            found.warning("process.capabilities.bounding", text);
        }
    }
    if !sets.ambient.is_empty() && process.user.uid != 0 {
        let text = format!("every program has {}", sets.ambient.join(", "));
        found.warning("process.capabilities.ambient", text);
    }
}

fn namespaces(found: &mut Findings, spec: &Spec, in_user_namespace: bool) {
    let shared = [
        (
            NamespaceKind::Mount,
            "mounts of the host are the container's own",
        ),
        (NamespaceKind::Pid, "it sees every process of the host"),
        (
            NamespaceKind::Network,
            "it has the interfaces and abstract sockets of the host",
        ),
        (NamespaceKind::Ipc, "it has the shared memory of the host"),
        (NamespaceKind::Uts, "it can rename the host if it may"),
    ];
    for (kind, text) in shared {
        if spec.namespace(kind).is_none() {
            found.warning("linux.namespaces", format!("no {kind} namespace: {text}"));
        }
    }
    let root = spec
        .process
        .as_ref()
        .is_some_and(|process| process.user.uid == 0);
    if root && !in_user_namespace && spec.namespace(NamespaceKind::Cgroup).is_none() {
        let text = "no cgroup namespace: it sees the paths of the host's cgroups";
        found.warning("linux.namespaces", text);
    }
}

fn mounts(found: &mut Findings, spec: &Spec, in_user_namespace: bool) {
    for (index, mount) in spec.mounts.iter().enumerate() {
        let place = format!("mounts[{index}]");
        let source = mount.source.as_deref().unwrap_or_default();
        let name = Path::new(source).file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| SOCKETS.contains(&name)) {
            let text = format!("{source}: whoever may use this socket rules the host");
            found.warning(format!("{place}.source"), text);
        } else if is_bind(mount) && PRECIOUS.contains(&source) && !is_read_only(mount) {
            let text = format!("{source}: files of the host that the container may change");
            found.warning(format!("{place}.source"), text);
        }
        if mount.kind.as_deref() == Some("sysfs") && !is_read_only(mount) && !in_user_namespace {
            found.warning(format!("{place}.options"), "sysfs that may be written to");
        }
        let shares = mount
            .options
            .iter()
            .find(|word| matches!(word.as_str(), "shared" | "rshared"));
        if let Some(word) = shares.filter(|_| is_bind(mount)) {
            let text = format!("{word}: what the container mounts there appears on the host");
            found.warning(format!("{place}.options"), text);
        }
    }
}

fn confinement(found: &mut Findings, linux: &Linux, spec: &Spec, in_user_namespace: bool) {
    match &linux.seccomp {
        None => found.warning("linux.seccomp", "every system call is allowed"),
        Some(profile) => {
            let all = profile.seccomp().is_ok_and(|filter| {
                filter.default_action.name() == "SCMP_ACT_ALLOW" && filter.syscalls.is_empty()
            });
            if all {
                found.warning("linux.seccomp", "the profile allows every system call");
            }
        }
    }
    let root = spec
        .process
        .as_ref()
        .is_some_and(|process| process.user.uid == 0);
    let has_proc = spec
        .mounts
        .iter()
        .any(|mount| mount.kind.as_deref() == Some("proc"));
    if !root || in_user_namespace || !has_proc {
        return;
    }
    let paths = [
        ("/proc/sys", "settings of the kernel"),
        ("/proc/sysrq-trigger", "keys of the machine's console"),
        ("/proc/irq", "interrupts"),
        ("/proc/bus", "devices on the buses"),
    ];
    let protected = |path: &str| {
        let all = linux.readonly_paths.iter().chain(&linux.masked_paths);
        all.into_iter()
            .any(|given| Path::new(path).starts_with(given))
    };
    for (path, what) in paths {
        if !protected(path) {
            let text = format!("{path} is not in it: root in the container may change {what}");
            found.warning("linux.readonlyPaths", text);
        }
    }
    if !linux.masked_paths.iter().any(|path| path == "/proc/kcore") {
        let text = "/proc/kcore is not in it: the memory of the kernel";
        found.warning("linux.maskedPaths", text);
    }
}

fn resources(found: &mut Findings, linux: &Linux) {
    let resources = linux.resources.as_ref();
    let memory = resources.and_then(|resources| resources.memory.as_ref());
    if memory
        .and_then(|memory| memory.limit)
        .is_none_or(|limit| limit <= 0)
    {
        found.warning(
            "linux.resources.memory.limit",
            "no limit: it may use all memory",
        );
    }
    let pids = resources.and_then(|resources| resources.pids.as_ref());
    if pids
        .and_then(|pids| pids.limit)
        .is_none_or(|limit| limit < 0)
    {
        found.warning(
            "linux.resources.pids.limit",
            "no limit: a fork bomb takes the host along",
        );
    }
    let devices = resources.map_or(&[][..], |resources| &resources.devices);
    for (index, rule) in devices.iter().enumerate() {
        let any = |number: Option<i64>| number.is_none_or(|number| number < 0);
        let every = rule.allow && any(rule.major) && any(rule.minor);
        let later = devices
            .iter()
            .skip(index + 1)
            .any(|later| !later.allow && any(later.major));
        if every && !later && rule.access.as_deref().unwrap_or("rwm").contains(['r', 'w']) {
            let text = "every device of the host may be opened";
            found.warning(format!("linux.resources.devices[{index}]"), text);
        }
    }
    for (index, device) in linux.devices.iter().enumerate() {
        if device.kind == "b" {
            let text = format!("{}: a disk of the host", device.path);
            found.warning(format!("linux.devices[{index}]"), text);
        }
    }
}
