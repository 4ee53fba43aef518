//! `create`: from a bundle to a process that waits for `start`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::dir::{self, StateDir};
use super::state::{self, Intent, Saved};
use super::{Container, Delete, Runtime, filters, notify};
use crate::bundle::Bundle;
use crate::cgroup::{self, Cgroup, OomKills};
use crate::error::{Cause, Error};
use crate::host::{Facts, Host};
use crate::plan::hooks::HookState;
use crate::plan::{Plan, Step};
use crate::run::{
    Driver, InitProgram, Keeper, Made, Process, Record, Trace, Undone, hand_on, late_steps,
};
use crate::spec::NamespaceKind;
use crate::sys::launch::Guard;
use crate::sys::{call, ipc, process};

/// Descriptors for a container's standard input, output and error.
///
/// `None` means the caller's own. With `process.terminal` all three are the pty's.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
}

impl Stdio {
    /// In the order of their numbers.
    pub(super) fn into_three(self) -> [Option<OwnedFd>; 3] {
        [self.stdin, self.stdout, self.stderr]
    }
}

/// What a caller chooses besides config.json.
///
/// ```
/// let mut options = corten_core::CreateOptions::default();
/// options.no_new_keyring = true;
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CreateOptions {
    /// Standard input, output and error.
    pub stdio: Stdio,
    /// Unix socket that gets the pty's master; needs `process.terminal`.
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets the process's pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// How many of the caller's descriptors from 3 on the container keeps. Each must be
    /// open.
    pub preserve_fds: u32,
    /// How many of those, the first ones, are sockets for sd_listen_fds(3): besides
    /// `preserve_fds`, and told to the container by `LISTEN_FDS` and `LISTEN_PID`.
    pub listen_fds: u32,
    /// Give the container a directory `/run/notify` and the variable `NOTIFY_SOCKET`. The
    /// socket is `notify/notify.sock` in the state directory; the caller binds it before
    /// [`Container::start`], and reads it.
    pub notify_socket: bool,
    /// Move the root over `/` instead of `pivot_root(2)`, for a host whose own root is the
    /// initial ramfs. Weaker: the host's root stays below.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// Have it known when each step began and ended, for [`Container::trace`].
    pub trace: bool,
}

impl Runtime {
    /// Makes a container whose process waits for [`Container::start`].
    ///
    /// The process is a child of the calling process. Everything of the caller is as it
    /// was before: nothing of the program's own state is changed, whatever its threads.
    ///
    /// # Errors
    /// When config.json, this machine or the caller's rights do not allow it. Then
    /// nothing is left; what can't be taken back in a bounded time the log names, and
    /// [`Runtime::delete_leftovers`] can go on with.
    pub fn create(
        &self,
        id: &str,
        bundle: &Bundle,
        options: CreateOptions,
    ) -> Result<Container, Error> {
        self.make(id, bundle, options, false)
    }

    /// Makes a container and starts its program, as [`Runtime::create`] and
    /// [`Container::start`] do.
    ///
    /// Without hooks, terminal and new user namespace that is done in one go, so in less time,
    /// and the container is never *created*: nobody else can start it.
    ///
    /// # Errors
    /// As of both; then nothing is left. [`CreateOptions::notify_socket`] can't be had here,
    /// since its socket is bound before the start.
    pub fn run(
        &self,
        id: &str,
        bundle: &Bundle,
        options: CreateOptions,
    ) -> Result<Container, Error> {
        if options.notify_socket {
            let text = "notify_socket: its socket is to be bound between create and start";
            return Err(Error::other(text));
        }
        let mut container = self.make(id, bundle, options, true)?;
        if container.records.is_none()
            && let Err(error) = container.start()
        {
            if let Err(left) = container.delete(Delete::Force) {
                log::warn!("{left:#}");
            }
            return Err(error);
        }
        Ok(container)
    }

