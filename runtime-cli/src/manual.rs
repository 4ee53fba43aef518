//! The manual pages and completions, drawn from the table of `flags` when the tests run.
//!
//! They lie in the repository, so that installing is copying: `CORTEN_BLESS=1 cargo test -p
//! corten-cli` writes them again. Formats: groff_man(7), bash(1), zshcompsys(1), and fish's
//! `complete`.

use std::fmt::Write as _;
use std::path::Path;

use crate::flags::{COMMANDS, Command, Flag, GLOBAL, HELP, Value};
use crate::help::ABOUT;

const PROGRAM: &str = "corten";

/// When the texts were last written.
const DATE: &str = "2026-11-22";

/// Every file: its path below the package, and its text.
fn files() -> Vec<(String, String)> {
    let page = |command: &Command| {
        let name = command.name;
        (format!("man/{PROGRAM}-{name}.8"), command_page(command))
    };
    let mut files: Vec<_> = COMMANDS.iter().map(page).collect();
    files.push((format!("man/{PROGRAM}.8"), program_page()));
    files.push((format!("completions/{PROGRAM}.bash"), bash()));
    files.push((format!("completions/_{PROGRAM}"), zsh()));
    files.push((format!("completions/{PROGRAM}.fish"), fish()));
    files
}

fn shown(flags: &'static [Flag]) -> impl Iterator<Item = &'static Flag> {
    flags.iter().chain([&HELP]).filter(|flag| !flag.hidden)
}

fn named(text: &str) -> String {
    text.replace("NAME", PROGRAM)
}

// Manual pages.

/// Text of a manual page: no line is taken for a request.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}\n"),
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Paragraphs, with lines that are indented as examples.
fn paragraphs(text: &str) -> String {
    let mut page = String::new();
    for (index, paragraph) in text.split("\n\n").enumerate() {
        // A heading begins a paragraph of its own.
        if index > 0 {
            page += ".PP\n";
        }
        if paragraph.starts_with("    ") {
            let lines: Vec<_> = paragraph.lines().map(str::trim_start).collect();
            write!(page, ".EX\n{}.EE\n", roff(&lines.join("\n"))).unwrap();
        } else {
            page += &roff(paragraph);
        }
    }
    page
}

fn title(name: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let name = name.to_uppercase().replace('-', "\\-");
    format!(".TH {name} 8 {DATE} \"{PROGRAM} {version}\" \"System Administration\"\n")
}

fn options(flags: &'static [Flag]) -> String {
    let mut page = String::from(".SH OPTIONS\n");
    for flag in shown(flags) {
        let value = match flag.value {
            Value::Switch => String::new(),
            Value::Text(value) | Value::Number(value) => format!(" \\fI{value}\\fR"),
        };
        let long = flag.long.replace('-', "\\-");
        let mut spelling = format!("\\fB\\-\\-{long}\\fR{value}");
        if let Some(short) = flag.short {
            write!(spelling, ", \\fB\\-{short}\\fR{value}").unwrap();
        }
        let default = flag
            .default
            .map(|value| format!(" The default is {value}."));
        let help = format!("{}.{}", flag.help, default.unwrap_or_default());
        write!(page, ".TP\n{spelling}\n{}", roff(&help)).unwrap();
    }
    page
}

fn program_page() -> String {
    let mut page = title(PROGRAM);
    write!(page, ".SH NAME\n{PROGRAM} \\- run OCI containers\n").unwrap();
    write!(
        page,
        ".SH SYNOPSIS\n\\fB{PROGRAM}\\fR [\\fIglobal options\\fR] \\fIcommand\\fR [\\fIoptions\\fR] \
         [\\fIarguments\\fR]\n.SH DESCRIPTION\n"
    )
    .unwrap();
    page += &paragraphs(named(ABOUT).trim_end());
    page += ".SH COMMANDS\n";
    for Command { name, summary, .. } in COMMANDS {
        write!(
            page,
            ".TP\n\\fB{PROGRAM}\\-{name}\\fR(8)\n{}",
            roff(summary)
        )
        .unwrap();
    }
    page += &options(GLOBAL).replace(".SH OPTIONS", ".SH GLOBAL OPTIONS");
    page += ".SH EXIT STATUS\n";
    page += &paragraphs(
        "0 if all went well, 1 after an error, and 255 if exec fails before the process runs. \
         run and exec in the foreground exit with the status of the process, or with 128 and \
         the number of the signal that ended it.",
    );
    page
}

fn command_page(command: &Command) -> String {
    let Command {
        name,
        summary,
        arguments,
        description,
        ..
    } = command;
    let mut page = title(&format!("{PROGRAM}-{name}"));
    write!(page, ".SH NAME\n{PROGRAM}\\-{name} \\- {}", roff(summary)).unwrap();
    let arguments = arguments.replace('-', "\\-");
    let usage = format!("\\fB{PROGRAM} {name}\\fR [\\fIoptions\\fR] {arguments}");
    writeln!(page, ".SH SYNOPSIS\n{}", usage.trim_end()).unwrap();
    if !description.is_empty() {
        write!(page, ".SH DESCRIPTION\n{}", paragraphs(&named(description))).unwrap();
    }
    page += &options(command.flags);
    write!(page, ".SH SEE ALSO\n\\fB{PROGRAM}\\fR(8)\n").unwrap();
    page
}

// Completions.

/// What a value is completed with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Files,
    Directories,
    Anything,
}

