//! Callers: they are taken, read, answered and forgotten.

use std::io;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use prost::Message as _;

use crate::calloff;
use crate::daemon::Shim;
use crate::deadline;
use crate::engine::{Ready, Source, Token};
use crate::failure::{Code, Failure};
use crate::frame::{self, Frame, Kind, TooLong};
use crate::proto::rpc::Request;
use crate::server::{Connection, Reply};

/// How long callers wait where there is no descriptor for one more.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Whether accept(2) has failed for a caller, and not for want of something here.
fn is_over_already(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    [WouldBlock, Interrupted, ConnectionAborted].contains(&error.kind())
}

impl Shim {
    /// Takes a caller. Where that can't be, the next attempt is later: the socket stays readable.
    pub(crate) fn accept(&mut self, listener: &UnixListener, token: Token) {
        let socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) if is_over_already(&error) => return,
            Err(error) => {
                log::warn!("callers wait: {error}");
                self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
                return self.listen(listener, token, Ready::empty());
            }
        };
        let added = Connection::new(socket).and_then(|connection| {
            if !connection.is_ours() {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let token = self
                .poller
                .add(&connection, Ready::IN, Source::Connection)?;
            self.connections.insert(token, connection);
            self.stay();
            Ok(())
        });
        if let Err(error) = added {
            log::warn!("a connection: {error}");
        }
    }

    pub(crate) fn listen(&self, listener: &UnixListener, token: Token, ready: Ready) {
        if let Err(errno) = self.poller.change(listener, token, ready) {
            log::error!("epoll_ctl: {errno}");
        }
    }

    /// Requests of a caller, or its end.
    pub(crate) fn read(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let frames = connection.flush().and_then(|()| connection.read());
        match frames {
            Err(error) => {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    log::warn!("a caller: {error}");
                }
                self.hang_up(token);
            }
            Ok(frames) => {
                self.watch(token);
                for frame in frames {
                    match frame {
                        Ok(frame) => self.request(token, &frame),
                        Err(long) => self.refuse(token, long),
                    }
                }
            }
        }
    }

    /// Answers a call that is not even read; the Go shim does the same.
    fn refuse(&mut self, connection: Token, TooLong { stream, length }: TooLong) {
        let text = format!(
            "a message of {length} bytes, at most {} are taken",
            frame::MAX
        );
        let reply = Reply { connection, stream };
        self.answer(reply, Err(Failure::new(Code::ResourceExhausted, text)));
    }

    pub(crate) fn request(&mut self, connection: Token, frame: &Frame) {
        self.unwanted = None;
        let reply = Reply {
            connection,
            stream: frame.stream,
        };
        if frame.kind != Kind::Request as u8 {
            let text = format!("a frame of kind {} outside of a call", frame.kind);
            return self.answer(reply, Err(Failure::invalid(text)));
        }
        match Request::decode(&*frame.body) {
            Ok(request) if self.begin(reply, request.timeout_nano) => self.call(reply, request),
            Ok(_) => self.answer(reply, Err(deadline::exceeded())),
            Err(error) => self.answer(reply, Err(Failure::invalid(error.to_string()))),
        }
    }

    /// Answers a call; a caller that has gone away needs none.
    pub(crate) fn answer(&mut self, reply: Reply, answer: Result<Vec<u8>, Failure>) {
        if self.was_told(reply) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&reply.connection) else {
            return;
        };
        let answer = answer.map_err(|failure| failure.status());
        match connection.send(&frame::response(reply.stream, answer)) {
            Ok(()) => self.watch(reply.connection),
            Err(error) => {
                log::warn!("a caller: {error}");
                self.hang_up(reply.connection);
            }
        }
    }

    /// Whether somebody waits for this answer.
    pub(crate) fn hears(&self, reply: Reply) -> bool {
        let caller = self.connections.get(&reply.connection);
        caller.is_some_and(Connection::is_open) && !self.told.contains(&reply)
    }

    /// Waits for a caller to take what it was sent, if it has not.
    fn watch(&self, token: Token) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let ready = connection.interest();
        if let Err(errno) = self.poller.change(connection, token, ready) {
            log::warn!("epoll_ctl: {errno}");
        }
    }

    fn hang_up(&mut self, token: Token) {
        if let Some(connection) = self.connections.remove(&token) {
            self.poller.remove(&connection, token);
        }
        for task in self.tasks.values_mut() {
            task.forget_waiters(|waiter| waiter.connection == token);
        }
        self.forget_deadlines(token);
        self.forget_late();
        let why = calloff::called_off();
        self.call_off(&why, |_, creation| creation.reply.connection == token);
    }
}
