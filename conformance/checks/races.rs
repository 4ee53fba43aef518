//! Paths of the image that are swapped for a link while the runtime uses them.
//!
//! Somebody who can write to the image's files, from another container with the same volume,
//! exchanges a folder with a link to one of the host: before the first call that takes a
//! path, in the next run before the second, and so on. Whatever the runtime makes of it, it
//! may fail; but nothing of the host is changed, and nothing is seen inside.

use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::namespaces;
use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::Lab;
use crate::runtime::Output;
use crate::{supervise, wait};

checks!("races":
    a_folder_that_becomes_a_link_leads_nothing_to_the_host,
    a_link_that_becomes_a_folder_leads_nothing_to_the_host,
    a_folder_that_is_swapped_all_the_time_leads_nothing_to_the_host,
    in_a_user_namespace_a_folder_that_becomes_a_link_leads_nothing_to_the_host,
    dev_that_becomes_a_link_leads_nothing_to_the_host,
    a_proc_that_becomes_a_link_is_masked_nevertheless,
    a_proc_that_is_swapped_all_the_time_is_masked_nevertheless,
);

/// What no container may see.
const MARK: &str = "mark-of-the-host";
/// For all runs of a check; in a slow lane only some of the calls get their turn.
const TIME: Duration = Duration::from_secs(25);

/// When paths are exchanged.
#[derive(Clone, Copy, Debug)]
enum Swap {
    /// Once, before the call of this number.
    At(usize),
    /// Before every call whose number divided by two leaves this.
    Always(usize),
}

impl Swap {
    fn is_due(self, call: usize) -> bool {
        match self {
            Self::At(at) => call == at,
            Self::Always(odd) => call % 2 == odd,
        }
    }
}

fn exchange(paths: &[PathBuf; 2]) {
    let [one, other] = paths;
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("both are there");
}

/// Runs a bundle, and says how many calls took a path.
fn run(lab: &Lab, bundle: &Bundle, paths: &[PathBuf; 2], swap: Option<Swap>) -> (Output, usize) {
    bundle.write().expect("the lab is writable");
    let mut command = lab.runtime.command();
    let id = lab.id();
    command
        .args(["run", "--bundle"])
        .arg(bundle.path())
        .arg(&id);
    let paths = paths.clone();
    let (call, answers) = lab.runtime.spawn_by(command, |command| {
        supervise::start(command, move |call| {
            if swap.is_some_and(|swap| swap.is_due(call)) {
                exchange(&paths);
            }
        })
    });
    let output = call.finish(wait::CALL);
    drop(lab.runtime.call(&["delete", "--force", &id]));
    (output, answers.join().expect("no swap fails"))
}

/// Runs the bundle that `make` makes, with a swap before each of the runtime's calls, and
/// each time looks at what came of it. A fresh bundle each time: the last run left its mark.
fn at_each_call(
    lab: &Lab,
    swaps: fn(usize) -> Swap,
    make: impl Fn(&Lab) -> (Bundle, [PathBuf; 2]),
    look: impl Fn(&Output, Swap),
) {
    let start = Instant::now();
    let (bundle, paths) = make(lab);
    let (output, calls) = run(lab, &bundle, &paths, None);
    look(&output.ok(), Swap::At(usize::MAX));
    assert!(calls > 20, "only {calls} calls");
    drop(bundle);
    let left = TIME.saturating_sub(start.elapsed()).as_millis();
    let one = start.elapsed().as_millis().max(1);
    let runs = usize::try_from(left / one).unwrap_or(usize::MAX).max(1);
    for number in (0..calls).step_by(calls.div_ceil(runs)) {
        let (bundle, paths) = make(lab);
        let swap = swaps(number);
        let (output, _) = run(lab, &bundle, &paths, Some(swap));
        look(&output, swap);
        // There are but two of this kind.
        if matches!(swap, Swap::Always(_)) && number > 2 {
            break;
        }
    }
}

/// A folder of the host, with what a container must not see or change.
struct Victim {
    path: PathBuf,
    before: Vec<String>,
    mounts: String,
}

impl Victim {
    fn new(lab: &Lab, owner: u32) -> Self {
        let path = lab.folder().join("victim");
        for folder in ["", "up", "masked", "frozen", "dev"] {
            let folder = path.join(folder);
            std::fs::create_dir_all(&folder).expect("the lab is writable");
            std::os::unix::fs::chown(&folder, Some(owner), Some(owner)).expect("root may");
        }
        for file in [MARK, "up/mark-of-the-host", "masked/mark-of-the-host"] {
            std::fs::write(path.join(file), "").expect("the lab is writable");
        }
        Self {
            before: listing(&path),
            path,
            mounts: mountinfo(),
        }
    }

    fn is_untouched(&self, output: &Output, swap: Swap) {
        assert_eq!(listing(&self.path), self.before, "{swap:?}: {output}");
        assert_eq!(mountinfo(), self.mounts, "{swap:?}: {output}");
        assert!(!output.stdout().contains(MARK), "{swap:?}: {output}");
    }
}

fn mountinfo() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").expect("a /proc")
}

/// All that is in a folder, with modes and owners.
fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("it is there").flatten() {
            let path = entry.path();
            let metadata = path.symlink_metadata().expect("it is there");
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let (mode, uid) = (metadata.st_mode(), metadata.st_uid());
            found.push(format!("{} {mode:o} {uid}", path.display()));
        }
    }
    found.sort();
    found
}

