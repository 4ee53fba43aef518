//! Terminals of `exec`: by the console socket, and in the foreground.

use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};

use super::console::on_tty;
use super::exec::{assert_refused, exec, process_file, sleeping};
use crate::bundle::Bundle;
use crate::check::checks;
use crate::console::{ConsoleSocket, open, read_until};
use crate::facts;
use crate::lab::{Container, Lab};
use crate::wait;

checks!("exec_console":
    the_console_socket_gets_the_master_of_a_terminal_of_the_container,
    the_terminal_belongs_to_the_user_and_controls_the_session,
    the_terminal_has_the_size_of_the_process_file,
    a_detached_terminal_needs_a_console_socket,
    a_console_socket_needs_a_detached_terminal,
    a_console_socket_that_nobody_listens_on_is_an_error,
    tty_connects_the_callers_terminal_with_its_size,
    tty_without_a_terminal_copies_what_there_is,
    without_tty_the_process_of_a_container_with_a_terminal_has_none,
    in_a_user_namespace_there_are_terminals_too,
);

/// A container in which any user may write below /tmp.
fn writable(lab: &Lab) -> Bundle {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bundle = lab.bundle();
    bundle.config["root"]["readonly"] = json!(false);
    let tmp = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(bundle.rootfs().join("tmp"), tmp).expect("a fresh root");
    bundle
}

/// The facts of a detached process with a terminal, and the name that came with its master.
fn detached(
    lab: &Lab,
    bundle: &Bundle,
    container: &Container<'_>,
    flags: &[&str],
) -> (String, Value) {
    let path = lab.folder().join("console.sock");
    let socket = ConsoleSocket::listen(&path).expect("a socket");
    let path_text = path.to_string_lossy().into_owned();
    let all = [&["-d", "--console-socket", &path_text], flags].concat();
    let words: &[&str] = if flags.contains(&"-p") {
        &[]
    } else {
        &["/probe", "--write", "/tmp/facts"]
    };
    drop(exec(lab, container, &all, words).ok());
    let (name, master) = socket.receive().expect("the runtime sends the master");
    let file = bundle.rootfs().join("tmp/facts");
    let text = wait::until(wait::CALL, || std::fs::read(&file).ok());
    let text = text.expect("the probe writes its facts");
    drop(master);
    std::fs::remove_file(path).expect("the lab is writable");
    let facts = serde_json::from_slice(&text).expect("the probe writes JSON");
    (name, facts)
}

fn the_console_socket_gets_the_master_of_a_terminal_of_the_container(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let path = lab.folder().join("console.sock");
    let socket = ConsoleSocket::listen(&path).expect("a socket");
    let flags = ["-d", "-t", "--console-socket", &path.to_string_lossy()];
    drop(exec(lab, &container, &flags, &["/probe", "cat"]).ok());
    let (name, master) = socket.receive().expect("the runtime sends the master");
    assert!(name.starts_with("/dev/p"), "{name:?}");
    rustix::io::write(&master, b"typed\n").expect("the master is writable");
    // Once from the echo, once from cat.
    read_until(&master, |text| text.matches("typed").count() == 2).expect("an answer");
}

fn the_terminal_belongs_to_the_user_and_controls_the_session(lab: &Lab) {
    let mut bundle = writable(lab);
    bundle.probe(&["sleep"]);
    let container = lab.start(&bundle);
    let (_, facts) = detached(lab, &bundle, &container, &["-t", "--user", "1000:1000"]);
    for fd in ["0", "1", "2"] {
        assert!(facts["tty"][fd].is_object(), "fd {fd} is no terminal");
    }
    assert_eq!(facts["tty"]["0"]["uid"], 1000);
    assert_eq!(facts["controlling_tty"], true);
    assert_eq!(facts["tty"]["0"]["session"], facts["sid"]);
    assert_eq!(facts::mount(&facts, "/dev/pts")["type"], "devpts");
    assert_eq!(facts["fds"].as_array().map(Vec::len), Some(3));
    // The console is the container's first process's.
    assert!(
        facts::find(&facts["dev"], "name", "console")
            .is_none_or(|file| file["type"] != "CharacterDevice")
    );
}

