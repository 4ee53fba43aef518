//! `conformance bench`: what containers cost, side by side with other runtimes and with floor,
//! a program that does the kernel's part of the work and nothing else (`floor/`).
//!
//! Outside, [`run`] starts itself again in the native lane and turns what comes out into text,
//! JSON and pictures; inside, [`in_lane`] measures. A group of measurements is a file of `bench/`.

mod bundles;
mod calls;
mod equal;
mod filter;
mod library;
mod many;
mod memory;
mod plot;
mod report;
mod result;
mod run;
mod shim;
mod stats;
mod steps;
mod subject;
mod waterfall;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::lane;
pub use equal::{floor_calls_differ, floor_differs};
use result::Measurement;
use subject::Lab;

/// A group of measurements.
struct Group {
    name: &'static str,
    about: &'static str,
    measure: fn(&Lab) -> Result<Vec<Measurement>, String>,
}

const GROUPS: [Group; 9] = [
    run::GROUP,
    calls::GROUP,
    steps::GROUP,
    many::GROUP,
    library::GROUP,
    memory::GROUP,
    filter::GROUP,
    shim::GROUP,
    waterfall::GROUP,
];

/// Rounds, unless told.
const ROUNDS: usize = 100;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The runtimes; the first is ours. If there is none: the one built beside, and the peers.
    pub runtimes: Vec<PathBuf>,
    /// Parts of the names of groups; all if there is none.
    pub words: Vec<String>,
    /// How often each is measured.
    pub rounds: usize,
    /// JSON and not text.
    pub json: bool,
    /// Where pictures go.
    pub svg: Option<PathBuf>,
    /// Where all of it goes: report.txt, report.json and pictures.
    pub output: Option<PathBuf>,
    /// Only tell the groups.
    pub list: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            runtimes: Vec::new(),
            words: Vec::new(),
            rounds: ROUNDS,
            json: false,
            svg: None,
            output: None,
            list: false,
        }
    }
}

/// Measures, and prints the report.
///
/// # Errors
///
/// If something can't be measured.
pub fn run(options: &Options) -> Result<(), String> {
    let groups = chosen(&options.words)?;
    if options.list {
        for group in groups {
            println!("{}\t{}", group.name, group.about);
        }
        return Ok(());
    }
    let runtimes = match options.runtimes.as_slice() {
        [] => usual_runtimes()?,
        given => given.to_vec(),
    };
    let mut inside: Vec<OsString> = vec!["bench-here".into(), options.rounds.to_string().into()];
    inside.push(runtimes.len().to_string().into());
    inside.extend(runtimes.iter().map(|path| path.clone().into_os_string()));
    inside.extend(groups.iter().map(|group| group.name.into()));
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(&this);
    command.args(["native", "--"]).arg(&this).args(inside);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err("the measuring failed".to_owned());
    }
    let found: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    tell(options, &found)
}

