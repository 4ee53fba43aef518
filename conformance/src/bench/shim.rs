//! The shim beside containerd's own: what `ctr` waits for, and what one shim takes.
//!
//! Works with a real containerd; `scripts/containerd.sh` knows how to start one, and prints the
//! samples.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Group;
use super::result::Measurement;
use super::stats;
use super::subject::{Lab, Runtime};

pub(super) const GROUP: Group = Group {
    name: "shim",
    about: "with a real containerd: ctr run, ctr task exec, exec by the shim's socket; PSS and threads with 1, 10, 100 containers",
    measure,
};

/// A folder of the PATH that has a containerd.
fn has_containerd() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("containerd").is_file())
}

fn measure(lab: &Lab) -> Result<Vec<Measurement>, String> {
    if !has_containerd() {
        let nothing = Measurement::new("shim", "ms");
        let why =
            "not measured: no containerd on the PATH (scripts/setup.sh measure installs Debian's)";
        return Ok(vec![nothing.note(why)]);
    }
    // With few rounds it is only to be seen that it works.
    let (counts, later): (&[u32], _) = if lab.rounds < 10 {
        (&[1, 2], "0")
    } else {
        (&[1, 10, 100], "30")
    };
    let words: Vec<String> = counts.iter().map(u32::to_string).collect();
    super::progress("shim: ctr run and exec", 0, 1);
    let rounds = lab.rounds.div_ceil(2).to_string();
    let mut all = latency(&parse(&printed(lab, "latency", [("ROUNDS", &*rounds)])?)?);
    super::progress("shim: memory", 0, 1);
    let wanted = [("COUNTS", &*words.join(" ")), ("LATER", later)];
    let samples = parse(&printed(lab, "memory", wanted)?)?;
    all.extend(memory(&samples, counts));
    if let Some(last) = all.last_mut() {
        last.notes.push(version()?);
    }
    Ok(all)
}

/// Half of what the Go shim with crun takes is the goal of issue 7.
fn latency(samples: &[Samples]) -> Vec<Measurement> {
    let one = |(word, what): (&str, &str)| {
        let result = of(samples, word, &format!("shim {what}"), "ms", 1e-3);
        // What the client itself takes.
        let alone = samples.iter().filter(|(word, ..)| word == "version");
        let result = alone.fold(result, |result, (.., us)| {
            result.with("ctr version", us.iter().map(|us| us * 1e-3).collect())
        });
        result.goal("Go shim + crun", 0.5)
    };
    let commands = [("run", "ctr run --rm true"), ("exec", "ctr task exec true")];
    let mut all: Vec<Measurement> = commands.map(one).into();
    // What is the shim's alone of an exec: neither the client nor containerd is in it.
    let own = of(samples, "task", "shim exec by its own socket", "ms", 1e-3);
    all.push(
        own.goal("Go shim + crun", 0.5)
            .note("Exec, Start, Wait and Delete of true, by a small program"),
    );
    all
}

/// 2 MB with one container, 100 kB for each further one and 4 threads are the goals of issue 7.
fn memory(samples: &[Samples], counts: &[u32]) -> Vec<Measurement> {
    let of = |what: &str, name: &str, unit: &str, most: u32| {
        let result = of(samples, what, name, unit, 1.0);
        let ours = result.series.first();
        let is_well = ours.is_some_and(|ours| stats::least(&ours.samples) <= f64::from(most));
        let said = if is_well { "reached" } else { "missed" };
        result.note(format!("at most {most} {unit}: {said}"))
    };
    let moments = [("pss", ""), ("later", ", 30 s later")];
    let both = counts.iter().flat_map(|count| moments.map(|m| (count, m)));
    let mut all: Vec<Measurement> = both
        .map(|(count, (word, when))| {
            let (what, name) = (
                format!("{word} {count}"),
                format!("shim PSS with {count}{when}"),
            );
            of(&what, &name, "kB", 2048 + 100 * (count - 1))
        })
        // With few rounds nobody has waited for the later ones.
        .filter(|one| !one.series.is_empty())
        .collect();
    let most = counts.last().copied().unwrap_or_default();
    all.push(of(&format!("threads {most}"), "shim threads", "threads", 4));
    all
}

