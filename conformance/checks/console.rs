//! `process.terminal`: the console socket and the terminal in the foreground.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::console::{ConsoleSocket, open, read_until};
use crate::facts;
use crate::lab::Lab;
use crate::wait;

checks!("console":
    the_console_socket_gets_the_master_of_the_containers_terminal,
    the_terminal_comes_from_the_containers_own_devpts,
    the_terminal_is_dev_console_and_the_controlling_terminal,
    the_terminal_is_bound_in_whatever_is_on_dev,
    a_bound_dev_gets_the_terminal_of_the_containers_devpts,
    in_a_user_namespace_there_is_a_terminal_too,
    ptmx_gives_the_container_terminals_of_its_own,
    the_terminal_has_the_configured_size,
    the_terminal_belongs_to_the_process_user,
    the_console_message_names_the_pty,
    a_detached_terminal_without_a_console_socket_is_refused,
    a_console_socket_without_a_terminal_is_refused,
    a_console_socket_that_nobody_listens_on_is_an_error,
    run_in_the_foreground_connects_the_callers_terminal,
    run_in_the_foreground_passes_the_size_of_the_terminal,
);

/// Facts of a detached container with a terminal, and what its master says.
struct Detached {
    name: String,
    facts: Value,
}

fn detached(lab: &Lab, edit: impl FnOnce(&mut Value)) -> Detached {
    detached_of(lab, lab.bundle(), edit)
}

fn detached_of(lab: &Lab, mut bundle: Bundle, edit: impl FnOnce(&mut Value)) -> Detached {
    let socket = ConsoleSocket::listen(&lab.folder().join("console.sock")).expect("a socket");
    // Not to the terminal: a terminal holds 4 KiB until somebody reads.
    bundle.probe(&["--write", "/tmp/facts"]);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["terminal"] = json!(true);
    // Writable for any user of the container.
    let tmp = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(bundle.rootfs().join("tmp"), tmp).expect("a fresh root");
    edit(&mut bundle.config);
    let path = socket.path().to_string_lossy().into_owned();
    let words = ["create", "--console-socket", &path];
    drop(lab.command(&words, &bundle, "detached").ok());
    let (name, master) = socket.receive().expect("the runtime sends the master");
    drop(lab.runtime.call(&["start", "detached"]).ok());
    let file = bundle.rootfs().join("tmp/facts");
    let text = wait::until(wait::CALL, || std::fs::read(&file).ok());
    let text = text.expect("the probe writes its facts");
    let facts = serde_json::from_slice(&text).expect("the probe writes JSON");
    drop(lab.runtime.call(&["delete", "--force", "detached"]).ok());
    drop(master);
    Detached { name, facts }
}

fn the_console_socket_gets_the_master_of_the_containers_terminal(lab: &Lab) {
    let socket = ConsoleSocket::listen(&lab.folder().join("console.sock")).expect("a socket");
    let mut bundle = lab.bundle_of(&["cat"]);
    bundle.config["process"]["terminal"] = json!(true);
    let path = socket.path().to_string_lossy().into_owned();
    let words = ["run", "--detach", "--console-socket", &path];
    drop(lab.command(&words, &bundle, "cat").ok());
    let (_, master) = socket.receive().expect("the runtime sends the master");
    rustix::io::write(&master, b"typed\n").expect("the master is writable");
    // Once from the echo, once from cat.
    read_until(&master, |text| text.matches("typed").count() == 2).expect("an answer");
    drop(lab.runtime.call(&["delete", "--force", "cat"]).ok());
}

fn the_terminal_comes_from_the_containers_own_devpts(lab: &Lab) {
    let seen = detached(lab, |_| {});
    for fd in ["0", "1", "2"] {
        assert!(seen.facts["tty"][fd].is_object(), "fd {fd} is no terminal");
    }
    let pts = facts::mount(&seen.facts, "/dev/pts");
    assert_eq!(pts["type"], "devpts");
}

