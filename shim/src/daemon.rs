//! [`Shim`]: what stays, and owns all state of its containers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::args::Args;
use crate::create::Creation;
use crate::end::Draining;
use crate::engine::{Poller, Ready, Source, Token};
use crate::failure::Failure;
use crate::proto::rpc::Request;
use crate::publisher::Publisher;
use crate::runtimes::Runtimes;
use crate::server::{Connection, Reply};
use crate::socket::{self, Bound, Leave};
use crate::stdio::copy::{Copies, Turn};
use crate::task::Task;
use crate::worker::{Finish, Job, Wanted, Workers};

/// How long a shim that nobody wants any more waits for containerd to take the last events:
/// longer than any update or repair of it takes, and not for ever where it was removed.
pub(crate) const LAST_EVENTS: Duration = Duration::from_hours(24);

/// How long one that gets SIGTERM or SIGINT waits for the same and for work under way, at most.
/// Whoever sends these sends SIGKILL later: systemd after 90 seconds, others after ten or more.
pub(crate) const LAST_SIGNALLED: Duration = Duration::from_secs(8);

/// How long one that was asked to end waits for what is under way, say for loggers to finish.
const LAST_WORK: Duration = Duration::from_secs(15);

/// How long a shim that may end lets callers hang up first: an answer that a close follows at
/// once may be taken for lost. (ttrpc in Go chooses one of both.)
const LAST_CALLERS: Duration = Duration::from_secs(1);

/// How long a shim without containers lives that nobody calls: containerd was killed before it
/// could use it. Up to 1.6 it connects with such a one when it is back, and never asks for more.
const UNWANTED: Duration = Duration::from_secs(60);

/// After how much quiet unused memory is given back.
const QUIET: Duration = Duration::from_secs(2);

/// The shim.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) namespace: String,
    pub(crate) poller: Poller,
    pub(crate) publisher: Publisher,
    pub(crate) copies: Copies,
    pub(crate) tasks: BTreeMap<String, Task>,
    /// Containers that are being made.
    pub(crate) creating: BTreeMap<String, Creation>,
    pub(crate) runtimes: Runtimes,
    pub(crate) draining: Vec<Draining>,
    workers: Workers,
    /// Calls about what is being made or started: they wait for that.
    pub(crate) late: Vec<(Reply, Request)>,
    /// Until when callers want their answers.
    pub(crate) deadlines: BTreeMap<Reply, Instant>,
    /// Callers that were told that it takes too long, of calls that go on.
    pub(crate) told: BTreeSet<Reply>,
    /// It has been asked to end, while something was being made that may come to nothing.
    pub(crate) leave_later: bool,
    /// How many containers there ever were.
    pub(crate) serial: u64,
    pub(crate) connections: BTreeMap<Token, Connection>,
    /// No caller can be taken before this.
    pub(crate) accept_again: Option<Instant>,
    /// Since when it has been asked to end.
    leaving: Option<Instant>,
    /// Since when it is to end by a signal, as soon as containerd has its events.
    pub(crate) signalled: Option<Instant>,
    /// Since when there is neither a container nor a call.
    pub(crate) unwanted: Option<Instant>,
    /// When memory is to be given back.
    trim: Option<Instant>,
}

/// Why the loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// There was nothing to do, and the socket is removed.
    Left,
    /// By a signal.
    Signalled,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    open_log();
    crate::logging::install(args.debug);
    crate::sys::raise_nofile();
    let (listener, path) = listener(args)?;
    // Orphans of a container without a pid namespace of its own come to the shim.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| Failure::call("prctl", errno))?;
    let events = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let mut shim =
        Shim::new(&args.namespace, &events).map_err(|errno| Failure::call("event loop", errno))?;
    let served = shim.serve(&listener, &path);
    // Before anybody sees that it ends: `delete` is to find them.
    shim.save_events();
    // Else it has gone already, and what is there now is another shim's.
    if !matches!(served, Ok(Over::Left)) {
        socket::leave(&listener, &path, Leave::Always)?;
    }
    served.map(drop)
}

