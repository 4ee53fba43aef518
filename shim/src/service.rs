//! The calls of `containerd.task.v2.Task` and `containerd.task.v3.Task`.
//!
//! # Layout
//! - here: what is answered at once, and short operations
//! - `create`: Create, Start
//! - `exec`: Exec
//! - `end`: Delete, Kill, Shutdown

use std::sync::Arc;

use corten_core::Container;
use corten_core::spec::Resources;
use prost::Message;

use crate::daemon::Shim;
use crate::engine::Key;
use crate::failure::{Code, Failure};
use crate::proto::Any;
use crate::proto::events::TaskOnly;
use crate::proto::options::ProcessDetails;
use crate::proto::rpc::Request;
use crate::proto::sandbox::SandboxRequest;
use crate::proto::task::{
    CloseIoRequest, ConnectResponse, PidsResponse, ProcessInfo, ProcessRequest, ResizePtyRequest,
    StateResponse, StatsResponse, UpdateTaskRequest,
};
use crate::sandbox::SANDBOX;
use crate::server::Reply;
use crate::stats;
use crate::task::{Status, Task, wait_response};
use crate::worker::{Job, Wanted};

/// Both have the same messages; containerd 2.0 has renamed the service.
const TASK: [&str; 2] = ["containerd.task.v3.Task", "containerd.task.v2.Task"];

/// Calls that end something: they are made though nobody waits for the answer any more.
const ENDS: [&str; 4] = ["Delete", "Kill", "StopSandbox", "ShutdownSandbox"];

/// How many calls may wait for containers that are being made.
const MOST_LATE: usize = 1024;

/// What a call is about: the first field of every request is a name.
fn name(request: &Request) -> Option<String> {
    let named = read::<SandboxRequest>(&request.payload);
    named.ok().map(|named| named.sandbox_id)
}

/// Whether a call has to be made though its caller has gone.
fn is_end(request: &Request) -> bool {
    ENDS.contains(&request.method.as_str())
}

/// What a call does: it answers now, or it has been given the reply and answers later.
pub(crate) type Answer = Result<Option<Vec<u8>>, Failure>;

/// Reads the message of a call.
pub(crate) fn read<T: Message + Default>(payload: &[u8]) -> Result<T, Failure> {
    T::decode(payload).map_err(|error| Failure::invalid(error.to_string()))
}

impl Shim {
    /// One call. Its answer may come later.
    pub(crate) fn call(&mut self, reply: Reply, request: Request) {
        if self.is_early(&request) {
            return self.wait_late(reply, request);
        }
        let service = request.service.as_str();
        let answer = if TASK.contains(&service) {
            log::debug!("{}", request.method);
            self.task(reply, &request.method, &request.payload)
        } else if service == SANDBOX {
            log::debug!("{}", request.method);
            self.sandbox(reply, &request.method, &request.payload)
        } else {
            let text = format!("service {service} is not there");
            Err(Failure::new(Code::Unimplemented, text))
        };
        match answer {
            Ok(Some(bytes)) => self.answer(reply, Ok(bytes)),
            Ok(None) => {}
            Err(failure) => self.answer(reply, Err(failure)),
        }
    }

    /// Whether a call has to wait, as at a lock of the Go shim. A caller that has given up on a
    /// creation or a start asks to kill and delete what may still come of it.
    ///
    /// A shim that is to end can say so at once, and a first process can be killed before its
    /// start is over.
    fn is_early(&self, request: &Request) -> bool {
        let method = request.method.as_str();
        if !self.creating.is_empty() && method != "Shutdown" {
            let named = name(request);
            if named.is_some_and(|named| self.creating.contains_key(&named)) {
                return true;
            }
        }
        if method == "Create" || method == "CreateSandbox" {
            // Something was asked of the one before, and is about to look for it by its name.
            return name(request).is_some_and(|named| self.is_looked_up(&named));
        }
        if method != "Delete" && method != "Kill" {
            return false;
        }
        let Ok(named) = read::<ProcessRequest>(&request.payload) else {
            return false;
        };
        let waits = method == "Delete" || !named.exec_id.is_empty();
        let task = self.tasks.get(&named.id).filter(|_| waits);
        let process = task.and_then(|task| task.process(&named.exec_id));
        process.is_some_and(|process| process.starting)
    }

    /// Lets a call wait, unless far too many do.
    fn wait_late(&mut self, reply: Reply, request: Request) {
        if self.late.len() < MOST_LATE {
            return self.late.push((reply, request));
        }
        let text = "too many calls wait for a container that is being made";
        self.answer(reply, Err(Failure::new(Code::ResourceExhausted, text)));
    }