    fn make(
        &self,
        id: &str,
        bundle: &Bundle,
        options: CreateOptions,
        start: bool,
    ) -> Result<Container, Error> {
        #[cfg(feature = "mutate")]
        let start = start && !self.two_steps;
        // What the thread has open must not be taken for a descriptor that the container is to keep.
        let begun = bundle.take_begun().filter(|_| !options.keeps_files());
        dir::check_id(id)?;
        check_options(bundle, &options)?;
        let given = bundle;
        let edited = notify::bundle(bundle, &options, &self.root.join(id));
        let bundle = &*edited;
        let begun = begun.or_else(|| self.begin_namespaces(bundle.spec().namespaces()));
        // Without a thread now the launch asks for one, and fails then.
        let guard = begun.and_then(Result::ok);
        let host = Host::probe_for(bundle.spec(), || self.program.memfd_exec())?;
        let wanted = self.plan_options(id, &options, start);
        let (mut plan, facts) = self.plan_on(&host, bundle, &wanted)?;
        if !plan.obstacles.is_empty() {
            return Err(plan.obstacles.swap_remove(0).into());
        }
        #[cfg(feature = "mutate")]
        if let Some(edit) = self.edit {
            edit(&mut plan);
        }
        self.make_root()?;
        let dir = StateDir::make(&self.root, id)?;
        let new = New {
            given,
            bundle,
            options,
            host,
            plan,
            facts,
            guard,
        };
        // Given back before anything is removed: the descriptor may be the last one.
        let made = match dir.lock() {
            Ok(_lock) => new.prepare_and_run(self, id, &dir),
            Err(error) => Err(error.into()),
        };
        match made {
            Ok(parts) => Ok(parts.into_container(dir, Arc::clone(&self.program))),
            Err(undone) => {
                if undone.left {
                    log::warn!("container {id}: not all could be taken back: delete it by force");
                } else if let Err(left) = dir.remove() {
                    log::warn!("{left:#}");
                }
                Err(undone.error)
            }
        }
    }
}

impl CreateOptions {
    fn keeps_files(&self) -> bool {
        self.preserve_fds > 0 || self.listen_fds > 0
    }
}

fn check_options(bundle: &Bundle, options: &CreateOptions) -> Result<(), Error> {
    let terminal = bundle
        .spec()
        .process
        .as_ref()
        .is_some_and(|process| process.terminal);
    if options.console_socket.is_some() && !terminal {
        return Err(Error::other("console socket: process.terminal is not true"));
    }
    check_preserved(options.preserve_fds.saturating_add(options.listen_fds))
}

/// The warnings of a plan and of its execution, which are logged.
pub(super) fn told(mut warnings: Vec<String>, later: Vec<String>) -> Vec<String> {
    warnings.extend(later);
    for warning in &warnings {
        log::warn!("{warning}");
    }
    warnings
}

/// Each descriptor that the container is to keep must be open.
pub(super) fn check_preserved(count: u32) -> Result<(), Error> {
    for number in (0..count).filter_map(|n| i32::try_from(n).ok()) {
        if !ipc::is_open_number(number.saturating_add(3)) {
            let text = format!(
                "preserve-fds: descriptor {} is not open",
                number.saturating_add(3)
            );
            return Err(Error::other(text));
        }
    }
    Ok(())
}

/// All that a creation works with.
struct New<'a> {
    /// As it was given, without what this creation adds.
    given: &'a Bundle,
    bundle: &'a Bundle,
    options: CreateOptions,
    host: Host,
    plan: Plan,
    facts: Facts,
    guard: Option<Guard>,
}

/// What a creation leaves.
struct Parts {
    saved: Saved,
    process: Process,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
    trace: Trace,
    steps: Vec<(String, String)>,
    /// Of these steps, if they have all been run.
    records: Option<Vec<Record>>,
}

impl Parts {
    fn into_container(self, dir: StateDir, program: Arc<InitProgram>) -> Container {
        let Parts {
            saved,
            process,
            console,
            warnings,
            trace,
            steps,
            records,
        } = self;
        Container {
            program,
            dir,
            saved,
            pidfd: Some(process.pidfd),
            exit: None,
            console,
            warnings,
            trace,
            steps,
            config: Mutex::default(),
            records,
        }
    }
}

