//! `mounts`: each one made detached, given its attributes, attached in order.
//!
//! See mount(8), fsopen(2), open_tree(2), mount_setattr(2). proc and sysfs must be
//! mounted on an ordinary directory.
//!
//! # Layout
//! - `source`: what is mounted
//! - `data`: how a file system gets its options
//! - `idmap`: the ids of mounts
//! - `outside`: sources that are opened before the container's namespaces are there

use std::borrow::Cow;

use corten_init::abi::{Existing, Op, Place, Slot};

use super::devices::Dev;
use super::options::{self, Change, Options};
use super::step::place;
use super::{Bytes, Context, InitOp, PlanError, Step, check, lsm, paths};
use crate::spec::Mount;

mod data;
mod idmap;
mod outside;
mod source;

use data::Way;
pub(crate) use data::has_long_layers;
use idmap::Maps;
pub(crate) use outside::TREES;
use source::Source;

/// Steps of `mounts`, by when they happen.
#[derive(Default)]
pub(super) struct Mounts {
    /// The runtime half's, before init is started.
    pub(super) before: Vec<Step>,
    /// In the host's user namespace.
    pub(super) outside: Vec<Step>,
    /// In order of the list.
    pub(super) steps: Vec<Step>,
    /// When all nodes and mount points are made.
    pub(super) last: Vec<Step>,
    /// The slots that hold a mount in the end.
    pub(super) open: paths::Open,
    /// The names below /dev that mounts have taken, while [`Slot::DEV`] holds a tmpfs that
    /// was empty and that nobody but init reaches.
    taken: Option<Vec<String>>,
    /// Whether the root of that tmpfs has the set-group-ID bit, as far as is known.
    setgid: bool,
}

