//! The one table of commands and flags.
//!
//! It is data only: the parser, the help texts and whatever else has to agree with them read it.
//! `NAME` in a text stands for the name the program was called by.

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing, or `=true` and `=false`.
    Switch,
    /// A text; the name stands for it in the help.
    Text(&'static str),
    /// A whole number that is not negative.
    Number(&'static str),
}

/// One flag of a command, or of the program.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<&'static str>,
    pub(crate) value: Value,
    pub(crate) default: Option<&'static str>,
    pub(crate) help: &'static str,
    pub(crate) hidden: bool,
}

impl Flag {
    const fn switch(long: &'static str, help: &'static str) -> Flag {
        Flag {
            long,
            short: None,
            value: Value::Switch,
            default: None,
            help,
            hidden: false,
        }
    }

    const fn text(long: &'static str, value: &'static str, help: &'static str) -> Flag {
        let value = Value::Text(value);
        Flag {
            long,
            short: None,
            value,
            default: None,
            help,
            hidden: false,
        }
    }

    const fn number(long: &'static str, value: &'static str, help: &'static str) -> Flag {
        let value = Value::Number(value);
        Flag {
            long,
            short: None,
            value,
            default: Some("0"),
            help,
            hidden: false,
        }
    }

    const fn short(self, short: &'static str) -> Flag {
        Flag {
            short: Some(short),
            ..self
        }
    }

    const fn or(self, default: &'static str) -> Flag {
        Flag {
            default: Some(default),
            ..self
        }
    }

    const fn hidden(self) -> Flag {
        Flag {
            hidden: true,
            ..self
        }
    }

    /// Whether the flag is called `name`, dashes not counted.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.long == name || self.short == Some(name)
    }
}

/// How many arguments a command takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Exactly(usize),
    Between(usize, usize),
}

/// The commands, by what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Check,
    Create,
    Delete,
    Events,
    Exec,
    Features,
    Kill,
    List,
    Pause,
    Plan,
    Ps,
    Resume,
    Run,
    Spec,
    Start,
    State,
    Update,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) action: Action,
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) arguments: &'static str,
    pub(crate) count: Count,
    pub(crate) description: &'static str,
    pub(crate) flags: &'static [Flag],
}

/// The command called `name`.
pub(crate) fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Understood by the program and by every command.
pub(crate) static HELP: Flag = Flag::switch("help", "show this help").short("h");

/// Flags that stand before the command.
pub(crate) static GLOBAL: &[Flag] = &[
    Flag::switch(
        "debug",
        "also write debug messages: every step of a start, and what it took",
    ),
    Flag::text("log", "FILE", "append errors and warnings to FILE"),
    Flag::text(
        "log-format",
        "FORMAT",
        "how to write to the log file: text or json",
    )
    .or("text"),
    Flag::text(
        "root",
        "DIR",
        "where the state of containers is kept, best on a tmpfs; without root rights below \
         $XDG_RUNTIME_DIR",
    )
    .or("/run/corten"),
    Flag::text("criu", "PATH", "ignored; criu is looked for in $PATH").hidden(),
    Flag::switch(
        "systemd-cgroup",
        "let systemd make the cgroups; cgroupsPath is slice:prefix:name",
    ),
    Flag::text(
        "cgroup-manager",
        "MANAGER",
        "who makes the cgroups: cgroupfs, systemd, or disabled for none",
    )
    .or("cgroupfs"),
    Flag::text(
        "rootless",
        "WHETHER",
        "go on where cgroups may not be written: true, false or auto",
    )
    .or("auto"),
    Flag::switch("version", "print the version").short("v"),
];

