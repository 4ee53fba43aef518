//! Namespaces that are joined by path: those of a pod's first container, as engines do it.

use std::os::linux::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::{Need, checks};
use crate::lab::{Container, Lab};
use crate::wait;

checks!("joined":
    each_kind_but_the_users_is_joined_by_its_path,
    a_pod_shares_its_network_ipc_and_uts_namespaces,
    a_file_that_names_a_namespace_is_as_good_as_proc,
    in_a_joined_pid_namespace_the_process_is_one_of_several,
    the_end_of_a_joined_pid_namespace_ends_the_container,
    a_container_in_a_joined_pid_namespace_can_end_alone,
    a_joined_user_namespace_has_its_ids_and_gives_root_in_it,
    a_joined_user_namespace_owns_what_is_new_in_the_container,
    a_joined_user_namespace_needs_no_pid_namespace,
    namespaces_that_a_joined_user_namespace_owns_are_joined_with_it,
    a_joined_user_namespace_may_be_described_by_its_own_maps,
    a_joined_user_namespace_may_forbid_setgroups,
    no_group_of_the_caller_comes_along_into_a_user_namespace,
    a_joined_network_is_that_of_the_host_in_a_new_user_namespace,
    the_callers_own_namespaces_may_be_named_by_path,
    the_loopback_of_a_joined_network_is_left_alone,
    the_hostname_is_set_in_a_joined_uts_namespace,
    the_hosts_name_is_not_changed_by_way_of_a_path,
    id_maps_for_the_hosts_own_user_namespace_are_refused,
    a_name_of_70000_bytes_is_refused_in_few_words,
    a_joined_cgroup_namespace_has_another_root,
    a_joined_time_namespace_has_its_clocks [Need::Namespace("time")],
    a_path_that_is_no_namespace_of_its_type_is_refused,
    a_fifo_in_place_of_a_namespace_is_not_waited_for,
    a_created_container_is_closed_to_its_neighbours,
    a_container_that_is_being_created_is_closed_to_its_neighbours,
);

/// Names in config.json and in /proc/PID/ns.
const KINDS: [(&str, &str); 5] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
];

fn path_of(container: &Container<'_>, file: &str) -> String {
    format!("/proc/{}/ns/{file}", container.pid())
}

/// The number of a namespace, as the probe tells it.
fn number(path: &str) -> Value {
    let metadata = std::fs::metadata(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    json!(metadata.st_ino())
}

/// Makes the bundle's container join a namespace.
fn join(bundle: &mut Bundle, kind: &str, path: &str) {
    bundle.without_namespace(kind);
    bundle.push("/linux/namespaces", json!({"type": kind, "path": path}));
}

/// A first container with namespaces of its own.
fn pod(lab: &Lab) -> Bundle {
    lab.bundle_of(&["sleep"])
}

/// The same with a user namespace.
fn pod_with_users(lab: &Lab) -> Bundle {
    let mut bundle = pod(lab);
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    for field in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][field] = MAP.clone();
    }
    bundle.give_to(100_000).expect("root may");
    bundle
}

static MAP: std::sync::LazyLock<Value> =
    std::sync::LazyLock::new(|| json!([{"containerID": 0, "hostID": 100_000, "size": 5000}]));

/// A bundle for a container in another's user namespace.
fn guest(lab: &Lab, first: &Container<'_>) -> Bundle {
    let mut bundle = lab.bundle();
    join(&mut bundle, "user", &path_of(first, "user"));
    bundle.give_to(100_000).expect("root may");
    bundle
}

fn each_kind_but_the_users_is_joined_by_its_path(lab: &Lab) {
    let pod = pod(lab);
    let first = lab.start(&pod);
    for (kind, file) in KINDS {
        let mut bundle = lab.bundle();
        join(&mut bundle, kind, &path_of(&first, file));
        bundle.without_mount("/sys/fs/cgroup");
        let facts = lab.facts(&bundle);
        for (_, other) in KINDS {
            let same = facts["namespaces"][other] == number(&path_of(&first, other));
            assert_eq!(same, other == file, "{kind} joined, {other}");
        }
    }
}

fn a_pod_shares_its_network_ipc_and_uts_namespaces(lab: &Lab) {
    let pod = pod(lab);
    let first = lab.start(&pod);
    let mut bundle = lab.bundle();
    let shared = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    for (kind, file) in shared {
        join(&mut bundle, kind, &path_of(&first, file));
    }
    let facts = lab.facts(&bundle);
    for (_, file) in shared {
        assert_eq!(facts["namespaces"][file], number(&path_of(&first, file)));
    }
    assert_eq!(facts["pid"], 1);
}

