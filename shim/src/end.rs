//! Kill, Delete and Shutdown.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_core::{Delete, ErrorKind, Runtime};
use prost::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::daemon::Shim;
use crate::engine::Key;
use crate::failure::{Code, Failure};
use crate::mounts;
use crate::proto::events::TaskDelete;
use crate::proto::task::{DeleteResponse, KillRequest, ProcessRequest};
use crate::server::Reply;
use crate::service::{Answer, key};
use crate::sys::{self, Which};
use crate::task::{Rest, Status};
use crate::worker::{Job, Wanted};

/// How long output may take to arrive where it goes (the Go shim's limit).
const DRAIN: Duration = Duration::from_secs(10);

/// The highest signal; signal(7).
const LAST_SIGNAL: u32 = 64;

/// A Delete that waits: for output, or for another one to end.
#[derive(Debug)]
pub(crate) struct Draining {
    reply: Reply,
    key: Key,
    /// Which container it is about: there may be another one of that name before it is done.
    serial: u64,
    how: Delete,
    until: Instant,
}

impl Shim {
    pub(crate) fn kill(&mut self, reply: Reply, request: &KillRequest) -> Answer {
        let key = Key {
            id: request.id.clone(),
            exec: request.exec_id.clone(),
        };
        if request.signal > LAST_SIGNAL {
            return Err(Failure::invalid(format!("signal {}", request.signal)));
        }
        let signal = request.signal.cast_signed();
        let shares_pids = self.task_mut(&key.id)?.shares_pids;
        let process = self.process_mut(&key)?;
        if process.exit.is_some() && !request.all {
            return Err(Failure::not_found("process already finished"));
        }
        let Some(pidfd) = &process.pidfd else {
            return Err(Failure::precondition("process not created"));
        };
        let pidfd = Arc::clone(pidfd);
        let is_init = key.exec.is_empty();
        process.is_dying |= is_fatal(signal);
        // Without a pid namespace of its own SIGKILL is for all of the cgroup.
        let all = request.all || (shares_pids && signal == nix::libc::SIGKILL);
        if !(is_init && all) {
            return match sys::pidfd_send_signal(pidfd.as_fd(), signal) {
                Ok(()) => Ok(Some(Vec::new())),
                Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {
                    Err(Failure::not_found("process already finished"))
                }
                Err(error) => Err(Failure::call("kill", error)),
            };
        }
        self.with(
            &key.id,
            Wanted::By(reply),
            move |container| Ok(container.kill_all(signal)?),
            move |shim, done: Result<(), Failure>| shim.answer(reply, done.map(|()| Vec::new())),
        )?;
        Ok(None)
    }

    pub(crate) fn delete(&mut self, reply: Reply, request: ProcessRequest) -> Answer {
        let key = key(request);
        let task = self.task_mut(&key.id)?;
        let process = task
            .process(&key.exec)
            .ok_or_else(|| Failure::not_found(format!("process {} does not exist", key.exec)))?;
        let is_init = key.exec.is_empty();
        match task.status(process) {
            Status::Stopped => {}
            Status::Created if !process.starting => {}
            Status::Paused | Status::Pausing if is_init => {
                return Err(Failure::precondition("cannot delete a paused process"));
            }
            _ => return Err(Failure::precondition("cannot delete a running process")),
        }
        let serial = task.serial;
        self.delete_as(reply, key, serial, Delete::IfStopped);
        Ok(None)
    }

    /// Deletes a process, as soon as that can be.
    pub(crate) fn delete_as(&mut self, reply: Reply, key: Key, serial: u64, how: Delete) {
        self.draining.push(Draining {
            reply,
            key,
            serial,
            how,
            until: Instant::now() + DRAIN,
        });
        self.delete_drained();
    }

    /// When the first Delete stops waiting for output.
    pub(crate) fn drain_deadline(&self) -> Option<Instant> {
        let all = self.draining.iter();
        let waiting = all.filter(|delete| !self.is_deleting(&delete.key));
        waiting.map(|delete| delete.until).min()
    }

