//! A measurement as an SVG picture: a row per subject, a dot per sample.

use std::fmt::Write as _;

use super::report::number;
use super::result::{Measurement, Series};
use super::stats;

const WIDTH: f64 = 860.0;
/// Room for the numbers behind a row.
const RIGHT: f64 = 150.0;
const TOP: f64 = 66.0;
const ROW: f64 = 34.0;
/// A character of a name is at most so wide, by 13 px.
const CHARACTER: f64 = 7.6;

/// The colour of a subject: the same in every picture.
fn colour(subject: &str, row: usize) -> &'static str {
    const OTHERS: [&str; 4] = ["#a8431f", "#777777", "#2a6f97", "#4b8b3b"];
    match subject.rsplit(", ").next().unwrap_or_default() {
        name if name.starts_with("corten") => OTHERS[0],
        "floor" => OTHERS[1],
        name if name.starts_with("crun") || name.ends_with("+ crun") => OTHERS[2],
        name if name.starts_with("runc") || name.ends_with("+ runc") => OTHERS[3],
        _ => OTHERS[row % OTHERS.len()],
    }
}

/// The picture. The scale is logarithmic: equal factors are equally far apart.
pub(super) fn svg(one: &Measurement) -> String {
    let rows = stats::count(one.series.len());
    let height = TOP + rows * ROW + 50.0;
    let samples = one
        .series
        .iter()
        .flat_map(|series| series.samples.iter().copied());
    let scale = Scale::of(samples, left(one));
    let unit = escaped(&one.unit);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">{}</text>\n\
         <text x=\"12\" y=\"44\" fill=\"#555\">a dot: one of {} rounds; long stroke: the least; \
         short stroke: the median; logarithmic scale</text>\n\
         <text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#555\">{unit}</text>\n\
         <text x=\"{}\" y=\"44\" text-anchor=\"end\" fill=\"#555\">least, median ({unit})</text>\n",
        escaped(&one.name),
        one.series.first().map_or(0, |series| series.samples.len()),
        WIDTH - RIGHT,
        height - 10.0,
        WIDTH - 12.0
    );
    for tick in scale.ticks() {
        let (x, bottom) = (scale.x(tick), TOP + rows * ROW);
        let _written = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{tick}</text>",
            bottom + 18.0
        );
    }
    let mut y = TOP + ROW / 2.0;
    for (at, series) in one.series.iter().enumerate() {
        svg += &row(series, colour(&series.subject, at), &scale, y);
        y += ROW;
    }
    svg + "</svg>\n"
}

/// Where the scale begins: behind the longest name.
fn left(one: &Measurement) -> f64 {
    let names = one.series.iter();
    let longest = names.map(|series| series.subject.chars().count()).max();
    24.0 + CHARACTER * stats::count(longest.unwrap_or(0).max(10))
}

/// One subject: a dot for each sample, a long stroke for the least and a short one for the median,
/// and both as numbers.
fn row(series: &Series, colour: &str, scale: &Scale, y: f64) -> String {
    let mut svg = String::new();
    let (least, median) = (
        stats::least(&series.samples),
        stats::median(&series.samples),
    );
    let _written = writeln!(
        svg,
        "<text x=\"12\" y=\"{:.0}\">{}</text>\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"{colour}\">{}, {}</text>",
        y + 4.0,
        escaped(&series.subject),
        WIDTH - 12.0,
        y + 4.0,
        number(least),
        number(median)
    );
    // A stroke of no length with round ends: a dot, in few bytes.
    let dots: String = series
        .samples
        .iter()
        .map(|sample| format!("M{:.1} {y}h0", scale.x(*sample)))
        .collect();
    let _written = writeln!(
        svg,
        "<path d=\"{dots}\" stroke=\"{colour}\" stroke-width=\"6\" stroke-linecap=\"round\" \
         opacity=\"0.25\"/>"
    );
    for (value, reach) in [(least, 11.0), (median, 7.0)] {
        let x = scale.x(value);
        let _written = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{:.0}\" \
             stroke=\"{colour}\" stroke-width=\"2\"/>",
            y - reach,
            y + reach
        );
    }
    svg
}

/// Text between tags.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Where a value lies, by its logarithm.
struct Scale {
    from: f64,
    to: f64,
    left: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, left: f64) -> Self {
        let values: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        let least = stats::least(&values);
        let most = values.iter().copied().fold(f64::NAN, f64::max);
        let (from, to) = if values.is_empty() {
            (1.0, 10.0)
        } else {
            (least / 1.15, most * 1.15)
        };
        Self { from, to, left }
    }

    fn x(&self, value: f64) -> f64 {
        let part = (value / self.from).ln() / (self.to / self.from).ln();
        self.left + part.clamp(0.0, 1.0) * (WIDTH - self.left - RIGHT)
    }

    /// 1, 2, 5 and their tenfolds that lie inside; more of them where these are less than three.
    fn ticks(&self) -> Vec<f64> {
        const COARSE: &[f64] = &[1.0, 2.0, 5.0];
        const FINE: &[f64] = &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let inside = |steps: &[f64]| -> Vec<f64> {
            let powers = (-3..9).flat_map(|power| {
                // Whole numbers divided: 0.3 and not 0.30000000000000004.
                let tenfold = 10_f64.powi(i32::abs(power));
                steps.iter().map(move |n| {
                    if power < 0 {
                        n * 10.0 / (tenfold * 10.0)
                    } else {
                        n * 10.0 * tenfold / 10.0
                    }
                })
            });
            powers
                .filter(|tick| (self.from..=self.to).contains(tick))
                .collect()
        };
        let coarse = inside(COARSE);
        if coarse.len() < 3 {
            inside(FINE)
        } else {
            coarse
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_a_dot_per_sample_and_a_name_per_row() {
        let one = Measurement::new("run <default>", "ms")
            .with("corten", vec![2.0, 3.0])
            .with("floor", vec![1.0, 2.0]);
        let svg = svg(&one);
        assert_eq!(svg.matches("h0").count(), 4);
        assert!(svg.contains(">corten</text>") && svg.contains("run &lt;default>"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    }

    #[test]
    fn equal_factors_are_equally_far_apart() {
        let scale = Scale {
            from: 1.0,
            to: 16.0,
            left: 110.0,
        };
        let steps = [1.0, 4.0, 16.0].map(|value| scale.x(value));
        assert!((steps[1] - steps[0] - (steps[2] - steps[1])).abs() < 1e-9);
        assert_eq!(scale.ticks(), [1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn a_narrow_scale_has_ticks_too() {
        let scale = Scale {
            from: 0.28,
            to: 0.45,
            left: 0.0,
        };
        assert_eq!(scale.ticks(), [0.3, 0.4]);
    }

    #[test]
    fn a_subject_has_its_colour_in_every_picture() {
        assert_eq!(colour("corten", 2), colour("large, corten run", 0));
        assert_eq!(colour("Go shim + crun", 0), colour("crun", 3));
        assert_ne!(colour("with 10", 0), colour("with 100", 1));
    }

    #[test]
    fn names_and_numbers_do_not_lie_on_the_scale() {
        let name = "a name that is longer than most";
        let one = Measurement::new("run", "ms").with(name, vec![2.0, 3.0]);
        let left = left(&one);
        assert!(left > 12.0 + 7.0 * stats::count(name.len()));
        let scale = Scale::of([2.0, 3.0].into_iter(), left);
        assert!(scale.x(2.0) > left && scale.x(3.0) < WIDTH - RIGHT);
        let svg = svg(&one);
        assert!(svg.contains(">2.00, 2.50</text>") && svg.contains("one of 2 rounds"));
    }
}
