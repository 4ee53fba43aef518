//! The walk over a plan's steps, and the way back when one fails.

mod launch;
mod process_steps;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_init::abi::{Op, Slot};
use rustix::io::Errno;

use super::calloff::CallOff;
use super::hooks::Hooks;
use super::link::{Link, Said};
use super::listener::{container_process_state, send_listener};
use super::netdevices::NetDevices;
use super::report::{Record, Report};
use super::trace::{Span, Trace, now, wants_times};
use super::{InitProgram, failure, is_program, resctrl, was_init};
use crate::cgroup::systemd::{self, Scope};
use crate::cgroup::{self, Cgroup, CgroupError, OomKills};
use crate::error::{Cause, Error, errno_text};
use crate::host::{Facts, Host};
use crate::plan::hooks::HookState;
use crate::plan::{Action, Plan, RunOp, Step};
use crate::spec::Hook;
use crate::sys::launch::Guard;
use crate::sys::{file, ipc, process, user_namespace};

/// How long the kernel may take to let go of a cgroup whose processes were killed.
const REMOVE_LIMIT: Duration = Duration::from_secs(10);

/// What the driver asks of whoever keeps the container's state.
pub(crate) trait Keeper {
    /// Writes down what a delete must undo, before anything of it is done.
    /// `missing` are the cgroups that will be made for it.
    fn intent(&mut self, _missing: &[std::path::PathBuf]) -> Result<(), Error> {
        Err(out_of_step())
    }
    /// Looks up what the state holds besides the process.
    fn prepare(&mut self) -> Result<(), Error> {
        Err(out_of_step())
    }
    /// Whether a container that is frozen is waited for.
    fn waits_for_resume(&self) -> bool {
        true
    }
    /// Whether init begins on this CPU: only for a plan that says where the program runs.
    fn stays_on_cpu(&self) -> bool {
        false
    }
    /// Status and process of the container, for which `pid` was made.
    fn container(&self, pid: i32) -> (&'static str, i32) {
        ("creating", pid)
    }
    /// Takes the pty's master.
    fn console(&mut self, master: OwnedFd) -> Result<(), Error>;
    /// Writes state.json.
    fn state(&mut self, _process: &Process, _made: &[std::path::PathBuf]) -> Result<(), Error> {
        Err(out_of_step())
    }
    /// The program runs, of a container that nobody starts later.
    fn started(&mut self) -> Result<(), Error> {
        Ok(())
    }
    /// Hands a pidfd of the process on, before its program runs.
    fn process(&mut self, process: &Process) -> Result<(), Error>;
}

/// The container's process, a child of the caller.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Descriptors for the container's standard input, output and error; none: the caller's.
pub(crate) type Stdio3 = [Option<OwnedFd>; 3];

/// Runs one plan.
pub(crate) struct Driver<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) host: &'a Host,
    pub(crate) facts: &'a Facts,
    /// The state directory.
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) program: &'a InitProgram,
    pub(crate) stdio: Stdio3,
    /// The container's process, where there is one already.
    pub(crate) container: Option<BorrowedFd<'a>>,
    pub(crate) keeper: &'a mut dyn Keeper,
    pub(crate) made: Made,
    pub(crate) trace: Trace,
    pub(crate) warnings: Vec<String>,
    /// Of init's steps, once it is over.
    pub(crate) records: Vec<Record>,
    /// What hooks are told.
    pub(crate) hook_state: HookState<'a>,
    /// Hooks to run when a creation fails that has run others.
    pub(crate) poststop: &'a [Hook],
}

