//! Attributes of the process itself: ids, capabilities, limits, signals, scheduling.
//!
//! Asked of the kernel by system calls, not read from /proc, which a container need
//! not have. credentials(7), capabilities(7), signal(7), sched(7).

use rustix::process::{Resource, getrlimit};
use rustix::thread as task;
use serde_json::{Map, Value, json};

use crate::sys;

/// All facts of this file, as one object.
pub(crate) fn facts() -> Value {
    let mut facts = json!({
        "argv": strings(std::env::args_os()),
        "env": environment(),
        "pid": rustix::process::getpid().as_raw_pid(),
        "ppid": rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid()),
        "pgid": sys::getpgid(),
        "sid": sys::getsid(),
        "exe": link("/proc/self/exe"),
        "root": link("/proc/self/root"),
        "cwd": std::env::current_dir().ok(),
        "umask": umask(),
        "caps": capabilities(),
        "no_new_privs": task::no_new_privs().ok(),
        "seccomp": seccomp(),
        "dumpable": dumpable(),
        "pdeathsig": rustix::process::parent_process_death_signal()
            .ok().flatten().map_or(0, |signal| signal.as_raw()),
        "subreaper": rustix::process::child_subreaper().ok().map(|pid| pid.is_some()),
        "signals": signals(),
        "rlimits": rlimits(),
        "oom_score_adj": number("/proc/self/oom_score_adj"),
        "nice": rustix::process::getpriority_process(None).ok(),
        "affinity": affinity(),
        "scheduler": scheduler(),
        "ioprio": sys::ioprio_get().ok().map(|(class, level)| json!({"class": class, "level": level})),
        "personality": sys::personality().ok(),
        "machine": rustix::system::uname().machine().to_string_lossy(),
        "memory_policy": sys::get_mempolicy().ok()
            .map(|(mode, nodes)| json!({"mode": mode, "nodes": nodes})),
        "timer_slack_ns": task::current_timer_slack().ok(),
    });
    if let (Value::Object(all), Value::Object(ids)) = (&mut facts, ids()) {
        all.extend(ids);
    }
    facts
}

fn strings(values: impl Iterator<Item = std::ffi::OsString>) -> Vec<String> {
    values
        .map(|value| value.to_string_lossy().into_owned())
        .collect()
}

/// The environment in its own order, each as `NAME=value`. Duplicates are kept.
fn environment() -> Vec<String> {
    strings(std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }))
}

fn link(path: &str) -> Value {
    std::fs::read_link(path).map_or(Value::Null, |target| json!(target.to_string_lossy()))
}

fn number(path: &str) -> Option<i64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// One line of /proc/self/status.
fn status_line(key: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == key).then(|| value.trim().to_owned())
    })
}

/// Real, effective, saved and file system ids. The last two only /proc tells.
fn ids() -> Value {
    let column = |key: &str, index: usize| {
        status_line(key).and_then(|line| line.split_whitespace().nth(index)?.parse::<u32>().ok())
    };
    let mut groups: Vec<u32> = rustix::process::getgroups()
        .unwrap_or_default()
        .into_iter()
        .map(rustix::process::Gid::as_raw)
        .collect();
    groups.sort_unstable();
    json!({
        "uid": rustix::process::getuid().as_raw(),
        "euid": rustix::process::geteuid().as_raw(),
        "suid": column("Uid", 2),
        "fsuid": column("Uid", 3),
        "gid": rustix::process::getgid().as_raw(),
        "egid": rustix::process::getegid().as_raw(),
        "sgid": column("Gid", 2),
        "fsgid": column("Gid", 3),
        "groups": groups,
    })
}

/// The umask in octal. It can only be read by changing it.
fn umask() -> String {
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    format!("{:04o}", mask.bits())
}

