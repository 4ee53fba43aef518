//! The life of a container as containerd asks for it.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::fake::container::{Web, open_reader, read};
use crate::fake::{self, Containerd, Version, kill};
use corten_conformance::lane;
use corten_shim::proto::Empty;
use corten_shim::proto::options::ProcessDetails;
use corten_shim::proto::stats::Metrics;
use corten_shim::proto::task::{
    CloseIoRequest, ConnectResponse, PidsResponse, ResizePtyRequest, StatsResponse,
};
use prost::Message as _;

/// `containerd.v1.types.Status`.
const CREATED: i32 = 1;
const RUNNING: i32 = 2;
const STOPPED: i32 = 3;
const PAUSED: i32 = 4;

const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;
const FAILED_PRECONDITION: i32 = 9;

fn topics(web: &Web, count: usize) -> Vec<String> {
    (0..count).map(|_| web.containerd.event().topic).collect()
}

#[test]
fn a_container_is_created_started_waited_for_and_deleted() {
    lane::test(|| {
        let mut web = Web::new("exit 7");
        let pid = web.create().unwrap();
        let state = web.state("").unwrap();
        assert_eq!((state.status, state.pid), (CREATED, pid));
        assert_eq!(state.bundle, web.bundle.display().to_string());
        let connected: ConnectResponse = web.client.name("Connect", "web", "").unwrap();
        assert_eq!(connected.task_pid, pid);
        let rootfs = web.bundle.join("rootfs");
        assert!(rootfs.join("bin/busybox").exists());
        assert_eq!(web.start("").unwrap(), pid);
        assert_eq!(web.wait("").unwrap(), 7);
        let state = web.state("").unwrap();
        assert_eq!((state.status, state.exit_status), (STOPPED, 7));
        assert!(state.exited_at.is_some());
        let deleted = web.delete("").unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
        assert!(
            !rootfs.join("bin").exists(),
            "the root file system is unmounted"
        );
        assert_eq!(web.state("").unwrap_err().code, NOT_FOUND);
        assert_eq!(
            topics(&web, 2),
            ["/tasks/create", "/tasks/start"],
            "in this order"
        );
        let exit = web.containerd.event().exit();
        assert_eq!((&*exit.id, exit.pid, exit.exit_status), ("web", pid, 7));
        let event = web.containerd.event().delete();
        assert_eq!((event.pid, event.exit_status), (pid, 7));
        web.client.shutdown();
    });
}

#[test]
fn an_exit_is_never_told_before_the_start() {
    lane::test(|| {
        let mut web = Web::new("exit 0");
        for _ in 0..20 {
            web.run();
            web.wait("").unwrap();
            web.delete("").unwrap();
            let expected = [
                "/tasks/create",
                "/tasks/start",
                "/tasks/exit",
                "/tasks/delete",
            ];
            assert_eq!(topics(&web, 4), expected);
        }
        web.client.shutdown();
    });
}

#[test]
fn a_signal_is_128_and_its_number() {
    lane::test(|| {
        for signal in [9, 15, 34, 64] {
            let mut web = Web::new("exec sleep 1000");
            web.config["process"]["args"] = serde_json::json!(["/bin/sleep", "1000"]);
            // Init of a pid namespace is not killed by what it does not handle.
            web.config["linux"]["namespaces"] = without_pid(&web.config);
            web.run();
            let waiting = web.client.send("Wait", &name("web", ""));
            web.kill("", signal, false).unwrap();
            assert_eq!(web.wait("").unwrap(), 128 + signal);
            let _ = waiting;
            let error = web.kill("", signal, false).unwrap_err();
            assert_eq!(error.code, NOT_FOUND);
            web.delete("").unwrap();
            web.client.shutdown();
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

fn without_pid(config: &serde_json::Value) -> serde_json::Value {
    let all = config["linux"]["namespaces"].as_array().unwrap();
    all.iter()
        .filter(|ns| ns["type"] != "pid")
        .cloned()
        .collect()
}

fn name(id: &str, exec: &str) -> corten_shim::proto::task::ProcessRequest {
    corten_shim::proto::task::ProcessRequest {
        id: id.to_owned(),
        exec_id: exec.to_owned(),
    }
}

#[test]
fn a_number_that_is_no_signal_is_refused_and_the_shim_lives() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        assert_eq!(web.kill("", 65, false).unwrap_err().code, 3);
        assert_eq!(web.kill("", u32::MAX, false).unwrap_err().code, 3);
        web.end();
    });
}

#[test]
fn a_container_without_a_pid_namespace_ends_with_its_first_process() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000 & exit 3");
        web.config["linux"]["namespaces"] = without_pid(&web.config);
        web.run();
        assert_eq!(web.wait("").unwrap(), 3);
        // The orphan came to the shim, was killed, and is reaped: the cgroup can go.
        web.delete("").unwrap();
        let pid = web.client.shim_pid();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let none = || {
            std::fs::read_to_string(&children)
                .unwrap()
                .is_empty()
                .then_some(())
        };
        assert!(corten_conformance::wait::until(fake::LIMIT, none).is_some());
        web.client.shutdown();
    });
}

