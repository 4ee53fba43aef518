//! Until when callers want an answer: `timeout_nano` of ttrpc.
//!
//! The server in Go gives a call's work a context with that limit, whose end is the answer. Here
//! the call is answered at its limit, and what comes later is heard by nobody: a creation is
//! called off, a wait forgotten; what ends something is done all the same.

use std::time::{Duration, Instant};

use crate::daemon::Shim;
use crate::engine::Token;
use crate::failure::{Code, Failure};
use crate::server::Reply;

/// As Go says it.
pub(crate) fn exceeded() -> Failure {
    Failure::new(Code::DeadlineExceeded, "context deadline exceeded")
}

impl Shim {
    /// Notes until when a call is to be answered, which 0 leaves open; not at all, if that is over.
    pub(crate) fn begin(&mut self, reply: Reply, nanoseconds: i64) -> bool {
        if nanoseconds == 0 {
            return true;
        }
        let Ok(nanoseconds) = u64::try_from(nanoseconds) else {
            return false;
        };
        // Nobody will see the end of one that is further away than there is time.
        if let Some(until) = Instant::now().checked_add(Duration::from_nanos(nanoseconds)) {
            self.deadlines.insert(reply, until);
        }
        true
    }

    /// Notes an answer; whether the caller has been told before that it takes too long.
    pub(crate) fn was_told(&mut self, reply: Reply) -> bool {
        self.deadlines.remove(&reply);
        self.told.remove(&reply)
    }

    pub(crate) fn forget_deadlines(&mut self, caller: Token) {
        self.deadlines.retain(|reply, _| reply.connection != caller);
        self.told.retain(|reply| reply.connection != caller);
    }

    /// When the next caller wants no answer any more.
    pub(crate) fn next_limit(&self) -> Option<Instant> {
        self.deadlines.values().min().copied()
    }

    /// Tells callers that it takes too long.
    pub(crate) fn tell_limits(&mut self) {
        let now = Instant::now();
        let over = self.deadlines.iter().filter(|(_, until)| **until <= now);
        let over: Vec<Reply> = over.map(|(reply, _)| *reply).collect();
        for reply in &over {
            self.answer(*reply, Err(exceeded()));
            let mut tasks = self.tasks.values_mut();
            let waited = tasks.any(|task| task.forget_waiters(|waiter| waiter == reply));
            if waited || !self.hears(*reply) {
                continue;
            }
            let is_late = |late: &[(Reply, _)]| late.iter().any(|(other, _)| other == reply);
            let was_late = is_late(&self.late);
            self.told.insert(*reply);
            self.forget_late();
            if was_late && !is_late(&self.late) {
                self.told.remove(reply);
            }
            self.call_off(&exceeded(), |_, creation| creation.reply == *reply);
        }
    }
}
