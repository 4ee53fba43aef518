//! The commands of a container's life one by one, exec, and bundles with much in them.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::Group;
use super::result::Measurement;
use super::subject::{Lab, Runtime, Subject, pid, time, words};
use crate::wait;

pub(super) const GROUP: Group = Group {
    name: "steps",
    about: "create, start, kill, delete; exec, also with 1,000 variables; 100 mounts; 1,000 masked paths",
    measure,
};

/// How many variables exec gets, and how many paths are masked.
const MANY: usize = 1000;
const MOUNTS: usize = 100;

fn measure(lab: &Lab) -> Result<Vec<Measurement>, String> {
    let mut all = life(lab)?;
    all.extend(exec(lab)?);
    all.push(full(lab, "mounts", &format!("{MOUNTS} mounts"), mounts)?);
    all.push(full(
        lab,
        "masked",
        &format!("{MANY} masked paths"),
        masked,
    )?);
    Ok(all)
}

const LIFE: [&str; 4] = ["create", "start", "kill", "delete"];

fn life(lab: &Lab) -> Result<Vec<Measurement>, String> {
    lab.bundle("sleep", lab.config("default", &["/probe", "sleep"]))?;
    let subject = |runtime: &'_ Runtime| {
        let runtime = runtime.clone();
        Subject::new(&runtime.name.clone(), move || one_life(lab, &runtime))
    };
    let mut subjects: Vec<Subject<'_, 4>> = lab.runtimes.iter().map(subject).collect();
    let series = lab.rounds("steps of a life", &mut subjects)?;
    let all = LIFE.iter().zip(series).map(|(step, series)| {
        let mut result = Measurement::new(&format!("steps {step}"), "ms");
        result.series = series;
        result
    });
    Ok(all.collect())
}

fn one_life(lab: &Lab, runtime: &Runtime) -> Result<[f64; 4], String> {
    let id = "bench-life";
    let file = lab.folder.join("pid-life");
    let name = file.to_string_lossy();
    let step = |words: &[&str]| time(&mut lab.command(runtime, "sleep", words)?);
    let create = step(&["create", "--bundle", "{}", "--pid-file", &name, id])?;
    let start = step(&["start", id])?;
    let pid = Pid::from_raw(pid(&file)?).ok_or("a pid of 0")?;
    let init = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| error.to_string())?;
    let kill = step(&["kill", id, "KILL"])?;
    wait::readable(&init, wait::CALL).map_err(|error| error.to_string())?;
    // A reaper has still to take it: runtimes tell a zombie by its state.
    std::thread::sleep(Duration::from_millis(1));
    let delete = step(&["delete", id])?;
    Ok([create, start, kill, delete])
}

fn exec(lab: &Lab) -> Result<Vec<Measurement>, String> {
    // Containers of one name would share their cgroup.
    let id = |runtime: &Runtime| format!("bench-exec-{}", runtime.name);
    lab.bundle("sleep", lab.config("default", &["/probe", "sleep"]))?;
    for runtime in &lab.runtimes {
        lab.detached(runtime, "sleep", &id(runtime))?;
    }
    let process = lab.folder.join("process.json");
    write(
        &process,
        &lab.config("default", &["/true"])["process"],
        MANY,
    )?;
    let process = process.to_string_lossy().into_owned();
    let plain = lab.compare("steps exec", "sleep", &|runtime| {
        words(&["exec", &id(runtime), "/true"])
    })?;
    let large = format!("steps exec with {MANY} variables");
    let large = lab.compare(&large, "sleep", &|runtime| {
        words(&["exec", "--process", &process, &id(runtime)])
    })?;
    for runtime in &lab.runtimes {
        lab.call(runtime, "sleep", &["delete", "--force", &id(runtime)])?;
    }
    Ok(vec![plain.goal("crun", 1.0 / 3.0), large])
}

/// A file for exec, with so many more variables.
fn write(file: &Path, process: &Value, count: usize) -> Result<(), String> {
    let mut process = process.clone();
    if let Some(environment) = process["env"].as_array_mut() {
        environment.extend((0..count).map(|at| json!(format!("VARIABLE_{at}=value {at}"))));
    }
    std::fs::write(file, process.to_string()).map_err(|error| error.to_string())
}

/// `run` of `true` in a bundle with much of something.
fn full(
    lab: &Lab,
    bundle: &str,
    what: &str,
    edit: fn(&mut Value, &Path) -> std::io::Result<()>,
) -> Result<Measurement, String> {
    let mut config = lab.config("default", &["/true"]);
    let folder = lab.folder(bundle);
    edit(&mut config, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    lab.bundle(bundle, config)?;
    let id = |runtime: &Runtime| format!("bench-{}", runtime.name);
    lab.compare(&format!("steps run with {what}"), bundle, &|runtime| {
        words(&["run", "--bundle", "{}", &id(runtime)])
    })
}

fn mounts(config: &mut Value, folder: &Path) -> std::io::Result<()> {
    let source = folder.join("source");
    std::fs::create_dir_all(&source)?;
    let list = config["mounts"].as_array_mut();
    let list = list.ok_or_else(|| std::io::Error::other("a bundle without mounts"))?;
    for at in 0..MOUNTS {
        std::fs::create_dir_all(folder.join(format!("rootfs/tmp/{at}")))?;
        list.push(json!({
            "destination": format!("/tmp/{at}"), "type": "none", "source": source,
            "options": ["rbind", "rprivate"],
        }));
    }
    Ok(())
}

fn masked(config: &mut Value, folder: &Path) -> std::io::Result<()> {
    let files = folder.join("rootfs/etc/masked");
    std::fs::create_dir_all(&files)?;
    let mut paths = Vec::new();
    for at in 0..MANY {
        std::fs::write(files.join(at.to_string()), "")?;
        paths.push(format!("/etc/masked/{at}"));
    }
    config["linux"]["maskedPaths"] = json!(paths);
    Ok(())
}