/// The mounts of config.json.
pub(super) fn mounts(cx: &mut Context<'_>) -> Result<Mounts, PlanError> {
    let mut mounts = Mounts::default();
    let mut maps = Maps::default();
    let outside = outside::is_needed(cx);
    for (index, mount) in cx.spec.mounts.iter().enumerate() {
        let mut planned = Planned::new(cx, mount, index)?;
        let is_bind = matches!(planned.source, Source::Bind { .. });
        planned.outside = (outside && is_bind).then(|| index.to_string());
        planned.map = maps.of(cx, mount, &planned.options, &planned.origin)?;
        planned.check()?;
        cx.warnings.extend(planned.warnings());
        let before = mounts.steps.len();
        planned.name = mounts.free_name(&planned);
        planned.add_to(&mut mounts)?;
        mounts.note(&planned, before);
        mounts.keep(&planned, before);
        mounts.last.extend(planned.deferred());
    }
    outside::frame(cx, &mut mounts, &maps);
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

impl Mounts {
    /// Takes in which slot a mount has filled by the steps from `first` on.
    fn keep(&mut self, planned: &Planned, first: usize) {
        let slot = planned.slot;
        if slot == Slot::MOUNT || matches!(planned.source, Source::Remount) {
            return;
        }
        self.open.kernels.remove(&slot);
        let opens = |step: &Step| check::fills_slot(step, slot);
        if self.steps.iter().skip(first).any(opens) {
            self.open.slots.insert(slot);
            if matches!(planned.source.kind(), Some("proc" | "sysfs")) {
                self.open.kernels.insert(slot);
            }
        } else if self.open.slots.remove(&slot) {
            let what = format!("close what {} hides", planned.destination);
            let close = planned.step(Op::Close { slot }, what);
            self.steps.push(close);
        }
    }

    /// What is on /dev in the end.
    pub(super) fn dev(&self) -> Dev {
        if !self.open.slots.contains(&Slot::DEV) {
            Dev::Closed
        } else if self.taken.is_some() && !self.setgid {
            Dev::Plain
        } else {
            Dev::Open
        }
    }

    /// The name of the mount point, where it is a directory that can be made in the new /dev at
    /// once: no path leads through what an image has put there.
    fn free_name(&self, planned: &Planned) -> Option<String> {
        // A FUSE may have a file as its root.
        let is_directory = |kind| ["cgroup2", "devpts", "mqueue", "tmpfs"].contains(&kind);
        let taken = self.taken.as_ref()?;
        let name = planned.destination.strip_prefix("/dev/")?;
        let is_free = !name.contains('/') && !taken.iter().any(|other| other == name);
        let is_plain = planned.source.kind().is_some_and(is_directory);
        (is_free && is_plain && !planned.options.dest_nofollow).then(|| name.to_owned())
    }

    /// Takes in what a mount has made of /dev by the steps from `first` on.
    fn note(&mut self, planned: &Planned, first: usize) {
        let Some(below) = planned.destination.strip_prefix("/dev") else {
            return;
        };
        if let Some(path) = below.strip_prefix('/') {
            let name = path.split('/').next().unwrap_or(path);
            self.taken
                .iter_mut()
                .for_each(|taken| taken.push(name.to_owned()));
        } else if below.is_empty() && !matches!(planned.source, Source::Remount) {
            let is_tmpfs = planned.source.kind() == Some("tmpfs") && !planned.options.copy_up;
            let opens = |step: &Step| check::fills_slot(step, Slot::DEV);
            let is_held = self.steps.iter().skip(first).any(opens);
            self.taken = (is_tmpfs && is_held).then(Vec::new);
            self.setgid = planned.may_be_setgid();
        }
    }
}

struct Planned {
    source: Source,
    destination: String,
    origin: String,
    options: Options,
    /// Read-only only after the nodes and mount points in it are made.
    ro_later: bool,
    /// The name under which the source is kept that was opened outside.
    outside: Option<String>,
    /// The user namespace whose ids it gets, and whether all below gets them too.
    map: Option<(Slot, bool)>,
    /// Whether overlay takes its lower layers one by one.
    layers: bool,
    /// Gives its root a label, where no option of the mount does.
    label: Option<Step>,
    /// Where its descriptor is: [`Slot::MOUNT`], unless it is needed later.
    slot: Slot,
    /// Its name in a new /dev, where nothing is yet.
    name: Option<String>,
}

impl Planned {
    fn new(cx: &Context<'_>, mount: &Mount, index: usize) -> Result<Planned, PlanError> {
        let origin = place("mounts", index);
        let mut options = options::parse(&mount.options);
        let destination = clean(&mount.absolute_destination()).into_owned();
        if destination == "/" && !options.remount {
            return Err(PlanError::value(
                format!("{origin}.destination"),
                "a mount on / would hide root.path",
            ));
        }
        let source = Source::new(cx, mount, &options, index)?;
        let label = source.kind().and_then(|kind| lsm::context_option(cx, kind));
        options.data.extend(label);
        let wants_ro = options.attrs.set & options::RDONLY != 0;
        let is_bind = matches!(source, Source::Bind { .. } | Source::Link { .. });
        let is_tmpfs = mount.kind.as_deref() == Some("tmpfs");
        let ro_later = !is_bind && wants_ro && (is_tmpfs || destination == "/dev");
        if ro_later {
            options.attrs.set &= !options::RDONLY;
        }
        let mut planned = Planned {
            source,
            destination,
            origin,
            options,
            ro_later,
            outside: None,
            map: None,
            layers: cx.facts.mounts.overlay_layers,
            label: None,
            slot: Slot::MOUNT,
            name: None,
        };
        planned.slot = match planned.destination.as_str() {
            // Nodes and links are made by its descriptor.
            "/dev" => Slot::DEV,
            other => paths::anchor(cx, other).unwrap_or(Slot::MOUNT),
        };
        let kind = planned.source.kind();
        planned.label = kind.and_then(|kind| lsm::label_root(cx, kind, planned.slot));
        Ok(planned)
    }

    /// Refuses words that make no sense together, or with what is mounted.
    fn check(&self) -> Result<(), PlanError> {
        let options = &self.options;
        let refused =
            |what: String| Err(PlanError::value(format!("{}.options", self.origin), what));
        if options.copy_symlink && (options.source_nofollow || options.dest_nofollow) {
            return refused("copy-symlink can't be with src-nofollow or dest-nofollow".to_owned());
        }
        match &self.source {
            Source::Fs { kind, .. } if options.copy_up && kind != "tmpfs" => {
                refused(format!("tmpcopyup is for a tmpfs, not for {kind}"))
            }
            Source::Fs { .. } | Source::Remount if self.map.is_some() => {
                refused("an id map is for a bind mount".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether the root directory of this tmpfs may have the set-group-ID bit: where no option
    /// gives it a mode, that is the mode of what it hides.
    fn may_be_setgid(&self) -> bool {
        const S_ISGID: u32 = 0o2000;
        let words = self.options.data.iter();
        let modes = words.filter_map(|word| word.strip_prefix("mode="));
        let plain = |mode| u32::from_str_radix(mode, 8).is_ok_and(|mode| mode & S_ISGID == 0);
        let mut modes = modes.map(plain).peekable();
        modes.peek().is_none() || !modes.all(|is_plain| is_plain)
    }

    /// A bind takes no data; mount(2) ignores it too, but in silence.
    fn warnings(&self) -> Vec<String> {
        let options = &self.options;
        let is_fs = self.source.kind().is_some();
        let of_tmpfs = (options.copy_up && !is_fs).then_some("tmpcopyup");
        let of_bind = [
            (options.copy_symlink, "copy-symlink"),
            (options.source_nofollow, "src-nofollow"),
        ];
        let of_bind = of_bind.into_iter().filter(|(given, _)| *given && is_fs);
        let no_data = matches!(self.source, Source::Bind { .. } | Source::Link { .. });
        let means = |word: &&String| !matches!(word.as_str(), "async" | "nolazytime");
        let words = options.data.iter().filter(|_| no_data).filter(means);
        let ignored: Vec<&str> = words
            .map(String::as_str)
            .chain(of_tmpfs)
            .chain(of_bind.map(|(_, word)| word))
            .chain(options.ignored.iter().map(String::as_str))
            .collect();
        if ignored.is_empty() {
            return Vec::new();
        }
        let subject = match &self.source {
            Source::Fs { kind, .. } => format!("a mount of {kind}"),
            Source::Remount => "a remount".to_owned(),
            Source::Bind { .. } | Source::Link { .. } => "a bind mount".to_owned(),
        };
        let ignored = ignored.join(",");
        vec![format!(
            "{}.options: {subject} ignores {ignored}",
            self.origin
        )]
    }

    fn add_to(&self, mounts: &mut Mounts) -> Result<(), PlanError> {
        match &self.source {
            Source::Fs { kind, source } => {
                let words = &self.options.data;
                let way = data::way(kind, source, words, self.layers, &self.origin)?;
                match way {
                    Way::OneByOne(words) => self.new_file_system([kind, source], &words, mounts),
                    Way::AsText(text, flags) => {
                        mounts
                            .steps
                            .extend(self.mount_at([kind, source, &text], flags));
                    }
                }
            }
            Source::Bind { path, recursive } => self.bind(path, *recursive, mounts),
            Source::Link { target } => mounts.steps.extend(self.link(target)),
            Source::Remount => mounts.steps.extend(self.remount()?),
        }
        Ok(())
    }

    fn new_file_system(&self, names: [&str; 2], words: &[String], mounts: &mut Mounts) {
        let [kind, source] = names;
        let into = self.slot;
        let read_only = self.options.attrs.set & options::RDONLY != 0;
        let words = words.iter().map(String::as_str);
        let like = self.takes_mode(kind);
        let mut what = ["mount \"", kind, "\" on ", &self.destination].concat();
        if like {
            what.push_str(" with the mode of what it hides");
        }
        let op = Op::NewFs {
            kind: kind.into(),
            source: source.into(),
            data: list(words.chain(read_only.then_some("ro"))),
            attrs: self.options.attrs.set,
            like: if like { &*self.destination } else { "" }.into(),
            into,
        };
        mounts.steps.push(self.step(op, what));
        if self.options.copy_up {
            let path = (&self.destination).into();
            let what = format!("copy {} into it", self.destination);
            mounts
                .steps
                .push(self.step(Op::CopyUp { path, mount: into }, what));
        }
        mounts.steps.extend(self.label.clone());
        // A new mount has no attributes but those that it was made with.
        mounts
            .steps
            .extend(self.attributes(into, Change::default()));
        mounts.steps.push(self.attach(into));
    }

    fn bind(&self, path: &[u8], recursive: bool, mounts: &mut Mounts) {
        let into = self.slot;
        let shown = String::from_utf8_lossy(path);
        let word = if recursive { "rbind" } else { "bind" };
        let what = format!("{word} {shown} on {}", self.destination);
        let nofollow = self.options.source_nofollow;
        match &self.outside {
            Some(name) => {
                let outer = Slot::MOUNT;
                let open = open_tree(path, recursive, nofollow, outer);
                mounts.outside.push(self.step(open, what));
                mounts.outside.extend(self.map_ids(outer, &shown));
                mounts.outside.push(self.keep(outer, name));
                // With all that is below: the kernel lets nobody take it apart any more.
                let what = format!("take the source of {}", self.destination);
                let take = open_tree(name.as_bytes(), true, true, into);
                mounts.steps.push(self.step(take, what));
            }
            None => {
                let open = open_tree(path, recursive, nofollow, into);
                mounts.steps.push(self.step(open, what));
                mounts.steps.extend(self.map_ids(into, &shown));
            }
        }
        mounts
            .steps
            .extend(self.attributes(into, self.options.attrs));
        mounts.steps.push(self.attach(into));
    }

    fn map_ids(&self, mount: Slot, source: &str) -> Option<Step> {
        let (map, recursive) = self.map?;
        let tree = if recursive { " and all below" } else { "" };
        let op = Op::Idmap {
            mount,
            map,
            recursive,
        };
        Some(self.step(op, format!("map the ids of {source}{tree}")))
    }

    fn keep(&self, mount: Slot, name: &str) -> Step {
        let what = format!("keep the source of {}", self.destination);
        let name = name.into();
        self.step(Op::KeepTree { mount, name }, what)
    }

    /// A file system whose options are one text is made where it belongs.
    fn mount_at(&self, texts: [&str; 3], flags: u64) -> Vec<Step> {
        let [kind, source, text] = texts;
        let op = Op::MountAt {
            kind: kind.into(),
            source: source.into(),
            data: text.into(),
            flags: flags | options::mount_flags(self.options.attrs.set),
            path: (&self.destination).into(),
        };
        let shown = if text.is_empty() {
            String::new()
        } else {
            format!(" ({text})")
        };
        let names = self.attr_text();
        let what = format!("mount \"{kind}\" on {}{names}{shown}", self.destination);
        let mut steps = vec![self.step(op, what)];
        steps.extend(self.attributes_in_place(Change::default()));
        steps
    }

    /// `copy-symlink`: the same link, in place of a bind of what it leads to.
    fn link(&self, target: &[u8]) -> Vec<Step> {
        let (parent, name) = self.destination.rsplit_once('/').unwrap_or_default();
        let parent = if parent.is_empty() { "/" } else { parent };
        let dir = Slot::MOUNT;
        let shown = String::from_utf8_lossy(target);
        let op = Op::MakeLink {
            dir,
            name: name.into(),
            target: target.into(),
            existing: Existing::Same,
        };
        let path = parent.into();
        vec![
            self.step(Op::OpenDir { path, into: dir }, format!("open {parent}")),
            self.step(op, format!("link {} to {shown}", self.destination)),
        ]
    }

    /// Changes what is mounted there: options of the file system, then attributes of the
    /// mount. The file system itself is never made read-only, others may have it mounted too.
    fn remount(&self) -> Result<Vec<Step>, PlanError> {
        let mut steps = Vec::new();
        let words = &self.options.data;
        if !words.is_empty() {
            let Way::OneByOne(words) = data::way("", "", words, false, &self.origin)? else {
                let what = "a remount takes no value with a comma or of more than 255 bytes";
                return Err(PlanError::value(format!("{}.options", self.origin), what));
            };
            let what = format!(
                "set {} of what is mounted on {}",
                words.join(","),
                self.destination
            );
            let path = (&self.destination).into();
            let data = list(words.iter().map(String::as_str));
            steps.push(self.step(Op::Reconfigure { path, data }, what));
        }
        steps.extend(self.attributes_in_place(self.options.attrs));
        Ok(steps)
    }

    fn step(&self, op: InitOp, what: String) -> Step {
        Step::init(op, self.origin.clone(), what)
    }

    fn attach(&self, mount: Slot) -> Step {
        let (dir, path, place, how) = match &self.name {
            Some(name) => (Slot::DEV, name, Place::New, "make and attach "),
            None => (Slot::ROOT, &self.destination, self.place(), "attach "),
        };
        let what = [how, &self.destination, &self.attr_text()].concat();
        let path = path.into();
        let op = Op::Attach {
            mount,
            dir,
            path,
            place,
        };
        self.step(op, what)
    }

    fn place(&self) -> Place {
        match self.source.kind() {
            Some("proc" | "sysfs") => Place::OrdinaryDirectory,
            _ if self.options.dest_nofollow => Place::NoFollow,
            _ => Place::LikeSource,
        }
    }

    /// Whether it is a tmpfs without a mode of its own. Where it hides a directory it looks
    /// like it then; elsewhere it has the kernel's mode, 1777.
    fn takes_mode(&self, kind: &str) -> bool {
        let has_mode = |word: &String| word.starts_with("mode=");
        kind == "tmpfs" && !self.options.data.iter().any(has_mode)
    }

    /// What is left to change on the detached tree.
    fn attributes(&self, mount: Slot, attrs: Change) -> Vec<Step> {
        self.changes(attrs, |[set, clear, propagation], recursive| Op::SetAttr {
            mount,
            set,
            clear,
            propagation,
            recursive,
        })
    }

    /// The same for what is mounted already.
    fn attributes_in_place(&self, attrs: Change) -> Vec<Step> {
        self.changes(attrs, |[set, clear, propagation], recursive| {
            Op::SetAttrAt {
                path: (&self.destination).into(),
                set,
                clear,
                propagation,
                recursive,
            }
        })
    }

    /// Attributes, those for all below, and propagation, each in the order of its words.
    fn changes(&self, attrs: Change, op: impl Fn([u64; 3], bool) -> InitOp) -> Vec<Step> {
        let mut steps = Vec::new();
        for (change, recursive) in [(attrs, false), (self.options.recursive, true)] {
            if !change.is_none() {
                let names = options::names(change);
                let tree = if recursive { " and all below" } else { "" };
                let what = format!("set {names} on {}{tree}", self.destination);
                steps.push(self.step(op([change.set, change.clear, 0], recursive), what));
            }
        }
        for (propagation, recursive) in &self.options.propagation {
            let name = options::propagation_name(*propagation, *recursive);
            let what = format!("make {} {name}", self.destination);
            steps.push(self.step(op([0, 0, *propagation], *recursive), what));
        }
        steps
    }

    fn deferred(&self) -> Option<Step> {
        if !self.ro_later {
            return None;
        }
        let op = Op::SetAttrAt {
            path: (&self.destination).into(),
            set: options::RDONLY,
            clear: 0,
            propagation: 0,
            recursive: false,
        };
        Some(self.step(op, format!("make {} read-only", self.destination)))
    }

    fn attr_text(&self) -> String {
        let names = options::names(self.options.attrs);
        if names.is_empty() {
            names
        } else {
            [" (", &names, ")"].concat()
        }
    }
}

fn open_tree(path: &[u8], recursive: bool, nofollow: bool, into: Slot) -> InitOp {
    Op::OpenTree {
        path: path.into(),
        recursive,
        nofollow,
        into,
    }
}

/// Words as one text with a NUL behind each.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> Bytes {
    let mut text = Vec::new();
    for word in words {
        text.reserve(word.len() + 1);
        text.extend_from_slice(word.as_bytes());
        text.push(0);
    }
    Bytes(text)
}

/// The path without `.`, `..` and doubled slashes, as if `/` were the root.
pub(super) fn clean(path: &str) -> Cow<'_, str> {
    if is_clean(path) {
        return path.into();
    }
    let mut cleaned = String::with_capacity(path.len() + 1);
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => cleaned.truncate(cleaned.rfind('/').unwrap_or(0)),
            _ => {
                cleaned.push('/');
                cleaned.push_str(part);
            }
        }
    }
    if cleaned.is_empty() {
        cleaned.push('/');
    }
    cleaned.into()
}

/// Whether no part of an absolute path is empty or begins with a dot, as nearly always.
fn is_clean(path: &str) -> bool {
    let mut before = b' ';
    for byte in path.bytes() {
        if before == b'/' && matches!(byte, b'/' | b'.') {
            return false;
        }
        before = byte;
    }
    path.starts_with('/') && before != b'/'
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
            ("", "/"),
            ("a/b", "/a/b"),
            ("/a/b", "/a/b"),
            ("/a/.b/..c/", "/a/.b/..c"),
            ("/a/..", "/"),
            ("/a/b/../..//c/.", "/c"),
        ] {
            assert_eq!(clean(path), cleaned);
        }
    }
}
