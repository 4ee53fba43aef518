//! To and from the types of the `oci-spec` crate, which the library's callers build specs with.
//!
//! Both are the same JSON, so it goes through that, except for what `oci-spec` 0.10 has of its own:
//! - two scheduler flags have names that no config.json uses;
//! - `pids.limit` is always there, so 0 from it means absent (an absent one and 0 look alike);
//! - capabilities are sets without order (they come out sorted), and an unknown one can't be said;
//!   it would be ignored anyway, so it is left out.

use oci_spec::runtime::{self as oci, LinuxSchedulerFlag};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_path_to_error::Segment;

use super::error::member;
use super::{Capabilities, Process, Spec, SpecError};

/// Scheduler flags: the spec's name, and the one `oci-spec` reads and writes.
const FLAGS: [(&str, LinuxSchedulerFlag); 2] = [
    (
        "SCHED_FLAG_RESET_ON_FORK",
        LinuxSchedulerFlag::SchedResetOnFork,
    ),
    (
        "SCHED_FLAG_DL_OVERRUN",
        LinuxSchedulerFlag::SchedFlagDLOverrun,
    ),
];

impl TryFrom<&oci::Spec> for Spec {
    type Error = SpecError;

    /// Fails on a path that is not UTF-8: JSON can't hold it.
    fn try_from(spec: &oci::Spec) -> Result<Self, SpecError> {
        let mut spec: Spec = through_json(spec)?;
        rename_flags(&mut spec, |flag| {
            let known = FLAGS.iter().find(|(_, theirs)| json_name(*theirs) == *flag);
            known.map_or(flag.clone(), |(ours, _)| (*ours).to_owned())
        });
        if let Some(capabilities) = capabilities_mut(&mut spec) {
            each_set(capabilities, |set| set.sort());
        }
        let resources = spec
            .linux
            .as_mut()
            .and_then(|linux| linux.resources.as_mut());
        if let Some(pids) = resources.and_then(|resources| resources.pids.as_mut()) {
            pids.limit = pids.limit.filter(|limit| *limit != 0);
        }
        Ok(spec)
    }
}

impl TryFrom<&Spec> for oci::Spec {
    type Error = SpecError;

    /// Fails on words and numbers that `oci-spec` has no value for, as an unknown rlimit type.
    fn try_from(spec: &Spec) -> Result<Self, SpecError> {
        let mut spec = spec.clone();
        rename_flags(&mut spec, |flag| {
            let known = FLAGS.iter().find(|(ours, _)| *ours == flag);
            known.map_or(flag.clone(), |(_, theirs)| json_name(*theirs))
        });
        if let Some(capabilities) = capabilities_mut(&mut spec) {
            each_set(capabilities, |set| {
                let known = |name: &String| oci::Capability::deserialize(text(name)).is_ok();
                set.retain(known);
            });
        }
        through_json(&spec)
    }
}

impl TryFrom<&oci::Process> for Process {
    type Error = SpecError;

    /// Fails on a path that is not UTF-8: JSON can't hold it.
    fn try_from(process: &oci::Process) -> Result<Self, SpecError> {
        let mut spec = oci::Spec::default();
        spec.set_process(Some(process.clone()));
        let path = "process".to_owned();
        let process = Spec::try_from(&spec)?.process;
        let process = process.map(|process| *process);
        process.ok_or(SpecError::Missing { path })
    }
}

fn through_json<T: DeserializeOwned>(spec: &impl Serialize) -> Result<T, SpecError> {
    let error = |path, cause: serde_json::Error| {
        let cause = super::error::one_line(&cause.to_string());
        SpecError::Convert { path, cause }
    };
    let value = serde_json::to_value(spec).map_err(|cause| error(String::new(), cause))?;
    serde_path_to_error::deserialize(value)
        .map_err(|cause| error(dotted(cause.path()), cause.into_inner()))
}

/// A path in the form all messages use.
pub(super) fn dotted(path: &serde_path_to_error::Path) -> String {
    path.iter()
        .fold(String::new(), |path, segment| match segment {
            Segment::Seq { index } => format!("{path}[{index}]"),
            Segment::Map { key } => member(&path, key),
            // A variant is the value itself, not a place in it.
            Segment::Enum { .. } | Segment::Unknown => path,
        })
}

/// The word `oci-spec` uses in JSON.
fn json_name(flag: LinuxSchedulerFlag) -> String {
    match serde_json::to_value(flag) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

fn text(name: &str) -> Value {
    Value::String(name.to_owned())
}

fn rename_flags(spec: &mut Spec, rename: impl Fn(&String) -> String) {
    let scheduler = spec
        .process
        .as_mut()
        .and_then(|process| process.scheduler.as_mut());
    for flag in scheduler
        .into_iter()
        .flat_map(|scheduler| &mut scheduler.flags)
    {
        *flag = rename(flag);
    }
}

fn capabilities_mut(spec: &mut Spec) -> Option<&mut Capabilities> {
    spec.process.as_mut()?.capabilities.as_mut()
}

fn each_set(capabilities: &mut Capabilities, mut change: impl FnMut(&mut Vec<String>)) {
    let Capabilities {
        bounding,
        effective,
        inheritable,
        permitted,
        ambient,
    } = capabilities;
    for set in [bounding, effective, inheritable, permitted, ambient] {
        change(set);
    }
}