fn kind(flag: &Flag) -> Option<Kind> {
    match flag.value {
        Value::Switch => None,
        Value::Text("DIR") => Some(Kind::Directories),
        Value::Text("FILE" | "PATH") => Some(Kind::Files),
        _ => Some(Kind::Anything),
    }
}

fn takes_id(command: &Command) -> bool {
    let makes = matches!(command.name, "create" | "run" | "plan");
    command.arguments.contains("container-id") && !makes
}

/// A template with `@NAME@` replaced, whole lines with their line break.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = template.replace("@PROGRAM@", PROGRAM);
    for (name, value) in values {
        let line = format!("@{name}@\n");
        let value_of_line = value.strip_suffix('\n').map(|_| value);
        if let Some(value) = value_of_line {
            text = text.replace(&line, value);
        }
        text = text.replace(&format!("@{name}@"), value);
    }
    text
}

fn spellings(flags: &'static [Flag], wanted: Option<Kind>) -> Vec<String> {
    let mut words = Vec::new();
    for flag in shown(flags).filter(|flag| wanted.is_none() || kind(flag) == wanted) {
        words.push(format!("--{}", flag.long));
        words.extend(flag.short.map(|short| format!("-{short}")));
    }
    words
}

fn bash() -> String {
    let names: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
    let every = |wanted| {
        let tables = COMMANDS.iter().map(|command| command.flags);
        let words = tables
            .chain([GLOBAL])
            .flat_map(|f| spellings(f, Some(wanted)));
        let mut words: Vec<_> = words.collect();
        words.sort();
        words.dedup();
        match words.is_empty() {
            true => "''".to_owned(),
            false => words.join(" | "),
        }
    };
    let mut cases = String::new();
    for command in COMMANDS {
        let flags = spellings(command.flags, None).join(" ");
        let ids = if takes_id(command) { "yes" } else { "" };
        let name = command.name;
        writeln!(cases, "        {name}) flags='{flags}' ids={ids} ;;").unwrap();
    }
    fill(
        include_str!("manual/corten.bash.in"),
        &[
            ("CASES", &cases),
            ("FILES", &every(Kind::Files)),
            ("DIRECTORIES", &every(Kind::Directories)),
            ("ANYTHING", &every(Kind::Anything)),
            ("GLOBAL", &spellings(GLOBAL, None).join(" ")),
            ("NAMES", &names.join(" ")),
        ],
    )
}

