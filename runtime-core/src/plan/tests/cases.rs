//! The cases: `tests/plans/NAME.json` is a config.json; what is not usual about the machine
//! or the options is [`adjust`]'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cgroup::{CgroupMode, cgroup_path};
use crate::host::{Architecture, Facts, Host, Joined, MemfdExec, MountFacts, Unit};
use crate::plan::{Plan, PlanError, PlanOptions};
use crate::spec::{self, NamespaceKind, Spec};

/// All capabilities of Linux 6.1, as root has them.
const ALL_CAPS: u64 = (1 << 41) - 1;
const CAP_SYS_MODULE: u64 = 1 << 16;

/// Everything that planning looks at.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) spec: Spec,
    pub(super) host: Host,
    pub(super) options: PlanOptions,
    /// What is known of the namespaces that are named by path.
    pub(super) joined: BTreeMap<NamespaceKind, Joined>,
    pub(super) mounts: MountFacts,
}

impl Case {
    /// A case on the usual machine: root, Linux 6.1, cgroup v2.
    pub(super) fn new(name: &str, spec: Spec) -> Case {
        let host = Host {
            kernel: "6.1.0-example".to_owned(),
            euid: 0,
            egid: 0,
            permitted_caps: ALL_CAPS,
            last_cap: 40,
            cgroup: CgroupMode::V2,
            systemd: true,
            clone3: true,
            namespaces: NamespaceKind::ALL.to_vec(),
            memfd_exec: MemfdExec::Plain,
            kcore: true,
            user_namespace: false,
            proc_hidden: false,
            apparmor: true,
            selinux: true,
            architecture: Some(Architecture::X86_64),
            seccomp_flags: Some(0x3f),
            pidfd_getfd: true,
        };
        let options = PlanOptions {
            id: "web".to_owned(),
            root: PathBuf::from("/run/corten"),
            ..PlanOptions::default()
        };
        Case {
            name: name.to_owned(),
            spec,
            host,
            options,
            joined: BTreeMap::new(),
            mounts: MountFacts::default(),
        }
    }

    /// As [`Facts::probe`], for a caller in the cgroup /user.slice/me.
    /// Root's /bin/true in a mount namespace, with these mounts and fields of `linux`.
    pub(super) fn mounting(name: &str, mounts: &Value, mut linux: Value) -> Case {
        linux["namespaces"] = json!([{ "type": "mount" }]);
        let config = json!({
            "ociVersion": "1.3.0",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "cwd": "/" },
            "root": { "path": "rootfs" },
            "mounts": mounts,
            "linux": linux,
        });
        let bytes = serde_json::to_vec(&config).unwrap();
        Case::new(name, spec::parse(&bytes).unwrap())
    }

    pub(super) fn facts(&self) -> Facts {
        let linux = self.spec.linux.as_ref();
        let asked = linux.and_then(|linux| linux.cgroups_path.as_deref());
        let resources = linux.and_then(|linux| linux.resources.as_deref());
        // Limits that make no sense are for the plan to refuse.
        let settings = resources.map_or(Ok(Vec::new()), crate::cgroup::settings);
        let unit = self.options.systemd;
        let unit = unit.then(|| Unit::new(asked, &self.options.id).unwrap());
        let own = Path::new("/user.slice/me");
        let cgroup = || {
            let settings = settings.unwrap_or_default();
            cgroup_path(asked, &self.options.id, || own.to_owned(), &settings).unwrap()
        };
        let cgroup = unit.as_ref().map_or_else(cgroup, Unit::path);
        let bundle = PathBuf::from("/bundle");
        let root = self.spec.root.as_ref().map_or("", |root| &root.path);
        Facts {
            rootfs: bundle.join(root),
            bundle,
            cgroup: (!self.options.no_cgroup).then_some(cgroup),
            unit,
            joined: self.joined.clone(),
            mounts: self.mounts.clone(),
            resctrl: self.options.resctrl.clone(),
        }
    }

    pub(super) fn plan(&self) -> Result<Plan, PlanError> {
        if self.name.starts_with("exec") {
            return self.plan_exec();
        }
        Plan::new(&self.spec, &self.host, &self.facts(), &self.options)
    }
}

