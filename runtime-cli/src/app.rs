//! The program as a whole: its name, its global flags, and the way to a command.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use corten_core::spec::OCI_VERSION;
use corten_core::{Cgroups, Runtime};

use crate::failure::{Failure, Outcome};
use crate::flags::{self, Action, Command, Count, GLOBAL};
use crate::parse::{Matches, Place, parse};
use crate::{commands, help, logging, output, root};

/// What a command must know besides its own flags.
pub(crate) struct App {
    /// The name this program was called by, and calls itself by.
    pub(crate) program: &'static str,
    global: Matches,
}

/// Runs a command line, beginning with the program's name, and returns its exit status.
pub(crate) fn main(mut words: impl Iterator<Item = OsString>) -> u8 {
    let program = program(words.next().as_deref());
    run(program, words).unwrap_or_else(|failure| {
        logging::failure(program, &failure);
        failure.code
    })
}

/// Scripts look for runc's name where this program is installed as runc.
fn program(called: Option<&OsStr>) -> &'static str {
    let name = called.and_then(|called| Path::new(called).file_name());
    if name == Some(OsStr::new("runc")) {
        "runc"
    } else {
        "corten"
    }
}

fn version(program: &str) -> String {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("CORTEN_COMMIT"));
    format!("{program} version {version}\ncommit: {commit}\nspec: {OCI_VERSION}\n")
}

fn run(program: &'static str, words: impl Iterator<Item = OsString>) -> Outcome {
    let help = || help::program(program);
    let mut global = parse(GLOBAL, Place::First, words).map_err(|message| {
        let text = format!("Incorrect Usage. {message}\n\n{}", help());
        Failure::usage(message, text)
    })?;
    let mut words = std::mem::take(&mut global.arguments).into_iter();
    let name = words.next().map(|name| name.to_string_lossy().into_owned());
    if global.switch("help") || (name.is_none() && !global.switch("version")) {
        return output::print(&help()).map(|()| 0);
    }
    if global.switch("version") {
        return output::print(&version(program)).map(|()| 0);
    }
    let app = App { program, global };
    app.open_log()?;
    match name.unwrap_or_default().as_str() {
        "help" | "h" => match words.next() {
            None => output::print(&help()).map(|()| 0),
            Some(topic) => app.help(&topic.to_string_lossy()),
        },
        name => app.command(find(name)?, words),
    }
}

fn find(name: &str) -> Result<&'static Command, Failure> {
    let unknown = || Failure::new(format_args!("No help topic for '{name}'")).with_code(3);
    flags::command(name).ok_or_else(unknown)
}

impl App {
    fn open_log(&self) -> Result<(), Failure> {
        let format = logging::format(self.global.value("log-format"))?;
        let file = match self.global.value("log") {
            Some(path) if !path.is_empty() => Some((logging::open(Path::new(path))?, format)),
            _ => None,
        };
        logging::install(self.program, file, self.global.switch("debug"));
        if self.global.value("criu").is_some() {
            log::warn!("--criu: ignored, criu is looked for in $PATH");
        }
        Ok(())
    }

    fn help(&self, topic: &str) -> Outcome {
        output::print(&help::command(self.program, find(topic)?)).map(|()| 0)
    }

    fn command(&self, command: &Command, words: impl Iterator<Item = OsString>) -> Outcome {
        let usage = |message: String, introduction: String| {
            let help = help::command(self.program, command);
            Failure::usage(message, format!("{introduction}\n\n{help}"))
        };
        let place = match command.action {
            // What follows the id is another program's.
            Action::Exec | Action::Ps => Place::First,
            _ => Place::Anywhere,
        };
        let matches = parse(command.flags, place, words).map_err(|message| {
            let introduction = format!("Incorrect Usage: {message}");
            usage(message, introduction)
        })?;
        if matches.switch("help") {
            return self.help(command.name);
        }
        count(command, matches.arguments.len())
            .map_err(|message| usage(message, "Incorrect Usage.".to_owned()))?;
        self.act(command.action, &matches)
            .map_err(|failure| match command.action {
                Action::Create | Action::Run => {
                    failure.within(&format!("{} {} failed: ", self.program, command.name))
                }
                _ => failure,
            })
    }

