//! [`Task`]: a container as the shim keeps it, and the order in which its ends are told.
//!
//! All of this is changed by one thread only. What has to come before what:
//! - a process's start before its exit: an exit that is seen while a start is under way waits
//! - all execs' exits before that of the first process
//! - an OOM kill before the exit that it caused
//!
//! so an exit is first *collected* (reaped, by its pidfd) and later *settled* (told).

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use corten_core::{Event, Runtime, Watch};
use prost::Message as _;

use crate::daemon::Shim;
use crate::engine::{Key, Ready, Source, Token};
use crate::failure::{Code, Failure};
use crate::proto::Timestamp;
use crate::proto::events::{TaskExit, TaskOnly};
use crate::proto::task::WaitResponse;
use crate::sandbox::Sandbox;
use crate::server::Reply;
use crate::stdio::logger::Logger;
use crate::stdio::{Files, Names};
use crate::sys::{self, Which};

/// What a process exits with whose status somebody else has taken: only `delete` and a forced
/// end do that, after SIGKILL.
const KILLED: u32 = 137;

/// What a process exits with that was never started.
const FAILED: u32 = 255;

/// `containerd.v1.types.Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Created = 1,
    Running = 2,
    Stopped = 3,
    Paused = 4,
    Pausing = 5,
}

/// How a process ended, as it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

impl Exit {
    pub(crate) fn now(status: u32) -> Exit {
        Exit {
            status,
            at: SystemTime::now(),
        }
    }

    pub(crate) fn timestamp(self) -> Timestamp {
        self.at.into()
    }
}

/// A process of a container.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) names: Names,
    /// 0 before it is started.
    pub(crate) pid: i32,
    pub(crate) pidfd: Option<Arc<OwnedFd>>,
    token: Option<Token>,
    /// A start is under way.
    pub(crate) starting: bool,
    pub(crate) started: bool,
    collected: Option<Exit>,
    /// The exit, once it was told.
    pub(crate) exit: Option<Exit>,
    pub(crate) waiters: Vec<Reply>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) console: Option<OwnedFd>,
    pub(crate) logger: Option<Logger>,
    /// What an exec is to run; none for a first process.
    pub(crate) spec: Option<Vec<u8>>,
}

impl Process {
    pub(crate) fn new(names: Names) -> Process {
        Process {
            names,
            ..Process::default()
        }
    }

    /// Whether it is known to have ended, told or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.collected.is_some()
    }

    /// Notes that it could not be started: there is no exit to tell, but an end to wait for.
    pub(crate) fn fail(&mut self) -> Exit {
        let exit = Exit::now(FAILED);
        self.collected = Some(exit);
        self.exit = Some(exit);
        exit
    }

    /// Sends it a signal; one that has ended needs none.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Failure> {
        let Some(pidfd) = &self.pidfd else {
            return Ok(());
        };
        match sys::pidfd_send_signal(pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => {
                Err(Failure::call("kill", error))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is a process whose exit was not told yet.
    pub(crate) fn is_alive(&self) -> bool {
        self.pidfd.is_some() && self.exit.is_none()
    }
}

/// What a first process leaves that no pid namespace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Lives,
    /// It is being killed.
    Ending,
    Ended,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) bundle: String,
    pub(crate) runtime: Arc<Runtime>,
    /// What makes it a sandbox, if it is one.
    pub(crate) sandbox: Option<Sandbox>,
    /// Which one this is of those that ever had its id.
    pub(crate) serial: u64,
    /// Whether others than the kernel must end the rest of it.
    pub(crate) shares_pids: bool,
    pub(crate) rest: Rest,
    /// A Delete is under way: nothing is started any more.
    pub(crate) deleting: bool,
    pub(crate) pausing: bool,
    pub(crate) paused: bool,
    /// Who owns pipes of execs.
    pub(crate) owner: crate::stdio::Owner,
    pub(crate) watch: Option<Watch>,
    pub(crate) watch_token: Option<Token>,
    pub(crate) init: Process,
    pub(crate) execs: BTreeMap<String, Process>,
}

impl Task {
    pub(crate) fn new(bundle: String, runtime: Arc<Runtime>, init: Process) -> Task {
        Task {
            bundle,
            runtime,
            sandbox: None,
            serial: 0,
            shares_pids: false,
            rest: Rest::Lives,
            deleting: false,
            pausing: false,
            paused: false,
            owner: crate::stdio::Owner::default(),
            watch: None,
            watch_token: None,
            init,
            execs: BTreeMap::new(),
        }
    }

    /// Whether it is a pod's own: of that containerd gets no events.
    pub(crate) fn is_sandbox(&self) -> bool {
        self.sandbox.is_some()
    }

    pub(crate) fn process(&self, exec: &str) -> Option<&Process> {
        if exec.is_empty() {
            return Some(&self.init);
        }
        self.execs.get(exec)
    }

