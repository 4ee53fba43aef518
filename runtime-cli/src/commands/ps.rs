//! `ps`: the processes of a container, as ps(1) lists them.

use std::process::Command;

use super::container;
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::parse::Matches;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let (_runtime, container) = container(app, matches)?;
    let pids = container.pids()?;
    let format = matches
        .value("format")
        .map(|format| format.to_string_lossy());
    let text = match format.as_deref() {
        None | Some("table") => table(matches, &pids)?,
        Some("json") => json(&pids),
        Some(_) => return Err(Failure::new("invalid format option")),
    };
    output::print(&text).map(|()| 0)
}

/// As Go writes it: nothing is `null`.
fn json(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "null\n".to_owned();
    }
    let numbers: Vec<String> = pids.iter().map(i32::to_string).collect();
    format!("[{}]\n", numbers.join(","))
}

fn table(matches: &Matches, pids: &[i32]) -> Result<String, Failure> {
    let options = matches.arguments.get(1..).unwrap_or_default();
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    }
    let output = command.args(options).output();
    let output = output.map_err(|error| Failure::call("ps", error))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format_args!("ps: {}: {text}", output.status)));
    }
    of_container(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The head of a list, and its lines with one of these process ids.
fn of_container(list: &str, pids: &[i32]) -> Result<String, Failure> {
    let mut lines = list.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Failure::new("couldn't find PID field in ps output"))?;
    let mut text = format!("{head}\n");
    for line in lines {
        let word = line.split_whitespace().nth(column);
        let pid = word.and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            text += line;
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_container_are_left() {
        let list = "UID  PID PPID\nroot 11 1\nroot 1 0\nroot 7 11\n\n";
        let left = of_container(list, &[11, 7]).unwrap();
        assert_eq!(left, "UID  PID PPID\nroot 11 1\nroot 7 11\n");
        let failure = of_container("USER COMMAND\n", &[1]).unwrap_err();
        assert_eq!(failure.message, "couldn't find PID field in ps output");
    }

    #[test]
    fn nothing_is_null() {
        assert_eq!(json(&[]), "null\n");
        assert_eq!(json(&[1, 20]), "[1,20]\n");
    }
}
