//! From config.json to a list of steps.
//!
//! Planning is pure: it reads no file, no environment and no clock. All it knows
//! besides the configuration are its arguments [`Host`], [`Facts`] and [`PlanOptions`].
//!
//! # Layout
//! - `step`: the data; `print`: a plan as text and JSON; `flatten`: as bytes for init
//! - `check`: that every slot is filled before it is used
//! - one file per facility: `namespaces`, `enter` (the way into them), `rootfs`, `mounts`, `options` (mount options),
//!   `devices`, `paths` (masked and read-only), `console`, `hooks`, `process`,
//!   `resctrl`, `scheduling`, `sysctl`, `lsm` (labels), `procfs` (where both are written), `credentials`, `seccomp`, `limits`
//! - `exec`: a process in a container that is there
//! - `mutate`: a plan without some of its steps, in a test build only

mod check;
mod console;
mod credentials;
mod devices;
mod enter;
mod error;
mod exec;
mod flatten;
pub(crate) mod hooks;
mod limits;
mod lsm;
mod mounts;
#[cfg(feature = "mutate")]
mod mutate;
mod namespaces;
mod options;
mod paths;
mod print;
mod process;
mod procfs;
mod resctrl;
mod rootfs;
mod scheduling;
mod seccomp;
mod step;
mod sysctl;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use corten_init::abi::{Barrier, Op};

use crate::cgroup::systemd::Scope;
use crate::cgroup::{DeviceProgram, Setting};
use crate::host::{Facts, Host};
use crate::spec::{Compiled, Linux, NamespaceKind, Process, Resources, Spec};

pub use crate::sys::scheduling::SchedAttributes;
pub use error::PlanError;
pub(crate) use exec::with_defaults;
pub(crate) use flatten::{Fds, Flat};
use mounts::Mounts;
pub(crate) use mounts::{TREES, has_long_layers};
pub(crate) use namespaces::begun_early;
pub(crate) use options::{MOUNT_OPTIONS, copies_symlink, is_bind, is_read_only};
pub(crate) use resctrl::schemata;
pub use resctrl::{Group, Ownership};
pub(crate) use seccomp::Suspect;
pub use step::{Action, Bytes, Entry, InitOp, Planned, RunOp, Step};

/// What the caller of `create` chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanOptions {
    /// The container's id.
    pub id: String,
    /// The directory of all containers' state.
    pub root: PathBuf,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Move the root over `/` instead of `pivot_root(2)`.
    pub no_pivot: bool,
    /// Use no cgroup at all.
    pub no_cgroup: bool,
    /// Have systemd make the cgroup.
    pub systemd: bool,
    /// How many descriptors from 3 on the container gets.
    pub preserve_fds: u32,
    /// How many of them come before these and are sockets for sd_listen_fds(3).
    pub listen_fds: u32,
    /// Have it known when each step began.
    pub trace: bool,
    /// Where resctrl is, if not where /proc/self/mountinfo says.
    pub resctrl: Option<PathBuf>,
    /// Start the program as soon as the container is made, where nobody has anything to do
    /// in between: see [`Plan::waits_for_start`].
    pub start: bool,
}

/// The ordered steps that make a container, and what they refer to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The steps of both halves, in the order in which they happen.
    pub steps: Vec<Step>,
    /// `process.args`.
    pub argv: Vec<Bytes>,
    /// The environment: the last of several entries with one name.
    pub envp: Vec<Bytes>,
    /// How the process enters its cgroup.
    pub entry: Entry,
    /// Most descriptors that init has open at once, besides stdio and preserved ones.
    pub peak_fds: usize,
    /// What is done differently from what config.json says, and why.
    pub warnings: Vec<String>,
    /// What keeps this caller on this host from carrying the plan out.
    pub obstacles: Vec<PlanError>,
    pub(crate) limits: Vec<Setting>,
    pub(crate) scope: Option<Scope>,
    pub(crate) devices: Option<DeviceProgram>,
    /// A profile that nobody knows yet, and its filter.
    pub(crate) filter: Option<(Box<str>, Arc<Compiled>)>,
    pub(crate) preserve_fds: u32,
    /// Whether it is to be known when each step began.
    pub(crate) timed: bool,
}

/// All that the facilities look at.
pub(crate) struct Context<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) process: &'a Process,
    pub(crate) host: &'a Host,
    pub(crate) facts: &'a Facts,
    pub(crate) options: &'a PlanOptions,
    pub(crate) warnings: Vec<String>,
    pub(crate) obstacles: Vec<PlanError>,
}

