//! The command line, in the syntax of Go's `flag` package.

use std::ffi::OsString;
use std::path::PathBuf;

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Start a shim, or find the one of the group, and print its address.
    Start,
    /// Remove what a shim left.
    Delete,
    /// Be the process of a sandbox; for the shim itself.
    Pause,
    /// Go on with the events that `delete` could not publish; for the shim itself.
    Publish,
    /// Be the shim.
    #[default]
    Daemon,
}

/// A command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// `-namespace`: containerd's, not the kernel's.
    pub namespace: String,
    /// `-id`: the container.
    pub id: String,
    /// `-address`: containerd's gRPC socket.
    pub address: String,
    /// `-publish-binary`: containerd's own program. Events go over ttrpc instead.
    pub containerd: PathBuf,
    /// `-bundle`: only with `delete`.
    pub bundle: PathBuf,
    /// `-socket`: where the daemon listens, if it is not given a socket.
    pub socket: String,
    /// `-debug`: more in the log.
    pub debug: bool,
    /// `-v`: print the version.
    pub version: bool,
    /// `-info`: describe the runtime.
    pub info: bool,
    /// The first word that is no flag.
    pub action: Action,
}

impl Args {
    /// Reads a command line without the program's name.
    ///
    /// # Errors
    /// Says which flag or value is wrong.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, String> {
        let mut args = Args::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let text = word.to_string_lossy().into_owned();
            let Some(flag) = text.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
                args.action = action(&text)?;
                return Ok(args);
            };
            if flag == "-" {
                if let Some(word) = words.next() {
                    args.action = action(&word.to_string_lossy())?;
                }
                return Ok(args);
            }
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if let Some(switch) = args.switch(name) {
                *switch = is_true(name, value.as_deref())?;
                continue;
            }
            let value = value.or_else(|| words.next().map(|word| word.to_string_lossy().into()));
            args.set(name, value)?;
        }
        Ok(args)
    }

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "debug" => Some(&mut self.debug),
            "v" => Some(&mut self.version),
            "info" => Some(&mut self.info),
            _ => None,
        }
    }

    fn set(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let needed = || format!("flag needs an argument: -{name}");
        match name {
            "namespace" => self.namespace = value.ok_or_else(needed)?,
            "id" => self.id = value.ok_or_else(needed)?,
            "address" => self.address = value.ok_or_else(needed)?,
            "bundle" => self.bundle = value.ok_or_else(needed)?.into(),
            "socket" => self.socket = value.ok_or_else(needed)?,
            "publish-binary" => self.containerd = value.ok_or_else(needed)?.into(),
            // There is no debug server.
            "debug-socket" => drop(value.ok_or_else(needed)?),
            _ => return Err(format!("flag provided but not defined: -{name}")),
        }
        Ok(())
    }
}

fn action(word: &str) -> Result<Action, String> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        "pause" => Ok(Action::Pause),
        "publish" => Ok(Action::Publish),
        "" => Ok(Action::Daemon),
        other => Err(format!("unknown action {other:?}")),
    }
}

/// What Go's `strconv.ParseBool` takes.
fn is_true(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(format!("invalid boolean value {other:?} for -{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, String> {
        Args::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let args = parse(&[
            "-namespace",
            "default",
            "--address=/run/c.sock",
            "-publish-binary",
            "/usr/bin/containerd",
            "-id",
            "web",
            "-debug",
            "start",
        ])
        .unwrap();
        assert_eq!(args.namespace, "default");
        assert_eq!(args.address, "/run/c.sock");
        assert_eq!(args.id, "web");
        assert!(args.debug);
        assert_eq!(args.action, Action::Start);
    }

    #[test]
    fn without_a_word_it_is_the_daemon() {
        assert_eq!(parse(&["-id", "x"]).unwrap().action, Action::Daemon);
        assert!(!parse(&["-debug=false"]).unwrap().debug);
    }

    #[test]
    fn the_word_behind_two_dashes_is_the_action() {
        assert_eq!(parse(&["--", "delete"]).unwrap().action, Action::Delete);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert!(parse(&["-frob"]).unwrap_err().contains("-frob"));
        assert!(parse(&["-id"]).unwrap_err().contains("-id"));
        assert!(parse(&["restart"]).unwrap_err().contains("restart"));
        assert!(parse(&["-debug=perhaps"]).unwrap_err().contains("perhaps"));
    }
}
