//! A containerd of our own: it starts shims in each form that versions of containerd know,
//! calls their Task service, and takes their events.

pub(crate) mod container;
mod elf;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use corten_conformance::wait;
use corten_shim::frame::{self, Frame};
use corten_shim::proto::Any;
use corten_shim::proto::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use corten_shim::proto::events::{Envelope, ForwardRequest};
use corten_shim::proto::options::Options;
use corten_shim::proto::rpc::{Request, Response, Status};
use corten_shim::proto::task::{ConnectResponse, DeleteResponse, ProcessRequest};
use prost::Message;

/// How long anything may take that takes milliseconds on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Which containerd it plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// 1.6: no options, plain address.
    Old,
    /// 1.7: options on stdin, JSON.
    Json,
    /// 2.0 to 2.2: the same, and the program's build information says so.
    Two,
    /// 2.3: protobuf parameters.
    Protobuf,
}

/// One event as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) topic: String,
    pub(crate) body: Any,
}

/// A containerd.
pub(crate) struct Containerd {
    pub(crate) folder: PathBuf,
    pub(crate) version: Version,
    pub(crate) options: Options,
    /// Where a 2.3 wants sockets.
    pub(crate) sockets: Option<PathBuf>,
    /// Its `PATH`, which shims get.
    pub(crate) programs: Option<PathBuf>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    service: Arc<Service>,
}

/// The event service's sockets, so that they can be closed.
#[derive(Default)]
struct Service {
    open: Mutex<Vec<UnixStream>>,
    closed: AtomicBool,
    /// Whether events stay unanswered.
    held: Mutex<bool>,
    released: Condvar,
    /// How many events have come, answered or not.
    come: AtomicUsize,
}

impl Containerd {
    /// One in the lane's own /run.
    pub(crate) fn new(version: Version) -> Containerd {
        let folder = PathBuf::from("/run/fake");
        std::fs::create_dir_all(&folder).unwrap();
        let (sender, events) = channel();
        let service = Arc::new(Service::default());
        listen(&folder.join("ttrpc"), sender.clone(), Arc::clone(&service));
        Containerd {
            folder,
            version,
            options: Options::default(),
            sockets: None,
            programs: None,
            events,
            sender,
            service,
        }
    }

    /// The same containerd once more; events stay with the first one.
    pub(crate) fn again(&self) -> Containerd {
        let (sender, events) = channel();
        Containerd {
            folder: self.folder.clone(),
            version: self.version,
            options: self.options.clone(),
            sockets: self.sockets.clone(),
            programs: self.programs.clone(),
            events,
            sender,
            service: Arc::clone(&self.service),
        }
    }

