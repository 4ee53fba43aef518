//! `hooks`: programs of the host or the container that run at points of its life.
//!
//! Data only.

use serde::{Deserialize, Serialize};

use super::json::{nullable, objects, unset};

/// `hooks`, each list run in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hooks {
    /// The older name of `createRuntime`; these run first.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub prestart: Vec<Hook>,
    /// Before pivot, in the runtime's namespaces.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub create_runtime: Vec<Hook>,
    /// Before pivot, in the container's namespaces.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub create_container: Vec<Hook>,
    /// Inside the container, just before its program.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub start_container: Vec<Hook>,
    /// After the program has started, in the runtime's namespaces.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub poststart: Vec<Hook>,
    /// After the container was deleted, in the runtime's namespaces.
    #[serde(deserialize_with = "objects", skip_serializing_if = "unset")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// The lists with their names in config.json, in the order in which they run.
    pub fn kinds(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }
}

/// One program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hook {
    /// Absolute path of the file.
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    /// Arguments, the first being `argv[0]`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub args: Vec<String>,
    /// The whole environment.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub env: Vec<String>,
    /// Seconds until it is killed.
    #[serde(skip_serializing_if = "unset")]
    pub timeout: Option<i64>,
}
