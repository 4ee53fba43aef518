//! [`Runtime`]: where containers are kept, and how they are made.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::dir::{self, StateDir};
use super::state::Saved;
use super::{Container, CreateOptions, State};
use super::{filters, notify};
use crate::bundle::Bundle;
use crate::cgroup::{self, Cgroup, systemd};
use crate::error::{Error, ErrorKind};
use crate::host::{self, Facts, Host, Unit};
use crate::plan::{self, Plan, PlanOptions};
use crate::run::{self, InitProgram, Trace};
use crate::spec::{self, Namespace};
use crate::sys::launch::Guard;
use crate::sys::{call, file};

/// Which cgroups containers get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cgroups {
    /// cgroup v2, by its file system.
    #[default]
    Fs,
    /// cgroup v2, by systemd: each container is a scope of its own. `linux.cgroupsPath` is
    /// `SLICE:PREFIX:NAME`, or absent.
    Systemd,
    /// None: containers stay in their creator's, and limits are refused.
    Disabled,
}

/// A directory of containers.
///
/// ```no_run
/// use corten_core::{Bundle, CreateOptions, Delete, Runtime};
///
/// let runtime = Runtime::builder().root("/run/corten").build()?;
/// let bundle = Bundle::load("/bundles/web")?;
/// let mut web = runtime.create("web", &bundle, CreateOptions::default())?;
/// web.start()?;
/// let exit = web.wait()?;
/// println!("{:?}", exit.status);
/// web.delete(Delete::IfStopped)?;
/// # Ok::<(), corten_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Runtime {
    pub(super) root: PathBuf,
    pub(super) cgroups: Cgroups,
    pub(super) resctrl: Option<PathBuf>,
    pub(super) program: Arc<InitProgram>,
    #[cfg(feature = "mutate")]
    pub(super) edit: Option<fn(&mut Plan)>,
    #[cfg(feature = "mutate")]
    pub(super) two_steps: bool,
}

/// Settings of a [`Runtime`].
#[derive(Clone, Debug)]
pub struct RuntimeBuilder {
    root: PathBuf,
    cgroups: Cgroups,
    resctrl: Option<PathBuf>,
    nofile: Option<[u64; 2]>,
    #[cfg(feature = "mutate")]
    edit: Option<fn(&mut Plan)>,
    #[cfg(feature = "mutate")]
    two_steps: bool,
}

impl RuntimeBuilder {
    /// The directory of all containers' state, `/run/corten` if not set. Made when the
    /// first container is, with mode 0700.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// Which cgroups containers get; [`Cgroups::Fs`] if not set.
    #[must_use]
    pub fn cgroups(mut self, cgroups: Cgroups) -> Self {
        self.cgroups = cgroups;
        self
    }

    /// Where the resctrl file system is, which `linux.intelRdt` needs; where
    /// /proc/self/mountinfo says if not set.
    #[must_use]
    pub fn resctrl(mut self, mount_point: impl Into<PathBuf>) -> Self {
        self.resctrl = Some(mount_point.into());
        self
    }

    /// `RLIMIT_NOFILE` that containers, `exec` and hooks get where config.json has none: soft
    /// and hard, in descriptors. For a program that has raised its own; the caller's if not set.
    #[must_use]
    pub fn nofile(mut self, soft: u64, hard: u64) -> Self {
        self.nofile = Some([soft, hard]);
        self
    }

    /// Edits every plan before [`Runtime::create`] carries it out, also that of a
    /// [`Runtime::run`] in two steps: for tests of the tests.
    #[cfg(feature = "mutate")]
    #[must_use]
    pub fn edit_plans(mut self, edit: fn(&mut Plan), two_steps: bool) -> Self {
        self.edit = Some(edit);
        self.two_steps = two_steps;
        self
    }

    /// The runtime. Nothing is made yet.
    ///
    /// # Errors
    /// When the root is `/` or no absolute path.
    pub fn build(self) -> Result<Runtime, Error> {
        if !self.root.is_absolute() || self.root.parent().is_none() {
            let text = format!(
                "root {}: must be an absolute path, not /",
                self.root.display()
            );
            return Err(Error::other(text));
        }
        Ok(Runtime {
            root: self.root,
            cgroups: self.cgroups,
            resctrl: self.resctrl,
            program: Arc::new(InitProgram::new(self.nofile)),
            #[cfg(feature = "mutate")]
            edit: self.edit,
            #[cfg(feature = "mutate")]
            two_steps: self.two_steps,
        })
    }
}