impl New<'_> {
    fn prepare_and_run(self, runtime: &Runtime, id: &str, dir: &StateDir) -> Result<Parts, Undone> {
        if self.options.notify_socket {
            notify::make(dir)?;
        }
        self.run(runtime, id, dir)
    }

    fn hook_state<'a>(&'a self, id: &'a str) -> HookState<'a> {
        let spec = self.bundle.spec();
        HookState {
            oci_version: &spec.oci_version,
            id,
            bundle: self.bundle.path(),
            annotations: &spec.annotations,
        }
    }

    fn run(mut self, runtime: &Runtime, id: &str, dir: &StateDir) -> Result<Parts, Undone> {
        let stdio = std::mem::take(&mut self.options.stdio).into_three();
        let guard = self.guard.take();
        let hooks = self.bundle.spec().hooks.as_ref();
        let mut keeper = StateKeeper {
            new: &self,
            id,
            dir,
            prepared: None,
            saved: None,
            console: None,
        };
        let mut driver = Driver {
            plan: &self.plan,
            host: &self.host,
            facts: &self.facts,
            dir: dir.fd(),
            program: &runtime.program,
            stdio,
            container: None,
            keeper: &mut keeper,
            made: Made::guarded(guard),
            trace: Trace::default(),
            warnings: Vec::new(),
            records: Vec::new(),
            hook_state: self.hook_state(id),
            poststop: hooks.map_or(&[], |hooks| &hooks.poststop),
        };
        let process = driver.run()?;
        let Driver {
            trace,
            warnings: run_warnings,
            records,
            ..
        } = driver;
        let saved = keeper
            .saved
            .take()
            .ok_or_else(|| Error::other("no state was recorded"))?;
        let console = keeper.console.take();
        let warnings = told(self.plan.warnings.clone(), run_warnings);
        let is_started = !self.plan.waits_for_start();
        let timed = self.plan.timed;
        let told = |step: &Step| timed && step.is_init();
        let init = self.plan.steps.into_iter().filter(told);
        let steps = init.map(|step| (step.origin, step.what)).collect();
        filters::keep_new(&runtime.root, self.plan.filter.as_ref());
        Ok(Parts {
            saved,
            process,
            console,
            warnings,
            trace,
            steps,
            records: is_started.then_some(records),
        })
    }
}

/// Writes the container's records while the plan runs.
struct StateKeeper<'a> {
    new: &'a New<'a>,
    id: &'a str,
    dir: &'a StateDir,
    /// Owner and boot id.
    prepared: Option<(String, String)>,
    saved: Option<Saved>,
    console: Option<OwnedFd>,
}

impl Keeper for StateKeeper<'_> {
    fn intent(&mut self, missing: &[PathBuf]) -> Result<(), Error> {
        let intent = Intent {
            id: self.id.to_owned(),
            cgroup: self.new.facts.cgroup.clone(),
            made_cgroups: missing.to_vec(),
            unit: self.new.facts.unit.clone(),
            resctrl: absent(self.new.plan.resctrl_groups()),
        };
        let bytes = serde_json::to_vec(&intent).map_err(|error| Error::other(error.to_string()))?;
        self.dir.write(dir::INTENT, &bytes)
    }

    fn prepare(&mut self) -> Result<(), Error> {
        // For exec: a bundle need not stay, and need not have been on disk.
        self.dir.write(dir::CONFIG, &self.new.given.to_json())?;
        self.prepared = Some((owner()?, state::boot_id()?));
        Ok(())
    }

    fn console(&mut self, master: OwnedFd) -> Result<(), Error> {
        self.console = hand_on_console(master, self.new.options.console_socket.as_deref())?;
        Ok(())
    }

    fn process(&mut self, process: &Process) -> Result<(), Error> {
        match &self.new.options.pidfd_socket {
            Some(path) => send_pidfd(process, path, b"standard"),
            None => Ok(()),
        }
    }

    fn state(&mut self, process: &Process, made: &[PathBuf]) -> Result<(), Error> {
        self.process(process)?;
        let saved = self.saved(process, made)?;
        // Nobody may enter what is not a container yet.
        let name = match self.new.plan.waits_for_start() {
            true => dir::STATE,
            false => dir::EARLY_STATE,
        };
        self.dir.write(name, &saved.to_bytes())?;
        self.saved = Some(saved);
        Ok(())
    }

    fn started(&mut self) -> Result<(), Error> {
        self.dir.rename(dir::EARLY_STATE, dir::STATE)
    }
}

