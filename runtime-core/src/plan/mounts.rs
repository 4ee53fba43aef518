//! `mounts`: each one made detached, given its attributes, attached in order.
//!
//! See mount(8), fsopen(2), open_tree(2), mount_setattr(2). proc and sysfs must be
//! mounted on an ordinary directory.

use std::path::Path;

use corten_init::abi::{Op, Place, Slot};

use super::options::{self, Options};
use super::{Context, InitOp, PlanError, Step};
use crate::spec::{Mount, NamespaceKind};

/// Longest value that `fsconfig(2)` takes.
const FSCONFIG_MAX: usize = 255;

/// How many bind sources are opened before the process becomes the mapped root: one
/// slot each.
const EARLY_BINDS: u8 = 20;

/// Steps of `mounts`, by when they happen.
#[derive(Default)]
pub(super) struct Mounts {
    /// Before the process becomes root of its user namespace.
    pub(super) early: Vec<Step>,
    /// In order of the list.
    pub(super) steps: Vec<Step>,
    /// When all nodes and mount points are made.
    pub(super) last: Vec<Step>,
}

/// The mounts of config.json.
pub(super) fn mounts(cx: &mut Context<'_>) -> Result<Mounts, PlanError> {
    let mut mounts = Mounts::default();
    let user = cx.other_namespace(NamespaceKind::User);
    let mut free = (0..EARLY_BINDS).map(|number| Slot(Slot::MOUNT.0 + 1 + number));
    for (index, mount) in cx.spec.mounts.iter().enumerate() {
        let mut planned = Planned::new(cx, mount, format!("mounts[{index}]"))?;
        let bind = matches!(planned.source, Source::Bind { .. });
        // A /dev keeps its own slot, for the console.
        if user && bind && planned.destination != "/dev" {
            planned.early = free.next();
        }
        if let Some(warning) = planned.warning() {
            cx.warnings.push(warning);
        }
        planned.add_to(&mut mounts)?;
        mounts.last.extend(planned.deferred());
    }
    // Another working directory is opened into the same slot, which closes what it held.
    if !mounts.steps.is_empty() && cx.process.cwd == "/" {
        mounts.steps.push(Step::init(
            Op::Close { slot: Slot::MOUNT },
            "mounts",
            "close the last mount's descriptor",
        ));
    }
    Ok(mounts)
}

/// Where a mount comes from.
enum Source {
    /// A new file system of this type.
    Fs { kind: String, source: String },
    /// A copy of a part of the host's tree.
    Bind { path: Vec<u8>, recursive: bool },
    /// What is mounted there already.
    Remount,
}

struct Planned {
    source: Source,
    destination: String,
    origin: String,
    options: Options,
    /// Read-only only after the nodes and mount points in it are made.
    ro_later: bool,
    /// Where the source is held that only the host's root may be able to reach.
    early: Option<Slot>,
}

impl Planned {
    fn new(cx: &Context<'_>, mount: &Mount, origin: String) -> Result<Planned, PlanError> {
        let mut options = options::parse(&mount.options);
        let destination = clean(&mount.absolute_destination());
        if destination == "/" {
            return Err(PlanError::value(
                format!("{origin}.destination"),
                "a mount on / would hide root.path",
            ));
        }
        let source = source(cx, mount, &options, &origin)?;
        let kind = mount.kind.as_deref().unwrap_or("");
        let wants_ro = options.attrs.set & options::RDONLY != 0;
        let is_fs = matches!(source, Source::Fs { .. });
        let ro_later = is_fs && wants_ro && (kind == "tmpfs" || destination == "/dev");
        if ro_later {
            options.attrs.set &= !options::RDONLY;
        }
        Ok(Planned {
            source,
            destination,
            origin,
            options,
            ro_later,
            early: None,
        })
    }

    /// A bind takes no data; mount(2) ignores it too, but in silence.
    fn warning(&self) -> Option<String> {
        let copy_up = self.options.copy_up.then_some("tmpcopyup");
        let words = self.options.data.iter().map(String::as_str);
        let ignored: Vec<&str> = words.chain(copy_up).collect();
        if ignored.is_empty() || !matches!(self.source, Source::Bind { .. }) {
            return None;
        }
        let ignored = ignored.join(",");
        Some(format!(
            "{}.options: a bind mount ignores {ignored}",
            self.origin
        ))
    }