fn the_terminal_has_the_size_of_the_process_file(lab: &Lab) {
    let mut bundle = writable(lab);
    bundle.probe(&["sleep"]);
    let container = lab.start(&bundle);
    let process = json!({
        "terminal": true, "consoleSize": {"height": 33, "width": 77},
        "args": ["/probe", "--write", "/tmp/facts"], "cwd": "/", "user": {"uid": 0, "gid": 0},
    });
    let file = process_file(lab, &process);
    let (_, facts) = detached(lab, &bundle, &container, &["-p", &file]);
    let tty = &facts["tty"]["0"];
    assert_eq!((&tty["rows"], &tty["columns"]), (&json!(33), &json!(77)));
}

fn a_detached_terminal_needs_a_console_socket(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let output = exec(lab, &container, &["-d", "-t"], &["/probe", "true"]);
    let text = "cannot allocate tty if corten will detach without setting console socket";
    // crun starts it without.
    if lab.runtime.name() != "crun" {
        assert_refused(lab, &output, text);
    }
}

fn a_console_socket_needs_a_detached_terminal(lab: &Lab) {
    if lab.runtime.name() == "crun" {
        return; // It takes the socket and sends nothing.
    }
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let text = "cannot use console socket if corten will not detach or allocate tty";
    for flags in [
        &["-d", "--console-socket", "/s"][..],
        &["-t", "--console-socket", "/s"],
    ] {
        let output = exec(lab, &container, flags, &["/probe", "true"]);
        assert_refused(lab, &output, text);
    }
}

fn a_console_socket_that_nobody_listens_on_is_an_error(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let path = lab
        .folder()
        .join("nobody.sock")
        .to_string_lossy()
        .into_owned();
    let flags = ["-d", "-t", "--console-socket", &path];
    let output = exec(lab, &container, &flags, &["/probe", "sleep"]);
    let text = format!("console socket {path}: connect: no such file or directory");
    assert_refused(lab, &output, &text);
    let group = super::cgroup::cgroup_of(&container);
    let alone = || (super::cgroup::members(&group).len() == 1).then_some(());
    assert!(wait::until(wait::CALL, alone).is_some());
}

fn tty_connects_the_callers_terminal_with_its_size(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let (master, slave) = open().expect("a pty");
    let size = Winsize {
        ws_row: 41,
        ws_col: 97,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size).expect("a pty has a size");
    let words = ["exec", "-t", &container.id, "/probe"];
    let facts = on_tty(lab, (master, slave), &words);
    assert_eq!(facts["controlling_tty"], true);
    let tty = &facts["tty"]["1"];
    // The peers set both at some time after the start.
    if lab.is_corten() {
        assert_eq!((&tty["rows"], &tty["columns"]), (&json!(41), &json!(97)));
        assert_eq!(tty["onlcr"], false);
    }
}

fn tty_without_a_terminal_copies_what_there_is(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let output = exec(lab, &container, &["--tty"], &["/probe", "echo", "words"]);
    // The peers want one on their stdin.
    if lab.is_corten() {
        assert_eq!(output.ok().stdout(), "words\n");
    }
}

fn without_tty_the_process_of_a_container_with_a_terminal_has_none(lab: &Lab) {
    let path = lab.folder().join("console.sock");
    let socket = ConsoleSocket::listen(&path).expect("a socket");
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.config["process"]["terminal"] = json!(true);
    let text = path.to_string_lossy().into_owned();
    let words = ["run", "--detach", "--console-socket", &text];
    drop(lab.command(&words, &bundle, "tty").ok());
    let (_, master) = socket.receive().expect("the runtime sends the master");
    let facts = lab.runtime.call(&["exec", "tty", "/probe"]).json();
    assert_eq!(facts["tty"]["0"], Value::Null);
    assert_eq!(facts["controlling_tty"], false);
    drop(lab.runtime.call(&["delete", "--force", "tty"]).ok());
    drop(master);
}

fn in_a_user_namespace_there_are_terminals_too(lab: &Lab) {
    let mut bundle = super::namespaces::user_namespace(lab);
    let container = sleeping(lab, &mut bundle);
    let path = lab.folder().join("console.sock");
    let socket = ConsoleSocket::listen(&path).expect("a socket");
    let flags = ["-d", "-t", "--console-socket", &path.to_string_lossy()];
    drop(exec(lab, &container, &flags, &["/probe", "echo", "words"]).ok());
    let (_, master) = socket.receive().expect("the runtime sends the master");
    read_until(&master, |text| text.contains("words")).expect("an answer");
}
