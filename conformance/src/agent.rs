//! The other end of `linux.seccomp.listenerPath`: a seccomp agent.
//!
//! See seccomp_unotify(2), and "The Container Process State" in config-linux.md.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::Value;

use crate::console;
use crate::sys::{NotificationAnswer, notification_receive, notification_send};
use crate::wait;

/// What a call gets.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// This errno.
    Errno(i32),
    /// Nothing: it waits for ever.
    Never,
}

/// What the agent has seen.
#[derive(Debug, Default)]
struct Seen {
    states: Vec<Value>,
    calls: Vec<i64>,
    /// Connections that the runtime has closed.
    closed: usize,
    /// What should not have been.
    complaints: Vec<String>,
}

/// An agent in a thread of its own. It lets every call pass for which it has no answer.
#[derive(Debug)]
pub struct Agent {
    seen: Arc<Mutex<Seen>>,
    /// Closed when the agent is to end.
    end: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Listens at a path, with answers by number of the call.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    #[must_use]
    pub fn listen(path: &Path, answers: &[(i64, Answer)]) -> Self {
        let listener = UnixListener::bind(path).expect("a path for a socket");
        // A runtime must not inherit it.
        let (ended, end) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let agent = Serving {
            answers: answers.iter().copied().collect(),
            seen: Arc::clone(&seen),
            ended,
        };
        let thread = std::thread::spawn(move || agent.serve(&listener));
        Self {
            seen,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// The states that runtimes have sent.
    ///
    /// # Panics
    ///
    /// If one was not as it must be.
    #[must_use]
    pub fn states(&self) -> Vec<Value> {
        let seen = lock(&self.seen);
        assert!(seen.complaints.is_empty(), "{:?}", seen.complaints);
        seen.states.clone()
    }

    /// The state that was sent first, second and so on, as soon as it is here.
    ///
    /// # Panics
    ///
    /// If it does not come in time.
    #[must_use]
    pub fn state(&self, index: usize) -> Value {
        let sent = wait::until(wait::CALL, || self.states().get(index).cloned());
        sent.expect("the runtime sends the state")
    }

    /// How many connections are over.
    #[must_use]
    pub fn closed(&self) -> usize {
        lock(&self.seen).closed
    }

    /// How often a call was notified.
    #[must_use]
    pub fn count(&self, number: i64) -> usize {
        let seen = lock(&self.seen);
        seen.calls.iter().filter(|call| **call == number).count()
    }
}

impl Drop for Agent {
    /// Its listeners are closed then.
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the agent never panics");
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The agent's own thread.
struct Serving {
    answers: BTreeMap<i64, Answer>,
    seen: Arc<Mutex<Seen>>,
    ended: OwnedFd,
}

impl Serving {
    fn serve(&self, socket: &UnixListener) {
        let mut listeners: Vec<OwnedFd> = Vec::new();
        let mut streams: Vec<Option<UnixStream>> = Vec::new();
        loop {
            streams.retain(Option::is_some);
            let mut fds = vec![
                PollFd::new(&self.ended, PollFlags::IN),
                PollFd::new(socket, PollFlags::IN),
            ];
            let open = streams.iter().flatten();
            fds.extend(open.map(|fd| PollFd::new(fd, PollFlags::IN)));
            fds.extend(listeners.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return self.complain(error.to_string()),
            }
            let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            if !ready[0].is_empty() {
                return;
            }
            let (heard, asked) = ready[2..].split_at(streams.len());
            for (listener, ready) in listeners.iter().zip(asked) {
                if ready.contains(PollFlags::IN) {
                    self.answer(listener);
                }
            }
            // Nobody is filtered by it any more.
            let mut gone = asked.iter().map(|ready| ready.contains(PollFlags::HUP));
            listeners.retain(|_| !gone.next().unwrap_or(false));
            for (stream, ready) in streams.iter_mut().zip(heard) {
                if !ready.is_empty() {
                    listeners.extend(self.hear(stream));
                }
            }
            if !ready[1].is_empty() {
                match socket.accept() {
                    Ok((stream, _)) => streams.push(Some(stream)),
                    Err(error) => self.complain(error.to_string()),
                }
            }
        }
    }

    /// A state with its listener, or the end.
    fn hear(&self, stream: &mut Option<UnixStream>) -> Option<OwnedFd> {
        match receive(stream.as_ref()?) {
            Ok(Some((state, listener))) => {
                lock(&self.seen).states.push(state);
                return Some(listener);
            }
            Ok(None) => lock(&self.seen).closed += 1,
            Err(error) => self.complain(error.to_string()),
        }
        *stream = None;
        None
    }

    fn answer(&self, listener: &OwnedFd) {
        /// The call is made as if nothing had been.
        const SECCOMP_USER_NOTIF_FLAG_CONTINUE: u32 = 1;
        // The process may have been killed meanwhile, at every step of this.
        let Ok(call) = notification_receive(listener) else {
            return;
        };
        let number = i64::from(call.number);
        lock(&self.seen).calls.push(number);
        let mut answer = NotificationAnswer {
            id: call.id,
            ..NotificationAnswer::default()
        };
        match self.answers.get(&number) {
            Some(Answer::Never) => return,
            Some(Answer::Errno(errno)) => answer.error = -errno,
            None => answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE,
        }
        drop(notification_send(listener, answer));
    }

    fn complain(&self, text: String) {
        lock(&self.seen).complaints.push(text);
    }
}

/// The state, with exactly one descriptor; none at the end.
fn receive(stream: &UnixStream) -> io::Result<Option<(Value, OwnedFd)>> {
    let mut text = vec![0_u8; 4096];
    let (len, mut fds) = console::receive(stream, &mut text)?;
    if len == 0 {
        return Ok(None);
    }
    text.truncate(len);
    // runc's own example of an agent reads no further, so the first message has to be all.
    let state = serde_json::from_slice(&text).map_err(io::Error::other)?;
    match (fds.pop(), fds.len()) {
        (Some(listener), 0) => Ok(Some((state, listener))),
        _ => Err(io::Error::other(format!(
            "{state} came without exactly one fd"
        ))),
    }
}
