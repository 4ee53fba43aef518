//! What a service manager gives the runtime for its container: sockets that are open
//! already, and one to say that it is ready. sd_listen_fds(3), sd_notify(3)

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::bundle::Bundle;
use crate::check::checks;
use crate::facts;
use crate::lab::Lab;
use crate::runtime::Output;
use crate::wait;

checks!("sockets":
    sockets_of_the_service_manager_are_passed_with_their_number,
    sockets_come_before_preserved_descriptors,
    sockets_for_another_process_are_not_passed,
    a_socket_that_is_not_open_is_refused,
    readiness_is_told_to_the_service_manager_by_start,
    readiness_is_told_by_a_detached_run,
    a_foreground_run_is_itself_the_main_process,
    a_container_that_ends_before_it_is_ready_ends_the_wait,
    without_a_service_manager_there_is_no_notify_socket,
);

/// `run` under a shell that has opened files and set the variables.
fn under(lab: &Lab, bundle: &Bundle, shell: &str, options: &[&str]) -> Output {
    bundle.write().expect("the lab is writable");
    for name in ["one", "two", "three"] {
        std::fs::write(lab.folder().join(name), name).expect("the lab is writable");
    }
    let mut command = Command::new("sh");
    command.current_dir(lab.folder());
    command.args(["-c", &format!("{shell}; exec \"$@\""), "sh"]);
    command.arg(lab.runtime.program()).arg("--root");
    command.arg(lab.runtime.root()).arg("run").args(options);
    command.arg("--bundle").arg(bundle.path()).arg(lab.id());
    lab.runtime.spawn(command).finish(wait::CALL)
}

fn sockets_of_the_service_manager_are_passed_with_their_number(lab: &Lab) {
    let shell = "exec 3<one 4<two; export LISTEN_PID=$$ LISTEN_FDS=2";
    let facts = under(lab, &lab.bundle(), shell, &[]).json();
    assert!(
        facts::has(&facts["env"], "LISTEN_FDS=2"),
        "{}",
        facts["env"]
    );
    assert!(
        facts::has(&facts["env"], "LISTEN_PID=1"),
        "{}",
        facts["env"]
    );
    let numbers: Vec<_> = facts["fds"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|fd| &fd["fd"])
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    let output = under(lab, &lab.bundle_of(&["print-fd", "4"]), shell, &[]).ok();
    assert_eq!(output.stdout(), "two");
}

fn sockets_come_before_preserved_descriptors(lab: &Lab) {
    let shell = "exec 3<one 4<two 5<three; export LISTEN_PID=$$ LISTEN_FDS=2";
    let options = ["--preserve-fds", "1"];
    let facts = under(lab, &lab.bundle(), shell, &options).json();
    assert!(
        facts::has(&facts["env"], "LISTEN_FDS=2"),
        "{}",
        facts["env"]
    );
    let output = under(lab, &lab.bundle_of(&["print-fd", "5"]), shell, &options).ok();
    assert_eq!(output.stdout(), "three");
}

fn sockets_for_another_process_are_not_passed(lab: &Lab) {
    let shell = "exec 3<one 4<two; export LISTEN_PID=1 LISTEN_FDS=2";
    let facts = under(lab, &lab.bundle(), shell, &[]).json();
    assert!(
        !facts["env"].to_string().contains("LISTEN_"),
        "{}",
        facts["env"]
    );
    assert_eq!(
        facts["fds"].as_array().map(Vec::len),
        Some(3),
        "{}",
        facts["fds"]
    );
}

fn a_socket_that_is_not_open_is_refused(lab: &Lab) {
    let shell = "exec 3<one; export LISTEN_PID=$$ LISTEN_FDS=2";
    let output = under(lab, &lab.bundle(), shell, &[]);
    if lab.is_corten() {
        assert!(!output.status.success(), "{output}");
        assert!(
            output.stderr().contains("descriptor 4 is not open"),
            "{output}"
        );
    }
    assert_eq!(lab.state_directory(), [""; 0]);
}

/// A service manager's socket.
fn manager(lab: &Lab) -> UnixDatagram {
    let socket = UnixDatagram::bind(lab.folder().join("manager")).expect("the lab is writable");
    socket.set_read_timeout(Some(wait::CALL)).expect("a time");
    socket
}

/// The next message. A descriptor that comes with it is closed by the kernel: that answers
/// a barrier.
fn hear(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).expect("a message");
    String::from_utf8_lossy(&message[..length]).into_owned()
}

