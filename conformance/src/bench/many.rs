//! Many containers: several being made at a time, many alive, many mounts on the host.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::Group;
use super::result::Measurement;
use super::subject::{Lab, Runtime, Subject, time};
use super::{run, stats};

pub(super) const GROUP: Group = Group {
    name: "many",
    about: "1 to 64 in flight; run with 10, 100 and 1,000 alive; with 1,000 mounts on the host",
    measure,
};

const IN_FLIGHT: [usize; 5] = [1, 2, 4, 16, 64];
const ALIVE: [usize; 3] = [10, 100, 1000];
const MOUNTS: usize = 1000;

fn measure(lab: &Lab) -> Result<Vec<Measurement>, String> {
    let mut all = Vec::new();
    for flight in IN_FLIGHT {
        all.push(in_flight(lab, flight)?);
    }
    all.extend(alive(lab)?);
    all.push(with_mounts(lab)?);
    Ok(all)
}

/// Fewer rounds: each has many containers.
fn few(lab: &Lab) -> usize {
    lab.rounds.div_ceil(10)
}

fn in_flight(lab: &Lab, flight: usize) -> Result<Measurement, String> {
    let what = format!("many {flight} in flight");
    let total = flight.max(16);
    let subject = |runtime: &Runtime| {
        let runtime = runtime.clone();
        Subject::new(&runtime.name.clone(), move || {
            Ok([batch(lab, &runtime, flight, total)?])
        })
    };
    let mut subjects: Vec<Subject<'_>> = lab.runtimes.iter().map(subject).collect();
    let mut result = Measurement::new(&what, "ms per container");
    [result.series] = lab.some_rounds(few(lab), &what, &mut subjects)?;
    Ok(result.note(format!("{total} containers in each round")))
}

/// Milliseconds per container, of so many made by so many at a time.
fn batch(lab: &Lab, runtime: &Runtime, flight: usize, total: usize) -> Result<f64, String> {
    let mut commands = Vec::new();
    for at in 0..total {
        let id = format!("bench-{at}");
        commands.push(lab.command(runtime, "default", &["run", "--bundle", "{}", &id])?);
    }
    let shared: Vec<_> = commands.into_iter().map(std::sync::Mutex::new).collect();
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let work = || {
        while let Some(command) = shared.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut command = command
                .lock()
                .map_err(|_| "another one failed".to_owned())?;
            time(&mut command)?;
        }
        Ok::<(), String>(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..flight).map(|_| scope.spawn(work)).collect();
        let mut outcomes = workers.into_iter().map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err("a worker panicked".to_owned()))
        });
        outcomes.try_for_each(|outcome| outcome)
    })?;
    Ok(begin.elapsed().as_secs_f64() * 1e3 / stats::count(total))
}

/// How often the number of those alive goes up and down again. Each level is measured on both
/// ways, and the runtimes take turns: a neighbour that disturbs for a while disturbs all.
fn sweeps(rounds: usize) -> usize {
    rounds.div_ceil(20).min(3)
}

/// The levels; with few rounds it is only to be seen that it works.
fn levels(rounds: usize) -> Vec<usize> {
    let enough = |level: &usize| *level <= rounds.saturating_mul(100);
    ALIVE.into_iter().filter(enough).collect()
}

/// For what the kernel still does for those that have just come, or gone: it ends their namespaces
/// when they have been deleted.
const SETTLE: Duration = Duration::from_secs(1);