const BUNDLE: Flag = Flag::text(
    "bundle",
    "DIR",
    "the bundle: the directory with config.json",
)
.short("b")
.or(".");
const CONSOLE_SOCKET: Flag = Flag::text(
    "console-socket",
    "PATH",
    "AF_UNIX socket to which the master end of the container's terminal is sent",
);
const PIDFD_SOCKET: Flag = Flag::text(
    "pidfd-socket",
    "PATH",
    "AF_UNIX socket to which a pidfd of the container is sent",
);
const PID_FILE: Flag = Flag::text(
    "pid-file",
    "FILE",
    "write the container's process id to FILE, without a newline",
);
const NO_PIVOT: Flag = Flag::switch(
    "no-pivot",
    "change the root without pivot_root(2), for a rootfs on a ramdisk; less safe",
);
const NO_NEW_KEYRING: Flag = Flag::switch(
    "no-new-keyring",
    "keep the caller's session keyring instead of a new one",
);
const PRESERVE_FDS: Flag = Flag::number(
    "preserve-fds",
    "N",
    "pass N more open files to the container, counted after stdio and $LISTEN_FDS",
);
const TRACE: Flag = Flag::text(
    "trace",
    "FILE",
    "write the start-up, step by step, as Chrome trace JSON to FILE",
);

/// The flags of `exec`.
static EXEC: &[Flag] = &[
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    Flag::text("cwd", "DIR", "working directory in the container"),
    Flag::text(
        "env",
        "NAME=VALUE",
        "one more environment variable (repeatable)",
    )
    .short("e"),
    Flag::switch("tty", "give it a terminal").short("t"),
    Flag::text("user", "UID[:GID]", "user and group, as numbers").short("u"),
    Flag::text("additional-gids", "GID", "one more group (repeatable)").short("g"),
    Flag::text("process", "FILE", "take the process from this process.json").short("p"),
    Flag::switch("detach", "return as soon as the program has started").short("d"),
    PID_FILE,
    Flag::text("process-label", "LABEL", "SELinux label"),
    Flag::text("apparmor", "PROFILE", "AppArmor profile"),
    Flag::switch("no-new-privs", "execve gives no new privileges"),
    Flag::text("cap", "CAPABILITY", "one more capability (repeatable)").short("c"),
    PRESERVE_FDS,
    TRACE,
    Flag::text(
        "cgroup",
        "PATH",
        "a cgroup below the container's, which is there",
    ),
    Flag::switch(
        "ignore-paused",
        "start it in a paused container too: it goes on when that is resumed",
    ),
];

const ID: &str = "<container-id>";