    pub(crate) fn process_mut(&mut self, exec: &str) -> Option<&mut Process> {
        if exec.is_empty() {
            return Some(&mut self.init);
        }
        self.execs.get_mut(exec)
    }

    /// Who has gone away waits for nothing any more.
    pub(crate) fn forget_caller(&mut self, caller: Token) {
        for process in std::iter::once(&mut self.init).chain(self.execs.values_mut()) {
            process.waiters.retain(|waiter| waiter.connection != caller);
        }
    }

    pub(crate) fn status(&self, process: &Process) -> Status {
        if process.exit.is_some() {
            Status::Stopped
        } else if !process.started {
            Status::Created
        } else if self.pausing {
            Status::Pausing
        } else if self.paused {
            Status::Paused
        } else {
            Status::Running
        }
    }
}

impl Shim {
    pub(crate) fn task_mut(&mut self, id: &str) -> Result<&mut Task, Failure> {
        let found = self.tasks.get_mut(id);
        found.ok_or_else(|| Failure::not_found("container not created"))
    }

    /// The container of this name, unless it is another one by now.
    pub(crate) fn same_task(&mut self, id: &str, serial: u64) -> Option<&mut Task> {
        let found = self.tasks.get_mut(id);
        found.filter(|task| task.serial == serial)
    }

    pub(crate) fn process_mut(&mut self, key: &Key) -> Result<&mut Process, Failure> {
        let found = self.task_mut(&key.id)?.process_mut(&key.exec);
        found.ok_or_else(|| Failure::not_found(format!("process {} does not exist", key.exec)))
    }

    /// Takes over a process that was made: its end, and its files.
    pub(crate) fn attend(&mut self, key: &Key, pid: i32, pidfd: OwnedFd, files: Files) {
        let pidfd = Arc::new(pidfd);
        let source = Source::Exit(key.clone());
        let token = self.poller.add(&*pidfd, Ready::IN, source);
        if let Err(errno) = &token {
            log::error!("{key:?}: its end will not be seen: {errno}");
        }
        for stream in files.streams {
            let number = self.copies.add(key, stream);
            self.copy(number);
        }
        if let Ok(process) = self.process_mut(key) {
            process.pid = pid;
            process.pidfd = Some(pidfd);
            process.token = token.ok();
            process.stdin = files.stdin;
            process.console = files.console;
            process.logger = files.logger;
        }
    }

    /// The pidfd of a process is readable: takes its status.
    pub(crate) fn collect(&mut self, key: &Key) {
        let Ok(process) = self.process_mut(key) else {
            return;
        };
        let Some(pidfd) = &process.pidfd else { return };
        let exit = match sys::waitid(Which::Pidfd(pidfd.as_fd())) {
            Ok(Some(ended)) => Exit::now(ended.status),
            Ok(None) => return,
            Err(_) => Exit::now(KILLED),
        };
        process.collected.get_or_insert(exit);
        self.forget(key);
        self.settle(key);
    }

    /// The same for one whose container was deleted, and who was killed by that. There is no
    /// later: an exit that could not be seen is told all the same.
    pub(crate) fn collect_last(&mut self, key: &Key) {
        self.collect(key);
        let Ok(process) = self.process_mut(key) else {
            return;
        };
        process.starting = false;
        if process.is_alive() {
            process.collected.get_or_insert_with(|| Exit::now(KILLED));
            self.forget(key);
            self.settle(key);
        }
    }

    /// Waits for the end of a process no more.
    fn forget(&mut self, key: &Key) {
        let Ok(process) = self.process_mut(key) else {
            return;
        };
        if let (Some(pidfd), Some(token)) = (process.pidfd.clone(), process.token.take()) {
            self.poller.remove(&*pidfd, token);
        }
    }

    /// Tells an exit that was collected, if it is its turn.
    pub(crate) fn settle(&mut self, key: &Key) {
        let is_init = key.exec.is_empty();
        let Ok(process) = self.process_mut(key) else {
            return;
        };
        let (Some(exit), None, false) = (process.collected, process.exit, process.starting) else {
            return;
        };
        if is_init && !self.may_end(key) {
            return;
        }
        let Ok(process) = self.process_mut(key) else {
            return;
        };
        process.exit = Some(exit);
        let pid = process.pid;
        let waiters = std::mem::take(&mut process.waiters);
        self.tell_oom(&key.id);
        if is_init {
            self.unwatch(&key.id);
        }
        let id = if is_init { &key.id } else { &key.exec };
        let event = TaskExit {
            container_id: key.id.clone(),
            id: id.clone(),
            pid: pid.unsigned_abs(),
            exit_status: exit.status,
            exited_at: Some(exit.timestamp()),
        };
        self.tell(&key.id, "/tasks/exit", "TaskExit", &event);
        for waiter in waiters {
            self.answer(waiter, Ok(wait_response(exit)));
        }
        if !is_init {
            let init = Key {
                id: key.id.clone(),
                exec: String::new(),
            };
            self.settle(&init);
        }
        self.delete_drained();
    }

