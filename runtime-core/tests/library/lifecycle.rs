//! start, kill and delete, by the creator and by programs that are not.

use std::process::Command;

use corten_conformance::bundle::Bundle as Folder;
use corten_conformance::wait;
use corten_core::{Bundle, Container, CreateOptions, Delete, Error, ErrorKind, ExitStatus, Status};
use serde_json::{Value, json};

use crate::lab::{self, Lab};

/// A container that this process created, and one that a process created which is gone.
fn both(lab: &Lab, folder: &Folder) -> [Container; 2] {
    [
        lab.create(folder, CreateOptions::default()),
        lab.create_elsewhere(folder),
    ]
}

#[track_caller]
fn assert_error(result: Result<(), Error>, kind: ErrorKind, wanted: &str) {
    let error = result.expect_err(wanted);
    assert_eq!(error.kind(), kind, "{error:#}");
    let text = format!("{error:#}");
    assert!(text.contains(wanted), "{text:?} instead of {wanted:?}");
    assert!(!text.contains('\n'), "{text:?}");
}

#[track_caller]
fn status(container: &Container) -> Status {
    container.state().expect("the state can be read").status
}

#[test]
fn a_container_is_created_running_and_stopped() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        for mut container in both(lab, &folder) {
            assert_eq!(status(&container), Status::Created);
            assert!(container.pid() > 0);
            container.start().expect("it starts");
            assert_eq!(status(&container), Status::Running);
            container.kill(libc::SIGKILL).expect("it runs");
            container.wait().expect("it ends");
            assert_eq!((status(&container), container.pid()), (Status::Stopped, 0));
            container.delete(Delete::IfStopped).expect("it has stopped");
        }
    });
}

#[test]
fn a_container_that_is_run_was_never_created() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let bundle = lab::load(&folder);
        let run = lab
            .runtime
            .run(&lab.id(), &bundle, CreateOptions::default());
        let mut container = lab::done(run);
        assert_eq!(status(&container), Status::Running);
        assert_eq!(container.pid(), container.first_pid());
        let other = lab::done(lab.runtime.container(container.id()));
        assert_eq!(status(&other), Status::Running);
        let wanted = "cannot start an already running container";
        assert_error(container.start(), ErrorKind::WrongState, wanted);
        container.kill(libc::SIGKILL).expect("it runs");
        container.wait().expect("it ends");
        assert_eq!((status(&container), container.pid()), (Status::Stopped, 0));
        assert!(container.first_pid() > 0);
        container.delete(Delete::IfStopped).expect("it has stopped");
    });
}

#[test]
fn a_run_that_fails_leaves_nothing_whichever_half_or_step_it_was() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&[]);
        let hook = json!([{ "path": "/not-there" }]);
        let missing = "process.args[0]: exec /not-there: no such file or directory";
        for (program, hooks, wanted) in [
            ("/not-there", json!({}), missing),
            (
                "/probe",
                json!({ "startContainer": hook }),
                "hooks.startContainer[0]",
            ),
            (
                "/probe",
                json!({ "createRuntime": hook }),
                "hooks.createRuntime[0]",
            ),
        ] {
            folder.args(&[program]);
            folder.config["hooks"] = hooks;
            let bundle = lab::load(&folder);
            let run = lab.runtime.run("fails", &bundle, CreateOptions::default());
            assert_error(run.map(drop), ErrorKind::Other, wanted);
            lab.assert_clean_but(&[folder.path()]);
        }
    });
}

#[test]
fn a_run_of_what_has_hooks_or_a_terminal_starts_it_as_well() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["sleep"]);
        let made = folder.path().join("made");
        let hook = json!({ "path": "/bin/touch", "args": ["touch", made] });
        for terminal in [false, true] {
            folder.config["process"]["terminal"] = json!(terminal);
            folder.config["hooks"] = json!({ "poststart": [hook] });
            let bundle = lab::load(&folder);
            let run = lab
                .runtime
                .run(&lab.id(), &bundle, CreateOptions::default());
            let mut container = lab::done(run);
            std::fs::remove_file(&made).expect("the hook has been run");
            assert_eq!(status(&container), Status::Running);
            assert_eq!(container.take_console().is_some(), terminal);
            lab::delete(container);
        }
    });
}