/// All commands, in the order of the help.
pub(crate) static COMMANDS: &[Command] = &[
    Command {
        action: Action::Check,
        name: "check",
        summary: "print every problem of a bundle at once",
        arguments: "",
        count: Count::Exactly(0),
        description: "Prints what create would refuse, on this machine, and what weakens the \
                      container: errors\nfirst, one line each, with the place in config.json. \
                      Nothing is made or changed. Exits with 1\nif there are errors.",
        flags: &[
            BUNDLE,
            Flag::text("format", "FORMAT", "text or json").or("text"),
        ],
    },
    Command {
        action: Action::Create,
        name: "create",
        summary: "create a container, its program not yet started",
        arguments: ID,
        count: Count::Exactly(1),
        description: "Makes the container that the bundle's config.json describes and stops just \
                      before its\nprogram. `NAME start` lets the program go. The id is yours to \
                      choose; it must be unique\nbelow the root directory.",
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            TRACE,
        ],
    },
    Command {
        action: Action::Delete,
        name: "delete",
        summary: "remove what a container holds",
        arguments: ID,
        count: Count::Exactly(1),
        description: "Removes the cgroup and the state of a container that has stopped. One that \
                      was created\nand never started is killed first.",
        flags: &[Flag::switch(
            "force",
            "kill whatever still runs in it with SIGKILL; a missing container is no error",
        )
        .short("f")],
    },
    Command {
        action: Action::Events,
        name: "events",
        summary: "print what a container uses, and when it runs out of memory",
        arguments: ID,
        count: Count::Exactly(1),
        description: "Prints a line of JSON for each event, until the container has ended: its \
                      statistics each\ntime the interval is over, and `oom` when the kernel has \
                      killed something of it for want of\nmemory.",
        flags: &[
            Flag::text(
                "interval",
                "DURATION",
                "the time between two statistics, as 500ms or 1m30s",
            )
            .or("5s"),
            Flag::switch("stats", "print the statistics once, and nothing else"),
        ],
    },
    Command {
        action: Action::Exec,
        name: "exec",
        summary: "run one more program in a container",
        arguments: "<container-id> <command> [arguments...]",
        count: Count::Between(1, usize::MAX),
        description: "The process is as the container's own one, but for what the flags change; or as \
                      --process\nsays. In the foreground signals are passed on to it, and the exit \
                      status is its own, or 128\nand the signal's number. An error before the \
                      program runs is 255.\n\n    NAME exec -t web sh",
        flags: EXEC,
    },
    Command {
        action: Action::Features,
        name: "features",
        summary: "print what this runtime can do, as JSON",
        arguments: "",
        count: Count::Exactly(0),
        description: "Prints the features document of the OCI runtime specification. Needs no \
                      root rights.",
        flags: &[],
    },
    Command {
        action: Action::Kill,
        name: "kill",
        summary: "send a signal to the first process of a container",
        arguments: "<container-id> [signal]",
        count: Count::Between(1, 2),
        description: "The signal is a number, or a name with or without SIG, in any case. Without \
                      one it is\nSIGTERM.\n\n    NAME kill web HUP",
        flags: &[
            Flag::switch("all", "send it to every process of the container")
                .short("a")
                .hidden(),
        ],
    },
    Command {
        action: Action::List,
        name: "list",
        summary: "list the containers below the root directory",
        arguments: "",
        count: Count::Exactly(0),
        description: "",
        flags: &[
            Flag::text("format", "FORMAT", "table or json")
                .short("f")
                .or("table"),
            Flag::switch("quiet", "print the ids only").short("q"),
        ],
    },
    Command {
        action: Action::Pause,
        name: "pause",
        summary: "stop all processes of a container where they are",
        arguments: "<container-id>",
        count: Count::Exactly(1),
        description: "Comes back when all stand still. A process that does not within 10 s is \
                      named, and all go\non.",
        flags: &[],
    },
    Command {
        action: Action::Plan,
        name: "plan",
        summary: "print the steps that would make a container",
        arguments: "[container-id]",
        count: Count::Between(0, 1),
        description: "Prints each step in order: which half runs it, what it does, and the place \
                      in config.json\nit comes from. Nothing is made or changed and no root \
                      rights are needed. Without an id it\nplans for one called `container`.",
        flags: &[
            BUNDLE,
            Flag::text("format", "FORMAT", "text or json").or("text"),
            Flag::switch("run", "the steps of run, not of create and start"),
        ],
    },
    Command {
        action: Action::Ps,
        name: "ps",
        summary: "list the processes of a container",
        arguments: "<container-id> [ps-option...]",
        count: Count::Between(1, usize::MAX),
        description: "Runs ps(1), with -ef or the options given, and leaves out what is not of the \
                      container.\nIts list must have a column PID.",
        flags: &[Flag::text(
            "format",
            "FORMAT",
            "table, or json for the process ids alone",
        )
        .short("f")
        .or("table")],
    },
    Command {
        action: Action::Resume,
        name: "resume",
        summary: "let the processes of a paused container go on",
        arguments: "<container-id>",
        count: Count::Exactly(1),
        description: "",
        flags: &[],
    },
    Command {
        action: Action::Run,
        name: "run",
        summary: "create a container, start it and wait for it",
        arguments: ID,
        count: Count::Exactly(1),
        description: "Does create and start in one, passes signals on to the container, and \
                      deletes it when its\nprogram has ended. Exits with the program's own \
                      status, or 128 and the signal's number.",
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            Flag::switch("detach", "return as soon as the program has started").short("d"),
            Flag::switch("keep", "do not delete the container when it has ended"),
            PID_FILE,
            Flag::switch(
                "no-subreaper",
                "do not become the parent of orphaned processes",
            ),
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            TRACE,
        ],
    },
    Command {
        action: Action::Spec,
        name: "spec",
        summary: "write a config.json to start from",
        arguments: "",
        count: Count::Exactly(0),
        description: "The new config.json runs `sh` on a terminal, in the bundle's directory \
                      `rootfs`. Edit it\nto your needs. A config.json that is already there is \
                      not touched.",
        flags: &[
            BUNDLE,
            Flag::switch("rootless", "write one that needs no root rights"),
        ],
    },
    Command {
        action: Action::Start,
        name: "start",
        summary: "start the program of a created container",
        arguments: ID,
        count: Count::Exactly(1),
        description: "",
        flags: &[],
    },
    Command {
        action: Action::State,
        name: "state",
        summary: "print the state of a container as JSON",
        arguments: ID,
        count: Count::Exactly(1),
        description: "",
        flags: &[],
    },
    Command {
        action: Action::Update,
        name: "update",
        summary: "change the limits of a container",
        arguments: ID,
        count: Count::Exactly(1),
        description: "What is not named stays as it is, and so do device rules. All that is asked for \
                      is done, or\nnothing. Bytes may be given as 64k, 512m or 2g; -1 is no limit.",
        flags: UPDATE,
    },
];

