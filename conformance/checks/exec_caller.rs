//! What a process of `exec` has of its caller: nothing; and what it holds on its way.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

use super::cgroup::{cgroup_of, members};
use super::exec::{facts_of, sleeping};
use crate::check::checks;
use crate::console::ConsoleSocket;
use crate::facts;
use crate::lab::{Container, Lab};
use crate::runtime::Call;
use crate::wait;

checks!("exec_caller":
    ids_and_groups_of_the_caller_are_not_inherited,
    cpus_nice_and_limits_of_the_caller_are_not_inherited,
    the_bounding_set_of_the_caller_is_not_inherited,
    what_is_not_permitted_is_not_had_with_no_new_privileges,
    no_group_of_the_caller_comes_along_where_setgroups_is_forbidden,
    before_its_program_it_holds_no_more_than_it_needs,
    before_its_program_it_can_not_be_looked_into_without_the_right_to_trace,
);

/// `<under> <runtime> exec <flags> <id> <words>`, started.
fn exec_under(
    lab: &Lab,
    container: &Container<'_>,
    under: &[&str],
    flags: &[&str],
    words: &[&str],
) -> Call {
    let mut command = Command::new(under[0]);
    command.args(&under[1..]).arg(lab.runtime.program());
    command.arg("--root").arg(lab.runtime.root());
    command
        .arg("exec")
        .args(flags)
        .arg(&container.id)
        .args(words);
    command.stdin(Stdio::null());
    lab.runtime.spawn(command)
}

fn facts_under(lab: &Lab, container: &Container<'_>, under: &[&str]) -> Value {
    let call = exec_under(lab, container, under, &[], &["/probe"]);
    call.finish(wait::CALL).json()
}

fn ids_and_groups_of_the_caller_are_not_inherited(lab: &Lab) {
    let mut bundle = lab.bundle();
    // A limit above the caller's own asks for more than a real uid of 1000 may.
    bundle.config["process"]["rlimits"] = json!([]);
    let container = sleeping(lab, &mut bundle);
    let under = ["setpriv", "--regid", "5", "--groups", "6,7", "--"];
    let facts = facts_under(lab, &container, &under);
    for key in ["gid", "egid", "sgid", "fsgid"] {
        assert_eq!(facts[key], 0, "{key}");
    }
    assert_eq!(facts["groups"], json!([]));
    let facts = facts_under(lab, &container, &["setpriv", "--ruid", "1000", "--"]);
    for key in ["uid", "euid", "suid", "fsuid"] {
        assert_eq!(facts[key], 0, "{key}");
    }
}

fn cpus_nice_and_limits_of_the_caller_are_not_inherited(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let usual = facts_of(lab, &container, &[]);
    let under = [
        "taskset",
        "--cpu-list",
        "0",
        "nice",
        "-n",
        "5",
        "prlimit",
        "--nofile=500:2000",
        "--",
    ];
    let facts = facts_under(lab, &container, &under);
    assert_eq!(facts["affinity"], usual["affinity"]);
    let nofile = |facts: &Value| facts["rlimits"]["RLIMIT_NOFILE"].clone();
    assert!(!nofile(&usual).is_null(), "{usual:#}");
    assert_eq!(nofile(&facts), nofile(&usual));
    // The peers pass it on.
    let wanted = if lab.is_corten() { 0 } else { 5 };
    assert_eq!(facts["nice"], wanted);
}

fn the_bounding_set_of_the_caller_is_not_inherited(lab: &Lab) {
    let mut bundle = lab.bundle();
    let names = bundle.config["process"]["capabilities"]["bounding"].clone();
    let count = names.as_array().map_or(0, Vec::len);
    let container = sleeping(lab, &mut bundle);
    let facts = facts_of(lab, &container, &[]);
    let bits = facts::capabilities(&facts, "bounding");
    assert_eq!(bits.count_ones() as usize, count, "{bits:x} {names}");
}

fn what_is_not_permitted_is_not_had_with_no_new_privileges(lab: &Lab) {
    let mut bundle = lab.bundle();
    let two = ["CAP_KILL", "CAP_CHOWN"];
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_FOWNER"],
        "permitted": two, "effective": two, "inheritable": [], "ambient": [],
    });
    bundle.config["process"]["noNewPrivileges"] = json!(true);
    let container = sleeping(lab, &mut bundle);
    let facts = facts_of(lab, &container, &[]);
    // root would get its bounding set by execve.
    assert_eq!(facts::capabilities(&facts, "permitted"), 1 << 5 | 1);
}