impl<'a> Context<'a> {
    fn new(
        spec: &'a Spec,
        process: &'a Process,
        host: &'a Host,
        facts: &'a Facts,
        options: &'a PlanOptions,
    ) -> Context<'a> {
        Context {
            spec,
            process,
            host,
            facts,
            options,
            warnings: crate::spec::warnings(spec),
            obstacles: Vec::new(),
        }
    }

    /// Whether the container gets a new namespace of this kind.
    pub(crate) fn new_namespace(&self, kind: NamespaceKind) -> bool {
        self.spec
            .namespace(kind)
            .is_some_and(|ns| ns.path.is_none())
    }

    /// Whether the container gets a namespace of this kind by its path. The caller's own is
    /// as if it had not been named.
    pub(crate) fn joined_namespace(&self, kind: NamespaceKind) -> bool {
        let named = self.spec.namespace(kind);
        named.is_some_and(|ns| ns.path.is_some())
            && !self
                .facts
                .joined
                .get(&kind)
                .is_some_and(|joined| joined.own)
    }

    /// Whether the container is in another namespace of this kind than its creator.
    pub(crate) fn other_namespace(&self, kind: NamespaceKind) -> bool {
        self.new_namespace(kind) || self.joined_namespace(kind)
    }

    /// Whether the container is in a user namespace, be it its creator's: no device can be made
    /// there.
    pub(crate) fn in_user_namespace(&self) -> bool {
        self.host.user_namespace || self.other_namespace(NamespaceKind::User)
    }

    /// The place of a kind of namespace that config.json names by path.
    pub(crate) fn origin(&self, kind: NamespaceKind) -> String {
        let mut all = self.spec.namespaces().iter();
        match all.position(|ns| ns.kind == kind) {
            Some(index) => format!("linux.namespaces[{index}].path"),
            None => "linux.namespaces".to_owned(),
        }
    }

    pub(crate) fn resources(&self) -> Option<&Resources> {
        self.spec
            .linux
            .as_ref()
            .and_then(|linux| linux.resources.as_deref())
    }
}

impl Plan {
    /// Plans a container.
    ///
    /// `spec` must be valid ([`crate::spec::validate`]).
    ///
    /// # Errors
    /// [`PlanError`] when config.json asks for what makes no sense or what Corten can't
    /// do. What this host can't do is in [`Plan::obstacles`].
    pub fn new(
        spec: &Spec,
        host: &Host,
        facts: &Facts,
        options: &PlanOptions,
    ) -> Result<Plan, PlanError> {
        let process = spec.process.as_ref().ok_or(PlanError::NoProcess)?;
        let mut cx = Context::new(spec, process, host, facts, options);
        namespaces::check(&mut cx)?;
        lsm::check(&mut cx);
        let entry = namespaces::entry(&mut cx);
        let limits = limits::settings(&cx)?;
        let devices = limits::devices(&cx)?;
        let filter = seccomp::filter(&mut cx)?;

        let scope = limits::scope(&cx, &limits)?;
        let attach = limits::attach(devices.is_some());
        let mut mounts = mounts::mounts(&mut cx)?;
        let at_once = starts_at_once(&cx, entry);
        let early = at_once.then(process::record_early);
        let mut steps = up_to_namespaces(&cx, entry, &limits, [attach, early], &mut mounts);
        steps.extend(rootfs::prepare(&cx)?);
        let dev = mounts.dev();
        steps.extend(mounts.steps);
        steps.extend(devices::devices(&cx, dev)?);
        steps.extend(console::open(&cx));
        steps.extend(rootfs::working_directory(&cx));
        // Before all that is meant to hold for the container: hooks mount and write in it.
        steps.extend(hooks::create(&cx));
        steps.extend(mounts.last);
        steps.extend(devices::close(&steps));
        steps.extend(paths::paths(&cx, &mounts.open));
        steps.extend(namespaces::names(&cx));
        let writes = [sysctl::sysctl(&cx)?, lsm::labels(&cx)].concat();
        steps.extend(procfs::around(&cx, writes));
        steps.extend(rootfs::finish(&cx)?);
        steps.extend(process::process(&cx, Some(process::all_cpus()))?);
        steps.extend(hooks::prepare(&cx));
        steps.extend(up_to_program(&mut cx, filter.as_ref(), at_once)?);
        answer_ahead(&mut steps);
        if let Some(filter) = &filter {
            seccomp::check(&mut cx, filter, &mut steps)?;
        }

        let peak_fds = check::slots(&steps)?;
        Ok(Plan {
            limits,
            scope,
            devices,
            filter: filter.and_then(|filter| filter.new_one()),
            ..finished(cx, steps, entry, peak_fds)
        })
    }

    /// Whether init waits for `start`.
    #[must_use]
    pub fn waits_for_start(&self) -> bool {
        let waits = |step: &Step| matches!(step.action, Action::Init(Op::WaitStart {}));
        self.steps.iter().any(waits)
    }

    /// Whether the runtime half lets init go on unasked.
    pub(crate) fn is_answered_ahead(&self) -> bool {
        let is_untold = |step: &Step| matches!(step.action, Action::Init(Op::WaitUntold {}));
        self.steps.iter().any(is_untold)
    }

    /// How many steps init runs.
    pub(crate) fn init_steps(&self) -> usize {
        self.steps.iter().filter(|step| step.is_init()).count()
    }

    /// Position in [`Plan::steps`] of init's step number `index`.
    pub(crate) fn position(&self, index: usize) -> Option<usize> {
        let init = self
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.is_init());
        init.map(|(position, _)| position).nth(index)
    }
}

