//! Settings and annotations as properties of a unit. Pure.
//!
//! What systemd knows, it is told: it writes the files of its units again whenever it
//! likes, `daemon-reload` among the occasions. See systemd.resource-control(5).

use std::collections::BTreeMap;

use super::message::Value;
use crate::cgroup::{CgroupError, Setting};
use crate::spec::scheduling;

/// A property's name and value.
pub(crate) type Property = (String, Value);

/// The settings that systemd has a property for. The others are only written to the files.
pub(crate) fn of_settings(settings: &[Setting]) -> Vec<Property> {
    let mut all = Vec::new();
    for setting in settings {
        of_setting(&mut all, &setting.file, &setting.value);
    }
    all
}

fn of_setting(all: &mut Vec<Property>, file: &str, value: &str) {
    let mut push = |name: &str, value| all.push((name.to_owned(), value));
    let amount = || match value.trim() {
        "max" => Some(Value::U64(u64::MAX)),
        number => number.parse().ok().map(Value::U64),
    };
    let named = match file {
        "memory.max" => "MemoryMax",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpu.idle" => {
            // As systemd 252 and newer say it; or no weight, for one that was idle.
            let weight = if value.trim() == "1" { 0 } else { u64::MAX };
            push("CPUWeight", Value::U64(weight));
            return;
        }
        "cpuset.cpus" | "cpuset.mems" => {
            let name = match file {
                "cpuset.cpus" => "AllowedCPUs",
                _ => "AllowedMemoryNodes",
            };
            if let Some(bits) = bits(value) {
                push(name, Value::Bytes(bits));
            }
            return;
        }
        "cpu.max" => {
            if let Some((quota, period)) = cpu_max(value) {
                push("CPUQuotaPerSecUSec", Value::U64(quota));
                push("CPUQuotaPeriodUSec", Value::U64(period));
            }
            return;
        }
        _ => return,
    };
    if let Some(amount) = amount() {
        push(named, amount);
    }
}

/// `cpu.max` as time per second and the period, in microseconds.
fn cpu_max(value: &str) -> Option<(u64, u64)> {
    let mut words = value.split_ascii_whitespace();
    let quota = words.next()?;
    let period: u64 = words
        .next()
        .map_or(Some(100_000), |word| word.parse().ok())?;
    let quota = match quota {
        "max" => u64::MAX,
        quota => {
            let microseconds: u64 = quota.parse().ok()?;
            let per_second = microseconds.checked_mul(1_000_000)?.checked_div(period)?;
            // systemd counts in hundredths of a CPU: never less than was asked for.
            per_second.checked_next_multiple_of(10_000)?
        }
    };
    Some((quota, period))
}

/// `0-2,5` as a bit for each number, lowest first; empty: all there are.
fn bits(list: &str) -> Option<Vec<u8>> {
    /// More than any kernel is built for.
    const MAX: u32 = 1 << 16;
    let words = scheduling::list(list.trim(), MAX).ok()?;
    let bytes = words.into_iter().flat_map(u32::to_le_bytes);
    let mut bits: Vec<u8> = bytes.collect();
    while bits.last() == Some(&0) {
        bits.pop();
    }
    Some(bits)
}

/// Annotations `org.systemd.property.NAME` set the property NAME.
const PREFIX: &str = "org.systemd.property.";

/// The type of a property.
#[derive(Debug, Clone, Copy)]
enum Type {
    Text,
    Texts,
    U64,
    I32,
    Bool,
}

/// Properties that an annotation may set. None of them runs a program, grants a device or
/// moves a process: whoever writes annotations may not be who may do that.
const ALLOWED: [(&str, Type); 14] = [
    ("After", Type::Texts),
    ("Before", Type::Texts),
    ("CollectMode", Type::Text),
    ("DefaultDependencies", Type::Bool),
    ("Description", Type::Text),
    ("KillMode", Type::Text),
    ("KillSignal", Type::I32),
    ("ManagedOOMMemoryPressure", Type::Text),
    ("ManagedOOMSwap", Type::Text),
    ("MemoryHigh", Type::U64),
    ("OOMPolicy", Type::Text),
    ("RuntimeMaxUSec", Type::U64),
    ("SendSIGHUP", Type::Bool),
    ("TimeoutStopUSec", Type::U64),
];

/// The properties that annotations ask for, values as GVariant text: `'text'`, `true`,
/// `uint64 5`, `['a', 'b']`. A name that ends in `Sec` takes seconds.
pub(crate) fn of_annotations(
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<Property>, CgroupError> {
    let asked = annotations
        .iter()
        .filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)));
    asked
        .map(|(key, name, text)| {
            let seconds = name.ends_with("Sec") && !name.ends_with("USec");
            let name = match name.strip_suffix("Sec").filter(|_| seconds) {
                Some(stem) => format!("{stem}USec"),
                None => name.to_owned(),
            };
            let refused = |why: &str| CgroupError::Invalid {
                field: format!("annotations[{key:?}]"),
                why: why.to_owned(),
            };
            let (_, kind) = ALLOWED
                .iter()
                .find(|(allowed, _)| *allowed == name)
                .ok_or_else(|| refused("no annotation may set this property"))?;
            let value = parse(*kind, text, seconds)
                .ok_or_else(|| refused(&format!("{text:?} is no value of this property")))?;
            Ok((name, value))
        })
        .collect()
}