#[test]
fn names_are_used_once_and_unknown_ones_are_not_found() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        assert_eq!(web.state("").unwrap_err().code, NOT_FOUND);
        assert_eq!(web.wait("").unwrap_err().code, NOT_FOUND);
        web.run();
        assert_eq!(web.create().unwrap_err().code, ALREADY_EXISTS);
        assert_eq!(web.start("").unwrap_err().code, FAILED_PRECONDITION);
        assert_eq!(web.delete("").unwrap_err().code, FAILED_PRECONDITION);
        assert_eq!(web.state("nobody").unwrap_err().code, NOT_FOUND);
        // A shim with containers does not end.
        let _: Empty = web.client.name("Shutdown", "", "").unwrap();
        assert_eq!(web.state("").unwrap().status, RUNNING);
        web.end();
    });
}

#[test]
fn a_container_that_was_never_started_can_be_deleted() {
    lane::test(|| {
        let mut web = Web::new("true");
        let pid = web.create().unwrap();
        let deleted = web.delete("").unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
        let order = ["/tasks/create", "/tasks/exit", "/tasks/delete"];
        assert_eq!(topics(&web, 3), order);
        web.client.shutdown();
    });
}

#[test]
fn a_failed_create_says_why_and_leaves_nothing() {
    lane::test(|| {
        let mut web = Web::new("true");
        web.config["mounts"] = serde_json::json!([
            {"destination": "/x", "type": "frobfs", "source": "none"}
        ]);
        let error = web.create().unwrap_err();
        assert!(error.message.contains("mounts[0]"), "{}", error.message);
        assert!(!web.bundle.join("rootfs/bin").exists());
        let left = std::fs::read_dir("/run/containerd/corten/test")
            .unwrap()
            .count();
        assert_eq!(left, 0);
        web.client.shutdown();
    });
}

#[test]
fn a_program_that_is_not_there_is_told_by_start() {
    lane::test(|| {
        let mut web = Web::new("true");
        web.config["process"]["args"] = serde_json::json!(["/bin/nothing"]);
        // Found missing by create or by start, but always in words.
        let failed = web.create().and_then(|_| web.start("")).unwrap_err();
        assert!(
            failed.message.contains("/bin/nothing"),
            "{}",
            failed.message
        );
        if web.state("").is_ok() {
            web.wait("").unwrap();
            web.delete("").unwrap();
        }
        web.client.shutdown();
    });
}

#[test]
fn pause_and_resume_are_told_and_seen() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let _: Empty = web.client.name("Pause", "web", "").unwrap();
        assert_eq!(web.state("").unwrap().status, PAUSED);
        let error = web.client.name::<Empty>("Pause", "web", "").unwrap_err();
        assert_eq!(error.code, FAILED_PRECONDITION);
        let _: Empty = web.client.name("Resume", "web", "").unwrap();
        assert_eq!(web.state("").unwrap().status, RUNNING);
        let order = [
            "/tasks/create",
            "/tasks/start",
            "/tasks/paused",
            "/tasks/resumed",
        ];
        assert_eq!(topics(&web, 4), order);
        web.end();
    });
}

#[test]
fn output_arrives_whole_and_delete_waits_for_it() {
    lane::test(|| {
        let mut web = Web::new("seq 100000; exit 0");
        let mut stdout = web.stdout();
        web.run();
        // More than all pipes hold: the container is still writing.
        let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
        assert_eq!(read(&mut stdout, expected.len()), expected);
        assert_eq!(web.wait("").unwrap(), 0);
        web.delete("").unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
        assert_eq!(rest, "", "the end follows at once");
        web.client.shutdown();
    });
}

