//! The built command, as an engine or a script sees it: output, log file, exit status.
//!
//! Nothing here makes a container, so no root rights are needed.

#![allow(clippy::unwrap_used)] // an integration test has no `cfg(test)` that would allow it

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const CORTEN: &str = env!("CARGO_BIN_EXE_corten");

/// A directory of its own for a test, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("corten-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Runs the command with its state below this directory.
    fn corten(&self, arguments: &[&str]) -> Output {
        let root = self.path("state");
        Command::new(CORTEN)
            .args(["--root", &root])
            .args(arguments)
            .output()
            .unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn corten(arguments: &[&str]) -> Output {
    Command::new(CORTEN).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn an_error_is_one_line_with_the_name_of_the_program() {
    let output = Dir::new("one-line").corten(&["state", "nosuch"]);
    assert_eq!(stderr(&output), "corten: container does not exist\n");
    assert_eq!(stdout(&output), "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn with_a_log_file_stderr_has_the_bare_message_and_the_file_the_line() {
    let dir = Dir::new("log-text");
    let log = dir.path("log");
    for _ in 0..2 {
        let output = dir.corten(&["--log", &log, "state", "nosuch"]);
        assert_eq!(stderr(&output), "container does not exist\n");
    }
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let (time, rest) = lines[0].split_once(' ').unwrap();
    assert_eq!(rest, "level=error msg=\"container does not exist\"");
    assert!(
        time.starts_with("time=\"2") && time.ends_with("Z\""),
        "{time}"
    );
    assert_eq!(time.len(), "time=\"2026-11-21T21:04:45Z\"".len());
    assert_eq!(
        fs::metadata(&log).unwrap().permissions().mode() & 0o777,
        0o644
    );
}

#[test]
fn a_failed_create_says_so_in_the_log_only() {
    let dir = Dir::new("log-json");
    let (log, bundle) = (dir.path("log"), dir.path("nosuch"));
    let flags = [
        "--log",
        &log,
        "--log-format",
        "json",
        "create",
        "--bundle",
        &bundle,
        "web",
    ];
    let output = dir.corten(&flags);
    let message = stderr(&output).trim_end();
    assert!(
        message.contains("nosuch") && !message.contains("corten create failed"),
        "{message}"
    );
    let line: serde_json::Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], format!("corten create failed: {message}"));
}

#[test]
fn a_log_file_that_cannot_be_opened_is_an_error() {
    let output = corten(&["--log", "/nonexistent/log", "list"]);
    assert_eq!(
        stderr(&output),
        "corten: open /nonexistent/log: no such file or directory\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_usage_error_has_the_help_on_stdout_and_the_bare_reason_on_stderr() {
    let output = corten(&["create"]);
    assert_eq!(
        stderr(&output),
        "\"create\" requires exactly 1 argument(s)\n"
    );
    assert!(stdout(&output).contains("corten create [command options] <container-id>"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn linked_as_runc_it_calls_itself_runc() {
    let dir = Dir::new("runc");
    let runc = dir.path("runc");
    symlink(CORTEN, &runc).unwrap();
    let run = |arguments: &[&str]| Command::new(&runc).args(arguments).output().unwrap();
    assert!(stdout(&run(&["--version"])).starts_with("runc version "));
    assert!(stdout(&run(&["help", "run"])).starts_with("NAME:\n   runc run - "));
    let root = dir.path("state");
    let output = run(&["--root", &root, "state", "nosuch"]);
    assert_eq!(stderr(&output), "runc: container does not exist\n");
}

#[test]
fn an_empty_list_is_a_header_or_null() {
    let dir = Dir::new("list");
    let header = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
    assert_eq!(stdout(&dir.corten(&["list"])), header);
    assert_eq!(stdout(&dir.corten(&["list", "-f", "json"])), "null\n");
    assert_eq!(stdout(&dir.corten(&["list", "-q"])), "");
    let output = dir.corten(&["list", "-f", "xml"]);
    assert_eq!(stderr(&output), "corten: invalid format option\n");
}

#[test]
fn deleting_what_is_not_there_is_an_error_but_with_force() {
    let dir = Dir::new("delete");
    let output = dir.corten(&["delete", "nosuch"]);
    assert_eq!(stderr(&output), "corten: container does not exist\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        dir.corten(&["delete", "--force", "nosuch"]).status.code(),
        Some(0)
    );
}

#[test]
fn a_spec_is_written_once_and_never_over_another() {
    let dir = Dir::new("spec");
    let bundle = dir.path("");
    assert!(dir.corten(&["spec", "--bundle", &bundle]).status.success());
    let text = fs::read_to_string(dir.path("config.json")).unwrap();
    assert!(text.starts_with("{\n\t\"ociVersion\""), "{text}");
    let output = dir.corten(&["spec", "--bundle", &bundle]);
    assert_eq!(
        stderr(&output),
        "corten: File config.json exists. Remove it first\n"
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(dir.path("config.json")).unwrap(), text);
}

#[test]
fn a_terminal_that_nobody_would_hold_is_refused() {
    let dir = Dir::new("terminal");
    let bundle = dir.path("");
    assert!(dir.corten(&["spec", "--bundle", &bundle]).status.success());
    fs::create_dir(dir.path("rootfs")).unwrap();
    let output = dir.corten(&["create", "--bundle", &bundle, "web"]);
    assert_eq!(
        stderr(&output),
        "corten: cannot allocate tty if corten will detach without setting console socket\n"
    );
    assert!(!fs::exists(dir.path("state/web")).unwrap());
}

#[test]
fn files_to_preserve_must_be_the_callers_and_not_the_commands_own() {
    let dir = Dir::new("preserve");
    fs::write(dir.path("config.json"), "{}").unwrap();
    let (log, bundle) = (dir.path("log"), dir.path(""));
    for command in ["create", "run"] {
        let line = [
            "--log",
            &log,
            command,
            "--preserve-fds",
            "1",
            "--bundle",
            &bundle,
            "web",
        ];
        let output = dir.corten(&line);
        assert_eq!(stderr(&output), "preserve-fds: descriptor 3 is not open\n");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error_and_no_crash() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = Command::new(CORTEN)
        .arg("--version")
        .stdout(Stdio::from(full))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(stderr(&output), "corten: stdout: no space left on device\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_standard_file_that_is_closed_is_dev_null_and_no_file_of_the_command() {
    let dir = Dir::new("closed");
    let log = dir.path("log");
    // stdin, stdout and stderr: the log would be the first file that is opened.
    let script = format!("exec {CORTEN} --log {log} state nobody <&- >&- 2>&-");
    let status = Command::new("sh").args(["-c", &script]).status().unwrap();
    assert_eq!(status.code(), Some(1));
    let logged = fs::read_to_string(log).unwrap();
    assert_eq!(logged.lines().count(), 1, "{logged}");
    assert!(logged.contains("container does not exist"), "{logged}");
}

#[test]
fn a_reader_that_went_away_is_an_error_and_no_signal() {
    use std::os::unix::process::ExitStatusExt;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(CORTEN)
        .arg("--help")
        .stdout(writer)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!((status.code(), status.signal()), (Some(1), None));
}

#[test]
fn check_prints_text_or_json_and_exits_with_1_if_there_are_errors() {
    let dir = Dir::new("check");
    fs::create_dir(dir.path("rootfs")).unwrap();
    let bundle = dir.path("");
    assert!(dir.corten(&["spec", "--bundle", &bundle]).status.success());
    let check = |format: &str| dir.corten(&["check", "-b", &bundle, "--format", format]);
    let output = check("text");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let missing = "error: process.args[0]: sh: executable file not found in $PATH\n";
    assert!(text.contains(missing), "{text}");
    assert!(
        text.contains("\nwarning: linux.seccomp: every system call is allowed\n"),
        "{text}"
    );
    let output = check("json");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = found
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["path"] == "process.args[0]");
    assert_eq!(first.unwrap()["level"], "error");
    assert_eq!(
        first.unwrap()["message"],
        "sh: executable file not found in $PATH"
    );
    assert_eq!(check("yaml").status.code(), Some(1));
    let nowhere = dir.corten(&["check", "-b", "/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&nowhere.stderr).contains("/nowhere"),
        "{nowhere:?}"
    );
    // Nothing was made, not even the directory for the state of containers.
    assert!(!fs::exists(dir.path("state")).unwrap());
}
