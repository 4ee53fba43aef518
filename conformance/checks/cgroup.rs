//! The container's cgroup on a cgroup v2 file system: made, entered, emptied, removed.
//!
//! Limits need controllers, which a machine with hybrid cgroups does not have.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::namespaces;
use crate::check::{Need, checks};
use crate::lab::{Container, Lab};
use crate::wait;

checks!("cgroup":
    the_container_is_in_the_cgroup_of_the_configuration,
    without_a_path_the_container_has_a_cgroup_of_its_own,
    the_cgroup_is_removed_with_the_container,
    the_cgroup_of_a_run_is_removed_at_its_end,
    delete_force_kills_every_process_of_the_cgroup,
    the_runtime_itself_does_not_stay_in_the_cgroup,
    a_cgroup_with_a_process_is_refused_and_left,
    a_frozen_cgroup_is_refused,
    without_its_controller_a_memory_limit_is_refused [Need::Without("memory")],
    without_their_controller_processors_are_refused [Need::Without("cpuset")],
    without_its_controller_a_unified_limit_is_refused [Need::Without("misc")],
    fields_that_contradict_each_other_are_refused [Need::Controller("cpu")],
    a_delete_of_a_stopped_container_kills_nobody_else_in_its_cgroup,
    a_writable_cgroup_belongs_to_the_root_of_its_user_namespace,
    a_read_only_cgroup_stays_the_hosts,
);

const ROOT: &str = "/sys/fs/cgroup";

pub(super) fn cgroup_of(container: &Container<'_>) -> PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid()));
    let text = text.expect("init runs");
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .expect("cgroup v2");
    Path::new(ROOT).join(path.trim_start_matches('/'))
}

pub(super) fn members(group: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn the_container_is_in_the_cgroup_of_the_configuration(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.config["linux"]["cgroupsPath"] = json!("/deep/er/box");
    let container = lab.create(&bundle);
    let group = cgroup_of(&container);
    assert!(
        group.starts_with(Path::new(ROOT).join("deep/er/box")),
        "{}",
        group.display()
    );
    assert_eq!(members(&group), [container.pid()]);
    drop(container);
    // Parents are made by the runtime but are not its to remove.
    for left in ["deep/er", "deep"] {
        drop(std::fs::remove_dir(Path::new(ROOT).join(left)));
    }
}

fn without_a_path_the_container_has_a_cgroup_of_its_own(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.config["linux"]
        .as_object_mut()
        .expect("an object")
        .remove("cgroupsPath");
    let (one, two) = (lab.create(&bundle), lab.create(&bundle));
    let (first, second) = (cgroup_of(&one), cgroup_of(&two));
    assert_ne!(first, second);
    assert_eq!(members(&first), [one.pid()]);
    if lab.is_corten() {
        assert_eq!(
            first.file_name().and_then(|name| name.to_str()),
            Some(one.id.as_str())
        );
    }
}

fn the_cgroup_is_removed_with_the_container(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let container = lab.create(&bundle);
    let group = cgroup_of(&container);
    drop(container.call(&["start"]).ok());
    container.wait_for("stopped");
    drop(container.call(&["delete"]).ok());
    assert!(!group.exists(), "{}", group.display());
}

fn the_cgroup_of_a_run_is_removed_at_its_end(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["linux"]["cgroupsPath"] = json!("/once");
    drop(lab.run(&bundle).ok());
    assert!(!Path::new(ROOT).join("once").exists());
}

fn delete_force_kills_every_process_of_the_cgroup(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["children", "5"]);
    // Without a pid namespace nothing dies with init.
    bundle.without_namespace("pid");
    bundle.config["linux"]["cgroupsPath"] = json!("/crowd");
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    let pids = members(&cgroup_of(&container));
    assert_eq!(pids.len(), 6, "{pids:?}");
    drop(container.call(&["delete", "--force"]).ok());
    for pid in pids {
        let path = format!("/proc/{pid}/cgroup");
        let gone = wait::until(wait::CALL, || (!Path::new(&path).exists()).then_some(()));
        assert!(gone.is_some(), "{pid} still runs");
    }
}

fn the_runtime_itself_does_not_stay_in_the_cgroup(lab: &Lab) {
    let bundle = lab.bundle_of(&["wait-signal"]);
    bundle.write().expect("the lab is writable");
    let mut command = lab.runtime.command();
    command
        .arg("run")
        .arg("--bundle")
        .arg(bundle.path())
        .arg("foreground");
    let call = lab.runtime.spawn(command);
    call.wait_for_text("ready");
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("a /proc");
    let its = std::fs::read_to_string(format!("/proc/{}/cgroup", call.child.id()));
    assert_eq!(its.expect("it runs"), own);
    drop(lab.runtime.call(&["kill", "foreground"]).ok());
    drop(call.finish(wait::CALL).ok());
}

/// A process that is no container's, in a cgroup; ends with the value.
pub(super) struct Stranger(std::process::Child);