/// As `ip netns` and the engines keep them: bound on a file.
fn a_file_that_names_a_namespace_is_as_good_as_proc(lab: &Lab) {
    let pod = pod(lab);
    let first = lab.start(&pod);
    let file = lab.folder().join("netns");
    std::fs::write(&file, "").expect("the lab is writable");
    rustix::mount::mount_bind(path_of(&first, "net"), &file).expect("root may");
    let mut bundle = lab.bundle();
    join(&mut bundle, "network", &file.to_string_lossy());
    let wanted = number(&path_of(&first, "net"));
    let output = lab.run(&bundle);
    rustix::mount::unmount(&file, rustix::mount::UnmountFlags::DETACH).expect("it is mounted");
    assert_eq!(output.json()["namespaces"]["net"], wanted);
}

fn in_a_joined_pid_namespace_the_process_is_one_of_several(lab: &Lab) {
    let pod = pod(lab);
    let first = lab.start(&pod);
    let mut bundle = lab.bundle();
    join(&mut bundle, "pid", &path_of(&first, "pid"));
    let facts = lab.facts(&bundle);
    let pid = facts["pid"].as_u64().expect("a pid");
    assert!((2..1000).contains(&pid), "{pid}");
    // Its parent, the runtime, is in none of its namespaces.
    assert_eq!(facts["ppid"], 0);
    assert_eq!(facts["namespaces"]["pid"], number(&path_of(&first, "pid")));
}

fn the_end_of_a_joined_pid_namespace_ends_the_container(lab: &Lab) {
    let pod = pod(lab);
    let first = lab.start(&pod);
    let mut bundle = lab.bundle_of(&["sleep"]);
    join(&mut bundle, "pid", &path_of(&first, "pid"));
    let second = lab.start(&bundle);
    drop(first.call(&["delete", "--force"]).ok());
    second.wait_for("stopped");
}

fn a_container_in_a_joined_pid_namespace_can_end_alone(lab: &Lab) {
    let pod = pod(lab);
    let first = lab.start(&pod);
    let mut bundle = lab.bundle_of(&["children", "2"]);
    join(&mut bundle, "pid", &path_of(&first, "pid"));
    let second = lab.start(&bundle);
    drop(second.call_with("kill", &["KILL"]).ok());
    second.wait_for("stopped");
    drop(second.call(&["delete"]).ok());
    assert_eq!(first.state()["status"], "running");
}

fn a_joined_user_namespace_has_its_ids_and_gives_root_in_it(lab: &Lab) {
    let pod = pod_with_users(lab);
    let first = lab.start(&pod);
    let mut bundle = guest(lab, &first);
    let sets = ["bounding", "permitted", "effective"];
    bundle.config["process"]["capabilities"] = sets
        .iter()
        .map(|name| ((*name).to_owned(), json!(["CAP_KILL"])))
        .collect();
    let facts = lab.facts(&bundle);
    assert_eq!(
        facts["namespaces"]["user"],
        number(&path_of(&first, "user"))
    );
    assert_eq!(facts["uid_map"], json!([[0, 100_000, 5000]]));
    assert_eq!(facts["uid"], 0);
    assert_eq!(crate::facts::capabilities(&facts, "effective"), 1 << 5);
}

/// A new network namespace belongs to the user namespace: its root may set it up.
fn a_joined_user_namespace_owns_what_is_new_in_the_container(lab: &Lab) {
    let pod = pod_with_users(lab);
    let first = lab.start(&pod);
    let mut bundle = guest(lab, &first);
    bundle.probe(&["sleep"]);
    let second = lab.start(&bundle);
    owns(
        &first,
        &second,
        &["pid", "net", "ipc", "uts", "mnt", "cgroup"],
    );
}

/// Whether these namespaces of the second container are new, and the first one's user
/// namespace owns them.
fn owns(first: &Container<'_>, second: &Container<'_>, files: &[&str]) {
    for file in files {
        let path = path_of(second, file);
        assert_ne!(number(&path), number(&path_of(first, file)), "{path}");
        assert_ne!(number(&path), number(&format!("/proc/self/ns/{file}")));
        let owner = crate::sys::namespace_owner(&path).expect("it exists");
        assert_eq!(json!(owner), number(&path_of(first, "user")), "{path}");
    }
}

/// But then it can have no /proc of its own.
fn a_joined_user_namespace_needs_no_pid_namespace(lab: &Lab) {
    let pod = pod_with_users(lab);
    let first = lab.start(&pod);
    let mut bundle = guest(lab, &first);
    bundle.probe(&["sleep"]);
    bundle.without_namespace("pid");
    bundle.without_mount("/proc");
    for field in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][field] = json!([]);
    }
    let second = lab.start(&bundle);
    owns(&first, &second, &["net", "ipc", "uts", "mnt", "cgroup"]);
}

