//! `exec`: one more process in a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::create::{check_preserved, hand_on_console, send_pidfd, told, wrong_state};
use super::execs::Started as OfExec;
use super::state::is_frozen;
use super::{Container, Exit, Stdio, dir, filters};
use crate::cgroup::{self, Cgroup};
use crate::error::{Cause, Error};
use crate::host::Architecture;
use crate::host::{Facts, Host};
use crate::plan::{Plan, PlanOptions, with_defaults};
use crate::run::{Driver, Keeper, Made, Process as Started, Trace, paused, wants_times};
use crate::seccomp::Policy;
use crate::spec::{self, Process, Spec};
use crate::sys::{file, ipc, process};

/// What a caller of [`Container::exec`] chooses besides the process.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ExecOptions {
    /// Standard input, output and error.
    pub stdio: Stdio,
    /// Unix socket that gets the pty's master; needs [`Process::terminal`].
    pub console_socket: Option<PathBuf>,
    /// The pty adds no carriage returns (`ONLCR`), for a caller that copies its output to a
    /// terminal of its own.
    pub plain_console: bool,
    /// Unix socket that gets the process's pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// How many of the caller's descriptors from 3 on the process keeps. Each must be open.
    pub preserve_fds: u32,
    /// A cgroup below the container's, which must be there; none is the container's own.
    pub cgroup: Option<PathBuf>,
    /// Start it in a paused container too: it comes to its program when that is resumed.
    pub ignore_paused: bool,
    /// Start it on the CPU of the calling thread, which is kept there for that time: sooner,
    /// since no other CPU is to be woken. The program may run wherever it may without this (where
    /// a filter lets the caller choose its CPUs but not its children, a warning says that it
    /// stays there); but the thread counts as one whose CPUs were chosen (sched_setaffinity(2))
    /// from then on, and gets none that its cpuset may get later.
    pub stay_on_cpu: bool,
    /// The caller reaps it by its pidfd, of which it keeps a copy, whatever becomes of the
    /// [`ExecProcess`]: nothing is kept of it here, and a delete leaves its end to the caller.
    pub caller_reaps: bool,
    /// Keep when each step began and ended, for [`ExecProcess::trace`].
    pub trace: bool,
    /// Edits the plan before it is carried out: for tests of the tests.
    #[cfg(feature = "mutate")]
    pub edit: Option<fn(&mut Plan)>,
}

/// A process that was started by [`Container::exec`]: a child of the caller.
///
/// `AsFd` gives its pidfd, which is readable once the process has ended. Dropping it does
/// nothing to the process, but then nobody reaps it, and a container with a pid namespace of
/// its own ends only when all that was in it is reaped. A delete that kills the container reaps
/// what the same program has started there; a [`ExecProcess::wait`] after it says how that ended.
#[derive(Debug)]
pub struct ExecProcess {
    pid: i32,
    started: Arc<OfExec>,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
    trace: Trace,
}

impl Container {
    /// The first process of the container's configuration: what it was started with.
    ///
    /// # Errors
    /// When the configuration in the state directory can't be read.
    pub fn process(&self) -> Result<Process, Error> {
        let config = self.config()?;
        let process = config.process.clone();
        // As a rule somebody asks in order to start another one like it.
        *self.kept_config() = Some(Box::new(config));
        let process = process.map(|process| *process);
        process.ok_or_else(|| Error::other("config.json: process: missing"))
    }

    /// Why its seccomp filter may have killed a process, for one that SIGSYS has killed: the
    /// rules in question, by their place in config.json. `None` if it has no such filter.
    #[must_use]
    pub fn killed_by_filter(&self) -> Option<String> {
        let linux = self.config().ok()?.linux?;
        let native = Architecture::native()?;
        let policy = Policy::new(&*linux.seccomp?.seccomp().ok()?, native).ok()?;
        policy.killers()
    }

