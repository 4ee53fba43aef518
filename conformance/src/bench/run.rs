//! `run` of a static `true`, from beginning to end, for the three bundles.

use super::Group;
use super::bundles::KINDS;
use super::result::Measurement;
use super::subject::{Lab, Subject, time};

pub(super) const GROUP: Group = Group {
    name: "run",
    about: "run of a static `true`: minimal, spec's default, Docker-like bundle",
    measure,
};

fn measure(lab: &Lab) -> Result<Vec<Measurement>, String> {
    KINDS.iter().map(|kind| run(lab, kind)).collect()
}

fn run(lab: &Lab, kind: &str) -> Result<Measurement, String> {
    let result = beside_floor(lab, &format!("run {kind}"), kind)?;
    Ok(match kind {
        "default" => result
            .goal("floor", 1.3)
            .goal("crun", 0.5)
            .goal("runc", 1.0 / 6.0),
        "docker" => {
            let lacks: Vec<&str> = ["memory", "pids", "cpu"]
                .into_iter()
                .filter(|name| !lab.has(name))
                .collect();
            let result = result.goal("crun", 1.0 / 3.0).goal("runc", 0.1);
            if lacks.is_empty() {
                result
            } else {
                result.note(format!(
                    "no limits here for want of controllers: {}",
                    lacks.join(", ")
                ))
            }
        }
        _ => result,
    })
}

/// `run` of a kind's `true` by floor and by every runtime.
pub(super) fn beside_floor(lab: &Lab, what: &str, kind: &str) -> Result<Measurement, String> {
    let mut floor = lab.floor(kind, "bench-floor", &["/true"])?;
    let mut subjects = Vec::new();
    for runtime in &lab.runtimes {
        let id = format!("bench-{}", runtime.name);
        let mut command = lab.command(runtime, kind, &["run", "--bundle", "{}", &id])?;
        subjects.push(Subject::new(&runtime.name, move || {
            Ok([time(&mut command)?])
        }));
    }
    subjects.insert(1, Subject::new("floor", move || Ok([time(&mut floor)?])));
    let mut result = Measurement::new(what, "ms");
    [result.series] = lab.some_rounds(enough(lab.rounds), what, &mut subjects)?;
    Ok(result)
}

/// They are over in a moment, and their goals are for the best of a hundred.
fn enough(rounds: usize) -> usize {
    if rounds < 10 { rounds } else { rounds.max(100) }
}
