//! `exec`: one more process in a container that is there.
//!
//! As a creation in which every namespace is joined, none is made, and nothing is mounted:
//! what the container has now may be hostile. See setns(2) and namespaces(7).

use corten_init::abi::{Barrier, Op, Slot};

use super::namespaces::{Origin, kinds_of, origin};
use super::rootfs::{become_root, non_dumpable};
use super::{
    Context, Entry, Plan, PlanError, PlanOptions, RunOp, Step, check, console, credentials, enter,
    finished, limits, lsm, namespaces, process, procfs, resctrl, scheduling, seccomp, wait,
    wait_always,
};
use crate::host::{Facts, Host};
use crate::spec::scheduling::list;
use crate::spec::{CpuAffinity, Namespace, NamespaceKind, Process, Spec};

const NAMESPACES: &str = "linux.namespaces";
const CGROUP: &str = "linux.cgroupsPath";

/// More CPUs than any kernel is built for, see `NR_CPUS` in arch/x86/Kconfig.
const CPUS: u32 = 8192;

/// What a process does not say itself is as the container's own process has it. The rest,
/// its program, user, environment and terminal, is never taken from there.
pub(crate) fn with_defaults(mut process: Process, of: Option<&Process>) -> Process {
    let Some(of) = of else { return process };
    macro_rules! default {
        ($($field:ident)*) => {
            $( if process.$field.is_none() { process.$field.clone_from(&of.$field); } )*
        };
    }
    default! {
        capabilities apparmor_profile selinux_label oom_score_adj scheduler io_priority
        exec_cpu_affinity
    }
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&of.rlimits);
    }
    process
}

/// The container's configuration as one whose namespaces are all there.
fn as_joined(mut spec: Spec, facts: &Facts, pid: i32) -> Spec {
    // All that belongs to its creation.
    (spec.mounts, spec.hooks) = (Vec::new(), None);
    let linux = spec.linux.get_or_insert_default();
    linux.resources = None;
    let joined = facts.joined.iter().filter(|(_, joined)| !joined.own);
    let namespace = |kind: NamespaceKind| Namespace {
        kind,
        path: Some(format!("/proc/{pid}/ns/{}", kind.of_process())),
    };
    linux.namespaces = joined.map(|(kind, _)| namespace(*kind)).collect();
    spec
}

/// Whether the container's root is that of its mount namespace; otherwise it was entered by
/// chroot(2).
fn pivoted(spec: &Spec) -> bool {
    let mount = spec.namespace(NamespaceKind::Mount);
    mount.is_some_and(|ns| ns.path.is_none())
}

impl Plan {
    /// Plans the process of a container's configuration in that container, whose own
    /// process is `pid`. `facts` tells its namespaces as if config.json named them by path.
    /// `hand_on` says whether somebody gets a pidfd before the program runs.
    pub(crate) fn exec(
        container: Spec,
        host: &Host,
        facts: &Facts,
        options: &PlanOptions,
        hand_on: bool,
        pid: i32,
    ) -> Result<Plan, PlanError> {
        let pivoted = pivoted(&container);
        let spec = as_joined(container, facts, pid);
        let process = spec.process.as_ref().ok_or(PlanError::NoProcess)?;
        let mut cx = Context::new(&spec, process, host, facts, options);
        namespaces::check_caller(&mut cx);
        lsm::check(&mut cx);
        let filter = seccomp::filter(&mut cx)?;

        let mut steps = enter(&cx, pid);
        if !pivoted {
            steps.extend(chroot(&cx));
        }
        steps.extend(console::open_in_container(&cx));
        steps.extend(procfs::around(&cx, lsm::labels(&cx)));
        steps.extend(process::process(&cx, cpus(&cx))?);
        let mut ready = [limits::ready_in_container(&cx), scheduling::ready(&cx)].concat();
        ready.extend(facts.resctrl.as_deref().map(resctrl::join));
        let socket = Step::run(RunOp::HandOnProcess, "process", "hand the pidfd on");
        ready.extend(hand_on.then_some(socket));
        // Whoever has the terminal comes first.
        steps.extend(match process.terminal {
            true => wait_always(Barrier::Ready, ready),
            false => wait(Barrier::Ready, ready),
        });
        steps.extend(limits::own(&cx));
        steps.extend(seccomp::early(&cx, filter.as_ref()));
        steps.extend(credentials::credentials(&mut cx)?);
        steps.extend(process::execute(&cx, seccomp::late(&cx, filter.as_ref())));
        if let Some(filter) = &filter {
            seccomp::check(&mut cx, filter, &mut steps)?;
        }
        let entry = if facts.cgroup.is_some() {
            Entry::IntoCgroup
        } else {
            Entry::None
        };
        let peak_fds = check::slots(&steps)?;
        Ok(Plan {
            filter: filter.and_then(|filter| filter.new_one()),
            ..finished(cx, steps, entry, peak_fds)
        })
    }
}

