//! Events that containerd has not taken when their shim is to end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use corten_conformance::{lane, wait};
use corten_shim::proto::Empty;
use corten_shim::socket;

use crate::fake::container::{STOPPED, Web, read};
use crate::fake::{self, Client, Containerd};

/// Ends with this status by SIGTERM.
const ENDS: &str = "trap 'exit 5' TERM; echo ready; sleep 1000 & wait";

/// Before anything ends by a limit of its own.
const SOON: Duration = Duration::from_secs(5);

fn signal(pid: u32, name: &str) {
    let mut command = Command::new("kill");
    let sent = command.args([name, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// A shim gets a signal that does not end it yet, and has read it when this returns.
#[track_caller]
fn signal_first(client: &mut Client, shim: u32) {
    signal(shim, "-TERM");
    // The answer to the first call may be sent before it looks at the signal.
    assert_eq!(client.shim_pid(), shim);
    assert_eq!(client.shim_pid(), shim);
}

/// A container that runs, and ends by SIGTERM from now on.
fn start(web: &mut Web) -> u32 {
    let mut stdout = web.stdout();
    let pid = web.run();
    assert_eq!(read(&mut stdout, 6), "ready\n");
    pid
}

/// An exec ends, and then the first process.
fn end(web: &mut Web) {
    web.add_exec("one", "exit 3").unwrap();
    web.start("one").unwrap();
    assert_eq!(web.wait("one").unwrap(), 3);
    web.kill("", 15, false).unwrap();
    assert_eq!(web.wait("").unwrap(), 5);
}

/// What is told of that, in this order.
#[track_caller]
fn told(containerd: &Containerd, id: &str, pid: u32) {
    for topic in ["/tasks/exec-added", "/tasks/exec-started"] {
        assert_eq!(containerd.event().topic, topic);
    }
    for (process, status) in [("one", 3), (id, 5)] {
        let exit = containerd.event().exit();
        assert_eq!((&*exit.container_id, &*exit.id), (id, process));
        assert_eq!(exit.exit_status, status);
        assert_eq!(exit.pid == pid, process == id);
    }
}

/// The files in a bundle that have to do with events.
fn saved(bundle: &Path) -> Vec<String> {
    let names = std::fs::read_dir(bundle).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("events")).collect()
}

/// A shim that has ended while containerd was away, with one container.
fn ended() -> (Web, u32) {
    let mut web = Web::new(ENDS);
    let shim = web.client.shim_pid();
    let pid = start(&mut web);
    web.topics(2);
    web.containerd.leave();
    end(&mut web);
    let start = Instant::now();
    signal(shim, "-TERM");
    fake::gone(shim);
    assert!(start.elapsed() < SOON, "it waits for nobody");
    assert!(!web.client.path.exists(), "socket");
    assert_eq!(saved(&web.bundle), ["events"]);
    (web, pid)
}

/// Processes that wait for containerd to take events.
fn waiting() -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"\0publish\0")
    })
    .collect()
}

#[test]
fn what_a_signalled_shim_could_not_tell_is_told_by_delete_once_and_in_order() {
    lane::test(|| {
        let (mut web, pid) = ended();
        web.containerd.listen_again();
        let (deleted, warnings) = web.containerd.delete_warned("web", &web.bundle);
        assert_eq!(web.containerd.come(), 4, "before the answer");
        // Not what it would have ended with now.
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 5));
        assert_eq!(warnings, "");
        told(&web.containerd, "web", pid);
        assert!(waiting().is_empty());
        let again = web.containerd.delete("web", &web.bundle);
        assert_eq!(again, deleted);
        assert_eq!(web.containerd.come(), 4, "once");
    });
}

