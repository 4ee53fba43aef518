//! config.json as data: the types, reading, checking, and what is not done yet.
//!
//! Every field of the OCI runtime-spec 1.3.0 that means something on Linux has its place here,
//! under the JSON name in snake case (`type` is `kind`). Nothing in this folder touches a file,
//! the environment, a process, a clock or the network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod ahead;
mod convert;
mod default;
mod error;
mod hooks;
mod json;
mod linux;
mod mounts;
mod place;
mod process;
mod profile;
mod read;
mod resources;
pub(crate) mod scheduling;
mod seccomp;
mod update;
mod validate;

#[cfg(test)]
mod tests;

pub(crate) use ahead::namespaces as namespaces_ahead;
pub use default::{default_spec, rootless_spec, to_json};
pub use error::SpecError;
pub(crate) use error::{member, quoted};
pub use hooks::{Hook, Hooks};
pub use linux::{
    Device, IdMapping, IntelRdt, Linux, MemoryPolicy, Namespace, NamespaceKind, NetDevice,
    Personality, TimeOffset,
};
pub use mounts::{Mount, Root};
pub use process::{
    Capabilities, ConsoleSize, CpuAffinity, IoPriority, Process, Rlimit, Scheduler, User,
};
pub use profile::Profile;
pub(crate) use profile::{Compiled, parse_known};
pub use read::{parse, parse_process};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma,
    Resources, ThrottleDevice, WeightDevice,
};
pub use seccomp::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};
pub use validate::{problems, validate, warnings};
pub(crate) use validate::{resource_problems, validate_process, validate_read};

use json::{boxed, nullable, objects, optional, text, unset};

/// The newest runtime-spec these types follow.
pub const OCI_VERSION: &str = "1.3.0";

/// The whole of config.json.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Version of the runtime-spec the file follows.
    #[serde(deserialize_with = "nullable")]
    pub oci_version: String,
    /// The container's first program.
    #[serde(deserialize_with = "boxed", skip_serializing_if = "unset")]
    pub process: Option<Box<Process>>,
    /// The root file system.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub root: Option<Root>,
    /// Host name; needs a uts namespace.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub hostname: Option<String>,
    /// NIS domain name; needs a uts namespace.
    #[serde(deserialize_with = "text", skip_serializing_if = "unset")]
    pub domainname: Option<String>,
    /// Mounts on top of the root, in order.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub mounts: Vec<Mount>,
    /// Programs run along the way.
    #[serde(deserialize_with = "optional", skip_serializing_if = "unset")]
    pub hooks: Option<Hooks>,
    /// Free text by name.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(deserialize_with = "boxed", skip_serializing_if = "unset")]
    pub linux: Option<Box<Linux>>,
}

impl Spec {
    /// The namespaces to make or join, none if there is no `linux` section.
    pub fn namespaces(&self) -> &[Namespace] {
        self.linux.as_ref().map_or(&[], |linux| &linux.namespaces)
    }

    /// The namespace of a kind, if the container does not share the caller's.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.namespaces().iter().find(|ns| ns.kind == kind)
    }
}
