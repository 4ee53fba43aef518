//! When each step of a start began and ended, as Chrome trace JSON.
//!
//! The format is the "Trace Event Format" that chrome://tracing and Perfetto read:
//! complete events (`"ph":"X"`) with times in microseconds. The log gets the same at level
//! debug, a line for each step.

use serde::Serialize;

use super::report::Record;

/// The spans of one start, of both halves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    pub(crate) spans: Vec<Span>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) origin: String,
    /// Whether init ran it.
    pub(crate) init: bool,
    /// ns of CLOCK_MONOTONIC.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    trace_events: Vec<Event<'a>>,
    display_time_unit: &'static str,
}

#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    cat: &'static str,
    ph: &'static str,
    ts: f64,
    dur: f64,
    pid: u32,
    tid: u32,
    args: Args<'a>,
}

impl<'a> Event<'a> {
    fn new(span: &'a Span, first: u64) -> Event<'a> {
        let micros = |ns: u64| ns as f64 / 1000.0;
        let (cat, tid) = if span.init {
            ("init", 2)
        } else {
            ("runtime", 1)
        };
        Event {
            name: &span.name,
            cat,
            ph: "X",
            ts: micros(span.start.saturating_sub(first)),
            dur: micros(span.end.saturating_sub(span.start)),
            pid: 1,
            tid,
            args: Args {
                origin: &span.origin,
            },
        }
    }
}

#[derive(Serialize)]
struct Args<'a> {
    origin: &'a str,
}

impl Trace {
    /// Adds init's steps, each with origin and words: one ends where the next begins.
    pub(crate) fn add_init(&mut self, steps: &[(String, String)], records: &[Record]) {
        let begun: Vec<_> = steps
            .iter()
            .zip(records)
            .filter(|(_, record)| record.start != 0)
            .collect();
        let starts = begun.iter().map(|(_, record)| record.start);
        let ends = starts.clone().skip(1).chain(starts.clone().next_back());
        for (((origin, name), record), end) in begun.iter().zip(ends) {
            let (name, origin) = (name.clone(), origin.clone());
            self.spans.push(Span {
                name,
                origin,
                init: true,
                start: record.start,
                end,
            });
        }
    }

    /// Tells of each step, in the order in which they began.
    pub(crate) fn log(&self) {
        let mut spans: Vec<&Span> = self.spans.iter().collect();
        spans.sort_by_key(|span| span.start);
        let micros = |ns: u64| ns / 1000;
        let first = spans.first().map_or(0, |span| span.start);
        for Span {
            name,
            origin,
            init,
            start,
            end,
        } in spans
        {
            let half = if *init { "init" } else { "runtime" };
            let (at, took) = (micros(start - first), micros(end.saturating_sub(*start)));
            log::debug!("{half} at {at} us, {took} us: {origin}: {name}");
        }
    }

    /// The trace as a JSON document; times count from the first span.
    #[must_use]
    pub fn to_json(&self) -> String {
        let first = self.spans.iter().map(|span| span.start).min().unwrap_or(0);
        let event = |span| Event::new(span, first);
        let document = Document {
            trace_events: self.spans.iter().map(event).collect(),
            display_time_unit: "ns",
        };
        // Strings and finite numbers only: there is nothing that can't be written.
        serde_json::to_string(&document).unwrap_or_default()
    }
}

/// Whether the log takes what [`Trace::log`] tells.
pub(crate) fn wants_times() -> bool {
    log::log_enabled!(log::Level::Debug)
}

/// CLOCK_MONOTONIC in ns.
pub(crate) fn now() -> u64 {
    let time = crate::sys::process::monotonic();
    time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
}
