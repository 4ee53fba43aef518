//! Cgroups that systemd makes: each container is a transient scope.
//!
//! See org.freedesktop.systemd1(5) and systemd's "Control Group APIs and Delegation". There
//! is no fall-back to files of the runtime's own: whoever asked for systemd counts on it.
//!
//! # Layout
//! - `unit`: names and places; `properties`: what a unit is told. Both pure.
//! - `message`, `bus`: D-Bus, as far as it is needed.

mod bus;
mod message;
mod properties;
mod unit;

use std::path::Path;
use std::time::Duration;

use super::CgroupError;
use bus::{Bus, BusError};
use message::{Kind, Message, Method, Value, Writer};

pub(crate) use properties::{Property, of_annotations, of_settings};
pub use unit::Unit;

/// The scope of a container, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) unit: Unit,
    /// Limits, and what annotations ask for.
    pub(crate) properties: Vec<Property>,
}

/// How long systemd may take; a machine that boots or swaps is slow.
const TIMEOUT: Duration = Duration::from_secs(60);

const fn manager(member: &'static str, signature: &'static str) -> Method {
    Method {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member,
        signature,
    }
}

const START: Method = manager("StartTransientUnit", "ssa(sv)a(sa(sv))");
const STOP: Method = manager("StopUnit", "ss");
const SET: Method = manager("SetUnitProperties", "sba(sv)");
const PING: Method = Method {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.DBus.Peer",
    member: "Ping",
    signature: "",
};
const RESET_FAILED: Method = manager("ResetFailedUnit", "s");
const ADD_MATCH: Method = Method {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "AddMatch",
    signature: "s",
};
const JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',\
    interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// Whether systemd manages this machine; see sd_booted(3).
pub(crate) fn is_there() -> bool {
    let path = Path::new("/run/systemd/system");
    crate::sys::file::open_dir_at(rustix::fs::CWD, path).is_ok()
}

/// Starts the unit with a process in it, and waits until systemd is done.
///
/// What an earlier unit of this name left behind by failing is reset first.
pub(crate) fn start(scope: &Scope, pid: i32) -> Result<(), CgroupError> {
    let Scope { unit, properties } = scope;
    let all = base(unit, pid)
        .into_iter()
        .chain(properties.iter().cloned());
    let mut body = Writer::default();
    body.text(&unit.name);
    body.text("fail");
    body.array(8, |list| {
        for (name, value) in all {
            list.property(&name, &value);
        }
    });
    // Auxiliary units: none.
    body.array(8, |_| {});
    let body = body.into_bytes();
    let mut talk = Talk::new(unit)?;
    match talk.job(&START, &body) {
        Err(Answer::Error { name, .. }) if exists(&name) => {
            talk.call(&RESET_FAILED, &[&unit.name]);
            talk.job(&START, &body)
        }
        other => other,
    }
    .map_err(|answer| match answer {
        Answer::Error { name, .. } if exists(&name) => CgroupError::UnitExists {
            unit: unit.name.clone(),
        },
        answer => talk.error("start", answer),
    })
}

fn exists(error: &str) -> bool {
    error.ends_with(".UnitExists")
}

/// Tells systemd new limits of a unit that runs, and waits until it has written its files.
pub(crate) fn set(unit: &Unit, properties: Vec<Property>) -> Result<(), CgroupError> {
    if properties.is_empty() {
        return Ok(());
    }
    let mut body = Writer::default();
    body.text(&unit.name);
    // Until the machine is booted again: the unit is not there for longer either.
    body.flag(true);
    body.array(8, |list| {
        for (name, value) in properties {
            list.property(&name, &value);
        }
    });
    let mut talk = Talk::new(unit)?;
    let set = talk.bus.call(&SET, &body.into_bytes());
    // Files are written before the next message is read.
    let ping = talk.bus.call(&PING, &[]);
    let done = talk.answer(set).and_then(|_| talk.answer(ping));
    done.map(drop)
        .map_err(|answer| talk.error("set limits of", answer))
}

