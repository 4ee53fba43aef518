//! `conformance lane` and `conformance run --lane`: machines made and used.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::number;
use crate::lane::{Full, Kernel, Request, Uml};
use crate::mutate;
use crate::runtime::{self, Runtime};

/// Where a lane's machine sees the programs.
const HOST: &str = "/host";
/// Names a runtime that the lane's image has.
const IN_LANE: &str = "lane:";
/// The limit of a command that does not say one.
const COMMAND: Duration = Duration::from_secs(600);
/// The limit of all checks together: ten times what they need.
const CHECKS: Duration = Duration::from_secs(3600);

/// A lane's machine that can be booted.
enum Machine {
    Uml(Uml),
    Full(Full),
}

/// What the command line says about the machine.
#[derive(Debug, Default)]
struct Options {
    kernel: Option<Kernel>,
    limit: Option<Duration>,
    runtime: Option<String>,
}

impl Options {
    /// Takes an option that is about the machine; false if it is another one.
    fn take(
        &mut self,
        word: &str,
        value: impl FnOnce() -> Result<String, String>,
    ) -> Result<bool, String> {
        match word {
            "--kernel" => {
                let name = value()?;
                let kernel = Kernel::named(&name)
                    .ok_or_else(|| format!("--kernel {name}: there are 6.1 and newest"))?;
                self.kernel = Some(kernel);
            }
            "--limit" => self.limit = Some(Duration::from_secs(number(&value()?)?)),
            "--runtime" => self.runtime = Some(value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The machine, made if it is not there.
    fn build(&self, lane: &str) -> Result<Machine, String> {
        let built = match lane {
            "uml" | "full" if !rustix::process::geteuid().is_root() => {
                return Err(format!("the {lane} lane needs root"));
            }
            "uml" => Uml::build(self.kernel.unwrap_or_default()).map(Machine::Uml),
            "full" if self.kernel.is_some() => {
                return Err("the full lane has one kernel, --kernel is the uml lane's".to_owned());
            }
            "full" => Full::build().map(Machine::Full),
            other => {
                return Err(format!(
                    "{other}: no such lane, there are native, uml and full"
                ));
            }
        };
        built.map_err(|error| format!("{lane} lane: {error}"))
    }

    /// The programs that the machine sees, and the runtime among them that is tested.
    fn programs(&self) -> Result<(Programs, PathBuf), String> {
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut programs = vec![(OsString::from("conformance"), this)];
        programs.push((OsString::from("probe"), crate::built("probe")?));
        let given = self.runtime.as_deref();
        if let Some(inside) = given.and_then(|name| name.strip_prefix(IN_LANE)) {
            return Ok((programs, PathBuf::from(inside)));
        }
        let runtime = match given {
            Some(path) => std::fs::canonicalize(path).map_err(|e| format!("{path}: {e}"))?,
            None => Runtime::program_to_test()?,
        };
        if needs_loader(&runtime) {
            let path = runtime.display();
            return Err(format!(
                "{path}: not static, so the lane's machine can't run it; the machine's own \
                 are {IN_LANE}/usr/sbin/runc and {IN_LANE}/usr/bin/crun"
            ));
        }
        let name = runtime.file_name().unwrap_or_default().to_owned();
        let inside = Path::new(HOST).join(&name);
        programs.push((name, runtime));
        Ok((programs, inside))
    }

    fn request(&self, command: Vec<OsString>, limit: Duration) -> Result<Request, String> {
        let (programs, runtime) = self.programs()?;
        Ok(Request {
            programs,
            command,
            variables: vec![(runtime::VARIABLE, runtime.into_os_string())],
            limit: self.limit.unwrap_or(limit),
        })
    }
}

type Programs = Vec<(OsString, PathBuf)>;

/// Whether a program's header names an interpreter. elf(5)
fn needs_loader(program: &Path) -> bool {
    let bytes = std::fs::read(program).unwrap_or_default();
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at + size)?;
        let number = field
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        Some(number)
    };
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2))
    else {
        return false;
    };
    (0..count).any(|index| number(table + index * size, 4) == Some(3)) // PT_INTERP
}

/// `conformance lane build|run LANE ...`.
pub(super) fn lane(arguments: &[OsString]) -> Result<i32, String> {
    let usage = || "usage: lane build LANE, or lane run LANE -- COMMAND...".to_owned();
    let [what, lane, rest @ ..] = arguments else {
        return Err(usage());
    };
    let lane = lane.to_string_lossy();
    let mut options = Options::default();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let word = word.to_string_lossy();
        if word == "--" {
            break;
        }
        let value = || match rest.next() {
            Some(value) => Ok(value.to_string_lossy().into_owned()),
            None => Err(format!("{word} needs a value")),
        };
        if !options.take(&word, value)? {
            return Err(format!("{word}: unknown option of lane"));
        }
    }
    let command: Vec<OsString> = rest.cloned().collect();
    match what.to_str() {
        Some("build") if command.is_empty() => options.build(&lane).map(|_| 0),
        Some("run") if !command.is_empty() => {
            let request = options.request(command, COMMAND)?;
            boot(&options.build(&lane)?, &request)
        }
        _ => Err(usage()),
    }
}

/// `conformance run --lane LANE ...`: the same command, in one boot of the machine.
pub(super) fn checks(lane: &str, words: &[&str]) -> Result<i32, String> {
    let (options, rest) = options_of(words)?;
    let mut command = vec!["run"];
    command.extend(rest);
    in_one_boot(lane, &options, &command)
}

/// `conformance mutate --lane LANE ...`: the test build is made here. Without words it is
/// about the steps that the native lane's plans lack.
pub(super) fn mutate(lane: &str, words: &[&str]) -> Result<i32, String> {
    let (mut options, rest) = options_of(words)?;
    let built = match options.runtime.take() {
        Some(path) => path,
        None => mutate::build()?.to_string_lossy().into_owned(),
    };
    options.runtime = Some(built);
    let (_, inside) = options.programs()?;
    let inside = inside.to_string_lossy().into_owned();
    let mut command = vec!["mutate", "--needy", "--runtime", &inside];
    command.extend(rest);
    in_one_boot(lane, &options, &command)
}

/// What is about the machine, and all other words.
fn options_of<'a>(words: &[&'a str]) -> Result<(Options, Vec<&'a str>), String> {
    let mut options = Options::default();
    let mut rest = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = || match words.next() {
            Some(value) => Ok((*value).to_owned()),
            None => Err(format!("{word} needs a value")),
        };
        if !options.take(word, value)? {
            rest.push(*word);
        }
    }
    Ok((options, rest))
}

/// This program with these words, in the machine.
fn in_one_boot(lane: &str, options: &Options, words: &[&str]) -> Result<i32, String> {
    let mut command = vec![OsString::from(format!("{HOST}/conformance"))];
    command.extend(words.iter().map(OsString::from));
    let request = options.request(command, CHECKS)?;
    boot(&options.build(lane)?, &request)
}

fn boot(machine: &Machine, request: &Request) -> Result<i32, String> {
    match machine {
        Machine::Uml(uml) => uml.run(request).map_err(|e| format!("uml lane: {e}")),
        Machine::Full(full) => full.run(request).map_err(|e| format!("full lane: {e}")),
    }
}

/// Becomes a command that is killed when the process that started it ends.
pub(super) fn die_with_parent(command: &[OsString]) -> Result<i32, String> {
    let [program, arguments @ ..] = command else {
        return Err("die-with-parent: no command".to_owned());
    };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| format!("PR_SET_PDEATHSIG: {error}"))?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{}: {error}", program.display()))
}