/// What exists so far.
#[derive(Debug, Default)]
pub(crate) struct Made {
    cgroup: Option<Cgroup>,
    /// A thread that makes namespaces while this is planned, and watches the launch.
    guard: Option<Guard>,
    /// Whether systemd was asked for a scope.
    scope: bool,
    fifos: Option<[OwnedFd; 2]>,
    /// What init gets besides: user namespaces for the ids of mounts, pidfds.
    passed: Vec<(Slot, OwnedFd)>,
    report: Option<Report>,
    link: Option<Link>,
    /// What init's own clone came from; gone when the process is known.
    stage0: Option<OwnedFd>,
    /// The same, from then on: it ends while the process goes on, and is reaped at the end.
    ending: Option<OwnedFd>,
    process: Option<Process>,
    /// What the process said before stage 0 told of it. With a terminal that may be two
    /// things: it does not wait for an answer to the first.
    early: VecDeque<Said>,
    master: Option<OwnedFd>,
    /// The number of the filter's listener in init.
    listener: Option<i32>,
    /// Those of the host that are the container's now.
    devices: Option<NetDevices>,
    /// Groups of resctrl that go with the container.
    resctrl: Vec<PathBuf>,
    /// Whether a hook was begun on the host.
    hooked: bool,
}

impl Made {
    /// Nothing yet, in a cgroup that is open already.
    pub(crate) fn within(cgroup: Option<Cgroup>) -> Made {
        Made {
            cgroup,
            ..Made::default()
        }
    }

    /// Nothing yet but perhaps namespaces.
    pub(crate) fn guarded(guard: Option<Guard>) -> Made {
        Made {
            guard,
            ..Made::default()
        }
    }
}

/// A creation that failed, and was taken back.
pub(crate) struct Undone {
    pub(crate) error: Error,
    /// Something is still on the host: what was recorded of it must be kept.
    pub(crate) left: bool,
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        Undone { error, left: false }
    }
}