    fn is_deleting(&self, key: &Key) -> bool {
        self.tasks.get(&key.id).is_some_and(|task| task.deleting)
    }

    /// Goes on with each Delete whose process has no output under way any more.
    pub(crate) fn delete_drained(&mut self) {
        let now = Instant::now();
        for delete in std::mem::take(&mut self.draining) {
            let Draining { key, serial, .. } = &delete;
            let Some(task) = self.same_task(&key.id, *serial) else {
                let gone = Failure::not_found("container not created");
                self.answer(delete.reply, Err(gone));
                continue;
            };
            let deleting = task.deleting;
            let ended = task
                .process(&key.exec)
                .is_some_and(|process| process.exit.is_some());
            let drains = ended && delete.until > now && self.copies.has_output(key);
            if deleting || (drains && delete.how != Delete::Force) {
                self.draining.push(delete);
            } else if delete.key.exec.is_empty() {
                self.delete_init(delete);
            } else {
                self.delete_exec(delete.reply, &delete.key);
            }
        }
    }

    fn delete_exec(&mut self, reply: Reply, key: &Key) {
        let answer = self.process_mut(key).map(|process| DeleteResponse {
            pid: process.pid.unsigned_abs(),
            exit_status: process.exit.map_or(0, |exit| exit.status),
            exited_at: process.exit.map(crate::task::Exit::timestamp),
        });
        self.close(key);
        if let Ok(task) = self.task_mut(&key.id) {
            task.execs.remove(&key.exec);
        }
        self.answer(reply, answer.map(|answer| answer.encode_to_vec()));
    }

    fn delete_init(&mut self, delete: Draining) {
        let Draining {
            reply,
            key,
            serial,
            how,
            ..
        } = delete;
        let task = match self.task_mut(&key.id) {
            Ok(task) => task,
            Err(failure) => return self.answer(reply, Err(failure)),
        };
        task.deleting = true;
        let runtime = Arc::clone(&task.runtime);
        let (id, bundle) = (key.id.clone(), task.bundle.clone());
        let rootfs = Path::new(&bundle).join("rootfs");
        let rootfs = task.is_mounted.then_some(rootfs);
        let waits = task.init.pidfd.clone().filter(|_| !task.init.started);
        // In a pid namespace of its own it takes no signal but SIGKILL yet.
        let dies = task.init.is_dying && task.shares_pids;
        self.work(
            Job::by(reply),
            move || {
                let seen = waits.as_deref().filter(|_| dies).and_then(last_status);
                let done = remove(&runtime, &id, rootfs.as_deref(), how, waits.as_deref());
                Ok((seen, done))
            },
            move |shim, done: Result<_, Failure>| {
                let (seen, done) = done.unwrap_or_else(|failure| (None, Err(failure)));
                let answer = shim.deleted(&key, serial, seen, done);
                shim.answer(reply, answer.map(|answer| answer.encode_to_vec()));
                // Others have waited for this one.
                shim.delete_drained();
                shim.call_late();
            },
        );
    }

