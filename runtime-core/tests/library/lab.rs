//! What a test is given: a runtime with a root of its own, bundles, and the promise
//! that whatever is left at the end is a failure.

use std::cell::Cell;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio as Pipes};
use std::time::Duration;

use corten_conformance::bundle::Bundle as Folder;
use corten_conformance::leaks::Snapshot;
use corten_conformance::{built, lane, wait};
use corten_core::{
    Bundle, Container, CreateOptions, Delete, Error, Exit, ExitStatus, Runtime, spec,
};
use serde_json::{Value, json};

/// How long anything may take that takes milliseconds on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The place of one test.
pub(crate) struct Lab {
    pub(crate) runtime: Runtime,
    folder: PathBuf,
    next: Cell<u32>,
    before: Snapshot,
}

/// Runs the body of a test in a lane, with a lab, and looks for leaks after it.
pub(crate) fn test(body: impl FnOnce(&Lab)) {
    lane::test(|| {
        let lab = Lab::new();
        body(&lab);
        lab.assert_clean();
    });
}

/// What a program said.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Lab {
    fn new() -> Lab {
        // The lane's /run is a tmpfs of its own.
        let folder = PathBuf::from("/run/lab");
        std::fs::create_dir(&folder).expect("/run is the lane's own");
        let probe = built("probe").unwrap_or_else(|error| panic!("{error}"));
        std::fs::copy(probe, folder.join("probe")).expect("/run is writable");
        let root = folder.join("state");
        std::fs::create_dir(&root).expect("/run is writable");
        let runtime = Runtime::builder().root(root);
        Lab {
            runtime: runtime.build().expect("the root is an absolute path"),
            folder,
            next: Cell::new(0),
            before: Snapshot::of_lane(),
        }
    }

    /// Processes, cgroups, files and mounts that were not there when the lab was made.
    ///
    /// What the kernel and the lane's own pid 1 do a moment later does not count.
    #[track_caller]
    fn assert_clean(&self) {
        assert_same(&self.before, "at the end", |_| true);
    }

    /// The same in the middle of a test: all but what is in these folders.
    #[track_caller]
    pub(crate) fn assert_clean_but(&self, folders: &[&Path]) {
        assert_same(&self.before, "so far", |line| {
            let is_in = |folder: &&Path| line.contains(&*folder.to_string_lossy());
            !folders.iter().any(is_in)
        });
    }

    /// No process is there that was not there when the lab was made.
    #[track_caller]
    pub(crate) fn assert_no_process(&self, at: &str) {
        assert_same(&self.before, at, |line| line.starts_with("process "));
    }

    /// The lab's own folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// An id that was not used yet.
    pub(crate) fn id(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("lab-{}", self.next.get())
    }

    /// A folder with a root file system and what `corten spec` writes, without terminal,
    /// for the probe with these arguments.
    pub(crate) fn bundle(&self, arguments: &[&str]) -> Folder {
        let mut config: Value = serde_json::from_str(&spec::to_json(&spec::default_spec()))
            .expect("a configuration is JSON");
        config["process"]["terminal"] = json!(false);
        let path = self.folder.join(format!("bundle-{}", self.id()));
        let mut folder = Folder::new(&path, config, &self.folder.join("probe"))
            .expect("the lab's folder is writable");
        folder.probe(arguments);
        folder
    }

    /// Creates a container from a folder, with new id.
    #[track_caller]
    pub(crate) fn create(&self, folder: &Folder, options: CreateOptions) -> Container {
        let bundle = load(folder);
        done(self.runtime.create(&self.id(), &bundle, options))
    }

    /// Runs a container to its end: how it ended and what it printed.
    #[track_caller]
    pub(crate) fn run(&self, folder: &Folder, options: CreateOptions) -> (Exit, String) {
        run(&self.runtime, &self.id(), &load(folder), options)
    }

    /// Runs the probe to its end and returns the facts that it printed.
    #[track_caller]
    pub(crate) fn facts(&self, folder: &Folder, options: CreateOptions) -> Value {
        let (exit, printed) = self.run(folder, options);
        assert_eq!(exit.status, ExitStatus::Code(0), "{printed}");
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// The `corten` command with this lab's root.
    pub(crate) fn corten(&self) -> Command {
        let mut command = Command::new(corten());
        command.arg("--root").arg(self.runtime.root());
        command
    }

    /// Creates a container by the command: its creator is gone when this comes back.
    #[track_caller]
    pub(crate) fn create_elsewhere(&self, folder: &Folder) -> Container {
        folder.write().expect("the lab's folder is writable");
        let id = self.id();
        let mut command = self.corten();
        command
            .arg("create")
            .arg("--bundle")
            .arg(folder.path())
            .arg(&id);
        // The container keeps what it gets here, and must not keep the pipes below open.
        let errors = self.folder.join("errors");
        command.stdin(Pipes::null()).stdout(Pipes::null());
        command.stderr(std::fs::File::create(&errors).expect("the lab's folder is writable"));
        let status = command.status().expect("corten starts");
        let told = std::fs::read_to_string(&errors).expect("just written");
        std::fs::remove_file(errors).expect("just written");
        assert!(status.success(), "{told}");
        done(self.runtime.container(&id))
    }
}

