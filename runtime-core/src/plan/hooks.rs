//! `hooks`: which half runs each, where, and with what on its standard input.
//!
//! The runtime half runs prestart and createRuntime while init waits before the pivot;
//! createContainer and startContainer are init's own children. poststart belongs to
//! `start` and poststop to `delete`: they are no steps. A hook of the runtime half is run
//! by a second init with a plan of its own, made here too: whatever the caller's size,
//! threads, signals and descriptors, and whoever else waits for its children.

use std::collections::BTreeMap;
use std::path::Path;

use corten_init::abi::{Barrier, Op, Slot};

use super::rootfs::change_dir;
use super::{Bytes, Context, Entry, Plan, RunOp, Step, wait};
use crate::host::MemfdExec;
use crate::spec::Hook;

/// The umask of hooks on the host.
const UMASK: u32 = 0o022;

/// What hooks are told of a container, but for its status and its process.
#[derive(Clone, Debug)]
pub(crate) struct HookState<'a> {
    pub(crate) oci_version: &'a str,
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) annotations: &'a BTreeMap<String, String>,
}

impl HookState<'_> {
    /// The state as JSON, see runtime.md of the OCI specification; no pid where there is
    /// no process.
    pub(crate) fn json(&self, status: &str, pid: Option<i32>) -> String {
        let [before, after] = self.halves(status);
        match pid {
            Some(pid) => format!("{before}{pid}{after}"),
            None => format!("{}{after}", before.trim_end_matches(",\"pid\":")),
        }
    }

    /// What is before the pid, and what behind.
    fn halves(&self, status: &str) -> [String; 2] {
        // Strings only: there is nothing that can't be written.
        let text = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let (version, id) = (text(self.oci_version), text(self.id));
        let before = format!(r#"{{"ociVersion":{version},"id":{id},"status":"{status}","pid":"#);
        let mut after = format!(r#","bundle":{}"#, text(&self.bundle.to_string_lossy()));
        if !self.annotations.is_empty() {
            let annotations = serde_json::to_string(self.annotations).unwrap_or_default();
            after.push_str(r#","annotations":"#);
            after.push_str(&annotations);
        }
        after.push('}');
        [before, after]
    }
}

impl<'a> Context<'a> {
    pub(super) fn hook_state(&self) -> HookState<'a> {
        HookState {
            oci_version: &self.spec.oci_version,
            id: &self.options.id,
            bundle: &self.facts.bundle,
            annotations: &self.spec.annotations,
        }
    }

    fn hooks(&self, wanted: &str) -> &'a [Hook] {
        let kinds = self.spec.hooks.iter().flat_map(|hooks| hooks.kinds());
        let mut kinds = kinds.filter(|(kind, _)| *kind == wanted);
        kinds.next().map_or(&[], |(_, list)| list)
    }
}

/// A hook in words: `createRuntime hook #0: /usr/bin/hook`.
pub(crate) fn name(kind: &str, index: usize, hook: &Hook) -> String {
    format!("{kind} hook #{index}: {}", hook.path)
}

/// The place of a hook and what is done with it.
fn words(kind: &str, index: usize, hook: &Hook) -> (String, String) {
    let what = format!("run {}", name(kind, index, hook));
    (format!("hooks.{kind}[{index}]"), what)
}

/// All hooks of `create`, between the mounts and the pivot.
pub(super) fn create(cx: &Context<'_>) -> Vec<Step> {
    let mut on_host = Vec::new();
    for kind in ["prestart", "createRuntime"] {
        for (index, hook) in cx.hooks(kind).iter().enumerate() {
            let (origin, what) = words(kind, index, hook);
            on_host.push(Step::run(RunOp::RunHook(hook.clone()), origin, what));
        }
    }
    let mut steps = wait(Barrier::Mounted, on_host);
    let own = init_hooks(cx, "createContainer");
    if !own.is_empty() {
        steps.push(state(cx, "createContainer", "creating"));
        steps.extend(own);
        let slot = Slot::HOOK_STATE;
        let what = "close the state for hooks";
        steps.push(Step::init(
            Op::Close { slot },
            "hooks.createContainer",
            what,
        ));
    }
    steps
}

/// Where createContainer hooks find themselves: in the bundle, which a mapped root might
/// not reach later. Never in the image, whose files could be taken for the hook's own.
pub(super) fn directory(cx: &Context<'_>) -> Option<Step> {
    let none = cx.hooks("createContainer").is_empty();
    let path = directory_of(&cx.facts.bundle, &cx.facts.rootfs);
    (!none).then(|| change_dir(path, "hooks.createContainer"))
}

/// The bundle, unless it is the root file system or in it.
fn directory_of<'a>(bundle: &'a Path, rootfs: &Path) -> &'a Path {
    if bundle.starts_with(rootfs) {
        Path::new("/")
    } else {
        bundle
    }
}

