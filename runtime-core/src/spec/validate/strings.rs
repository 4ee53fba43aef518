//! NUL bytes: no path, argument or value with one reaches the kernel whole.
//!
//! A text cut short at a NUL names something else than what was checked, so none is let through,
//! wherever it is.

use serde_json::Value;

use super::super::error::member;
use super::super::{Spec, SpecError, to_json};

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