fn the_terminal_is_dev_console_and_the_controlling_terminal(lab: &Lab) {
    let facts = detached(lab, |_| {}).facts;
    assert_eq!(facts["controlling_tty"], true);
    assert_eq!(facts["tty"]["0"]["session"], facts["sid"]);
    let console = facts::entry(&facts["dev"], "name", "console");
    assert_eq!(console["type"], "CharacterDevice");
    let major = console["device"]
        .as_str()
        .and_then(|device| device.split(':').next());
    assert_eq!(major, Some("136"), "not a pty: {console}");
}

/// An option too long for fsconfig(2), so that it is mounted by mount(2).
fn the_terminal_is_bound_in_whatever_is_on_dev(lab: &Lab) {
    let long = format!("mode={}755", "0".repeat(300));
    let facts = detached(lab, |config| {
        let mounts = config["mounts"].as_array_mut().expect("a list");
        let dev = mounts
            .iter_mut()
            .find(|mount| mount["destination"] == "/dev");
        dev.expect("it is in the default configuration")["options"] = json!(["nosuid", long]);
    })
    .facts;
    assert!(facts::find(&facts["mounts"], "point", "/dev").is_some());
    assert_eq!(facts["controlling_tty"], true);
    for name in ["console", "null", "ptmx"] {
        assert!(facts::find(&facts["dev"], "name", name).is_some(), "{name}");
    }
}

fn a_bound_dev_gets_the_terminal_of_the_containers_devpts(lab: &Lab) {
    let dev = lab.folder().join("dev");
    for folder in ["pts", "shm", "mqueue"] {
        std::fs::create_dir_all(dev.join(folder)).expect("the lab is writable");
    }
    let facts = detached(lab, |config| {
        let mounts = config["mounts"].as_array_mut().expect("a list");
        let place = mounts
            .iter_mut()
            .find(|mount| mount["destination"] == "/dev");
        *place.expect("it is in the default configuration") = json!({
            "destination": "/dev", "type": "bind", "source": dev, "options": ["bind"],
        });
        // Peers want a /dev/null in it for them.
        config["linux"]["maskedPaths"] = json!([]);
    })
    .facts;
    // There is no /dev/tty in it.
    assert_eq!(facts["tty"]["0"]["session"], facts["sid"]);
    let console = facts::entry(&facts["dev"], "name", "console");
    assert_eq!(console["type"], "CharacterDevice", "{console}");
    // Where it was bound is a plain file of whose /dev it is.
    let left = std::fs::symlink_metadata(dev.join("console"));
    assert!(left.is_ok_and(|left| left.is_file() && left.len() == 0));
}

fn in_a_user_namespace_there_is_a_terminal_too(lab: &Lab) {
    let template = super::namespaces::user_namespace(lab);
    let facts = detached_of(lab, template, |config| {
        let mounts = config["mounts"].as_array_mut().expect("a list");
        let pts = mounts
            .iter_mut()
            .find(|mount| mount["destination"] == "/dev/pts");
        // The group of terminals is not mapped in every namespace; here it is.
        pts.expect("it is in the default configuration")["options"] = json!([
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5"
        ]);
    })
    .facts;
    assert_eq!(facts["controlling_tty"], true);
    assert_eq!(facts["tty"]["0"]["uid"], 0);
    let console = facts::entry(&facts["dev"], "name", "console");
    let number = console["device"].as_str().unwrap_or_default();
    assert!(number.starts_with("136:"), "{console}");
}

fn ptmx_gives_the_container_terminals_of_its_own(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["open", "r", "/dev/ptmx", "/dev/pts/ptmx"]);
    let expected = json!({"/dev/ptmx": "ok", "/dev/pts/ptmx": "ok"});
    assert_eq!(lab.run(&bundle).json(), expected);
    // For anybody, as it is on a host.
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(lab.run(&bundle).json(), expected);
}

fn the_terminal_has_the_configured_size(lab: &Lab) {
    let facts = detached(lab, |config| {
        config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    })
    .facts;
    assert_eq!(facts["tty"]["0"]["rows"], 33);
    assert_eq!(facts["tty"]["0"]["columns"], 77);
}

fn the_terminal_belongs_to_the_process_user(lab: &Lab) {
    let facts = detached(lab, |config| {
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    })
    .facts;
    assert_eq!(facts["tty"]["0"]["uid"], 1000);
}