#[test]
fn a_signalled_shim_waits_for_a_slow_containerd_until_the_second_signal() {
    lane::test(|| {
        let mut web = Web::new(ENDS);
        let shim = web.client.shim_pid();
        let pid = start(&mut web);
        web.topics(2);
        web.containerd.hold();
        end(&mut web);
        signal_first(&mut web.client, shim);
        assert_eq!(web.state("").unwrap().status, STOPPED);
        let start = Instant::now();
        signal(shim, "-TERM");
        fake::gone(shim);
        assert!(start.elapsed() < SOON, "it ends at once");
        web.containerd.release();
        web.containerd.delete("web", &web.bundle);
        told(&web.containerd, "web", pid);
        // Of the first one nobody knew whether it was taken.
        assert_eq!(web.containerd.come(), 2 + 1 + 4);
    });
}

#[test]
fn a_signalled_shim_tells_a_slow_containerd_everything() {
    lane::test(|| {
        for name in ["-TERM", "-INT"] {
            let mut web = Web::new(ENDS);
            let shim = web.client.shim_pid();
            let pid = start(&mut web);
            web.topics(2);
            web.containerd.hold();
            end(&mut web);
            signal(shim, name);
            assert_eq!(web.client.shim_pid(), shim);
            web.containerd.release();
            told(&web.containerd, "web", pid);
            fake::gone(shim);
            assert!(!web.client.path.exists(), "socket");
            // containerd has it already, and tells what `delete` answers as well.
            let deleted = web.containerd.delete("web", &web.bundle);
            assert_eq!((deleted.pid, deleted.exit_status), (pid, 5));
            assert_eq!(web.containerd.come(), 6, "two of them before");
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

/// A shim gets a signal, and then sees at once that the container has ended as well.
fn signal_with_end(shim: u32, pid: u32) {
    signal(shim, "-STOP");
    // The signal is what it sees first.
    signal(shim, "-TERM");
    signal(pid, "-KILL");
    let dead = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") Z ").then_some(())
    };
    assert!(wait::until(fake::LIMIT, dead).is_some());
    signal(shim, "-CONT");
}

#[test]
fn an_end_that_is_there_with_the_signal_is_told() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let shim = web.client.shim_pid();
        let pid = web.run();
        web.topics(2);
        signal_with_end(shim, pid);
        assert_eq!(web.containerd.event().exit().exit_status, 137);
        fake::gone(shim);
        web.containerd.delete("web", &web.bundle);
        assert_eq!(web.containerd.come(), 3, "once");
    });
}

#[test]
fn an_end_that_is_there_with_the_second_signal_is_saved() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let shim = web.client.shim_pid();
        let pid = web.run();
        web.topics(2);
        web.containerd.hold();
        web.add_exec("one", "exit 3").unwrap();
        web.start("one").unwrap();
        assert_eq!(web.wait("one").unwrap(), 3);
        signal_first(&mut web.client, shim);
        signal_with_end(shim, pid);
        fake::gone(shim);
        web.containerd.release();
        web.containerd.delete("web", &web.bundle);
        web.topics(2);
        assert_eq!(web.containerd.event().exit().id, "one");
        assert_eq!(web.containerd.event().exit().id, "web");
    });
}

#[test]
fn each_container_of_a_shim_gets_its_own_events() {
    lane::test(|| {
        let mut web = Web::new(ENDS);
        let shim = web.client.shim_pid();
        let client = Client::new(3, &format!("unix://{}", web.client.path.display()));
        let mut other = Web::with(web.containerd.again(), client, "other", ENDS);
        let pids = [start(&mut web), start(&mut other)];
        web.topics(4);
        web.containerd.leave();
        end(&mut web);
        end(&mut other);
        signal(shim, "-TERM");
        fake::gone(shim);
        web.containerd.listen_again();
        let all = [("web", &web.bundle), ("other", &other.bundle)];
        for ((id, bundle), pid) in all.into_iter().zip(pids) {
            let deleted = web.containerd.delete(id, bundle);
            assert_eq!((deleted.pid, deleted.exit_status), (pid, 5));
            told(&web.containerd, id, pid);
        }
        assert_eq!(web.containerd.come(), 8, "once");
    });
}

/// Removes a bundle as containerd does behind `delete`.
fn remove(bundle: &PathBuf) {
    std::fs::remove_dir_all(bundle).unwrap();
}

