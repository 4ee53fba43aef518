//! Namespaces that are joined, and the time namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;

use corten_init::abi::{Barrier, Kind, Op, Slot};
use corten_init::sys::errno;

use super::flat::Hand;
use super::trial::{Stopped, Trial, fifo};

const CLONE_NEWUTS: u64 = 0x0400_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;
const CLONE_NEWTIME: u64 = 0x80;

const SLOT: Slot = Slot::NAMESPACES;

fn open(path: impl Into<String>, kind: u64) -> Op<Hand> {
    let path = path.into();
    Op::OpenNamespace {
        path,
        kind,
        into: SLOT,
    }
}

fn join(kinds: u64) -> Op<Hand> {
    Op::Join { from: SLOT, kinds }
}

/// This test's own namespace.
fn own(kind: &str) -> String {
    format!("/proc/{}/ns/{kind}", std::process::id())
}

fn number(path: &str) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn of(init: &Stopped, kind: &str) -> u64 {
    number(&format!("/proc/{}/ns/{kind}", init.pid()))
}

#[test]
fn a_namespace_is_joined_and_no_other() {
    let trial = || Trial::new("join").namespace("--uts").namespace("--ipc");
    let before = trial().stop();
    assert_ne!(
        of(&before, "uts"),
        number(&own("uts")),
        "the trial shows nothing"
    );
    drop(before);
    let init = trial()
        .step(open(own("uts"), CLONE_NEWUTS))
        .step(join(CLONE_NEWUTS))
        .stop();
    assert_eq!(of(&init, "uts"), number(&own("uts")));
    assert_ne!(of(&init, "ipc"), number(&own("ipc")));
}

#[test]
fn the_descriptor_of_a_namespace_is_closed_when_it_is_joined() {
    let steps = |trial: Trial, joins: bool| {
        let trial = trial
            .step(Op::CloseFds {})
            .step(open(own("uts"), CLONE_NEWUTS));
        let trial = if joins {
            trial.step(join(CLONE_NEWUTS))
        } else {
            trial
        };
        let init = trial.stop();
        fs::read_dir(format!("/proc/{}/fd", init.pid()))
            .unwrap()
            .count()
    };
    let open = steps(Trial::new("join-open").namespace("--uts"), false);
    let closed = steps(Trial::new("join-closed").namespace("--uts"), true);
    assert_eq!(open, closed + 1);
}

#[test]
fn what_is_no_namespace_of_the_kind_is_refused_without_being_waited_for() {
    let trial = Trial::new("join-fifo");
    let pipe = trial.dir.join("pipe");
    fifo(&pipe);
    let failed = trial
        .step(open(pipe.to_str().unwrap(), CLONE_NEWUTS))
        .fails();
    assert_eq!(failed.kind, Kind::NotThatNamespace);
    for path in [
        own("ipc"),
        "/etc/passwd".to_owned(),
        "/dev/zero".to_owned(),
        "/".to_owned(),
    ] {
        let failed = Trial::new("join-other")
            .step(open(path, CLONE_NEWUTS))
            .fails();
        assert_eq!(
            (failed.errno, failed.kind),
            (errno::EINVAL, Kind::NotThatNamespace)
        );
    }
    let missing = Trial::new("join-missing")
        .step(open("/not/there", CLONE_NEWIPC))
        .fails();
    assert_eq!((missing.errno, missing.kind), (errno::ENOENT, Kind::Plain));
}

/// Into a time namespace of its own whose clock is a million seconds ahead.
fn ahead(name: &str) -> Stopped {
    let proc = Slot::HOST_PROC;
    let mut init = Trial::new(name)
        .step(Op::OpenProc { into: proc })
        .step(Op::Unshare {
            flags: CLONE_NEWTIME,
        })
        .step(Op::Wait {
            barrier: Barrier::Entered,
        })
        .step(Op::EnterTime { proc })
        .step(Op::Wait {
            barrier: Barrier::Ready,
        })
        .go();
    init.hear_barrier(Barrier::Entered);
    let offsets = format!("/proc/{}/timens_offsets", init.pid());
    fs::write(offsets, "monotonic 1000000 0\n").unwrap();
    init.go_on();
    init.hear_barrier(Barrier::Ready);
    init
}

#[test]
fn a_new_time_namespace_is_entered_with_its_offsets() {
    let init = ahead("time");
    assert_eq!(of(&init, "time"), of(&init, "time_for_children"));
    assert_ne!(of(&init, "time"), number(&own("time")));
    let offsets = init.proc("timens_offsets");
    let monotonic = offsets.lines().next().unwrap().split_whitespace();
    assert_eq!(monotonic.collect::<Vec<_>>(), ["monotonic", "1000000", "0"]);
}

#[test]
fn the_times_in_the_report_stay_those_of_the_creator() {
    let init = ahead("time-report");
    let starts: Vec<u64> = (0..5).map(|step| init.trial.report().start(step)).collect();
    let pairs = starts.iter().zip(&starts[1..]);
    const MINUTE: u64 = 60_000_000_000;
    for (one, next) in pairs {
        assert!(next >= one && *next < one + MINUTE, "{starts:?}");
    }
}

#[test]
fn what_is_no_procfs_is_not_taken_for_one() {
    let into = Slot::HOST_PROC;
    let failed = Trial::new("proc")
        .before("mount -t tmpfs tmpfs /proc")
        .step(Op::OpenProc { into })
        .fails();
    assert_eq!((failed.errno, failed.kind), (errno::ENODEV, Kind::Impostor));
}
