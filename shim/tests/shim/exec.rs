//! Processes that are added to a container.

use std::path::PathBuf;

use corten_conformance::{lane, wait};
use corten_shim::proto::Empty;
use corten_shim::proto::options::ProcessDetails;
use corten_shim::proto::task::{
    DeleteResponse, ExecProcessRequest, KillRequest, PidsResponse, WaitResponse,
};
use prost::Message as _;

use crate::fake;
use crate::fake::container::{
    ALREADY_EXISTS, CREATED, FAILED_PRECONDITION, NOT_FOUND, STOPPED, Web,
};

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
        assert_eq!(web.topics(4), order);
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
        web.topics(22);
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
fn execs_of_a_container_that_is_deleted_before_its_start_have_an_end() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let init = web.create().unwrap();
        for exec in ["started", "added"] {
            web.add_exec(exec, "sleep 1000").unwrap();
        }
        let pid = web.start("started").unwrap();
        let (started, added) = (web.ask("Wait", "started"), web.ask("Wait", "added"));
        let deleting = web.ask("Delete", "");
        let mut answers = std::collections::BTreeMap::new();
        for _ in 0..3 {
            let (stream, answer) = web.client.next();
            answers.insert(stream, answer);
        }
        let waited = answers[&started].as_ref().unwrap();
        assert_eq!(WaitResponse::decode(&**waited).unwrap().exit_status, 137);
        assert_eq!(answers[&added].as_ref().unwrap_err().code, NOT_FOUND);
        let deleted = DeleteResponse::decode(&**answers[&deleting].as_ref().unwrap()).unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (init, 137));
        fake::gone(pid);
        web.topics(4);
        assert_eq!(web.containerd.event().exit().id, "started");
        assert_eq!(web.containerd.event().exit().id, "web");
        web.containerd.event().delete();
        web.client.shutdown();
    });
}

/// Starts an exec whose logger is not ready until somebody writes to the fifo. Comes back when
/// the logger is there.
pub(crate) fn start_slowly(web: &mut Web, script: &str) -> (PathBuf, u32) {
    let fifo = web.fifo("hold");
    let begun = web.containerd.folder.join("logging");
    let [mark, hold] = [&begun, &fifo].map(|path| path.display());
    let logger = web.logger(&format!(": >{mark}; read x <{hold}; exec 5>&-; cat <&3"));
    web.add_exec_to("slow", script, &logger).unwrap();
    let starting = web.ask("Start", "slow");
    let has_begun = || begun.exists().then_some(());
    assert!(wait::until(fake::LIMIT, has_begun).is_some());
    (fifo, starting)
}

#[test]
fn an_exec_that_hangs_while_it_starts_does_not_hold_back_the_end_of_its_container() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let (fifo, starting) = start_slowly(&mut web, "sleep 1000");
        web.topics(3);
        web.kill("", 9, true).unwrap();
        let exit = web.containerd.event().exit();
        assert_eq!((&*exit.id, exit.exit_status), ("web", 137));
        assert_eq!(web.state("slow").unwrap().status, CREATED, "it still hangs");
        std::fs::write(&fifo, "\n").unwrap();
        let answer = web.client.receive::<Empty>(starting);
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(web.wait("slow").unwrap(), 255);
        let shim = web.client.shim_pid();
        fake::children(shim, &[]);
        web.delete("").unwrap();
        web.containerd.event().delete();
        web.client.shutdown();
    });
}

#[test]
fn orphans_are_reaped_while_an_exec_hangs_that_is_being_started() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.config["linux"]["namespaces"] = crate::task::without_pid(&web.config).into();
        let init = web.run();
        let (fifo, starting) = start_slowly(&mut web, "exit 5");
        web.add_exec("parent", "(exec 3<>/dev/null; sleep 0.01) & exit 0")
            .unwrap();
        web.start("parent").unwrap();
        assert_eq!(web.wait("parent").unwrap(), 0);
        // The logger belongs to the thread that hangs.
        fake::children(web.client.shim_pid(), &[init]);
        assert_eq!(web.state("slow").unwrap().status, CREATED, "it still hangs");
        std::fs::write(&fifo, "\n").unwrap();
        web.client.receive::<Empty>(starting).unwrap();
        assert_eq!(web.wait("slow").unwrap(), 5);
        web.end();
    });
}

