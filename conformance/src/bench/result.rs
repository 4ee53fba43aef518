//! What was measured: numbers by subject, and what they should be.

use serde_json::{Value, json};

use super::stats;

/// One thing, measured for several subjects in the same rounds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measurement {
    /// `run default`: the group's word first.
    pub(super) name: String,
    /// `ms`, `KiB`; less is better, but for `1/s`.
    pub(super) unit: String,
    pub(super) series: Vec<Series>,
    pub(super) goals: Vec<Goal>,
    /// What a reader must know.
    pub(super) notes: Vec<String>,
    /// An SVG picture other than that of the samples.
    pub(super) picture: Option<String>,
}

/// The samples of one subject, one per round; one alone is a count.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) subject: String,
    pub(super) samples: Vec<f64>,
}

/// The first subject should be at most so many times this one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Goal {
    pub(super) against: String,
    pub(super) at_most: f64,
}

impl Measurement {
    pub(super) fn new(name: &str, unit: &str) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            series: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
            picture: None,
        }
    }

    /// Adds a subject. Ours comes first.
    pub(super) fn with(mut self, subject: &str, samples: Vec<f64>) -> Self {
        let subject = subject.to_owned();
        self.series.push(Series { subject, samples });
        self
    }

    pub(super) fn goal(mut self, against: &str, at_most: f64) -> Self {
        let against = against.to_owned();
        self.goals.push(Goal { against, at_most });
        self
    }

    pub(super) fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Ours against the others.
    pub(super) fn ratios(&self) -> Vec<(&str, stats::Ratio)> {
        let Some((ours, others)) = self.series.split_first() else {
            return Vec::new();
        };
        let ratio = |other: &'_ Series| stats::ratio(&ours.samples, &other.samples);
        others
            .iter()
            .map(|other| (other.subject.as_str(), ratio(other)))
            .collect()
    }

    /// The goals, each with the ratio that was reached; those whose subject was not there are not.
    pub(super) fn reached(&self) -> Vec<(&Goal, f64)> {
        let ratios = self.ratios();
        let of = |goal: &Goal| {
            ratios
                .iter()
                .find(|(subject, _)| *subject == goal.against)
                .map(|(_, ratio)| ratio.least)
        };
        self.goals
            .iter()
            .filter_map(|goal| Some((goal, of(goal)?)))
            .collect()
    }

    pub(super) fn to_json(&self) -> Value {
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|one| {
                json!({
                    "subject": one.subject,
                    "least": stats::least(&one.samples),
                    "median": stats::median(&one.samples),
                    "samples": one.samples.iter().map(|sample| rounded(*sample)).collect::<Vec<_>>(),
                })
            })
            .collect();
        let ratios: Vec<Value> = self
            .ratios()
            .iter()
            .map(|(to, ratio)| json!({"to": to, "least": ratio.least, "median": ratio.median}))
            .collect();
        let goals: Vec<Value> = self
            .goals
            .iter()
            .map(|goal| json!({"to": goal.against, "at_most": goal.at_most}))
            .collect();
        json!({
            "name": self.name, "unit": self.unit, "series": series, "ratios": ratios,
            "goals": goals, "notes": self.notes, "picture": self.picture,
        })
    }

    /// The reverse of [`Self::to_json`].
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut all = Self::new(value["name"].as_str()?, value["unit"].as_str()?);
        for one in value["series"].as_array()? {
            let samples = one["samples"].as_array()?.iter().map(Value::as_f64);
            all = all.with(one["subject"].as_str()?, samples.collect::<Option<_>>()?);
        }
        for goal in value["goals"].as_array()? {
            all = all.goal(goal["to"].as_str()?, goal["at_most"].as_f64()?);
        }
        all.notes = value["notes"]
            .as_array()?
            .iter()
            .map(text)
            .collect::<Option<_>>()?;
        all.picture = text(&value["picture"]);
        Some(all)
    }
}

/// With four digits behind the point, which is more than can be measured.
fn rounded(sample: f64) -> f64 {
    (sample * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Measurement {
        Measurement::new("run default", "ms")
            .with("corten", vec![2.0, 3.0])
            .with("floor", vec![1.0, 2.0])
            .goal("floor", 1.3)
            .goal("runc", 0.1)
            .note("a note")
    }

    #[test]
    fn a_measurement_comes_back_from_its_json() {
        assert_eq!(
            Measurement::from_json(&example().to_json()),
            Some(example())
        );
    }

    #[test]
    fn a_goal_is_judged_by_the_least_samples() {
        let example = example();
        let reached = example.reached();
        // runc was not measured.
        assert_eq!(reached.len(), 1);
        assert_eq!((reached[0].0.at_most, reached[0].1), (1.3, 2.0));
    }
}