fn namespaces_that_a_joined_user_namespace_owns_are_joined_with_it(lab: &Lab) {
    let pod = pod_with_users(lab);
    let first = lab.start(&pod);
    for kinds in [&KINDS[1..4], &KINDS[..4]] {
        let mut bundle = guest(lab, &first);
        for (kind, file) in kinds {
            join(&mut bundle, kind, &path_of(&first, file));
        }
        let facts = lab.facts(&bundle);
        for (_, file) in kinds {
            assert_eq!(facts["namespaces"][*file], number(&path_of(&first, file)));
        }
        assert_eq!(facts["uid_map"], json!([[0, 100_000, 5000]]));
    }
}

/// Engines write both. Maps that are not those of the namespace are a mistake.
fn a_joined_user_namespace_may_be_described_by_its_own_maps(lab: &Lab) {
    let pod = pod_with_users(lab);
    let first = lab.start(&pod);
    let mut bundle = guest(lab, &first);
    for field in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][field] = MAP.clone();
    }
    assert_eq!(lab.facts(&bundle)["uid_map"], json!([[0, 100_000, 5000]]));
    for field in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][field][0]["size"] = json!(4000);
        let output = lab.run(&bundle);
        assert!(!output.status.success(), "{output}");
        if lab.is_corten() {
            let start = format!("corten: linux.{field}: ");
            assert!(output.stderr().starts_with(&start), "{output}");
        }
        bundle.config["linux"][field] = MAP.clone();
    }
}

/// A hook sees it: the container's own groups are set later.
fn no_group_of_the_caller_comes_along_into_a_user_namespace(lab: &Lab) {
    let pod = pod_with_users(lab);
    let first = lab.start(&pod);
    let folder = lab.folder().join("shared");
    std::fs::create_dir(&folder).expect("the lab is writable");
    std::os::unix::fs::chown(&folder, Some(100_000), Some(100_000)).expect("root may");
    for (name, mut bundle) in [("joined", guest(lab, &first)), ("new", pod_with_users(lab))] {
        let file = folder.join(name);
        let line = format!("grep ^Groups: /proc/self/status >{}", file.display());
        bundle.config["hooks"] = json!({"createContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]}
        ]});
        bundle.probe(&["true"]);
        let output = lab.run_under(&["setpriv", "--groups", "0,7", "--"], &bundle);
        assert!(output.status.success(), "{output}");
        let groups = std::fs::read_to_string(file).expect("the hook ran");
        assert_eq!(groups.trim(), "Groups:", "{name}");
    }
}

/// Without privileges a user namespace can be made only so.
fn a_joined_user_namespace_may_forbid_setgroups(lab: &Lab) {
    let mut sleep = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sleep", "600"])
        .spawn()
        .expect("unshare is there");
    let proc = format!("/proc/{}", sleep.id());
    let mapped = wait::until(wait::CALL, || {
        let map = std::fs::read_to_string(format!("{proc}/gid_map")).ok()?;
        (number(&format!("{proc}/ns/user")) != number("/proc/self/ns/user") && !map.is_empty())
            .then_some(())
    });
    let mut bundle = lab.bundle();
    join(&mut bundle, "user", &format!("{proc}/ns/user"));
    // It wants a group 5.
    bundle.without_mount("/dev/pts");
    let output = lab.run_under(&["setpriv", "--groups", "0,7", "--"], &bundle);
    bundle.config["process"]["user"]["additionalGids"] = json!([0]);
    let refused = lab.run(&bundle);
    sleep
        .kill()
        .and_then(|()| sleep.wait())
        .expect("it is a child");
    assert!(mapped.is_some(), "{proc}");
    let facts = output.json();
    assert_eq!(facts["uid"], 0);
    assert_eq!(
        facts["groups"],
        json!([]),
        "the caller's are dropped before"
    );
    assert!(!refused.status.success(), "{refused}");
}

/// The host owns it, so it can only be joined before the user namespace is made.
fn a_joined_network_is_that_of_the_host_in_a_new_user_namespace(lab: &Lab) {
    let pod = pod(lab);
    let first = lab.start(&pod);
    let mut bundle = pod_with_users(lab);
    bundle.probe(&["facts"]);
    join(&mut bundle, "network", &path_of(&first, "net"));
    // sysfs belongs to the network namespace.
    bundle.without_mount("/sys");
    bundle.without_mount("/sys/fs/cgroup");
    let facts = lab.facts(&bundle);
    assert_eq!(facts["namespaces"]["net"], number(&path_of(&first, "net")));
    assert_eq!(facts["uid_map"], json!([[0, 100_000, 5000]]));
}

