//! The profiles that Docker and podman give to containers by default, as their packages in
//! Debian have them: `scripts/profiles.sh` fetches these.
//!
//! The engines' own form: a rule may be for some architectures, capabilities or kernels only.

use std::io::Write as _;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::seccomp::Architecture;
use crate::spec::Seccomp;

/// What a rule depends on. Every kernel of today is newer than any `minKernel`.
#[derive(Default, Deserialize)]
struct Filter {
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    caps: Vec<String>,
}

/// The capabilities that podman gives by default. Docker adds three that its profile does not
/// look at.
const USUAL: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Whose container it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caps {
    Usual,
    All,
}

impl Caps {
    fn has(self, name: &str) -> bool {
        self == Caps::All || USUAL.contains(&name)
    }
}

/// As Go names it.
fn name_of(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 | Architecture::X86 | Architecture::X32 => "amd64",
        Architecture::Aarch64 | Architecture::Arm => "arm64",
        Architecture::Riscv64 => "riscv64",
        Architecture::Ppc64le => "ppc64le",
        Architecture::S390x => "s390x",
    }
}

/// What a package's profile is in a container's config.json.
fn resolve(mut profile: Value, native: Architecture, caps: Caps) -> Seccomp {
    let own = name_of(native);
    let filter = |rule: &Value, field: &str| -> Filter {
        serde_json::from_value(rule[field].clone()).unwrap_or_default()
    };
    let applies = |rule: &Value| {
        let (with, without) = (filter(rule, "includes"), filter(rule, "excludes"));
        let is_own = |name: &String| name == own;
        (with.arches.is_empty() || with.arches.iter().any(is_own))
            && with.caps.iter().all(|name| caps.has(name))
            && !without.arches.iter().any(is_own)
            && !without.caps.iter().any(|name| caps.has(name))
    };
    let rules = profile["syscalls"].as_array_mut().unwrap();
    rules.retain(applies);
    serde_json::from_value(profile).unwrap()
}

/// One of `docker` and `podman`; without its file the test is skipped, and counted as such.
pub(super) fn profile(engine: &str, native: Architecture, caps: Caps) -> Option<Seccomp> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|path| !path.as_os_str().is_empty());
    let cache = cache.or_else(home).unwrap_or_default();
    let path = cache.join(format!("corten/profiles/{engine}.json"));
    let Ok(bytes) = std::fs::read(&path) else {
        skip(&format!(
            "{} is missing: scripts/profiles.sh",
            path.display()
        ));
        return None;
    };
    Some(resolve(
        serde_json::from_slice(&bytes).unwrap(),
        native,
        caps,
    ))
}

fn skip(why: &str) {
    let line = format!("libseccomp_gives_the_same_answers_for_the_engines_profiles: {why}");
    eprintln!("{line}");
    let Some(file) = std::env::var_os("CORTEN_SKIPS") else {
        return;
    };
    let file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(file);
    writeln!(file.unwrap(), "{line}").unwrap();
}