/// containerd reads the fifo `log` in the bundle; without it nobody hears of anything.
fn open_log() {
    // Read and write, so that a containerd that is down neither blocks nor breaks it.
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(nix::libc::O_NONBLOCK);
    if let Ok(log) = options.open("log") {
        // The only use of its failure would be to log it.
        rustix::stdio::dup2_stderr(&log).ok();
    }
}

/// The socket from `start`, as stdin, or a new one at `-socket`.
fn listener(args: &Args) -> Result<(UnixListener, PathBuf), Failure> {
    if !args.socket.is_empty() {
        let path = socket::file(&args.socket).to_owned();
        return match socket::bind(&path)? {
            Bound::New(listener) => Ok((listener, path)),
            Bound::Taken => Err(Failure::other(format!("{} is in use", path.display()))),
        };
    }
    let failed = |error: io::Error| Failure::call("stdin is no listening socket", error);
    let stdin = io::stdin();
    let fd: OwnedFd = stdin.as_fd().try_clone_to_owned().map_err(failed)?;
    let listener = UnixListener::from(fd);
    let address = listener.local_addr().map_err(failed)?;
    let path = address
        .as_pathname()
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let path = path.to_owned();
    leave_stdin()?;
    Ok((listener, path))
}

/// Has nothing on stdin any more.
pub(crate) fn leave_stdin() -> Result<(), Failure> {
    let null = OpenOptions::new().read(true).open("/dev/null");
    let null = null.map_err(|error| Failure::call("/dev/null", error))?;
    rustix::stdio::dup2_stdin(&null).map_err(|errno| Failure::call("dup2", errno))
}

/// The signals that the shim looks at; blocked, so that they come by a descriptor.
pub(crate) fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGCHLD,
        Signal::SIGUSR1,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

impl Shim {
    fn new(namespace: &str, events: &str) -> Result<Shim, rustix::io::Errno> {
        Ok(Shim {
            namespace: namespace.to_owned(),
            poller: Poller::new()?,
            publisher: Publisher::new(events, namespace),
            copies: Copies::default(),
            tasks: BTreeMap::new(),
            creating: BTreeMap::new(),
            runtimes: Runtimes::default(),
            draining: Vec::new(),
            workers: Workers::new()?,
            late: Vec::new(),
            deadlines: BTreeMap::new(),
            told: BTreeSet::new(),
            leave_later: false,
            serial: 0,
            connections: BTreeMap::new(),
            accept_again: None,
            leaving: None,
            signalled: None,
            unwanted: Some(Instant::now()),
            trim: None,
        })
    }

    /// Until it is asked to end.
    fn serve(&mut self, listener: &UnixListener, path: &Path) -> Result<Over, Failure> {
        let failed = |errno| Failure::call("epoll", errno);
        listener
            .set_nonblocking(true)
            .map_err(|error| Failure::call("listening socket", error))?;
        let signals = signals().map_err(|errno| Failure::call("signalfd", errno))?;
        let listening = self
            .poller
            .add(listener, Ready::IN, Source::Listener)
            .map_err(failed)?;
        self.poller
            .add(&signals, Ready::IN, Source::Signals)
            .map_err(failed)?;
        self.poller
            .add(&self.workers, Ready::IN, Source::Workers)
            .map_err(failed)?;
        loop {
            if self.is_over_by_signal() {
                return Ok(Over::Signalled);
            }
            if self.is_over() {
                if socket::leave(listener, path, Leave::IfUnwanted)? {
                    return Ok(Over::Left);
                }
                self.stay();
            }
            let ready = self.poller.wait(self.deadline()).map_err(failed)?;
            self.trim = match self.trim {
                _ if !ready.is_empty() => Some(Instant::now() + QUIET),
                Some(then) if then <= Instant::now() => {
                    // Of a thread that has ended behind its last signal.
                    self.reap_orphans();
                    crate::sys::trim();
                    None
                }
                other => other,
            };
            for (token, source) in ready {
                if self.poller.knows(token)
                    && let Err(over) = self.handle(token, source, listener, &signals)
                {
                    return Ok(over);
                }
            }
            if self.accept_again.is_some_and(|then| then <= Instant::now()) {
                self.accept_again = None;
                self.listen(listener, listening, Ready::IN);
            }
            self.tell_limits();
            self.publisher.go_on(&mut self.poller);
            for number in self.copies.due() {
                self.copy(number);
            }
            self.delete_drained();
        }
    }