impl StateKeeper<'_> {
    fn saved(&self, process: &Process, made: &[PathBuf]) -> Result<Saved, Error> {
        let pidfd_inode = process::pidfd_inode(process.pidfd.as_fd())
            .map_err(|errno| Error::call("pidfd", "fstat", errno))?;
        let (owner, boot_id) = self
            .prepared
            .clone()
            .ok_or_else(|| Error::other("the state was not prepared"))?;
        let New {
            bundle,
            plan,
            facts,
            ..
        } = self.new;
        let spec = bundle.spec();
        let hooks = spec.hooks.clone().unwrap_or_default();
        let start_time = state::start_time(process.pid)
            .map_err(|errno| Error::call(format!("/proc/{}/stat", process.pid), "read", errno))?;
        // Only now is it sure that this was its own.
        process::pidfd_send_signal(process.pidfd.as_fd(), 0)
            .map_err(|errno| Error::call("init", "pidfd_send_signal", errno))?;
        Ok(Saved {
            oci_version: spec.oci_version.clone(),
            id: self.id.to_owned(),
            pid: process.pid,
            start_time,
            pidfd_inode,
            boot_id,
            bundle: bundle.path().to_owned(),
            rootfs: bundle.rootfs().to_owned(),
            created: state::timestamp(),
            annotations: spec.annotations.clone(),
            owner,
            cgroup: facts.cgroup.clone(),
            made_cgroups: made.to_vec(),
            unit: facts.unit.clone(),
            resctrl_joined: plan.resctrl_joined(),
            resctrl: plan.resctrl_groups(),
            resources: String::new(),
            oom_kills_before: oom_kills_before(facts, made),
            no_new_keyring: self.new.options.no_new_keyring,
            own_pid_namespace: spec
                .namespace(NamespaceKind::Pid)
                .is_some_and(|pid| pid.path.is_none()),
            late_steps: late_steps(plan),
            steps: plan.steps.len(),
            init_steps: plan.steps.iter().filter(|step| step.is_init()).count(),
            poststart: hooks.poststart,
            poststop: hooks.poststop,
        })
    }
}

/// OOM kills that are not the container's: a cgroup that was there may have seen some.
fn oom_kills_before(facts: &Facts, made: &[PathBuf]) -> u64 {
    let there = |path: &&PathBuf| facts.unit.is_none() && !made.contains(path);
    let cgroup = facts.cgroup.as_ref().filter(there);
    let cgroup = cgroup.and_then(|path| Cgroup::open(Path::new(cgroup::MOUNT), path).ok());
    let kills = cgroup.and_then(|cgroup| OomKills::of(&cgroup).ok()?);
    kills.map_or(0, |mut kills| kills.look())
}

/// What is there already is somebody else's.
fn absent(mut groups: Vec<PathBuf>) -> Vec<PathBuf> {
    let there = |path: &PathBuf| {
        call("access", || {
            rustix::fs::access(path, rustix::fs::Access::EXISTS)
        })
        .is_ok()
    };
    groups.retain(|path| !there(path));
    groups
}

/// Name of the caller's user, or the number where /etc/passwd does not know it.
fn owner() -> Result<String, Error> {
    let uid = process::getuid().map_err(|errno| Error::call("owner", "getuid", errno))?;
    let passwd = crate::sys::file::read(Path::new("/etc/passwd")).unwrap_or_default();
    let text = String::from_utf8_lossy(&passwd);
    let wanted = uid.to_string();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted).then(|| name.to_owned())
    });
    Ok(name.unwrap_or(wanted))
}

/// Sends the pty's master to a socket, or gives it back where there is none.
pub(super) fn hand_on_console(
    master: OwnedFd,
    socket: Option<&Path>,
) -> Result<Option<OwnedFd>, Error> {
    let Some(path) = socket else {
        return Ok(Some(master));
    };
    let object = || format!("console socket {}", path.display());
    hand_on(master.as_fd(), path).map_err(|errno| Error::call(object(), "connect", errno))?;
    Ok(None)
}

/// Sends a pidfd to a socket, with the word that runc sends with it.
pub(super) fn send_pidfd(process: &Process, path: &Path, word: &[u8]) -> Result<(), Error> {
    let failed = |errno| Error::call(format!("pidfd socket {}", path.display()), "connect", errno);
    let socket = ipc::connect(path).map_err(failed)?;
    ipc::send(socket.as_fd(), word, Some(process.pidfd.as_fd())).map_err(failed)
}

/// A state in which an operation makes no sense.
pub(super) fn wrong_state(text: impl Into<String>) -> Error {
    Cause::WrongState(text.into()).into()
}