fn command(lab: &Lab, words: &[&str], bundle: Option<&Bundle>, id: &str) -> Command {
    let mut command = lab.runtime.command();
    command.env("NOTIFY_SOCKET", lab.folder().join("manager"));
    command.args(words);
    if let Some(bundle) = bundle {
        bundle.write().expect("the lab is writable");
        command.arg("--bundle").arg(bundle.path());
    }
    command.arg(id);
    command
}

fn delete(lab: &Lab, id: &str) {
    drop(lab.runtime.call(&["delete", "--force", id]).ok());
}

/// A bundle whose program says something of its own, then that it is ready, and stays.
fn ready_bundle(lab: &Lab) -> Bundle {
    lab.bundle_of(&["notify", "STATUS=warm\nREADY=1"])
}

fn readiness_is_told_to_the_service_manager_by_start(lab: &Lab) {
    let (manager, bundle) = (manager(lab), ready_bundle(lab));
    let create = command(lab, &["create"], Some(&bundle), "ready");
    drop(lab.runtime.spawn(create).finish(wait::CALL).ok());
    let pid = lab.runtime.call(&["state", "ready"]).json()["pid"].clone();
    let start = lab.runtime.spawn(command(lab, &["start"], None, "ready"));
    // runc sends only messages that begin with it.
    if lab.is_corten() {
        assert_eq!(hear(&manager), "READY=1\n");
        assert_eq!(hear(&manager), format!("MAINPID={pid}\n"));
        assert_eq!(hear(&manager), "BARRIER=1");
        drop(start.finish(wait::CALL).ok());
        delete(lab, "ready");
    } else {
        delete(lab, "ready");
        drop(start.finish(wait::CALL));
    }
}

fn readiness_is_told_by_a_detached_run(lab: &Lab) {
    let manager = manager(lab);
    let bundle = lab.bundle_of(&["notify", "READY=1"]);
    let run = lab
        .runtime
        .spawn(command(lab, &["run", "--detach"], Some(&bundle), "ready"));
    assert_eq!(hear(&manager).trim(), "READY=1");
    let pid = lab.runtime.call(&["state", "ready"]).json()["pid"].clone();
    assert_eq!(hear(&manager).trim(), format!("MAINPID={pid}"));
    assert_eq!(hear(&manager), "BARRIER=1");
    drop(run.finish(wait::CALL).ok());
    delete(lab, "ready");
}

fn a_foreground_run_is_itself_the_main_process(lab: &Lab) {
    let manager = manager(lab);
    let bundle = lab.bundle_of(&["notify", "READY=1"]);
    let run = lab
        .runtime
        .spawn(command(lab, &["run"], Some(&bundle), "ready"));
    let own = run.child.id();
    assert_eq!(hear(&manager).trim(), "READY=1");
    assert_eq!(hear(&manager).trim(), format!("MAINPID={own}"));
    assert_eq!(hear(&manager), "BARRIER=1");
    delete(lab, "ready");
    drop(run.finish(wait::CALL));
}

fn a_container_that_ends_before_it_is_ready_ends_the_wait(lab: &Lab) {
    let _manager = manager(lab);
    let bundle = lab.bundle_of(&["true"]);
    let run = lab
        .runtime
        .spawn(command(lab, &["run", "--detach"], Some(&bundle), "short"));
    drop(run.finish(wait::CALL).ok());
    delete(lab, "short");
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn without_a_service_manager_there_is_no_notify_socket(lab: &Lab) {
    let facts = lab.facts(&lab.bundle());
    assert!(
        !facts["env"].to_string().contains("NOTIFY_SOCKET"),
        "{}",
        facts["env"]
    );
    assert!(facts::find(&facts["mounts"], "point", "/run/notify").is_none());
    // With one, the directory is there, and nobody in the container can change it.
    let manager = manager(lab);
    let bundle = lab.bundle();
    let run = lab
        .runtime
        .spawn(command(lab, &["run"], Some(&bundle), "facts"));
    let facts = run.finish(wait::CALL).json();
    let socket = "NOTIFY_SOCKET=/run/notify/notify.sock";
    assert!(facts::has(&facts["env"], socket), "{}", facts["env"]);
    let mount = facts::mount(&facts, "/run/notify");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(facts::has(&mount["options"], option), "{mount}");
    }
    assert_eq!(lab.state_directory(), [""; 0]);
    drop(manager);
}