fn tell(options: &Options, found: &Value) -> Result<(), String> {
    let all = found["measurements"].as_array().into_iter().flatten();
    let measurements: Option<Vec<Measurement>> = all.map(Measurement::from_json).collect();
    let measurements = measurements.ok_or("the lane's report can't be read")?;
    let head = found["head"].as_str().unwrap_or_default();
    let text = report::text(&format!("{head}\n{}", report::LEGEND), &measurements);
    for folder in [&options.svg, &options.output].into_iter().flatten() {
        pictures(folder, &measurements)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    if let Some(folder) = &options.output {
        let write = |name, text: String| std::fs::write(folder.join(name), text);
        write("report.txt", text.clone())
            .and_then(|()| write("report.json", one_per_line(found)))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    if options.json {
        println!("{found:#}");
    } else {
        print!("{text}");
    }
    Ok(())
}

/// A measurement per line, without the pictures.
fn one_per_line(found: &Value) -> String {
    let mut lines = Vec::new();
    for one in found["measurements"].as_array().into_iter().flatten() {
        let mut one = one.clone();
        if let Some(fields) = one.as_object_mut() {
            fields.remove("picture");
        }
        lines.push(one.to_string());
    }
    let lines = lines.join(",\n");
    format!(
        "{{\"head\":{},\"measurements\":[\n{lines}\n]}}\n",
        found["head"]
    )
}

fn pictures(folder: &Path, measurements: &[Measurement]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for one in measurements {
        let name = one.name.replace(", ", " ").replace(' ', "-") + ".svg";
        let has_samples = one.series.iter().any(|series| series.samples.len() > 1);
        let dots = || has_samples.then(|| plot::svg(one));
        if let Some(picture) = one.picture.clone().or_else(dots) {
            std::fs::write(folder.join(name), picture)?;
        }
    }
    Ok(())
}

fn chosen(words: &[String]) -> Result<Vec<&'static Group>, String> {
    let is_meant = |group: &&Group| {
        words.is_empty() || words.iter().any(|word| group.name.contains(word.as_str()))
    };
    let groups: Vec<&Group> = GROUPS.iter().filter(is_meant).collect();
    if groups.is_empty() {
        return Err(format!("no group is named like {words:?}"));
    }
    Ok(groups)
}

/// The corten that scripts/build.sh has built, and the peers: those that `scripts/peers.sh` fetches,
/// in a lane's machine its own.
fn usual_runtimes() -> Result<Vec<PathBuf>, String> {
    const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/peers.sh");
    let mut all = vec![ours()?];
    if lane::is_machine() {
        all.extend(["/usr/bin/crun", "/usr/sbin/runc"].map(PathBuf::from));
        return Ok(all);
    }
    let output = Command::new("bash")
        .arg(SCRIPT)
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err("no peers; name the runtimes with --runtime".to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    all.extend(text.lines().map(PathBuf::from));
    Ok(all)
}

/// `bin/corten` of the target directory, where users have theirs from; else the one beside this
/// program.
fn ours() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = this.ancestors().nth(3);
    let bin = target.map(|target| target.join("bin/corten"));
    match bin.filter(|corten| corten.is_file()) {
        Some(corten) => Ok(corten),
        None => crate::built("corten"),
    }
}

/// The inside of [`run`]: `ROUNDS COUNT RUNTIME... GROUP...`. Prints JSON.
///
/// # Errors
///
/// If something can't be measured.
pub fn in_lane(words: &[&str]) -> Result<(), String> {
    lane::require();
    let number = |text: &str| {
        text.parse::<usize>()
            .map_err(|_| format!("{text:?} is no number"))
    };
    let [rounds, count, rest @ ..] = words else {
        return Err("bench-here: too few words".to_owned());
    };
    let (runtimes, groups) = rest
        .split_at_checked(number(count)?)
        .ok_or("too few runtimes")?;
    let runtimes: Vec<PathBuf> = runtimes.iter().map(PathBuf::from).collect();
    if runtimes.is_empty() {
        return Err("no runtime to measure".to_owned());
    }
    // On a disk, where the page cache of what runs is charged to someone, if it is a lane's own.
    let is_machine = lane::is_machine();
    let folder = if is_machine {
        "/var/tmp/bench"
    } else {
        "/run/bench"
    };
    let lab = Lab::new(&runtimes, Path::new(folder), number(rounds)?)?;
    lab.take_filter()?;
    let mut all = Vec::new();
    for group in GROUPS.iter().filter(|group| groups.contains(&group.name)) {
        all.extend((group.measure)(&lab)?);
    }
    let all: Vec<Value> = all.iter().map(Measurement::to_json).collect();
    println!("{}", json!({"head": head(&lab), "measurements": all}));
    lab.end()
}

/// The machine and the subjects.
fn head(lab: &Lab) -> String {
    let uname = rustix::system::uname();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let versions = lab.runtimes.iter().map(|runtime| {
        let output = Command::new(&runtime.program).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    let versions: Vec<String> = versions.collect();
    let (system, release) = (
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
    );
    let debug = debug_builds(&lab.runtimes);
    format!(
        "{system} {release}, {processors} CPUs, load {load}; {}.{debug}",
        versions.join("; ")
    )
}

/// A sentence that names what is a debug build, where it says little what is measured.
fn debug_builds(runtimes: &[subject::Runtime]) -> String {
    let mut named = Vec::new();
    if cfg!(debug_assertions) {
        named.push("this harness");
    }
    let has_debug_info = |runtime: &&subject::Runtime| {
        std::fs::read(&runtime.program).is_ok_and(|bytes| is_debug_build(&bytes))
    };
    let runtimes = runtimes.iter().filter(has_debug_info);
    named.extend(runtimes.map(|runtime| runtime.name.as_str()));
    if named.is_empty() {
        return String::new();
    }
    format!("\nDEBUG BUILD: {}.", named.join(", "))
}

/// Whether an ELF file has a section for a debugger: a release build is stripped.
fn is_debug_build(file: &[u8]) -> bool {
    let name = b"\0.debug_info\0";
    file.windows(name.len()).any(|window| window == name)
}

/// Where it is: a line that changes on a terminal, else one per measurement.
fn progress(what: &str, round: usize, of: usize) {
    let stderr = std::io::stderr();
    if stderr.is_terminal() {
        eprint!(
            "\r\x1b[Kbench: {what}: {} of {of}{}",
            round + 1,
            if round + 1 == of { "\n" } else { "" }
        );
    } else if round == 0 {
        eprintln!("bench: {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_names_of_their_own() {
        let names: std::collections::BTreeSet<&str> =
            GROUPS.iter().map(|group| group.name).collect();
        assert_eq!(names.len(), GROUPS.len());
    }

    #[test]
    fn a_debug_build_is_named_in_the_report() {
        assert!(is_debug_build(b"ELF\0.text\0.debug_info\0.rest"));
        assert!(!is_debug_build(b"ELF\0.text\0.rodata\0"));
        let this = subject::Runtime {
            name: "ours".to_owned(),
            program: std::env::current_exe().unwrap(),
            root: PathBuf::new(),
        };
        let told = debug_builds(&[this]);
        assert_eq!(told.contains("this harness"), cfg!(debug_assertions));
        assert!(!debug_builds(&[]).contains("ours"));
    }

    #[test]
    fn a_word_chooses_groups() {
        let names = |word: &str| -> Vec<&str> {
            let chosen = chosen(&[word.to_owned()]).unwrap();
            chosen.iter().map(|group| group.name).collect()
        };
        assert_eq!(names("run"), ["run"]);
        assert!(chosen(&["nothing".to_owned()]).is_err());
        assert_eq!(chosen(&[]).unwrap().len(), GROUPS.len());
    }
}