#[test]
fn a_reader_that_is_gone_or_slow_holds_up_only_its_own_container() {
    lane::test(|| {
        let mut web = Web::new("seq 1000000");
        let mut stdout = web.stdout();
        web.run();
        read(&mut stdout, 10);
        drop(stdout);
        // Its pipes fill up; calls and other containers go on.
        let Web {
            containerd,
            client,
            bundle,
            ..
        } = web;
        let mut other = Web::with(containerd, client, "other", "echo hello");
        let mut hello = other.stdout();
        other.run();
        assert_eq!(read(&mut hello, 6), "hello\n");
        assert_eq!(other.wait("").unwrap(), 0);
        other.delete("").unwrap();
        // A reader that comes back reads on: the container was neither killed nor told.
        let mut again = open_reader(&bundle.join("stdout"));
        read(&mut again, 200_000);
        other.id = "web".to_owned();
        other.bundle = bundle;
        assert_eq!(other.state("").unwrap().status, RUNNING);
        drop(again);
        other.kill("", 9, true).unwrap();
        other.wait("").unwrap();
        let reader = open_reader(&other.bundle.join("stdout"));
        let drained = std::thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
        other.delete("").unwrap();
        drained.join().unwrap().unwrap();
        other.client.shutdown();
    });
}

#[test]
fn input_goes_through_until_it_is_closed() {
    lane::test(|| {
        let mut web = Web::new("cat; echo end");
        let mut stdout = web.stdout();
        let stdin = web.fifo("stdin");
        web.request.stdin = stdin.display().to_string();
        web.run();
        for word in ["one\n", "two\n"] {
            // Each client that goes away leaves the input open.
            let mut client = std::fs::OpenOptions::new()
                .write(true)
                .open(&stdin)
                .unwrap();
            client.write_all(word.as_bytes()).unwrap();
            drop(client);
            assert_eq!(read(&mut stdout, 4), word);
        }
        let request = CloseIoRequest {
            id: "web".to_owned(),
            exec_id: String::new(),
            stdin: true,
        };
        let _: Empty = web.client.call("CloseIO", &request).unwrap();
        assert_eq!(read(&mut stdout, 4), "end\n");
        web.wait("").unwrap();
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn a_terminal_has_a_size_and_input_and_drains_to_the_end() {
    lane::test(|| {
        let mut web = Web::new("read line; stty size; seq 10000; echo bye");
        web.config["process"]["terminal"] = serde_json::json!(true);
        web.request.terminal = true;
        let mut stdout = web.stdout();
        let stdin = web.fifo("stdin");
        web.request.stdin = stdin.display().to_string();
        web.run();
        let request = ResizePtyRequest {
            id: "web".to_owned(),
            exec_id: String::new(),
            width: 97,
            height: 31,
        };
        let _: Empty = web.client.call("ResizePty", &request).unwrap();
        let mut client = std::fs::OpenOptions::new()
            .write(true)
            .open(&stdin)
            .unwrap();
        client.write_all(b"go\n").unwrap();
        assert_eq!(read(&mut stdout, 11), "go\r\n31 97\r\n");
        let expected: String = (1..=10_000).map(|n| format!("{n}\r\n")).collect();
        let expected = expected + "bye\r\n";
        assert_eq!(read(&mut stdout, expected.len()), expected);
        assert_eq!(web.wait("").unwrap(), 0);
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn output_to_a_file_has_both_streams() {
    lane::test(|| {
        let mut web = Web::new("echo out; echo err >&2");
        web.request.stdout = "file:///run/fake/logs/deep/web.log".to_owned();
        web.run();
        web.wait("").unwrap();
        web.delete("").unwrap();
        let mut lines: Vec<String> = std::fs::read_to_string("/run/fake/logs/deep/web.log")
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
        web.client.shutdown();
    });
}

#[test]
fn a_logger_gets_output_arguments_and_time_to_finish() {
    lane::test(|| {
        let mut web = Web::new("echo out; echo err >&2");
        let script = "#!/bin/sh\ntrap : TERM\nenv >/run/fake/env\necho \"$@\" >/run/fake/args\n\
                      exec 5>&-\ncat <&3 >/run/fake/out\ncat <&4 >/run/fake/err\n\
                      echo done >/run/fake/done\n";
        let path = web.containerd.folder.join("logger");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        web.request.stdout = format!("binary://{}?key=a%20b&env.X=y", path.display());
        web.run();
        assert_eq!(web.wait("").unwrap(), 0);
        web.delete("").unwrap();
        // The shim ends when its logger has.
        web.client.shutdown();
        let text = |name: &str| std::fs::read_to_string(Path::new("/run/fake").join(name)).unwrap();
        assert_eq!((&*text("out"), &*text("err")), ("out\n", "err\n"));
        assert_eq!(text("args"), "key a b\n");
        assert_eq!(text("done"), "done\n");
        let environment = text("env");
        for line in ["CONTAINER_ID=web", "CONTAINER_NAMESPACE=test", "X=y"] {
            assert!(environment.lines().any(|l| l == line), "{environment}");
        }
        assert!(!environment.contains("TTRPC"), "{environment}");
    });
}

#[test]
fn an_unknown_scheme_is_refused() {
    lane::test(|| {
        let mut web = Web::new("true");
        web.request.stdout = "gopher://x".to_owned();
        assert!(web.create().unwrap_err().message.contains("gopher"));
        web.client.shutdown();
    });
}

#[test]
fn pipes_belong_to_the_user_of_the_options() {
    lane::test(|| {
        let mut containerd = Containerd::new(Version::Json);
        containerd.options.io_uid = 1000;
        containerd.options.io_gid = 1001;
        let options = containerd.options.clone();
        let mut web = Web::of(containerd, "web", "sleep 1000");
        web.request.options = Some(corten_shim::proto::Any::pack(
            "containerd.runc.v1.Options",
            &options,
        ));
        let _stdout = web.stdout();
        let pid = web.run();
        let pipe = std::fs::metadata(format!("/proc/{pid}/fd/1")).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!((pipe.uid(), pipe.gid()), (1000, 1001));
        web.end();
    });
}

#[test]
fn statistics_are_those_of_cgroup_v2() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let answer: StatsResponse = web.client.name("Stats", "web", "").unwrap();
        let stats = answer.stats.unwrap();
        assert_eq!(stats.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = Metrics::decode(&*stats.value).unwrap();
        // cpu.stat is there without any controller.
        assert!(metrics.cpu.unwrap().usage_usec > 0);
        web.end();
    });
}

#[test]
fn pids_are_all_of_the_cgroup() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000 & sleep 1000; true");
        let pid = web.run();
        let three = || {
            let answer: PidsResponse = web.client.name("Pids", "web", "").unwrap();
            let pids: Vec<u32> = answer.processes.iter().map(|process| process.pid).collect();
            (pids.len() == 3).then_some(pids)
        };
        let pids = corten_conformance::wait::until(fake::LIMIT, three).unwrap();
        assert!(pids.contains(&pid));
        web.end();
    });
}

#[test]
fn a_container_outlives_every_connection_and_events_wait_for_containerd() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let pid = web.run();
        topics(&web, 2);
        let (path, bundle) = (web.client.path.clone(), web.bundle.clone());
        // containerd goes away, with all its sockets.
        let Web {
            containerd,
            client,
            request,
            config,
            ..
        } = web;
        drop(client);
        std::fs::remove_file(containerd.folder.join("ttrpc")).unwrap();
        containerd.hang_up();
        let address = format!("unix://{}", path.display());
        let client = fake::Client::new(3, &address);
        let mut web = Web {
            containerd,
            id: "web".to_owned(),
            bundle,
            client,
            config,
            request,
        };
        let connected: ConnectResponse = web.client.name("Connect", "web", "").unwrap();
        assert_eq!(connected.task_pid, pid);
        web.kill("", 9, false).unwrap();
        assert_eq!(web.wait("").unwrap(), 137);
        // It comes back, and is told what it has missed.
        web.containerd.listen_again();
        assert_eq!(web.containerd.event().exit().exit_status, 137);
        web.delete("").unwrap();
        assert_eq!(web.containerd.event().delete().exit_status, 137);
        web.client.shutdown();
    });
}

