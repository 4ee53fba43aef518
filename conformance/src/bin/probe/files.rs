//! What the process can reach through files: fds, mounts, devices.
//!
//! proc_pid_mountinfo(5), fcntl(2), null(4).

use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::{Value, json};

use crate::sys;

/// The facts of this file but for the fds, as one object.
pub(crate) fn facts() -> Value {
    json!({ "mounts": mounts(), "dev": directory(Path::new("/dev")) })
}

/// The open fds: number, target, flags. Fds above 4095 are not looked for.
pub(crate) fn fds() -> Vec<Value> {
    (0..4096).filter_map(fd).collect()
}

fn fd(number: i32) -> Option<Value> {
    let fd = sys::inherited_fd(number)?;
    let flags = rustix::fs::fcntl_getfl(fd).unwrap_or(OFlags::empty());
    let access = match flags & OFlags::RWMODE {
        OFlags::WRONLY => "w",
        OFlags::RDWR => "rw",
        _ if flags.contains(OFlags::PATH) => "path",
        _ => "r",
    };
    let target = std::fs::read_link(format!("/proc/self/fd/{number}")).ok();
    let kind = rustix::fs::fstat(fd)
        .map(|stat| format!("{:?}", rustix::fs::FileType::from_raw_mode(stat.st_mode)));
    Some(json!({
        "fd": number,
        "target": target.map(|target| target.to_string_lossy().into_owned()),
        "type": kind.ok(),
        "access": access,
        "append": flags.contains(OFlags::APPEND),
        "nonblock": flags.contains(OFlags::NONBLOCK),
        "cloexec": rustix::io::fcntl_getfd(fd)
            .is_ok_and(|flags| flags.contains(rustix::io::FdFlags::CLOEXEC)),
    }))
}

/// Every line of /proc/self/mountinfo, or null without a /proc.
fn mounts() -> Value {
    let Ok(text) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return Value::Null;
    };
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Value> {
    let (first, second) = line.split_once(" - ")?;
    let first: Vec<&str> = first.split(' ').collect();
    let second: Vec<&str> = second.splitn(3, ' ').collect();
    let [id, parent, device, root, point, options, optional @ ..] = first.as_slice() else {
        return None;
    };
    let [kind, source, super_options] = second.as_slice() else {
        return None;
    };
    let list = |options: &str| options.split(',').map(str::to_owned).collect::<Vec<_>>();
    Some(json!({
        "id": id.parse::<u64>().ok()?,
        "parent": parent.parse::<u64>().ok()?,
        "device": device,
        "root": unescape(root),
        "point": unescape(point),
        "options": list(options),
        "optional": optional,
        "type": kind,
        "source": unescape(source),
        "super_options": list(super_options),
    }))
}

/// Undoes the `\040` of mountinfo.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The entries of one directory, sorted by name; null if it can't be read.
pub(crate) fn directory(path: &Path) -> Value {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Value::Null;
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
        .iter()
        .map(|name| {
            let mut facts = stat(&path.join(name));
            facts["name"] = json!(name.to_string_lossy());
            facts
        })
        .collect()
}

/// What lstat(2) says of a path: `{"error": errno}` if it fails.
pub(crate) fn stat(path: &Path) -> Value {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return json!({ "error": crate::actions::errno_name(&error) }),
    };
    let kind = metadata.file_type();
    let device = kind.is_char_device() || kind.is_block_device();
    let device = device.then(|| {
        format!(
            "{}:{}",
            rustix::fs::major(metadata.st_rdev()),
            rustix::fs::minor(metadata.st_rdev())
        )
    });
    let name = rustix::fs::FileType::from_raw_mode(metadata.st_mode());
    json!({
        "type": format!("{name:?}"),
        "mode": format!("{:04o}", metadata.st_mode() & 0o7777),
        "uid": metadata.st_uid(),
        "gid": metadata.st_gid(),
        "size": metadata.st_size(),
        "inode": metadata.st_ino(),
        "device": device,
        "target": std::fs::read_link(path).ok(),
    })
}

/// Paths of all files of this name, but for those of the kernel's own file systems.
pub(crate) fn find(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![std::path::PathBuf::from("/")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let of_kernel = ["/proc", "/sys"].iter().any(|top| path == Path::new(top));
            // Not by a link.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if entry.file_name() == name {
                found.push(path.to_string_lossy().into_owned());
            } else if is_folder && !of_kernel {
                folders.push(path);
            }
        }
    }
    found
}

/// What should be masked or read-only, of every procfs in the root, and is not.
pub(crate) fn open_procs() -> Vec<String> {
    let folders = std::fs::read_dir("/").into_iter().flatten().flatten();
    let procs = folders.map(|entry| entry.path());
    let procs = procs.filter(|path| path.join("self/mountinfo").exists());
    let open = |path: std::path::PathBuf| {
        let sys = path.join("sys/kernel/hostname");
        let timers = path.join("timer_list");
        let written = std::fs::OpenOptions::new().write(true).open(&sys);
        let read = std::fs::read(&timers).is_ok_and(|text| !text.is_empty());
        let written = written.is_ok().then_some(sys);
        written.into_iter().chain(read.then_some(timers))
    };
    let open = procs.flat_map(open);
    open.map(|path| path.to_string_lossy().into_owned())
        .collect()
}