#[test]
fn the_socket_of_sd_notify_is_for_who_creates_and_starts() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        let mut options = CreateOptions::default();
        options.notify_socket = true;
        let run = lab.runtime.run("never", &lab::load(&folder), options);
        assert_error(run.map(drop), ErrorKind::Other, "notify_socket");
    });
}

#[test]
fn start_says_that_the_program_has_vanished() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        let containers = both(lab, &folder);
        std::fs::remove_file(folder.rootfs().join("probe")).expect("it was there");
        for mut container in containers {
            let wanted = "process.args[0]: exec /probe: no such file or directory";
            assert_error(container.start(), ErrorKind::Other, wanted);
            container.wait().expect("init has ended");
            assert_eq!(status(&container), Status::Stopped);
            container.delete(Delete::IfStopped).expect("it has stopped");
        }
    });
}

#[test]
fn start_says_that_the_interpreter_is_missing() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&[]);
        let script = b"#!/missing/sh -e\necho no\n";
        folder.program("script", script).expect("a writable root");
        folder.args(&["/script"]);
        for mut container in both(lab, &folder) {
            let wanted = "exec /script: its interpreter /missing/sh: no such file or directory";
            assert_error(container.start(), ErrorKind::Other, wanted);
            container.delete(Delete::IfStopped).expect("init has ended");
        }
    });
}

#[test]
fn start_says_that_the_file_can_not_be_executed() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&[]);
        let garbage = b"\x7fELF\x02 no more of it";
        folder.program("garbage", garbage).expect("a writable root");
        folder.args(&["/garbage"]);
        for mut container in both(lab, &folder) {
            let wanted = "process.args[0]: exec /garbage: exec format error";
            assert_error(container.start(), ErrorKind::Other, wanted);
            container.delete(Delete::IfStopped).expect("init has ended");
        }
    });
}

#[test]
fn a_container_whose_init_was_killed_has_stopped_and_can_not_be_started() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        for mut container in both(lab, &folder) {
            container.kill(libc::SIGKILL).expect("init waits");
            container.wait().expect("it ends");
            assert_eq!(status(&container), Status::Stopped);
            let wanted = "cannot start a container that has stopped";
            assert_error(container.start(), ErrorKind::WrongState, wanted);
            assert_error(
                container.kill(libc::SIGTERM),
                ErrorKind::NotRunning,
                "not running",
            );
            container.delete(Delete::IfStopped).expect("it has stopped");
        }
    });
}

#[test]
fn a_container_starts_only_once() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        for mut container in both(lab, &folder) {
            let mut again = lab.runtime.container(container.id()).expect("it is there");
            container.start().expect("it starts");
            let wanted = "cannot start an already running container";
            assert_error(container.start(), ErrorKind::WrongState, wanted);
            assert_error(again.start(), ErrorKind::WrongState, wanted);

            container.kill(libc::SIGKILL).expect("it runs");
            container.wait().expect("it ends");
            let wanted = "cannot start a container that has stopped";
            assert_error(container.start(), ErrorKind::WrongState, wanted);
            assert_error(again.start(), ErrorKind::WrongState, wanted);
            lab::delete(container);
            assert_error(again.start(), ErrorKind::NotFound, "does not exist");
            assert_error(
                again.delete(Delete::Force),
                ErrorKind::NotFound,
                "does not exist",
            );
        }
    });
}

#[test]
fn of_many_threads_that_start_a_container_one_does() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let container = lab.create(&folder, CreateOptions::default());
        let id = container.id();
        let runtime = &lab.runtime;
        let start = || starts(runtime, id);
        let started: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            let results = threads.into_iter().map(|thread| thread.join());
            results
                .map(|done| usize::from(done.expect("no panic")))
                .sum()
        });
        assert_eq!(started, 1);
        lab::delete(container);
    });
}