fn the_console_message_names_the_pty(lab: &Lab) {
    let name = detached(lab, |_| {}).name;
    assert!(name.starts_with("/dev/p"), "{name:?}");
}

fn a_detached_terminal_without_a_console_socket_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["process"]["terminal"] = json!(true);
    for words in [&["create"][..], &["run", "--detach"]] {
        let output = lab.command(words, &bundle, "refused");
        assert_eq!(output.code(), 1, "{output}");
        if lab.is_corten() {
            let text = "cannot allocate tty if corten will detach without setting console socket";
            assert_eq!(output.stderr(), format!("corten: {text}\n"));
        }
    }
}

fn a_console_socket_without_a_terminal_is_refused(lab: &Lab) {
    let bundle = lab.bundle_of(&["true"]);
    let socket = ConsoleSocket::listen(&lab.folder().join("console.sock")).expect("a socket");
    let path = socket.path().to_string_lossy().into_owned();
    let output = lab.command(&["create", "--console-socket", &path], &bundle, "refused");
    // crun takes it and sends nothing.
    if lab.runtime.name() != "crun" {
        assert_eq!(output.code(), 1, "{output}");
    }
    drop(lab.runtime.call(&["delete", "--force", "refused"]).ok());
}

fn a_console_socket_that_nobody_listens_on_is_an_error(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.config["process"]["terminal"] = json!(true);
    let path = lab
        .folder()
        .join("nobody.sock")
        .to_string_lossy()
        .into_owned();
    let output = lab.command(&["create", "--console-socket", &path], &bundle, "refused");
    assert_eq!(output.code(), 1, "{output}");
    if lab.is_corten() {
        let text = format!("corten: console socket {path}: connect: no such file or directory\n");
        assert_eq!(output.stderr(), text);
    }
    assert_eq!(lab.state_directory(), [""; 0]);
}

/// Runs a bundle in the foreground with a pty of ours as its terminal.
fn foreground(lab: &Lab, size: Winsize) -> Value {
    let (master, slave) = open().expect("a pty");
    tcsetwinsize(&master, size).expect("a pty has a size");
    let mut bundle = lab.bundle();
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write().expect("the lab is writable");
    let path = bundle.path().to_string_lossy().into_owned();
    on_tty(
        lab,
        (master, slave),
        &["run", "--bundle", &path, "foreground"],
    )
}

/// The facts of a process that the runtime runs in the foreground of a pty, which is the master and the slave.
pub(super) fn on_tty(lab: &Lab, (master, slave): (OwnedFd, OwnedFd), words: &[&str]) -> Value {
    let fd = || Stdio::from(slave.try_clone().expect("fds are left"));
    let this = std::env::current_exe().expect("a running program has a path");
    let mut child = std::process::Command::new(this)
        .arg("on-tty")
        .arg(lab.runtime.program())
        .arg("--root")
        .arg(lab.runtime.root())
        .args(words)
        .stdin(fd())
        .stdout(fd())
        .stderr(fd())
        .spawn()
        .expect("this program starts");
    drop(slave);
    // One line; a brace alone can be the end of what was read so far.
    let ended = |text: &str| text.ends_with('\n');
    let text = read_until(&master, ended).unwrap_or_else(|error| panic!("{error}"));
    let status = wait::child(&mut child, wait::CALL).expect("an own child");
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}: {text}"
    );
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn run_in_the_foreground_connects_the_callers_terminal(lab: &Lab) {
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let facts = foreground(lab, size);
    assert_eq!(facts["controlling_tty"], true);
    // The caller's own terminal does that already.
    assert_eq!(facts["tty"]["1"]["onlcr"], false);
}

fn run_in_the_foreground_passes_the_size_of_the_terminal(lab: &Lab) {
    let size = Winsize {
        ws_row: 41,
        ws_col: 97,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let tty = foreground(lab, size)["tty"]["0"].clone();
    assert!(tty.is_object());
    // The peers set it at some time after the start.
    if lab.is_corten() {
        assert_eq!((&tty["rows"], &tty["columns"]), (&json!(41), &json!(97)));
    }
}