fn the_callers_own_namespaces_may_be_named_by_path(lab: &Lab) {
    let mut bundle = lab.bundle();
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("pid", "pid")] {
        join(&mut bundle, kind, &format!("/proc/1/ns/{file}"));
    }
    let facts = lab.facts(&bundle);
    for file in ["net", "ipc", "pid"] {
        assert_eq!(
            facts["namespaces"][file],
            number(&format!("/proc/self/ns/{file}"))
        );
    }
}

fn the_loopback_of_a_joined_network_is_left_alone(lab: &Lab) {
    let mut sleep = std::process::Command::new("unshare");
    let mut sleep = sleep
        .args(["--net", "sleep", "600"])
        .spawn()
        .expect("unshare is there");
    let path = format!("/proc/{}/ns/net", sleep.id());
    let apart = wait::until(wait::CALL, || {
        (number(&path) != number("/proc/self/ns/net")).then_some(())
    });
    let mut bundle = lab.bundle();
    join(&mut bundle, "network", &path);
    let output = lab.run(&bundle);
    sleep
        .kill()
        .and_then(|()| sleep.wait())
        .expect("it is a child");
    assert!(apart.is_some(), "{path}");
    let facts = output.json();
    let lo = crate::facts::entry(&facts["interfaces"], "name", "lo");
    assert!(!crate::facts::has(&lo["flags"], "UP"), "{lo}");
}

fn the_hostname_is_set_in_a_joined_uts_namespace(lab: &Lab) {
    let mut pod = lab.bundle_of(&["words-of", "/tmp/words"]);
    pod.config["hostname"] = json!("first");
    let first = lab.start(&pod);
    let mut bundle = lab.bundle();
    join(&mut bundle, "uts", &path_of(&first, "uts"));
    bundle.config["hostname"] = json!("second");
    assert_eq!(lab.facts(&bundle)["hostname"], "second");
    let facts = told(&pod, &first, "facts");
    assert_eq!(facts["hostname"], "second");
}

/// What a container's probe says that waits for words.
fn told(bundle: &Bundle, container: &Container<'_>, words: &str) -> Value {
    bundle
        .file("tmp/words", &format!("{words}\n"))
        .expect("the bundle is writable");
    let whole = || {
        let printed = container.printed();
        serde_json::from_str(printed.trim()).ok()
    };
    wait::until(wait::CALL, whole).unwrap_or_else(|| panic!("{:?}", container.printed()))
}

fn the_hosts_name_is_not_changed_by_way_of_a_path(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    join(&mut bundle, "uts", "/proc/1/ns/uts");
    bundle.config["hostname"] = json!("other");
    let output = lab.run(&bundle);
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name != "lane" {
        // For the next check.
        rustix::system::sethostname(b"lane").expect("root may");
    }
    assert_eq!(name, "lane", "{output}");
    assert!(!output.status.success(), "{output}");
}

/// There is nobody to map the ids for: they would be ignored.
fn id_maps_for_the_hosts_own_user_namespace_are_refused(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    join(&mut bundle, "user", "/proc/1/ns/user");
    for field in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][field] = MAP.clone();
    }
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        let text = "corten: linux.uidMappings: needs a user namespace that is not the host's\n";
        assert_eq!(output.stderr(), text);
    }
}

/// CVE-2021-43784: a length that does not fit into 16 bits.
fn a_name_of_70000_bytes_is_refused_in_few_words(lab: &Lab) {
    for field in ["hostname", "domainname"] {
        let mut bundle = lab.bundle_of(&["true"]);
        bundle.config[field] = json!("x".repeat(70_000));
        let output = lab.run(&bundle);
        assert!(!output.status.success(), "{field}");
        let text = output.stderr();
        assert!(text.len() < 2000 || !lab.is_corten(), "{output}");
    }
}

fn a_joined_cgroup_namespace_has_another_root(lab: &Lab) {
    let pod = pod(lab);
    let first = lab.start(&pod);
    let mut bundle = lab.bundle();
    join(&mut bundle, "cgroup", &path_of(&first, "cgroup"));
    let facts = lab.facts(&bundle);
    let unified = facts["cgroup"]
        .as_array()
        .and_then(|list| list.iter().find(|c| c["hierarchy"] == 0));
    let path = unified.expect("cgroup v2")["path"]
        .as_str()
        .unwrap_or_default();
    assert!(path.starts_with("/../"), "{path}");
}

