//! `linux.sysctl`: kernel parameters of the container's own namespaces, and no others.
//!
//! See sysctl(8) and sysctl.d(5) for the two ways to write a key; proc_sys(5). Which keys
//! are of a namespace is not known to the kernel's interface: the list is runc's.

use super::{Context, PlanError, Step, procfs};
use crate::spec::{NamespaceKind, member, quoted};

/// Those of an IPC namespace, besides `fs/mqueue/`.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// All writes, in the order of their keys.
pub(super) fn sysctl(cx: &Context<'_>) -> Result<Vec<Step>, PlanError> {
    let linux = cx.spec.linux.as_ref();
    let keys = linux.into_iter().flat_map(|linux| &linux.sysctl);
    keys.map(|(key, value)| {
        let origin = member("linux.sysctl", key);
        let path = path(key);
        if let Some(why) = refusal(cx, &path) {
            let text = format!("sysctl {} {why}", quoted(key));
            return Err(PlanError::value("linux.sysctl", text));
        }
        let what = format!("set {path} to {}", quoted(value));
        let path = format!("sys/{path}");
        Ok(procfs::write(&path, value, origin, what))
    })
    .collect()
}

/// The path below /proc/sys. The first separator tells which one separates; the other one
/// stands for itself, as in `net/ipv4/conf/eth0.100/forwarding`.
fn path(key: &str) -> String {
    if key
        .find(['.', '/'])
        .is_some_and(|at| key[at..].starts_with('/'))
    {
        return key.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swap).collect()
}

/// Why this parameter is not the container's to set; in runc's words, as far as it has some.
fn refusal(cx: &Context<'_>, path: &str) -> Option<&'static str> {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if !path.split('/').all(plain) {
        return Some("is no name of a kernel parameter");
    }
    let own = |kind| cx.other_namespace(kind);
    if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        let text = "is not allowed in the hosts ipc namespace";
        return (!own(NamespaceKind::Ipc)).then_some(text);
    }
    if path.starts_with("net/") {
        let text = "is not allowed in the hosts network namespace";
        return (!own(NamespaceKind::Network)).then_some(text);
    }
    match path {
        "kernel/domainname" if own(NamespaceKind::Uts) => None,
        "kernel/hostname" if own(NamespaceKind::Uts) => {
            Some("is not allowed as it conflicts with the OCI \"hostname\" field")
        }
        _ => Some("is not in a separate kernel namespace"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_of_a_key_is_the_one_that_separates() {
        for (key, wanted) in [
            ("kernel.sem", "kernel/sem"),
            ("kernel/sem", "kernel/sem"),
            (
                "net.ipv4.conf.eth0/100.rp_filter",
                "net/ipv4/conf/eth0.100/rp_filter",
            ),
            (
                "net/ipv4/conf/eth0.100/rp_filter",
                "net/ipv4/conf/eth0.100/rp_filter",
            ),
            ("plain", "plain"),
            ("net.//.x", "net/../x"),
            ("", ""),
        ] {
            assert_eq!(path(key), wanted, "{key}");
        }
    }
}
