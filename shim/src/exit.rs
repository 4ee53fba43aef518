//! Ends of processes, and the order in which they are told.
//!
//! What has to come before what:
//! - a process's start before its exit: an exit that is seen while a start is under way waits
//! - all execs' exits before that of the first process
//! - an OOM kill before the exit that it caused
//!
//! so an exit is first *collected* (reaped, by its pidfd) and later *settled* (told).

use std::os::fd::AsFd as _;
use std::time::Duration;

use corten_core::Event;

use crate::daemon::Shim;
use crate::engine::Key;
use crate::failure::{Code, Failure};
use crate::proto::events::{TaskExit, TaskOnly};
use crate::sys::{self, Which};
use crate::task::{Exit, KILLED, Process, Rest, wait_response};
use crate::worker::Wanted;

/// What is told of an exit.
pub(crate) fn event(key: &Key, pid: i32, exit: Exit) -> TaskExit {
    let is_init = key.exec.is_empty();
    let id = if is_init { &key.id } else { &key.exec };
    TaskExit {
        container_id: key.id.clone(),
        id: id.clone(),
        pid: pid.unsigned_abs(),
        exit_status: exit.status,
        exited_at: Some(exit.timestamp()),
    }
}

impl Shim {
    /// The pidfd of a process is readable: takes its status.
    pub(crate) fn collect(&mut self, key: &Key) {
        let deleting = self.tasks.get(&key.id).is_some_and(|task| task.deleting);
        let Ok(process) = self.process_mut(key) else {
            return;
        };
        let Some(pidfd) = &process.pidfd else { return };
        let status = match sys::waitid(Which::Pidfd(pidfd.as_fd())) {
            Ok(Some(ended)) => Some(ended.status),
            Ok(None) => return,
            Err(_) => None,
        };
        self.forget(key);
        // Who deletes it may have reaped it, and knows more.
        if status.is_none() && deleting {
            return;
        }
        self.ended(key, status.unwrap_or(KILLED));
    }

    pub(crate) fn ended(&mut self, key: &Key, status: u32) {
        if let Ok(process) = self.process_mut(key) {
            process.collected.get_or_insert_with(|| Exit::now(status));
            self.settle(key);
        }
    }

    /// The same for one whose container was deleted, and who was killed by that. There is no
    /// later: an exit that could not be seen is told all the same. `seen` is what who deleted it
    /// has seen.
    pub(crate) fn collect_last(&mut self, key: &Key, seen: Option<u32>) {
        self.collect(key);
        let Ok(process) = self.process_mut(key) else {
            return;
        };
        process.starting = false;
        if process.is_alive() {
            self.forget(key);
            self.ended(key, seen.unwrap_or(KILLED));
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
        let (Some(_), None, false) = (process.collected, process.exit, process.starting) else {
            return;
        };
        if is_init && !self.may_end(key) {
            return;
        }
        self.tell_exit(key);
        if !is_init {
            let init = Key {
                id: key.id.clone(),
                exec: String::new(),
            };
            self.settle(&init);
        }
        self.delete_drained();
    }

    /// The processes of this kind, the first one of a container behind its execs.
    fn processes(&self, kind: impl Fn(&Process) -> bool) -> Vec<Key> {
        let mut found = Vec::new();
        for (id, task) in &self.tasks {
            let execs = task.execs.iter();
            let execs = execs.map(|(exec, process)| (exec.as_str(), process));
            let all = execs.chain([("", &task.init)]);
            found.extend(all.filter(|(_, process)| kind(process)).map(|(exec, _)| {
                let (id, exec) = (id.clone(), exec.to_owned());
                Key { id, exec }
            }));
        }
        found
    }

    /// Takes the status of every process that has ended, seen or not: there may be no next turn.
    pub(crate) fn collect_all(&mut self) {
        for key in self.processes(|process| process.collected.is_none()) {
            self.collect(&key);
        }
    }

    /// Whose exit waits for its turn, behind others or behind its own start.
    fn untold(&self) -> Vec<Key> {
        self.processes(|process| process.collected.is_some() && process.exit.is_none())
    }

    pub(crate) fn has_untold(&self) -> bool {
        !self.untold().is_empty()
    }

    /// Tells the exits that wait for their turn, since there will be none: the shim ends.
    pub(crate) fn tell_untold(&mut self) {
        for key in self.untold() {
            self.tell_exit(&key);
        }
    }

    /// Tells an exit that was collected.
    fn tell_exit(&mut self, key: &Key) {
        let is_init = key.exec.is_empty();
        let Ok(process) = self.process_mut(key) else {
            return;
        };
        let Some(exit) = process.collected else {
            return;
        };
        process.exit = Some(exit);
        let pid = process.pid;
        let waiters = std::mem::take(&mut process.waiters);
        self.tell_oom(&key.id);
        if is_init {
            self.unwatch(&key.id);
        }
        let event = event(key, pid, exit);
        self.tell(&key.id, "/tasks/exit", "TaskExit", &event);
        for waiter in waiters {
            self.answer(waiter, Ok(wait_response(exit)));
        }
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
            Wanted::ByShim,
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
