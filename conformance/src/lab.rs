//! What a check is given: a runtime with a fresh state directory, bundles, containers.

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::runtime::{Output, Runtime};
use crate::{lane, wait};

/// The place of one check. Everything in it is gone when it is dropped, and what the
/// runtime left in its state directory is a failure.
#[derive(Debug)]
pub struct Lab {
    /// The runtime under test.
    pub runtime: Runtime,
    folder: PathBuf,
    probe: PathBuf,
    template: OnceCell<Value>,
    next: Cell<u32>,
}

impl Lab {
    /// Makes a lab for this runtime in a folder that does not exist yet.
    ///
    /// # Errors
    ///
    /// If it can't be made.
    pub fn new(program: PathBuf, folder: PathBuf) -> Result<Self, String> {
        let told = |error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(&folder).map_err(told)?;
        let probe = folder.join("probe");
        std::fs::copy(crate::built("probe")?, &probe).map_err(told)?;
        let runtime = Runtime::new(program, &folder).map_err(told)?;
        Ok(Self {
            runtime,
            folder,
            probe,
            template: OnceCell::new(),
            next: Cell::new(0),
        })
    }

    /// The lab's own folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the runtime is Corten, whose texts are compared exactly.
    #[must_use]
    pub fn is_corten(&self) -> bool {
        self.runtime.name() == "corten"
    }

    /// A container id that was not used yet.
    pub fn id(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("{}{}", lane::mark(), self.next.get())
    }

    /// A fresh bundle that prints the probe's facts: what the runtime's own `spec`
    /// writes, without a terminal.
    ///
    /// # Panics
    ///
    /// If it can't be made.
    pub fn bundle(&self) -> Bundle {
        let config = self.template.get_or_init(|| self.spec()).clone();
        let path = self.folder.join(format!("bundle-{}", self.id()));
        Bundle::new(&path, config, &self.probe).expect("the lab's folder is writable")
    }

    /// A fresh bundle that runs the probe with these arguments.
    pub fn bundle_of(&self, arguments: &[&str]) -> Bundle {
        let mut bundle = self.bundle();
        bundle.probe(arguments);
        bundle
    }

    fn spec(&self) -> Value {
        let folder = self.folder.join("spec");
        std::fs::create_dir(&folder).expect("the lab's folder is writable");
        let mut command = self.runtime.command();
        command.arg("spec").current_dir(&folder);
        let output = self.runtime.spawn(command).finish(wait::CALL).ok();
        let text = std::fs::read(folder.join("config.json"))
            .unwrap_or_else(|error| panic!("{error}: {output}"));
        std::fs::remove_dir_all(folder).expect("the lab's folder is writable");
        let mut config: Value = serde_json::from_slice(&text).expect("spec writes JSON");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/probe"]);
        config
    }

    /// Runs a bundle in the foreground to its end.
    pub fn run(&self, bundle: &Bundle) -> Output {
        self.command(&["run"], bundle, &self.id())
    }

    /// Runs a bundle to its end and returns the facts that its probe printed.
    pub fn facts(&self, bundle: &Bundle) -> Value {
        self.run(bundle).json()
    }

    /// Runs a bundle to its end by a runtime that another program starts: `<words>
    /// <runtime> run ...`. To see what a container inherits.
    ///
    /// # Panics
    ///
    /// If config.json can't be written.
    pub fn run_under(&self, words: &[&str], bundle: &Bundle) -> Output {
        bundle.write().expect("the lab's folder is writable");
        let mut command = std::process::Command::new(words[0]);
        command.args(&words[1..]).arg(self.runtime.program());
        command.arg("--root").arg(self.runtime.root());
        command
            .arg("run")
            .arg("--bundle")
            .arg(bundle.path())
            .arg(self.id());
        self.runtime.spawn(command).finish(wait::CALL)
    }

