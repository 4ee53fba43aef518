//! Help texts, drawn from the table of `flags`.

use crate::flags::{COMMANDS, Command, Flag, GLOBAL, HELP, Value};

pub(crate) const ABOUT: &str = "\
NAME runs containers from OCI bundles. A bundle is a directory with a config.json and a root
filesystem. NAME takes the command line of runc and can stand in for it.

    NAME spec                   write a config.json to start from
    NAME run [ -b DIR ] web     run the bundle in DIR as a container called web
";

/// What `help` and `--help` print.
pub(crate) fn program(name: &str) -> String {
    let mut text = format!(
        "NAME:\n   {name} - run OCI containers\n\n{}\n",
        ABOUT.replace("NAME", name)
    );
    text +=
        &format!("USAGE:\n   {name} [global options] command [command options] [arguments...]\n\n");
    text += concat!("VERSION:\n   ", env!("CARGO_PKG_VERSION"), "\n\n");
    text += "COMMANDS:\n";
    let help = ("help, h", "show this list, or the help of one command");
    let commands = COMMANDS
        .iter()
        .map(|command| (command.name, command.summary));
    text += &columns(&commands.chain([help]).map(own).collect::<Vec<_>>());
    text += "\nGLOBAL OPTIONS:\n";
    text + &options(GLOBAL)
}

/// What `help COMMAND` and `COMMAND --help` print.
pub(crate) fn command(name: &str, command: &Command) -> String {
    let mut usage = format!("{name} {} [command options]", command.name);
    if !command.arguments.is_empty() {
        usage += " ";
        usage += command.arguments;
    }
    let mut text = format!(
        "NAME:\n   {name} {} - {}\n\nUSAGE:\n   {usage}\n\n",
        command.name, command.summary
    );
    if !command.description.is_empty() {
        text += &format!(
            "DESCRIPTION:\n{}\n\n",
            command.description.replace("NAME", name)
        );
    }
    text + "OPTIONS:\n" + &options(command.flags)
}

fn options(flags: &'static [Flag]) -> String {
    let shown = flags.iter().chain([&HELP]).filter(|flag| !flag.hidden);
    columns(
        &shown
            .map(|flag| (spelling(flag), describe(flag)))
            .collect::<Vec<_>>(),
    )
}

fn spelling(flag: &Flag) -> String {
    let value = match flag.value {
        Value::Switch => String::new(),
        Value::Text(value) | Value::Number(value) => format!(" {value}"),
    };
    match flag.short {
        Some(short) => format!("--{}{value}, -{short}{value}", flag.long),
        None => format!("--{}{value}", flag.long),
    }
}

fn describe(flag: &Flag) -> String {
    match flag.default {
        Some(default) => format!("{} (default: {default})", flag.help),
        None => flag.help.to_owned(),
    }
}

fn own((left, right): (&str, &str)) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

fn columns(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(left, right)| format!("   {left:width$}  {right}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_a_command_names_every_flag_that_is_not_hidden() {
        for entry in COMMANDS {
            let text = command("corten", entry);
            for flag in entry.flags {
                assert_eq!(
                    text.contains(&format!("--{}", flag.long)),
                    !flag.hidden,
                    "{}",
                    flag.long
                );
            }
        }
    }

    #[test]
    fn called_runc_it_never_says_corten_but_for_the_default_root() {
        let mut all = program("runc");
        for entry in COMMANDS {
            all += &command("runc", entry);
        }
        assert!(!all.replace("/run/corten", "").contains("corten"));
        assert!(!all.contains("NAME s"));
    }

    #[test]
    fn the_help_of_start_reads_so() {
        let text = command("corten", crate::flags::command("start").unwrap());
        assert_eq!(
            text,
            "NAME:\n   corten start - start the program of a created container\n\nUSAGE:\n   \
             corten start [command options] <container-id>\n\nOPTIONS:\n   --help, -h  show this help\n"
        );
    }

    #[test]
    fn the_help_of_the_program_lists_every_command() {
        let text = program("corten");
        for entry in COMMANDS {
            assert!(
                text.contains(&format!("\n   {} ", entry.name)),
                "{}",
                entry.name
            );
        }
    }
}