impl Runtime {
    /// Settings for a new value.
    #[must_use]
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            root: PathBuf::from("/run/corten"),
            cgroups: Cgroups::default(),
            resctrl: None,
            nofile: None,
            #[cfg(feature = "mutate")]
            edit: None,
            #[cfg(feature = "mutate")]
            two_steps: false,
        }
    }

    /// The directory of all containers' state.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads a bundle as [`Bundle::load`] does, in less time: a seccomp profile that was compiled
    /// in this root before is not read again.
    ///
    /// # Errors
    /// As [`Bundle::load`].
    pub fn load(&self, bundle: impl AsRef<Path>) -> Result<Bundle, Error> {
        self.load_by(bundle.as_ref(), |_| None)
    }

    /// The same for a bundle that becomes a container at once, by [`Runtime::create`] or
    /// [`Runtime::run`] of this process. What takes longest of that, a new network namespace, is
    /// begun before the rest of the bundle is read.
    ///
    /// Until then, or until the value is dropped, the process has one more thread, and up to three
    /// descriptors. The C library does not know that thread: credentials that the process changes
    /// meanwhile it keeps, and with a second thread the kernel refuses some calls, as `unshare(2)`
    /// of a user namespace. Host name and owner of what is begun are those of the caller now.
    ///
    /// # Errors
    /// As [`Bundle::load`].
    pub fn load_and_begin(&self, bundle: impl AsRef<Path>) -> Result<Bundle, Error> {
        self.load_by(bundle.as_ref(), |json| {
            let namespaces = spec::namespaces_ahead(json)?;
            self.begin_namespaces(&namespaces)
        })
    }

    fn load_by(
        &self,
        bundle: &Path,
        begin: impl FnOnce(&[u8]) -> Option<Result<Guard, Errno>>,
    ) -> Result<Bundle, Error> {
        let mut begun = None;
        let mut bundle = Bundle::load_by(bundle, |json| {
            begun = begin(json);
            filters::parse(&self.root, json)
        })?;
        bundle.begun(begun);
        Ok(bundle)
    }

    /// Has the namespaces that the launch will make begun to be made, if one of them takes long. Whether all of them can
    /// be had, or are wanted at all, is known later.
    pub(super) fn begin_namespaces(
        &self,
        namespaces: &[Namespace],
    ) -> Option<Result<Guard, Errno>> {
        let flags = plan::begun_early(namespaces)?;
        (self.cgroups == Cgroups::Fs).then(|| Guard::start(flags))
    }

    /// The steps that [`Runtime::create`] would take. Looks at the machine and at the
    /// bundle, and changes nothing; needs no privilege.
    ///
    /// # Errors
    /// When the container can't be planned.
    pub fn plan(&self, id: &str, bundle: &Bundle, options: &CreateOptions) -> Result<Plan, Error> {
        self.plan_for(id, bundle, options, false)
    }

    /// The same for [`Runtime::run`].
    ///
    /// # Errors
    /// When the container can't be planned.
    pub fn plan_run(
        &self,
        id: &str,
        bundle: &Bundle,
        options: &CreateOptions,
    ) -> Result<Plan, Error> {
        self.plan_for(id, bundle, options, true)
    }

    fn plan_for(
        &self,
        id: &str,
        bundle: &Bundle,
        options: &CreateOptions,
        start: bool,
    ) -> Result<Plan, Error> {
        dir::check_id(id)?;
        let bundle = notify::bundle(bundle, options, &self.root.join(id));
        let host = Host::probe_for(bundle.spec(), host::memfd_exec)?;
        let (plan, _) = self.plan_on(&host, &bundle, &self.plan_options(id, options, start))?;
        Ok(plan)
    }

    /// What planning must know of the caller's choices.
    pub(crate) fn plan_options(
        &self,
        id: &str,
        options: &CreateOptions,
        start: bool,
    ) -> PlanOptions {
        PlanOptions {
            id: id.to_owned(),
            root: self.root.clone(),
            no_new_keyring: options.no_new_keyring,
            no_pivot: options.no_pivot,
            no_cgroup: self.cgroups == Cgroups::Disabled,
            systemd: self.cgroups == Cgroups::Systemd,
            preserve_fds: options.preserve_fds,
            listen_fds: options.listen_fds,
            trace: options.trace || run::wants_times(),
            resctrl: self.resctrl.clone(),
            start,
        }
    }

    pub(super) fn plan_on(
        &self,
        host: &Host,
        bundle: &Bundle,
        options: &PlanOptions,
    ) -> Result<(Plan, Facts), Error> {
        let spec = bundle.spec();
        let facts = Facts::probe(spec, bundle.path(), bundle.rootfs(), options)?;
        Ok((Plan::new(spec, host, &facts, options)?, facts))
    }

    /// A container that exists.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none of this id, or it was never finished
    /// (see [`Runtime::delete_leftovers`]).
    pub fn container(&self, id: &str) -> Result<Container, Error> {
        dir::check_id(id)?;
        let dir = StateDir::open(&self.root, id)?;
        let mut bytes = dir.read(dir::STATE)?;
        if bytes.is_none() {
            dir.settle()?;
            bytes = dir.read(dir::STATE)?;
        }
        self.container_in(dir, bytes)
    }

    fn container_in(&self, dir: StateDir, state: Option<Vec<u8>>) -> Result<Container, Error> {
        let bytes = state.ok_or(crate::error::Cause::NotFinished)?;
        let saved = Saved::parse(&bytes, &dir.path().join(dir::STATE))?;
        let pidfd = saved.open_process()?;
        let trace = Trace::default();
        let (warnings, steps) = (Vec::new(), Vec::new());
        Ok(Container {
            program: Arc::clone(&self.program),
            dir,
            saved,
            pidfd,
            exit: None,
            console: None,
            warnings,
            trace,
            steps,
            config: Mutex::default(),
            records: None,
        })
    }

    /// The state of every container, ordered by id. Waits for nobody: one whose program has ended
    /// before its creator recorded the start is left out until then.
    ///
    /// # Errors
    /// When the root can't be read. A container that vanishes meanwhile is left out.
    pub fn list(&self) -> Result<Vec<State>, Error> {
        let failed = |errno| Error::call(self.root.display().to_string(), "open", errno);
        let root = match file::open_dir_at(rustix::fs::CWD, &self.root) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut states = Vec::new();
        for name in file::read_dir_names(&root).map_err(failed)? {
            let Some(id) = name.to_str().filter(|id| dir::check_id(id).is_ok()) else {
                continue;
            };
            match self.seen(id) {
                Ok(state) => states.push(state),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // One that can't be read must not hide the others.
                Err(error) => log::warn!("container {id}: {error:#}"),
            }
        }
        Ok(states)
    }

    /// What a container is and does, without a wait for its creator: of one whose program runs
    /// the state may have its early name only.
    fn seen(&self, id: &str) -> Result<State, Error> {
        let dir = StateDir::open(&self.root, id)?;
        if let Some(bytes) = dir.read(dir::STATE)? {
            return self.container_in(dir, Some(bytes))?.state();
        }
        let Some(early) = dir.read(dir::EARLY_STATE)? else {
            // It may have got its name in between.
            let bytes = dir.read(dir::STATE)?;
            return self.container_in(dir, bytes)?.state();
        };
        let container = self.container_in(dir, Some(early))?;
        if container.pid() != 0 && run::is_program(container.first_pid()) {
            return container.state();
        }
        Err(crate::error::Cause::NotFinished.into())
    }

    /// Removes what a creator that was killed left behind: a state directory without
    /// state.json, the cgroup that its intent record names, the processes in it. A creation
    /// that is under way fails, and takes back what it has made.
    ///
    /// # Errors
    /// When something is left that can't be removed. Nothing there is no error.
    pub fn delete_leftovers(&self, id: &str) -> Result<(), Error> {
        dir::check_id(id)?;
        let dir = match StateDir::open(&self.root, id) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let _lock = match super::delete::lock_by_force(&dir) {
            // Who created it has taken all of it back.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            lock => lock?,
        };
        if dir.read(dir::STATE)?.is_some() {
            return self.container(id)?.delete_locked(super::Delete::Force);
        }
        if let Some(intent) = dir.intent()? {
            if let Some(path) = intent.cgroup.filter(|path| !self.is_in_use(path)) {
                remove_cgroup(&path, &intent.made_cgroups, intent.unit.as_ref())?;
            }
            remove_resctrl(&intent.resctrl)?;
        }
        super::holders::kill(&dir)?;
        dir.remove()
    }

    /// Whether a container that has not ended has this cgroup: a creation that was killed
    /// before it came to make the cgroup has no part in it.
    fn is_in_use(&self, cgroup: &Path) -> bool {
        let root = file::open_dir_at(rustix::fs::CWD, &self.root);
        let names = root.and_then(file::read_dir_names).unwrap_or_default();
        let mut containers = names
            .iter()
            .filter_map(|name| StateDir::open(&self.root, name.to_str()?).ok())
            .filter_map(|dir| {
                let bytes = dir.read(dir::STATE).ok()?;
                self.container_in(dir, bytes).ok()
            });
        containers.any(|container| {
            container.saved.cgroup.as_deref() == Some(cgroup) && container.pid() != 0
        })
    }

    /// Makes the root, unless it is there; whoever made it chose its mode.
    pub(super) fn make_root(&self) -> Result<(), Error> {
        let open = || {
            call("access", || {
                rustix::fs::access(&self.root, rustix::fs::Access::EXISTS)
            })
        };
        if open().is_ok() {
            Ok(())
        } else {
            dir::make_root(&self.root)
        }
    }
}

/// Kills what is in a cgroup, waits, and removes it.
///
/// systemd stops the unit itself once that is empty, but keeps one that failed.
pub(super) fn remove_cgroup(
    path: &Path,
    made: &[PathBuf],
    unit: Option<&Unit>,
) -> Result<(), Error> {
    let mount = Path::new(cgroup::MOUNT);
    if let Ok(cgroup) = Cgroup::open(mount, path) {
        cgroup.kill()?;
    }
    if let Some(unit) = unit {
        // systemd would wait for what hangs, longer than anybody, and not name it.
        if let Ok(cgroup) = Cgroup::open(mount, path) {
            cgroup.end(super::delete::LIMIT)?;
        }
        systemd::stop(unit)?;
    }
    Ok(cgroup::remove(mount, path, made, super::delete::LIMIT)?)
}

/// Removes groups of resctrl. Whoever is still in one is in the group above it then.
pub(super) fn remove_resctrl(groups: &[PathBuf]) -> Result<(), Error> {
    run::remove_resctrl(groups)
        .map_err(|(path, errno)| Error::call(path.display().to_string(), "rmdir", errno))
}