/// From the caller to a process that is in the container's namespaces and cgroup.
fn enter(cx: &Context<'_>, pid: i32) -> Vec<Step> {
    let [outside, inside, last] = joins(cx);
    // The kernel may refuse what lies outside of a cgroup namespace that was joined: then
    // the first clone enters the cgroup (`nsdelegate`, see cgroups(7)).
    let has_cgroup = cx.facts.cgroup.is_some();
    let first_enters = has_cgroup && outside.contains(&NamespaceKind::Cgroup);
    let second_enters = has_cgroup && !first_enters;

    let mut steps = Vec::new();
    if let Some(path) = &cx.facts.cgroup {
        let what = format!("open cgroup {}", path.display());
        steps.push(Step::run(RunOp::OpenCgroup, CGROUP, what));
    }
    let groups: Vec<&Vec<NamespaceKind>> = [&outside, &inside, &last]
        .into_iter()
        .filter(|kinds| !kinds.is_empty())
        .collect();
    let slots = || (0..).map(|number| Slot(Slot::NAMESPACES.0 + number));
    for (_, slot) in groups.iter().zip(slots()) {
        let what = format!("take a pidfd of the container's process {pid}");
        let op = RunOp::TakeProcess { slot };
        steps.push(Step::run(op, NAMESPACES, what));
    }
    let launch = RunOp::Launch {
        namespaces: 0,
        into_cgroup: first_enters,
        stage0: true,
    };
    let place = if first_enters { " in the cgroup" } else { "" };
    steps.push(Step::run(launch, NAMESPACES, format!("start init{place}")));
    steps.extend(enter::first());
    let initial = affinity(cx).and_then(|affinity| affinity.initial.as_deref());
    steps.extend(initial.map(|cpus| run_on("initial", cpus)));
    // Before anything of it can be seen from the container.
    steps.push(non_dumpable());
    if cx.joined_namespace(NamespaceKind::User) {
        steps.push(credentials::drop_groups(NAMESPACES));
    }
    let mut joined = groups.iter().zip(slots()).peekable();
    while let Some((kinds, slot)) = joined.next_if(|(kinds, _)| **kinds != &last) {
        steps.extend(join(kinds, slot));
    }
    // A process never changes its own pid namespace.
    steps.extend(enter::clone(cx, &[], second_enters));
    steps.extend(joined.flat_map(|(kinds, slot)| join(kinds, slot)));
    steps.push(enter::new_session());
    if cx.joined_namespace(NamespaceKind::User) {
        steps.extend(become_root(cx, NAMESPACES));
    }
    steps
}

/// What is joined before a user namespace, what with it, and what in the cgroup: one call of
/// setns(2) for each of the three that is not empty.
fn joins(cx: &Context<'_>) -> [Vec<NamespaceKind>; 3] {
    use NamespaceKind::{Cgroup, User};
    if !cx.joined_namespace(User) {
        let (last, first) = NamespaceKind::ALL
            .into_iter()
            .filter(|kind| origin(cx, *kind) != Origin::Keep)
            .partition(|kind| *kind == Cgroup);
        return [Vec::new(), first, last];
    }
    let before = kinds_of(cx, Origin::JoinBefore);
    let (with, outside): (Vec<_>, _) = before.partition(|kind| *kind == User);
    let (last, inside): (_, Vec<_>) =
        kinds_of(cx, Origin::JoinAfter).partition(|kind| *kind == Cgroup);
    [outside, [with, inside].concat(), last]
}

fn join(kinds: &[NamespaceKind], from: Slot) -> Vec<Step> {
    let op = Op::Join {
        from,
        kinds: enter::flags(kinds),
    };
    let what = format!("join the container's namespaces ({})", enter::names(kinds));
    let mut steps = vec![Step::init(op, NAMESPACES, what)];
    if kinds.contains(&NamespaceKind::User) {
        // With other credentials the kernel may have undone it.
        steps.push(non_dumpable());
    }
    steps
}

/// Where the container's root is not that of its mount namespace.
fn chroot(cx: &Context<'_>) -> [Step; 2] {
    let open = Op::OpenRoot {
        path: cx.facts.rootfs.as_os_str().as_encoded_bytes().into(),
        into: Slot::ROOT,
    };
    let what = format!("open {}", cx.facts.rootfs.display());
    [
        Step::init(open, "root.path", what),
        Step::init(Op::Chroot {}, "root.path", "change root"),
    ]
}

/// Where the process runs in the container's cgroup. After `initial` without `final` that is
/// left to the kernel, as config.md has it.
fn cpus(cx: &Context<'_>) -> Option<Step> {
    match affinity(cx) {
        Some(affinity) => affinity.final_.as_deref().map(|cpus| run_on("final", cpus)),
        None => Some(process::all_cpus()),
    }
}

fn affinity<'a>(cx: &Context<'a>) -> Option<&'a CpuAffinity> {
    let affinity = cx.process.exec_cpu_affinity.as_ref();
    affinity.filter(|affinity| affinity.initial.is_some() || affinity.final_.is_some())
}

/// One of `process.execCPUAffinity`.
fn run_on(field: &str, asked: &str) -> Step {
    let mut cpus = list(asked, CPUS).unwrap_or_default();
    // The kernel reads 64 bits at a time.
    cpus.resize(cpus.len().next_multiple_of(2), 0);
    let origin = format!("process.execCPUAffinity.{field}");
    Step::init(Op::SetCpus { cpus }, origin, format!("run on CPUs {asked}"))
}