#[test]
fn events_wait_for_a_containerd_that_listens_only_behind_its_deletes() {
    lane::test(|| {
        let (mut web, pid) = ended();
        let deleted = web.containerd.delete("web", &web.bundle);
        assert_eq!(deleted.exit_status, 5);
        remove(&web.bundle);
        let [process] = waiting()[..] else {
            panic!("{:?}", waiting());
        };
        web.containerd.listen_again();
        told(&web.containerd, "web", pid);
        fake::gone(process);
        assert_eq!(web.containerd.come(), 4, "once");
    });
}

#[test]
fn a_delete_does_not_wait_long_for_a_slow_containerd_and_nothing_is_lost() {
    lane::test(|| {
        let (mut web, pid) = ended();
        web.containerd.listen_again();
        web.containerd.hold();
        let start = Instant::now();
        web.containerd.delete("web", &web.bundle);
        assert!(start.elapsed() < SOON, "containerd's limit");
        remove(&web.bundle);
        let [process] = waiting()[..] else {
            panic!("{:?}", waiting());
        };
        web.containerd.release();
        told(&web.containerd, "web", pid);
        fake::gone(process);
        // Of the first one nobody knew whether it was taken.
        assert_eq!(web.containerd.come(), 5);
    });
}

#[test]
fn who_waits_with_events_ends_by_a_second_signal() {
    lane::test(|| {
        let (web, _) = ended();
        web.containerd.delete("web", &web.bundle);
        let [process] = waiting()[..] else {
            panic!("{:?}", waiting());
        };
        // From then on signals do not end it by themselves.
        let fds = || {
            let all = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
            let mut links = all.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
            let found = links.any(|link| link.to_string_lossy().contains("signalfd"));
            found.then_some(())
        };
        assert!(wait::until(fake::LIMIT, fds).is_some());
        // What it has read is not kept twice.
        let stdin = || {
            let link = std::fs::read_link(format!("/proc/{process}/fd/0")).unwrap();
            (link == Path::new("/dev/null")).then_some(())
        };
        assert!(wait::until(fake::LIMIT, stdin).is_some());
        signal(process, "-TERM");
        let taken = || {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
            let pending = status.lines().find(|line| line.starts_with("ShdPnd:"));
            pending?.ends_with("0000000").then_some(())
        };
        assert!(wait::until(fake::LIMIT, taken).is_some());
        assert_eq!(waiting(), [process], "the first one lets it try");
        let start = Instant::now();
        signal(process, "-TERM");
        fake::gone(process);
        assert!(start.elapsed() < SOON, "the second one does not");
    });
}

#[test]
fn a_delete_that_finds_something_else_than_events_says_so_and_deletes() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let shim = web.client.shim_pid();
        let pid = web.run();
        web.topics(2);
        fake::kill(shim);
        std::fs::write(web.bundle.join("events"), "corten events 1\n\x0agarbage").unwrap();
        let (deleted, warnings) = web.containerd.delete_warned("web", &web.bundle);
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 137));
        assert!(warnings.contains("events are lost"), "{warnings}");
        fake::gone(pid);
        assert!(!socket::file(&web.client.path.display().to_string()).exists());
        assert_eq!(web.containerd.come(), 2);
    });
}

#[test]
fn a_delete_that_can_not_read_the_events_fails_and_keeps_them() {
    lane::test(|| {
        let (mut web, pid) = ended();
        web.containerd.listen_again();
        let file = web.bundle.join("events");
        // Nothing is mapped at the address 0: EIO.
        let unreadable = format!("/proc/{}/mem", std::process::id());
        mount(&["--bind", &unreadable], &file);
        let words = web.containerd.delete_fails("web", &web.bundle);
        assert!(words.contains("Input/output error"), "{words}");
        fake::gone(pid);
        assert!(
            Command::new("umount")
                .arg(&file)
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(web.containerd.come(), 0);
        let deleted = web.containerd.delete("web", &web.bundle);
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 5));
        told(&web.containerd, "web", pid);
    });
}