    fn deleted(
        &mut self,
        key: &Key,
        serial: u64,
        seen: Option<u32>,
        done: Result<(), Failure>,
    ) -> Result<DeleteResponse, Failure> {
        let task = self.same_task(&key.id, serial);
        let task = task.ok_or_else(|| Failure::not_found("container not created"))?;
        if let Err(failure) = done {
            // It may have been killed and reaped before that failed.
            self.collect(key);
            if let Some(status) = seen {
                self.ended(key, status);
            }
            self.task_mut(&key.id)?.deleting = false;
            self.collect(key);
            return Err(failure);
        }
        task.rest = Rest::Ended;
        // One that was never started has been killed just now, with all that was added to it;
        // their exits come first, and that of the first process last.
        for exec in task.execs.keys().cloned().collect::<Vec<_>>() {
            let exec = Key {
                id: key.id.clone(),
                exec,
            };
            self.collect_last(&exec, None);
            self.close(&exec);
        }
        self.collect_last(key, seen);
        let task = self.task_mut(&key.id)?;
        let answer = DeleteResponse {
            pid: task.init.pid.unsigned_abs(),
            exit_status: task.init.exit.map_or(0, |exit| exit.status),
            exited_at: task.init.exit.map(crate::task::Exit::timestamp),
        };
        self.close(key);
        let event = TaskDelete {
            container_id: key.id.clone(),
            pid: answer.pid,
            exit_status: answer.exit_status,
            exited_at: answer.exited_at,
            id: String::new(),
        };
        self.tell(&key.id, "/tasks/delete", "TaskDelete", &event);
        let gone = self.tasks.remove(&key.id);
        if gone.is_some_and(|task| task.is_sandbox()) {
            self.leave_if_empty();
        }
        Ok(answer)
    }

    /// Closes the files of a process, and lets its logger finish. Who still waits for its end
    /// learns that there is none.
    fn close(&mut self, key: &Key) {
        self.copies.remove(&mut self.poller, key);
        let Ok(process) = self.process_mut(key) else {
            return;
        };
        let logger = process.logger.take();
        let waiters = std::mem::take(&mut process.waiters);
        process.stdin = None;
        process.console = None;
        for waiter in waiters {
            let gone = Failure::not_found(format!("process {} was deleted", key.exec));
            self.answer(waiter, Err(gone));
        }
        if let Some(logger) = logger {
            self.work(
                Job::new(Wanted::ByShim),
                move || {
                    logger.stop();
                    Ok(())
                },
                |_, _: Result<(), Failure>| {},
            );
        }
    }

    pub(crate) fn shutdown(&mut self) -> Answer {
        self.leave_if_empty();
        Ok(Some(Vec::new()))
    }

    /// Leaves, unless there is a container; or one on its way, which may still come to nothing.
    pub(crate) fn leave_if_empty(&mut self) {
        if !self.tasks.is_empty() {
            return;
        }
        if self.creating.is_empty() {
            self.leave();
        } else {
            self.leave_later = true;
        }
    }
}

/// How long a process that was killed may take to end.
const DYING: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// Whether a signal ends a process that leaves it to the kernel; signal(7).
fn is_fatal(signal: i32) -> bool {
    use nix::libc::{SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
    let others = [
        0, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH,
    ];
    !others.contains(&signal)
}

/// What a process ends with that was sent a signal, if it does; it is not reaped.
fn last_status(pidfd: &OwnedFd) -> Option<u32> {
    let ended = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&DYING));
    ended.ok().filter(|count| *count == 1)?;
    let ended = sys::waitid(Which::LookAt(pidfd.as_fd())).ok()??;
    Some(ended.status)
}

/// Deletes a container and its root file system, if that was mounted here; on its own thread.
/// `waits` is its first process, if that was not started.
fn remove(
    runtime: &Runtime,
    id: &str,
    rootfs: Option<&Path>,
    how: Delete,
    waits: Option<&OwnedFd>,
) -> Result<(), Failure> {
    let delete = || {
        let container = runtime.container(id)?;
        container.delete(how)
    };
    let ends = |pidfd| poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&DYING));
    let deleted = match (delete(), waits) {
        // One that was just killed has let go of what shows that it waits, and is not dead yet:
        // so it looks like one that was started.
        (Err(error), Some(pidfd))
            if error.kind() == ErrorKind::WrongState && ends(pidfd) == Ok(1) =>
        {
            delete()
        }
        (done, _) => done,
    };
    match deleted {
        // Somebody has deleted it with the command; its bundle is still there.
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let unmounted = rootfs.map_or(Ok(()), mounts::unmount_all);
    unmounted
        .map_err(|failure| Failure::new(Code::Unknown, format!("failed rootfs umount: {failure}")))
}