    fn handle(
        &mut self,
        token: Token,
        source: Source,
        listener: &UnixListener,
        signals: &SignalFd,
    ) -> Result<(), Over> {
        match source {
            Source::Listener => self.accept(listener, token),
            Source::Signals => return self.signalled(signals),
            Source::Workers => self.finish_work(),
            Source::Publisher => self.publisher.ready(&mut self.poller),
            Source::Connection => self.read(token),
            Source::Exit(key) => self.collect(&key),
            Source::Oom(id) => self.tell_oom(&id),
            // Once its last output is through, a Delete may go on.
            Source::Copy(number) => self.copy(number),
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        let times = [
            self.publisher.deadline(),
            self.trim,
            self.copies.deadline(),
            self.accept_again,
            self.drain_deadline(),
            self.leave_deadline(),
            self.signalled.map(|since| since + LAST_SIGNALLED),
            self.unwanted.map(|since| since + self.patience()),
            self.next_limit(),
        ];
        times.into_iter().flatten().min()
    }

    /// When to look again whether it is over that was asked to end.
    fn leave_deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let since = self.leaving?;
        let times = [LAST_CALLERS, LAST_WORK, LAST_EVENTS].map(|limit| since + limit);
        times.into_iter().find(|time| *time > now).or(Some(now))
    }