fn parse(kind: Type, text: &str, seconds: bool) -> Option<Value> {
    let text = text.trim();
    // `uint64 5` and `5` are the same here: the property's type is known.
    let number = text.rsplit_once(' ').map_or(text, |(_, number)| number);
    Some(match kind {
        Type::Text => Value::Text(quoted(text)?),
        Type::Bool => Value::Bool(text.parse().ok()?),
        Type::I32 => Value::I32(number.parse().ok()?),
        Type::U64 if seconds => {
            let whole: u64 = number.parse().ok()?;
            Value::U64(whole.checked_mul(1_000_000)?)
        }
        Type::U64 => Value::U64(number.parse().ok()?),
        Type::Texts => {
            let list = text.strip_prefix('[')?.strip_suffix(']')?.trim();
            let words = list
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty());
            Value::Texts(words.map(quoted).collect::<Option<_>>()?)
        }
    })
}

fn quoted(text: &str) -> Option<String> {
    let inner = ['\'', '"']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))?;
    (!inner.contains(['\'', '"', '\\', '\0'])).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(file: &str, value: &str) -> Vec<Property> {
        of_settings(&[Setting::new(file, value, "test")])
    }

    fn named(name: &str, value: Value) -> Property {
        (name.to_owned(), value)
    }

    #[test]
    fn limits_become_properties() {
        for (file, value, name, number) in [
            ("memory.max", "4096", "MemoryMax", 4096),
            ("memory.swap.max", "0", "MemorySwapMax", 0),
            ("memory.low", "max", "MemoryLow", u64::MAX),
            ("pids.max", "7", "TasksMax", 7),
            ("cpu.weight", "100", "CPUWeight", 100),
        ] {
            assert_eq!(set(file, value), [named(name, Value::U64(number))]);
        }
        assert_eq!(set("cpu.idle", "1"), [named("CPUWeight", Value::U64(0))]);
        assert_eq!(
            set("cpu.idle", "0"),
            [named("CPUWeight", Value::U64(u64::MAX))]
        );
        assert_eq!(set("io.max", "8:0 rbps=1"), []);
        assert_eq!(set("memory.max", "much"), []);
    }

    #[test]
    fn a_cpu_quota_is_told_per_second_and_never_less_than_asked_for() {
        let quota = |value| set("cpu.max", value).into_iter().map(|(_, value)| value);
        let expect = |value, per_second, period| {
            let found: Vec<Value> = quota(value).collect();
            assert_eq!(
                found,
                [Value::U64(per_second), Value::U64(period)],
                "{value}"
            );
        };
        expect("50000 100000", 500_000, 100_000);
        expect("50000", 500_000, 100_000);
        expect("1234 100000", 20_000, 100_000);
        expect("max 50000", u64::MAX, 50_000);
        assert_eq!(quota("1 0").count(), 0);
    }

    #[test]
    fn sets_of_processors_become_bits() {
        assert_eq!(bits("0-2,5"), Some(vec![0b10_0111]));
        assert_eq!(bits("8"), Some(vec![0, 1]));
        assert_eq!(bits(""), Some(vec![]));
        for wrong in ["a", "2-1", "0-99999999", "1-", "-1"] {
            assert_eq!(bits(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn annotations_set_what_is_on_the_list() {
        let of = |name: &str, text: &str| {
            let key = format!("{PREFIX}{name}");
            of_annotations(&BTreeMap::from([(key, text.to_owned())]))
        };
        for (name, text, expected) in [
            (
                "TimeoutStopUSec",
                "uint64 123456789",
                ("TimeoutStopUSec", Value::U64(123_456_789)),
            ),
            (
                "TimeoutStopSec",
                "7",
                ("TimeoutStopUSec", Value::U64(7_000_000)),
            ),
            (
                "CollectMode",
                "'inactive-or-failed'",
                ("CollectMode", Value::Text("inactive-or-failed".into())),
            ),
            ("SendSIGHUP", "true", ("SendSIGHUP", Value::Bool(true))),
            ("KillSignal", "int32 15", ("KillSignal", Value::I32(15))),
            (
                "After",
                "['a.service', \"b.target\"]",
                (
                    "After",
                    Value::Texts(vec!["a.service".into(), "b.target".into()]),
                ),
            ),
        ] {
            assert_eq!(of(name, text).unwrap(), [named(expected.0, expected.1)]);
        }
        for (name, text) in [
            ("ExecStartPre", "'x'"),
            ("DeviceAllow", "[]"),
            ("Slice", "'a.slice'"),
        ] {
            let error = of(name, text).unwrap_err().to_string();
            assert!(
                error.ends_with("no annotation may set this property"),
                "{error}"
            );
        }
        for (name, text) in [
            ("CollectMode", "bare"),
            ("SendSIGHUP", "1"),
            ("TimeoutStopSec", "x"),
        ] {
            let error = of(name, text).unwrap_err().to_string();
            assert!(error.contains("is no value of this property"), "{error}");
        }
        let other = BTreeMap::from([("com.example".to_owned(), "x".to_owned())]);
        assert_eq!(of_annotations(&other).unwrap(), []);
    }
}