/// What startContainer hooks will read, made before the filter and the credentials.
pub(super) fn prepare(cx: &Context<'_>) -> Option<Step> {
    let none = cx.hooks("startContainer").is_empty();
    (!none).then(|| state(cx, "startContainer", "created"))
}

/// Between the wait for `start` and execve.
pub(super) fn start(cx: &Context<'_>) -> Vec<Step> {
    init_hooks(cx, "startContainer")
}

fn state(cx: &Context<'_>, kind: &str, status: &str) -> Step {
    let [before, after] = cx.hook_state().halves(status).map(Bytes::from);
    let op = Op::HookState {
        before,
        after,
        flags: cx.host.memfd_exec.of_data().bits(),
        into: Slot::HOOK_STATE,
    };
    let what = format!("make the state for hooks ({status})");
    Step::init(op, format!("hooks.{kind}"), what)
}

fn init_hooks(cx: &Context<'_>, kind: &str) -> Vec<Step> {
    let step = |(index, hook): (usize, &Hook)| {
        let (origin, what) = words(kind, index, hook);
        // What runs in the container is by default in the environment of its program.
        let inherit = kind == "startContainer" && hook.env.is_empty();
        let op = run_op(hook, inherit, Slot::NONE);
        Step::init(op, origin, what)
    };
    cx.hooks(kind).iter().enumerate().map(step).collect()
}

fn run_op(hook: &Hook, inherit: bool, lifeline: Slot) -> super::InitOp {
    let strings = |list: &[String]| list.iter().map(Bytes::from).collect::<Vec<_>>();
    let own_name = || vec![Bytes::from(&hook.path)];
    Op::RunHook {
        path: (&hook.path).into(),
        args: Some(strings(&hook.args))
            .filter(|args| !args.is_empty())
            .unwrap_or_else(own_name),
        env: strings(&hook.env),
        inherit,
        timeout: hook
            .timeout
            .map_or(0, |seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
        state: Slot::HOOK_STATE,
        lifeline,
    }
}

/// The plan of a process that runs one hook on the host and ends.
pub(crate) fn supervisor(
    hook: &Hook,
    state: &str,
    [bundle, rootfs]: [&Path; 2],
    memfd_exec: MemfdExec,
) -> Plan {
    let host = "hooks";
    let step = |op, what: &str| Step::init(op, host, what);
    let steps = vec![
        step(Op::CloseFds {}, "close every other descriptor"),
        step(Op::ResetSignals {}, "reset all signals"),
        // Signals of the caller's terminal are not meant for it.
        step(Op::NewSession {}, "start a session"),
        step(Op::SetUmask { mask: UMASK }, "set umask"),
        change_dir(Path::new("/"), host),
        // A bundle may be gone when its container is deleted.
        change_dir(directory_of(bundle, rootfs), host).or_warn(),
        step(
            Op::HookState {
                before: state.into(),
                after: Bytes::from(""),
                flags: memfd_exec.of_data().bits(),
                into: Slot::HOOK_STATE,
            },
            "make the state for hooks",
        ),
        step(run_op(hook, false, Slot::SOCKET), "run the hook"),
    ];
    Plan {
        steps,
        argv: Vec::new(),
        envp: Vec::new(),
        entry: Entry::None,
        peak_fds: 0,
        warnings: Vec::new(),
        obstacles: Vec::new(),
        limits: Vec::new(),
        scope: None,
        devices: None,
        filter: None,
        preserve_fds: 0,
        timed: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_that_of_the_specification() {
        let annotations = BTreeMap::from([("a\"b".to_owned(), "\u{1}".to_owned())]);
        let state = HookState {
            oci_version: "1.3.0",
            id: "web",
            bundle: Path::new("/b\n"),
            annotations: &annotations,
        };
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let mut wanted = serde_json::json!({
            "ociVersion": "1.3.0", "id": "web", "status": "creating", "pid": 7,
            "bundle": "/b\n", "annotations": { "a\"b": "\u{1}" },
        });
        assert_eq!(read(&state.json("creating", Some(7))), wanted);
        wanted.as_object_mut().unwrap().remove("pid");
        wanted["status"] = "stopped".into();
        assert_eq!(read(&state.json("stopped", None)), wanted);
    }

    #[test]
    fn hooks_never_find_themselves_in_the_image() {
        for (bundle, rootfs, directory) in [
            ("/b", "/b/rootfs", "/b"),
            ("/b", "/images/one", "/b"),
            ("/b", "/b", "/"),
            ("/b/sub", "/b", "/"),
            ("/bundle", "/b", "/bundle"),
        ] {
            let found = directory_of(Path::new(bundle), Path::new(rootfs));
            assert_eq!(found, Path::new(directory), "{bundle} {rootfs}");
        }
    }
}