/// A bundle that does all there is to do below /vol, and looks for the host in the end.
fn volume(lab: &Lab, mut bundle: Bundle, victim: &Victim) -> (Bundle, [PathBuf; 2]) {
    for file in ["up/own", "masked/own", "frozen/own", "dev/own"] {
        let file = format!("vol/{file}");
        bundle.file(&file, "").expect("the lab is writable");
    }
    let source = lab.folder().join("source");
    std::fs::create_dir_all(&source).expect("the lab is writable");
    let file = source.join("file");
    std::fs::write(&file, "").expect("the lab is writable");
    for (source, to) in [(&source, "/vol/new/bound"), (&file, "/vol/a/new/file")] {
        let mount = json!({
            "destination": to, "type": "bind", "source": source, "options": ["bind", "ro"],
        });
        bundle.push("/mounts", mount);
    }
    let mount = json!({
        "destination": "/vol/up", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"],
    });
    bundle.push("/mounts", mount);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["cwd"] = json!("/vol/made/here");
    let fifo = json!({"path": "/vol/dev/fifo", "type": "p"});
    bundle.config["linux"]["devices"] = json!([fifo]);
    bundle.push("/linux/maskedPaths", json!("/vol/masked"));
    bundle.push("/linux/readonlyPaths", json!("/vol/frozen"));
    bundle.probe(&["find", MARK]);
    let link = bundle.rootfs().join("link");
    std::os::unix::fs::symlink(&victim.path, &link).expect("a fresh root");
    let vol = bundle.rootfs().join("vol");
    (bundle, [vol, link])
}

fn a_folder_that_becomes_a_link_leads_nothing_to_the_host(lab: &Lab) {
    let victim = Victim::new(lab, 0);
    at_each_call(
        lab,
        Swap::At,
        |lab| volume(lab, lab.bundle(), &victim),
        |output, swap| victim.is_untouched(output, swap),
    );
}

fn a_link_that_becomes_a_folder_leads_nothing_to_the_host(lab: &Lab) {
    let victim = Victim::new(lab, 0);
    at_each_call(
        lab,
        Swap::At,
        |lab| {
            let (bundle, paths) = volume(lab, lab.bundle(), &victim);
            exchange(&paths);
            (bundle, paths)
        },
        |output, swap| victim.is_untouched(output, swap),
    );
}

fn a_folder_that_is_swapped_all_the_time_leads_nothing_to_the_host(lab: &Lab) {
    let victim = Victim::new(lab, 0);
    at_each_call(
        lab,
        |number| Swap::Always(number % 2),
        |lab| volume(lab, lab.bundle(), &victim),
        |output, swap| victim.is_untouched(output, swap),
    );
}

fn in_a_user_namespace_a_folder_that_becomes_a_link_leads_nothing_to_the_host(lab: &Lab) {
    // Its root could write there.
    let victim = Victim::new(lab, 100_000);
    at_each_call(
        lab,
        Swap::At,
        |lab| {
            let (bundle, paths) = volume(lab, namespaces::user_namespace(lab), &victim);
            bundle.give_to(100_000).expect("root may");
            (bundle, paths)
        },
        |output, swap| victim.is_untouched(output, swap),
    );
}

fn dev_that_becomes_a_link_leads_nothing_to_the_host(lab: &Lab) {
    let victim = Victim::new(lab, 0);
    at_each_call(
        lab,
        Swap::At,
        |lab| {
            let mut bundle = lab.bundle_of(&["find", MARK]);
            bundle.config["root"]["readonly"] = json!(false);
            let paths = ["dev", "link"].map(|name| bundle.rootfs().join(name));
            std::os::unix::fs::symlink(&victim.path, &paths[1]).expect("a fresh root");
            (bundle, paths)
        },
        |output, swap| victim.is_untouched(output, swap),
    );
}

/// A bundle whose /proc can become a link to a folder that looks like one. It prints what can
/// be written of every procfs there is.
fn with_false_proc(lab: &Lab) -> (Bundle, [PathBuf; 2]) {
    let bundle = lab.bundle_of(&["every-proc"]);
    for file in ["sys/kernel/domainname", "self/attr/exec", "kcore"] {
        let file = format!("false/{file}");
        bundle.file(&file, "").expect("the lab is writable");
    }
    let link = bundle.rootfs().join("link");
    std::os::unix::fs::symlink("/false", &link).expect("a fresh root");
    let proc = bundle.rootfs().join("proc");
    (bundle, [proc, link])
}

/// The masks are on the procfs itself, wherever it is: nothing of it can be written.
fn masked(output: &Output, swap: Swap) {
    if output.status.success() {
        assert_eq!(output.stdout(), "[]\n", "{swap:?}: {output}");
    }
}

fn a_proc_that_becomes_a_link_is_masked_nevertheless(lab: &Lab) {
    at_each_call(lab, Swap::At, with_false_proc, masked);
}

fn a_proc_that_is_swapped_all_the_time_is_masked_nevertheless(lab: &Lab) {
    let swaps = |number| Swap::Always(number % 2);
    at_each_call(lab, swaps, with_false_proc, masked);
}
