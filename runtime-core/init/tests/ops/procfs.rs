//! Writes to a procfs of init's own.

use std::fs;

use corten_init::abi::{Kind, Op, Slot};
use corten_init::sys::errno;

use super::flat::{Hand, Step};
use super::trial::{Trial, must};

fn text(text: &str) -> String {
    text.to_owned()
}

/// A procfs that is attached nowhere.
pub(crate) fn own_proc() -> Step {
    must(Op::NewFs {
        kind: text("proc"),
        source: text("proc"),
        data: text(""),
        attrs: 0,
        like: text(""),
        into: Slot::PROC,
    })
}

fn write(path: &str, value: &str) -> Op<Hand> {
    Op::WriteProc {
        proc: Slot::PROC,
        path: text(path),
        value: text(value),
    }
}

fn trial(name: &str) -> Trial {
    // A second mount on /proc/sys: whoever resolves paths from / is led astray.
    Trial::new(name)
        .namespace("--uts")
        .before("mkdir -p fake/kernel; echo >fake/kernel/domainname; mount --bind fake /proc/sys")
}

#[test]
fn a_value_is_written_as_it_is_and_where_it_belongs() {
    let name = "+two words";
    let init = trial("proc-write")
        .steps([own_proc(), must(write("sys/kernel/domainname", name))])
        .stop();
    let seen = format!("/proc/{}/root/{}", init.pid(), init.trial.dir.display());
    assert_eq!(
        fs::read_to_string(format!("{seen}/fake/kernel/domainname")).unwrap(),
        "\n"
    );
    let printed = Trial::new("proc-write-seen")
        .namespace("--uts")
        .steps([own_proc(), must(write("sys/kernel/domainname", name))])
        .prints(&["/bin/cat", "/proc/sys/kernel/domainname"]);
    assert_eq!(printed, name);
}

#[test]
fn nothing_is_written_through_a_link_or_out_of_the_procfs() {
    for (name, path, errno) in [
        ("proc-link", "self/comm", errno::ELOOP),
        ("proc-magic", "1/root/tmp/x", errno::ELOOP),
        ("proc-out", "../tmp", errno::EXDEV),
        ("proc-missing", "sys/kernel/no-such", errno::ENOENT),
    ] {
        let failed = trial(name)
            .steps([own_proc(), must(write(path, "x"))])
            .fails();
        assert_eq!((failed.step, failed.errno), (1, errno), "{path}");
    }
}

#[test]
fn what_is_mounted_in_the_hosts_procfs_is_not_crossed() {
    let open = must(Op::OpenProc { into: Slot::PROC });
    let failed = trial("proc-crossed")
        .steps([open, must(write("sys/kernel/domainname", "x"))])
        .fails();
    assert_eq!((failed.step, failed.errno), (1, errno::EXDEV));
}

#[test]
fn the_kernels_refusal_of_a_value_is_told() {
    let write = must(write("sys/kernel/shm_rmid_forced", "many"));
    let failed = trial("proc-value")
        .namespace("--ipc")
        .steps([own_proc(), write])
        .fails();
    assert_eq!((failed.errno, failed.kind), (errno::EINVAL, Kind::Plain));
}

fn write_attribute(name: &str, value: &str) -> Op<Hand> {
    Op::WriteAttribute {
        proc: Slot::PROC,
        name: text(name),
        value: text(value),
    }
}

#[test]
fn an_attribute_is_written_for_the_thread_itself() {
    let open = || must(Op::OpenProc { into: Slot::PROC });
    for (name, procfs) in [("attribute-own", own_proc()), ("attribute-hosts", open())] {
        let init = Trial::new(name)
            .steps([procfs, must(write_attribute("comm", "renamed"))])
            .stop();
        assert_eq!(init.proc("comm"), "renamed\n", "{name}");
    }
}

#[test]
fn the_kernels_refusal_of_a_label_is_told() {
    // No security module, or none that knows this command.
    let failed = Trial::new("attribute-refused")
        .steps([
            own_proc(),
            must(write_attribute("attr/exec", "no such: command")),
        ])
        .fails();
    assert_eq!((failed.step, failed.errno), (1, errno::EINVAL));
    let missing = must(write_attribute("attr/none", "x"));
    let failed = Trial::new("attribute-missing")
        .steps([own_proc(), missing])
        .fails();
    assert_eq!(failed.errno, errno::ENOENT);
    let long = must(write_attribute(&"x".repeat(300), "x"));
    let failed = Trial::new("attribute-long")
        .steps([own_proc(), long])
        .fails();
    assert_eq!(failed.errno, errno::ENAMETOOLONG);
}
