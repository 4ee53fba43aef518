//! `events`: what a container uses, and when it runs out of memory.

use std::time::{Duration, Instant};

use corten_core::{Container, Event, Status};

use super::container;
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::parse::Matches;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let (_runtime, container) = container(app, matches)?;
    let interval = interval(matches)?;
    if container.state()?.status == Status::Stopped {
        let id = container.id();
        return Err(Failure::new(format_args!(
            "container with id {id} is not running"
        )));
    }
    if matches.switch("stats") {
        return print_stats(&container).map(|()| 0);
    }
    let mut watch = container.watch()?;
    let mut due = Instant::now() + interval;
    loop {
        match watch.next(Some(due.saturating_duration_since(Instant::now())))? {
            Some(Event::Ended) => return Ok(0),
            Some(Event::OomKill) => print(container.id(), "oom", "")?,
            _ => {
                due += interval;
                // A container that ends just now has none any more.
                if let Err(failure) = print_stats(&container) {
                    log::error!("{}", failure.message);
                }
            }
        }
    }
}

fn print_stats(container: &Container) -> Result<(), Failure> {
    let stats = serde_json::to_string(&container.stats()?)
        .map_err(|error| Failure::new(format_args!("stats: {error}")))?;
    // What there is none of here: resctrl is not counted, and runc counts no interface either.
    let stats = stats.strip_suffix('}').unwrap_or(&stats);
    let data = format!(r#","data":{stats},"intel_rdt":{{}},"network_interfaces":null}}"#);
    print(container.id(), "stats", &data)
}

/// An id has no character that JSON would escape.
fn print(id: &str, kind: &str, data: &str) -> Result<(), Failure> {
    output::print(&format!("{{\"type\":\"{kind}\",\"id\":\"{id}\"{data}}}\n"))
}

fn interval(matches: &Matches) -> Result<Duration, Failure> {
    let Some(text) = matches.value("interval") else {
        return Ok(Duration::from_secs(5));
    };
    let text = text.to_string_lossy();
    let wrong = || format!("invalid value {text:?} for flag -interval: parse error");
    match duration(&text) {
        None => Err(Failure::new(wrong())),
        Some(Duration::ZERO) => Err(Failure::new("duration interval must be greater than 0")),
        Some(duration) => Ok(duration),
    }
}

/// A duration as Go writes it: numbers with units, one after the other.
fn duration(text: &str) -> Option<Duration> {
    // The longer of two units that begin alike comes first.
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("\u{3bc}s", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanoseconds = 0_u64;
    while nanoseconds == 0 || !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at_checked(end)?;
        let (name, factor) = UNITS.iter().find(|(name, _)| unit.starts_with(name))?;
        nanoseconds = nanoseconds.checked_add(super::decimal(number, *factor)?)?;
        rest = unit.strip_prefix(name)?;
        if rest.is_empty() {
            break;
        }
    }
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("0", 0),
            ("0s", 0),
            ("1000us", 1),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(duration(text), Some(expected), "{text}");
        }
        for wrong in ["", "5", "s", "-1s", "5x", "1s2", "1..5s", "99999999999h"] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }
}