    fn act(&self, action: Action, matches: &Matches) -> Outcome {
        // Called by its address, no command becomes part of this function: a frame with room for
        // what all of them hold would be touched for each.
        let run: fn(&App, &Matches) -> Outcome = match action {
            Action::Check => commands::check::run,
            Action::Create => commands::create::run,
            Action::Delete => commands::delete::run,
            Action::Events => commands::events::run,
            Action::Exec => commands::exec::run,
            Action::Features => |_, _| commands::features::run(),
            Action::Kill => commands::kill::run,
            Action::List => commands::list::run,
            Action::Pause => commands::pause::pause,
            Action::Plan => commands::plan::run,
            Action::Ps => commands::ps::run,
            Action::Resume => commands::pause::resume,
            Action::Run => commands::run::run,
            Action::Spec => |_, matches| commands::spec::run(matches),
            Action::Start => commands::start::run,
            Action::State => commands::state::run,
            Action::Update => commands::update::run,
        };
        run(self, matches)
    }

    /// The library, set up as the global flags say. What it can't do yet is refused here.
    pub(crate) fn runtime(&self) -> Result<Runtime, Failure> {
        let text = |flag| self.global.value(flag).map(|value| value.to_string_lossy());
        match text("rootless").as_deref() {
            None | Some("auto" | "false" | "") => {}
            Some("true") => return Err(Failure::new("--rootless true: not supported yet")),
            Some(other) => {
                let message = format_args!("--rootless: {other:?} is not true, false or auto");
                return Err(Failure::new(message));
            }
        }
        let cgroups = match text("cgroup-manager").as_deref() {
            None if self.global.switch("systemd-cgroup") => Cgroups::Systemd,
            None | Some("cgroupfs") => Cgroups::Fs,
            Some("disabled") => Cgroups::Disabled,
            Some("systemd") => Cgroups::Systemd,
            Some(other) => {
                let message = format_args!(
                    "--cgroup-manager: {other:?} is not cgroupfs, systemd or disabled"
                );
                return Err(Failure::new(message));
            }
        };
        let root = root::directory(self.global.value("root"))?;
        let builder = Runtime::builder().root(root).cgroups(cgroups);
        #[cfg(feature = "mutate")]
        let builder = builder.edit_plans(crate::mutate::edit, crate::mutate::two_steps());
        Ok(builder.build()?)
    }
}

/// Checks the number of arguments; an error is what runc says.
fn count(command: &Command, given: usize) -> Result<(), String> {
    let (what, number) = match command.count {
        Count::Exactly(wanted) if given != wanted => ("exactly", wanted),
        Count::Between(least, _) if given < least => ("a minimum of", least),
        Count::Between(_, most) if given > most => ("a maximum of", most),
        _ => return Ok(()),
    };
    Err(format!(
        "{:?} requires {what} {number} argument(s)",
        command.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_line(line: &str) -> Outcome {
        run("corten", line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_wrong_number_of_arguments_is_told_as_runc_tells_it() {
        for (line, text) in [
            ("create", "\"create\" requires exactly 1 argument(s)"),
            ("state a b", "\"state\" requires exactly 1 argument(s)"),
            ("list a", "\"list\" requires exactly 0 argument(s)"),
            ("kill", "\"kill\" requires a minimum of 1 argument(s)"),
            ("kill a 9 x", "\"kill\" requires a maximum of 2 argument(s)"),
        ] {
            let failure = run_line(line).unwrap_err();
            assert_eq!((failure.message.as_str(), failure.code), (text, 1));
            let help = failure.usage.unwrap();
            assert!(
                help.starts_with("Incorrect Usage.\n\nNAME:\n   corten "),
                "{help}"
            );
        }
    }

    #[test]
    fn an_unknown_command_is_no_help_topic() {
        for line in ["nosuch", "help nosuch"] {
            let failure = run_line(line).unwrap_err();
            assert_eq!(failure.message, "No help topic for 'nosuch'");
            assert_eq!(failure.code, 3);
        }
    }

    #[test]
    fn what_is_not_supported_yet_is_refused() {
        for (line, text) in [
            ("--rootless true list", "--rootless true: not supported yet"),
            (
                "--rootless maybe list",
                "--rootless: \"maybe\" is not true, false or auto",
            ),
            ("--log-format xml list", "invalid log-format: xml"),
        ] {
            assert_eq!(run_line(line).unwrap_err().message, text);
        }
    }

    #[test]
    fn the_version_has_three_lines_in_the_order_that_dockerd_reads() {
        let text = version("runc");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[0],
            concat!("runc version ", env!("CARGO_PKG_VERSION"))
        );
        assert!(lines[1].starts_with("commit: "));
        assert_eq!(lines[2], "spec: 1.3.0");
    }

    #[test]
    fn only_the_name_runc_changes_the_name() {
        assert_eq!(program(Some(OsStr::new("/usr/bin/runc"))), "runc");
        assert_eq!(program(Some(OsStr::new("/opt/runc/corten-1.0"))), "corten");
        assert_eq!(program(None), "corten");
    }
}