    /// Asked to end and done, or of no use to anybody.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if let Some(since) = self.leaving {
            let after = |limit| since + limit <= now;
            let alone = self.connections.is_empty() || after(LAST_CALLERS);
            let done = self.jobs().next().is_none() || after(LAST_WORK);
            let told = self.publisher.is_empty() || after(LAST_EVENTS);
            return self.tasks.is_empty() && alone && done && told;
        }
        let idle = !self.is_of_use();
        self.unwanted = match self.unwanted {
            Some(since) if idle => Some(since),
            None if idle => Some(now),
            _ => None,
        };
        let patience = self.patience();
        self.unwanted.is_some_and(|since| since + patience <= now)
    }

    /// Ended by a signal, with nothing under way, and containerd has all events or is not there;
    /// or it takes too long.
    fn is_over_by_signal(&self) -> bool {
        self.signalled.is_some_and(|since| {
            let late = since + LAST_SIGNALLED <= Instant::now();
            // There will be more to tell.
            let done = !self.jobs().any(|job| self.is_wanted_job(job));
            let told = self.publisher.is_empty() && !self.has_untold();
            // A machine that is shut down must not wait for a containerd that has ended before.
            late || (done && (told || self.publisher.is_away()))
        })
    }

    /// How long it lives without containers when nobody calls.
    fn patience(&self) -> Duration {
        if self.publisher.is_empty() {
            UNWANTED
        } else {
            LAST_EVENTS
        }
    }

    /// Whether there is a container that is not being deleted, or something under way that
    /// somebody wants.
    fn is_of_use(&self) -> bool {
        let mut tasks = self.tasks.values();
        tasks.any(|task| !task.deleting) || self.jobs().any(|job| self.is_wanted_job(job))
    }

    /// Whether somebody wants what comes of this. What hangs where nothing ends it, as in a file
    /// system that does not answer, must not keep a shim that is of no use to anybody.
    fn is_wanted_job(&self, job: &Job) -> bool {
        match job.wanted {
            Wanted::By(reply) => self.hears(reply),
            Wanted::ByShim => true,
            Wanted::ByNobody => false,
        }
    }

    fn signalled(&mut self, signals: &SignalFd) -> Result<(), Over> {
        while let Ok(Some(info)) = signals.read_signal() {
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGTERM | Signal::SIGINT) => {
                    if self.signalled.is_some() {
                        return Err(Over::Signalled);
                    }
                    self.signalled = Some(Instant::now());
                    // What ended before the signal came is told as well.
                    self.collect_all();
                }
                Ok(Signal::SIGUSR1) => log::info!("{self:?}"),
                Ok(Signal::SIGCHLD) => self.reap_orphans(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends the loop as soon as containerd has been told everything.
    pub(crate) fn leave(&mut self) {
        self.leaving.get_or_insert_with(Instant::now);
    }

    /// A caller that comes, or a container that is asked for in time, keeps it here.
    pub(crate) fn stay(&mut self) {
        self.leaving = None;
        self.leave_later = false;
        self.unwanted = None;
    }

    /// What is under way on other threads.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.workers.jobs()
    }

    /// Goes on with what was done on other threads.
    pub(crate) fn finish_work(&mut self) {
        for finish in self.workers.take() {
            finish(self);
        }
        // A name may have become free.
        self.call_late();
    }

    /// Moves bytes of a stream, here or by a thread.
    pub(crate) fn copy(&mut self, number: u64) {
        if let Some(carrier) = self.copies.go_on(&mut self.poller, number) {
            self.work(
                Job::new(Wanted::ByNobody),
                move || Ok(carrier.run()),
                move |shim, turn: Result<Turn, Failure>| {
                    let turn = turn.unwrap_or(Turn::End);
                    shim.copies.after(&mut shim.poller, number, turn);
                },
            );
        }
    }

    /// Does something on a thread of its own, and goes on here with what came of it.
    pub(crate) fn work<T: Send + 'static>(
        &mut self,
        job: Job,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
        then: impl FnOnce(&mut Shim, Result<T, Failure>) + Send + 'static,
    ) {
        let work = Box::new(move || {
            let done = work();
            let finish: Finish = Box::new(move |shim: &mut Shim| then(shim, done));
            finish
        });
        self.workers.start(job, work);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Sender, channel};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::frame;

    fn ago(time: Duration) -> Option<Instant> {
        Instant::now().checked_sub(time + Duration::from_secs(1))
    }

    /// A caller of the shim: what an answer to it is for, and its end.
    fn caller(shim: &mut Shim) -> (Reply, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        shim.connections.insert(7, Connection::new(ours).unwrap());
        let (connection, stream) = (7, 1);
        (Reply { connection, stream }, theirs)
    }

    /// Something that hangs until it is let go.
    fn hang(shim: &mut Shim, job: Job) -> Sender<()> {
        let (sender, receiver) = channel::<()>();
        let work = move || receiver.recv().map_err(|_| Failure::other("let go"));
        shim.work(job, work, |_, _| {});
        sender
    }

    #[test]
    fn what_hangs_keeps_a_shim_as_long_as_somebody_waits_for_it() {
        let mut shim = Shim::new("test", "").unwrap();
        let (reply, theirs) = caller(&mut shim);
        let _hangs = hang(&mut shim, Job::by(reply));
        shim.unwanted = ago(UNWANTED);
        assert!(!shim.is_over(), "its caller waits");
        assert_eq!(shim.unwanted, None);
        // Nothing has read its end of the connection yet.
        drop(theirs);
        assert!(!shim.hears(reply));
        assert!(!shim.is_over(), "only now nobody waits");
        shim.unwanted = ago(UNWANTED);
        assert!(shim.is_over());
    }

    #[test]
    fn what_hangs_does_not_keep_a_shim_whose_caller_was_told_that_it_takes_too_long() {
        let mut shim = Shim::new("test", "").unwrap();
        let (reply, _theirs) = caller(&mut shim);
        let _hangs = hang(&mut shim, Job::by(reply));
        assert!(shim.begin(reply, 1));
        while shim.hears(reply) {
            shim.tell_limits();
        }
        shim.unwanted = ago(UNWANTED);
        assert!(shim.is_over());
    }

    #[test]
    fn a_delete_that_hangs_keeps_a_shim_as_long_as_somebody_waits_for_it() {
        use crate::task::{Process, Task};

        let mut shim = Shim::new("test", "").unwrap();
        let (reply, theirs) = caller(&mut shim);
        let options = crate::proto::options::Options::default();
        let runtime = shim.runtimes.find(&options, "test").unwrap();
        let task = Task::new(String::new(), runtime, Process::default());
        shim.tasks.insert("web".to_owned(), task);
        shim.unwanted = ago(UNWANTED);
        assert!(!shim.is_over(), "there is a container");
        shim.tasks.get_mut("web").unwrap().deleting = true;
        let _hangs = hang(&mut shim, Job::by(reply));
        shim.unwanted = ago(UNWANTED);
        assert!(!shim.is_over(), "its caller waits");
        drop(theirs);
        shim.unwanted = ago(UNWANTED);
        assert!(shim.is_over());
    }

    #[test]
    fn events_that_containerd_has_not_taken_keep_a_shim_for_a_day() {
        let mut shim = Shim::new("test", "/nowhere/ttrpc").unwrap();
        shim.unwanted = ago(UNWANTED);
        assert!(shim.is_over());
        let event = crate::proto::events::TaskOnly::default();
        shim.tell("web", "/tasks/oom", "TaskOOM", &event);
        assert!(!shim.is_over());
        shim.leave();
        shim.leaving = ago(LAST_WORK);
        assert!(!shim.is_over());
        shim.leaving = ago(LAST_EVENTS);
        assert!(shim.is_over());
        shim.stay();
        assert!(!shim.is_over());
        shim.unwanted = ago(LAST_EVENTS);
        assert!(shim.is_over());
    }

    #[test]
    fn a_signalled_shim_waits_some_seconds_for_containerd_to_take_events() {
        let mut shim = Shim::new("test", "/nowhere/ttrpc").unwrap();
        assert!(!shim.is_over_by_signal());
        shim.signalled = Some(Instant::now());
        assert!(shim.is_over_by_signal(), "nothing waits");
        let deadline = shim.deadline().unwrap();
        assert!(deadline <= Instant::now() + LAST_SIGNALLED);
        let event = crate::proto::events::TaskOnly::default();
        shim.tell("web", "/tasks/oom", "TaskOOM", &event);
        assert!(!shim.is_over_by_signal());
        shim.signalled = ago(LAST_SIGNALLED);
        assert!(shim.is_over_by_signal());
    }

    #[test]
    fn a_signalled_shim_waits_some_seconds_for_work_that_somebody_wants() {
        let mut shim = Shim::new("test", "").unwrap();
        let (reply, theirs) = caller(&mut shim);
        let _hangs = hang(&mut shim, Job::by(reply));
        shim.signalled = Some(Instant::now());
        assert!(!shim.is_over_by_signal());
        shim.signalled = ago(LAST_SIGNALLED);
        assert!(shim.is_over_by_signal());
        shim.signalled = Some(Instant::now());
        drop(theirs);
        assert!(shim.is_over_by_signal(), "nobody wants it");
    }

    /// A shim in a folder of its own, which is the bundle of its container and where containerd
    /// listens. All that could be sent is saved, once.
    fn saves(change: impl FnOnce(&mut Shim)) {
        use crate::saved::{self, Found};
        use crate::task::{Exit, Process, Task};

        // By the thread: each test has one.
        let number = rustix::thread::gettid().as_raw_nonzero();
        let bundle = std::env::temp_dir().join(format!("corten-daemon-{number}"));
        std::fs::create_dir(&bundle).unwrap();
        let address = bundle.join("ttrpc");
        let containerd = UnixListener::bind(&address).unwrap();
        containerd.set_nonblocking(true).unwrap();
        let mut shim = Shim::new("test", &address.display().to_string()).unwrap();
        let options = crate::proto::options::Options::default();
        let runtime = shim.runtimes.find(&options, "test").unwrap();
        let bundle_name = bundle.display().to_string();
        let mut task = Task::new(bundle_name, runtime, Process::default());
        task.init.collected = Some(Exit::now(5));
        shim.tasks.insert("web".to_owned(), task);
        change(&mut shim);
        let key = crate::engine::Key {
            id: "web".to_owned(),
            exec: String::new(),
        };
        shim.settle(&key);
        assert!(shim.publisher.is_empty(), "it is not its turn");
        shim.signalled = Some(Instant::now());
        assert!(!shim.is_over_by_signal());
        for _ in 0..2 {
            shim.save_events();
            let Found::Events(saved) = saved::read(&bundle).unwrap() else {
                panic!("nothing is saved");
            };
            assert_eq!(saved.requests.len(), 1, "once");
            assert_eq!(saved.exit.unwrap().exit_status, 5);
        }
        let sent = containerd.accept().map(drop);
        assert!(sent.is_err(), "it is sent and saved");
        std::fs::remove_dir_all(&bundle).unwrap();
    }

    #[test]
    fn an_exit_that_waits_for_those_of_others_is_saved_when_there_is_no_later() {
        use crate::task::Process;

        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        let alive = Process {
            pidfd: Some(std::sync::Arc::new(pidfd.unwrap())),
            ..Process::default()
        };
        saves(|shim| {
            let task = shim.tasks.get_mut("web").unwrap();
            task.execs.insert("one".to_owned(), alive);
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn an_exit_that_waits_for_its_start_is_saved_when_there_is_no_later() {
        saves(|shim| shim.tasks.get_mut("web").unwrap().init.starting = true);
    }

    #[test]
    fn what_was_done_for_the_last_turn_is_saved() {
        saves(|shim| {
            let task = shim.tasks.get_mut("web").unwrap();
            let exit = task.init.collected.take();
            shim.work(
                Job::new(Wanted::ByShim),
                || Ok(()),
                move |shim, _: Result<(), Failure>| {
                    shim.tasks.get_mut("web").unwrap().init.collected = exit;
                },
            );
            // Its result is there, and nobody has taken it.
            let mut done = [PollFd::new(&shim.workers, PollFlags::IN)];
            assert_eq!(poll(&mut done, None), Ok(1));
        });
    }

    #[test]
    fn there_is_no_other_container_of_a_name_while_something_looks_for_it() {
        let mut shim = Shim::new("test", "").unwrap();
        let (reply, _theirs) = caller(&mut shim);
        let job = Job {
            wanted: Wanted::ByShim,
            container: Some("web".to_owned()),
        };
        let hangs = hang(&mut shim, job);
        let create = |id: &str| Request {
            service: "containerd.task.v3.Task".to_owned(),
            method: "Create".to_owned(),
            payload: prost::Message::encode_to_vec(&crate::proto::sandbox::SandboxRequest {
                sandbox_id: id.to_owned(),
            }),
            timeout_nano: 0,
        };
        shim.call(reply, create("web"));
        shim.call(reply, create("other"));
        let creating = |shim: &Shim| shim.creating.keys().cloned().collect::<Vec<_>>();
        assert_eq!(creating(&shim), ["other"]);
        hangs.send(()).unwrap();
        while !creating(&shim).contains(&"web".to_owned()) {
            shim.finish_work();
        }
    }

    #[test]
    fn a_shim_without_containers_that_nobody_calls_ends_though_somebody_is_connected() {
        let mut shim = Shim::new("test", "").unwrap();
        let _theirs = caller(&mut shim);
        assert!(!shim.is_over(), "it has just begun");
        shim.unwanted = Instant::now().checked_sub(UNWANTED);
        assert!(shim.is_over());
        let mut bytes = frame::request(1, "containerd.task.v2.Task", "Connect", vec![]);
        let call = frame::take(&mut bytes).unwrap().unwrap();
        shim.request(0, &call);
        assert!(!shim.is_over(), "somebody asks");
    }
}
