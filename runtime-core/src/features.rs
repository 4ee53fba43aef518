//! [`features`]: what this runtime understands, as features.md of the OCI specification has it.
//!
//! Lists name what is recognised, whatever the machine has; `supportedFlags` is the kernel's.

use serde_json::{Value, json};

use crate::host::Host;
use crate::plan::MOUNT_OPTIONS;
use crate::seccomp;
use crate::spec::{Hooks, NamespaceKind, OCI_VERSION, SeccompAction, SeccompOperator, scheduling};

/// The version of runc whose command line and behaviour is followed; scripts ask for it.
const RUNC: &str = "1.5.1";

/// The features document of this build on this machine.
///
/// An object in the shape of `oci_spec::runtime::Features`. What needs a feature of the
/// kernel, such as flags of seccomp(2), is told as this kernel has it.
///
/// ```
/// use corten_core::{features, host::Host};
///
/// let document = features(&Host::probe()?);
/// assert_eq!(document["ociVersionMax"], "1.3.0");
/// # Ok::<(), corten_core::Error>(())
/// ```
#[must_use]
pub fn features(host: &Host) -> Value {
    let enabled = json!({ "enabled": true });
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": Hooks::default().kinds().map(|(kind, _)| kind),
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": NamespaceKind::ALL,
            "capabilities": capabilities(),
            "cgroup": {
                "v1": false,
                "v2": true,
                "systemd": true,
                "systemdUser": false,
                "rdma": true,
            },
            "seccomp": seccomp_features(host),
            "apparmor": enabled,
            "selinux": enabled,
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": names(scheduling::MEMORY_MODES),
                "flags": names(scheduling::MEMORY_FLAGS),
            },
            "mountExtensions": { "idmap": enabled },
            "netDevices": enabled,
        },
        "annotations": {
            "org.opencontainers.runc.version": RUNC,
            "org.opencontainers.runc.checkpoint.enabled": "false",
        },
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],
    })
}

fn names(table: scheduling::Names) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}

fn capabilities() -> Vec<String> {
    let mut all: Vec<caps::Capability> = caps::all().into_iter().collect();
    all.sort_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

fn seccomp_features(host: &Host) -> Value {
    let flags = seccomp::KNOWN_FLAGS;
    let bits = host.seccomp_flags.unwrap_or_default();
    let supported = flags.iter().filter(|(_, bit)| bits & bit != 0);
    json!({
        "enabled": true,
        "actions": SeccompAction::ALL.map(SeccompAction::name),
        "operators": SeccompOperator::ALL,
        "archs": seccomp::architectures(),
        "knownFlags": flags.map(|(name, _)| name),
        "supportedFlags": supported.map(|(name, _)| *name).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_one_that_other_programs_can_read() {
        let host = Host::probe().unwrap();
        let read: oci_spec::runtime::Features = serde_json::from_value(features(&host)).unwrap();
        let linux = read.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 8);
        assert_eq!(linux.capabilities().as_ref().unwrap().len(), 41);
        assert_eq!(linux.capabilities().as_ref().unwrap()[0], "CAP_CHOWN");
        let seccomp = linux.seccomp().as_ref().unwrap();
        assert_eq!(seccomp.actions().as_ref().unwrap().len(), 9);
        assert_eq!(seccomp.archs().as_ref().unwrap().len(), 8);
        // What is written is what was read: no member is misspelt.
        assert_eq!(serde_json::to_value(&read).unwrap(), features(&host));
    }

    #[test]
    fn a_flag_that_the_kernel_lacks_is_known_and_not_supported() {
        let mut host = Host::probe().unwrap();
        host.seccomp_flags = Some(1 << 1);
        let seccomp = &features(&host)["linux"]["seccomp"];
        assert_eq!(
            seccomp["supportedFlags"],
            json!(["SECCOMP_FILTER_FLAG_LOG"])
        );
        assert_eq!(seccomp["knownFlags"].as_array().unwrap().len(), 4);
    }
}