    fn add_to(&self, mounts: &mut Mounts) -> Result<(), PlanError> {
        let into = self.slot();
        let mut attrs = self.options.attrs;
        match &self.source {
            Source::Fs { kind, source } => {
                self.check_data()?;
                let mut what = format!("mount \"{kind}\" on {}", self.destination);
                let like = self.takes_mode(kind);
                if like {
                    what.push_str(" with the mode of what it hides");
                }
                let op = self.new_fs([kind, source], attrs.set, like, into);
                mounts.steps.push(self.step(op, what));
                mounts.steps.extend(self.copy_up(kind, into)?);
                // A new mount has no attributes but those that it was made with.
                attrs = options::Change::default();
            }
            Source::Bind { path, recursive } => {
                let shown = String::from_utf8_lossy(path);
                let word = if *recursive { "rbind" } else { "bind" };
                let what = format!("{word} {shown} on {}", self.destination);
                let (path, recursive) = (path.into(), *recursive);
                let open = self.step(
                    Op::OpenTree {
                        path,
                        recursive,
                        into,
                    },
                    what,
                );
                match self.early {
                    Some(_) => mounts.early.push(open),
                    None => mounts.steps.push(open),
                }
            }
            Source::Remount => {
                mounts.steps.push(self.remount());
                return Ok(());
            }
        }
        mounts.steps.extend(self.attributes(into, attrs));
        let what = format!("attach {}{}", self.destination, self.attr_text());
        let op = Op::Attach {
            mount: into,
            path: (&self.destination).into(),
            place: self.place(),
        };
        mounts.steps.push(self.step(op, what));
        if let Some(slot) = self.early {
            let what = format!("close the source of {}", self.destination);
            mounts.steps.push(self.step(Op::Close { slot }, what));
        }
        Ok(())
    }

    fn step(&self, op: InitOp, what: String) -> Step {
        Step::init(op, self.origin.clone(), what)
    }

    /// /dev stays open: nodes and links are made by its descriptor.
    fn slot(&self) -> Slot {
        match self.early {
            Some(slot) => slot,
            None if self.destination == "/dev" => Slot::DEV,
            None => Slot::MOUNT,
        }
    }

    fn place(&self) -> Place {
        match &self.source {
            Source::Fs { kind, .. } if kind == "proc" || kind == "sysfs" => {
                Place::OrdinaryDirectory
            }
            _ => Place::LikeSource,
        }
    }

    /// Whether it is a tmpfs without a mode of its own. Where it hides a directory it looks
    /// like it then; elsewhere it has the kernel's mode, 1777.
    fn takes_mode(&self, kind: &str) -> bool {
        let has_mode = |word: &String| word.starts_with("mode=");
        kind == "tmpfs" && !self.options.data.iter().any(has_mode)
    }

    fn copy_up(&self, kind: &str, mount: Slot) -> Result<Option<Step>, PlanError> {
        if !self.options.copy_up {
            return Ok(None);
        }
        if kind != "tmpfs" {
            let what = format!("tmpcopyup is for a tmpfs, not for {kind}");
            return Err(PlanError::value(format!("{}.options", self.origin), what));
        }
        let path = (&self.destination).into();
        let what = format!("copy {} into it", self.destination);
        Ok(Some(self.step(Op::CopyUp { path, mount }, what)))
    }

    fn new_fs(&self, [kind, source]: [&str; 2], attrs: u64, like: bool, into: Slot) -> InitOp {
        let mut data: Vec<u8> = Vec::new();
        let read_only = attrs & options::RDONLY != 0;
        let words = self.options.data.iter().map(String::as_str);
        for word in words.chain(read_only.then_some("ro")) {
            data.extend_from_slice(word.as_bytes());
            data.push(0);
        }
        Op::NewFs {
            kind: kind.into(),
            source: source.into(),
            data: data.into(),
            attrs,
            like: if like { &*self.destination } else { "" }.into(),
            into,
        }
    }

    fn check_data(&self) -> Result<(), PlanError> {
        let too_long = |word: &&String| {
            word.split_once('=')
                .is_some_and(|(_, value)| value.len() > FSCONFIG_MAX)
        };
        match self.options.data.iter().find(too_long) {
            None => Ok(()),
            Some(word) => {
                let key = word.split('=').next().unwrap_or_default();
                Err(PlanError::unsupported(
                    format!("{}.options", self.origin),
                    format!("{key} with a value of more than {FSCONFIG_MAX} bytes"),
                ))
            }
        }
    }

