//! Looking things up in the probe's facts.

use serde_json::Value;

/// The one object in a list of facts whose `key` is `value`; the last, if several are.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn entry<'f>(list: &'f Value, key: &str, value: &str) -> &'f Value {
    let all = || {
        list.as_array()
            .into_iter()
            .flatten()
            .map(|object| &object[key])
    };
    find(list, key, value)
        .unwrap_or_else(|| panic!("no {key} {value}, only {:?}", all().collect::<Vec<_>>()))
}

/// As [`entry`], `None` if there is none.
#[must_use]
pub fn find<'f>(list: &'f Value, key: &str, value: &str) -> Option<&'f Value> {
    list.as_array()?
        .iter()
        .rev()
        .find(|object| object[key] == value)
}

/// The mount that is on top at this path.
///
/// # Panics
///
/// If none is there.
#[must_use]
pub fn mount<'f>(facts: &'f Value, point: &str) -> &'f Value {
    entry(&facts["mounts"], "point", point)
}

/// Whether a list of words has this word.
#[must_use]
pub fn has(list: &Value, word: &str) -> bool {
    list.as_array()
        .is_some_and(|words| words.iter().any(|found| found == word))
}

/// Whether a mount, or its superblock, has an option.
#[must_use]
pub fn mounted_with(mount: &Value, option: &str) -> bool {
    has(&mount["options"], option) || has(&mount["super_options"], option)
}

/// A capability set as the probe tells it, as bits.
///
/// # Panics
///
/// If there is no such set.
#[must_use]
pub fn capabilities(facts: &Value, set: &str) -> u64 {
    let digits = facts["caps"][set]
        .as_str()
        .expect("the probe tells every set");
    u64::from_str_radix(digits, 16).expect("the probe writes hexadecimal digits")
}
