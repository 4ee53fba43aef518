//! The container's /dev: default nodes and links (config-linux.md, "Default Devices").
//!
//! All by the open /dev directory. In a user namespace mknod(2) is not allowed, so the
//! host's nodes are bound instead.

use corten_init::abi::{Op, Slot};

use super::mounts::clean;
use super::{Action, Context, Step, check, options};
use crate::spec::NamespaceKind;

const S_IFCHR: u32 = 0o020_000;

/// Name, major and minor number; see null(4), zero(4), full(4), random(4), tty(4).
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const ORIGIN: &str = "linux.devices";

/// The nodes and links; none where config.json binds a /dev of its own.
pub(super) fn devices(cx: &Context<'_>) -> Vec<Step> {
    let dev = cx
        .spec
        .mounts
        .iter()
        .rev()
        .find(|mount| clean(&mount.destination) == "/dev" && !is_remount(mount));
    if dev.is_some_and(is_bind) {
        return Vec::new();
    }
    let mut steps = Vec::new();
    if dev.is_none() {
        let op = Op::OpenDir {
            path: "/dev".into(),
            into: Slot::DEV,
        };
        steps.push(Step::init(op, ORIGIN, "open /dev"));
    }
    let bind = cx.new_namespace(NamespaceKind::User);
    steps.extend(
        NODES
            .into_iter()
            .map(|(name, major, minor)| node(name, major, minor, bind)),
    );
    let core = cx.host.kcore.then_some(("core", "/proc/kcore"));
    for (name, target) in LINKS.into_iter().chain(core) {
        let op = Op::MakeLink {
            dir: Slot::DEV,
            name: name.into(),
            target: target.into(),
        };
        steps.push(Step::init(
            op,
            ORIGIN,
            format!("link /dev/{name} to {target}"),
        ));
    }
    steps
}

/// Closes what nodes, links and the console were made by, so that a created container
/// holds no descriptor but those it needs.
pub(super) fn close(steps: &[Step]) -> Option<Step> {
    let opens = |step: &Step| match &step.action {
        Action::Init(op) => check::fills(op).contains(&Slot::DEV),
        Action::Run(_) => false,
    };
    let close = Op::Close { slot: Slot::DEV };
    let is_open = steps.iter().any(opens);
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

fn node(name: &str, major: u32, minor: u32, bind: bool) -> Step {
    let dir = Slot::DEV;
    if bind {
        let source = format!("/dev/{name}").into();
        let op = Op::BindNode {
            dir,
            name: name.into(),
            source,
            major,
            minor,
        };
        return Step::init(op, ORIGIN, format!("bind the host's /dev/{name}"));
    }
    let mode = S_IFCHR | 0o666;
    let op = Op::MakeNode {
        dir,
        name: name.into(),
        mode,
        major,
        minor,
        uid: 0,
        gid: 0,
    };
    Step::init(op, ORIGIN, format!("make /dev/{name} (c {major}:{minor})"))
}