/// A text in single quotes, for zsh and fish.
fn quoted(text: &str, shell: &str) -> String {
    match shell {
        "fish" => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        _ => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn zsh_specs(flags: &'static [Flag]) -> String {
    let mut specs = String::new();
    for flag in shown(flags) {
        let help = flag.help.replace(['[', ']'], "").replace(':', "\\:");
        let action = match (kind(flag), flag.value) {
            (None, _) | (_, Value::Switch) => String::new(),
            (Some(Kind::Files), Value::Text(value) | Value::Number(value)) => {
                format!(":{value}:_files")
            }
            (Some(Kind::Directories), Value::Text(value) | Value::Number(value)) => {
                format!(":{value}:_files -/")
            }
            (Some(Kind::Anything), Value::Text(value) | Value::Number(value)) => {
                format!(":{value}: ")
            }
        };
        let names = [
            Some(format!("--{}", flag.long)),
            flag.short.map(|short| format!("-{short}")),
        ];
        for name in names.into_iter().flatten() {
            let spec = quoted(&format!("{name}[{help}]{action}"), "zsh");
            write!(specs, " \\\n                {spec}").unwrap();
        }
    }
    specs
}

fn zsh() -> String {
    let mut commands = String::new();
    let mut cases = String::new();
    for command in COMMANDS {
        let entry = quoted(&format!("{}:{}", command.name, command.summary), "zsh");
        writeln!(commands, "        {entry}").unwrap();
        let rest = match (takes_id(command), command.arguments) {
            (true, _) => "'1:container:_corten_containers' '*: : '",
            (false, "") => "",
            (false, _) => "'*: : '",
        };
        let specs = zsh_specs(command.flags);
        writeln!(
            cases,
            "        {})\n            _arguments{specs} {rest}\n            ;;",
            command.name
        )
        .unwrap();
    }
    fill(
        include_str!("manual/_corten.in"),
        &[
            ("COMMANDS", &commands),
            ("CASES", &cases),
            ("GLOBAL", &zsh_specs(GLOBAL)),
        ],
    )
}

fn fish() -> String {
    let mut script = format!(
        "# Completion of {PROGRAM} for fish. Made from the table of flags; do not edit.\n\n\
         complete -c {PROGRAM} -f\n"
    );
    let flag_line = |condition: &str, flag: &Flag| {
        let short = flag
            .short
            .map(|short| format!(" -s {short}"))
            .unwrap_or_default();
        let value = match kind(flag) {
            None => "",
            Some(Kind::Files) => " -rF",
            Some(Kind::Directories) => " -xa '(__fish_complete_directories)'",
            Some(Kind::Anything) => " -x",
        };
        let help = quoted(flag.help, "fish");
        format!(
            "complete -c {PROGRAM} -n '{condition}' -l {}{short}{value} -d {help}\n",
            flag.long
        )
    };
    for flag in shown(GLOBAL) {
        script += &flag_line("__fish_use_subcommand", flag);
    }
    for command in COMMANDS {
        let (name, summary) = (command.name, quoted(command.summary, "fish"));
        writeln!(
            script,
            "complete -c {PROGRAM} -n '__fish_use_subcommand' -a {name} -d {summary}"
        )
        .unwrap();
        let condition = format!("__fish_seen_subcommand_from {name}");
        for flag in shown(command.flags) {
            script += &flag_line(&condition, flag);
        }
        if takes_id(command) {
            writeln!(
                script,
                "complete -c {PROGRAM} -n '{condition}' -a '({PROGRAM} list -q 2>/dev/null)'"
            )
            .unwrap();
        }
    }
    script
}

#[test]
fn manual_pages_and_completions_are_those_of_the_table() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut different = Vec::new();
    let files = files();
    for (name, text) in &files {
        let path = package.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == *text) {
            continue;
        }
        if std::env::var_os("CORTEN_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        different.push(name);
    }
    for folder in ["man", "completions"] {
        for entry in std::fs::read_dir(package.join(folder)).unwrap() {
            let name = format!(
                "{folder}/{}",
                entry.unwrap().file_name().into_string().unwrap()
            );
            assert!(
                files.iter().any(|(made, _)| *made == name),
                "{name}: of no command"
            );
        }
    }
    assert!(
        different.is_empty(),
        "not what the table says: {different:?}\nCORTEN_BLESS=1 cargo test -p corten-cli writes them"
    );
}

/// What bash would offer for these words.
fn offered(words: &[&str]) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/completions/corten.bash");
    let ask = r#". "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _corten; echo "${COMPREPLY[@]}""#;
    let output = std::process::Command::new("bash")
        .args(["-c", ask, "bash", script])
        .args(words)
        .output()
        .expect("bash is essential in Debian");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_directories() {
    assert_eq!(offered(&["corten", "ki"]), ["kill"]);
    assert_eq!(offered(&["corten", "--systemd"]), ["--systemd-cgroup"]);
    let before = ["corten", "--root", "/x", "--debug"];
    assert_eq!(
        offered(&[&before[..], &["sta"]].concat()),
        ["start", "state"]
    );
    assert_eq!(offered(&["corten", "run", "--bun"]), ["--bundle"]);
    assert_eq!(offered(&["corten", "help", "res"]), ["resume"]);
    assert_eq!(offered(&["corten", "run", "--bundle", "/us"]), ["/usr"]);
    assert!(offered(&["corten", "create", "--preserve-fds", ""]).is_empty());
}