    /// Whether the first process's exit may be told: it is the last. Where no pid namespace
    /// does it, the rest is killed before: behind the exit there may soon be another container
    /// of the same name. An exec that is still being started is not waited for, since that can
    /// take long: it is ended when it comes.
    fn may_end(&mut self, key: &Key) -> bool {
        let Ok(task) = self.task_mut(&key.id) else {
            return false;
        };
        if task.shares_pids && task.rest == Rest::Lives {
            task.rest = Rest::Ending;
            let serial = task.serial;
            self.end_rest(key.clone(), serial);
        }
        self.task_mut(&key.id).is_ok_and(|task| {
            task.rest != Rest::Ending && !task.execs.values().any(Process::is_alive)
        })
    }

    fn end_rest(&mut self, key: Key, serial: u64) {
        let killed = self.with(
            &key.id.clone(),
            |container| Ok(container.kill_all(nix::libc::SIGKILL)?),
            move |shim, done: Result<(), Failure>| {
                match done {
                    Err(failure) if failure.code != Code::FailedPrecondition => {
                        log::error!("failed to kill the children of init: {failure}");
                    }
                    _ => {}
                }
                if let Some(task) = shim.same_task(&key.id, serial) {
                    task.rest = Rest::Ended;
                    shim.settle(&key);
                }
            },
        );
        if let Err(failure) = killed {
            log::error!("{failure}");
        }
    }

    /// Publishes an event about a container.
    pub(crate) fn tell(
        &mut self,
        id: &str,
        topic: &'static str,
        name: &str,
        event: &impl prost::Message,
    ) {
        if !self.tasks.get(id).is_some_and(Task::is_sandbox) {
            self.publish(topic, name, event);
        }
    }

    /// Publishes an event.
    pub(crate) fn publish(&mut self, topic: &'static str, name: &str, event: &impl prost::Message) {
        self.publisher.push(&mut self.poller, topic, name, event);
    }

    /// Tells OOM kills that were not told yet.
    pub(crate) fn tell_oom(&mut self, id: &str) {
        let Ok(task) = self.task_mut(id) else { return };
        let mut seen = false;
        if let Some(watch) = &mut task.watch {
            loop {
                match watch.next(Some(Duration::ZERO)) {
                    Ok(Some(Event::OomKill)) => seen = true,
                    Ok(Some(_) | None) => break,
                    Err(error) => {
                        log::warn!("{id}: {error:#}");
                        break;
                    }
                }
            }
        }
        if seen {
            let event = TaskOnly {
                container_id: id.to_owned(),
            };
            self.tell(id, "/tasks/oom", "TaskOOM", &event);
        }
    }

    fn unwatch(&mut self, id: &str) {
        let Ok(task) = self.task_mut(id) else { return };
        if let (Some(watch), Some(token)) = (task.watch.take(), task.watch_token.take()) {
            self.poller.remove(&watch, token);
        }
    }

    /// A child has ended: those that no pidfd here stands for are reaped.
    ///
    /// What an operation makes belongs to its thread, and comes to this one when that ends, behind
    /// its result: so who is unknown after the results were taken is nobody's.
    pub(crate) fn reap_orphans(&mut self) {
        let mut unknown = None;
        while let Ok(Some(ended)) = sys::waitid(Which::Look) {
            if let Some(key) = self.key_of(ended.pid) {
                self.collect(&key);
            } else if unknown != Some(ended.pid) {
                unknown = Some(ended.pid);
                self.finish_work();
            } else if let Err(error) = sys::waitid(Which::Pid(ended.pid)) {
                log::warn!("waitid: {error}");
                return;
            }
        }
    }

    /// The process of this number that was not reaped yet.
    fn key_of(&self, pid: i32) -> Option<Key> {
        self.tasks.iter().find_map(|(id, task)| {
            let init = std::iter::once((String::new(), &task.init));
            let execs = task
                .execs
                .iter()
                .map(|(exec, process)| (exec.clone(), process));
            let mut all = init.chain(execs);
            let (exec, _) = all.find(|(_, process)| {
                process.pid == pid && process.pidfd.is_some() && process.collected.is_none()
            })?;
            let id = id.clone();
            Some(Key { id, exec })
        })
    }
}

pub(crate) fn wait_response(exit: Exit) -> Vec<u8> {
    WaitResponse {
        exit_status: exit.status,
        exited_at: Some(exit.timestamp()),
    }
    .encode_to_vec()
}
