//! The container's devices: the default nodes and links (config-linux.md, "Default
//! Devices") and `linux.devices`.
//!
//! A node is made by the open directory that it belongs in, mostly /dev. In a user
//! namespace mknod(2) makes no device, so the host's own node of that path is bound.

use corten_init::abi::{Existing, Op, Slot};

use super::mounts::clean;
use super::{Context, PlanError, Step, check, options};
use crate::spec::{Device, NamespaceKind};

const S_IFIFO: u32 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
/// The permission bits of a mode; config.json may have the type in it too.
const PERMISSIONS: u32 = 0o7777;
/// Where config.json says nothing, as runc has it.
const DEFAULT_MODE: u32 = 0o666;

/// Name, major and minor number; see null(4), zero(4), full(4), random(4), tty(4).
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

const PTMX: (&str, &str) = ("ptmx", "pts/ptmx");
const KCORE: (&str, &str) = ("core", "/proc/kcore");

const ORIGIN: &str = "linux.devices";

/// A node to be made.
struct Node {
    /// Where config.json asks for it.
    origin: String,
    /// In the container; clean, and not `/`.
    path: String,
    /// Type and permissions.
    mode: u32,
    major: u32,
    minor: u32,
    uid: u32,
    gid: u32,
}

/// What the mounts have left on /dev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dev {
    /// Something that is to be opened yet.
    Closed,
    /// Something whose descriptor is in [`Slot::DEV`].
    Open,
    /// The same, and what is made in it gets the user and the group of who makes it.
    Plain,
}

/// The owner that says: as it is made.
const AS_MADE: u32 = u32::MAX;

/// The nodes and links; in /dev none where config.json binds a /dev of its own.
pub(super) fn devices(cx: &Context<'_>, dev_is: Dev) -> Result<Vec<Step>, PlanError> {
    let dev = cx
        .spec
        .mounts
        .iter()
        .rev()
        .find(|mount| *clean(&mount.absolute_destination()) == *"/dev" && !is_remount(mount));
    let bound = dev.is_some_and(is_bind);
    let bind = cx.in_user_namespace();
    let own_mounts = cx.new_namespace(NamespaceKind::Mount);
    if bind && !own_mounts {
        // There is no way to make one, nor to mount one.
        return Ok(Vec::new());
    }
    let mut nodes = configured(cx)?;
    let mut steps = Vec::new();
    if bound {
        nodes.retain(|node| !node.path.starts_with("/dev/"));
    } else {
        nodes.splice(0..0, missing(&nodes));
    }
    // The terminal is bound in it, whatever it is.
    let console = cx.process.terminal && own_mounts;
    if dev_is == Dev::Closed && (!bound || console) {
        let op = Op::OpenDir {
            path: "/dev".into(),
            into: Slot::DEV,
        };
        steps.push(Step::init(op, ORIGIN, "open /dev"));
    }
    let roots = dev_is == Dev::Plain && !bind && (cx.host.euid, cx.host.egid) == (0, 0);
    for mut node in nodes {
        if roots && (node.uid, node.gid) == (0, 0) && node.is_in_dev() {
            (node.uid, node.gid) = (AS_MADE, AS_MADE);
        }
        steps.extend(node.steps(bind));
    }
    if !bound {
        steps.extend(LINKS.map(|link| make_link(link, Existing::Keep)));
        // An image's own would lead to another devpts. But the root may be the host's.
        let ptmx = if own_mounts {
            Existing::Replace
        } else {
            Existing::Keep
        };
        steps.push(make_link(PTMX, ptmx));
        steps.extend(cx.host.kcore.then(|| make_link(KCORE, Existing::Keep)));
    }
    Ok(steps)
}

/// The nodes of config.json. Whatever it says of /dev/ptmx, a link takes its place.
fn configured(cx: &Context<'_>) -> Result<Vec<Node>, PlanError> {
    let devices = cx.spec.linux.iter().flat_map(|linux| &linux.devices);
    let nodes = devices.enumerate().map(|(index, device)| {
        Node::new(device, format!("{ORIGIN}[{index}]"))
            .map(|node| (node.path != "/dev/ptmx").then_some(node))
    });
    nodes.filter_map(Result::transpose).collect()
}

/// The default nodes that config.json does not have itself.
fn missing(nodes: &[Node]) -> Vec<Node> {
    let default = NODES.map(|(name, major, minor)| Node {
        origin: ORIGIN.to_owned(),
        path: ["/dev/", name].concat(),
        mode: S_IFCHR | DEFAULT_MODE,
        major,
        minor,
        uid: 0,
        gid: 0,
    });
    let is_new = |node: &Node| !nodes.iter().any(|other| other.path == node.path);
    default.into_iter().filter(is_new).collect()
}