#[test]
fn the_status_of_an_exec_that_ends_while_it_is_started_is_kept_and_holds_up_no_orphan() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.config["linux"]["namespaces"] = crate::task::without_pid(&web.config).into();
        let init = web.run();
        let fifo = web.fifo("hold");
        let logger = web.logger(&format!("read x <{}; exec 5>&-; cat <&3", fifo.display()));
        // Its process is there, and its logger is not ready.
        let request = corten_shim::proto::task::ExecProcessRequest {
            id: "web".to_owned(),
            exec_id: "fast".to_owned(),
            terminal: true,
            stdout: logger,
            spec: Some(corten_shim::proto::Any {
                type_url: String::new(),
                value: br#"{"args":["/bin/sh","-c","exit 5"],"cwd":"/","env":["PATH=/bin"]}"#
                    .to_vec(),
            }),
            ..Default::default()
        };
        web.client.call::<Empty>("Exec", &request).unwrap();
        let starting = web.ask("Start", "fast");
        let shim = web.client.shim_pid();
        let ended = || fake::dead_shells(shim).pop();
        let ended = corten_conformance::wait::until(fake::LIMIT, ended).unwrap();
        // Orphans that come to the shim are reaped meanwhile, and it is not.
        for number in 0..10 {
            let exec = format!("parent-{number}");
            web.add_exec(&exec, "(exec 3<>/dev/null; sleep 0.01) & exit 0")
                .unwrap();
            web.start(&exec).unwrap();
            assert_eq!(web.wait(&exec).unwrap(), 0);
        }
        fake::children(shim, &[init]);
        assert_eq!(fake::dead_shells(shim), [ended]);
        std::fs::write(&fifo, "\n").unwrap();
        web.client.receive::<Empty>(starting).unwrap();
        assert_eq!(web.wait("fast").unwrap(), 5);
        web.end();
    });
}

#[test]
fn a_kill_and_a_delete_of_an_exec_that_is_being_started_wait_for_that() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let (fifo, starting) = start_slowly(&mut web, "exec sleep 1000");
        let request = KillRequest {
            id: "web".to_owned(),
            exec_id: "slow".to_owned(),
            signal: 9,
            all: false,
        };
        let killing = web.client.send("Kill", &request);
        let asked = web.client.ask("Connect", "", "");
        assert_eq!(web.client.next().0, asked, "nothing else is answered yet");
        std::fs::write(&fifo, "\n").unwrap();
        web.client.receive::<Empty>(starting).unwrap();
        web.client.receive::<Empty>(killing).unwrap();
        assert_eq!(web.wait("slow").unwrap(), 137);
        web.delete("slow").unwrap();
        // One whose start fails: its input is not there.
        let logger = web.logger(&format!("read x <{}; exec 5>&-; cat <&3", fifo.display()));
        let request = ExecProcessRequest {
            id: "web".to_owned(),
            exec_id: "bad".to_owned(),
            stdin: "/run/fake/nothing".to_owned(),
            stdout: logger,
            spec: Some(corten_shim::proto::Any {
                type_url: String::new(),
                value: br#"{"args":["/bin/true"],"cwd":"/"}"#.to_vec(),
            }),
            ..ExecProcessRequest::default()
        };
        web.client.call::<Empty>("Exec", &request).unwrap();
        let starting = web.ask("Start", "bad");
        let deleting = web.ask("Delete", "bad");
        let asked = web.client.ask("Connect", "", "");
        assert_eq!(web.client.next().0, asked, "nothing else is answered yet");
        std::fs::write(&fifo, "\n").unwrap();
        let failed = web.client.receive::<Empty>(starting).unwrap_err();
        assert!(failed.message.contains("nothing"), "{}", failed.message);
        web.client.receive::<DeleteResponse>(deleting).unwrap();
        assert_eq!(web.state("bad").unwrap_err().code, NOT_FOUND);
        web.end();
    });
}

