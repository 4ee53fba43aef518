//! The life of a container as containerd asks for it.

use std::path::Path;

use corten_conformance::lane;
use corten_shim::proto::Empty;
use corten_shim::proto::stats::Metrics;
use corten_shim::proto::task::{ConnectResponse, PidsResponse, StatsResponse};
use prost::Message as _;

use crate::fake::container::{
    ALREADY_EXISTS, CREATED, FAILED_PRECONDITION, NOT_FOUND, PAUSED, RUNNING, STOPPED, Web,
};
use crate::fake::{self, Containerd, Version, kill};

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
            web.topics(2),
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
            assert_eq!(web.topics(4), expected);
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
            web.config["linux"]["namespaces"] = without_pid(&web.config).into();
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

pub(crate) fn without_pid(config: &serde_json::Value) -> Vec<serde_json::Value> {
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
        web.config["linux"]["namespaces"] = without_pid(&web.config).into();
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
fn an_end_is_told_when_the_rest_of_the_container_was_killed() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000 & exit 3");
        web.config["linux"]["namespaces"] = without_pid(&web.config).into();
        for _ in 0..10 {
            let init = web.create().unwrap();
            let cgroup = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
            let cgroup = cgroup.trim().trim_start_matches("0::/");
            let procs = Path::new("/sys/fs/cgroup")
                .join(cgroup)
                .join("cgroup.procs");
            web.start("").unwrap();
            assert_eq!(web.wait("").unwrap(), 3);
            for pid in std::fs::read_to_string(procs).unwrap_or_default().lines() {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
                let status = status.unwrap_or_default();
                // SIGKILL is the ninth bit; who has died has nothing pending.
                let dies =
                    status.contains("SigPnd:\t0000000000000100") || !status.contains("State:\tS");
                assert!(dies, "{status}");
            }
            web.delete("").unwrap();
        }
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
        assert_eq!(web.topics(3), order);
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
        let error = web.add_exec("one", "true").unwrap_err();
        assert_eq!(error.code, FAILED_PRECONDITION);
        let _: Empty = web.client.name("Resume", "web", "").unwrap();
        assert_eq!(web.state("").unwrap().status, RUNNING);
        let order = [
            "/tasks/create",
            "/tasks/start",
            "/tasks/paused",
            "/tasks/resumed",
        ];
        assert_eq!(web.topics(4), order);
        web.end();
    });
}

