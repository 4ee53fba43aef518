//! A fresh bundle on disk: a small root file system with the probe in it, and a
//! config.json that a check can edit before use.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A bundle, removed with everything in it when dropped.
#[derive(Debug)]
pub struct Bundle {
    /// What config.json will hold; written by [`Bundle::write`].
    pub config: Value,
    path: PathBuf,
}

impl Bundle {
    /// Makes a bundle at `path`, which must not exist, with the probe as `/probe`.
    ///
    /// # Errors
    ///
    /// If a file can't be made; the error does not say which, the paths are all below
    /// `path`.
    pub fn new(path: &Path, config: Value, probe: &Path) -> io::Result<Self> {
        let bundle = Self {
            config,
            path: path.to_owned(),
        };
        for folder in ["proc", "sys", "dev", "etc", "tmp", "run", "bin"] {
            std::fs::create_dir_all(bundle.rootfs().join(folder))?;
        }
        // A link costs nothing; over a border of file systems it must be a copy.
        let inside = bundle.rootfs().join("probe");
        if std::fs::hard_link(probe, &inside).is_err() {
            std::fs::copy(probe, &inside)?;
        }
        bundle.file(
            "etc/passwd",
            "root:x:0:0:root:/root:/probe\nalice:x:1000:1000::/home/alice:/probe\n",
        )?;
        bundle.file("etc/group", "root:x:0:\nalice:x:1000:\n")?;
        Ok(bundle)
    }

    /// The bundle's own folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the root file system belong to this uid and gid, as one for a user
    /// namespace does, and lets everybody reach it.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn give_to(&self, id: u32) -> io::Result<()> {
        let mut folders = vec![self.rootfs()];
        while let Some(folder) = folders.pop() {
            std::os::unix::fs::lchown(&folder, Some(id), Some(id))?;
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() != "probe" {
                    // The probe is a hard link that all bundles share.
                    std::os::unix::fs::lchown(entry.path(), Some(id), Some(id))?;
                }
            }
        }
        Ok(())
    }

    /// The folder that becomes the container's root.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// Makes a file in the root file system, and the folders above it.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn file(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.rootfs().join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)
    }

    /// Makes an executable file in the root file system.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn program(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        self.file(name, "")?;
        let path = self.rootfs().join(name);
        std::fs::write(&path, contents)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
    }

    /// Puts this machine's static busybox into the root file system, `/bin/sh` linked to it.
    ///
    /// # Errors
    ///
    /// If there is none (Debian's busybox-static), or it can't be copied.
    pub fn busybox(&self) -> io::Result<()> {
        let path = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let path = path.ok_or_else(|| io::Error::other("no busybox: install busybox-static"))?;
        std::fs::copy(path, self.rootfs().join("bin/busybox"))?;
        std::os::unix::fs::symlink("busybox", self.rootfs().join("bin/sh"))
    }

    /// Sets `process.args`.
    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    /// Sets `process.args` to the probe with these arguments.
    pub fn probe(&mut self, args: &[&str]) -> &mut Self {
        let all: Vec<&str> = std::iter::once("/probe")
            .chain(args.iter().copied())
            .collect();
        self.args(&all)
    }

    /// Appends to a list in the configuration, by JSON pointer; an absent list is made.
    ///
    /// # Panics
    ///
    /// If something else than a list is there.
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, name) = pointer
            .rsplit_once('/')
            .expect("a JSON pointer has a slash");
        let parent = self
            .config
            .pointer_mut(parent)
            .expect("the object with the list exists");
        if parent[name].is_null() {
            parent[name] = json!([]);
        }
        parent[name]
            .as_array_mut()
            .expect("a list is appended to")
            .push(value);
        self
    }

    /// Puts the same capabilities into all five sets.
    pub fn capabilities(&mut self, names: &[&str]) -> &mut Self {
        let sets = [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ];
        let of = |set: &str| (set.to_owned(), json!(names));
        self.config["process"]["capabilities"] = sets.map(of).into_iter().collect();
        self
    }

    /// Drops the namespace of this kind from the configuration.
    pub fn without_namespace(&mut self, kind: &str) -> &mut Self {
        if let Some(list) = self.config["linux"]["namespaces"].as_array_mut() {
            list.retain(|namespace| namespace["type"] != kind);
        }
        self
    }

    /// Drops the mount with this destination from the configuration.
    pub fn without_mount(&mut self, destination: &str) -> &mut Self {
        if let Some(list) = self.config["mounts"].as_array_mut() {
            list.retain(|mount| mount["destination"] != destination);
        }
        self
    }

    /// Writes config.json.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn write(&self) -> io::Result<()> {
        std::fs::write(
            self.path.join("config.json"),
            format!("{:#}\n", self.config),
        )
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{}: not removed: {error}", self.path.display());
        }
    }
}