    /// Ends every connection of the event service.
    pub(crate) fn hang_up(&self) {
        self.service.closed.store(true, Ordering::SeqCst);
        for socket in self.service.open.lock().unwrap().drain(..) {
            socket.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    /// It goes away, with all its sockets.
    pub(crate) fn leave(&self) {
        std::fs::remove_file(self.folder.join("ttrpc")).unwrap();
        self.hang_up();
    }

    /// Events are answered no more, until they are released.
    pub(crate) fn hold(&self) {
        *self.service.held.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.service.held.lock().unwrap() = false;
        self.service.released.notify_all();
    }

    /// How many events have come since it is there, answered or not.
    pub(crate) fn come(&self) -> usize {
        self.service.come.load(Ordering::SeqCst)
    }

    /// The event service is back.
    pub(crate) fn listen_again(&mut self) {
        self.service = Arc::new(Service::default());
        let path = self.folder.join("ttrpc");
        listen(&path, self.sender.clone(), Arc::clone(&self.service));
    }

    /// A bundle with only what `start` looks at.
    pub(crate) fn bundle(&self, id: &str, annotations: &[(&str, &str)]) -> PathBuf {
        let bundle = self.folder.join("task").join(id);
        std::fs::create_dir_all(&bundle).unwrap();
        // A file does as a fifo here, and a test that fails can show it.
        std::fs::write(bundle.join("log"), "").unwrap();
        let annotations: serde_json::Map<_, _> = annotations
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        let config = serde_json::json!({"ociVersion": "1.0.2", "annotations": annotations});
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle
    }

    fn command(&self, id: &str, bundle: &Path) -> Command {
        let mut command = Command::new(shim());
        command
            .current_dir(bundle)
            .env_clear()
            .args(["-namespace", "test", "-id", id])
            .arg("-address")
            .arg(self.folder.join("grpc"))
            .arg("-publish-binary")
            .arg(self.program())
            .env("TTRPC_ADDRESS", self.folder.join("ttrpc"))
            .envs(self.programs.as_ref().map(|programs| ("PATH", programs)));
        if self.version != Version::Old {
            command
                .env("MAX_SHIM_VERSION", "2")
                .env("GRPC_ADDRESS", self.folder.join("grpc"))
                .env("NAMESPACE", "test");
        }
        command
    }

    /// containerd's own program.
    fn program(&self) -> PathBuf {
        if self.version != Version::Two {
            return "/bin/false".into();
        }
        let path = self.folder.join("containerd");
        std::fs::write(&path, elf::go("github.com/containerd/containerd/v2")).unwrap();
        path
    }

    fn stdin(&self, id: &str) -> Vec<u8> {
        let options = Any::pack("containerd.runc.v1.Options", &self.options);
        match self.version {
            Version::Old => Vec::new(),
            Version::Json | Version::Two => options.encode_to_vec(),
            Version::Protobuf => BootstrapParams {
                instance_id: id.to_owned(),
                namespace: "test".to_owned(),
                containerd_version: "2.3.3".to_owned(),
                containerd_ttrpc_address: self.folder.join("ttrpc").display().to_string(),
                extensions: vec![Extension {
                    value: Some(options),
                }],
                socket_dir: self.sockets.as_ref().map(|path| path.display().to_string()),
                ..BootstrapParams::default()
            }
            .encode_to_vec(),
        }
    }

    /// `start` as containerd does it: the answer's version and address.
    pub(crate) fn start(&self, id: &str, bundle: &Path) -> (i32, String) {
        let output = run(self.command(id, bundle).arg("start"), &self.stdin(id));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "start: {text}{errors}");
        assert_eq!(errors, "", "containerd reads both as the answer");
        match self.version {
            Version::Old => (2, text),
            Version::Json | Version::Two => {
                let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(answer["protocol"], "ttrpc");
                std::fs::write(bundle.join("bootstrap.json"), &text).unwrap();
                let version = i32::try_from(answer["version"].as_i64().unwrap()).unwrap();
                (version, answer["address"].as_str().unwrap().to_owned())
            }
            Version::Protobuf => {
                let result = BootstrapResult::decode(&*output.stdout).unwrap();
                let json = serde_json::json!({"version": 3, "address": result.address});
                std::fs::write(bundle.join("bootstrap.json"), json.to_string()).unwrap();
                (result.version, result.address)
            }
        }
    }

    /// `start`, and a connection to what it says.
    pub(crate) fn connect(&self, id: &str, bundle: &Path) -> Client {
        let (version, address) = self.start(id, bundle);
        Client::new(version, &address)
    }

    /// `delete` as containerd does it.
    pub(crate) fn delete(&self, id: &str, bundle: &Path) -> DeleteResponse {
        self.delete_warned(id, bundle).0
    }

    /// The same with its warnings.
    pub(crate) fn delete_warned(&self, id: &str, bundle: &Path) -> (DeleteResponse, String) {
        let output = self.run_delete(id, bundle);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "delete: {errors}");
        let answer = DeleteResponse::decode(&*output.stdout).unwrap();
        (answer, errors.into_owned())
    }

