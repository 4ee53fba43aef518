//! What is around the process: namespaces, names, cgroup, network, terminals, keys.
//!
//! namespaces(7), cgroups(7), tty_ioctl(4), session-keyring(7).

use std::os::fd::BorrowedFd;
use std::os::linux::fs::MetadataExt as _;

use serde_json::{Map, Value, json};

use crate::sys;

/// All facts of this file, as one object.
pub(crate) fn facts() -> Value {
    let names = rustix::system::uname();
    json!({
        "hostname": names.nodename().to_string_lossy(),
        "domainname": names.domainname().to_string_lossy(),
        "namespaces": namespaces(),
        "uid_map": id_map("/proc/self/uid_map"),
        "gid_map": id_map("/proc/self/gid_map"),
        "cgroup": cgroup(),
        "apparmor": std::fs::read_to_string("/proc/self/attr/apparmor/current").ok()
            .map(|label| label.trim_end().to_owned()),
        "interfaces": interfaces(),
        "tty": { "0": terminal(0), "1": terminal(1), "2": terminal(2) },
        "controlling_tty": controlling_terminal(),
        "session_keyring": session_keyring(),
        "clocks": clocks(),
    })
}

/// The clocks that a time namespace has of its own, in seconds. time_namespaces(7)
fn clocks() -> Value {
    json!({
        "monotonic": sys::clock_seconds(libc::CLOCK_MONOTONIC),
        "boottime": sys::clock_seconds(libc::CLOCK_BOOTTIME),
    })
}

/// The inode number of each namespace, by its name in /proc/self/ns.
fn namespaces() -> Value {
    let Ok(entries) = std::fs::read_dir("/proc/self/ns") else {
        return Value::Null;
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let inode = std::fs::metadata(entry.path()).ok()?.st_ino();
            Some((
                entry.file_name().to_string_lossy().into_owned(),
                json!(inode),
            ))
        })
        .collect::<Map<String, Value>>()
        .into()
}

fn id_map(path: &str) -> Value {
    let Ok(text) = std::fs::read_to_string(path) else {
        return Value::Null;
    };
    text.lines()
        .map(|line| {
            let numbers = line
                .split_whitespace()
                .map(|number| number.parse::<u32>().ok());
            json!(numbers.collect::<Vec<_>>())
        })
        .collect()
}

/// The lines of /proc/self/cgroup; hierarchy 0 is cgroup v2.
fn cgroup() -> Value {
    let Ok(text) = std::fs::read_to_string("/proc/self/cgroup") else {
        return Value::Null;
    };
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let id = id.parse::<u32>().ok()?;
        Some(json!({ "hierarchy": id, "controllers": controllers, "path": path }))
    };
    text.lines().filter_map(line).collect()
}

fn interfaces() -> Vec<Value> {
    const NAMES: [(i32, &str); 5] = [
        (libc::IFF_UP, "UP"),
        (libc::IFF_LOOPBACK, "LOOPBACK"),
        (libc::IFF_RUNNING, "RUNNING"),
        (libc::IFF_BROADCAST, "BROADCAST"),
        (libc::IFF_POINTOPOINT, "POINTOPOINT"),
    ];
    let one = |(name, flags): (String, u32)| {
        let set = |flag: i32| u32::try_from(flag).is_ok_and(|flag| flags & flag != 0);
        let flags: Vec<&str> = NAMES
            .iter()
            .filter(|(flag, _)| set(*flag))
            .map(|(_, name)| *name)
            .collect();
        json!({ "name": name, "flags": flags })
    };
    sys::interfaces().into_iter().map(one).collect()
}

/// What the terminal on an fd is, or null if there is none.
fn terminal(number: i32) -> Value {
    let Some(fd) = sys::inherited_fd(number) else {
        return Value::Null;
    };
    if !rustix::termios::isatty(fd) {
        return Value::Null;
    }
    let size = rustix::termios::tcgetwinsize(fd).ok();
    json!({
        "name": name(fd),
        "rows": size.map(|size| size.ws_row),
        "columns": size.map(|size| size.ws_col),
        "onlcr": rustix::termios::tcgetattr(fd).ok()
            .map(|attributes| attributes.output_modes.contains(rustix::termios::OutputModes::ONLCR)),
        "session": rustix::termios::tcgetsid(fd).ok().map(|pid| pid.as_raw_pid()),
        "uid": rustix::fs::fstat(fd).ok().map(|stat| stat.st_uid),
        "gid": rustix::fs::fstat(fd).ok().map(|stat| stat.st_gid),
        "mode": rustix::fs::fstat(fd).ok().map(|stat| format!("{:04o}", stat.st_mode & 0o7777)),
    })
}

fn name(fd: BorrowedFd<'_>) -> Option<String> {
    let name = rustix::termios::ttyname(fd, Vec::new()).ok()?;
    Some(name.to_string_lossy().into_owned())
}

/// Whether /dev/tty leads anywhere: a session with a controlling terminal.
fn controlling_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

fn session_keyring() -> Value {
    match sys::session_keyring() {
        Ok(id) => json!({ "id": id, "description": sys::key_description(id).ok() }),
        Err(error) => json!({ "error": format!("{error:?}") }),
    }
}