/// Whether this call was the one that started it.
fn starts(runtime: &corten_core::Runtime, id: &str) -> bool {
    match runtime
        .container(id)
        .and_then(|mut container| container.start())
    {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WrongState, "{error:#}");
            false
        }
    }
}

/// Changes state.json and looks at the container again.
fn with_state(lab: &Lab, container: &Container, edit: impl FnOnce(&mut Value)) -> Container {
    let path = lab.runtime.root().join(container.id()).join("state.json");
    let text = std::fs::read(&path).expect("the container is there");
    let mut state: Value = serde_json::from_slice(&text).expect("state.json is JSON");
    edit(&mut state);
    std::fs::write(path, state.to_string()).expect("root may");
    lab.runtime.container(container.id()).expect("it is there")
}

#[track_caller]
fn assert_is_somebody_elses(mut container: Container) {
    assert_eq!((status(&container), container.pid()), (Status::Stopped, 0));
    assert_error(
        container.kill(libc::SIGKILL),
        ErrorKind::NotRunning,
        "not running",
    );
    let wanted = "cannot start a container that has stopped";
    assert_error(container.start(), ErrorKind::WrongState, wanted);
    let exit = container.wait().expect("nothing is there to wait for");
    assert_eq!(exit.status, ExitStatus::Unknown);
    // The cgroup has a process that is not known to be the container's: only by force.
    container.delete(Delete::Force).expect("it has stopped");
}

#[test]
fn a_recycled_pid_is_not_the_container() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let mut stranger = Command::new("sleep").arg("1000").spawn().expect("sleep(1)");
        // Start times are counted in hundredths of a second.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let mut created = lab.create(&folder, CreateOptions::default());
        let same_pid = with_state(lab, &created, |state| {
            state["pid"] = json!(stranger.id());
        });
        // Its own process is still in the cgroup, so delete finds that.
        assert_is_somebody_elses(same_pid);
        created.wait().expect("killed by the delete");
        assert_eq!(stranger.try_wait().expect("an own child"), None);
        stranger.kill().expect("it runs");
        stranger.wait().expect("an own child");
    });
}

#[test]
fn a_process_of_another_pid_start_time_or_boot_is_not_the_container() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let edits: [fn(&mut Value); 4] = [
            |state| state["pid"] = json!(0),
            |state| state["pid"] = json!(-1),
            |state| {
                let time = state["startTime"].as_u64().expect("a number");
                state["startTime"] = json!(time + 1);
                // As before Linux 6.9: who has the same inode is the same process.
                state.as_object_mut().expect("one").remove("pidfdInode");
            },
            |state| state["bootId"] = json!("2fdd6b46-0000-0000-0000-000000000000"),
        ];
        for edit in edits {
            let mut created = lab.create(&folder, CreateOptions::default());
            assert_is_somebody_elses(with_state(lab, &created, edit));
            created.wait().expect("killed by the delete");
        }
    });
}

/// A pid that was used again within a hundredth of a second.
#[test]
fn a_process_of_the_same_pid_and_start_time_is_not_the_container_where_pidfds_tell() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let mut created = lab.create(&folder, CreateOptions::default());
        let mut known = false;
        let looked = with_state(lab, &created, |state| {
            if let Some(inode) = state["pidfdInode"].as_u64() {
                state["pidfdInode"] = json!(inode + 1);
                known = true;
            }
        });
        if known {
            assert_is_somebody_elses(looked);
            created.wait().expect("killed by the delete");
        } else {
            // Before Linux 6.9 there is no such number.
            assert_eq!(status(&looked), Status::Created);
            lab::delete(looked);
        }
    });
}