/// Stops the unit, whatever is still in it, and forgets that it failed. A unit that is not
/// there is no error.
pub(crate) fn stop(unit: &Unit) -> Result<(), CgroupError> {
    let mut talk = Talk::new(unit)?;
    // A unit's name says nothing of its slice: one of this name elsewhere is not ours.
    let path = unit.path();
    let group = Path::new(super::MOUNT).join(super::below_root(&path));
    if crate::sys::file::open_dir_at(rustix::fs::CWD, &group).is_ok() {
        let mut body = Writer::default();
        body.text(&unit.name);
        body.text("replace");
        let stopped = match talk.job(&STOP, &body.into_bytes()) {
            Err(Answer::Error { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
            other => other,
        };
        stopped.map_err(|answer| talk.error("stop", answer))?;
    }
    // It may have failed, and then stays listed; if not, this is an error that says so.
    let reset = talk.call(&RESET_FAILED, &[&unit.name]);
    match talk.answer(reset) {
        Ok(_) | Err(Answer::Error { .. }) => Ok(()),
        Err(answer) => Err(talk.error("reset", answer)),
    }
}

/// What every container's unit has. It is delegated: systemd leaves what is below to the
/// container.
fn base(unit: &Unit, pid: i32) -> Vec<Property> {
    let accounted = ["CPU", "Memory", "IO", "Tasks"].map(|what| format!("{what}Accounting"));
    let accounted = accounted.into_iter().map(|name| (name, Value::Bool(true)));
    let own = [
        (
            "Description",
            Value::Text(format!("container {}", unit.name)),
        ),
        ("Slice", Value::Text(unit.slice.clone())),
        ("PIDs", Value::U32s(vec![pid.cast_unsigned()])),
        ("Delegate", Value::Bool(true)),
        ("DefaultDependencies", Value::Bool(false)),
    ];
    let own = own
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    own.chain(accounted).collect()
}

/// What came instead of success.
enum Answer {
    /// An error reply, or how a job ended.
    Error { name: String, text: String },
    /// No answer at all.
    Bus(BusError),
}

impl From<BusError> for Answer {
    fn from(error: BusError) -> Self {
        Answer::Bus(error)
    }
}

/// A conversation about one unit.
struct Talk<'a> {
    unit: &'a Unit,
    bus: Bus,
}

impl<'a> Talk<'a> {
    fn new(unit: &'a Unit) -> Result<Talk<'a>, CgroupError> {
        let bus = Bus::connect(Path::new(bus::SYSTEM), TIMEOUT);
        let bus = bus.map_err(|error| CgroupError::Systemd {
            unit: unit.name.clone(),
            what: "reach",
            why: format!("{}: {error}", bus::SYSTEM),
        })?;
        let mut talk = Talk { unit, bus };
        talk.call(&ADD_MATCH, &[JOBS]);
        Ok(talk)
    }

    fn call(&mut self, method: &Method, texts: &[&str]) -> u32 {
        let mut body = Writer::default();
        for text in texts {
            body.text(text);
        }
        self.bus.call(method, &body.into_bytes())
    }

    /// The reply to a call.
    fn answer(&mut self, serial: u32) -> Result<Message, Answer> {
        loop {
            let message = self.bus.next()?;
            match message.kind {
                Kind::Reply if message.reply_to == serial => return Ok(message),
                Kind::Error if message.reply_to == serial => {
                    let text = message.body().text().unwrap_or_default();
                    let name = message.error;
                    return Err(Answer::Error { name, text });
                }
                _ => {}
            }
        }
    }

    /// Makes a call that queues a job, and waits until the job is done.
    fn job(&mut self, method: &Method, body: &[u8]) -> Result<(), Answer> {
        let serial = self.bus.call(method, body);
        let job = self.answer(serial)?.body().text();
        loop {
            let message = self.bus.next()?;
            if message.kind != Kind::Signal || message.member != "JobRemoved" {
                continue;
            }
            let mut body = message.body();
            let removed = (body.u32(), body.text(), body.text(), body.text());
            let (_, path, _, Some(result)) = removed else {
                continue;
            };
            if path != job {
                continue;
            }
            return if result == "done" {
                Ok(())
            } else {
                let name = "the job ended".to_owned();
                Err(Answer::Error { name, text: result })
            };
        }
    }

    fn error(&self, what: &'static str, answer: Answer) -> CgroupError {
        let why = match answer {
            Answer::Error { name, text } => format!("{name}: {text}"),
            Answer::Bus(error) => error.to_string(),
        };
        CgroupError::Systemd {
            unit: self.unit.name.clone(),
            what,
            why,
        }
    }
}
