//! ttrpc as it should not be spoken: in pieces, too long, without an end, without reading.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use corten_conformance::lane;
use corten_shim::frame::{self, Kind, MAX};
use corten_shim::proto::Empty;
use corten_shim::proto::rpc::Request;
use corten_shim::proto::task::{ConnectResponse, ProcessRequest};
use prost::Message as _;

use crate::fake::container::Web;
use crate::fake::{self, Client, Containerd, Version};

const TASK: &str = "containerd.task.v2.Task";

/// A shim without containers.
fn shim() -> Client {
    let containerd = Containerd::new(Version::Json);
    let bundle = containerd.bundle("web", &[]);
    containerd.connect("web", &bundle)
}

fn again(client: &Client) -> Client {
    Client::new(3, &format!("unix://{}", client.path.display()))
}

fn connect(stream: u32) -> Vec<u8> {
    let request = ProcessRequest::default().encode_to_vec();
    frame::request(stream, TASK, "Connect", request)
}

#[test]
fn a_call_that_comes_in_pieces_is_one_and_several_at_once_are_several() {
    lane::test(|| {
        let mut client = shim();
        for byte in connect(101) {
            client.write(&[byte]).unwrap();
        }
        let (stream, answer) = client.next();
        let answer = ConnectResponse::decode(&*answer.unwrap()).unwrap();
        assert_eq!((stream, answer.shim_pid), (101, client.shim_pid()));
        let three: Vec<u8> = [201, 203, 205].into_iter().flat_map(connect).collect();
        client.write(&three).unwrap();
        let streams = [client.next().0, client.next().0, client.next().0];
        assert_eq!(streams, [201, 203, 205]);
        client.shutdown();
    });
}

#[test]
fn what_is_no_call_is_refused_and_the_connection_goes_on() {
    lane::test(|| {
        let mut client = shim();
        let mut nonsense = connect(101);
        nonsense.truncate(10);
        nonsense[3] = 4;
        nonsense.extend([0xff; 4]);
        let unknown = frame::request(103, "no.such.Service", "Connect", Vec::new());
        let wrong = frame::request(105, TASK, "State", vec![0xff]);
        let mut data = connect(107);
        data[8] = 3;
        let answer = frame::encode(109, Kind::Response, &Request::default());
        for (stream, code, bytes) in [
            (101, 3, nonsense),
            (103, 12, unknown),
            (105, 3, wrong),
            (107, 3, data),
            (109, 3, answer),
        ] {
            client.write(&bytes).unwrap();
            let (number, answer) = client.next();
            assert_eq!((number, answer.unwrap_err().code), (stream, code));
        }
        client.shutdown();
    });
}

#[test]
fn a_message_that_is_too_long_is_refused_unread_and_the_connection_goes_on() {
    lane::test(|| {
        let mut client = shim();
        let pid = client.shim_pid();
        let mut long = frame::request(101, TASK, "State", vec![0; MAX]);
        long.extend(connect(103));
        client.write(&long).unwrap();
        let (stream, refused) = client.next();
        let refused = refused.unwrap_err();
        assert_eq!((stream, refused.code), (101, 8), "{}", refused.message);
        let (stream, answer) = client.next();
        let answer = ConnectResponse::decode(&*answer.unwrap()).unwrap();
        assert_eq!((stream, answer.shim_pid), (103, pid));
        // One as long as may be is read.
        let mut spec = vec![b' '; MAX - 100];
        spec[0] = 0xff;
        let request = frame::request(105, TASK, "State", spec);
        client.write(&request).unwrap();
        assert_eq!(client.next().1.unwrap_err().code, 3);
        client.shutdown();
    });
}

#[test]
fn a_caller_that_leaves_in_the_middle_of_a_call_is_forgotten() {
    lane::test(|| {
        let mut client = shim();
        let mut other = again(&client);
        let bytes = connect(101);
        other.write(&bytes[..bytes.len() - 1]).unwrap();
        drop(other);
        client.shim_pid();
        client.shutdown();
    });
}

#[test]
fn a_caller_that_takes_no_answers_is_read_no_more_and_others_are() {
    lane::test(|| {
        let mut client = shim();
        let pid = client.shim_pid();
        let mut deaf = again(&client);
        deaf.give_up_writing();
        // Its answers are larger than its calls; it could go on for ever.
        let method = "x".repeat(1000);
        let mut sent = 0_u64;
        for _ in 0..100_000 {
            let call = frame::request(1, TASK, &method, Vec::new());
            if deaf.write(&call).is_err() {
                break;
            }
            sent += 1;
            if sent.is_multiple_of(1000) {
                client.shim_pid();
            }
        }
        assert!(sent < 50_000, "{sent} calls of a kilobyte");
        assert_eq!(client.shim_pid(), pid);
        // And it gets them when it does.
        for _ in 0..sent {
            assert_eq!(deaf.next().1.unwrap_err().code, 12);
        }
        drop(deaf);
        client.shutdown();
    });
}

#[test]
fn who_waits_for_an_end_and_leaves_is_forgotten() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let mut other = again(&web.client);
        for _ in 0..10 {
            other.ask("Wait", "web", "");
        }
        other.shim_pid();
        let pid = web.client.shim_pid().to_string();
        // Its state, in the log.
        let waiting = || {
            let told = Command::new("kill").args(["-USR1", &pid]).status();
            assert!(told.unwrap().success());
            let log = web.bundle.join("log");
            let told = || {
                let text = std::fs::read_to_string(&log).unwrap();
                let last = text.lines().last()?;
                last.contains("waiters")
                    .then(|| last.matches("Reply {").count())
            };
            let waiting = corten_conformance::wait::until(fake::LIMIT, told).unwrap();
            std::fs::File::create(log).unwrap();
            waiting
        };
        assert_eq!(waiting(), 10);
        drop(other);
        let none = || (waiting() == 0).then_some(());
        assert!(corten_conformance::wait::until(fake::LIMIT, none).is_some());
        web.end();
    });
}

#[test]
fn a_shim_that_ends_lets_its_callers_hang_up_first() {
    lane::test(|| {
        let mut client = shim();
        let pid = client.shim_pid();
        let _: Empty = client.name("Shutdown", "", "").unwrap();
        // Not closed behind the answer.
        assert_eq!(client.shim_pid(), pid);
        drop(client);
        fake::gone(pid);
        // But it does not wait for ever.
        std::fs::remove_dir_all("/run/fake").unwrap();
        let mut client = shim();
        let pid = client.shim_pid();
        let _: Empty = client.name("Shutdown", "", "").unwrap();
        fake::gone(pid);
    });
}

#[test]
fn another_user_gets_no_answer() {
    lane::test(|| {
        let mut client = shim();
        let path = client.path.clone();
        let gone = std::thread::spawn(move || {
            // Only of this thread.
            rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(1000)).unwrap();
            let mut socket = UnixStream::connect(path).unwrap();
            socket.set_read_timeout(Some(fake::LIMIT)).unwrap();
            std::io::Write::write_all(&mut socket, &connect(1)).ok();
            let mut bytes = Vec::new();
            let read = socket.read_to_end(&mut bytes);
            (
                bytes,
                read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            )
        });
        let (bytes, late) = gone.join().unwrap();
        assert!(bytes.is_empty() && !late);
        let _: Empty = client.name("Shutdown", "", "").unwrap();
    });
}
