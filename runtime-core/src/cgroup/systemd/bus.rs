//! A connection to the system bus.
//!
//! See the D-Bus specification, "Authentication Protocol". Everything is sent without
//! waiting for the answers before: a conversation is one round trip.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::message::{Message, Method, method_call};
use crate::sys::{call, ipc, process};
use rustix::io::Errno;

/// Where the system bus listens, on every machine with systemd.
pub(super) const SYSTEM: &str = "/run/dbus/system_bus_socket";

const HELLO: Method = Method {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "Hello",
    signature: "",
};

/// What keeps a conversation from going on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BusError {
    /// A system call failed.
    #[error("{call}: {errno}")]
    Call {
        /// Which.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The bus, or who answered through it, said what makes no sense here.
    #[error("{0}")]
    Protocol(&'static str),
    /// No answer came in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// A connection on which calls can be made.
#[derive(Debug)]
pub(super) struct Bus {
    socket: OwnedFd,
    /// What was received and not yet read.
    received: Vec<u8>,
    /// What is to be sent.
    outgoing: Vec<u8>,
    serial: u32,
    until: Instant,
    timeout: Duration,
    authenticated: bool,
}

impl Bus {
    /// Connects. The whole conversation may take as long as `timeout`.
    pub(super) fn connect(path: &Path, timeout: Duration) -> Result<Bus, BusError> {
        let socket = ipc::connect(path).map_err(failed("connect"))?;
        let uid = process::geteuid().map_err(failed("geteuid"))?;
        let uid = uid.to_string();
        let name: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        let mut bus = Bus {
            socket,
            received: Vec::new(),
            outgoing: format!("\0AUTH EXTERNAL {name}\r\nBEGIN\r\n").into_bytes(),
            serial: 0,
            until: Instant::now() + timeout,
            timeout,
            authenticated: false,
        };
        bus.call(&HELLO, &[]);
        Ok(bus)
    }

    /// Adds a call to what will be sent; its answer has this serial.
    pub(super) fn call(&mut self, method: &Method, body: &[u8]) -> u32 {
        self.serial += 1;
        let message = method_call(method, self.serial, body);
        self.outgoing.extend(message);
        self.serial
    }

    /// Sends what there is to send, and waits for the next message.
    pub(super) fn next(&mut self) -> Result<Message, BusError> {
        let outgoing = std::mem::take(&mut self.outgoing);
        ipc::send_all(self.socket.as_fd(), &outgoing).map_err(failed("send"))?;
        if !self.authenticated {
            self.read_welcome()?;
        }
        loop {
            let length = Message::length(&self.received).map_err(BusError::Protocol)?;
            if let Some(length) = length.filter(|length| *length <= self.received.len()) {
                let rest = self.received.split_off(length);
                let whole = std::mem::replace(&mut self.received, rest);
                let garbled = BusError::Protocol("an answer makes no sense");
                return Message::parse(&whole).ok_or(garbled);
            }
            self.receive()?;
        }
    }

    /// The line that ends the authentication.
    fn read_welcome(&mut self) -> Result<(), BusError> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
                let rest = self.received.split_off(end + 2);
                let line = std::mem::replace(&mut self.received, rest);
                self.authenticated = line.starts_with(b"OK ");
                return if self.authenticated {
                    Ok(())
                } else {
                    Err(BusError::Protocol("the bus does not let this user in"))
                };
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), BusError> {
        let left = self.until.saturating_duration_since(Instant::now());
        let ready = process::poll_in(&[self.socket.as_fd()], Some(left)).map_err(failed("poll"))?;
        if !ready.contains(&true) {
            return Err(BusError::Timeout(self.timeout));
        }
        let mut buffer = [0; 4096];
        match call("read", || rustix::io::read(&self.socket, &mut buffer)) {
            Ok(0) => Err(BusError::Protocol("the bus closed the connection")),
            Ok(count) => {
                self.received.extend(buffer.iter().take(count));
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(failed("read")(errno)),
        }
    }
}

fn failed(call: &'static str) -> impl Fn(Errno) -> BusError {
    move |errno| BusError::Call { call, errno }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::super::message::Kind;
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A bus that lets `serve` talk to the one who connects.
    fn with_bus(name: &str, serve: impl FnOnce(UnixStream) + Send + 'static) -> Bus {
        let path = std::env::temp_dir().join(format!("corten-bus-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let timeout = if name == "silent" {
            Duration::from_millis(50)
        } else {
            LONG
        };
        let bus = Bus::connect(&path, timeout).unwrap();
        std::fs::remove_file(path).unwrap();
        bus
    }

    /// Reads all that is sent at once: the authentication and the first call.
    fn read_some(stream: &mut UnixStream) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        bytes.truncate(count);
        bytes
    }

    /// An answer of this kind to call 1, with nothing in it.
    fn answer(kind: u8) -> Vec<u8> {
        let mut bytes = vec![b'l', kind, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0];
        bytes.extend(b"\x05\x01u\0\x01\0\0\0");
        bytes
    }

    #[test]
    fn everything_is_sent_before_the_first_answer_is_read() {
        let mut bus = with_bus("whole", |mut stream| {
            let sent = read_some(&mut stream);
            let text = String::from_utf8_lossy(&sent).into_owned();
            assert!(text.starts_with("\0AUTH EXTERNAL "), "{text}");
            assert!(text.contains("\r\nBEGIN\r\nl\u{1}"), "{text}");
            assert!(text.contains("Hello"), "{text}");
            // In pieces, as a stream may bring them.
            let mut bytes = b"OK 0123456789abcdef\r\n".to_vec();
            bytes.extend(answer(2));
            bytes.extend(answer(3));
            for byte in bytes {
                stream.write_all(&[byte]).unwrap();
            }
        });
        let first = bus.next().unwrap();
        assert_eq!((first.kind, first.reply_to), (Kind::Reply, 1));
        assert_eq!(bus.next().unwrap().kind, Kind::Error);
        let closed = BusError::Protocol("the bus closed the connection");
        assert_eq!(bus.next().unwrap_err(), closed);
    }

    #[test]
    fn a_bus_that_refuses_or_makes_no_sense_is_an_error() {
        for (name, said, expected) in [
            (
                "refuses",
                "REJECTED EXTERNAL\r\n",
                "the bus does not let this user in",
            ),
            (
                "other-endian",
                "OK 0\r\nB-----------------------",
                "an answer is not little-endian",
            ),
        ] {
            let mut bus = with_bus(name, |mut stream| {
                read_some(&mut stream);
                stream.write_all(said.as_bytes()).unwrap();
            });
            assert_eq!(bus.next().unwrap_err(), BusError::Protocol(expected));
        }
    }

    #[test]
    fn a_bus_that_says_nothing_is_not_waited_for_for_ever() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let mut bus = with_bus("silent", move |_stream| {
            // Ends with the test.
            assert!(wait.recv().is_err());
        });
        let timeout = Duration::from_millis(50);
        assert_eq!(bus.next().unwrap_err(), BusError::Timeout(timeout));
        drop(done);
    }
}
