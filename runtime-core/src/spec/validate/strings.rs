//! NUL bytes: no path, argument or value with one reaches the kernel whole.
//!
//! A text cut short at a NUL names something else than what was checked, so none is let through,
//! wherever it is.

use serde_json::Value;

use super::super::error::member;
use super::super::{Process, Spec, SpecError, to_json};

/// How JSON writes the byte.
const ESCAPE: &str = r"\u0000";

/// Whether a spec that was read from this JSON can have one: as themselves they are no JSON.
pub(super) fn may_have_nul(json: &[u8]) -> bool {
    std::str::from_utf8(json).is_ok_and(|text| text.contains(ESCAPE))
}

/// Names every text and every map key that has one.
///
/// Written as JSON first, which takes a few microseconds; only a spec that seems to have one is
/// walked with its paths. The JSON is that of `spec`, and read again: a serialiser more, for
/// compact JSON or values, would be 30 KB of code.
pub(super) fn nul_bytes(found: &mut Vec<SpecError>, spec: &Spec) {
    let json = to_json(spec);
    if json.contains(ESCAPE)
        && let Ok(value) = serde_json::from_str(&json)
    {
        walk(found, String::new(), &value);
    }
}

/// Whether a process can have one, for less than its JSON costs.
pub(super) fn process_may_have_nul(process: &Process) -> bool {
    let Process {
        args,
        env,
        cwd,
        capabilities,
        rlimits,
        apparmor_profile,
        scheduler,
        selinux_label,
        io_priority,
        exec_cpu_affinity,
        // Numbers only.
        terminal: _,
        console_size: _,
        user: _,
        no_new_privileges: _,
        oom_score_adj: _,
    } = process;
    let sets = capabilities.iter().flat_map(|sets| sets.sets());
    let sets = sets.flat_map(|(_, set)| set);
    let lists = [args, env].into_iter().flatten().chain(sets);
    let texts = [apparmor_profile, selinux_label].into_iter().flatten();
    let names = rlimits.iter().map(|limit| &limit.kind);
    let policy = scheduler
        .iter()
        .flat_map(|it| it.flags.iter().chain([&it.policy]));
    let class = io_priority.iter().map(|it| &it.class);
    let cpus = exec_cpu_affinity
        .iter()
        .flat_map(|it| [&it.initial, &it.final_]);
    let rest = names.chain(policy).chain(class).chain(cpus.flatten());
    let mut all = lists.chain(texts).chain(rest).chain([cwd]);
    all.any(|text| text.contains('\0'))
}

fn walk(found: &mut Vec<SpecError>, path: String, value: &Value) {
    match value {
        Value::String(text) if text.contains('\0') => found.push(SpecError::NulByte { path }),
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                walk(found, format!("{path}[{index}]"), value);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                let path = member(&path, key);
                if key.contains('\0') {
                    found.push(SpecError::NulByte { path: path.clone() });
                }
                walk(found, path, value);
            }
        }
        _ => {}
    }
}