#[test]
fn delete_refuses_what_runs_and_force_does_not() {
    lab::test(|lab| {
        let folder = lab.bundle(&["ignore-term"]);
        for mut container in both(lab, &folder) {
            container.start().expect("it starts");
            let id = container.id().to_owned();
            let wanted = format!("cannot delete container {id} that is not stopped: running");
            let deleted = container.delete(Delete::IfStopped);
            assert_error(deleted, ErrorKind::WrongState, &wanted);
            let container = lab.runtime.container(&id).expect("it is still there");
            assert_eq!(status(&container), Status::Running);
            container.delete(Delete::Force).expect("root may");
            let gone = lab.runtime.container(&id).map(drop);
            assert_error(gone, ErrorKind::NotFound, "container does not exist");
        }
    });
}

#[test]
fn a_container_that_was_never_started_is_deleted_without_force() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        for container in both(lab, &folder) {
            container.delete(Delete::IfStopped).expect("it never ran");
        }
    });
}

#[test]
fn kill_all_reaches_every_process() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["children", "5"]);
        // Nobody takes the children along when the first process ends.
        folder.without_namespace("pid");
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            let (reader, writer) = std::io::pipe().expect("there are descriptors");
            let mut options = CreateOptions::default();
            options.stdio.stdout = Some(writer.into());
            let mut container = lab.create(&folder, options);
            container.start().expect("it starts");
            let ready = wait::readable(&reader, lab::LIMIT).expect("a pipe can be polled");
            assert!(ready, "it never became ready");
            container.kill_all(signal).expect("root may");
            let exit = container.wait().expect("an own child");
            assert_eq!(exit.status, ExitStatus::Signal(signal));
            container.delete(Delete::IfStopped).expect("all have ended");
            lab.assert_no_process("afterwards");
        }
    });
}

#[test]
fn list_has_every_container_in_order() {
    lab::test(|lab| {
        let list = || lab.runtime.list().expect("the root can be read");
        assert_eq!(list(), []);
        let folder = lab.bundle(&["sleep"]);
        let mut containers = both(lab, &folder);
        containers[1].start().expect("it starts");
        let seen: Vec<_> = list().into_iter().map(|s| (s.id, s.status)).collect();
        let [first, second] = containers.each_ref().map(|c| c.id().to_owned());
        assert_eq!(seen, [(first, Status::Created), (second, Status::Running)]);
        containers.into_iter().for_each(lab::delete);
        assert_eq!(list(), []);
    });
}

#[test]
fn a_second_container_of_one_id_is_refused_and_the_first_is_left_alone() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let container = lab.create(&folder, CreateOptions::default());
        let bundle: Bundle = lab::load(&folder);
        let second = lab
            .runtime
            .create(container.id(), &bundle, CreateOptions::default());
        let wanted = "container with given ID already exists";
        assert_error(second.map(drop), ErrorKind::AlreadyExists, wanted);
        assert_eq!(status(&container), Status::Created);
        lab::delete(container);
    });
}

#[test]
fn a_value_of_a_deleted_container_can_not_touch_the_next_of_its_id() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let bundle = lab::load(&folder);
        let create = || {
            lab.runtime
                .create("again", &bundle, CreateOptions::default())
        };
        let first = lab::done(create());
        let stale = lab::done(lab.runtime.container("again"));
        lab::delete(first);
        let mut second = lab::done(create());
        lab::done(second.start());
        assert_error(
            stale.kill(libc::SIGKILL),
            ErrorKind::NotRunning,
            "not running",
        );
        let deleted = stale.delete(Delete::Force);
        assert_error(deleted, ErrorKind::NotFound, "container does not exist");
        assert_eq!(status(&second), Status::Running);
        lab::delete(second);
    });
}

#[test]
fn leftovers_of_nothing_are_no_error() {
    lab::test(|lab| {
        lab.runtime
            .delete_leftovers("never")
            .expect("nothing to do");
        let wrong = lab.runtime.delete_leftovers("../x");
        assert_error(wrong, ErrorKind::InvalidId, "invalid container ID format");
    });
}
