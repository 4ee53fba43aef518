//! Deletes that meet other calls, and what is told then.

use std::path::PathBuf;

use corten_conformance::{lane, wait};
use corten_shim::proto::Empty;
use corten_shim::proto::task::{DeleteResponse, KillRequest, WaitResponse};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::fake;
use crate::fake::container::{FAILED_PRECONDITION, NOT_FOUND, RUNNING, Web, open_reader};

/// A container whose Delete waits until somebody writes to the fifo.
fn ends_slowly(script: &str) -> (Web, PathBuf) {
    let mut web = Web::new(script);
    let fifo = web.fifo("hook");
    let begun = web.containerd.folder.join("begun");
    let script = format!(": >{}; read x <{}", begun.display(), fifo.display());
    web.config["hooks"] = serde_json::json!({
        "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]
    });
    (web, fifo)
}

fn delete_slowly(web: &mut Web) -> u32 {
    let deleting = web.ask("Delete", "");
    let begun = web.containerd.folder.join("begun");
    let has_begun = || begun.exists().then_some(());
    assert!(wait::until(fake::LIMIT, has_begun).is_some());
    std::fs::remove_file(begun).unwrap();
    deleting
}

#[test]
fn a_start_that_meets_a_delete_is_refused_and_the_end_is_told() {
    lane::test(|| {
        let (mut web, fifo) = ends_slowly("sleep 1000");
        web.create().unwrap();
        web.add_exec("one", "sleep 1000").unwrap();
        let waiting = web.ask("Wait", "");
        let deleting = delete_slowly(&mut web);
        for exec in ["", "one"] {
            let refused = web.start(exec).unwrap_err();
            assert_eq!(refused.code, FAILED_PRECONDITION, "{exec:?}");
        }
        let refused = web.add_exec("two", "true").unwrap_err();
        assert_eq!(refused.code, FAILED_PRECONDITION);
        std::fs::write(&fifo, "\n").unwrap();
        let waited: Result<WaitResponse, _> = web.client.receive(waiting);
        assert_eq!(waited.unwrap().exit_status, 137);
        let deleted: DeleteResponse = web.client.receive(deleting).unwrap();
        assert_eq!(deleted.exit_status, 137);
        let order = [
            "/tasks/create",
            "/tasks/exec-added",
            "/tasks/exit",
            "/tasks/delete",
        ];
        assert_eq!(web.topics(4), order);
        web.client.shutdown();
    });
}

#[test]
fn a_created_container_ends_by_the_signal_that_it_was_sent_though_a_delete_follows_at_once() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        // In a pid namespace of its own it would take no notice.
        let all = web.config["linux"]["namespaces"].as_array_mut().unwrap();
        all.retain(|namespace| namespace["type"] != "pid");
        for _ in 0..100 {
            web.create().unwrap();
            let request = KillRequest {
                id: "web".to_owned(),
                signal: 15,
                ..KillRequest::default()
            };
            let killing = web.client.send("Kill", &request);
            let deleting = web.ask("Delete", "");
            web.client.receive::<Empty>(killing).unwrap();
            let deleted: DeleteResponse = web.client.receive(deleting).unwrap();
            assert_eq!(deleted.exit_status, 143);
            web.containerd.event();
            assert_eq!(web.containerd.event().exit().exit_status, 143);
            web.containerd.event();
        }
        web.client.shutdown();
    });
}

