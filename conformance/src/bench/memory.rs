//! Memory: of the runtime while it works, of a container that waits, and what is charged to the
//! container itself.

use std::path::Path;
use std::process::Command;

use super::Group;
use super::result::Measurement;
use super::stats;
use super::subject::{Lab, Runtime, pid, time};
use crate::{lane, sys};

pub(super) const GROUP: Group = Group {
    name: "memory",
    about: "peak RSS of run and exec; PSS of a created container; with a memory controller: what is \
            charged, and the smallest limit",
    measure,
};

const KIB: f64 = 1024.0;

fn measure(lab: &Lab) -> Result<Vec<Measurement>, String> {
    let mut all = vec![run(lab)?, exec(lab)?, created(lab)?];
    if lab.has("memory") {
        all.extend([charged(lab)?, smallest(lab)?]);
    } else if let Some(last) = all.last_mut() {
        last.notes.push(
            "what is charged and the smallest limit need a memory controller: \
             conformance lane run uml -- conformance bench memory"
                .to_owned(),
        );
    }
    Ok(all)
}

fn peak(command: &Command) -> Result<f64, String> {
    let kib = sys::peak_memory(command).map_err(|error| format!("{command:?}: {error}"))?;
    Ok(stats::count(kib))
}

fn run(lab: &Lab) -> Result<Measurement, String> {
    let mut result = Measurement::new("memory peak of run", "KiB");
    for runtime in &lab.runtimes {
        super::progress(&result.name, 0, 1);
        let words = ["run", "--bundle", "{}", "bench-peak"];
        let kib = peak(&lab.command(runtime, "default", &words)?)?;
        result = result.with(&runtime.name, vec![kib]);
    }
    let goal = result
        .series
        .first()
        .map_or(0.0, |ours| stats::least(&ours.samples));
    let said = if goal <= 2048.0 { "reached" } else { "missed" };
    let result = result.note(format!("at most 2048 KiB: {said}"));
    Ok(result.note("VmHWM of the command's own process at its exit; not of those it starts"))
}

fn exec(lab: &Lab) -> Result<Measurement, String> {
    let mut result = Measurement::new("memory peak of exec", "KiB");
    lab.bundle("sleep", lab.config("default", &["/probe", "sleep"]))?;
    for runtime in &lab.runtimes {
        super::progress(&result.name, 0, 1);
        let id = "bench-peak";
        lab.detached(runtime, "sleep", id)?;
        let kib = peak(&lab.command(runtime, "sleep", &["exec", id, "/true"])?);
        lab.call(runtime, "sleep", &["delete", "--force", id])?;
        result = result.with(&runtime.name, vec![kib?]);
    }
    Ok(result)
}

/// A number of a file of proc(5) whose lines are `Name: number kB`.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn created(lab: &Lab) -> Result<Measurement, String> {
    let mut result = Measurement::new("memory of a created container", "KiB");
    for runtime in &lab.runtimes {
        super::progress(&result.name, 0, 1);
        let pid = create(lab, runtime, "default", "bench-created")?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        lab.call(runtime, "default", &["delete", "--force", "bench-created"])?;
        let text = text.map_err(|error| format!("smaps_rollup: {error}"))?;
        let pss = field(&text, "Pss").ok_or("smaps_rollup has no Pss")?;
        result = result.with(&runtime.name, vec![pss]);
    }
    Ok(result.note("PSS of the process that waits for start"))
}

fn create(lab: &Lab, runtime: &Runtime, bundle: &str, id: &str) -> Result<i32, String> {
    let file = lab.folder.join(format!("pid-{id}"));
    let name = file.to_string_lossy();
    let words = ["create", "--bundle", "{}", "--pid-file", &name, id];
    lab.run_detached(runtime, bundle, &words)?;
    pid(&file)
}

/// Whose `true` of the Docker-like bundle is run: floor's, or a runtime's.
type Who<'a> = Option<&'a Runtime>;

fn everybody(lab: &Lab) -> Vec<(&str, Who<'_>)> {
    let mut all: Vec<_> = lab
        .runtimes
        .iter()
        .map(|one| (one.name.as_str(), Some(one)))
        .collect();
    all.insert(1, ("floor", None));
    all
}

/// What a container is charged at most, its `true` included.
fn charged(lab: &Lab) -> Result<Measurement, String> {
    let mut result = Measurement::new("memory charged", "KiB");
    for (name, who) in everybody(lab) {
        super::progress(&result.name, 0, 1);
        let (outcome, bytes) = in_group(&mut prepared(lab, who)?, None)?;
        outcome?;
        result = result.with(name, vec![bytes / KIB]);
    }
    if let [ours, floor, ..] = result.series.as_slice() {
        let more = stats::least_more(&ours.samples, &floor.samples);
        result.notes.push(format!("{more} KiB more than floor"));
    }
    Ok(result.note(
        "memory.peak of a cgroup around the container's, Docker-like bundle, page cache dropped \
         first; the kernel charges a processor's stock of 256 KiB ahead where it can",
    ))
}