/// Nothing is there that was not there before, of the kind that counts.
#[track_caller]
pub(crate) fn assert_same(before: &Snapshot, at: &str, counts: impl Fn(&str) -> bool) {
    let left = left(before, LIMIT, counts);
    assert!(left.is_empty(), "{at}: left behind: {left:#?}");
}

/// What is there that was not there before, of the kind that counts, and stays.
pub(crate) fn left(
    before: &Snapshot,
    limit: Duration,
    counts: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut left = Vec::new();
    wait::until(limit, || {
        left = Snapshot::of_lane().since(before);
        // Made once for each program that embeds the library, and kept.
        left.retain(|line| !line.ends_with("/memfd:corten-init (deleted)"));
        left.retain(|line| counts(line));
        left.is_empty().then_some(())
    });
    left
}

/// The `corten` that was built beside this test.
pub(crate) fn corten() -> PathBuf {
    built("corten").unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// The bundle in a folder, whose config.json is written first.
#[track_caller]
pub(crate) fn load(folder: &Folder) -> Bundle {
    folder.write().expect("the lab's folder is writable");
    done(Bundle::load(folder.path()))
}

/// Creates, starts, waits and deletes: how it ended and what it printed.
#[track_caller]
pub(crate) fn run(
    runtime: &Runtime,
    id: &str,
    bundle: &Bundle,
    mut options: CreateOptions,
) -> (Exit, String) {
    let (mut reader, writer) = std::io::pipe().expect("there are descriptors");
    options.stdio.stdout = Some(writer.into());
    let mut container = done(runtime.create(id, bundle, options));
    done(container.start());
    let mut printed = String::new();
    reader
        .read_to_string(&mut printed)
        .expect("the probe prints UTF-8");
    let exit = done(container.wait());
    done(container.delete(Delete::IfStopped));
    (exit, printed)
}

/// What a call gave; its whole error if it failed.
#[track_caller]
pub(crate) fn done<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Gives a bundle a new user namespace, where root is uid 100000 of the machine.
#[track_caller]
pub(crate) fn in_user_namespace(folder: &mut Folder) {
    let map = json!([
        {"containerID": 0, "hostID": 100_000, "size": 1000},
        {"containerID": 1000, "hostID": 200_000, "size": 500},
    ]);
    folder.push("/linux/namespaces", json!({"type": "user"}));
    folder.config["linux"]["uidMappings"] = map.clone();
    folder.config["linux"]["gidMappings"] = map;
    folder.give_to(100_000).expect("root may");
}

/// Deletes a container in whatever state.
#[track_caller]
pub(crate) fn delete(container: Container) {
    done(container.delete(Delete::Force));
}
