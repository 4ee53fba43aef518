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
    work.say(&format!("fetching {} from {suite}", packages.join(" ")));
    let folder = work.path().join("apt");
    for name in ["state/lists/partial", "cache/archives/partial", "packages"] {
        std::fs::create_dir_all(folder.join(name)).map_err(context(name))?;
    }
    std::fs::write(folder.join("status"), "")?;
    let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
    std::fs::write(folder.join("sources.list"), source)?;

    work.run(private(&folder).arg("update"))?;
    work.run(private(&folder).arg("download").args(packages))?;
    for entry in std::fs::read_dir(folder.join("packages"))? {
        let package = entry?.path();
        work.run(Command::new("dpkg-deb").arg("-x").arg(package).arg(to))?;
    }
    std::fs::remove_dir_all(folder)
}

/// apt-get with this folder in place of the machine's own.
fn private(folder: &Path) -> Command {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("apt-get");
    command.arg("-qq").current_dir(folder.join("packages"));
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
        "APT::Get::AllowUnauthenticated=false".to_owned(),
    ];
    for option in options {
        command.args(["-o", &option]);
    }
    command
}