    /// Lets go of calls that nobody waits for any more. What ends something is made all the
    /// same, but not several times.
    pub(crate) fn forget_late(&mut self) {
        let mut kept: Vec<(Reply, Request)> = Vec::new();
        for (reply, call) in std::mem::take(&mut self.late) {
            let known = |(_, other): &(Reply, Request)| {
                other.method == call.method && other.payload == call.payload
            };
            if self.hears(reply) || (is_end(&call) && !kept.iter().any(known)) {
                kept.push((reply, call));
            }
        }
        self.late = kept;
    }

    /// Whether an operation looks for a container of this name.
    fn is_looked_up(&self, id: &str) -> bool {
        let mut jobs = self.jobs();
        jobs.any(|job| job.container.as_deref() == Some(id))
    }

    /// Goes on with what has waited for this creation, done or failed.
    pub(crate) fn decided(&mut self, id: &str) {
        self.creating.remove(id);
        self.call_late();
    }

    /// Makes the calls that have waited. Those that still have to come back in their order.
    pub(crate) fn call_late(&mut self) {
        for (reply, request) in std::mem::take(&mut self.late) {
            self.call(reply, request);
        }
    }

    fn task(&mut self, reply: Reply, method: &str, payload: &[u8]) -> Answer {
        match method {
            "Create" => return self.create(reply, read(payload)?),
            "Start" => self.start(reply, &read(payload)?),
            "Delete" => return self.delete(reply, read(payload)?),
            "Pids" => self.pids(reply, read(payload)?)?,
            "Pause" => self.pause(reply, read(payload)?)?,
            "Resume" => self.resume(reply, read(payload)?)?,
            "Kill" => return self.kill(reply, &read(payload)?),
            "Exec" => return self.add_exec(read(payload)?).map(Some),
            "Wait" => return self.wait_for(reply, &key(read(payload)?)),
            "Stats" => self.stats(reply, read(payload)?)?,
            "Update" => self.update(reply, read(payload)?)?,
            "State" => return self.state(&read(payload)?),
            "ResizePty" => return self.resize(&read(payload)?),
            "CloseIO" => return self.close_io(&read(payload)?),
            "Connect" => return self.connect(&read(payload)?),
            "Shutdown" => return self.shutdown(),
            "Checkpoint" => {
                let text = "checkpoint is not supported by this shim";
                return Err(Failure::new(Code::Unimplemented, text));
            }
            _ => {
                let text = format!("method {method} is not there");
                return Err(Failure::new(Code::Unimplemented, text));
            }
        }
        Ok(None)
    }

    fn state(&mut self, request: &ProcessRequest) -> Answer {
        let task = self.task_mut(&request.id)?;
        let process = task.process(&request.exec_id).ok_or_else(|| {
            Failure::not_found(format!("process {} does not exist", request.exec_id))
        })?;
        let id = if request.exec_id.is_empty() {
            &request.id
        } else {
            &request.exec_id
        };
        let answer = StateResponse {
            id: id.clone(),
            bundle: task.bundle.clone(),
            pid: process.pid.unsigned_abs(),
            status: task.status(process) as i32,
            stdin: process.names.stdin.clone(),
            stdout: process.names.stdout.clone(),
            stderr: process.names.stderr.clone(),
            terminal: process.names.terminal,
            exit_status: process.exit.map_or(0, |exit| exit.status),
            exited_at: process.exit.map(crate::task::Exit::timestamp),
            exec_id: request.exec_id.clone(),
        };
        Ok(Some(answer.encode_to_vec()))
    }

    pub(crate) fn wait_for(&mut self, reply: Reply, key: &Key) -> Answer {
        let process = self.process_mut(key)?;
        if let Some(exit) = process.exit {
            return Ok(Some(wait_response(exit)));
        }
        process.waiters.push(reply);
        Ok(None)
    }