#[test]
fn nothing_is_left_of_a_container_whose_shim_was_killed() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let pid = web.run();
        kill(web.client.shim_pid());
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        let start = std::time::Instant::now();
        let deleted = web.containerd.delete("web", &web.bundle);
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
        assert!(
            start.elapsed() < std::time::Duration::from_secs(5),
            "containerd's limit"
        );
        fake::gone(pid);
        assert!(!web.bundle.join("rootfs/bin").exists());
        assert!(!web.client.path.exists());
        assert_eq!(
            std::fs::read_dir("/run/containerd/corten/test")
                .unwrap()
                .count(),
            0
        );
    });
}

#[test]
fn an_idle_shim_has_one_thread() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let pid = web.client.shim_pid();
        let tasks = format!("/proc/{pid}/task");
        let one = || (std::fs::read_dir(&tasks).unwrap().count() == 1).then_some(());
        assert!(corten_conformance::wait::until(fake::LIMIT, one).is_some());
        web.end();
    });
}

#[test]
fn an_exec_is_added_started_waited_for_and_deleted() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let init = web.run();
        web.add_exec("one", "exit 5").unwrap();
        let state = web.state("one").unwrap();
        assert_eq!((state.status, state.pid, &*state.id), (CREATED, 0, "one"));
        assert_eq!(
            web.add_exec("one", "true").unwrap_err().code,
            ALREADY_EXISTS
        );
        assert_eq!(
            web.kill("one", 9, false).unwrap_err().code,
            FAILED_PRECONDITION
        );
        let pid = web.start("one").unwrap();
        assert_ne!(pid, init);
        assert_eq!(web.wait("one").unwrap(), 5);
        assert_eq!(web.state("one").unwrap().status, STOPPED);
        assert_eq!(web.kill("one", 9, false).unwrap_err().code, NOT_FOUND);
        let deleted = web.delete("one").unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 5));
        assert_eq!(web.state("one").unwrap_err().code, NOT_FOUND);
        let order = [
            "/tasks/create",
            "/tasks/start",
            "/tasks/exec-added",
            "/tasks/exec-started",
        ];
        assert_eq!(topics(&web, 4), order);
        let exit = web.containerd.event().exit();
        assert_eq!((&*exit.container_id, &*exit.id), ("web", "one"));
        // The end of an exec is not the end of its container: no /tasks/delete.
        web.kill("", 9, false).unwrap();
        web.wait("").unwrap();
        web.delete("").unwrap();
        assert_eq!(web.containerd.event().exit().id, "web");
        web.containerd.event().delete();
        web.client.shutdown();
    });
}

