//! Calls that meet a Create which is under way.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_conformance::{lane, wait};
use corten_shim::proto::options::Wrapper;
use corten_shim::proto::task::{
    ConnectResponse, DeleteResponse, KillRequest, PidResponse, StateResponse, WaitResponse,
};
use corten_shim::proto::{Any, Empty};

use crate::fake::container::{CREATED, DEADLINE_EXCEEDED, NOT_FOUND, RESOURCE_EXHAUSTED, Web};
use crate::fake::{self, Client};

/// Asks for a container whose creation waits until somebody writes to the fifo.
fn create_slowly(web: &mut Web) -> (PathBuf, u32) {
    let fifo = web.fifo("hook");
    let begun = web.containerd.folder.join("begun");
    let script = format!(": >{}; read x <{}", begun.display(), fifo.display());
    web.config["hooks"] = serde_json::json!({
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]
    });
    std::fs::write(web.bundle.join("config.json"), web.config.to_string()).unwrap();
    let creating = web.client.send("Create", &web.request.clone());
    let has_begun = || begun.exists().then_some(());
    assert!(wait::until(fake::LIMIT, has_begun).is_some());
    (fifo, creating)
}

/// The shim answers this at once, and nothing before it.
#[track_caller]
fn nothing_is_answered(client: &mut Client) {
    let asked = client.ask("Connect", "", "");
    assert_eq!(client.next().0, asked);
}

/// Nothing is there of a container that was not made.
#[track_caller]
fn nothing_is_there(web: &mut Web) {
    fake::children(web.client.shim_pid(), &[]);
    let left = std::fs::read_dir("/run/containerd/corten/test").unwrap();
    assert_eq!(left.count(), 0, "state");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("/run/fake/"), "{mounts}");
    assert_eq!(web.containerd.next_event(), None);
}

#[test]
fn calls_for_a_container_that_is_being_made_wait_for_that() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let (fifo, creating) = create_slowly(&mut web);
        let state = web.ask("State", "");
        let connect = web.ask("Connect", "");
        let request = KillRequest {
            id: "web".to_owned(),
            signal: 9,
            ..KillRequest::default()
        };
        let kill = web.client.send("Kill", &request);
        let waiting = web.ask("Wait", "");
        let deleting = web.ask("Delete", "");
        nothing_is_answered(&mut web.client);
        std::fs::write(&fifo, "\n").unwrap();
        let made: PidResponse = web.client.receive(creating).unwrap();
        let state: StateResponse = web.client.receive(state).unwrap();
        assert_eq!((state.pid, state.status), (made.pid, CREATED));
        let connected: ConnectResponse = web.client.receive(connect).unwrap();
        assert_eq!(connected.task_pid, made.pid);
        web.client.receive::<Empty>(kill).unwrap();
        // The end is told to who waits before what was deleted.
        web.client.receive::<Empty>(waiting).unwrap();
        let deleted: DeleteResponse = web.client.receive(deleting).unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (made.pid, 137));
        let order = ["/tasks/create", "/tasks/exit", "/tasks/delete"];
        assert_eq!(web.topics(3), order);
        nothing_is_there(&mut web);
        web.client.shutdown();
    });
}

#[test]
fn a_container_whose_creation_fails_is_not_found_by_who_has_waited() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        std::fs::create_dir(web.bundle.join("init.pid")).unwrap();
        let (fifo, creating) = create_slowly(&mut web);
        let deleting = web.ask("Delete", "");
        let again = web.client.send("Create", &web.request.clone());
        let state = web.ask("State", "");
        nothing_is_answered(&mut web.client);
        std::fs::write(&fifo, "\n").unwrap();
        assert!(web.client.receive::<Empty>(creating).is_err());
        let gone = web.client.receive::<Empty>(deleting).unwrap_err();
        assert_eq!(gone.code, NOT_FOUND);
        // The second one is tried then, and the last call waits for that one.
        nothing_is_answered(&mut web.client);
        std::fs::write(&fifo, "\n").unwrap();
        let failed = web.client.receive::<Empty>(again).unwrap_err();
        assert!(failed.message.contains("init.pid"), "{}", failed.message);
        let gone = web.client.receive::<Empty>(state).unwrap_err();
        assert_eq!(gone.code, NOT_FOUND);
        nothing_is_there(&mut web);
        web.client.shutdown();
    });
}

