//! Create and Start of a container, in the order in which they are told.

use std::sync::Arc;

use prost::Message as _;

use crate::bundle;
use crate::calloff::{self, CallOff};
use crate::daemon::Shim;
use crate::engine::{Key, Ready, Source};
use crate::failure::{Code, Failure};
use crate::make::{self, Asked, Created, Made, Plan, names};
use crate::proto::events::{TaskCreate, TaskIo, TaskStart};
use crate::proto::task::{CreateTaskRequest, PidResponse, ProcessRequest};
use crate::server::Reply;
use crate::service::Answer;
use crate::task::{Process, Task};
use crate::worker::{Job, Wanted};

/// A container that is being made.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) reply: Reply,
    off: Arc<CallOff>,
    /// Why it was called off.
    pub(crate) refused: Option<Failure>,
}

impl Shim {
    pub(crate) fn create(&mut self, reply: Reply, request: CreateTaskRequest) -> Answer {
        if !request.checkpoint.is_empty() {
            let text = "restoring from a checkpoint is not supported by this shim";
            return Err(Failure::new(Code::Unimplemented, text));
        }
        self.create_as(reply, &request.id.clone(), || {
            Ok(Asked {
                options: bundle::options(request.options.as_ref())?,
                request,
                sandbox: None,
            })
        })
    }

    /// Creates a container, or a sandbox; `asked` tells what, and may take time.
    pub(crate) fn create_as(
        &mut self,
        reply: Reply,
        id: &str,
        asked: impl FnOnce() -> Result<Asked, Failure> + Send + 'static,
    ) -> Answer {
        if self.tasks.contains_key(id) || self.creating.contains_key(id) {
            return Err(Failure::new(Code::AlreadyExists, format!("container {id}")));
        }
        if self.signalled.is_some() {
            let text = "the shim is about to end by a signal";
            return Err(Failure::new(Code::Unavailable, text));
        }
        self.stay();
        let off = Arc::new(CallOff::default());
        let creation = Creation {
            reply,
            off: Arc::clone(&off),
            refused: None,
        };
        self.creating.insert(id.to_owned(), creation);
        let (namespace, runtimes) = (self.namespace.clone(), self.runtimes.clone());
        let id = id.to_owned();
        self.work(
            Job::by(reply),
            move || {
                let made =
                    asked().and_then(|asked| make::create(asked, &namespace, &runtimes, &off));
                off.done();
                made
            },
            move |shim, made| match made {
                Ok(made) if shim.is_wanted(&id) => shim.created(reply, made),
                Ok(made) => shim.unwanted_create(id, made),
                Err(failure) => shim.not_created(&id, Some(failure)),
            },
        );
        Ok(None)
    }

    fn is_wanted(&self, id: &str) -> bool {
        let creation = self.creating.get(id);
        creation.is_some_and(|creation| creation.refused.is_none() && self.hears(creation.reply))
    }

    /// Ends creations that nobody waits for any more, or that must not come to anything.
    pub(crate) fn call_off(&mut self, why: &Failure, which: impl Fn(&str, &Creation) -> bool) {
        let mut called = Vec::new();
        for (id, creation) in &mut self.creating {
            if creation.refused.is_none() && which(id, creation) {
                log::warn!("{id}: its creation is called off: {why}");
                creation.refused = Some(why.clone());
                creation.off.call();
                called.push((id.clone(), Arc::clone(&creation.off)));
            }
        }
        for (id, off) in called {
            let job = Job {
                wanted: Wanted::ByNobody,
                container: Some(id.clone()),
            };
            self.work(
                job,
                move || {
                    off.end(&id);
                    Ok(())
                },
                |_, _: Result<(), Failure>| {},
            );
        }
    }

    /// The caller has gone away, and nobody knows that there is a container now: containerd was
    /// killed, or has given up. Whoever comes next finds nothing.
    fn unwanted_create(&mut self, id: String, created: Created) {
        log::warn!("{id}: nobody waits for it any more, so it is undone");
        self.work(
            Job::new(Wanted::ByNobody),
            move || {
                make::undo(created);
                Ok(())
            },
            move |shim, _: Result<(), Failure>| shim.not_created(&id, None),
        );
    }

