//! Exec, and the Start of what it has added.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use corten_core::{ExecOptions, Runtime, spec};

use crate::create::pid_response;
use crate::daemon::Shim;
use crate::engine::Key;
use crate::failure::{Code, Failure};
use crate::make::{Made, copy};
use crate::proto::events::{TaskExecAdded, TaskExecStarted};
use crate::proto::task::ExecProcessRequest;
use crate::server::Reply;
use crate::stdio::{self, Files, Names, Owner};
use crate::sys;
use crate::task::{Process, wait_response};
use crate::worker::{Job, Wanted};

impl Shim {
    /// Exec: only notes what is to be run.
    pub(crate) fn add_exec(&mut self, request: ExecProcessRequest) -> Result<Vec<u8>, Failure> {
        let task = self.task_mut(&request.id)?;
        let exec = request.exec_id;
        if exec.is_empty() || task.execs.contains_key(&exec) {
            return Err(Failure::new(Code::AlreadyExists, format!("id {exec}")));
        }
        if task.init.exit.is_some() || task.deleting {
            return Err(Failure::precondition("cannot exec in a stopped container"));
        }
        if task.paused || task.pausing {
            return Err(Failure::precondition("cannot exec in a paused container"));
        }
        let spec = request.spec.unwrap_or_default();
        let mut process = Process::new(Names {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        });
        process.spec = Some(spec.value);
        task.execs.insert(exec.clone(), process);
        let event = TaskExecAdded {
            container_id: request.id,
            exec_id: exec,
        };
        let id = &event.container_id;
        self.tell(id, "/tasks/exec-added", "TaskExecAdded", &event);
        Ok(Vec::new())
    }

    pub(crate) fn start_exec(&mut self, reply: Reply, key: Key) -> Result<(), Failure> {
        let task = self.task_mut(&key.id)?;
        if task.init.has_ended() || task.deleting {
            let text = format!("container {} init process is not running", key.id);
            return Err(Failure::precondition(text));
        }
        let (runtime, serial) = (Arc::clone(&task.runtime), task.serial);
        let (owner, init) = (task.owner.clone(), task.init.pid);
        let process = self.process_mut(&key)?;
        let Some(spec) = process.spec.take().filter(|_| !process.starting) else {
            return Err(Failure::precondition("process was started before"));
        };
        process.starting = true;
        let names = process.names.clone();
        let id = key.id.clone();
        self.work(
            Job::by(reply),
            move || exec((&runtime, &id, init), &spec, &names, &owner),
            move |shim, made| {
                shim.exec_started(reply, &key, serial, made);
                shim.call_late();
            },
        );
        Ok(())
    }

    fn exec_started(&mut self, reply: Reply, key: &Key, serial: u64, made: Result<Made, Failure>) {
        // There may be another container of that name by now.
        let task = self.tasks.get(&key.id);
        let task = task.filter(|task| task.serial == serial);
        let (known, over) = (
            task.is_some(),
            task.is_none_or(|task| task.init.has_ended()),
        );
        let made = match made {
            Ok(made) if over => Err(self.end_late(key, made)),
            other => other,
        };
        let process = match self.process_mut(key) {
            Ok(process) if known => process,
            _ => {
                let gone = || Failure::not_found("container not created");
                return self.answer(reply, Err(made.err().unwrap_or_else(gone)));
            }
        };
        process.starting = false;
        match made {
            Err(failure) => {
                let exit = process.fail();
                let waiters = std::mem::take(&mut process.waiters);
                for waiter in waiters {
                    self.answer(waiter, Ok(wait_response(exit)));
                }
                self.answer(reply, Err(failure));
            }
            Ok(Made { pid, pidfd, files }) => {
                process.started = true;
                let event = TaskExecStarted {
                    container_id: key.id.clone(),
                    exec_id: key.exec.clone(),
                    pid: pid.unsigned_abs(),
                };
                self.tell(&key.id, "/tasks/exec-started", "TaskExecStarted", &event);
                self.attend(key, pid, pidfd, files);
                self.answer(reply, Ok(pid_response(pid)));
            }
        }
    }

    /// An exec that was started behind the end of its container, which was told: it is ended,
    /// and reaped as an orphan.
    fn end_late(&mut self, key: &Key, made: Made) -> Failure {
        if let Err(error) = sys::pidfd_send_signal(made.pidfd.as_fd(), nix::libc::SIGKILL) {
            log::debug!("{key:?}: {error}");
        }
        self.work(
            Job::new(Wanted::ByShim),
            move || {
                made.files.abandon();
                Ok(())
            },
            |_, _: Result<(), Failure>| {},
        );
        let text = format!("container {} init process is not running", key.id);
        Failure::precondition(text)
    }
}

/// Starts an exec; on its own thread. The container is told by its name, and by its first process:
/// there may be another one of that name by now.
fn exec(
    container: (&Runtime, &str, i32),
    process: &[u8],
    names: &Names,
    owner: &Owner,
) -> Result<Made, Failure> {
    let mut files = Files::default();
    match exec_with(container, process, names, owner, &mut files) {
        Ok((pid, pidfd)) => Ok(Made { pid, pidfd, files }),
        Err(failure) => {
            files.abandon();
            Err(failure)
        }
    }
}

fn exec_with(
    (runtime, id, init): (&Runtime, &str, i32),
    process: &[u8],
    names: &Names,
    owner: &Owner,
    files: &mut Files,
) -> Result<(i32, OwnedFd), Failure> {
    let mut process = spec::parse_process(process)
        .map_err(|error| Failure::invalid(format!("process: {error}")))?;
    process.terminal = names.terminal;
    // Before what can take long, when the name may be another container's.
    let container = runtime.container(id)?;
    if container.first_pid() != init {
        return Err(Failure::not_found("container not created"));
    }
    let mut wanted = ExecOptions::default();
    // This thread ends with the start.
    wanted.stay_on_cpu = true;
    wanted.caller_reaps = true;
    if !names.terminal {
        (wanted.stdio, *files) = stdio::open(names, owner)?;
    }
    let place = stdio::null()?;
    let mut started = container.exec(process, wanted)?;
    let console = started.take_console();
    let opened = console.map_or(Ok(None), |master| {
        stdio::open_console(names, owner, master).map(Some)
    });
    match opened.and_then(|opened| Ok((opened, copy(&started, place)?))) {
        Ok((opened, pidfd)) => {
            if let Some(opened) = opened {
                *files = opened;
            }
            Ok((started.pid(), pidfd))
        }
        Err(failure) => {
            started.kill(nix::libc::SIGKILL)?;
            started.wait()?;
            Err(failure)
        }
    }
}
