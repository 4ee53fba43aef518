//! What is measured: the floor program and the runtimes, and how a command of theirs is timed.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::bundles;
use super::result::{Measurement, Series};
use crate::supervise;

/// A runtime, with a state directory of its own.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) root: PathBuf,
}

/// Everything that a group needs to know.
#[derive(Debug)]
pub(super) struct Lab {
    /// The first is ours.
    pub(super) runtimes: Vec<Runtime>,
    pub(super) folder: PathBuf,
    pub(super) rounds: usize,
    floor: PathBuf,
    probe: PathBuf,
    /// The own one: below it runtimes make those of containers.
    cgroup: PathBuf,
    controllers: String,
    null: File,
}

impl Lab {
    /// Makes the folder with floor and the bundles in it.
    pub(super) fn new(programs: &[PathBuf], folder: &Path, rounds: usize) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(folder).map_err(told)?;
        let floor = folder.join("floor");
        bundles::program(&floor, bundles::FLOOR).map_err(told)?;
        let runtime = |program: &PathBuf| {
            let name = program.file_name().unwrap_or(program.as_os_str());
            let name = name.to_string_lossy().into_owned();
            let root = folder.join(format!("state-{name}"));
            Runtime {
                name,
                program: program.clone(),
                root,
            }
        };
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
        let own = std::fs::read_to_string("/proc/self/cgroup").map_err(told)?;
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .unwrap_or_default();
        let lab = Self {
            runtimes: programs.iter().map(runtime).collect(),
            folder: folder.to_owned(),
            rounds,
            floor,
            probe: crate::built("probe")?,
            cgroup: Path::new("/sys/fs/cgroup").join(own),
            controllers: controllers.map_err(told)?,
            null: File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map_err(told)?,
        };
        for kind in bundles::KINDS {
            lab.bundle(kind, lab.config(kind, &["/true"]))?;
        }
        Ok(lab)
    }

    pub(super) fn ours(&self) -> &Runtime {
        &self.runtimes[0]
    }

    /// Whether a controller is there for containers.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers
            .split_whitespace()
            .any(|name| name == controller)
    }

    pub(super) fn config(&self, kind: &str, args: &[&str]) -> Value {
        bundles::config(kind, args, &|controller| self.has(controller))
    }

    /// Writes a bundle, or the same again.
    pub(super) fn bundle(&self, name: &str, config: Value) -> Result<PathBuf, String> {
        bundles::write(&self.folder(name), config, &self.probe)
    }

    /// The folder of a bundle.
    pub(super) fn folder(&self, bundle: &str) -> PathBuf {
        self.folder.join(bundle)
    }

    /// Removes the bundles.
    pub(super) fn end(self) -> Result<(), String> {
        std::fs::remove_dir_all(&self.folder).map_err(|error| error.to_string())
    }

    /// `command`, silent.
    fn silent(&self, mut command: Command) -> Result<Command, String> {
        let null = || self.null.try_clone().map_err(|error| error.to_string());
        command
            .stdin(null()?)
            .stdout(null()?)
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// floor on one of its bundles, in a cgroup of this name.
    pub(super) fn floor(&self, kind: &str, id: &str, args: &[&str]) -> Result<Command, String> {
        let filter = self.filter().filter(|_| kind == "docker");
        self.floor_of(kind, &self.cgroup_of(kind, id), filter.as_deref(), args)
    }

    /// The filter that floor loads for the Docker-like bundle, if it is known.
    pub(super) fn filter(&self) -> Option<PathBuf> {
        Some(self.folder.join("filter")).filter(|file| file.exists())
    }

    /// floor on the Docker-like bundle, with another filter.
    pub(super) fn floor_with(
        &self,
        filter: Option<&Path>,
        args: &[&str],
    ) -> Result<Command, String> {
        let group = self.cgroup_of("docker", "bench-floor");
        self.floor_of("docker", &group, filter, args)
    }

    /// Where the cgroup of a bundle's container is.
    fn cgroup_of(&self, kind: &str, id: &str) -> PathBuf {
        let config = self.config(kind, &[]);
        let own = config["linux"]["cgroupsPath"].as_str();
        own.map_or_else(
            || self.cgroup.join(id),
            |path| PathBuf::from(format!("/sys/fs/cgroup{path}")),
        )
    }

    /// floor on one of its bundles, with all that it is told.
    pub(super) fn floor_of(
        &self,
        kind: &str,
        group: &Path,
        filter: Option<&Path>,
        args: &[&str],
    ) -> Result<Command, String> {
        let mut command = Command::new(&self.floor);
        command.arg(kind).arg(self.folder(kind));
        command.arg(group).arg("_ses.bench-equal");
        command.arg(filter.map_or(OsStr::new("-"), Path::as_os_str));
        command.args(args);
        self.silent(command)
    }

    /// A runtime with these words; `{}` is the bundle's folder.
    pub(super) fn command(
        &self,
        runtime: &Runtime,
        bundle: &str,
        words: &[&str],
    ) -> Result<Command, String> {
        let mut command = Command::new(&runtime.program);
        command.arg("--root").arg(&runtime.root);
        for word in words {
            match *word {
                "{}" => command.arg(self.folder(bundle)),
                word => command.arg(word),
            };
        }
        self.silent(command)
    }

    /// A runtime's command, to its end.
    pub(super) fn call(
        &self,
        runtime: &Runtime,
        bundle: &str,
        words: &[&str],
    ) -> Result<(), String> {
        time(&mut self.command(runtime, bundle, words)?).map(drop)
    }

    /// Puts the filter that our runtime loads for the Docker-like bundle where floor finds it.
    pub(super) fn take_filter(&self) -> Result<(), String> {
        let filter = self.filter_of(self.ours())?;
        let told = |error: std::io::Error| format!("filter: {error}");
        std::fs::write(self.folder.join("filter"), filter).map_err(told)
    }

    /// The filter that a runtime loads for the Docker-like bundle: 8 bytes per instruction.
    pub(super) fn filter_of(&self, runtime: &Runtime) -> Result<Vec<u8>, String> {
        let words = ["run", "--bundle", "{}", "bench-filter"];
        let mut command = self.command(runtime, "docker", &words)?;
        let filter = supervise::filter_loaded(&mut command);
        filter.map_err(|error| format!("{}: its filter: {error}", runtime.name))
    }

    /// Runs a container in the background and returns its pid.
    pub(super) fn detached(
        &self,
        runtime: &Runtime,
        bundle: &str,
        id: &str,
    ) -> Result<i32, String> {
        let file = self.folder.join(format!("pid-{id}"));
        let name = file.to_string_lossy();
        let words = ["run", "--detach", "--bundle", "{}", "--pid-file", &name, id];
        self.run_detached(runtime, bundle, &words)?;
        pid(&file)
    }

    /// As [`Self::call`], where the container keeps what it was given as stderr.
    pub(super) fn run_detached(
        &self,
        runtime: &Runtime,
        bundle: &str,
        words: &[&str],
    ) -> Result<(), String> {
        let told = |error: std::io::Error| error.to_string();
        let errors = self.folder.join("errors");
        let mut command = self.command(runtime, bundle, words)?;
        let status = command
            .stderr(File::create(&errors).map_err(told)?)
            .status()
            .map_err(told)?;
        if status.success() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&errors).map_err(told)?;
        Err(format!("{command:?}: {status}: {text}"))
    }

    /// Each subject gives its samples once per round, in turn, see [`turns`]. Returns the series of each
    /// of the N samples.
    pub(super) fn rounds<const N: usize>(
        &self,
        what: &str,
        subjects: &mut [Subject<'_, N>],
    ) -> Result<[Vec<Series>; N], String> {
        self.some_rounds(self.rounds, what, subjects)
    }

    /// As [`Self::rounds`], so many of them.
    pub(super) fn some_rounds<const N: usize>(
        &self,
        rounds: usize,
        what: &str,
        subjects: &mut [Subject<'_, N>],
    ) -> Result<[Vec<Series>; N], String> {
        let warm_up = 1 + rounds / 50;
        let empty = |subject: &Subject<'_, N>| Series {
            subject: subject.name.clone(),
            samples: Vec::new(),
        };
        let mut all: [Vec<Series>; N] =
            std::array::from_fn(|_| subjects.iter().map(empty).collect());
        for round in 0..warm_up + rounds {
            super::progress(what, round, warm_up + rounds);
            for at in turns(round, subjects.len()) {
                let samples = (subjects[at].sample)()
                    .map_err(|error| format!("{what}: {}: {error}", subjects[at].name))?;
                if round >= warm_up {
                    for (series, sample) in all.iter_mut().zip(samples) {
                        series[at].samples.push(sample);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Times one command of each runtime per round.
    pub(super) fn compare(
        &self,
        what: &str,
        bundle: &str,
        words: &dyn Fn(&Runtime) -> Vec<String>,
    ) -> Result<Measurement, String> {
        let mut subjects = Vec::new();
        for runtime in &self.runtimes {
            let words = words(runtime);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut command = self.command(runtime, bundle, &words)?;
            subjects.push(Subject::new(&runtime.name, move || {
                Ok([time(&mut command)?])
            }));
        }
        let [series] = self.rounds(what, &mut subjects)?;
        let mut result = Measurement::new(what, "ms");
        result.series = series;
        Ok(result)
    }
}

/// The order of so many subjects in a round. Each is the first in turn; and every other round goes backwards, so that none
/// always has what another one has left to the kernel: it ends the namespaces of a container after the container's end.
fn turns(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| {
        let way = if round.is_multiple_of(2) {
            turn
        } else {
            count - turn
        };
        (round / 2 + way) % count
    })
}

/// One of those that take turns: gives its samples of one round.
pub(super) struct Subject<'a, const N: usize = 1> {
    pub(super) name: String,
    sample: Box<dyn FnMut() -> Result<[f64; N], String> + 'a>,
}

impl<'a, const N: usize> Subject<'a, N> {
    pub(super) fn new(name: &str, sample: impl FnMut() -> Result<[f64; N], String> + 'a) -> Self {
        Self {
            name: name.to_owned(),
            sample: Box::new(sample),
        }
    }
}

/// What a pid file says.
pub(super) fn pid(file: &Path) -> Result<i32, String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is no pid"))
}

/// Words of a command line.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Milliseconds from before the command's process is made until it has been waited for. The
/// standard library makes it by posix_spawn(3), which costs the same from programs of any size.
pub(super) fn time(command: &mut Command) -> Result<f64, String> {
    let begin = Instant::now();
    let child = command.spawn();
    let mut child = child.map_err(|error| format!("{command:?}: {error}"))?;
    let status = child.wait();
    let time = begin.elapsed();
    let status = status.map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(time.as_secs_f64() * 1e3);
    }
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        use std::io::Read as _;
        drop(stderr.read_to_string(&mut text));
    }
    Err(format!("{command:?}: {status}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_first_and_behind_each_of_the_others_next_to_it() {
        for count in 1..6 {
            let rounds: Vec<Vec<usize>> = (0..2 * count)
                .map(|round| turns(round, count).collect())
                .collect();
            for round in &rounds {
                let mut all = round.clone();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..count), "{round:?}");
            }
            for subject in 0..count {
                let first = rounds.iter().filter(|round| round[0] == subject);
                assert_eq!(first.count(), 2, "{subject} of {count}");
                let next = (subject + 1) % count;
                let follows = |pair: &[usize]| pair == [subject, next] || pair == [next, subject];
                let pairs = rounds.iter().flat_map(|round| round.windows(2));
                let ways: std::collections::BTreeSet<&[usize]> =
                    pairs.filter(|pair| follows(pair)).collect();
                assert_eq!(
                    ways.len(),
                    count.min(2).saturating_sub(1) * 2,
                    "{subject} of {count}"
                );
            }
        }
    }
}
