//! [`Task`]: a container as the shim keeps it. All of it is changed by one thread only.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use corten_core::{Runtime, Watch};
use prost::Message as _;

use crate::daemon::Shim;
use crate::engine::{Key, Ready, Source, Token};
use crate::failure::Failure;
use crate::proto::Timestamp;
use crate::proto::task::WaitResponse;
use crate::sandbox::Sandbox;
use crate::server::Reply;
use crate::stdio::logger::Logger;
use crate::stdio::{Files, Names};
use crate::sys;

/// What a process exits with whose status somebody else has taken: only `delete` and a forced
/// end do that, after SIGKILL.
pub(crate) const KILLED: u32 = 137;

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
    pub(crate) token: Option<Token>,
    /// A start is under way.
    pub(crate) starting: bool,
    pub(crate) started: bool,
    /// A signal was sent to it that ends it, unless it has chosen otherwise.
    pub(crate) is_dying: bool,
    pub(crate) collected: Option<Exit>,
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
    /// Whether its root file system was mounted here.
    pub(crate) is_mounted: bool,
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
            is_mounted: false,
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

    /// Waits for an end that nobody hears of any more are over; whether there were any.
    pub(crate) fn forget_waiters(&mut self, which: impl Fn(&Reply) -> bool) -> bool {
        let mut found = false;
        for process in std::iter::once(&mut self.init).chain(self.execs.values_mut()) {
            let before = process.waiters.len();
            process.waiters.retain(|waiter| !which(waiter));
            found |= process.waiters.len() != before;
        }
        found
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

    /// Publishes an event about a container.
    pub(crate) fn tell(
        &mut self,
        id: &str,
        topic: &'static str,
        name: &str,
        event: &impl prost::Message,
    ) {
        let task = self.tasks.get(id);
        if task.is_some_and(Task::is_sandbox) {
            return;
        }
        let bundle = task.map_or_else(PathBuf::new, |task| PathBuf::from(&task.bundle));
        let poller = &mut self.poller;
        self.publisher.push(poller, bundle, topic, name, event);
    }
}

pub(crate) fn wait_response(exit: Exit) -> Vec<u8> {
    WaitResponse {
        exit_status: exit.status,
        exited_at: Some(exit.timestamp()),
    }
    .encode_to_vec()
}
