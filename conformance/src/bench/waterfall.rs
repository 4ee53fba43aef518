//! Where one start goes: `--trace` of our runtime as a picture.

use std::fmt::Write as _;

use serde_json::Value;

use super::Group;
use super::plot::escaped;
use super::result::Measurement;
use super::subject::{Lab, time};

pub(super) const GROUP: Group = Group {
    name: "trace",
    about: "the best start of the rounds, step by step",
    measure,
};

/// How the names of steps begin that a container does not need: the rest is the kernel's work.
const OURS: [&str; 10] = [
    "write",
    "make exec.fifo",
    "look up",
    "wait",
    "close",
    "open and check",
    "find",
    "reset",
    "set nice",
    "allow every",
];

/// A step of the trace.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    name: String,
    in_init: bool,
    /// Microseconds.
    begin: f64,
    length: f64,
}

impl Span {
    fn is_ours(&self) -> bool {
        OURS.iter().any(|prefix| self.name.starts_with(prefix))
    }
}

fn measure(lab: &Lab) -> Result<Vec<Measurement>, String> {
    let mut all = Vec::new();
    for kind in ["default", "docker"] {
        let spans = best(lab, kind)?;
        let sum = |ours: bool| -> f64 {
            let meant = spans.iter().filter(|span| span.is_ours() == ours);
            meant.map(|span| span.length).sum::<f64>() / 1e3
        };
        let what = format!("trace {kind}");
        let mut result = Measurement::new(&what, "ms")
            .with(&lab.ours().name, vec![sum(true)])
            .with("the kernel's", vec![sum(false)])
            .note("sums of the steps that are ours and of those that any runtime must do, in the best start");
        result.picture = Some(picture(&what, &spans));
        all.push(result);
    }
    Ok(all)
}

/// The steps of the quickest start.
fn best(lab: &Lab, kind: &str) -> Result<Vec<Span>, String> {
    let file = lab.folder.join("trace.json");
    let name = file.to_string_lossy();
    let words = ["run", "--trace", &name, "--bundle", "{}", "bench-trace"];
    let mut best: Option<(f64, Vec<Span>)> = None;
    for round in 0..lab.rounds {
        super::progress(&format!("trace {kind}"), round, lab.rounds);
        time(&mut lab.command(lab.ours(), kind, &words)?)?;
        let text = std::fs::read(&file).map_err(|error| format!("{name}: {error}"))?;
        let trace = serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}"))?;
        let spans = spans(&trace).ok_or_else(|| format!("{name}: not what was expected"))?;
        let end = end(&spans);
        if best.as_ref().is_none_or(|(least, _)| end < *least) {
            best = Some((end, spans));
        }
    }
    Ok(best.map(|(_, spans)| spans).unwrap_or_default())
}

fn end(spans: &[Span]) -> f64 {
    spans
        .iter()
        .map(|span| span.begin + span.length)
        .fold(0.0, f64::max)
}

/// Events of the Trace Event Format.
fn spans(trace: &Value) -> Option<Vec<Span>> {
    let events = trace["traceEvents"].as_array()?.iter();
    let span = |event: &Value| {
        Some(Span {
            name: event["name"].as_str()?.to_owned(),
            in_init: event["cat"] == "init",
            begin: event["ts"].as_f64()?,
            length: event["dur"].as_f64()?,
        })
    };
    let mut all: Vec<Span> = events.map(span).collect::<Option<_>>()?;
    all.sort_by(|a, b| a.begin.total_cmp(&b.begin));
    Some(all)
}

/// Where the bars begin; a name before them has so many characters at most.
const LEFT: f64 = 400.0;
const LONGEST: usize = 64;
const RIGHT: f64 = 70.0;
const WIDTH: f64 = 1100.0;
const ROW: f64 = 14.0;
const TOP: f64 = 66.0;

fn picture(title: &str, spans: &[Span]) -> String {
    let end = end(spans).max(1.0);
    let bottom = TOP + ROW * super::stats::count(spans.len());
    let height = bottom + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"15\">{}: {:.2} ms</text>\n\
         <text x=\"12\" y=\"38\"><tspan fill=\"#a8431f\">ours</tspan>, \
         <tspan fill=\"#2a6f97\">the kernel's</tspan>; steps of init are indented</text>\n",
        escaped(title),
        end / 1e3
    );
    let scale = (WIDTH - LEFT - RIGHT) / end;
    for tick in ticks(end) {
        let x = LEFT + tick * scale;
        let _written = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#555\">{} ms</text>",
            TOP - 6.0,
            tick / 1e3
        );
    }
    let mut y = TOP;
    for span in spans {
        let (x, width) = (LEFT + span.begin * scale, (span.length * scale).max(0.5));
        let colour = if span.is_ours() { "#a8431f" } else { "#2a6f97" };
        let _written = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.0}\">{}</text>\
             <rect x=\"{x:.1}\" y=\"{:.0}\" width=\"{width:.1}\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\" fill=\"#777\">{:.0} us</text>",
            if span.in_init { 24 } else { 12 },
            y + 9.0,
            escaped(&short(&span.name)),
            y,
            x + width + 4.0,
            y + 9.0,
            span.length
        );
        y += ROW;
    }
    svg + "</svg>\n"
}

/// A name as far as there is room, and whether it goes on.
fn short(name: &str) -> String {
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    let begin: String = name.chars().take(LONGEST - 1).collect();
    begin + "\u{2026}"
}

/// Every half, whole, second, fifth... millisecond up to the end, but for a dozen at most.
fn ticks(end: f64) -> Vec<f64> {
    let steps = [500.0, 1e3, 2e3, 5e3, 10e3, 50e3, 100e3];
    let step = steps.into_iter().find(|step| end / step <= 12.0);
    let step = step.unwrap_or(end);
    let ticks = (0..=12).map(|at| f64::from(at) * step);
    ticks.filter(|tick| *tick <= end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_a_bar_in_its_colour() {
        let trace = serde_json::json!({"traceEvents": [
            {"name": "mount \"proc\"", "cat": "init", "ts": 20.0, "dur": 10.0},
            {"name": "write the intent record", "cat": "runtime", "ts": 0.0, "dur": 15.0},
        ]});
        let spans = spans(&trace).unwrap();
        assert_eq!(spans[0].name, "write the intent record");
        assert_eq!((spans[0].is_ours(), spans[1].is_ours()), (true, false));
        assert_eq!(end(&spans), 30.0);
        let svg = picture("trace", &spans);
        assert!(svg.contains(">0 ms</text>"));
        assert_eq!(svg.matches("height=\"10\"").count(), 2);
        assert!(!svg.contains("NaN") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_long_name_shows_that_it_goes_on() {
        assert_eq!(short("exec /true"), "exec /true");
        let long = short(&"n".repeat(100));
        assert_eq!(long.chars().count(), LONGEST);
        assert!(long.ends_with('\u{2026}'));
    }

    #[test]
    fn a_trace_of_any_length_has_a_dozen_ticks_at_most() {
        assert_eq!(ticks(1700.0), [0.0, 500.0, 1000.0, 1500.0]);
        for end in [1.0, 1e3, 7e3, 1e5, 1e7] {
            assert!((1..=13).contains(&ticks(end).len()));
        }
    }
}