impl Node {
    fn new(device: &Device, origin: String) -> Result<Node, PlanError> {
        let path = clean(&device.path).into_owned();
        if path == "/" {
            let what = format!("{:?} names no device", device.path);
            return Err(PlanError::value(format!("{origin}.path"), what));
        }
        let kind = match device.kind.as_str() {
            "c" | "u" => S_IFCHR,
            "b" => S_IFBLK,
            "p" => S_IFIFO,
            other => {
                let what = format!("{other:?} is no type of a device");
                return Err(PlanError::value(format!("{origin}.type"), what));
            }
        };
        let number = |field: &str, value: i64| {
            u32::try_from(value).map_err(|_| {
                PlanError::value(
                    format!("{origin}.{field}"),
                    format!("{value} is no device number"),
                )
            })
        };
        // A fifo has no number, whatever config.json says.
        let [major, minor] = if kind == S_IFIFO {
            [0, 0]
        } else {
            [
                number("major", device.major)?,
                number("minor", device.minor)?,
            ]
        };
        Ok(Node {
            path,
            mode: kind | device.file_mode.unwrap_or(DEFAULT_MODE) & PERMISSIONS,
            major,
            minor,
            uid: device.uid.unwrap_or(0),
            gid: device.gid.unwrap_or(0),
            origin,
        })
    }

    /// Whether its directory is /dev itself.
    fn is_in_dev(&self) -> bool {
        let name = self.path.strip_prefix("/dev/");
        name.is_some_and(|name| !name.contains('/'))
    }

    /// Opens the directory, unless it is /dev, and makes the node in it.
    fn steps(&self, bind: bool) -> Vec<Step> {
        let (parent, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        if parent == "/dev" {
            return vec![self.make(Slot::DEV, name, bind)];
        }
        let parent = if parent.is_empty() { "/" } else { parent };
        let dir = Slot::MOUNT;
        let step = |op, what: String| Step::init(op, self.origin.clone(), what);
        let path = parent.into();
        vec![
            step(Op::OpenDir { path, into: dir }, format!("open {parent}")),
            self.make(dir, name, bind),
            step(Op::Close { slot: dir }, format!("close {parent}")),
        ]
    }

    fn make(&self, dir: Slot, name: &str, bind: bool) -> Step {
        let Node {
            path,
            mode,
            major,
            minor,
            uid,
            gid,
            ..
        } = self;
        let (mode, major, minor, uid, gid) = (*mode, *major, *minor, *uid, *gid);
        let kind = mode & !PERMISSIONS;
        // A fifo is no device: everybody may make one.
        if bind && kind != S_IFIFO {
            let op = Op::BindNode {
                dir,
                name: name.into(),
                source: path.into(),
                kind,
                major,
                minor,
            };
            let what = ["bind the host's ", path].concat();
            return Step::init(op, self.origin.clone(), what);
        }
        let op = Op::MakeNode {
            dir,
            name: name.into(),
            mode,
            major,
            minor,
            uid,
            gid,
        };
        let what = match kind {
            S_IFIFO => format!("make fifo {path}"),
            S_IFBLK => format!("make {path} (b {major}:{minor})"),
            _ => format!("make {path} (c {major}:{minor})"),
        };
        Step::init(op, self.origin.clone(), what)
    }
}

fn make_link((name, target): (&str, &str), existing: Existing) -> Step {
    let op = Op::MakeLink {
        dir: Slot::DEV,
        name: name.into(),
        target: target.into(),
        existing,
    };
    Step::init(op, ORIGIN, ["link /dev/", name, " to ", target].concat())
}

/// Closes what nodes, links and the console were made by, so that a created container
/// holds no descriptor but those it needs.
pub(super) fn close(steps: &[Step]) -> Option<Step> {
    let close = Op::Close { slot: Slot::DEV };
    let is_open = steps.iter().any(|step| check::fills_slot(step, Slot::DEV));
    is_open.then(|| Step::init(close, ORIGIN, "close /dev"))
}

/// Whether a mount only changes what is there.
fn is_remount(mount: &crate::spec::Mount) -> bool {
    options::parse(&mount.options).remount
}

/// Whether a mount is a bind of something else.
pub(super) fn is_bind(mount: &crate::spec::Mount) -> bool {
    mount.kind.as_deref() == Some("bind") || options::parse(&mount.options).bind.is_some()
}
