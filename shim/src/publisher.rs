//! [`Publisher`]: events to containerd, in their order, none lost.
//!
//! One queue; the next event goes out when containerd has taken the one before. While
//! containerd is down they wait. Only an event that containerd itself refuses several times
//! is given up. What is left when the process ends is for `saved`.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use prost::Message as _;

use crate::engine::{Poller, Ready, Source, Token};
use crate::frame;
use crate::proto::Any;
use crate::proto::events::{Envelope, ForwardRequest};
use crate::proto::rpc::Response;
use crate::server::Connection;
use crate::socket;

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// How long containerd may take for an event (the Go shim's limit).
const LIMIT: Duration = Duration::from_secs(5);

/// How often an event is sent that containerd answers with an error (as the Go shim).
const ATTEMPTS: u32 = 5;

/// An event that containerd has not taken.
#[derive(Debug)]
pub(crate) struct Event {
    /// Of its container.
    pub(crate) bundle: PathBuf,
    pub(crate) topic: Cow<'static, str>,
    /// The request, ready to be sent.
    pub(crate) payload: Vec<u8>,
    refused: u32,
}

#[derive(Debug)]
enum State {
    /// Nothing is under way.
    Idle,
    /// The first of the queue is under way, until then.
    Sent(Instant),
    /// Something failed; to be tried again then.
    Failed(Instant),
    /// Nothing is sent any more.
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Publisher {
    address: PathBuf,
    namespace: String,
    queue: VecDeque<Event>,
    connection: Option<(Token, Connection)>,
    state: State,
    /// Failures in a row, for the time until the next attempt.
    failures: u32,
    stream: u32,
}

impl Publisher {
    /// One without an address swallows events: nobody wants them.
    pub(crate) fn new(address: &str, namespace: &str) -> Publisher {
        Publisher {
            address: socket::file(address).to_owned(),
            namespace: namespace.to_owned(),
            queue: VecDeque::new(),
            connection: None,
            state: State::Idle,
            failures: 0,
            stream: 1,
        }
    }

    /// One that goes on with the requests of another one.
    pub(crate) fn with(address: &str, namespace: &str, requests: &[Vec<u8>]) -> Publisher {
        let mut publisher = Publisher::new(address, namespace);
        publisher.queue = requests.iter().map(|payload| event(payload)).collect();
        publisher
    }

    /// Puts an event behind all others.
    pub(crate) fn push(
        &mut self,
        poller: &mut Poller,
        bundle: PathBuf,
        topic: &'static str,
        name: &str,
        event: &impl prost::Message,
    ) {
        if self.address.as_os_str().is_empty() {
            return;
        }
        let request = ForwardRequest {
            envelope: Some(Envelope {
                timestamp: Some(SystemTime::now().into()),
                namespace: self.namespace.clone(),
                topic: topic.to_owned(),
                event: Some(Any::pack(&format!("containerd.events.{name}"), event)),
            }),
        };
        self.queue.push_back(Event {
            bundle,
            topic: topic.into(),
            payload: request.encode_to_vec(),
            refused: 0,
        });
        self.go_on(poller);
    }

    /// Whether containerd has taken everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What containerd has not taken, or has not said so, in its order.
    pub(crate) fn left(&self) -> impl ExactSizeIterator<Item = &Event> {
        self.queue.iter()
    }

    pub(crate) fn address(&self) -> &Path {
        &self.address
    }

    /// Whether containerd could not be reached, by a new connection as well.
    pub(crate) fn is_away(&self) -> bool {
        self.failures > 1
    }

    /// From now on events are only kept.
    pub(crate) fn stop(&mut self) {
        self.state = State::Stopped;
    }