#[test]
fn a_container_that_has_ended_takes_no_signal_and_no_update_and_says_so() {
    lane::test(|| {
        let mut web = Web::new("exit 0");
        web.run();
        web.wait("").unwrap();
        assert_eq!(web.kill("", 9, false).unwrap_err().code, NOT_FOUND);
        // Its processes are in no cgroup any more: what is written must not reach another one.
        let root = || std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control");
        let before = root().unwrap();
        let request = corten_shim::proto::task::UpdateTaskRequest {
            id: "web".to_owned(),
            resources: Some(corten_shim::proto::Any {
                type_url: String::new(),
                value: br#"{"pids": {"limit": 77}}"#.to_vec(),
            }),
        };
        let updated = web.client.call::<Empty>("Update", &request);
        assert_eq!(updated.unwrap_err().code, FAILED_PRECONDITION);
        assert_eq!(root().unwrap(), before);
        for call in ["Pause", "Resume"] {
            let refused = web.client.name::<Empty>(call, "web", "").unwrap_err();
            assert_eq!(refused.code, FAILED_PRECONDITION, "{call}");
        }
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn hooks_and_containers_begin_with_no_signal_blocked_or_ignored() {
    lane::test(|| {
        // The shim itself blocks some, and ignores SIGPIPE.
        let show = "grep -E 'Sig(Blk|Ign)' /proc/self/status";
        let mut web = Web::new("");
        // No shell, which may ignore some itself.
        let words = ["busybox", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"];
        web.config["process"]["args"] = serde_json::json!(words);
        let script = format!("{show} >/run/fake/hook");
        web.config["hooks"] = serde_json::json!({
            "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script],
                "env": ["PATH=/bin:/usr/bin"]}]
        });
        let mut stdout = web.stdout();
        web.run();
        web.wait("").unwrap();
        web.delete("").unwrap();
        let mut text = std::fs::read_to_string("/run/fake/hook").unwrap();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        let none = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
        assert_eq!(text, none.repeat(2));
        web.client.shutdown();
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
        web.topics(2);
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
fn what_a_killed_shim_leaves_is_removed_within_a_second() {
    lane::test(|| {
        // The least of three, so that what else the machine does decides nothing.
        let took = (0..3).map(|_| {
            let mut web = Web::new("sleep 1000 & sleep 1000");
            let pid = web.run();
            web.add_exec("one", "sleep 1000").unwrap();
            web.start("one").unwrap();
            kill(web.client.shim_pid());
            let begin = std::time::Instant::now();
            let deleted = web.containerd.delete("web", &web.bundle);
            let took = begin.elapsed();
            assert_eq!(deleted.pid, pid);
            fake::gone(pid);
            assert!(!web.client.path.exists());
            std::fs::remove_dir_all("/run/fake").unwrap();
            took
        });
        let least = took.min().unwrap();
        assert!(least < std::time::Duration::from_secs(1), "{least:?}");
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
fn a_slow_create_or_start_holds_up_no_other_container() {
    lane::test(|| {
        let mut web = Web::new("true");
        let fifo = web.fifo("hook");
        let wait = format!("read x <{}", fifo.display());
        web.config["hooks"] = serde_json::json!({
            "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", wait]}],
            "startContainer": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]
        });
        std::fs::write(web.bundle.join("config.json"), web.config.to_string()).unwrap();
        let creating = web.client.send("Create", &web.request.clone());
        let Web {
            containerd,
            client,
            request,
            ..
        } = web;
        let path = client.path.clone();
        let address = format!("unix://{}", path.display());
        let mut other = Web::with(
            containerd,
            fake::Client::new(3, &address),
            "other",
            "exit 4",
        );
        other.run();
        assert_eq!(other.wait("").unwrap(), 4);
        other.delete("").unwrap();
        // Its hook ends now, and so does its creation; its start hangs, until it is killed.
        std::fs::write(&fifo, "\n").unwrap();
        let mut client = client;
        let created: corten_shim::proto::task::PidResponse = client.receive(creating).unwrap();
        let starting = client.send("Start", &name("web", ""));
        other.id = "other".to_owned();
        other.run();
        other.wait("").unwrap();
        other.delete("").unwrap();
        other.id = request.id;
        other.kill("", 9, true).unwrap();
        assert!(client.receive::<Empty>(starting).is_err());
        other.wait("").unwrap();
        fake::gone(created.pid);
        other.delete("").unwrap();
        other.client.shutdown();
    });
}

#[test]
fn a_checkpoint_is_refused_in_words_and_not_ignored() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.request.checkpoint = "/run/checkpoint".to_owned();
        let error = web.create().unwrap_err();
        assert_eq!(
            (error.code, error.message.contains("checkpoint")),
            (12, true)
        );
        web.request.checkpoint.clear();
        web.run();
        let error = web
            .client
            .name::<Empty>("Checkpoint", "web", "")
            .unwrap_err();
        assert_eq!(
            (error.code, error.message.contains("checkpoint")),
            (12, true)
        );
        web.end();
    });
}

#[test]
fn no_runtime_binary_is_executed_whatever_the_options_name() {
    lane::test(|| {
        let mut containerd = Containerd::new(Version::Json);
        containerd.options.binary_name = "/nowhere/runc".to_owned();
        let options = containerd.options.clone();
        // The shim has no PATH either.
        let mut web = Web::of(containerd, "web", "sleep 1000");
        web.request.options = Some(corten_shim::proto::Any::pack(
            "containerd.runc.v1.Options",
            &options,
        ));
        web.run();
        web.add_exec("one", "true").unwrap();
        web.start("one").unwrap();
        assert_eq!(web.wait("one").unwrap(), 0);
        web.end();
    });
}

#[test]
fn state_is_where_the_options_say() {
    lane::test(|| {
        let mut containerd = Containerd::new(Version::Json);
        containerd.options.root = "/run/elsewhere".to_owned();
        let options = containerd.options.clone();
        let mut web = Web::of(containerd, "web", "sleep 1000");
        web.request.options = Some(corten_shim::proto::Any::pack(
            "containerd.runc.v1.Options",
            &options,
        ));
        let pid = web.run();
        assert!(Path::new("/run/elsewhere/test/web").exists());
        // `delete`, which gets no options, finds it too.
        kill(web.client.shim_pid());
        web.containerd.delete("web", &web.bundle);
        fake::gone(pid);
        assert!(!Path::new("/run/elsewhere/test/web").exists());
    });
}

#[test]
fn an_update_reaches_the_kernel_or_says_why_not() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let pid = web.run();
        let mut update = |resources: &str| {
            let request = corten_shim::proto::task::UpdateTaskRequest {
                id: "web".to_owned(),
                resources: Some(corten_shim::proto::Any {
                    type_url: String::new(),
                    value: resources.as_bytes().to_vec(),
                }),
            };
            web.client.call::<Empty>("Update", &request)
        };
        update("{}").unwrap();
        assert_eq!(update(r#"{"memory": 7}"#).unwrap_err().code, 3);
        let path = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let path = path.trim().trim_start_matches("0::/");
        let limit = Path::new("/sys/fs/cgroup").join(path).join("pids.max");
        let updated = update(r#"{"pids": {"limit": 77}}"#);
        if limit.exists() {
            updated.unwrap();
            assert_eq!(std::fs::read_to_string(limit).unwrap(), "77\n");
        } else {
            assert!(updated.unwrap_err().message.contains("pids"));
        }
        web.end();
    });
}
