//! The messages of containerd's protocols that a shim needs, declared by hand.
//!
//! Numbers and names are those of containerd's `api/` folder (2.3); fields that no shim
//! reads or writes are left out, which protobuf allows.
//!
//! # Layout
//! - `task`: the Task service, `containerd.task.v2` and `v3` (the same messages)
//! - `events`: what is published, and the service that takes it
//! - `options`: `containerd.runc.v1`, and what CRI sends instead
//! - `bootstrap`: what `start` and `-info` are asked and answer
//! - `sandbox`: the Sandbox service, and CRI's words for a pod
//! - `stats`: `io.containerd.cgroups.v2`
//! - `rpc`: ttrpc's own messages
#![allow(
    missing_docs,
    reason = "the fields are containerd's and are explained there"
)]

pub mod bootstrap;
pub mod events;
pub mod options;
pub mod rpc;
pub mod sandbox;
pub mod stats;
pub mod task;

use std::time::{SystemTime, UNIX_EPOCH};

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    /// A message under its name; containerd writes no prefix before it.
    pub fn pack(type_url: &str, message: &impl prost::Message) -> Any {
        Any {
            type_url: type_url.to_owned(),
            value: message.encode_to_vec(),
        }
    }

    /// Whether it is of this type, with or without `type.googleapis.com/` before it.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.type_url.rsplit('/').next() == Some(name)
    }
}

/// `google.protobuf.Empty`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        // A clock before 1970 is told as 1970.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp {
            seconds: since.as_secs().cast_signed(),
            nanos: since.subsec_nanos().cast_signed(),
        }
    }
}