impl Case {
    /// The configuration as that of a container which is there, with one process more: all
    /// that it does not share with its creator is in its user namespace, if it has one.
    fn plan_exec(&self) -> Result<Plan, PlanError> {
        let mut facts = self.facts();
        let new = |kind| {
            let named = self.spec.namespace(kind);
            named.is_some_and(|ns| ns.path.is_none())
        };
        for kind in NamespaceKind::ALL {
            let joined = Joined {
                own: self.spec.namespace(kind).is_none(),
                inside_user: new(NamespaceKind::User) && new(kind) && kind != NamespaceKind::User,
                problem: None,
            };
            facts.joined.insert(kind, joined);
        }
        let hand_on = self.name == "exec-everything";
        facts.resctrl = hand_on.then(|| PathBuf::from("/sys/fs/resctrl/web"));
        Plan::exec(
            self.spec.clone(),
            &self.host,
            &facts,
            &self.options,
            hand_on,
            4242,
        )
    }
}

/// The folder with the golden files.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

/// Every configuration in the folder, with what belongs to its name.
pub(super) fn all() -> Vec<Case> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let name = name.strip_suffix(".json")?.to_owned();
            (!name.ends_with(".plan")).then_some(name)
        })
        .collect();
    names.sort();
    assert!(names.len() > 25, "cases are missing: {names:?}");
    names.iter().map(|name| case(name)).collect()
}

/// The configuration of this name.
pub(super) fn case(name: &str) -> Case {
    let bytes = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
    let spec = crate::spec::parse(&bytes).unwrap_or_else(|error| panic!("{name}.json: {error}"));
    let mut case = Case::new(name, spec);
    adjust(&mut case);
    case
}

/// Namespaces that are owned by the user namespace that is joined.
fn inside(kinds: &[NamespaceKind]) -> BTreeMap<NamespaceKind, Joined> {
    let joined = Joined {
        inside_user: true,
        ..Joined::default()
    };
    let of = |kind: &NamespaceKind| (*kind, joined.clone());
    kinds.iter().map(of).collect()
}

/// What is not usual about the machine or the caller's choices.
fn adjust(case: &mut Case) {
    let Case {
        host,
        options,
        joined,
        mounts,
        ..
    } = case;
    match case.name.as_str() {
        "no-pivot" | "readonly-root-no-pivot" | "propagation-shared-no-pivot" => {
            options.no_pivot = true
        }
        "systemd" | "systemd-slice" => options.systemd = true,
        "systemd-missing" => (options.systemd, host.systemd) = (true, false),
        "no-new-keyring" => options.no_new_keyring = true,
        "preserve-fds" => options.preserve_fds = 2,
        "listen-fds" => (options.listen_fds, options.preserve_fds) = (2, 1),
        "cgroups-disabled" | "user-namespace-cgroups-disabled" | "exec-host-namespaces" => {
            options.no_cgroup = true
        }
        "not-root" | "spec-rootless" | "idmap-not-root" => {
            (host.euid, host.egid, host.permitted_caps) = (1000, 1000, 0);
        }
        "hybrid-host" => host.cgroup = CgroupMode::Hybrid,
        "hybrid-host-cgroups-disabled" => {
            host.cgroup = CgroupMode::Hybrid;
            options.no_cgroup = true;
        }
        "missing-capability" | "missing-capability-in-a-user-namespace" => {
            host.permitted_caps &= !CAP_SYS_MODULE;
        }
        // CAP_CHECKPOINT_RESTORE is number 40.
        "capabilities-unknown" => host.last_cap = 39,
        "no-clone3" => host.clone3 = false,
        "seccomp-notify-old-kernel" => host.seccomp_flags = Some(0x7),
        "no-kcore" => host.kcore = false,
        "in-a-user-namespace" => host.user_namespace = true,
        "labels-without-modules" => (host.apparmor, host.selinux) = (false, false),
        "sysctl-user-namespace-hidden-proc" => host.proc_hidden = true,
        "sysctl-in-a-user-namespace" => host.user_namespace = true,
        "sysctl-in-a-user-namespace-hidden-proc" => {
            (host.user_namespace, host.proc_hidden) = (true, true);
        }
        "time-namespace-missing" => host.namespaces.retain(|kind| *kind != NamespaceKind::Time),
        "copy-symlink" => {
            mounts.links.insert(0, PathBuf::from("../run/stub"));
        }
        "terminal-dev-link" => {
            mounts.links.insert(0, PathBuf::from("run/dev"));
        }
        "resctrl" | "resctrl-class" | "resctrl-monitored" => {
            options.resctrl = Some(PathBuf::from("/sys/fs/resctrl"));
        }
        "overlay-layers" => mounts.overlay_layers = true,
        "joined-user-namespace" => *joined = inside(&[NamespaceKind::Network]),
        _ => {}
    }
    options.start = case.name.starts_with("run");
    options.systemd |= case.name == "run-systemd";
}