impl Driver<'_> {
    /// Runs the plan up to the wait for `start`, or without one up to the program. What can't
    /// be taken back after an error is told in the log.
    pub(crate) fn run(&mut self) -> Result<Process, Undone> {
        let walked = self.walk();
        if wants_times() {
            self.times().log();
        }
        walked.map_err(|error| Undone {
            error,
            left: !self.undo(),
        })
    }

    /// When each step began, up to now, init's too.
    pub(crate) fn times(&self) -> Trace {
        let mut trace = self.trace.clone();
        if let Some(Ok(records)) = self.made.report.as_ref().map(Report::records) {
            let steps = self.plan.steps.iter().filter(|step| step.is_init());
            let told = |step: &Step| (step.origin.clone(), step.what.clone());
            trace.add_init(&steps.map(told).collect::<Vec<_>>(), &records);
        }
        trace
    }

    fn walk(&mut self) -> Result<Process, Error> {
        let plan = self.plan;
        self.run_from(0)
            .map_err(|error| self.rather_why_gone(error))?;
        if plan.is_answered_ahead() {
            self.go()?;
        }
        let last = failure::late_steps(plan)
            .first()
            .map_or(usize::MAX, |step| step.index);
        loop {
            match self.next()? {
                Said::Cloned { pid, pidfd } if self.made.stage0.is_some() => {
                    self.cloned(Process { pid, pidfd });
                }
                Said::Cloned { .. } => return Err(out_of_step()),
                Said::Console { master } => {
                    self.made.master = Some(master);
                    self.run_op(|op| matches!(op, RunOp::TakeConsole))?;
                }
                Said::Listener { number } => {
                    self.made.listener = Some(number);
                    self.run_op(|op| matches!(op, RunOp::TakeListener { .. }))?;
                    self.go()?;
                }
                Said::Barrier { index } => {
                    let at = plan.position(index).ok_or_else(out_of_step)?;
                    self.run_from(at + 1)?;
                    self.go()?;
                    if index + 1 == last {
                        return self.finish();
                    }
                }
                // The socket is closed by execve.
                Said::Gone => match self.executed() {
                    Some(records) if last == usize::MAX => {
                        self.records = records;
                        return self.finish();
                    }
                    _ => return Err(self.why_gone()),
                },
            }
        }
    }

    /// What init says next. Stage 0 and the process that it made write to the same
    /// socket, so the process may be heard before it is known: that waits.
    fn next(&mut self) -> Result<Said, Error> {
        if self.made.process.is_some()
            && let Some(early) = self.made.early.pop_front()
        {
            return Ok(early);
        }
        loop {
            let said = self.listen()?;
            if self.made.process.is_some() || matches!(said, Said::Cloned { .. } | Said::Gone) {
                return Ok(said);
            }
            self.made.early.push_back(said);
        }
    }

    /// Runs the runtime half's steps from this one on.
    fn run_op(&mut self, is_it: fn(&RunOp) -> bool) -> Result<(), Error> {
        let found = |step: &Step| matches!(&step.action, Action::Run(op) if is_it(op));
        let at = self.plan.steps.iter().position(found);
        self.run_from(at.ok_or_else(out_of_step)?)
    }

    /// Lets init go on.
    fn go(&mut self) -> Result<(), Error> {
        // What it does for the container is done before the container's program runs.
        self.made.guard = None;
        let gone = self.link()?.go();
        gone.map_err(|errno| Error::call("init", "sendmsg", errno))
    }

    fn link(&self) -> Result<&Link, Error> {
        self.made.link.as_ref().ok_or_else(out_of_step)
    }

    fn listen(&self) -> Result<Said, Error> {
        let process = self.made.process.as_ref().map(|process| &process.pidfd);
        let pidfd = self
            .made
            .stage0
            .as_ref()
            .or(process)
            .ok_or_else(out_of_step)?;
        let runs = || self.runs();
        let runs_or_is_frozen = || self.runs() || self.is_frozen();
        let call_off = match self.container {
            Some(_) if self.keeper.waits_for_resume() => CallOff::Look(&runs),
            Some(_) => CallOff::Look(&runs_or_is_frozen),
            None => CallOff::LookOrFifo(&runs, self.dir),
        };
        match self.link()?.next(pidfd.as_fd(), &call_off) {
            Err(Errno::CANCELED) if self.runs() => Ok(Said::Gone),
            Err(Errno::CANCELED) if self.container.is_some() => Err(paused()),
            Err(Errno::CANCELED) => Err(self.called_off()),
            said => said.map_err(|errno| Error::call("init", "recvmsg", errno)),
        }
    }

    /// Whether what runs in the cgroup stands still: then init does too.
    fn is_frozen(&self) -> bool {
        let events = self.made.cgroup.as_ref().map(Cgroup::events);
        matches!(events, Some(Ok(events)) if events.frozen)
    }

    /// Names the step in which init hangs.
    fn called_off(&self) -> Error {
        let report = self.made.report.as_ref();
        let current = report.and_then(|report| report.current().ok()?);
        failure::called_off(self.plan, current)
    }

    /// Stage 0 has made the process: from now on that one is watched.
    fn cloned(&mut self, process: Process) {
        self.made.process = Some(process);
        self.made.ending = self.made.stage0.take();
    }

    /// The records of all steps, if init reached the last, which is execve, and tells of no
    /// failure.
    fn executed(&self) -> Option<Vec<Record>> {
        self.made.process.as_ref()?;
        self.made.report.as_ref()?.completed().ok()?
    }

    /// Whether the program runs, seen from outside: another thread that forked while init was
    /// started has a child with a copy of the socket, which then has no end.
    fn runs(&self) -> bool {
        let process = self.made.process.as_ref();
        self.executed().is_some() && process.is_some_and(|process| is_program(process.pid))
    }

    /// The reason in the report, if there is one.
    fn why_gone(&self) -> Error {
        let read = self.made.report.as_ref().ok_or(Errno::IO);
        match read.and_then(Report::ending) {
            Ok((Some(failed), _)) => failure::of_plan(self.plan, &failed),
            Ok((None, current)) => {
                // In one that was there before, others may have been killed.
                let is_new = |cgroup: &&Cgroup| {
                    self.made.scope || cgroup.made().iter().any(|made| made == cgroup.path())
                };
                let kills = self.made.cgroup.as_ref().filter(is_new);
                let kills = kills.and_then(|cgroup| OomKills::of(cgroup).ok()?);
                let of_memory = kills.is_some_and(|mut kills| kills.look() > 0);
                failure::killed(self.plan, current, of_memory)
            }
            Err(errno) => Error::call("report", "pread", errno),
        }
    }

    /// What init tells, where it has failed beside a step that failed only because of that.
    fn rather_why_gone(&self, error: Error) -> Error {
        let report = self.made.report.as_ref();
        match report.map(Report::ending) {
            Some(Ok((Some(failed), _))) => failure::of_plan(self.plan, &failed),
            _ => error,
        }
    }

    fn finish(&mut self) -> Result<Process, Error> {
        self.collect();
        if let Some(stage0) = self.made.ending.take() {
            process::reap(&stage0);
        }
        if !self.plan.waits_for_start() {
            self.keeper.started()?;
        }
        self.made.link = None;
        self.made.devices = None;
        self.made.process.take().ok_or_else(out_of_step)
    }

    /// Init's warnings and times so far.
    fn collect(&mut self) {
        if self.records.is_empty() {
            let report = self.made.report.as_ref();
            let Some(Ok(records)) = report.map(Report::records) else {
                return;
            };
            self.records = records;
        }
        let steps = self.plan.steps.iter().filter(|step| step.is_init());
        for (step, record) in steps.zip(&self.records) {
            if record.outcome == corten_init::abi::report::WARNED {
                self.warnings.push(failure::warning(step, record.errno));
            }
        }
    }

    /// Runs the runtime half's steps from this position up to init's next step.
    fn run_from(&mut self, position: usize) -> Result<(), Error> {
        let plan = self.plan;
        let own = plan.steps.iter().zip(1..).skip(position);
        for (step, number) in own {
            let Action::Run(op) = &step.action else { break };
            self.step(step, op, number)?;
        }
        Ok(())
    }

    /// Runs one step: the only way to any of them.
    fn step(&mut self, step: &Step, op: &RunOp, number: usize) -> Result<(), Error> {
        let start = self.plan.timed.then(now);
        let result = match op {
            RunOp::RunHook(hook) => self.run_hook(step, hook),
            _ => self.perform(op),
        };
        if let Some(start) = start {
            self.trace.spans.push(Span {
                name: step.what.clone(),
                origin: step.origin.clone(),
                init: false,
                start,
                end: now(),
            });
        }
        let of = self.plan.steps.len();
        let what = match result {
            Ok(()) => return Ok(()),
            Err(Failed::Told(error)) => return Err(error),
            Err(Failed::Text(text)) => text,
            Err(Failed::Because(why)) => format!("{}: {why}", step.what),
            Err(Failed::Errno(errno)) => {
                format!("{}: {}", step.what, errno_text(errno.raw_os_error()))
            }
        };
        Err(Cause::Step {
            origin: step.origin.clone(),
            what,
            step: number,
            of,
        }
        .into())
    }

    fn perform(&mut self, op: &RunOp) -> Result<(), Failed> {
        match op {
            RunOp::RecordIntent => self.record_intent(),
            RunOp::MakeCgroup => self.make_cgroup(),
            RunOp::StartScope => self.start_scope(),
            RunOp::WriteCgroup { limit } => {
                let setting = self.plan.limits.get(*limit).ok_or_else(out_of_step)?;
                self.cgroup()?
                    .apply(std::slice::from_ref(setting))
                    .map_err(told)
            }
            RunOp::DelegateCgroup { uid } => self.delegate(*uid),
            RunOp::AttachDevices => self.attach_devices(),
            RunOp::OpenCgroup | RunOp::TakeProcess { .. } | RunOp::HandOnProcess => {
                self.perform_in_container(op)
            }
            RunOp::PrepareState => Ok(self.keeper.prepare()?),
            RunOp::MakeFifos => {
                let fifo = |name| ipc::make_fifo(self.dir, name);
                self.made.fifos = Some([fifo("exec.fifo")?, fifo("done")?]);
                Ok(())
            }
            RunOp::MakeTrees => Ok(file::make_dir_at(self.dir, Path::new(crate::plan::TREES))?),
            RunOp::MakeIdMap { slot, uids, gids } => {
                let made = user_namespace::make(uids, gids)?;
                self.made.passed.push((*slot, made));
                Ok(())
            }
            RunOp::Launch {
                namespaces,
                into_cgroup,
                stage0,
            } => self.launch(*namespaces, *into_cgroup, *stage0),
            RunOp::TakeConsole => {
                let master = self.made.master.take().ok_or_else(out_of_step)?;
                Ok(self.keeper.console(master)?)
            }
            RunOp::TakeListener { path, metadata } => self.take_listener(path, metadata),
            RunOp::RecordState => {
                let process = self.made.process.as_ref().ok_or_else(out_of_step)?;
                let made = self.made.cgroup.as_ref().map_or(&[][..], Cgroup::made);
                Ok(self.keeper.state(process, made)?)
            }
            RunOp::MoveNetDevice { name, new_name } => self.move_net_device(name, new_name),
            RunOp::MakeResctrl(group) => {
                group.make(&mut self.made.resctrl).map_err(Failed::Because)
            }
            _ => self.perform_on_process(op),
        }
    }

    /// Steps of a plan for a container that is there.
    fn perform_in_container(&mut self, op: &RunOp) -> Result<(), Failed> {
        match op {
            // It was looked at before.
            RunOp::OpenCgroup if self.made.cgroup.is_some() => Ok(()),
            RunOp::OpenCgroup => {
                let path = self.facts.cgroup.as_deref().ok_or_else(out_of_step)?;
                let opened = Cgroup::open(Path::new(cgroup::MOUNT), path).map_err(told)?;
                self.made.cgroup = Some(opened);
                Ok(())
            }
            RunOp::TakeProcess { slot } => {
                let container = self.container.ok_or_else(out_of_step)?;
                self.made
                    .passed
                    .push((*slot, ipc::copy_at_least(container, 3)?));
                Ok(())
            }
            RunOp::HandOnProcess => {
                let process = self.made.process.as_ref().ok_or_else(out_of_step)?;
                Ok(self.keeper.process(process)?)
            }
            _ => Err(out_of_step().into()),
        }
    }

    fn take_listener(&mut self, path: &Path, metadata: &str) -> Result<(), Failed> {
        let number = self.made.listener.take().ok_or_else(out_of_step)?;
        let process = self.made.process.as_ref().ok_or_else(out_of_step)?;
        let listener = process::pidfd_getfd(process.pidfd.as_fd(), number)?;
        let (status, pid) = self.keeper.container(process.pid);
        let text = container_process_state(&self.hook_state, status, pid, process.pid, metadata);
        send_listener(path, &text, &listener).map_err(Failed::Text)
    }

    /// Init waits meanwhile, for as long as the hook may take.
    fn run_hook(&mut self, step: &Step, hook: &Hook) -> Result<(), Failed> {
        self.made.hooked = true;
        let pid = self.made.process.as_ref().map(|process| process.pid);
        let state = self.hook_state.json("creating", pid);
        let what = step.what.strip_prefix("run ").unwrap_or(&step.what);
        // Who creates a container has its lock, and can be told to give up.
        let hooks = self.hooks(CallOff::within(self.dir));
        hooks.run(what, hook, &state).map_err(Failed::Text)
    }

    fn hooks<'a>(&'a self, call_off: CallOff<'a>) -> Hooks<'a> {
        Hooks {
            program: self.program,
            host: self.host,
            bundle: &self.facts.bundle,
            rootfs: &self.facts.rootfs,
            call_off,
        }
    }

    fn cgroup(&self) -> Result<&Cgroup, Error> {
        self.made.cgroup.as_ref().ok_or_else(out_of_step)
    }

    fn make_cgroup(&mut self) -> Result<(), Failed> {
        let path = self.facts.cgroup.as_deref().ok_or_else(out_of_step)?;
        let mount = Path::new(cgroup::MOUNT);
        let made = Cgroup::create(mount, path, &self.plan.limits).map_err(told)?;
        self.made.cgroup = Some(made);
        Ok(())
    }

    fn start_scope(&mut self) -> Result<(), Failed> {
        let scope = self.plan.scope.as_ref().ok_or_else(out_of_step)?;
        let process = self.made.process.as_ref().ok_or_else(out_of_step)?;
        process::pidfd_send_signal(process.pidfd.as_fd(), 0)?;
        let started = systemd::start(scope, process.pid);
        // What is not ours is not to be stopped.
        self.made.scope = !matches!(started, Err(CgroupError::UnitExists { .. }));
        started.map_err(told)?;
        process::pidfd_send_signal(process.pidfd.as_fd(), 0)?;
        let found = cgroup::cgroup_of(process.pid).map_err(told)?;
        let wanted = scope.unit.path();
        if found != wanted {
            return Err(told(CgroupError::Elsewhere { found, wanted }));
        }
        let mount = Path::new(cgroup::MOUNT);
        let made = Cgroup::adopt(mount, &wanted, &self.plan.limits).map_err(told)?;
        self.made.cgroup = Some(made);
        Ok(())
    }

    fn attach_devices(&mut self) -> Result<(), Failed> {
        let program = self.plan.devices.as_ref().ok_or_else(out_of_step)?;
        let cgroup = self.cgroup()?;
        let is_new = self.plan.scope.is_some() || cgroup.made().iter().any(|p| p == cgroup.path());
        let attached = if is_new {
            cgroup::attach(cgroup.dir(), program)
        } else {
            // A creation that failed has left its own.
            cgroup::replace(cgroup.dir(), program)
        };
        self.permitted("linux.resources.devices: not applied", attached)
    }

    fn delegate(&mut self, uid: u32) -> Result<(), Failed> {
        let delegated = cgroup::delegate(self.cgroup()?, uid);
        self.permitted("linux.cgroupsPath: not given to the container", delegated)
    }

    /// What the caller lacks the privilege for is left out, with a warning.
    fn permitted(&mut self, what: &str, done: Result<(), CgroupError>) -> Result<(), Failed> {
        match done {
            Err(error) if error.is_not_permitted() => {
                self.warnings.push(format!("{what}: {error}"));
                Ok(())
            }
            done => done.map_err(told),
        }
    }

    /// A record of a cgroup is what a clean-up kills, so it must not name a stranger's.
    fn record_intent(&mut self) -> Result<(), Failed> {
        let mount = Path::new(cgroup::MOUNT);
        let mut missing = match &self.facts.cgroup {
            Some(path) => Cgroup::refuse_used(mount, path).map_err(told)?,
            None => Vec::new(),
        };
        if self.facts.unit.is_some() {
            // Slices are systemd's, also those that it makes now.
            missing.clear();
        }
        Ok(self.keeper.intent(&missing)?)
    }

    /// Takes back what was made, as far as it can be; false if something is left.
    fn undo(&mut self) -> bool {
        let hooked = self.made.hooked || self.init_hooked();
        // Their sockets keep the container's network alive, whatever became of init.
        if let Some(devices) = self.made.devices.take() {
            devices.give_back();
        }
        // Descriptors that the rest does without: there may be no free one for it.
        self.made.fifos = None;
        self.made.master = None;
        let started = self.made.stage0.is_some() || self.made.process.is_some();
        let mut undone = self.end_stage0();
        self.made.report = None;
        // End of file tells an init that waits; one that does not gets SIGKILL.
        self.made.link = None;
        if let Some(process) = self.made.process.take() {
            undone &= end(&process.pidfd);
        }
        let removed = match (self.made.cgroup.take(), &self.plan.scope) {
            (cgroup, Some(scope)) if self.made.scope => stop_scope(cgroup, scope),
            (Some(cgroup), _) => remove_cgroup(cgroup, started),
            (None, _) => Ok(()),
        };
        if let Err(error) = removed {
            log::warn!("{error}");
            undone = false;
        }
        if let Err((path, errno)) = resctrl::remove(&self.made.resctrl) {
            log::warn!("{}: not removed: {errno}", path.display());
        }
        // What its hooks have made is theirs to take back.
        if hooked {
            let state = self.hook_state.json("stopped", None);
            let hooks = self.hooks(CallOff::patiently(self.dir));
            hooks.poststop(self.poststop, &state);
        }
        undone
    }

    /// Ends stage 0, and looks for the process that it may have made; false if it hangs.
    fn end_stage0(&mut self) -> bool {
        if let Some(stage0) = self.made.ending.take() {
            process::reap(&stage0);
        }
        let Some(stage0) = self.made.stage0.take() else {
            return true;
        };
        // It waits for nobody. Killed between its clone and its message, it would leave
        // a child of the caller that nobody knows.
        if process::has_ended(stage0.as_fd(), Some(REMOVE_LIMIT)) != Ok(true) {
            log::warn!("init does not end");
        }
        let ended = end(&stage0);
        // It may have made the process before; that one is a child of the caller too.
        while let (None, Some(Ok(Some(said)))) = (
            &self.made.process,
            self.made.link.as_ref().map(Link::waiting),
        ) {
            if let Said::Cloned { pid, pidfd } = said {
                self.made.process = Some(Process { pid, pidfd });
            }
        }
        if self.made.process.is_none() {
            self.made.process = self.untold();
        }
        ended
    }

    /// The process that stage 0 has made but did not come to tell of: somebody killed it in
    /// between, perhaps the kernel, for memory that both have.
    fn untold(&mut self) -> Option<Process> {
        let report = self.made.report.take()?;
        let pid = report.cloned().ok()??;
        let pidfd = process::pidfd_open(pid).ok()?;
        // Nobody else's: the embedder may have reaped it, and another one have its number,
        // perhaps another child. Nothing but the report tells that it has come to its program.
        let has_begun = || matches!(report.completed(), Ok(Some(_)));
        let is_ours = process::is_child(pidfd.as_fd()) && (was_init(pid) || has_begun());
        is_ours.then_some(Process { pid, pidfd })
    }

    /// Whether init has begun a hook.
    fn init_hooked(&self) -> bool {
        let report = self.made.report.as_ref();
        let Some(Ok(Some(current))) = report.map(Report::current) else {
            return false;
        };
        let steps = self.plan.steps.iter().filter(|step| step.is_init());
        steps
            .take(current + 1)
            .any(|step| matches!(step.action, Action::Init(Op::RunHook { .. })))
    }
}