fn a_joined_time_namespace_has_its_clocks(lab: &Lab) {
    let mut pod = pod(lab);
    pod.push("/linux/namespaces", json!({"type": "time"}));
    pod.config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1_000_000}});
    let first = lab.start(&pod);
    let mut bundle = lab.bundle();
    join(&mut bundle, "time", &path_of(&first, "time"));
    let host = crate::sys::clock_seconds(libc::CLOCK_MONOTONIC);
    let facts = lab.facts(&bundle);
    let inside = facts["clocks"]["monotonic"].as_i64().expect("a time");
    assert!(
        (1_000_000..1_000_060).contains(&(inside - host)),
        "{inside} {host}"
    );
    assert_eq!(
        facts["namespaces"]["time"],
        number(&path_of(&first, "time"))
    );
}

fn a_path_that_is_no_namespace_of_its_type_is_refused(lab: &Lab) {
    let long = format!("/{}", "x".repeat(70_000));
    for path in [
        "/proc/self/ns/ipc",
        "/etc/passwd",
        "/not/there",
        "/dev/zero",
        &long,
    ] {
        refuses_network(lab, path);
    }
}

fn a_fifo_in_place_of_a_namespace_is_not_waited_for(lab: &Lab) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let fifo = lab.folder().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("the lab is writable");
    refuses_network(lab, &fifo.to_string_lossy());
}

/// Whether the runtime can't take this for a network namespace, and says so.
fn refuses_network(lab: &Lab, path: &str) {
    let mut bundle = lab.bundle();
    join(&mut bundle, "network", path);
    let namespaces = bundle.config["linux"]["namespaces"].as_array();
    let index = namespaces.map_or(0, Vec::len) - 1;
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{path}: {output}");
    if lab.is_corten() {
        let place = format!("corten: linux.namespaces[{index}].path: \"{}", &path[..2]);
        let text = output.stderr();
        assert!(text.starts_with(&place) && text.len() < 1000, "{output}");
    }
}

/// A process that has dropped its privileges, but not yet executed the container's program,
/// has what a neighbour with the same ids must not get at.
fn a_created_container_is_closed_to_its_neighbours(lab: &Lab) {
    let mut pod = lab.bundle_of(&["words-of", "/tmp/words"]);
    pod.without_namespace("cgroup");
    let first = lab.start(&pod);
    let mut bundle = lab.bundle_of(&["sleep"]);
    join(&mut bundle, "pid", &path_of(&first, "pid"));
    let second = lab.create(&bundle);
    let status = std::fs::read_to_string(format!("/proc/{}/status", second.pid()));
    let status = status.expect("it waits");
    let pids = status
        .lines()
        .find(|line| line.starts_with("NSpid:"))
        .expect("NSpid");
    let pid = pids.split_whitespace().last().expect("a pid");
    let files = [
        "mem",
        "environ",
        "fd/0",
        "root/etc/passwd",
        "ns/mnt",
        "exe",
        "cwd/etc/passwd",
    ];
    let words: Vec<String> = files
        .iter()
        .map(|file| format!("/proc/{pid}/{file}"))
        .collect();
    let opened = told(&pod, &first, &format!("open r {}", words.join(" ")));
    for path in words {
        assert!(
            opened[&path] == "EACCES" || opened[&path] == "EPERM",
            "{path}: {opened:#}"
        );
    }
}

/// At no moment, with whatever ids it has then.
fn a_container_that_is_being_created_is_closed_to_its_neighbours(lab: &Lab) {
    for users in [false, true] {
        let mut pod = if users { pod_with_users(lab) } else { pod(lab) };
        pod.probe(&["snoop", "/tmp/stop"]);
        let first = lab.start(&pod);
        let ready = wait::until(wait::CALL, || {
            first.printed().contains("ready").then_some(())
        });
        assert!(ready.is_some(), "{}", first.printed());
        for _ in 0..12 {
            let mut bundle = lab.bundle_of(&["sleep"]);
            join(&mut bundle, "pid", &path_of(&first, "pid"));
            if users {
                join(&mut bundle, "user", &path_of(&first, "user"));
                bundle.give_to(100_000).expect("root may");
            }
            drop(lab.create(&bundle));
        }
        pod.file("tmp/stop", "").expect("the bundle is writable");
        first.wait_for("stopped");
        let printed = first.printed();
        let seen: Value = serde_json::from_str(printed.trim_start_matches("ready").trim())
            .unwrap_or_else(|error| panic!("{error}: {printed}"));
        assert_eq!(seen, json!([]), "with a user namespace: {users}");
    }
}