impl Stranger {
    pub(super) fn in_group(group: &Path) -> Self {
        let child = std::process::Command::new("sleep").arg("1000").spawn();
        let child = child.expect("sleep is installed");
        let moved = std::fs::write(group.join("cgroup.procs"), child.id().to_string());
        moved.expect("the lane's cgroup is writable");
        Self(child)
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().expect("an own child").is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().expect("an own child");
        self.0.wait().expect("an own child");
    }
}

fn a_cgroup_with_a_process_is_refused_and_left(lab: &Lab) {
    let group = Path::new(ROOT).join("used");
    std::fs::create_dir(&group).expect("the lane's cgroup is writable");
    let mut stranger = Stranger::in_group(&group);
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["linux"]["cgroupsPath"] = json!("/used");
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("not empty"), "{output}");
    assert!(stranger.lives());
    drop(stranger);
    std::fs::remove_dir(group).expect("it is left");
}

fn a_frozen_cgroup_is_refused(lab: &Lab) {
    let group = Path::new(ROOT).join("ice");
    std::fs::create_dir(&group).expect("the lane's cgroup is writable");
    std::fs::write(group.join("cgroup.freeze"), "1").expect("it is writable");
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["linux"]["cgroupsPath"] = json!("/ice");
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("frozen"), "{output}");
    std::fs::remove_dir(group).expect("it is left");
}

/// A limit of a controller that the lane lacks is refused by field, file and cgroup.
fn refused_for_want_of(lab: &Lab, controller: &str, file: &str, field: &str, limit: Value) {
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["linux"]["resources"][field] = limit;
    bundle.config["linux"]["cgroupsPath"] = json!("/lacking/box");
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let text = output.stderr();
        let needs = format!("{file} needs the {controller} controller, which cgroup /");
        assert!(text.contains(&needs), "{output}");
        assert!(
            text.contains(&format!("linux.resources.{field}")),
            "{output}"
        );
    }
    // Some leave it behind.
    for left in ["lacking/box", "lacking"] {
        let left = Path::new(ROOT).join(left);
        assert!(!lab.is_corten() || !left.exists());
        drop(std::fs::remove_dir(left));
    }
}

fn without_its_controller_a_memory_limit_is_refused(lab: &Lab) {
    refused_for_want_of(
        lab,
        "memory",
        "memory.max",
        "memory",
        json!({"limit": 1 << 26}),
    );
}

fn without_their_controller_processors_are_refused(lab: &Lab) {
    refused_for_want_of(lab, "cpuset", "cpuset.cpus", "cpu", json!({"cpus": "0"}));
}

fn without_its_controller_a_unified_limit_is_refused(lab: &Lab) {
    refused_for_want_of(
        lab,
        "misc",
        "misc.max",
        "unified",
        json!({"misc.max": "a 1"}),
    );
}

fn fields_that_contradict_each_other_are_refused(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["linux"]["resources"] = json!({
        "cpu": {"idle": 1},
        "unified": {"cpu.weight": "100"},
    });
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        assert!(output.stderr().contains("unable to apply both"), "{output}");
    }
}

fn a_delete_of_a_stopped_container_kills_nobody_else_in_its_cgroup(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["linux"]["cgroupsPath"] = json!("/left");
    let container = lab.create(&bundle);
    let group = cgroup_of(&container);
    drop(container.call(&["start"]).ok());
    container.wait_for("stopped");
    let mut stranger = Stranger::in_group(&group);
    let output = container.call(&["delete"]);
    assert!(stranger.lives());
    if lab.is_corten() {
        assert!(!output.status.success(), "{output}");
        let who = format!("process {}", stranger.0.id());
        assert!(output.stderr().contains(&who), "{output}");
    }
    drop(stranger);
    drop(container);
    drop(std::fs::remove_dir(group));
}

/// The owners, as the container sees them, of its cgroup and what is in it: what may be
/// delegated, then what may not.
fn owners(lab: &Lab, access: &str) -> [Vec<u64>; 2] {
    let mut bundle = namespaces::user_namespace(lab);
    bundle.without_mount("/sys/fs/cgroup");
    let mount = json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", access],
    });
    bundle.push("/mounts", mount);
    let lists = [
        &[
            "",
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.subtree_control",
        ][..],
        &["cgroup.freeze", "cgroup.max.depth"],
    ];
    let paths = lists.map(|list| list.iter().map(|name| format!("{ROOT}/{name}")));
    let paths = paths.map(Iterator::collect::<Vec<_>>);
    let all = ["stat"]
        .into_iter()
        .chain(paths.iter().flatten().map(String::as_str));
    bundle.probe(&all.collect::<Vec<_>>());
    let stat = lab.run(&bundle).json();
    let owner = |path: &String| stat[path]["uid"].as_u64().expect("the file is there");
    paths.map(|paths| paths.iter().map(owner).collect())
}

fn a_writable_cgroup_belongs_to_the_root_of_its_user_namespace(lab: &Lab) {
    // 65534: whom the namespace has no number for.
    assert_eq!(owners(lab, "rw"), [vec![0; 4], vec![65_534; 2]]);
}

fn a_read_only_cgroup_stays_the_hosts(lab: &Lab) {
    assert_eq!(owners(lab, "ro"), [vec![65_534; 4], vec![65_534; 2]]);
}