/// Kills a child and reaps it, within a limit: one that hangs in the kernel stays, and
/// the answer is false.
fn end(pidfd: &OwnedFd) -> bool {
    let killed = process::kill(pidfd.as_fd())
        .and_then(|()| process::has_ended(pidfd.as_fd(), Some(REMOVE_LIMIT)));
    match killed {
        Ok(true) => process::reap(pidfd),
        Ok(false) => log::warn!("init was killed and does not end"),
        Err(errno) => log::warn!("init could not be killed: {errno}"),
    }
    killed == Ok(true)
}

/// Kills what may be in a new cgroup and removes it. One that was there before is left:
/// somebody else may have come into it meanwhile.
fn remove_cgroup(cgroup: Cgroup, started: bool) -> Result<(), cgroup::CgroupError> {
    let (path, made) = (cgroup.path().to_owned(), cgroup.made().to_vec());
    if !made.contains(&path) {
        return Ok(());
    }
    if started {
        cgroup.kill()?;
    }
    drop(cgroup);
    cgroup::remove(Path::new(cgroup::MOUNT), &path, &made, REMOVE_LIMIT)
}

/// Ends a scope that was asked for, whether it came or not.
fn stop_scope(cgroup: Option<Cgroup>, scope: &Scope) -> Result<(), CgroupError> {
    // systemd would ask first, and wait for an answer.
    cgroup.map_or(Ok(()), |cgroup| cgroup.end(REMOVE_LIMIT))?;
    systemd::stop(&scope.unit)
}

/// Why a step of the runtime half failed.
enum Failed {
    /// The step and this errno say all.
    Errno(Errno),
    /// The step and these words say all.
    Because(String),
    /// These words say all.
    Text(String),
    /// The error names its object itself.
    Told(Error),
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Failed::Errno(errno)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Told(error)
    }
}

fn told(error: cgroup::CgroupError) -> Failed {
    Failed::Told(error.into())
}

/// No process is added to a container that stands still, as long as nobody insists.
pub(crate) fn paused() -> Error {
    let text = "cannot exec in a paused container (use --ignore-paused to override)";
    Cause::WrongState(text.to_owned()).into()
}

/// The two halves disagree about the plan: a bug of Corten.
fn out_of_step() -> Error {
    Error::other("runtime and init are out of step: a bug of corten")
}
