//! What the library must leave alone: the program that it is part of.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use corten_core::{Bundle, CreateOptions, Delete, Error, ExecOptions, ExitStatus, Runtime};

use crate::lab::{self, Lab};
use crate::snapshot::{Process, Program, read, threads};
use crate::sys;

const CONTAINERS: usize = 200;
const CREATORS: usize = 8;
const BUSY: usize = 8;

/// Minutes where seconds are needed: only what hangs reaches it.
const HANGS: Duration = Duration::from_secs(200);

/// Keeps what it is told, under a lock: a child that logged would hang on it.
#[derive(Default)]
struct Logger(Mutex<Vec<String>>);

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut kept = self.0.lock().expect("no logger panics");
        if kept.len() > 1000 {
            kept.clear();
        }
        kept.push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Makes everything that can differ from the default differ.
fn become_unusual() {
    std::env::set_current_dir("/run/tmp").expect("the lane made it");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o137));
    sys::ignore(libc::SIGHUP);
    sys::catch(libc::SIGUSR1);
    sys::catch(64);
    std::fs::write("/proc/self/oom_score_adj", "123").expect("root may");
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))
        .expect("any process may");
    rustix::process::nice(3).expect("lower is always allowed");
}

/// Runs one container, which ends with 7.
fn one(runtime: &Runtime, bundle: &Bundle, id: &str) -> Result<(), Error> {
    let mut container = runtime.create(id, bundle, CreateOptions::default())?;
    container.start()?;
    let exit = container.wait()?;
    assert_eq!(exit.status, ExitStatus::Code(7), "{id}");
    container.delete(Delete::IfStopped)
}

/// What all threads share. They meet before the first container, after the last, and
/// when they may end, so that they can be looked at in between.
struct Meeting {
    bundle: Bundle,
    runtime: Mutex<Option<Arc<Runtime>>>,
    start: Barrier,
    end: Barrier,
    leave: Barrier,
    stop: AtomicBool,
    /// Of the busy threads.
    rounds: AtomicU64,
}

impl Meeting {
    fn new(bundle: Bundle) -> Meeting {
        let barrier = || Barrier::new(CREATORS + BUSY + 1);
        Meeting {
            bundle,
            runtime: Mutex::default(),
            start: barrier(),
            end: barrier(),
            leave: barrier(),
            stop: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
        }
    }

    fn runtime(&self) -> Arc<Runtime> {
        let runtime = self.runtime.lock().expect("nobody panics").clone();
        runtime.expect("set before the start, taken after the end")
    }

    fn set_runtime(&self, runtime: Option<Runtime>) {
        *self.runtime.lock().expect("nobody panics") = runtime.map(Arc::new);
    }

    /// One of the threads that create containers; tells of each.
    fn create(&self, thread: usize, told: &Sender<Result<(), String>>) {
        sys::block(libc::SIGUSR2);
        self.start.wait();
        for number in (thread..CONTAINERS).step_by(CREATORS) {
            let done = one(&self.runtime(), &self.bundle, &format!("many-{number}"));
            told.send(done.map_err(|error| format!("{number}: {error:#}")))
                .expect("the test listens");
        }
        self.end.wait();
        self.leave.wait();
    }

    /// One of the threads that allocate, free and log meanwhile.
    fn be_busy(&self) {
        sys::block(libc::SIGTERM);
        self.start.wait();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let round = self.rounds.fetch_add(1, Ordering::Relaxed);
            let length = 16 + usize::try_from(round % 50_000).expect("it is small");
            kept.push(black_box(vec![1; length]));
            if kept.len() > 100 {
                kept.clear();
            }
            log::info!("round {round}: {} kept", kept.len());
        }
        self.end.wait();
        self.leave.wait();
    }

    /// Looks at the process again and again: how often, or the first difference.
    fn watch(&self, expected: &Process) -> Result<u64, String> {
        let mut looks = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let now = Process::look();
            if now != *expected {
                return Err(format!("{now:#?}\ninstead of\n{expected:#?}"));
            }
            looks += 1;
        }
        Ok(looks)
    }
}