/// As a user namespace that was made without privileges.
fn no_group_of_the_caller_comes_along_where_setgroups_is_forbidden(lab: &Lab) {
    let mut holder = Command::new("unshare")
        .args(["--user", "--map-root-user", "sleep", "600"])
        .spawn()
        .expect("unshare is there");
    let path = format!("/proc/{}/ns/user", holder.id());
    let own = std::fs::read_link("/proc/self/ns/user").expect("the lane has a /proc");
    let map = format!("/proc/{}/gid_map", holder.id());
    let ready = wait::until(wait::CALL, || {
        let text = std::fs::read_to_string(&map).ok()?;
        let made = std::fs::read_link(&path).is_ok_and(|link| link != own);
        (made && !text.is_empty()).then_some(())
    });
    let mut bundle = lab.bundle();
    bundle.push("/linux/namespaces", json!({"type": "user", "path": path}));
    // It wants a group 5.
    bundle.without_mount("/dev/pts");
    let container = sleeping(lab, &mut bundle);
    let under = ["setpriv", "--groups", "0,7", "--"];
    let call = exec_under(lab, &container, &under, &[], &["/probe"]);
    let output = call.finish(wait::CALL);
    drop(container);
    let ended = holder.kill().and_then(|()| holder.wait());
    ended.expect("it is a child");
    assert!(ready.is_some(), "{path}");
    assert_eq!(output.json()["groups"], json!([]));
}

/// A socket that takes no further connection: who connects waits.
struct Full {
    _listener: OwnedFd,
    _first: OwnedFd,
}

impl Full {
    fn at(path: &Path) -> Self {
        let socket = || {
            let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
            rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).expect("a socket")
        };
        let (listener, first) = (socket(), socket());
        let address = SocketAddrUnix::new(path).expect("a short path");
        rustix::net::bind(&listener, &address).expect("the lab is writable");
        // One that is not accepted fits into a queue of length 0.
        rustix::net::listen(&listener, 0).expect("a socket");
        rustix::net::connect(&first, &address).expect("it is there");
        Self {
            _listener: listener,
            _first: first,
        }
    }
}

/// What the descriptors of a process lead to.
fn descriptors(pid: u64) -> BTreeSet<(u32, String)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let entries = entries.into_iter().flatten().flatten();
    let one = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let link = std::fs::read_link(entry.path()).ok()?;
        Some((number, link.to_string_lossy().into_owned()))
    };
    entries.filter_map(one).collect()
}

/// The process of an `exec` that does not come to its program, as nobody takes its pidfd.
fn held(container: &Container<'_>) -> u64 {
    let mut last = BTreeSet::new();
    let held = wait::until(wait::CALL, || {
        let own = container.pid();
        let group = members(&cgroup_of(container));
        let pid = group.into_iter().find(|pid| *pid != own)?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let sleeps = stat.rsplit_once(") ")?.1.starts_with('S');
        let now = descriptors(pid);
        let settled = sleeps && now == last;
        last = now;
        settled.then_some(pid)
    });
    held.expect("it waits in the container")
}

fn before_its_program_it_holds_no_more_than_it_needs(lab: &Lab) {
    if !lab.is_corten() {
        return; // Each has a way of its own.
    }
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let (pidfd, console) = (lab.folder().join("full"), lab.folder().join("console"));
    let full = Full::at(&pidfd);
    let terminal = ConsoleSocket::listen(&console).expect("a socket");
    let flags = [
        "-d",
        "-t",
        "--pidfd-socket",
        &pidfd.to_string_lossy(),
        "--console-socket",
        &console.to_string_lossy(),
    ];
    let call = exec_under(lab, &container, &["env"], &flags, &["/probe", "true"]);
    let (_, master) = terminal.receive().expect("a terminal");
    let found = descriptors(held(&container));
    for (number, link) in &found {
        let expected = if *number < 3 { "/dev/pts/" } else { "socket:[" };
        assert!(link.starts_with(expected), "{found:?}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
    drop((master, full));
    assert!(!call.finish(wait::CALL).status.success());
}

fn before_its_program_it_can_not_be_looked_into_without_the_right_to_trace(lab: &Lab) {
    if !lab.is_corten() {
        return; // As above.
    }
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let pidfd = lab.folder().join("full");
    let full = Full::at(&pidfd);
    let flags = ["--pidfd-socket", &pidfd.to_string_lossy()];
    // It has no more than who looks: only that it is closed keeps that one out.
    let weak = ["setpriv", "--bounding-set", "-sys_ptrace", "--"];
    let call = exec_under(lab, &container, &weak, &flags, &["/probe", "true"]);
    let exe = format!("/proc/{}/exe", held(&container));
    let mut command = Command::new(weak[0]);
    command.args(&weak[1..]).args(["readlink", &exe]);
    let seen = lab.runtime.spawn(command).finish(wait::CALL);
    assert!(!seen.status.success(), "{seen}");
    assert!(std::fs::read_link(&exe).is_ok(), "root sees it");
    drop(full);
    assert!(!call.finish(wait::CALL).status.success());
}