    fn not_created(&mut self, id: &str, failure: Option<Failure>) {
        let leaving = self.leave_later;
        if let Some(creation) = self.creating.get(id) {
            let why = creation.refused.clone().or(failure);
            self.answer(creation.reply, Err(why.unwrap_or_else(calloff::called_off)));
        }
        self.decided(id);
        if leaving {
            self.leave_if_empty();
        }
    }

    fn created(&mut self, reply: Reply, created: Created) {
        let Plan {
            asked: Asked {
                request, sandbox, ..
            },
            owner,
            runtime,
            ..
        } = created.plan;
        let key = Key {
            id: request.id.clone(),
            exec: String::new(),
        };
        let names = names(&request);
        let process = Process::new(names.clone());
        let mut task = Task::new(request.bundle.clone(), runtime, process);
        task.owner = owner;
        task.sandbox = sandbox;
        task.is_mounted = !request.rootfs.is_empty();
        self.serial += 1;
        task.serial = self.serial;
        task.shares_pids = created.shares_pids;
        if let Some(watch) = created.watch {
            let token = self
                .poller
                .add(&watch, Ready::IN, Source::Oom(key.id.clone()));
            task.watch_token = token.ok();
            task.watch = Some(watch);
        }
        self.tasks.insert(key.id.clone(), task);
        self.stay();
        let Made { pid, pidfd, files } = created.process;
        let event = TaskCreate {
            container_id: request.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(TaskIo {
                stdin: names.stdin,
                stdout: names.stdout,
                stderr: names.stderr,
                terminal: names.terminal,
            }),
            checkpoint: String::new(),
            pid: pid.unsigned_abs(),
        };
        self.tell(&key.id, "/tasks/create", "TaskCreate", &event);
        self.attend(&key, pid, pidfd, files);
        self.answer(reply, Ok(pid_response(pid)));
        self.decided(&request.id);
    }

    pub(crate) fn start(&mut self, reply: Reply, request: &ProcessRequest) {
        let key = Key {
            id: request.id.clone(),
            exec: request.exec_id.clone(),
        };
        let begun = if key.exec.is_empty() {
            self.start_init(reply, key)
        } else {
            self.start_exec(reply, key)
        };
        if let Err(failure) = begun {
            self.answer(reply, Err(failure));
        }
    }

    pub(crate) fn start_init(&mut self, reply: Reply, key: Key) -> Result<(), Failure> {
        let task = self.task_mut(&key.id)?;
        if task.deleting {
            return Err(Failure::precondition("cannot start a deleted process"));
        }
        if task.init.starting || task.init.started || task.init.exit.is_some() {
            return Err(Failure::precondition("process is not in created state"));
        }
        task.init.starting = true;
        let (runtime, serial) = (Arc::clone(&task.runtime), task.serial);
        let id = key.id.clone();
        self.work(
            Job::by(reply),
            move || Ok(runtime.container(&id)?.start()?),
            move |shim, started| shim.init_started(reply, &key, serial, started),
        );
        Ok(())
    }

    fn init_started(&mut self, reply: Reply, key: &Key, serial: u64, started: Result<(), Failure>) {
        let Some(task) = self.same_task(&key.id, serial) else {
            let gone = || Failure::not_found("container not created");
            return self.answer(reply, Err(started.err().unwrap_or_else(gone)));
        };
        task.init.starting = false;
        task.init.started = started.is_ok();
        let pid = task.init.pid;
        if started.is_ok() {
            let event = TaskStart {
                container_id: key.id.clone(),
                pid: pid.unsigned_abs(),
            };
            self.tell(&key.id, "/tasks/start", "TaskStart", &event);
        }
        let answer = started.map(|()| self.start_response(&key.id, pid));
        self.answer(reply, answer);
        self.settle(key);
        self.call_late();
    }
}

pub(crate) fn pid_response(pid: i32) -> Vec<u8> {
    let pid = pid.unsigned_abs();
    PidResponse { pid }.encode_to_vec()
}