    fn connect(&mut self, request: &ProcessRequest) -> Answer {
        let task = self.tasks.get(&request.id);
        let answer = ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: task.map_or(0, |task| task.init.pid.unsigned_abs()),
            version: String::new(),
        };
        Ok(Some(answer.encode_to_vec()))
    }

    fn resize(&mut self, request: &ResizePtyRequest) -> Answer {
        let key = Key {
            id: request.id.clone(),
            exec: request.exec_id.clone(),
        };
        if let Some(console) = &self.process_mut(&key)?.console {
            let size = rustix::termios::Winsize {
                ws_row: u16::try_from(request.height).unwrap_or(u16::MAX),
                ws_col: u16::try_from(request.width).unwrap_or(u16::MAX),
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(console, size)
                .map_err(|errno| Failure::call("console", errno))?;
        }
        Ok(Some(Vec::new()))
    }

    fn close_io(&mut self, request: &CloseIoRequest) -> Answer {
        let key = Key {
            id: request.id.clone(),
            exec: request.exec_id.clone(),
        };
        let process = self.process_mut(&key)?;
        if request.stdin {
            process.stdin = None;
        }
        Ok(Some(Vec::new()))
    }

    /// Does something with a container on a thread of its own, which looks it up by its name:
    /// there is no other one of that name before this is over.
    pub(crate) fn with<T: Send + 'static>(
        &mut self,
        id: &str,
        wanted: Wanted,
        work: impl FnOnce(&mut Container) -> Result<T, Failure> + Send + 'static,
        then: impl FnOnce(&mut Shim, Result<T, Failure>) + Send + 'static,
    ) -> Result<(), Failure> {
        let runtime = Arc::clone(&self.task_mut(id)?.runtime);
        let id = id.to_owned();
        let job = Job {
            wanted,
            container: Some(id.clone()),
        };
        self.work(job, move || work(&mut runtime.container(&id)?), then);
        Ok(())
    }

    fn pause(&mut self, reply: Reply, request: ProcessRequest) -> Result<(), Failure> {
        let task = self.task_mut(&request.id)?;
        if task.status(&task.init) != Status::Running {
            return Err(Failure::precondition("cannot pause: not running"));
        }
        task.pausing = true;
        let (id, serial) = (request.id.clone(), task.serial);
        self.with(
            &request.id,
            Wanted::By(reply),
            |container| Ok(container.pause()?),
            move |shim, done: Result<(), Failure>| {
                let same = shim.same_task(&id, serial);
                let lives = same.is_some_and(|task| {
                    task.pausing = false;
                    task.paused = done.is_ok();
                    task.init.exit.is_none()
                });
                // Behind its end it is told nothing.
                if lives && done.is_ok() {
                    let event = TaskOnly { container_id: id };
                    shim.tell(&event.container_id, "/tasks/paused", "TaskPaused", &event);
                }
                shim.answer(reply, done.map(|()| Vec::new()));
            },
        )
    }

    fn resume(&mut self, reply: Reply, request: ProcessRequest) -> Result<(), Failure> {
        let task = self.task_mut(&request.id)?;
        if task.status(&task.init) != Status::Paused {
            return Err(Failure::precondition("cannot resume: not paused"));
        }
        let (id, serial) = (request.id.clone(), task.serial);
        self.with(
            &request.id,
            Wanted::By(reply),
            |container| Ok(container.resume()?),
            move |shim, done: Result<(), Failure>| {
                let same = shim.same_task(&id, serial);
                let lives = same.is_some_and(|task| {
                    task.paused &= done.is_err();
                    task.init.exit.is_none()
                });
                if lives && done.is_ok() {
                    let event = TaskOnly { container_id: id };
                    shim.tell(&event.container_id, "/tasks/resumed", "TaskResumed", &event);
                }
                shim.answer(reply, done.map(|()| Vec::new()));
            },
        )
    }

    fn stats(&mut self, reply: Reply, request: ProcessRequest) -> Result<(), Failure> {
        self.with(
            &request.id,
            Wanted::By(reply),
            |container| Ok(stats::packed(container)?),
            move |shim, metrics: Result<Any, Failure>| {
                let answer = metrics.map(|metrics| {
                    let stats = Some(metrics);
                    StatsResponse { stats }.encode_to_vec()
                });
                shim.answer(reply, answer);
            },
        )
    }

    fn pids(&mut self, reply: Reply, request: ProcessRequest) -> Result<(), Failure> {
        let (id, serial) = (request.id.clone(), self.task_mut(&request.id)?.serial);
        self.with(
            &request.id,
            Wanted::By(reply),
            |container| Ok(container.pids()?),
            move |shim, found: Result<Vec<i32>, Failure>| {
                let task = shim.same_task(&id, serial);
                let answer = found.map(|found| pids_response(task.as_deref(), &found));
                shim.answer(reply, answer);
            },
        )
    }

    fn update(&mut self, reply: Reply, request: UpdateTaskRequest) -> Result<(), Failure> {
        let resources = request.resources.unwrap_or_default();
        let resources = Resources::parse(&resources.value)
            .map_err(|error| Failure::invalid(format!("resources: {error}")))?;
        self.with(
            &request.id,
            Wanted::By(reply),
            move |container| Ok(container.update(&resources)?),
            move |shim, done: Result<(), Failure>| shim.answer(reply, done.map(|()| Vec::new())),
        )
    }
}

pub(crate) fn key(request: ProcessRequest) -> Key {
    Key {
        id: request.id,
        exec: request.exec_id,
    }
}

/// Processes of a container, and which of them are execs, if it is still there.
fn pids_response(task: Option<&Task>, found: &[i32]) -> Vec<u8> {
    let exec_of = |pid: i32| {
        let mut execs = task?.execs.iter();
        let (exec, _) = execs.find(|(_, process)| process.pid == pid)?;
        let details = ProcessDetails {
            exec_id: exec.clone(),
        };
        Some(Any::pack("containerd.runc.v1.ProcessDetails", &details))
    };
    let processes = found.iter().map(|pid| ProcessInfo {
        pid: pid.unsigned_abs(),
        info: exec_of(*pid),
    });
    PidsResponse {
        processes: processes.collect(),
    }
    .encode_to_vec()
}