/// The five sets as 16 hexadecimal digits each, and the securebits.
fn capabilities() -> Value {
    let hex = |bits: u64| format!("{bits:016x}");
    let sets = task::capabilities(None).ok();
    let of = |set: fn(&task::CapabilitySets) -> task::CapabilitySet| {
        sets.as_ref().map(|sets| hex(set(sets).bits()))
    };
    let every = |has: fn(task::CapabilitySet) -> rustix::io::Result<bool>| {
        let bits = (0..64).map(|bit| 1_u64 << bit);
        let held =
            bits.filter(|bit| has(task::CapabilitySet::from_bits_retain(*bit)).unwrap_or(false));
        hex(held.sum())
    };
    json!({
        "effective": of(|sets| sets.effective),
        "permitted": of(|sets| sets.permitted),
        "inheritable": of(|sets| sets.inheritable),
        "bounding": every(task::capability_is_in_bounding_set),
        "ambient": every(task::capability_is_in_ambient_set),
        "securebits": task::capabilities_secure_bits().ok().map(|bits| bits.bits()),
    })
}

/// The mode (0 none, 1 strict, 2 filter) and the number of filters. /proc tells both;
/// asking by prctl(2) would kill a process in strict mode.
fn seccomp() -> Value {
    let field = |key| status_line(key).and_then(|value| value.parse::<u32>().ok());
    json!({ "mode": field("Seccomp"), "filters": field("Seccomp_filters") })
}

fn dumpable() -> Option<i32> {
    rustix::process::dumpable_behavior()
        .ok()
        .map(|behaviour| behaviour as i32)
}

/// The numbers of the signals that are blocked, ignored, caught and pending.
fn signals() -> Value {
    let with = |wanted| {
        (1..=64)
            .filter(|signal| sys::disposition(*signal).is_ok_and(|found| found == wanted))
            .collect::<Vec<_>>()
    };
    let members = |set: u64| {
        (1..=64)
            .filter(|n| set >> (n - 1) & 1 == 1)
            .collect::<Vec<u32>>()
    };
    json!({
        "blocked": sys::blocked_signals().ok().map(members),
        "pending": sys::pending_signals().ok().map(members),
        "ignored": with(sys::Disposition::Ignored),
        "caught": with(sys::Disposition::Caught),
    })
}

/// All 16 limits under their own names; "unlimited" for no limit.
fn rlimits() -> Value {
    let all = [
        ("RLIMIT_AS", Resource::As),
        ("RLIMIT_CORE", Resource::Core),
        ("RLIMIT_CPU", Resource::Cpu),
        ("RLIMIT_DATA", Resource::Data),
        ("RLIMIT_FSIZE", Resource::Fsize),
        ("RLIMIT_LOCKS", Resource::Locks),
        ("RLIMIT_MEMLOCK", Resource::Memlock),
        ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
        ("RLIMIT_NICE", Resource::Nice),
        ("RLIMIT_NOFILE", Resource::Nofile),
        ("RLIMIT_NPROC", Resource::Nproc),
        ("RLIMIT_RSS", Resource::Rss),
        ("RLIMIT_RTPRIO", Resource::Rtprio),
        ("RLIMIT_RTTIME", Resource::Rttime),
        ("RLIMIT_SIGPENDING", Resource::Sigpending),
        ("RLIMIT_STACK", Resource::Stack),
    ];
    let value = |limit: Option<u64>| limit.map_or_else(|| json!("unlimited"), |limit| json!(limit));
    all.into_iter()
        .map(|(name, resource)| {
            let limit = getrlimit(resource);
            (
                name.to_owned(),
                json!({"soft": value(limit.current), "hard": value(limit.maximum)}),
            )
        })
        .collect::<Map<String, Value>>()
        .into()
}

fn affinity() -> Option<Vec<usize>> {
    let set = task::sched_getaffinity(None).ok()?;
    Some(
        (0..task::CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .collect(),
    )
}

fn scheduler() -> Value {
    const RESET_ON_FORK: i64 = 0x4000_0000;
    const NAMES: [&str; 8] = [
        "SCHED_OTHER",
        "SCHED_FIFO",
        "SCHED_RR",
        "SCHED_BATCH",
        "4",
        "SCHED_IDLE",
        "SCHED_DEADLINE",
        "SCHED_EXT",
    ];
    let Ok(policy) = sys::sched_getscheduler() else {
        return Value::Null;
    };
    let index = usize::try_from(policy & !RESET_ON_FORK).unwrap_or(usize::MAX);
    json!({
        "policy": NAMES.get(index),
        "priority": sys::sched_getparam().ok(),
        "reset_on_fork": policy & RESET_ON_FORK != 0,
        "times": sys::sched_getattr().ok(),
    })
}