#[test]
fn the_first_process_is_the_last_whose_exit_is_told() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        for number in 0..10 {
            let exec = format!("exec-{number}");
            web.add_exec(&exec, "sleep 1000").unwrap();
            web.start(&exec).unwrap();
        }
        topics(&web, 22);
        web.kill("", 9, false).unwrap();
        assert_eq!(web.wait("").unwrap(), 137);
        for _ in 0..10 {
            assert!(web.containerd.event().exit().id.starts_with("exec-"));
        }
        assert_eq!(web.containerd.event().exit().id, "web");
        assert_eq!(
            web.add_exec("late", "true").unwrap_err().code,
            FAILED_PRECONDITION
        );
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn pids_tell_which_process_is_an_exec() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let init = web.run();
        web.add_exec("shell", "sleep 1000").unwrap();
        let pid = web.start("shell").unwrap();
        let answer: PidsResponse = web.client.name("Pids", "web", "").unwrap();
        let info = |wanted: u32| {
            let mut all = answer.processes.iter();
            all.find(|process| process.pid == wanted)
                .unwrap()
                .info
                .clone()
        };
        assert_eq!(info(init), None);
        let details = info(pid).unwrap();
        assert_eq!(details.type_url, "containerd.runc.v1.ProcessDetails");
        let details = ProcessDetails::decode(&*details.value).unwrap();
        assert_eq!(details.exec_id, "shell");
        web.end();
    });
}

#[test]
fn an_exec_that_can_not_be_started_says_why_and_can_be_deleted() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        web.add_exec("bad", "true").unwrap();
        // Its output has nowhere to go.
        web.client
            .call::<Empty>(
                "Exec",
                &corten_shim::proto::task::ExecProcessRequest {
                    id: "web".to_owned(),
                    exec_id: "worse".to_owned(),
                    spec: Some(corten_shim::proto::Any {
                        type_url: String::new(),
                        value: br#"{"args":["/bin/nothing"],"cwd":"/"}"#.to_vec(),
                    }),
                    ..Default::default()
                },
            )
            .unwrap();
        let error = web.start("worse").unwrap_err();
        assert!(error.message.contains("/bin/nothing"), "{}", error.message);
        assert_ne!(web.wait("worse").unwrap(), 0);
        web.delete("worse").unwrap();
        web.delete("bad").unwrap();
        web.end();
    });
}
