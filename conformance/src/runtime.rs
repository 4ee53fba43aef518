//! The driver of a runtime's binary: every call has a limit and keeps its output.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{lane, mutate, wait};

/// The environment variable that names the runtime to test.
pub const VARIABLE: &str = "CORTEN_TEST_RUNTIME";

/// An OCI runtime's binary with a state directory of its own.
#[derive(Debug)]
pub struct Runtime {
    program: PathBuf,
    root: PathBuf,
    logs: PathBuf,
    calls: AtomicU32,
    flags: RefCell<Vec<&'static str>>,
}

impl Runtime {
    /// The runtime that [`VARIABLE`] names, or the `corten` built beside this program.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn program_to_test() -> Result<PathBuf, String> {
        match std::env::var_os(VARIABLE) {
            Some(path) => std::fs::canonicalize(&path)
                .map_err(|error| format!("{VARIABLE}={}: {error}", path.display())),
            None => crate::built("corten"),
        }
    }

    /// A runtime that keeps its state and its output in `folder`.
    ///
    /// # Errors
    ///
    /// If the folders can't be made.
    pub fn new(program: PathBuf, folder: &Path) -> io::Result<Self> {
        let (root, logs) = (folder.join("state"), folder.join("logs"));
        std::fs::create_dir_all(&logs)?;
        Ok(Self {
            program,
            root,
            logs,
            calls: AtomicU32::new(0),
            flags: RefCell::default(),
        })
    }

    /// Gives every command from here on this global option too.
    pub fn add_flag(&self, flag: &'static str) {
        self.flags.borrow_mut().push(flag);
    }

    /// The binary.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The state directory, as given by `--root`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The binary's file name.
    #[must_use]
    pub fn name(&self) -> String {
        self.program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// A command with the global options, no arguments yet and nothing inherited but PATH.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root);
        command.args(self.flags.borrow().iter());
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
        let is_ours = |name: &OsStr| name.as_bytes().starts_with(mutate::PREFIX.as_bytes());
        command.envs(std::env::vars_os().filter(|(name, _)| is_ours(name)));
        command
    }

    /// Runs one command of the runtime to its end.
    pub fn call<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null());
        self.spawn(command).finish(wait::CALL)
    }

    /// Starts a prepared command with its output kept.
    ///
    /// The output goes to files, not to pipes: a container may hold it open for longer
    /// than the command lives, and can't block on it.
    ///
    /// # Panics
    ///
    /// If the runtime can't be started at all.
    pub fn spawn(&self, command: Command) -> Call {
        self.spawn_by(command, |command| Ok((command.spawn()?, ())))
            .0
    }

    /// As [`Runtime::spawn`], but that a check starts the command itself.
    pub(crate) fn spawn_by<T>(
        &self,
        mut command: Command,
        start: impl FnOnce(&mut Command) -> io::Result<(Child, T)>,
    ) -> (Call, T) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.logs.join(format!("{number}.{kind}"));
        let (stdout, stderr) = (file("out"), file("err"));
        let create = |path: &Path| File::options().create(true).append(true).open(path);
        command.stdout(create(&stdout).expect("the logs folder is writable"));
        command.stderr(create(&stderr).expect("the logs folder is writable"));
        let text = format!("{command:?}");
        let started = start(&mut command).unwrap_or_else(|error| panic!("{text}: {error}"));
        let (child, more) = started;
        let call = Call {
            text,
            child,
            stdout,
            stderr,
        };
        (call, more)
    }
}

/// A command of the runtime that may still run.
#[derive(Debug)]
pub struct Call {
    text: String,
    /// The process itself.
    pub child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Call {
    /// Waits for the end of the command.
    ///
    /// # Panics
    ///
    /// If it takes longer than the limit; it is killed then.
    pub fn finish(mut self, limit: Duration) -> Output {
        let status = wait::child(&mut self.child, limit).expect("an own child can be waited for");
        let Some(status) = status else {
            self.child.kill().expect("an own child can be killed");
            let (stdout, stderr) = (read(&self.stdout), read(&self.stderr));
            panic!(
                "{}: still running after {limit:?}\nstdout: {stdout}\nstderr: {stderr}",
                self.text
            );
        };
        Output {
            text: self.text,
            status,
            stdout_file: self.stdout,
            stderr_file: self.stderr,
        }
    }

    /// All of stdout up to now.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Waits until the command, or its container, has written this to stdout.
    ///
    /// # Panics
    ///
    /// If that does not happen in time.
    pub fn wait_for_text(&self, text: &str) {
        wait_for_text(&self.stdout, text);
    }
}

fn wait_for_text(file: &Path, text: &str) {
    let seen = wait::until(wait::CALL, || read(file).contains(text).then_some(()));
    assert!(
        seen.is_some(),
        "waited for {text:?} in vain, got: {:?}",
        read(file)
    );
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// What a command of the runtime did.
#[derive(Debug)]
pub struct Output {
    text: String,
    /// How it ended.
    pub status: ExitStatus,
    stdout_file: PathBuf,
    stderr_file: PathBuf,
}

impl Output {
    /// Its exit code, 128 + signal if it was killed.
    #[must_use]
    pub fn code(&self) -> i32 {
        lane::exit_code(self.status)
    }

    /// All of stdout up to now: what a container that it left running wrote is in it too.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout_file)
    }

    /// All of stderr up to now.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr_file)
    }

    /// Waits until the command, or its container, has written this to stdout.
    ///
    /// # Panics
    ///
    /// If that does not happen in time.
    pub fn wait_for_text(&self, text: &str) {
        wait_for_text(&self.stdout_file, text);
    }

    /// The same, if the command was successful.
    ///
    /// # Panics
    ///
    /// With everything that is known, if it was not.
    #[must_use]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// stdout as JSON.
    ///
    /// # Panics
    ///
    /// If the command failed or its output is no JSON.
    #[must_use]
    pub fn json(self) -> serde_json::Value {
        let output = self.ok();
        serde_json::from_str(&output.stdout()).unwrap_or_else(|error| panic!("{error}: {output}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        write!(
            f,
            "{}: {}\nstdout: {stdout}\nstderr: {stderr}",
            self.text, self.status
        )
    }
}