    /// Starts one more process in the container, and comes back when its program runs.
    ///
    /// What `process` leaves out of capabilities, rlimits, labels, priorities and
    /// `oomScoreAdj` is as in the container's own; its program, user, environment and
    /// terminal are only its own. The process is a child of the calling process.
    ///
    /// ```no_run
    /// use corten_core::{ExecOptions, Runtime};
    ///
    /// let web = Runtime::builder().build()?.container("web")?;
    /// let mut process = web.process()?;
    /// process.args = vec!["date".to_owned()];
    /// let mut date = web.exec(process, ExecOptions::default())?;
    /// println!("{:?}", date.wait()?.status);
    /// # Ok::<(), corten_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongState`] if the container has stopped or is paused;
    /// otherwise what kept the program from being executed. Then nothing is left.
    pub fn exec(&self, process: Process, options: ExecOptions) -> Result<ExecProcess, Error> {
        let cgroup = self.may_exec(&options)?;
        check_preserved(options.preserve_fds)?;
        if options.console_socket.is_some() && !process.terminal {
            return Err(Error::other("console socket: process.terminal is not true"));
        }
        let pidfd = self.pidfd.as_ref().ok_or(Cause::NotRunning)?.as_fd();
        let kept = self.kept_config().take();
        let mut spec = kept.map_or_else(|| self.config(), |kept| Ok(*kept))?;
        spec.process = Some(with_defaults(process, spec.process.as_deref()).into());
        spec::validate_process(&spec)?;
        let host = Host::probe_in_container(&spec, || self.program.memfd_exec())?;
        let facts = self.facts(&spec, &options, cgroup.as_ref())?;
        // Only now is it sure that all of that was the container's.
        process::pidfd_send_signal(pidfd, 0).map_err(|_| Cause::NotRunning)?;
        let wanted = PlanOptions {
            id: self.saved.id.clone(),
            no_new_keyring: self.saved.no_new_keyring,
            preserve_fds: options.preserve_fds,
            trace: options.trace || wants_times(),
            ..PlanOptions::default()
        };
        let hand_on = options.pidfd_socket.is_some();
        let plan = Plan::exec(spec, &host, &facts, &wanted, hand_on, self.saved.pid)?;
        let cgroup = cgroup.filter(|it| Some(it.path()) == facts.cgroup.as_deref());
        self.carry_out(plan, &host, &facts, options, (pidfd, cgroup))
    }

    /// The container's cgroup, if it has one and its state allows an `exec`.
    fn may_exec(&self, options: &ExecOptions) -> Result<Option<Cgroup>, Error> {
        if self.has_ended() {
            return Err(wrong_state("cannot exec in a stopped container"));
        }
        let cgroup = self.saved.open_cgroup();
        match &cgroup {
            Some(cgroup) if !options.ignore_paused && is_frozen(cgroup) => Err(paused()),
            _ => Ok(cgroup),
        }
    }

    /// The configuration that was read last, if no `exec` has used it up. Nobody changes the
    /// file.
    fn kept_config(&self) -> MutexGuard<'_, Option<Box<Spec>>> {
        // One stored value is whole whatever became of who stored it.
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration that it was made from.
    pub(super) fn config(&self) -> Result<Spec, Error> {
        let object = || self.dir.path().join(dir::CONFIG).display().to_string();
        let bytes = self.dir.read(dir::CONFIG)?;
        let bytes = bytes.ok_or_else(|| Error::other(format!("{}: missing", object())))?;
        let parsed = filters::parse(self.root(), &bytes);
        Ok(parsed.map_err(|error| Cause::Config {
            path: object(),
            error,
        })?)
    }

    /// The directory of all containers' state.
    fn root(&self) -> &Path {
        let path = self.dir.path();
        path.parent().unwrap_or(path)
    }

    fn facts(
        &self,
        spec: &Spec,
        options: &ExecOptions,
        opened: Option<&Cgroup>,
    ) -> Result<Facts, Error> {
        let cgroup = match (&self.saved.cgroup, &options.cgroup) {
            (Some(own), Some(below)) => Some(below_cgroup(own, below)?),
            (Some(own), None) => Some(usable_cgroup(own, opened, self.saved.pid)),
            (None, Some(_)) => {
                return Err(Error::other("cgroup: the container has none"));
            }
            (None, None) => None,
        };
        let (bundle, rootfs) = (&self.saved.bundle, &self.saved.rootfs);
        let resctrl = self.saved.resctrl_joined.clone();
        Facts::of_container(spec, self.saved.pid, [bundle, rootfs], [cgroup, resctrl])
    }