#[test]
fn of_a_delete_and_a_start_at_once_each_event_is_told_once_and_in_order() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        for number in 0..50 {
            web.create().unwrap();
            let mut calls = ["Delete", "Start"];
            if number % 2 == 1 {
                calls.reverse();
            }
            let asked = calls.map(|method| (method, web.ask(method, "")));
            let mut done = asked.map(|(method, stream)| {
                let answer = web.client.receive::<Empty>(stream);
                (answer.is_ok(), method)
            });
            done.sort_unstable();
            let [(false, _), (true, done)] = done else {
                panic!("{done:?}");
            };
            assert_eq!(web.containerd.event().topic, "/tasks/create");
            if done == "Start" {
                assert_eq!(web.containerd.event().topic, "/tasks/start");
                web.kill("", 9, false).unwrap();
                web.wait("").unwrap();
                web.delete("").unwrap();
            }
            assert_eq!(web.containerd.event().exit().exit_status, 137, "{number}");
            assert_eq!(web.containerd.event().delete().exit_status, 137, "{number}");
        }
        web.client.shutdown();
    });
}

#[test]
fn a_container_that_was_killed_before_its_start_can_be_deleted_at_once() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        for _ in 0..50 {
            web.create().unwrap();
            let kill = KillRequest {
                id: "web".to_owned(),
                signal: 9,
                ..KillRequest::default()
            };
            // While the process dies.
            web.client.send("Kill", &kill);
            web.delete("").unwrap();
        }
        web.client.shutdown();
    });
}

#[test]
fn a_second_delete_takes_nothing_of_the_next_container_of_that_name() {
    lane::test(|| {
        let (mut web, fifo) = ends_slowly("sleep 1000");
        web.run();
        web.kill("", 9, false).unwrap();
        web.wait("").unwrap();
        let first = delete_slowly(&mut web);
        let second = web.ask("Delete", "");
        let create = web.client.send("Create", &web.request.clone());
        assert!(
            web.client.receive::<Empty>(create).is_err(),
            "the name is still taken"
        );
        std::fs::write(&fifo, "\n").unwrap();
        web.client.receive::<DeleteResponse>(first).unwrap();
        let gone = web.client.receive::<DeleteResponse>(second).unwrap_err();
        assert_eq!(gone.code, NOT_FOUND);
        web.config["hooks"] = serde_json::json!({});
        web.run();
        assert_eq!(web.state("").unwrap().status, RUNNING);
        let life = ["/tasks/create", "/tasks/start"];
        let end = ["/tasks/exit", "/tasks/delete"];
        assert_eq!(web.topics(6), [life, end, life].concat());
        web.end();
    });
}

#[test]
fn a_delete_that_waits_for_output_is_none_of_the_next_exec_of_that_name() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let fifo = web.fifo("output");
        let name = fifo.display().to_string();
        // More than anybody takes.
        let reader = open_reader(&fifo);
        web.add_exec_to("one", "seq 1000000", &name).unwrap();
        let pid = web.start("one").unwrap();
        let mut options = std::fs::OpenOptions::new();
        let pipe = options.write(true).open(format!("/proc/{pid}/fd/1"));
        let pipe = pipe.unwrap();
        // Both are: the fifo, and the pipe that the exec writes to.
        let is_full = || {
            let length = rustix::io::ioctl_fionread(&reader).unwrap();
            let mut fds = [PollFd::new(&pipe, PollFlags::OUT)];
            let room = rustix::event::poll(&mut fds, Some(&Timespec::default()));
            (length == 64 << 10 && room.unwrap() == 0).then_some(())
        };
        assert!(wait::until(fake::LIMIT, is_full).is_some());
        drop(pipe);
        web.kill("one", 9, false).unwrap();
        web.wait("one").unwrap();
        let draining = web.ask("Delete", "one");
        web.kill("", 9, false).unwrap();
        web.wait("").unwrap();
        let deleting = web.ask("Delete", "");
        web.client.receive::<DeleteResponse>(deleting).unwrap();
        let gone = web.client.receive::<DeleteResponse>(draining);
        assert_eq!(gone.unwrap_err().code, NOT_FOUND);
        web.run();
        web.add_exec("one", "sleep 1000").unwrap();
        let pid = web.start("one").unwrap();
        let state = web.state("one").unwrap();
        assert_eq!((state.pid, state.status), (pid, RUNNING));
        drop(reader);
        web.end();
    });
}
