//! Keeps twenty containers alive from four threads: `twenty BUNDLE` (as root).
//!
//! Each thread sleeps in one `poll` on the pidfds of its five containers and starts again what dies. The main thread
//! kills one of the twenty, waits until it is back, then has all of them stopped and deleted.

use std::error::Error;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use corten_core::{Bundle, Container, CreateOptions, Delete, Runtime};
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

const THREADS: usize = 4;
const CONTAINERS: usize = 20;

/// Errors cross a thread border here.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The id of a container that was started, or nothing when a keeper has failed.
type Started = Option<String>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("twenty: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let path = std::env::args_os().nth(1).ok_or("usage: twenty BUNDLE")?;
    let bundle = sleeping(path.as_ref())?;
    let runtime = Runtime::builder().root("/run/corten-example").build()?;
    // Nothing is ever written: when the main thread drops its end, every poll sees POLLHUP.
    let (stop, running) = rustix::pipe::pipe()?;
    let (events, started) = mpsc::channel();

    thread::scope(|scope| {
        let keepers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let ids: Vec<_> = (thread..CONTAINERS).step_by(THREADS).map(id).collect();
                let (runtime, bundle, stop, events) = (&runtime, &bundle, &stop, events.clone());
                scope.spawn(move || {
                    let result = keep(runtime, bundle, &ids, stop, &events);
                    if result.is_err() {
                        // Else the main thread would wait for containers that never come.
                        events.send(None).ok();
                        delete_all(runtime, &ids);
                    }
                    result
                })
            })
            .collect();
        let result = disturb(&runtime, &started);
        drop(running);
        for keeper in keepers {
            keeper.join().expect("a keeper has no panic of its own")?;
        }
        result
    })?;
    println!("{CONTAINERS} containers stopped and deleted");
    Ok(())
}

fn id(number: usize) -> String {
    format!("twenty-{number}")
}

/// The bundle's own configuration with another process in it: no file is written for that.
fn sleeping(path: &Path) -> Result<Bundle> {
    let mut spec = Spec::load(path.join("config.json"))?;
    if let Some(process) = spec.process_mut() {
        process.set_args(Some(vec!["sleep".into(), "3600".into()]));
    }
    Ok(Bundle::from_spec(spec, path.join("rootfs"))?)
}

/// Waits until all are up, kills one through a handle of its own, waits until it is back.
fn disturb(runtime: &Runtime, started: &Receiver<Started>) -> Result<()> {
    let next = || -> Result<String> { Ok(started.recv()?.ok_or("a keeper has failed")?) };
    for _ in 0..CONTAINERS {
        next()?;
    }
    println!("{CONTAINERS} containers up, from {THREADS} threads");
    let victim = runtime.container(&id(7))?;
    println!("killing {} (pid {})", victim.id(), victim.pid());
    victim.kill(Signal::KILL.as_raw())?;
    let back = next()?;
    println!("{back} is back (pid {})", runtime.container(&back)?.pid());
    Ok(())
}

/// Starts a container for each id, restarts what dies, and stops them all when `stop` is hung up.
fn keep(
    runtime: &Runtime,
    bundle: &Bundle,
    ids: &[String],
    stop: &OwnedFd,
    events: &Sender<Started>,
) -> Result<()> {
    let start = |id: &str| -> Result<Container> {
        let mut container = runtime.create(id, bundle, CreateOptions::default())?;
        container.start()?;
        // The main thread stops listening after its one restart.
        events.send(Some(id.to_owned())).ok();
        Ok(container)
    };
    let mut containers = ids.iter().map(|id| start(id)).collect::<Result<Vec<_>>>()?;
    while let Some(index) = first_dead(&containers, stop)? {
        let mut dead = containers.swap_remove(index);
        let id = dead.id().to_owned();
        println!("{id} ended: {:?}", dead.wait()?.status);
        dead.delete(Delete::IfStopped)?;
        containers.push(start(&id)?);
    }
    for mut container in containers {
        // `sleep` as pid 1 has no handler, so the kernel keeps every other signal from it.
        container.kill(Signal::KILL.as_raw())?;
        container.wait()?;
        container.delete(Delete::IfStopped)?;
    }
    Ok(())
}

/// Deletes what is there of these containers, in whatever state.
fn delete_all(runtime: &Runtime, ids: &[String]) {
    for container in ids.iter().filter_map(|id| runtime.container(id).ok()) {
        if let Err(error) = container.delete(Delete::Force) {
            eprintln!("twenty: {error:#}");
        }
    }
}

/// Sleeps until a container has ended (its index) or `stop` is hung up (none).
fn first_dead(containers: &[Container], stop: &OwnedFd) -> Result<Option<usize>> {
    let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
    fds.extend(
        containers
            .iter()
            .map(|container| PollFd::new(container, PollFlags::IN)),
    );
    poll(&mut fds, None)?;
    let (stop, pidfds) = fds.split_first().expect("`stop` was put in above");
    if !stop.revents().is_empty() {
        return Ok(None);
    }
    Ok(pidfds.iter().position(|fd| !fd.revents().is_empty()))
}
