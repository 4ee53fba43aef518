//! Create and Start of a container, in the order in which they are told.

use std::path::Path;
use std::sync::Arc;

use corten_core::Runtime;
use prost::Message as _;

use crate::bundle;
use crate::daemon::Shim;
use crate::engine::{Key, Ready, Source};
use crate::failure::{Code, Failure};
use crate::make::{self, Asked, Created, Made, names};
use crate::proto::events::{TaskCreate, TaskIo, TaskStart};
use crate::proto::options::Options;
use crate::proto::task::{CreateTaskRequest, PidResponse, ProcessRequest};
use crate::sandbox::Sandbox;
use crate::server::Reply;
use crate::stdio::Owner;
use crate::task::{Process, Task};

impl Shim {
    pub(crate) fn create(&mut self, reply: Reply, request: CreateTaskRequest) {
        match bundle::options(request.options.as_ref()) {
            Ok(options) => self.create_as(reply, request, options, None),
            Err(failure) => self.answer(reply, Err(failure)),
        }
    }

    /// Creates a container, or a sandbox.
    pub(crate) fn create_as(
        &mut self,
        reply: Reply,
        request: CreateTaskRequest,
        options: Options,
        sandbox: Option<Sandbox>,
    ) {
        let runtime = match self.prepare(&request, &options) {
            Ok(runtime) => runtime,
            Err(failure) => return self.answer(reply, Err(failure)),
        };
        self.creating.insert(request.id.clone());
        let owner = Owner {
            id: request.id.clone(),
            namespace: self.namespace.clone(),
            uid: options.io_uid,
            gid: options.io_gid,
        };
        let mut task = Task::new(
            request.bundle.clone(),
            Arc::clone(&runtime),
            Process::new(names(&request)),
        );
        task.owner = owner.clone();
        task.sandbox = sandbox;
        self.serial += 1;
        task.serial = self.serial;
        let asked = Asked {
            request: request.clone(),
            options,
            owner,
            runtime,
        };
        self.work(
            move || make::create(&asked),
            move |shim, created| match created {
                Ok(created) if shim.hears(reply) => shim.created(reply, &request, task, created),
                Ok(created) => shim.unwanted_create(request, task, created),
                Err(failure) => {
                    shim.answer(reply, Err(failure));
                    shim.not_created(&request.id);
                }
            },
        );
    }

    fn prepare(
        &mut self,
        request: &CreateTaskRequest,
        options: &Options,
    ) -> Result<Arc<Runtime>, Failure> {
        let id = &request.id;
        if self.tasks.contains_key(id) || self.creating.contains(id) {
            return Err(Failure::new(Code::AlreadyExists, format!("container {id}")));
        }
        if !request.checkpoint.is_empty() {
            let text = "restoring from a checkpoint is not supported by this shim";
            return Err(Failure::new(Code::Unimplemented, text));
        }
        let runtime = self.runtime(options)?;
        self.stay();
        Ok(runtime)
    }

    /// The caller has gone away, and nobody knows that there is a container now: containerd was
    /// killed, or has given up. Whoever comes next finds nothing.
    fn unwanted_create(&mut self, request: CreateTaskRequest, task: Task, created: Created) {
        log::warn!(
            "{}: who has created it is gone, so it is undone",
            request.id
        );
        let id = request.id.clone();
        self.work(
            move || {
                make::undo(
                    created,
                    &task.runtime,
                    &request.id,
                    Path::new(&request.bundle),
                );
                Ok(())
            },
            move |shim, _: Result<(), Failure>| shim.not_created(&id),
        );
    }

    fn not_created(&mut self, id: &str) {
        let leaving = self.leave_later;
        self.decided(id);
        if leaving {
            self.leave_if_empty();
        }
    }

    fn created(
        &mut self,
        reply: Reply,
        request: &CreateTaskRequest,
        mut task: Task,
        created: Created,
    ) {
        let key = Key {
            id: request.id.clone(),
            exec: String::new(),
        };
        let names = names(request);
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

    /// The runtime for these options: all containers with the same share one.
    fn runtime(&mut self, options: &Options) -> Result<Arc<Runtime>, Failure> {
        let root = bundle::state_root(&options.root, &self.namespace);
        let key = (root.clone(), options.systemd_cgroup);
        if let Some(runtime) = self.runtimes.get(&key) {
            return Ok(Arc::clone(runtime));
        }
        let cgroups = if options.systemd_cgroup {
            corten_core::Cgroups::Systemd
        } else {
            corten_core::Cgroups::Fs
        };
        let mut builder = Runtime::builder().root(root).cgroups(cgroups);
        if let Some([soft, hard]) = crate::sys::nofile() {
            builder = builder.nofile(soft, hard);
        }
        let runtime = Arc::new(builder.build()?);
        self.runtimes.insert(key, Arc::clone(&runtime));
        Ok(runtime)
    }
}

pub(crate) fn pid_response(pid: i32) -> Vec<u8> {
    let pid = pid.unsigned_abs();
    PidResponse { pid }.encode_to_vec()
}
