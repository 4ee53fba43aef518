//! Debian packages: those that this machine needs, and files out of any suite's.
//!
//! A package of another suite comes through a private apt directory: own sources list,
//! state and cache. Its mirror is the one that this machine's apt uses, only the suite
//! differs, and nothing of the machine's own apt or dpkg state is changed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache::{Work, output};
use super::context;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs packages on this machine if the programs are missing.
pub(super) fn install(work: &Work, needed: &[(&str, &str)]) -> io::Result<()> {
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    work.say(&format!("installing {}", missing.join(" ")));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "DPkg::Lock::Timeout=300"]);
        command.args(["-o", "Acquire::Retries=3"]);
        command
    };
    // A foreign source that can't be reached must not end it here.
    if let Err(error) = work.run(apt().arg("update")) {
        work.say(&format!("trying with the package lists at hand: {error}"));
    }
    work.run(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(missing),
    )
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .any(|folder| folder.join(program).is_file())
}

/// The first of this machine's Debian archives that is not the security archive.
pub(super) fn mirror() -> io::Result<String> {
    let text = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(COMPONENT) $(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    text.lines()
        .filter_map(|line| line.strip_prefix("main "))
        .find(|address| !address.contains("security"))
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("no Debian archive in this machine's apt sources"))
}

/// Fetches packages of a suite, without what they depend on, and unpacks them into `to`.
pub(super) fn unpack(work: &Work, suite: &str, packages: &[&str], to: &Path) -> io::Result<()> {
    let archive = Archive::open(work, &[suite])?;
    archive.unpack(packages, to)?;
    archive.close()
}

/// Some suites of this machine's mirror, beside those of its own apt.
pub(super) struct Archive<'w> {
    work: &'w Work,
    folder: PathBuf,
    suites: String,
}

impl<'w> Archive<'w> {
    /// Fetches the suites' lists of packages.
    pub(super) fn open(work: &'w Work, suites: &[&str]) -> io::Result<Self> {
        let folder = work.path().join("apt");
        for name in ["state/lists/partial", "cache/archives/partial", "packages"] {
            std::fs::create_dir_all(folder.join(name)).map_err(context(name))?;
        }
        std::fs::write(folder.join("status"), "")?;
        let mirror = mirror()?;
        let source = |suite: &&str| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        let sources: String = suites.iter().map(source).collect();
        std::fs::write(folder.join("sources.list"), sources)?;
        let archive = Self {
            work,
            folder,
            suites: suites.join(" and "),
        };
        work.run(archive.private("apt-get").arg("update"))?;
        Ok(archive)
    }

    /// Unpacks packages into `to`, without what they depend on.
    pub(super) fn unpack(&self, packages: &[&str], to: &Path) -> io::Result<()> {
        self.say(packages);
        let folder = self.folder.join("packages");
        let mut download = self.private("apt-get");
        download.arg("download").args(packages);
        self.work.run(download.current_dir(&folder))?;
        self.unpack_all(&folder, to)
    }

    /// Unpacks a package into `to`, with everything that it depends on down to the C
    /// library; where suites differ, from this one.
    pub(super) fn unpack_whole(&self, package: &str, suite: &str, to: &Path) -> io::Result<()> {
        self.say(&[package, "and its libraries"]);
        let mut install = self.private("apt-get");
        install.args([
            "install",
            "-y",
            "--download-only",
            "--no-install-recommends",
        ]);
        self.work.run(install.args(["-t", suite, package]))?;
        self.unpack_all(&self.folder.join("cache/archives"), to)
    }

    /// The package beginning like this that another one depends on.
    pub(super) fn dependency(&self, package: &str, start: &str) -> io::Result<String> {
        let text = output(self.private("apt-cache").args(["depends", package]))?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(start))
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other(format!("{package} depends on no {start}: {text}")))
    }

    /// Removes all of it.
    pub(super) fn close(self) -> io::Result<()> {
        std::fs::remove_dir_all(self.folder)
    }

    fn say(&self, packages: &[&str]) {
        let packages = packages.join(" ");
        self.work
            .say(&format!("fetching {packages} from {}", self.suites));
    }

    fn unpack_all(&self, folder: &Path, to: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let package = entry?.path();
            if package.extension().is_some_and(|suffix| suffix == "deb") {
                let mut unpack = Command::new("dpkg-deb");
                self.work.run(unpack.arg("-x").arg(&package).arg(to))?;
                std::fs::remove_file(package)?;
            }
        }
        Ok(())
    }

    /// A program of apt with this folder in place of the machine's own.
    fn private(&self, program: &str) -> Command {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        command.arg("-q=2");
        let options = [
            format!("Dir::State={}", at("state")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            // A mirror may hold an index of sid that is past its date.
            "Acquire::Check-Valid-Until=false".to_owned(),
            "Acquire::Check-Date=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            // Else a list that can't be fetched is only a warning.
            "APT::Update::Error-Mode=any".to_owned(),
            "APT::Get::AllowUnauthenticated=false".to_owned(),
        ];
        for option in options {
            command.args(["-o", &option]);
        }
        command
    }
}