const UPDATE: &[Flag] = &[
    Flag::text(
        "resources",
        "FILE",
        "read the limits from FILE (- for stdin), in the form of linux.resources; other flags \
         then do not count",
    )
    .short("r"),
    Flag::text("blkio-weight", "N", "share of disk time, 10 to 1000"),
    Flag::text(
        "cpu-period",
        "USEC",
        "length of a period; 0 for the usual one",
    ),
    Flag::text("cpu-quota", "USEC", "CPU time in each period"),
    Flag::text("cpu-burst", "USEC", "CPU time that may be saved up"),
    Flag::text("cpu-share", "N", "share of CPU time, 2 to 262144"),
    Flag::text("cpu-rt-period", "USEC", "refused: only cgroup v1 has it"),
    Flag::text("cpu-rt-runtime", "USEC", "refused: only cgroup v1 has it"),
    Flag::text(
        "cpu-idle",
        "0|1",
        "1: run only when nobody else wants the CPU",
    ),
    Flag::text("cpuset-cpus", "LIST", "CPUs to run on, as 0-3,7"),
    Flag::text("cpuset-mems", "LIST", "memory nodes to use"),
    Flag::text("memory", "BYTES", "memory"),
    Flag::text(
        "memory-reservation",
        "BYTES",
        "memory that is reclaimed last",
    ),
    Flag::text("memory-swap", "BYTES", "memory and swap together"),
    Flag::text("pids-limit", "N", "number of tasks"),
    Flag::text(
        "l3-cache-schema",
        "SCHEMA",
        "shares of the cache of the container's class of service",
    ),
    Flag::text(
        "mem-bw-schema",
        "SCHEMA",
        "shares of the memory's bandwidth of its class of service",
    ),
    Flag::text("kernel-memory", "BYTES", "ignored").hidden(),
    Flag::text("kernel-memory-tcp", "BYTES", "ignored").hidden(),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> impl Iterator<Item = (&'static str, &'static [Flag])> {
        COMMANDS
            .iter()
            .map(|c| (c.name, c.flags))
            .chain([("", GLOBAL)])
    }

    #[test]
    fn no_two_flags_of_a_command_share_a_name() {
        for (command, flags) in tables() {
            let mut names: Vec<_> = flags
                .iter()
                .chain([&HELP])
                .flat_map(|f| [Some(f.long), f.short])
                .flatten()
                .collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{command}");
        }
    }

    #[test]
    fn commands_are_sorted_by_name() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
    }

    #[test]
    fn a_switch_has_no_default() {
        for (_, flags) in tables() {
            assert!(
                flags
                    .iter()
                    .all(|f| f.value != Value::Switch || f.default.is_none())
            );
        }
    }

    #[test]
    fn create_and_run_take_the_flags_of_runc() {
        let both = [
            "bundle",
            "b",
            "console-socket",
            "pidfd-socket",
            "pid-file",
            "no-pivot",
            "no-new-keyring",
            "preserve-fds",
        ];
        for name in ["create", "run"] {
            let flags = command(name).unwrap().flags;
            for wanted in both {
                assert!(
                    flags.iter().any(|flag| flag.is(wanted)),
                    "{name} --{wanted}"
                );
            }
        }
        for wanted in ["detach", "d", "keep", "no-subreaper"] {
            assert!(
                command("run")
                    .unwrap()
                    .flags
                    .iter()
                    .any(|flag| flag.is(wanted))
            );
        }
    }
}