/// The smallest limit, set before anything is in the cgroup, with which `true` runs.
fn smallest(lab: &Lab) -> Result<Measurement, String> {
    /// In pages; a power of two that is enough for every runtime.
    const ENOUGH: u32 = 16 << 10;
    const PAGE_KIB: u32 = 4;
    /// The kernel puts a stack anywhere in two pages: so a limit can do once and not again.
    const TRIES: usize = 10;
    /// By so many pages a first success can be too low.
    const LUCK: u32 = 6;
    let mut result = Measurement::new("memory smallest limit", "KiB");
    for (name, who) in everybody(lab) {
        let mut command = prepared(lab, who)?;
        super::progress(&format!("{}, {name}", result.name), 0, 1);
        let mut runs = |tries: usize, pages: u32| {
            let limit = u64::from(pages) * u64::from(PAGE_KIB) * 1024;
            for _ in 0..tries {
                if in_group(&mut command, Some(limit))?.0.is_err() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let once = bisect(ENOUGH, |pages| runs(1, pages))?;
        let pages = lowest(once + LUCK, |pages| runs(TRIES, pages))?;
        result = result.with(name, vec![f64::from(pages * PAGE_KIB)]);
    }
    Ok(result.goal("floor", 2.0).note(format!(
        "memory.max of a cgroup around the container's, page cache dropped first; {TRIES} runs of \
         {TRIES} must succeed"
    )))
}

/// From a number that is enough downwards, or upwards from one that is not: the least that is.
fn lowest(
    from: u32,
    mut is_enough: impl FnMut(u32) -> Result<bool, String>,
) -> Result<u32, String> {
    let mut number = from;
    if is_enough(number)? {
        while number > 1 && is_enough(number - 1)? {
            number -= 1;
        }
    } else {
        number += 1;
        while !is_enough(number)? {
            number += 1;
        }
    }
    Ok(number)
}

/// The least number up to `enough` that is enough, if all above it are.
fn bisect(
    enough: u32,
    mut is_enough: impl FnMut(u32) -> Result<bool, String>,
) -> Result<u32, String> {
    let (mut fails, mut runs) = (0, enough);
    while runs - fails > 1 {
        let middle = u32::midpoint(fails, runs);
        if is_enough(middle)? {
            runs = middle;
        } else {
            fails = middle;
        }
    }
    Ok(runs)
}

/// A cgroup of our own, in which a command's is.
const OUTER: &str = "/sys/fs/cgroup/bench-memory";

/// What runs `true` in [`OUTER`]. All that it reads is written: nothing of it may lie in the page
/// cache for one and not for another.
fn prepared(lab: &Lab, who: Who<'_>) -> Result<Run, String> {
    let own = Path::new(OUTER).join("own");
    let (command, undo) = match who {
        Some(runtime) => {
            let mut config = lab.config("docker", &["/true"]);
            config["linux"]["cgroupsPath"] = "/bench-memory/own".into();
            if let Some(resources) = config["linux"]["resources"].as_object_mut() {
                resources.remove("memory");
            }
            lab.bundle("small", config)?;
            let words = ["run", "--bundle", "{}", "bench-small"];
            let undo = lab.command(runtime, "small", &["delete", "--force", "bench-small"])?;
            (lab.command(runtime, "small", &words)?, Some(undo))
        }
        None => {
            let filter = lab.filter();
            let filter = filter.as_deref();
            (lab.floor_of("docker", &own, filter, &["/true"])?, None)
        }
    };
    Ok(Run { command, undo })
}

/// A command that makes a container, and what takes away the rest of one that could not be made.
struct Run {
    command: Command,
    undo: Option<Command>,
}

/// Runs it with [`OUTER`] having this limit: how that went, and what the cgroup was charged at
/// most.
fn in_group(run: &mut Run, limit: Option<u64>) -> Result<(Result<(), String>, f64), String> {
    let told = |error: std::io::Error| format!("{OUTER}: {error}");
    let file = |name: &str| format!("{OUTER}/{name}");
    std::fs::create_dir(OUTER).map_err(told)?;
    if let Some(limit) = limit {
        std::fs::write(file("memory.max"), limit.to_string()).map_err(told)?;
    }
    if lane::is_machine() {
        rustix::fs::sync();
        std::fs::write("/proc/sys/vm/drop_caches", "1").map_err(told)?;
    }
    let outcome = time(&mut run.command);
    let peak = std::fs::read_to_string(file("memory.peak")).map_err(told)?;
    let peak = peak
        .trim()
        .parse()
        .map_err(|_| "memory.peak: no number".to_owned())?;
    if outcome.is_err() {
        // What it has left, which may be nothing; floor undoes nothing.
        if let Some(undo) = &mut run.undo {
            drop(time(undo));
        }
        drop(std::fs::remove_dir(file("own")));
    }
    std::fs::remove_dir(OUTER).map_err(told)?;
    Ok((outcome.map(drop), peak))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_proc_is_found_by_its_whole_name() {
        let text = "Rss:  12 kB\nPss_Anon:  3 kB\nPss:  7 kB\n";
        assert_eq!(field(text, "Pss"), Some(7.0));
        assert_eq!(field(text, "Swap"), None);
    }

    #[test]
    fn the_least_number_that_is_enough_is_found() {
        for wanted in 1..=64 {
            let mut asked = 0;
            let found = bisect(64, |number| {
                asked += 1;
                Ok(number >= wanted)
            });
            assert_eq!((found, asked), (Ok(wanted), 6));
        }
        assert!(bisect(64, |_| Err("broken".to_owned())).is_err());
    }

    #[test]
    fn a_first_success_by_luck_is_not_the_limit() {
        for from in 1..=20 {
            assert_eq!(lowest(from, |number| Ok(number >= 9)), Ok(9));
        }
        assert_eq!(lowest(3, |_| Ok(true)), Ok(1));
    }
}