    /// The same, and it fails with these words.
    pub(crate) fn delete_fails(&self, id: &str, bundle: &Path) -> String {
        let output = self.run_delete(id, bundle);
        assert!(!output.status.success(), "{:?}", output.stdout);
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn run_delete(&self, id: &str, bundle: &Path) -> Output {
        let mut command = self.command(id, bundle);
        command.arg("-bundle").arg(bundle).arg("delete");
        run(&mut command, &[])
    }

    /// An event that is there.
    pub(crate) fn next_event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The next event.
    #[track_caller]
    pub(crate) fn event(&self) -> Event {
        self.events.recv_timeout(LIMIT).expect("an event comes")
    }
}

/// The program under test.
///
/// `CORTEN_SHIM` names another, as a release build.
pub(crate) fn shim() -> &'static str {
    static SHIM: OnceLock<String> = OnceLock::new();
    SHIM.get_or_init(|| {
        let built = env!("CARGO_BIN_EXE_containerd-shim-corten-v2");
        std::env::var("CORTEN_SHIM").unwrap_or_else(|_| built.to_owned())
    })
}

/// Runs a command with this on stdin.
pub(crate) fn run(command: &mut Command, stdin: &[u8]) -> Output {
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

/// The event service: every event is taken, and handed on.
fn listen(path: &Path, events: Sender<Event>, service: Arc<Service>) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            if service.closed.load(Ordering::SeqCst) {
                return;
            }
            service
                .open
                .lock()
                .unwrap()
                .push(socket.try_clone().unwrap());
            let (events, service) = (events.clone(), Arc::clone(&service));
            std::thread::spawn(move || {
                let mut buffer = Vec::new();
                while let Some(frame) = receive(&mut socket, &mut buffer) {
                    let request = Request::decode(&*frame.body).unwrap();
                    assert_eq!(request.method, "Forward");
                    let envelope = ForwardRequest::decode(&*request.payload).unwrap();
                    let Envelope {
                        namespace,
                        topic,
                        event,
                        timestamp,
                    } = envelope.envelope.unwrap();
                    assert_eq!(namespace, "test");
                    assert!(timestamp.unwrap().seconds > 0);
                    let body = event.unwrap();
                    service.come.fetch_add(1, Ordering::SeqCst);
                    let held = service.held.lock().unwrap();
                    drop(service.released.wait_while(held, |held| *held).unwrap());
                    let answer = frame::response(frame.stream, Ok(Vec::new()));
                    // The answer first: an event that was not answered is sent again. A test
                    // that is over listens no more.
                    if socket.write_all(&answer).is_err()
                        || events.send(Event { topic, body }).is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
}

/// The next frame; none at the end.
fn receive(socket: &mut UnixStream, buffer: &mut Vec<u8>) -> Option<Frame> {
    loop {
        if let Some(frame) = frame::take(buffer).unwrap() {
            return Some(frame);
        }
        let mut chunk = [0; 4096];
        match socket.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => buffer.extend(&chunk[..count]),
        }
    }
}

/// A connection to a shim.
pub(crate) struct Client {
    socket: UnixStream,
    buffer: Vec<u8>,
    service: String,
    stream: u32,
    answers: BTreeMap<u32, Result<Vec<u8>, Status>>,
    pub(crate) path: PathBuf,
    /// How long calls may take; without an end if it is zero.
    pub(crate) limit: Duration,
}

impl Client {
    pub(crate) fn new(version: i32, address: &str) -> Client {
        let path = corten_shim::socket::file(address).to_owned();
        let socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Client {
            socket,
            buffer: Vec::new(),
            service: format!("containerd.task.v{version}.Task"),
            stream: 1,
            answers: BTreeMap::new(),
            path,
            limit: Duration::ZERO,
        }
    }

    /// The same shim's Sandbox service, by a connection of its own.
    pub(crate) fn sandbox(&self) -> Client {
        let mut client = Client::new(3, &format!("unix://{}", self.path.display()));
        client.service = "containerd.runtime.sandbox.v1.Sandbox".to_owned();
        client
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// From now on a write fails that nobody takes for a while.
    pub(crate) fn give_up_writing(&self) {
        let limit = Duration::from_millis(500);
        self.socket.set_write_timeout(Some(limit)).unwrap();
    }

    /// Sends a call and does not wait for its answer.
    pub(crate) fn send(&mut self, method: &str, message: &impl Message) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        let request = Request {
            service: self.service.clone(),
            method: method.to_owned(),
            payload: message.encode_to_vec(),
            timeout_nano: i64::try_from(self.limit.as_nanos()).unwrap(),
        };
        let bytes = frame::encode(stream, frame::Kind::Request, &request);
        self.socket.write_all(&bytes).unwrap();
        stream
    }

    /// The answer to a call; others that come before it are kept.
    pub(crate) fn receive<T: Message + Default>(&mut self, stream: u32) -> Result<T, Status> {
        loop {
            if let Some(answer) = self.answers.remove(&stream) {
                return answer.map(|payload| T::decode(&*payload).unwrap());
            }
            let (number, answer) = self.next();
            self.answers.insert(number, answer);
        }
    }

    /// The next answer to whatever call.
    pub(crate) fn next(&mut self) -> (u32, Result<Vec<u8>, Status>) {
        let frame = receive(&mut self.socket, &mut self.buffer).expect("an answer comes");
        let response = Response::decode(&*frame.body).unwrap();
        let status = response.status.unwrap_or_default();
        let answer = match status.code {
            0 => Ok(response.payload),
            _ => Err(status),
        };
        (frame.stream, answer)
    }

    /// One call and its answer.
    pub(crate) fn call<T: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<T, Status> {
        let stream = self.send(method, message);
        self.receive(stream)
    }

    /// A call that only names a process.
    pub(crate) fn name<T: Message + Default>(
        &mut self,
        method: &str,
        id: &str,
        exec: &str,
    ) -> Result<T, Status> {
        let stream = self.ask(method, id, exec);
        self.receive(stream)
    }

    /// The same without a wait for the answer, to the stream that this gives.
    pub(crate) fn ask(&mut self, method: &str, id: &str, exec: &str) -> u32 {
        let request = ProcessRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
        };
        self.send(method, &request)
    }

    /// The shim's own process id.
    pub(crate) fn shim_pid(&mut self) -> u32 {
        let answer: ConnectResponse = self.name("Connect", "", "").unwrap();
        answer.shim_pid
    }

    /// Asks the shim to end, and waits until it has.
    pub(crate) fn shutdown(mut self) {
        let pid = self.shim_pid();
        let _: corten_shim::proto::Empty = self.name("Shutdown", "", "").unwrap();
        drop(self);
        gone(pid);
    }
}

/// Waits until a shim has these children, and no other; zombies are children.
#[track_caller]
pub(crate) fn children(shim: u32, expected: &[u32]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    let mut last: Vec<u32> = Vec::new();
    let done = wait::until(LIMIT, || {
        last = children_of(shim);
        last.sort_unstable();
        (last == expected).then_some(())
    });
    assert!(done.is_some(), "children: {last:?}, expected {expected:?}");
}

/// The children of a shim's first thread.
pub(crate) fn children_of(shim: u32) -> Vec<u32> {
    let path = format!("/proc/{shim}/task/{shim}/children");
    let text = std::fs::read_to_string(path).unwrap();
    let pids = text.split_whitespace();
    pids.map(|pid| pid.parse().unwrap()).collect()
}

/// The children of all of a shim's threads that are shells, have ended and were not waited for.
pub(crate) fn dead_shells(shim: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{shim}/task")).unwrap();
    let children = threads.map(|thread| thread.unwrap().path().join("children"));
    let text: String = children
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    let pids = text.split_whitespace().map(|pid| pid.parse().unwrap());
    let is_dead = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| stat.contains(" (sh) Z "))
    };
    pids.filter(is_dead).collect()
}

/// Waits until there is no such process.
#[track_caller]
pub(crate) fn gone(pid: u32) {
    let path = format!("/proc/{pid}");
    let start = Instant::now();
    let done = wait::until(LIMIT, || (!Path::new(&path).exists()).then_some(()));
    assert!(done.is_some(), "{pid} is there after {:?}", start.elapsed());
}

/// Kills a process as the OOM killer would.
pub(crate) fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.unwrap().success());
    gone(pid);
}