/// Runs all the containers between two looks at this program.
fn run_them(meeting: &Arc<Meeting>, runtime: Runtime) {
    let (told, hear) = mpsc::channel();
    for thread in 0..CREATORS {
        let (meeting, told) = (meeting.clone(), told.clone());
        thread::spawn(move || meeting.create(thread, &told));
    }
    for _ in 0..BUSY {
        let meeting = meeting.clone();
        thread::spawn(move || meeting.be_busy());
    }
    // They have set their masks once all of them wait.
    lab_wait(|| threads().values().filter(|facts| blocks(facts)).count() == CREATORS + BUSY);

    let before = Program::look();
    meeting.set_runtime(Some(runtime));
    let (watcher, expected) = (meeting.clone(), Process::look());
    let watcher = thread::spawn(move || (rustix::thread::gettid(), watcher.watch(&expected)));
    meeting.start.wait();
    for _ in 0..CONTAINERS {
        let done = hear.recv_timeout(HANGS).expect("a container hangs");
        assert_eq!(done, Ok(()));
    }
    meeting.stop.store(true, Ordering::Relaxed);
    let (watcher, looks) = watcher.join().expect("no panic");
    let looks = looks.expect("nothing changes");
    // It was joined when the kernel cleared its id, and leaves the list of threads only after
    // that: seen on a busy machine. See exit_mm and release_task in the kernel.
    let left = format!("/proc/self/task/{}", watcher.as_raw_nonzero());
    lab_wait(|| !Path::new(&left).exists());
    meeting.end.wait();
    meeting.set_runtime(None);
    assert_eq!(Program::look(), before);
    meeting.leave.wait();
    let rounds = meeting.rounds.load(Ordering::Relaxed);
    println!("{looks} looks, {rounds} rounds of the busy threads");
    assert!(
        looks > 10 && rounds > 1000,
        "{looks} looks, {rounds} rounds"
    );
}

/// Whether a thread blocks SIGUSR2 or SIGTERM.
fn blocks(facts: &[String]) -> bool {
    facts
        .iter()
        .any(|fact| fact.ends_with("0000000000000800") || fact.ends_with("0000000000004000"))
}

fn lab_wait(condition: impl Fn() -> bool) {
    let reached = corten_conformance::wait::until(lab::LIMIT, || condition().then_some(()));
    assert!(reached.is_some(), "waited in vain");
}

#[test]
fn two_hundred_containers_of_eight_threads_leave_a_busy_program_as_it_was() {
    lab::test(|lab| {
        let folder = lab.bundle(&["exit", "7"]);
        let meeting = Arc::new(Meeting::new(lab::load(&folder)));
        log::set_boxed_logger(Box::new(Logger::default())).expect("there is no other");
        log::set_max_level(log::LevelFilter::Trace);
        become_unusual();
        // Nothing is open before the first container.
        let runtime = Runtime::builder().root(lab.runtime.root());
        run_them(&meeting, lab::done(runtime.build()));
    });
}

/// Minor faults of this process so far; see getrusage(2).
fn faults() -> u64 {
    let stat = read("/proc/self/stat");
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let field = fields.split(' ').nth(7).expect("a tenth field");
    field.parse().expect("a number")
}

fn faults_of(run: impl FnOnce()) -> u64 {
    let before = faults();
    run();
    faults() - before
}

