//! The report as text, for docs/bench/report.txt and the terminal.

use std::fmt::Write as _;

use super::result::Measurement;
use super::stats;

/// All of it. `head` says where and with what it was measured.
pub(super) fn text(head: &str, measurements: &[Measurement]) -> String {
    let mut text = format!("{head}\n");
    for one in measurements {
        text.push('\n');
        text.push_str(&table(one));
    }
    text
}

fn table(one: &Measurement) -> String {
    let rounds = one.series.first().map_or(0, |series| series.samples.len());
    let rounds = if rounds > 1 {
        format!(", {rounds} rounds")
    } else {
        String::new()
    };
    let mut text = format!("{} ({}{rounds})\n", one.name, one.unit);
    let width = one
        .series
        .iter()
        .map(|series| series.subject.len())
        .max()
        .unwrap_or(0);
    let ratios = one.ratios();
    for series in &one.series {
        let samples = &series.samples;
        let _written = write!(
            text,
            "  {:width$} {:>10}",
            series.subject,
            number(stats::least(samples))
        );
        if samples.len() > 1 {
            let (median, most) = (stats::median(samples), stats::quantile(samples, 0.9));
            let _written = write!(text, " {:>10} {:>10}", number(median), number(most));
        }
        if let Some((_, ratio)) = ratios.iter().find(|(name, _)| *name == series.subject) {
            let _written = write!(text, "   x {:.2}", ratio.least);
            if samples.len() > 1 {
                let _written = write!(text, " (pairs {:.2})", ratio.median);
            }
        }
        text.push('\n');
    }
    for (goal, reached) in one.reached() {
        let said = if reached <= goal.at_most {
            "reached"
        } else {
            "missed"
        };
        let _written = writeln!(
            text,
            "  at most {:.2} x {}: {said}",
            goal.at_most, goal.against
        );
    }
    for note in &one.notes {
        text.push_str(&wrapped(note));
    }
    text
}

/// Three digits, or all before the point.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A note, in lines of no more than 110 characters.
fn wrapped(note: &str) -> String {
    let mut text = String::new();
    let mut line = String::from(" ");
    for word in note.split(' ') {
        if line.len() + word.len() > 108 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

/// What the columns are.
pub(super) const LEGEND: &str = "\
Columns: least, median, nine tenths are below; then how many times the subject the first one is,
by the least of each, and in the middle of the rounds' pairs.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_ratios_goals_and_notes() {
        let one = Measurement::new("run default", "ms")
            .with("corten", vec![2.0, 3.0, 4.0])
            .with("floor", vec![1.0, 2.0, 2.0])
            .goal("floor", 1.3)
            .note("no limits here");
        let expected = "\
the head

run default (ms, 3 rounds)
  corten       2.00       3.00       3.80
  floor        1.00       2.00       2.00   x 2.00 (pairs 2.00)
  at most 1.30 x floor: missed
  no limits here
";
        assert_eq!(text("the head", &[one]), expected);
    }

    #[test]
    fn long_notes_are_wrapped() {
        let text = wrapped(&"word ".repeat(60));
        assert!(text.lines().count() >= 3);
        assert!(text.lines().all(|line| line.len() <= 110));
    }
}
