//! Becoming the container's process: descriptors, signals, clone, barriers.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use corten_init::abi::{Barrier, Kind, Op, Slot, message, report};
use corten_init::sys::errno;
use rustix::process::{WaitId, WaitIdOptions};

use super::flat::{Hand, Step};
use super::trial::{DONE, EXEC_FIFO, Trial, fifo, must};

const CLONE_VM: u64 = 0x0000_0100;
const CLONE_THREAD: u64 = 0x0001_0000;
const CLONE_NEWUTS: u64 = 0x0400_0000;
const CLONE_NEWNS: u64 = 0x0002_0000;

fn wait(barrier: Barrier) -> Op<Hand> {
    Op::Wait { barrier }
}

/// Numbers of a process's open descriptors.
fn fds(pid: u32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let number = |entry: std::io::Result<fs::DirEntry>| {
        entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    let mut fds: Vec<i32> = entries.map(number).collect();
    fds.sort_unstable();
    fds
}

/// Opens descriptors between the slots, below them and far above.
const MANY: &str = "exec 3</dev/null 4</dev/null";
const FAR: &str = "bash -c 'exec 40</dev/null 200</dev/null 900</dev/null; exec \"$@\"' -";

#[test]
fn every_descriptor_that_the_plan_does_not_name_is_closed() {
    let init = Trial::new("close")
        .before(MANY)
        .started_by(FAR)
        .step(Op::CloseFds {})
        .stop();
    assert_eq!(fds(init.pid()), [0, 1, 2, DONE, EXEC_FIFO, 7]);
}

#[test]
fn descriptors_to_preserve_stay_and_pass_the_exec() {
    let init = Trial::new("preserve")
        .before(MANY)
        .keep_below(4)
        .step(Op::CloseFds {})
        .stop();
    assert_eq!(fds(init.pid()), [0, 1, 2, 3, DONE, EXEC_FIFO, 7]);
    let listed = Trial::new("preserve-exec")
        .before(MANY)
        .keep_below(5)
        .step(Op::CloseFds {})
        .prints(&["/bin/sh", "-c", "ls /proc/$$/fd"]);
    // A shell may keep one of its own, from 10 on.
    let listed: Vec<i32> = listed.lines().map(|line| line.parse().unwrap()).collect();
    let low: Vec<i32> = listed.into_iter().filter(|fd| *fd < 10).collect();
    assert_eq!(low, [0, 1, 2, 3, 4]);
}

/// Page tables are charged to the container: 2 MiB are what one describes.
#[test]
fn plan_and_report_are_mapped_beside_the_code() {
    let init = Trial::new("beside").stop();
    let maps = init.proc("maps");
    let place = |line: &str| {
        let (from, _) = line.split_once('-').unwrap();
        u64::from_str_radix(from, 16).unwrap() >> 21
    };
    let is_high = |line: &&str| line.ends_with(']');
    let (high, low): (Vec<&str>, Vec<&str>) = maps.lines().partition(is_high);
    assert!(high.iter().any(|line| line.ends_with("[stack]")), "{maps}");
    // Code and data, twice the plan, the report.
    assert!(low.len() >= 6, "{maps}");
    assert!(
        low.iter().all(|line| place(line) == place(low[0])),
        "{maps}"
    );
}

#[test]
fn slots_do_not_pass_the_exec() {
    let listed = Trial::new("slots-exec")
        .step(Op::CloseFds {})
        .bind_root()
        .prints(&["/bin/sh", "-c", "ls /proc/$$/fd"]);
    let low: Vec<&str> = listed.lines().filter(|fd| fd.len() == 1).collect();
    assert_eq!(low, ["0", "1", "2"]);
}

#[test]
fn no_signal_is_ignored_or_blocked() {
    const STARTER: &str = "env --ignore-signal=PIPE,INT,CHLD,USR1 --block-signal=TERM,HUP,RTMIN+1";
    let masks = |name: &str, reset: bool| {
        let trial = Trial::new(name).started_by(STARTER);
        let trial = if reset {
            trial.step(Op::ResetSignals {})
        } else {
            trial
        };
        let init = trial.stop();
        ["SigIgn", "SigBlk", "SigCgt"]
            .map(|field| u64::from_str_radix(&init.status(field), 16).unwrap())
    };
    let [ignored, blocked, _] = masks("signals-before", false);
    assert!(ignored != 0 && blocked != 0, "the trial shows nothing");
    assert_eq!(masks("signals", true), [0, 0, 0]);
}

#[test]
fn a_session_is_the_process_own() {
    let init = Trial::new("session").step(Op::NewSession {}).stop();
    let stat = init.proc("stat");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let pid = init.pid().to_string();
    // State, parent, group, session, terminal.
    assert_eq!(fields[2..5], [pid.as_str(), pid.as_str(), "0"]);
}

#[test]
fn a_process_that_is_not_dumpable_belongs_to_root_in_proc() {
    // Another user's program, which only a copy of it can be for sure.
    const STARTER: &str = "sh -c 'cp \"$1\" copy; exec setpriv --reuid 1000 --regid 1000 \
                           --clear-groups ./copy \"$2\"' -";
    let owner = |name: &str, steps: Vec<Step>| {
        let init = Trial::new(name).started_by(STARTER).steps(steps).stop();
        fs::metadata(format!("/proc/{}/fd", init.pid()))
            .unwrap()
            .uid()
    };
    assert_eq!(owner("dumpable", Vec::new()), 1000);
    assert_eq!(owner("non-dumpable", vec![must(Op::NonDumpable {})]), 0);
}

#[test]
fn a_namespace_is_unshared_and_no_other() {
    let init = Trial::new("unshare")
        .step(Op::Unshare {
            flags: CLONE_NEWUTS,
        })
        .stop();
    let namespace =
        |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let pid = init.pid().to_string();
    assert_ne!(namespace(&pid, "uts"), namespace("self", "uts"));
    assert_eq!(namespace(&pid, "ipc"), namespace("self", "ipc"));
}

#[test]
fn stage_0_reports_the_process_and_ends_and_the_process_goes_on() {
    stage_0_makes_the_process("clone", CLONE_NEWUTS | CLONE_NEWNS);
}

#[test]
fn a_process_goes_on_with_the_memory_of_stage_0() {
    stage_0_makes_the_process("shared", CLONE_VM | CLONE_NEWUTS | CLONE_NEWNS);
}

fn stage_0_makes_the_process(name: &str, flags: u64) {
    let mut init = Trial::new(name)
        .step(Op::Clone {
            flags,
            cgroup: Slot::NONE,
        })
        .step(wait(Barrier::Entered))
        // Deep in the stack that stage 0 had, too.
        .step(Op::FindHome { uid: 0 })
        .step(wait(Barrier::Ready))
        .go();
    // Both write to one socket, so either may be heard first.
    let mut cloned = None;
    for _ in 0..2 {
        match init.hear() {
            (message::CLONED, _, pid, pidfd) => cloned = Some((pid, pidfd.unwrap())),
            (kind, which, step, _) => {
                let expected = (message::BARRIER, Barrier::Entered as u8, 1);
                assert_eq!((kind, which, step), expected);
            }
        }
    }
    let (pid, pidfd) = cloned.expect("a message with a pidfd");
    assert_eq!(init.end(), Some(0), "stage 0");
    let told = u64::try_from(pid).unwrap();
    assert_eq!(init.trial.report().word(report::CLONED), told);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = format!("PPid:\t{}", std::process::id());
    assert!(status.contains(&parent), "{status}");
    init.go_on();
    assert_eq!(init.hear_barrier(Barrier::Ready), 3);
    init.go_on();
    // It is this program's child: no other step follows, so it ends.
    let wait = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    assert_eq!(wait.unwrap().unwrap().exit_status(), Some(0));
}

#[test]
fn nobody_is_told_of_a_process_that_could_not_be_made() {
    let mut init = Trial::new("unborn")
        .step(Op::Clone {
            flags: CLONE_VM | CLONE_THREAD,
            cgroup: Slot::NONE,
        })
        .go();
    assert_eq!(init.end(), Some(1));
    let told = init.trial.report();
    assert_eq!(told.failed().unwrap().errno, errno::EINVAL);
    assert_eq!(told.word(report::CLONED), 0);
}

#[test]
fn a_barrier_lets_init_go_on_by_a_byte() {
    let mut init = Trial::new("barrier")
        .step(wait(Barrier::Entered))
        .step(Op::SetUmask { mask: 0o123 })
        .step(wait(Barrier::Created))
        .go();
    assert_eq!(init.hear_barrier(Barrier::Entered), 0);
    init.go_on();
    assert_eq!(init.hear_barrier(Barrier::Created), 2);
    assert_eq!(init.status("Umask"), "0123");
    assert_eq!(init.trial.report().current(), Some(2));
}

#[test]
fn init_ends_when_the_runtime_is_gone() {
    let mut init = Trial::new("gone").step(wait(Barrier::Mounted)).go();
    assert_eq!(init.hear_barrier(Barrier::Mounted), 0);
    init.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(init.end(), Some(1));
    assert_eq!(init.rest(), b"");
    let failed = init.trial.report().failed().unwrap();
    assert_eq!(
        (failed.errno, failed.kind),
        (errno::EPIPE, Kind::RuntimeGone)
    );
}

#[test]
fn init_goes_on_by_a_byte_that_it_did_not_ask_for() {
    let mut init = Trial::new("untold").step(Op::WaitUntold {}).go();
    init.go_on();
    assert_eq!((init.end(), init.rest()), (Some(0), Vec::new()));
    let mut init = Trial::new("untold-gone").step(Op::WaitUntold {}).go();
    init.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(init.end(), Some(1));
    let failed = init.trial.report().failed().unwrap();
    assert_eq!(failed.kind, Kind::RuntimeGone);
}

#[test]
fn init_ends_when_the_runtime_was_gone_before_it_came_to_the_barrier() {
    let trial = Trial::new("gone-before").before("read line <gate");
    fifo(&trial.dir.join("gate"));
    let mut init = trial.step(wait(Barrier::Mounted)).go();
    init.socket.shutdown(std::net::Shutdown::Both).unwrap();
    fs::write(init.trial.dir.join("gate"), "\n").unwrap();
    assert_eq!(init.end(), Some(1));
    assert_eq!(init.trial.report().failed().unwrap().errno, errno::EPIPE);
}

#[test]
fn what_can_not_be_read_as_a_plan_is_exit_125() {
    let mut init = Trial::new("noplan")
        .before("head -c 4096 /dev/zero >plan")
        .step(wait(Barrier::Ready))
        .go();
    assert_eq!(init.end(), Some(125));
    let mut init = Trial::new("shortplan").before(": >report").go();
    // A report without room is a bus error, not a silent success.
    assert_ne!(init.end(), Some(0));
}
