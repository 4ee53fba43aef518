//! What becomes of saved events: `delete` publishes them, and leaves what containerd can't take
//! to a process of its own.
//!
//! containerd, started again, runs `delete` for each shim that it misses, and takes events only
//! when all of that is done. Behind `delete` it removes the bundle. So there must be somebody
//! who waits: this program, as `publish`. It also gets what finds no room in a bundle.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::fs::MemfdFlags;

use crate::args::Args;
use crate::daemon::{self, LAST_EVENTS, LAST_SIGNALLED};
use crate::engine::{Poller, Ready, Source};
use crate::failure::Failure;
use crate::proto::events::TaskExit;
use crate::publisher::Publisher;
use crate::saved::{self, Found, Saved};

/// How long `delete` waits for a containerd that takes events slowly. It is killed after five
/// seconds (`io.containerd.timeout.shim.cleanup`), and has more to do.
const LIMIT: Duration = Duration::from_secs(2);

/// Publishes the events in a bundle, and gives the exit of the container that is kept there.
///
/// Who fails has left them there. The exit stays in any case: who is asked again says the same.
pub(crate) fn deliver(args: &Args, bundle: &Path) -> Result<Option<TaskExit>, Failure> {
    let saved = match saved::read(bundle)? {
        Found::Events(saved) => saved,
        Found::Nothing => return Ok(None),
        Found::Other(failure) => {
            log::error!("{}: events are lost: {failure}", args.id);
            return Ok(None);
        }
    };
    let exit = saved.exit;
    if saved.requests.is_empty() {
        return Ok(exit);
    }
    // The address of now: containerd may have been given another one.
    let address = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let address = Some(address).filter(|address| !address.is_empty());
    let address = address.unwrap_or(saved.address);
    let mut publisher = Publisher::with(&address, &args.namespace, &saved.requests);
    run(&mut publisher, &How::Try)?;
    if !publisher.is_empty() {
        let requests = publisher.left().map(|event| event.payload.clone());
        let left = Saved {
            address,
            requests: requests.collect(),
            exit: None,
        };
        hand_over(&args.namespace, &args.id, &left)?;
    }
    let done = Saved {
        exit: exit.clone(),
        ..Saved::default()
    };
    if let Err(failure) = saved::write(bundle, &done) {
        log::warn!(
            "{}: if asked again, events are published again: {failure}",
            args.id
        );
    }
    Ok(exit)
}

/// Leaves events to a process that waits for containerd.
pub(crate) fn hand_over(namespace: &str, id: &str, saved: &Saved) -> Result<(), Failure> {
    let failed = |error| Failure::call("leaving events to a process", error);
    let file = rustix::fs::memfd_create("events", MemfdFlags::CLOEXEC);
    let mut file = File::from(file.map_err(|errno| failed(errno.into()))?);
    file.write_all(&saved.to_bytes())
        .and_then(|()| file.rewind())
        .map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("containerd-shim-corten-v2")
        .args(["-namespace", namespace, "-id", id, "publish"])
        // Not in the bundle; and containerd waits until nobody has its pipes.
        .current_dir("/")
        .stdin(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    // Its end is not waited for: init reaps it.
    command.spawn().map(drop).map_err(failed)
}

/// `publish`: goes on with the events on stdin until containerd has taken them.
pub(crate) fn publish(args: &Args) -> Result<(), Failure> {
    let signals = daemon::signals().map_err(|errno| Failure::call("signalfd", errno))?;
    let saved = Saved::read(std::io::stdin());
    let saved = saved.map_err(|error| Failure::call("stdin", error))?;
    // What has been read is memory that nobody needs twice.
    daemon::leave_stdin()?;
    let mut publisher = Publisher::with(&saved.address, &args.namespace, &saved.requests);
    drop(saved);
    crate::sys::trim();
    run(&mut publisher, &How::Stay(signals))
}

/// How long events are tried.
#[derive(Debug)]
enum How {
    /// While containerd takes them, for a short time.
    Try,
    /// As long as a shim does, and after one of these signals.
    Stay(SignalFd),
}

fn run(publisher: &mut Publisher, how: &How) -> Result<(), Failure> {
    let failed = |errno| Failure::call("epoll", errno);
    let mut poller = Poller::new().map_err(failed)?;
    let mut until = Instant::now();
    match how {
        How::Try => until += LIMIT,
        How::Stay(signals) => {
            until += LAST_EVENTS;
            poller
                .add(signals, Ready::IN, Source::Signals)
                .map_err(failed)?;
        }
    }
    loop {
        publisher.go_on(&mut poller);
        let gives_up = matches!(how, How::Try) && publisher.is_away();
        if publisher.is_empty() || gives_up || until <= Instant::now() {
            return Ok(());
        }
        let next = publisher.deadline().map_or(until, |next| next.min(until));
        for (_, source) in poller.wait(Some(next)).map_err(failed)? {
            match (source, how) {
                (Source::Publisher, _) => publisher.ready(&mut poller),
                (Source::Signals, How::Stay(signals)) => {
                    for _ in 0..ends(signals) {
                        // The second one ends it at once.
                        let last = Instant::now() + LAST_SIGNALLED;
                        until = if until <= last { Instant::now() } else { last };
                    }
                }
                _ => {}
            }
        }
    }
}

/// How many signals have come that are to end it.
fn ends(signals: &SignalFd) -> usize {
    let mut count = 0;
    while let Ok(Some(info)) = signals.read_signal() {
        let signal = Signal::try_from(info.ssi_signo.cast_signed());
        count += usize::from(matches!(signal, Ok(Signal::SIGTERM | Signal::SIGINT)));
    }
    count
}