    /// Whether Corten says of this bundle that it can't do this field yet: the one line
    /// names the field, and nothing is left. False for what works; a peer is not asked.
    ///
    /// # Panics
    ///
    /// If it fails in another way.
    pub fn refuses(&self, bundle: &Bundle, field: &str) -> bool {
        if !self.is_corten() {
            return false;
        }
        let output = self.run(bundle);
        if output.status.success() {
            return false;
        }
        let text = output.stderr();
        let named = text.starts_with(&format!("corten: {field}"));
        assert!(named && text.contains("not supported yet"), "{output}");
        true
    }

    /// Creates a container, which may fail: see [`Container::creation`].
    pub fn try_create<'lab>(&'lab self, bundle: &'lab Bundle) -> Container<'lab> {
        let id = self.id();
        let creation = self.command(&["create"], bundle, &id);
        Container {
            lab: self,
            bundle,
            id,
            creation,
        }
    }

    /// Creates a container.
    ///
    /// # Panics
    ///
    /// If the runtime fails.
    pub fn create<'lab>(&'lab self, bundle: &'lab Bundle) -> Container<'lab> {
        let container = self.try_create(bundle);
        assert!(
            container.creation.status.success(),
            "{}",
            container.creation
        );
        container
    }

    /// Creates a container and starts it.
    ///
    /// # Panics
    ///
    /// If the runtime fails.
    pub fn start<'lab>(&'lab self, bundle: &'lab Bundle) -> Container<'lab> {
        let container = self.create(bundle);
        drop(container.call(&["start"]).ok());
        container
    }

    /// `<words> --bundle <bundle> <id>`, to its end.
    ///
    /// # Panics
    ///
    /// If config.json can't be written.
    pub fn command(&self, words: &[&str], bundle: &Bundle, id: &str) -> Output {
        bundle.write().expect("the lab's folder is writable");
        let path = bundle.path().to_string_lossy();
        self.runtime
            .call(&[words, &["--bundle", &path, id]].concat())
    }

    /// What is in the state directory, but for hidden files.
    #[must_use]
    pub fn state_directory(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.runtime.root())
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.starts_with('.')).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let left = self.state_directory();
        assert!(
            left.is_empty(),
            "left behind in the state directory: {left:?}"
        );
        std::fs::remove_dir_all(&self.folder).expect("the lab's folder is writable");
    }
}

/// A container, deleted by force when dropped.
#[derive(Debug)]
pub struct Container<'lab> {
    lab: &'lab Lab,
    /// It must outlive the container.
    bundle: &'lab Bundle,
    /// Its id.
    pub id: String,
    /// What `create` said. The container's own output goes where `create`'s went.
    pub creation: Output,
}

impl Container<'_> {
    /// `<words> <id>`, to its end.
    pub fn call(&self, words: &[&str]) -> Output {
        self.lab.runtime.call(&[words, &[&self.id]].concat())
    }

    /// `<word> <id> <words after>`, to its end.
    pub fn call_with(&self, word: &str, after: &[&str]) -> Output {
        self.lab.runtime.call(&[&[word, &self.id], after].concat())
    }

    /// What `state` prints.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[must_use]
    pub fn state(&self) -> Value {
        self.call(&["state"]).json()
    }

    /// The container's init, as the state tells it.
    ///
    /// # Panics
    ///
    /// If the state has none.
    #[must_use]
    pub fn pid(&self) -> u64 {
        self.state()["pid"].as_u64().expect("the state has a pid")
    }

    /// Waits until `state` says this status.
    ///
    /// # Panics
    ///
    /// If that does not happen in time.
    pub fn wait_for(&self, status: &str) {
        let seen = wait::until(wait::CALL, || {
            (self.state()["status"] == status).then_some(())
        });
        assert!(seen.is_some(), "not {status}: {}", self.state());
    }

    /// Its root file system.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.rootfs()
    }

    /// What the container itself has printed.
    #[must_use]
    pub fn printed(&self) -> String {
        self.creation.stdout()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Deleted by the check itself: nothing to do, and rc 0 for that as well.
        let output = self.lab.runtime.call(&["delete", "--force", &self.id]);
        assert!(
            output.status.success() || std::thread::panicking(),
            "{output}"
        );
    }
}
