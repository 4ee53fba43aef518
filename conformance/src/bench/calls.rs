//! Counts of system calls: those of floor are checked in, those of our runtime stand beside them.

use std::collections::BTreeMap;
use std::process::Command;

use super::Group;
use super::bundles::KINDS;
use super::result::Measurement;
use super::subject::{Lab, time};

pub(super) const GROUP: Group = Group {
    name: "calls",
    about: "system calls of one run, floor's and ours (strace -f -c)",
    measure,
};

/// How often each call was made, by name.
pub(super) type Calls = BTreeMap<String, u32>;

fn measure(lab: &Lab) -> Result<Vec<Measurement>, String> {
    KINDS.iter().map(|kind| beside(lab, kind)).collect()
}

fn beside(lab: &Lab, kind: &str) -> Result<Measurement, String> {
    super::progress(&format!("calls {kind}"), 0, 1);
    let ours = lab.ours();
    let words = ["run", "--bundle", "{}", "bench-calls"];
    let own = count(lab, &lab.command(ours, kind, &words)?)?;
    let floor = of_floor(lab, kind)?;
    let sum = |calls: &Calls| vec![f64::from(calls.values().sum::<u32>())];
    let mut result = Measurement::new(&format!("calls {kind}"), "calls")
        .with(&ours.name, sum(&own))
        .with("floor", sum(&floor));
    let names: std::collections::BTreeSet<&String> = own.keys().chain(floor.keys()).collect();
    let of = |calls: &Calls, name: &str| calls.get(name).copied().unwrap_or(0);
    let listed = names
        .iter()
        .map(|name| format!("{name} {}/{}", of(&own, name), of(&floor, name)));
    let listed: Vec<String> = listed.collect();
    result = result.note(format!("{}/floor: {}", ours.name, listed.join(", ")));
    Ok(result)
}

/// The system calls of one container of floor, its `true` included.
pub(super) fn of_floor(lab: &Lab, kind: &str) -> Result<Calls, String> {
    count(lab, &lab.floor(kind, "bench-calls", &["/true"])?)
}

fn count(lab: &Lab, command: &Command) -> Result<Calls, String> {
    let output = lab.folder.join("strace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-c", "-o"])
        .arg(&output)
        .arg(command.get_program());
    strace.args(command.get_args());
    time(&mut strace)?;
    let text = std::fs::read_to_string(&output).map_err(|error| format!("strace: {error}"))?;
    Ok(parse(&text))
}

/// Lines of `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn parse(text: &str) -> Calls {
    let calls = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(calls), Some(name)) = (words.get(3), words.get(4..)?.last()) else {
            return None;
        };
        let calls = calls.parse().ok()?;
        (*name != "total").then(|| ((*name).to_owned(), calls))
    });
    calls.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.000838         838         1           clone3
 10.00    0.000000           0        27         9 mount
------ ----------- ----------- --------- --------- ----------------
100.00    0.000895           7        28         9 total
";
        let calls = [("clone3".to_owned(), 1), ("mount".to_owned(), 27)];
        assert_eq!(parse(text), Calls::from(calls));
    }
}