#[test]
fn an_exec_that_hangs_is_none_of_the_next_container_of_that_name() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let (fifo, starting) = start_slowly(&mut web, "sleep 1000");
        web.kill("", 9, true).unwrap();
        web.wait("").unwrap();
        web.delete("").unwrap();
        let init = web.run();
        web.add_exec("slow", "exit 6").unwrap();
        std::fs::write(&fifo, "\n").unwrap();
        let answer = web.client.receive::<Empty>(starting);
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(web.state("slow").unwrap().status, CREATED);
        fake::children(web.client.shim_pid(), &[init]);
        web.start("slow").unwrap();
        assert_eq!(web.wait("slow").unwrap(), 6);
        web.end();
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

#[test]
fn many_execs_leave_nothing_and_take_no_memory() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let mut stdout = web.stdout();
        let output = web.request.stdout.clone();
        web.run();
        let drained = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let pid = web.client.shim_pid();
        let mut before = None;
        // More by hand: CORTEN_EXECS=100000, with CORTEN_SHIM for a release build.
        let count = std::env::var("CORTEN_EXECS").map_or(60, |count| count.parse().unwrap());
        let begin = std::time::Instant::now();
        for number in 0..count {
            let exec = format!("exec-{number}");
            web.add_exec_to(&exec, "echo x", &output).unwrap();
            web.start(&exec).unwrap();
            assert_eq!(web.wait(&exec).unwrap(), 0, "{exec}");
            web.delete(&exec).unwrap();
            while web.containerd.next_event().is_some() {}
            if number == 9.max(count / 100) {
                before = Some((settled(pid), memory(pid)));
            }
            if count > 1000 && number % (count / 10) == 0 {
                let now = (settled(pid), memory(pid));
                println!("{number} after {:?}: {now:?} kB", begin.elapsed());
            }
        }
        let (things, kilobytes) = before.unwrap();
        let now = memory(pid);
        println!(
            "{count} after {:?}: {:?}, {now} kB",
            begin.elapsed(),
            settled(pid)
        );
        assert_eq!(settled(pid), things);
        assert!(now < kilobytes + 256, "{now} kB, before {kilobytes} kB");
        web.end();
        drained.join().unwrap().unwrap();
    });
}

/// What a shim holds.
#[derive(Debug, PartialEq)]
struct Things {
    descriptors: usize,
    /// Of all its epolls and inotifies.
    watches: usize,
    children: String,
    session_keyrings: usize,
}

/// What a shim holds once its threads have gone.
fn settled(pid: u32) -> Things {
    let list = |name: &str| {
        let all = std::fs::read_dir(format!("/proc/{pid}/{name}")).unwrap();
        all.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let one = || (list("task").len() == 1).then_some(());
    assert!(corten_conformance::wait::until(fake::LIMIT, one).is_some());
    let watches = list("fdinfo").into_iter().map(|path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let is_watch = |line: &&str| line.starts_with("tfd:") || line.starts_with("inotify");
        text.lines().filter(is_watch).count()
    });
    let children = format!("/proc/{pid}/task/{pid}/children");
    Things {
        descriptors: list("fd").len(),
        watches: watches.sum(),
        children: std::fs::read_to_string(children).unwrap(),
        session_keyrings: session_keyrings(),
    }
}

/// The keyrings of sessions, which each exec has one of: the machine's, so 0 where other tests
/// run as well. The kernel takes away those that nobody has, a moment later.
fn session_keyrings() -> usize {
    if std::env::var_os("CORTEN_EXECS").is_none() {
        return 0;
    }
    let count = || {
        let keys = std::fs::read_to_string("/proc/keys").unwrap();
        keys.lines()
            .filter(|line| line.contains("_ses.web"))
            .count()
    };
    corten_conformance::wait::until(fake::LIMIT, || (count() == 1).then_some(()));
    count()
}

/// The memory of a shim that is its own, in kilobytes: of what it shares with a file, more or
/// less is there.
fn memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |name: &str| -> u64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    of("Anonymous:")
}
