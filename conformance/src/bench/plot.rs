//! A measurement as an SVG picture: a row per subject, a dot per sample.

use std::fmt::Write as _;

use super::result::{Measurement, Series};
use super::stats;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 46.0;
const ROW: f64 = 34.0;
const COLOURS: [&str; 4] = ["#a8431f", "#777777", "#2a6f97", "#4b8b3b"];

/// The picture. The scale is logarithmic: equal factors are equally far apart.
pub(super) fn svg(one: &Measurement) -> String {
    let rows = stats::count(one.series.len());
    let height = TOP + rows * ROW + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">{} ({})</text>\n",
        escaped(&one.name),
        escaped(&one.unit)
    );
    let samples = one
        .series
        .iter()
        .flat_map(|series| series.samples.iter().copied());
    let scale = Scale::of(samples);
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
    for (series, colour) in one.series.iter().zip(COLOURS.iter().cycle()) {
        svg += &row(series, colour, &scale, y);
        y += ROW;
    }
    svg + "</svg>\n"
}

/// One subject: a dot for each sample, a long stroke for the least and a short one for the median.
fn row(series: &Series, colour: &str, scale: &Scale, y: f64) -> String {
    let mut svg = String::new();
    let _written = writeln!(
        svg,
        "<text x=\"12\" y=\"{:.0}\">{}</text>",
        y + 4.0,
        escaped(&series.subject)
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
    let (least, median) = (
        stats::least(&series.samples),
        stats::median(&series.samples),
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
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        let least = stats::least(&values);
        let most = values.iter().copied().fold(f64::NAN, f64::max);
        if values.is_empty() {
            return Self {
                from: 1.0,
                to: 10.0,
            };
        }
        Self {
            from: least / 1.15,
            to: most * 1.15,
        }
    }

    fn x(&self, value: f64) -> f64 {
        let part = (value / self.from).ln() / (self.to / self.from).ln();
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// 1, 2, 5 and their tenfolds that lie inside.
    fn ticks(&self) -> Vec<f64> {
        let steps = (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10_f64.powi(power)));
        steps
            .filter(|tick| (self.from..=self.to).contains(tick))
            .collect()
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
        };
        let steps = [1.0, 4.0, 16.0].map(|value| scale.x(value));
        assert!((steps[1] - steps[0] - (steps[2] - steps[1])).abs() < 1e-9);
        assert_eq!(scale.ticks(), [1.0, 2.0, 5.0, 10.0]);
    }
}