#[test]
fn a_delete_that_fails_behind_the_events_answers_the_exit_when_it_is_asked_again() {
    lane::test(|| {
        let (mut web, pid) = ended();
        web.containerd.listen_again();
        let options = web.bundle.join("options.json");
        std::fs::remove_file(&options).unwrap();
        std::fs::create_dir(&options).unwrap();
        web.containerd.delete_fails("web", &web.bundle);
        told(&web.containerd, "web", pid);
        std::fs::remove_dir(&options).unwrap();
        let deleted = web.containerd.delete("web", &web.bundle);
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 5));
        assert_eq!(web.containerd.come(), 4, "once");
    });
}

#[test]
fn a_signalled_shim_waits_for_a_start_that_is_under_way_and_tells_it() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let shim = web.client.shim_pid();
        web.run();
        let (fifo, starting) = crate::exec::start_slowly(&mut web, "sleep 1000");
        web.topics(3);
        signal_first(&mut web.client, shim);
        std::fs::write(&fifo, "\n").unwrap();
        web.client.receive::<Empty>(starting).unwrap();
        assert_eq!(web.containerd.event().topic, "/tasks/exec-started");
        fake::gone(shim);
        web.containerd.delete("web", &web.bundle);
    });
}

#[test]
fn a_signalled_shim_makes_no_other_container() {
    lane::test(|| {
        let mut web = Web::new(ENDS);
        let shim = web.client.shim_pid();
        let client = Client::new(3, &format!("unix://{}", web.client.path.display()));
        let mut other = Web::with(web.containerd.again(), client, "other", ENDS);
        start(&mut web);
        web.topics(2);
        web.containerd.hold();
        end(&mut web);
        signal_first(&mut web.client, shim);
        let refused = other.create().unwrap_err();
        assert_eq!(refused.code, 14, "{}", refused.message);
        web.containerd.release();
        fake::gone(shim);
    });
}

fn mount(options: &[&str], target: &Path) {
    let mut command = Command::new("mount");
    let done = command.args(options).arg(target).status();
    assert!(done.unwrap().success());
}

/// What the shim of a container says that has ended, when this was done to its bundle. Its events
/// come all the same.
fn words_after(spoil: impl FnOnce(&Path)) -> (Web, String) {
    let mut web = Web::new(ENDS);
    let log = web.bundle.join("log");
    let mut log = std::fs::File::open(log).unwrap();
    let shim = web.client.shim_pid();
    let pid = start(&mut web);
    web.topics(2);
    web.containerd.leave();
    end(&mut web);
    spoil(&web.bundle);
    let start = Instant::now();
    signal(shim, "-TERM");
    fake::gone(shim);
    assert!(start.elapsed() < SOON, "it waits for nobody");
    let [process] = waiting()[..] else {
        panic!("{:?}", waiting());
    };
    web.containerd.listen_again();
    told(&web.containerd, "web", pid);
    fake::gone(process);
    assert_eq!(web.containerd.come(), 4, "once");
    let mut words = String::new();
    std::io::Read::read_to_string(&mut log, &mut words).unwrap();
    (web, words)
}

/// What is said of events that did not get into a bundle.
const LEFT: &str = ": 4 events are left to a process";

#[test]
fn events_that_find_no_room_in_the_bundle_come_all_the_same() {
    lane::test(|| {
        let (web, words) = words_after(|bundle| {
            mount(&["-t", "tmpfs", "-o", "size=4k", "none"], bundle);
            std::fs::write(bundle.join("full"), [0; 4096]).unwrap();
        });
        let line = words.lines().find(|line| line.contains(LEFT));
        assert!(line.expect(&words).contains("No space left"), "{words}");
        assert_eq!(saved(&web.bundle), [""; 0]);
    });
}

#[test]
fn events_of_a_container_whose_bundle_is_gone_come_all_the_same() {
    lane::test(|| {
        let moved = Path::new("/run/fake/moved");
        let (web, words) = words_after(|bundle| std::fs::rename(bundle, moved).unwrap());
        let line = words.lines().find(|line| line.contains(LEFT));
        assert!(line.expect(&words).contains("No such file"), "{words}");
        assert!(!web.bundle.exists());
        assert_eq!(saved(moved), [""; 0]);
    });
}