    /// When to call [`Self::go_on`] at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle | State::Stopped => None,
            State::Sent(until) | State::Failed(until) => Some(until),
        }
    }

    /// Sends the next event, if it is its time.
    pub(crate) fn go_on(&mut self, poller: &mut Poller) {
        match self.state {
            State::Sent(until) if until <= Instant::now() => {
                self.fail(poller, "no answer");
                return;
            }
            State::Sent(_) | State::Stopped => return,
            State::Failed(until) if until > Instant::now() => return,
            State::Idle | State::Failed(_) => self.state = State::Idle,
        }
        if self.queue.is_empty() {
            return;
        }
        if let Err(error) = self.send(poller) {
            self.fail(poller, &error.to_string());
        }
    }

    fn send(&mut self, poller: &mut Poller) -> std::io::Result<()> {
        if self.connection.is_none() {
            let connection = Connection::new(self.connect()?)?;
            let token = poller.add(&connection, Ready::IN, Source::Publisher)?;
            self.connection = Some((token, connection));
            self.stream = 1;
        }
        let (Some((token, connection)), Some(event)) = (&mut self.connection, self.queue.front())
        else {
            return Ok(());
        };
        let bytes = frame::request(self.stream, SERVICE, "Forward", event.payload.clone());
        connection.send(&bytes)?;
        poller.change(&*connection, *token, connection.interest())?;
        self.state = State::Sent(Instant::now() + LIMIT);
        Ok(())
    }

    /// Never waits: a backlog that is full is a failure like any other.
    fn connect(&self) -> std::io::Result<UnixStream> {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = SocketType::STREAM;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, stream, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.address)?)?;
        Ok(socket.into())
    }

    /// Reads what containerd has answered.
    pub(crate) fn ready(&mut self, poller: &mut Poller) {
        let Some((token, connection)) = &mut self.connection else {
            return;
        };
        let frames = connection.flush().and_then(|()| {
            poller.change(&*connection, *token, connection.interest())?;
            connection.read()
        });
        match frames {
            Err(error) => self.fail(poller, &error.to_string()),
            Ok(frames) => {
                // What is too long is no answer: there will be none.
                for frame in frames.into_iter().flatten() {
                    if frame.stream != self.stream {
                        continue;
                    }
                    match Response::decode(&*frame.body) {
                        Ok(response) => self.answered(response),
                        // Nobody knows whether the event was taken.
                        Err(error) => return self.fail(poller, &format!("an answer: {error}")),
                    }
                }
                self.go_on(poller);
            }
        }
    }

    fn answered(&mut self, response: Response) {
        // Odd numbers, growing: those of a client.
        self.stream = self.stream.wrapping_add(2);
        self.failures = 0;
        self.state = State::Idle;
        let reason = response.status.filter(|status| status.code != 0);
        match (reason, self.queue.front_mut()) {
            (Some(status), Some(event)) => {
                event.refused += 1;
                let (topic, message) = (&event.topic, &status.message);
                log::warn!("containerd refuses {topic}: {message}");
                if event.refused >= ATTEMPTS {
                    log::error!("{topic} is given up: {message}");
                    self.queue.pop_front();
                } else {
                    let pause = Duration::from_secs(event.refused.into());
                    self.state = State::Failed(Instant::now() + pause);
                }
            }
            _ => drop(self.queue.pop_front()),
        }
    }

    /// The connection is useless; containerd may be down for long.
    fn fail(&mut self, poller: &mut Poller, why: &str) {
        if let Some((token, connection)) = self.connection.take() {
            poller.remove(&connection, token);
        }
        self.state = State::Idle;
        if self.queue.is_empty() {
            return;
        }
        log::warn!("{}: {why}", self.address.display());
        self.failures = (self.failures + 1).min(10);
        // The first time at once: containerd closes what it has not used for long.
        let pause = Duration::from_millis(200) * (self.failures - 1);
        self.state = State::Failed(Instant::now() + pause);
    }
}

fn event(payload: &[u8]) -> Event {
    let request = ForwardRequest::decode(payload).unwrap_or_default();
    let topic = request.envelope.unwrap_or_default().topic;
    Event {
        bundle: PathBuf::new(),
        topic: topic.into(),
        payload: payload.to_owned(),
        refused: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::frame::Kind;
    use crate::proto::rpc::Status;

    /// Reads what is there, once it is.
    fn turn(publisher: &mut Publisher, poller: &mut Poller) {
        let soon = Instant::now() + LIMIT;
        assert_eq!(poller.wait(Some(soon)).unwrap().len(), 1);
        publisher.ready(poller);
    }

    #[test]
    fn an_answer_that_can_not_be_read_is_no_sign_that_the_event_was_taken() {
        let name = format!("corten-publisher-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let mut poller = Poller::new().unwrap();
        let mut publisher = Publisher::with(&path.display().to_string(), "test", &[vec![]]);
        let unread = {
            // A status that is longer than the frame.
            let mut bytes = frame::encode(1, Kind::Response, &Status::default());
            bytes.extend(b"\x0a\x07");
            bytes[3] += 2;
            bytes
        };
        for (answer, left) in [(unread, 1), (frame::response(1, Ok(vec![])), 0)] {
            publisher.go_on(&mut poller);
            let (mut socket, _) = listener.accept().unwrap();
            let mut header = [0; frame::HEADER];
            socket.read_exact(&mut header).unwrap();
            socket.write_all(&answer).unwrap();
            turn(&mut publisher, &mut poller);
            assert_eq!(publisher.left().len(), left);
        }
        std::fs::remove_file(path).unwrap();
    }
}