/// `run` while more and more other containers of the same runtime are alive: for each runtime
/// its samples by level, and the floor's beside ours: what it takes longer is the kernel's.
fn alive(lab: &Lab) -> Result<Vec<Measurement>, String> {
    lab.bundle("alive", lab.config("minimal", &["/probe", "sleep"]))?;
    let (levels, sweeps) = (levels(lab.rounds), sweeps(lab.rounds));
    let none = vec![Vec::new(); levels.len()];
    let (mut all, mut floor) = (vec![none.clone(); lab.runtimes.len()], none);
    for sweep in 0..sweeps {
        for (runtime, samples) in lab.runtimes.iter().zip(&mut all) {
            super::progress(&format!("many alive, {}", runtime.name), sweep, sweeps);
            let mut herd = Herd {
                lab,
                runtime,
                count: 0,
            };
            let mut measured = vec![(herd.one_more()?, samples)];
            if runtime.name == lab.ours().name {
                let command = lab.floor("default", "bench-floor", &["/true"])?;
                measured.push((command, &mut floor));
            }
            let outcome = herd.sweep(&levels, lab.rounds.div_ceil(2 * sweeps), measured);
            herd.resize(0)?;
            outcome?;
        }
    }
    let mut named: Vec<(&str, Vec<Vec<f64>>)> = Vec::new();
    named.extend(lab.runtimes.iter().map(|runtime| &*runtime.name).zip(all));
    named.insert(1, ("floor", floor));
    let one = |(name, samples): (&str, Vec<Vec<f64>>)| {
        let mut result = Measurement::new(&format!("many alive, {name}"), "ms");
        // The most first: it is compared with the fewer.
        for (level, samples) in levels.iter().zip(samples).rev() {
            result = result.with(&format!("with {level}"), samples);
        }
        if name == lab.ours().name {
            result = result.goal(&format!("with {}", ALIVE[0]), 1.2);
        }
        result.note(format!("up and down {sweeps} x, the runtimes in turn"))
    };
    Ok(named.into_iter().map(one).collect())
}

/// Containers of one runtime that are alive.
struct Herd<'a> {
    lab: &'a Lab,
    runtime: &'a Runtime,
    count: usize,
}

impl Herd<'_> {
    /// Makes some, or takes some away.
    fn resize(&mut self, level: usize) -> Result<(), String> {
        let id = |number: usize| format!("alive-{number}");
        while self.count < level {
            self.lab.detached(self.runtime, "alive", &id(self.count))?;
            self.count += 1;
        }
        while self.count > level {
            self.count -= 1;
            let words = ["delete", "--force", &id(self.count)];
            self.lab.call(self.runtime, "alive", &words)?;
        }
        Ok(())
    }

    /// What is timed at each level.
    fn one_more(&self) -> Result<Command, String> {
        let words = ["run", "--bundle", "{}", "bench-one-more"];
        self.lab.command(self.runtime, "default", &words)
    }

    /// Goes through the levels, up and down, and adds so many samples of each command on each way.
    fn sweep(
        &mut self,
        levels: &[usize],
        rounds: usize,
        mut measured: Vec<(Command, &mut Vec<Vec<f64>>)>,
    ) -> Result<(), String> {
        let up = 0..levels.len();
        for at in up.clone().chain(up.rev()) {
            self.resize(levels[at])?;
            std::thread::sleep(SETTLE);
            // Not the first one: what it reads may have left the caches.
            for (command, _) in &mut measured {
                time(command)?;
            }
            for _ in 0..rounds {
                for (command, samples) in &mut measured {
                    samples[at].push(time(command)?);
                }
            }
        }
        Ok(())
    }
}

fn with_mounts(lab: &Lab) -> Result<Measurement, String> {
    let folder = lab.folder.join("host-mounts");
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut made: Vec<PathBuf> = Vec::new();
    let mut outcome = Ok(());
    while made.len() < MOUNTS && outcome.is_ok() {
        let path = folder.join(made.len().to_string());
        std::fs::create_dir_all(&path).map_err(failed)?;
        outcome = mount("bench", &path, "tmpfs", MountFlags::empty(), None);
        made.push(path);
    }
    let outcome = outcome.map_err(|error| failed(error.into()));
    let what = format!("many run with {MOUNTS} mounts on the host");
    let result = outcome.and_then(|()| run::beside_floor(lab, &what, "default"));
    for path in made {
        unmount(path, UnmountFlags::DETACH).map_err(|error| failed(error.into()))?;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_are_alive_unless_it_is_a_trial() {
        assert_eq!(levels(100), ALIVE);
        assert_eq!(levels(20), ALIVE);
        assert_eq!(levels(2), [10, 100]);
    }

    #[test]
    fn every_level_gets_at_least_as_many_samples_as_there_are_rounds() {
        for rounds in 1..=200 {
            let sweeps = sweeps(rounds);
            assert!((1..=3).contains(&sweeps));
            assert!(rounds.div_ceil(2 * sweeps) * 2 * sweeps >= rounds);
        }
    }
}