/// The samples of one thing, ours first, with the subjects as a reader knows them.
fn of(samples: &[Samples], what: &str, name: &str, unit: &str, factor: f64) -> Measurement {
    let mut meant: Vec<&Samples> = samples.iter().filter(|(word, ..)| word == what).collect();
    meant.sort_by_key(|(_, subject, _)| (subject != "corten", subject.clone()));
    let result = Measurement::new(name, unit);
    meant
        .into_iter()
        .fold(result, |result, (_, subject, samples)| {
            let subject = match subject.as_str() {
                "corten" => "corten".to_owned(),
                peer => format!("Go shim + {peer}"),
            };
            result.with(&subject, samples.iter().map(|one| one * factor).collect())
        })
}

/// What, whose, and the samples in their order.
type Samples = (String, String, Vec<f64>);

/// Lines of `WHAT SUBJECT [COUNT] NUMBER`; the count belongs to what it is.
fn parse(text: &str) -> Result<Vec<Samples>, String> {
    let mut all: Vec<Samples> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (what, subject, number) = match words.as_slice() {
            [what, subject, number] => ((*what).to_owned(), subject, number),
            [what, subject, count, number] => (format!("{what} {count}"), subject, number),
            _ => return Err(format!("containerd.sh: {line:?}")),
        };
        let number = number.parse();
        let number: f64 = number.map_err(|_| format!("containerd.sh: {line:?}"))?;
        let known = all
            .iter_mut()
            .find(|one| one.0 == what && one.1 == **subject);
        match known {
            Some(one) => one.2.push(number),
            None => all.push((what, (*subject).to_owned(), vec![number])),
        }
    }
    Ok(all)
}

/// What the script prints.
fn printed<const N: usize>(
    lab: &Lab,
    what: &str,
    variables: [(&str, &str); N],
) -> Result<String, String> {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/containerd.sh");
    let shim = crate::built("containerd-shim-corten-v2")
        .map_err(|error| format!("{error} (with the profile of this program, -p corten-shim)"))?;
    let peers: Vec<&Runtime> = lab.runtimes.iter().skip(1).collect();
    let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Before the machine's own.
    let folders = peers.iter().filter_map(|peer| peer.program.parent());
    let folders = folders
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders).map_err(|error| error.to_string())?;
    let output = Command::new("bash")
        .args([SCRIPT, what])
        .arg(shim.parent().unwrap_or(&shim))
        .env("PATH", path)
        .env("PEERS", names.join(" "))
        .envs(variables)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("containerd.sh {what}: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `containerd github.com/containerd/containerd 1.7.24 ...`: the third word.
fn version() -> Result<String, String> {
    let output = Command::new("containerd").arg("--version").output();
    let output = output.map_err(|error| format!("containerd: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(2).unwrap_or("?");
    Ok(format!(
        "containerd {version}; the containers of one shim, ten seconds after the last call"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_sorted_by_what_they_are_of() {
        let text = "run crun 9000\nrun corten 50123\nexec corten 20000\nrun crun 9\n\
                    run corten 40000\nversion ctr 8000\ntask corten 2000\ntask crun 5000\n";
        let all = latency(&parse(text).unwrap());
        let subjects: Vec<&str> = all[0].series.iter().map(|one| &*one.subject).collect();
        assert_eq!(subjects, ["corten", "Go shim + crun", "ctr version"]);
        assert_eq!(all[0].series[0].samples, [50.123, 40.0]);
        assert_eq!(all[1].series[0].samples, [20.0]);
        let own: Vec<&str> = all[2].series.iter().map(|one| &*one.subject).collect();
        assert_eq!(own, ["corten", "Go shim + crun"]);
        assert!(parse("FAILED run: a, expected b").is_err());
        assert!(parse("run corten long").is_err());
    }

    #[test]
    fn every_further_container_may_take_a_hundred_kilobytes() {
        let text =
            "pss corten 1 2048\nthreads corten 1 1\npss corten 10 2949\nthreads corten 10 5\n";
        let all = memory(&parse(text).unwrap(), &[1, 10]);
        let notes: Vec<&str> = all.iter().map(|one| one.notes[0].as_str()).collect();
        let expected = [
            "at most 2048 kB: reached",
            "at most 2948 kB: missed",
            "at most 4 threads: missed",
        ];
        assert_eq!(notes, expected);
    }
}