    fn carry_out(
        &self,
        mut plan: Plan,
        host: &Host,
        facts: &Facts,
        mut options: ExecOptions,
        (pidfd, cgroup): (BorrowedFd<'_>, Option<Cgroup>),
    ) -> Result<ExecProcess, Error> {
        if !plan.obstacles.is_empty() {
            return Err(plan.obstacles.swap_remove(0).into());
        }
        #[cfg(feature = "mutate")]
        if let Some(edit) = options.edit {
            edit(&mut plan);
        }
        let stdio = std::mem::take(&mut options.stdio).into_three();
        let mut keeper = ExecKeeper {
            options: &options,
            container: self.saved.pid,
            console: None,
        };
        let mut driver = Driver {
            plan: &plan,
            host,
            facts,
            dir: self.dir.fd(),
            program: &self.program,
            stdio,
            container: Some(pidfd),
            keeper: &mut keeper,
            made: Made::within(cgroup),
            trace: Trace::default(),
            warnings: Vec::new(),
            records: Vec::new(),
            hook_state: self.saved.hook_state(),
            poststop: &[],
        };
        let started = driver.run().map_err(|undone| undone.error)?;
        let trace = match options.trace {
            true => driver.times(),
            false => Trace::default(),
        };
        let later = std::mem::take(&mut driver.warnings);
        let warnings = told(std::mem::take(&mut plan.warnings), later);
        filters::keep_new(self.root(), plan.filter.as_ref());
        let pid = started.pid;
        let started = OfExec::new(started.pidfd, (self.saved.pid, self.saved.start_time));
        if self.saved.own_pid_namespace && !options.caller_reaps {
            started.remember();
        }
        Ok(ExecProcess {
            pid,
            started,
            console: keeper.console,
            warnings,
            trace,
        })
    }
}

/// A cgroup that is named as if the container's own were the root.
fn below_cgroup(own: &Path, below: &Path) -> Result<PathBuf, Error> {
    let mut path = PathBuf::new();
    for part in below.components() {
        let inside = match part {
            Component::Normal(name) => {
                path.push(name);
                true
            }
            Component::ParentDir => path.pop(),
            _ => true,
        };
        if !inside {
            let text = format!("{} is not a sub cgroup path", below.display());
            return Err(Error::other(text));
        }
    }
    Ok(own.join(path))
}

/// The container's cgroup; that of its process, below it, where the container has given its
/// controllers to cgroups below: then no process may be in it, see cgroups(7).
fn usable_cgroup(own: &Path, opened: Option<&Cgroup>, pid: i32) -> PathBuf {
    let control = Path::new("cgroup.subtree_control");
    let control = opened.map(|cgroup| file::read_once_at(cgroup.dir(), control));
    let given = matches!(control, Some(Ok(text)) if !text.trim_ascii().is_empty());
    let at = given.then(|| cgroup::cgroup_of(pid).ok()).flatten();
    at.filter(|at| at.starts_with(own))
        .unwrap_or_else(|| own.to_owned())
}

/// Hands on what the caller gets; nothing of it is kept on disk.
struct ExecKeeper<'a> {
    options: &'a ExecOptions,
    /// The container's own process.
    container: i32,
    console: Option<OwnedFd>,
}

impl Keeper for ExecKeeper<'_> {
    fn waits_for_resume(&self) -> bool {
        self.options.ignore_paused
    }

    fn stays_on_cpu(&self) -> bool {
        self.options.stay_on_cpu
    }

    fn container(&self, _pid: i32) -> (&'static str, i32) {
        ("running", self.container)
    }

    fn console(&mut self, master: OwnedFd) -> Result<(), Error> {
        if self.options.plain_console {
            let failed = |errno| Error::call("process.terminal", "tcsetattr", errno);
            ipc::clear_onlcr(master.as_fd()).map_err(failed)?;
        }
        self.console = hand_on_console(master, self.options.console_socket.as_deref())?;
        Ok(())
    }

    fn process(&mut self, process: &Started) -> Result<(), Error> {
        match self.options.pidfd_socket.as_deref() {
            Some(path) => send_pidfd(process, path, b"setns"),
            None => Ok(()),
        }
    }
}

impl ExecProcess {
    /// Its process id, in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The pty's master side, if a terminal was asked for and no console socket was given;
    /// only once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// What was done differently from what was asked for, and why.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// When each step up to the program began and ended; empty without
    /// [`ExecOptions::trace`].
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotRunning`] if it has ended; `EINVAL` for a number that is no
    /// signal.
    pub fn kill(&self, signal: i32) -> Result<(), Error> {
        super::kill::send(self.as_fd(), signal, || self.pid.to_string())
    }

    /// Waits until it has ended, and reaps it. Asked again, it says the same.
    ///
    /// # Errors
    /// When it can't be waited for at all.
    pub fn wait(&mut self) -> Result<Exit, Error> {
        self.started.wait(self.pid)
    }
}

impl AsFd for ExecProcess {
    /// The pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.started.pidfd().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_below_the_containers_is_never_outside() {
        let own = Path::new("/a/b");
        for (below, path) in [
            ("/", "/a/b/"),
            ("c", "/a/b/c"),
            ("/c/d", "/a/b/c/d"),
            ("c/../d", "/a/b/d"),
        ] {
            assert_eq!(
                below_cgroup(own, Path::new(below)).unwrap(),
                Path::new(path)
            );
        }
        for below in ["..", "../b", "c/../../b", "/.."] {
            let error = below_cgroup(own, Path::new(below)).unwrap_err();
            assert!(error.to_string().ends_with("is not a sub cgroup path"));
        }
    }
}