    /// What is left to change on the detached tree.
    fn attributes(&self, mount: Slot, attrs: options::Change) -> Vec<Step> {
        let mut steps = Vec::new();
        for (change, recursive) in [(self.options.recursive, true), (attrs, false)] {
            if !change.is_none() {
                let names = options::names(change);
                let tree = if recursive { " and all below" } else { "" };
                let what = format!("set {names} on {}{tree}", self.destination);
                let (set, clear) = (change.set, change.clear);
                steps.push(self.step(
                    Op::SetAttr {
                        mount,
                        set,
                        clear,
                        propagation: 0,
                        recursive,
                    },
                    what,
                ));
            }
        }
        if let Some((propagation, recursive)) = self.options.propagation {
            let name = options::propagation_name(propagation, recursive);
            let what = format!("make {} {name}", self.destination);
            steps.push(self.step(
                Op::SetAttr {
                    mount,
                    set: 0,
                    clear: 0,
                    propagation,
                    recursive,
                },
                what,
            ));
        }
        steps
    }

    fn remount(&self) -> Step {
        let change = self.options.attrs;
        self.step(
            Op::SetAttrAt {
                path: (&self.destination).into(),
                set: change.set,
                clear: change.clear,
            },
            format!("set {} on {}", options::names(change), self.destination),
        )
    }

    fn deferred(&self) -> Option<Step> {
        if !self.ro_later {
            return None;
        }
        let path = (&self.destination).into();
        let op = Op::SetAttrAt {
            path,
            set: options::RDONLY,
            clear: 0,
        };
        Some(self.step(op, format!("make {} read-only", self.destination)))
    }

    fn attr_text(&self) -> String {
        let names = options::names(self.options.attrs);
        if names.is_empty() {
            names
        } else {
            format!(" ({names})")
        }
    }
}

fn source(
    cx: &Context<'_>,
    mount: &Mount,
    options: &Options,
    origin: &str,
) -> Result<Source, PlanError> {
    let kind = mount.kind.as_deref().unwrap_or("");
    let given = mount.source.as_deref().unwrap_or("");
    if options.remount {
        return if options.data.is_empty() {
            Ok(Source::Remount)
        } else {
            let what = format!("remount with {}", options.data.join(","));
            Err(PlanError::unsupported(format!("{origin}.options"), what))
        };
    }
    let bind = options.bind.or((kind == "bind").then_some(false));
    if let Some(recursive) = bind {
        if given.is_empty() {
            return Err(PlanError::value(
                format!("{origin}.source"),
                "a bind mount needs one",
            ));
        }
        // A relative source is relative to the bundle (config.md, mounts).
        let path = cx.facts.bundle.join(given);
        return Ok(Source::Bind {
            path: path.as_os_str().as_encoded_bytes().to_vec(),
            recursive,
        });
    }
    match kind {
        "" | "none" => Err(PlanError::value(format!("{origin}.type"), "missing")),
        "cgroup" | "cgroup2" => cgroup(cx, given, origin),
        _ => Ok(Source::Fs {
            kind: kind.to_owned(),
            source: given.to_owned(),
        }),
    }
}

/// In its own cgroup namespace a container gets a new mount, whose root is its cgroup;
/// in the host's, a bind of its part of the tree.
fn cgroup(cx: &Context<'_>, given: &str, origin: &str) -> Result<Source, PlanError> {
    if cx.other_namespace(NamespaceKind::Cgroup) {
        return Ok(Source::Fs {
            kind: "cgroup2".to_owned(),
            source: given.to_owned(),
        });
    }
    match &cx.facts.cgroup {
        Some(path) => {
            let relative = path.strip_prefix("/").unwrap_or(path);
            let path = Path::new("/sys/fs/cgroup").join(relative);
            Ok(Source::Bind {
                path: path.as_os_str().as_encoded_bytes().to_vec(),
                recursive: false,
            })
        }
        None => Err(PlanError::value(
            origin,
            "a cgroup mount needs a cgroup or a new cgroup namespace",
        )),
    }
}

/// The path without `.`, `..` and doubled slashes, as if `/` were the root.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_cleaned_path_never_climbs_above_the_root() {
        for (path, cleaned) in [
            ("/a/../b", "/b"),
            ("/../../etc", "/etc"),
            ("//a/./b/", "/a/b"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), cleaned);
        }
    }
}