#[test]
fn nothing_stays_of_a_container_whose_bundle_was_removed_while_it_was_made() {
    lane::test(|| {
        // As containerd removes one, and as it may stop halfway: a mount keeps the folder.
        for whole in [true, false] {
            let mut web = Web::new("sleep 1000");
            let mut stdout = web.stdout();
            if whole {
                let image = web.containerd.folder.join("image");
                web.config["root"]["path"] = image.display().to_string().into();
                web.request.rootfs.clear();
            }
            let (fifo, creating) = create_slowly(&mut web);
            let moved = web.bundle.with_file_name(".web");
            let mut hook = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
            std::fs::rename(&web.bundle, &moved).unwrap();
            if whole {
                std::fs::remove_dir_all(&moved).unwrap();
            } else {
                // Another one of that name, which is none of this creation's business.
                std::fs::create_dir_all(web.bundle.join("rootfs")).unwrap();
            }
            hook.write_all(b"\n").unwrap();
            let failed = web.client.receive::<Empty>(creating).unwrap_err();
            assert!(
                failed.message.contains(web.bundle.to_str().unwrap()),
                "{}",
                failed.message
            );
            nothing_is_there(&mut web);
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).unwrap();
            web.client.shutdown();
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

#[test]
fn nothing_stays_of_a_container_whose_creator_has_gone() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        create_slowly(&mut web);
        let address = format!("unix://{}", web.client.path.display());
        // containerd is killed, and asks for its containers when it is back.
        let mut next = Client::new(3, &address);
        let connect = next.ask("Connect", "web", "");
        nothing_is_answered(&mut next);
        // Nobody ends what the creation waits for: it is called off.
        web.client = next;
        let connected: ConnectResponse = web.client.receive(connect).unwrap();
        assert_eq!(connected.task_pid, 0);
        assert_eq!(web.state("").unwrap_err().code, NOT_FOUND);
        nothing_is_there(&mut web);
        web.config["hooks"] = serde_json::json!({});
        web.run();
        web.topics(2);
        web.end();
    });
}

#[test]
fn a_creation_that_takes_longer_than_its_caller_waits_is_called_off() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.config["hooks"] = serde_json::json!({
            "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 1000"]}]
        });
        std::fs::write(web.bundle.join("config.json"), web.config.to_string()).unwrap();
        // As a rule the hook runs by then.
        web.client.limit = Duration::from_millis(500);
        let creating = web.client.send("Create", &web.request.clone());
        web.client.limit = Duration::ZERO;
        let late = web.client.receive::<Empty>(creating).unwrap_err();
        assert_eq!(late.code, DEADLINE_EXCEEDED);
        assert_eq!(late.message, "context deadline exceeded");
        assert_eq!(web.state("").unwrap_err().code, NOT_FOUND);
        nothing_is_there(&mut web);
        // The answer that is due behind it is not sent: the next one is another's.
        nothing_is_answered(&mut web.client);
        web.config["hooks"] = serde_json::json!({});
        web.client.limit = Duration::from_secs(60);
        web.run();
        web.topics(2);
        web.end();
    });
}

#[test]
fn options_in_a_file_that_can_not_be_read_yet_hold_up_no_other_call() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let options = web.fifo("options");
        let wrapper = Wrapper {
            config_path: options.display().to_string(),
            ..Wrapper::default()
        };
        web.request.options = Some(Any::pack("runtimeoptions.v1.Options", &wrapper));
        std::fs::write(web.bundle.join("config.json"), web.config.to_string()).unwrap();
        let creating = web.client.send("Create", &web.request.clone());
        nothing_is_answered(&mut web.client);
        std::fs::write(&options, "Root = \"/run/elsewhere\"\n").unwrap();
        web.client.receive::<PidResponse>(creating).unwrap();
        assert!(Path::new("/run/elsewhere/test/web").exists());
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn who_waits_for_an_end_no_longer_than_that_is_told_so() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        web.client.limit = Duration::from_millis(50);
        assert_eq!(web.wait("").unwrap_err().code, DEADLINE_EXCEEDED);
        web.client.limit = Duration::ZERO;
        let waiting = web.ask("Wait", "");
        web.kill("", 9, true).unwrap();
        web.client.receive::<WaitResponse>(waiting).unwrap();
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn so_many_calls_wait_for_a_creation_and_no_more() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let (fifo, creating) = create_slowly(&mut web);
        let asked: Vec<u32> = (0..1100).map(|_| web.ask("State", "")).collect();
        let refused = web.client.receive::<Empty>(asked[1099]).unwrap_err();
        assert_eq!(refused.code, RESOURCE_EXHAUSTED);
        std::fs::write(&fifo, "\n").unwrap();
        web.client.receive::<PidResponse>(creating).unwrap();
        let mut answers = asked.iter();
        let answered = answers.by_ref().take_while(|stream| {
            let state: Result<StateResponse, _> = web.client.receive(**stream);
            state.is_ok()
        });
        assert_eq!(answered.count(), 1024);
        web.kill("", 9, true).unwrap();
        web.wait("").unwrap();
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn a_shim_that_was_asked_to_end_while_a_container_was_made_ends_when_that_fails() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        std::fs::create_dir(web.bundle.join("init.pid")).unwrap();
        let (fifo, creating) = create_slowly(&mut web);
        let shim = web.client.shim_pid();
        let _: Empty = web.client.name("Shutdown", "web", "").unwrap();
        std::fs::write(&fifo, "\n").unwrap();
        assert!(web.client.receive::<Empty>(creating).is_err());
        fake::gone(shim);
        assert!(!web.client.path.exists());
    });
}
