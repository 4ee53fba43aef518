//! Many containers: several being made at a time, many alive, many mounts on the host.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

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
    for runtime in &lab.runtimes {
        all.push(alive(lab, runtime)?);
    }
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

/// `run` while more and more other containers of the same runtime are alive.
fn alive(lab: &Lab, runtime: &Runtime) -> Result<Measurement, String> {
    let what = format!("many alive, {}", runtime.name);
    lab.bundle("alive", lab.config("minimal", &["/probe", "sleep"]))?;
    let mut levels: Vec<usize> = ALIVE
        .iter()
        .map(|level| (*level).min(lab.rounds * 10))
        .collect();
    levels.dedup();
    let mut count = 0;
    let mut series = Vec::new();
    let mut outcome = Ok(());
    for level in levels {
        while count < level && outcome.is_ok() {
            super::progress(&format!("{what}: {level}"), count, level);
            outcome = lab
                .detached(runtime, "alive", &format!("alive-{count}"))
                .map(drop);
            count += 1;
        }
        let words = ["run", "--bundle", "{}", "bench-one-more"];
        let mut command = lab.command(runtime, "default", &words)?;
        let mut sample = || Ok([time(&mut command)?]);
        let mut subjects = [Subject::new(&format!("with {level}"), &mut sample)];
        if outcome.is_ok() {
            match lab.some_rounds(lab.rounds, &what, &mut subjects) {
                Ok([found]) => series.extend(found),
                Err(error) => outcome = Err(error),
            }
        }
    }
    for at in 0..count {
        lab.call(
            runtime,
            "alive",
            &["delete", "--force", &format!("alive-{at}")],
        )?;
    }
    outcome?;
    let mut result = Measurement::new(&what, "ms");
    // The most first: it is compared with the fewer.
    series.reverse();
    result.series = series;
    let least = result
        .series
        .last()
        .map(|last| last.subject.clone())
        .unwrap_or_default();
    let is_ours = runtime.name == lab.ours().name;
    Ok(if is_ours {
        result.goal(&least, 1.2)
    } else {
        result
    })
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