/// 2 GiB, or what half of a small machine has.
fn much() -> usize {
    let text = read("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: usize = kib.and_then(|kib| kib.parse().ok()).expect("a number");
    (kib * 1024 / 2).min(2 << 30)
}

fn create_and_delete(lab: &Lab, folder: &corten_conformance::bundle::Bundle) {
    let container = lab.create(folder, CreateOptions::default());
    lab::delete(container);
}

/// What a fork-like clone costs a large program: its page tables are copied and every
/// page is write-protected, so each first write afterwards is a fault. Counted, since
/// times on a busy machine prove nothing; `scripts/measure.sh` has the times.
#[test]
fn a_creation_copies_nothing_of_a_large_program() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        create_and_delete(lab, &folder);
        let small = faults_of(|| create_and_delete(lab, &folder));

        let memory = sys::resident(much());
        let pages = memory.len() as u64 / 4096;
        assert!(faults_of(|| sys::touch(memory)) < 100, "not resident");
        let large = faults_of(|| create_and_delete(lab, &folder));
        let after = faults_of(|| sys::touch(memory));
        println!("{small} faults small, {large} with {pages} pages, {after} on writing them");
        assert!(large < small + 200, "{large} faults against {small}");
        assert!(after < 200, "{after} pages were shared with a child");

        // The control: this is what would be seen if there were a fork.
        sys::fork_and_wait();
        let forked = faults_of(|| sys::touch(memory));
        assert!(
            forked > pages / 2,
            "{forked} faults after a fork of {pages} pages"
        );
    });
}

/// The sockets that a process has open.
fn sockets(pid: i32) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("an own process");
    let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .collect()
}

/// Does something while another thread forks, and tells whether one of its children has a
/// socket that nobody else has any more.
fn while_forking<T: Send>(act: impl FnOnce() -> T + Send) -> (T, bool) {
    const FORKS: usize = 40;
    let begin = Barrier::new(2);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let forks = scope.spawn(|| {
            begin.wait();
            (0..FORKS).map(|_| sys::fork_and_stay()).collect::<Vec<_>>()
        });
        let acts = scope.spawn(|| {
            begin.wait();
            let done = act();
            sender.send(()).expect("the test waits");
            done
        });
        let in_time = receiver.recv_timeout(lab::LIMIT).is_ok();
        let children = forks.join().expect("it only forks");
        let own = sockets(std::process::id().cast_signed());
        let held = children
            .iter()
            .any(|child| !sockets(*child).is_subset(&own));
        children.into_iter().for_each(sys::end);
        assert!(in_time, "waited for a child of another thread");
        (acts.join().expect("it ended"), held)
    })
}

#[test]
fn children_that_another_thread_forks_are_not_waited_for() {
    const TRIES: usize = 50;
    lab::test(|lab| {
        let (runtime, folder) = (&lab.runtime, lab.bundle(&["sleep"]));
        let bundle = lab::load(&folder);
        let held = (0..TRIES).any(|_| {
            let run = || runtime.run("forks", &bundle, CreateOptions::default());
            let (container, held) = while_forking(run);
            lab::delete(lab::done(container));
            held
        });
        assert!(held, "no fork came while a run had its socket open");
        let container = lab::done(runtime.run("more", &bundle, CreateOptions::default()));
        let held = (0..TRIES).any(|_| {
            let process = lab::done(container.process());
            let exec = || container.exec(process, ExecOptions::default());
            let (process, held) = while_forking(exec);
            let mut process = lab::done(process);
            lab::done(process.kill(libc::SIGKILL));
            lab::done(process.wait());
            held
        });
        assert!(held, "no fork came while an exec had its socket open");
        lab::delete(container);
    });
}

#[test]
fn descriptors_and_children_do_not_pile_up() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        drop(lab.run(&folder, CreateOptions::default()));
        let before = Program::look();
        for _ in 0..20 {
            drop(lab.run(&folder, CreateOptions::default()));
            create_and_delete(lab, &folder);
        }
        assert_eq!(Program::look(), before);
        let failed = {
            let mut missing = lab.bundle(&["true"]);
            missing.args(&["/nothing"]);
            lab.runtime
                .create("missing", &lab::load(&missing), CreateOptions::default())
        };
        assert!(failed.is_err());
        assert_eq!(Program::look(), before, "after a creation that failed");
        let children = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
        assert_eq!(children.err(), Some(rustix::io::Errno::CHILD));
    });
}