/// A plan of these steps that makes no cgroup.
fn finished(cx: Context<'_>, steps: Vec<Step>, entry: Entry, peak_fds: usize) -> Plan {
    Plan {
        steps,
        argv: cx.process.args.iter().map(Bytes::from).collect(),
        envp: process::full_environment(&cx),
        entry,
        peak_fds,
        warnings: cx.warnings,
        obstacles: cx.obstacles,
        limits: Vec::new(),
        scope: None,
        devices: None,
        filter: None,
        preserve_fds: cx
            .options
            .preserve_fds
            .saturating_add(cx.options.listen_fds),
        timed: cx.options.trace,
    }
}

/// From the intent record to a process that is in its cgroup and its namespaces.
fn up_to_namespaces(
    cx: &Context<'_>,
    entry: Entry,
    limits: &[Setting],
    [attach, record]: [Option<Step>; 2],
    mounts: &mut Mounts,
) -> Vec<Step> {
    let cgroup = limits::cgroup(cx, entry, limits);
    // With systemd the cgroup comes when the process is there.
    let ((cgroup, attach), late) = match entry {
        Entry::ScopeByPid => (
            (Vec::new(), None),
            cgroup.into_iter().chain(attach).collect(),
        ),
        _ => ((cgroup, attach), Vec::new()),
    };
    let mut steps = limits::before(cgroup, record.is_none());
    steps.reserve(most_steps(cx, mounts));
    steps.append(&mut mounts.before);
    steps.push(enter::launch(cx, entry));
    steps.extend(limits::beside(cx, attach).chain(record));
    steps.extend(hooks::directory(cx));
    let outside = std::mem::take(&mut mounts.outside);
    steps.extend(enter::enter(cx, entry, late, outside));
    steps
}

/// About how many steps there will be, so that they are not moved whenever they are twice as many.
fn most_steps(cx: &Context<'_>, mounts: &Mounts) -> usize {
    let paths = |linux: &Linux| linux.masked_paths.len() + linux.readonly_paths.len();
    let paths = cx.spec.linux.as_deref().map_or(0, paths);
    // The others of the configuration that the command `spec` writes are about 60.
    mounts.steps.len() + paths + 72
}

/// From the last barrier to the program, with what init gives up on the way.
fn up_to_program(
    cx: &mut Context<'_>,
    filter: Option<&seccomp::Filter<'_>>,
    at_once: bool,
) -> Result<Vec<Step>, PlanError> {
    let classes = resctrl::ready(cx);
    let ready = [limits::ready(cx), classes, scheduling::ready(cx)].concat();
    // Nothing that the container's program may do comes before the runtime half is done.
    let mut steps = match at_once {
        true => wait_always(Barrier::Ready, ready),
        false => wait(Barrier::Ready, ready),
    };
    steps.extend(limits::own(cx));
    steps.extend(seccomp::early(cx, filter));
    steps.extend(credentials::credentials(cx)?);
    let late = seccomp::late(cx, filter);
    steps.extend(match at_once {
        true => process::execute(cx, late),
        false => process::start(cx, late),
    });
    Ok(steps)
}

/// Whether the program may start as soon as the container is made: the caller wants it, and
/// neither a hook nor a terminal has its turn in between. Only where init is born in the
/// container's cgroup: by that it is found when its creator is killed.
fn starts_at_once(cx: &Context<'_>, entry: Entry) -> bool {
    let hooks = cx.spec.hooks.iter().flat_map(|hooks| hooks.kinds());
    let has_hook = hooks.into_iter().any(|(_, list)| !list.is_empty());
    let is_findable = entry == Entry::IntoCgroup && !namespaces::clones_twice(cx);
    cx.options.start && is_findable && !has_hook && !cx.process.terminal
}

/// Where the runtime half has done all that it has to do before init comes to the only barrier, init
/// does not tell that it is there: that wakes a process for nothing.
fn answer_ahead(steps: &mut [Step]) {
    let later = steps.iter_mut().skip_while(|step| !step.is_init());
    let mut barriers = Vec::new();
    for step in later {
        match step.action {
            Action::Run(_) => return,
            Action::Init(Op::Wait { .. }) => barriers.push(step),
            Action::Init(_) => {}
        }
    }
    if let [barrier] = barriers.as_mut_slice() {
        barrier.action = Action::Init(Op::WaitUntold {});
        "wait until the runtime half is done".clone_into(&mut barrier.what);
    }
}

/// A barrier and what the runtime half does there; nothing where there is nothing to do.
pub(crate) fn wait(barrier: Barrier, work: Vec<Step>) -> Vec<Step> {
    match work.is_empty() {
        true => work,
        false => wait_always(barrier, work),
    }
}

/// The same, also where there is nothing to do.
pub(crate) fn wait_always(barrier: Barrier, work: Vec<Step>) -> Vec<Step> {
    let name = format!("{barrier:?}").to_lowercase();
    let what = format!("wait at barrier {name}");
    let mut steps = vec![Step::init(Op::Wait { barrier }, "process", what)];
    steps.extend(work);
    steps
}
