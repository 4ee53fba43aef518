//! What a created container holds: nothing of its creator.
//!
//! proc_pid_fd(5), proc_pid_maps(5), memfd_create(2); CVE-2019-5736.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;

use corten_conformance::wait;
use corten_core::{Container, CreateOptions};

use crate::lab::{self, Lab};
use crate::sys;

const SECRET: &str = "a secret of the creator";

fn proc(container: &Container, name: &str) -> String {
    format!("/proc/{}/{name}", container.pid())
}

/// Descriptors by number.
fn fds(container: &Container) -> BTreeMap<i32, PathBuf> {
    let fds = std::fs::read_dir(proc(container, "fd")).expect("init runs");
    let one = |fd: std::fs::DirEntry| {
        let number = fd.file_name().to_string_lossy().parse().ok()?;
        // It may have been closed since.
        Some((number, std::fs::read_link(fd.path()).ok()?))
    };
    fds.flatten().filter_map(one).collect()
}

/// A creator with descriptors that no exec closes, and a container of it.
fn created(lab: &Lab, user_namespace: bool) -> (corten_conformance::bundle::Bundle, Container) {
    let file = lab.folder().join("secret");
    std::fs::write(&file, SECRET).expect("the lab is writable");
    let file = File::open(file).expect("just written");
    for number in [50, 51, 60, 100, 500] {
        sys::put_at(file.as_fd(), number);
    }
    let mut folder = lab.bundle(&["sleep"]);
    if user_namespace {
        lab::in_user_namespace(&mut folder);
    }
    let container = lab.create(&folder, CreateOptions::default());
    (folder, container)
}

fn closed(lab: &Lab, container: Container) {
    lab::delete(container);
    for number in [50, 51, 60, 100, 500] {
        sys::close(number);
    }
    std::fs::remove_file(lab.folder().join("secret")).expect("it is there");
}

#[track_caller]
fn assert_holds_no_fd(lab: &Lab, container: &Container) {
    let own = |stdio: i32| std::fs::read_link(format!("/proc/self/fd/{stdio}"));
    let stdio = (0..3).map(|stdio| own(stdio).expect("there are three"));
    let folder = lab.runtime.root().join(container.id());
    let fifos = ["done", "exec.fifo"].map(|name| folder.join(name));
    let wanted: Vec<_> = stdio.chain(fifos).collect();
    let mut held = Vec::new();
    // Init closes its socket when `create` has already come back.
    let seen = wait::until(lab::LIMIT, || {
        let fds = fds(container);
        let (stdio, rest): (Vec<_>, Vec<_>) = fds.into_iter().partition(|(fd, _)| *fd < 3);
        held = rest.into_iter().map(|(_, target)| target).collect();
        held.sort();
        held.splice(0..0, stdio.into_iter().map(|(_, target)| target));
        (held == wanted).then_some(())
    });
    assert!(seen.is_some(), "{held:?} instead of {wanted:?}");
}

#[test]
fn a_created_container_holds_only_its_stdio_and_its_fifos() {
    lab::test(|lab| {
        for user_namespace in [false, true] {
            let (_folder, container) = created(lab, user_namespace);
            assert_holds_no_fd(lab, &container);
            closed(lab, container);
        }
    });
}

/// What is mapped: the last column of /proc/PID/maps, and the addresses where it is empty.
fn maps(container: &Container) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(proc(container, "maps")).expect("init runs");
    let line = |line: &str| {
        let mut words = line.splitn(6, ' ').map(str::to_owned);
        let range = words.next().unwrap_or_default();
        (range, words.nth(4).unwrap_or_default().trim().to_owned())
    };
    text.lines().map(line).collect()
}

fn length(range: &str) -> u64 {
    let number = |text| u64::from_str_radix(text, 16).expect("an address");
    let (from, to) = range.split_once('-').expect("a range");
    number(to) - number(from)
}

#[test]
fn a_created_container_maps_nothing_of_its_creators_memory() {
    lab::test(|lab| {
        let (_folder, container) = created(lab, false);
        let report = lab.runtime.root().join(container.id()).join("report");
        let report = report.to_string_lossy().into_owned();
        let mut anonymous = 0;
        for (range, name) in maps(&container) {
            match name.as_str() {
                "/memfd:corten-init (deleted)"
                | "/memfd:corten-plan (deleted)"
                | "[stack]"
                | "[vdso]"
                | "[vvar]"
                | "[vvar_vclock]"
                | "[vsyscall]" => {}
                // Init's own variables.
                "" | "[heap]" => anonymous += length(&range),
                _ => assert_eq!(name, report),
            }
        }
        assert!(anonymous <= 64 << 10, "{:#?}", maps(&container));
        closed(lab, container);
    });
}

#[test]
fn a_created_container_has_no_environment_and_no_arguments_of_its_creator() {
    lab::test(|lab| {
        let (_folder, container) = created(lab, false);
        let environ = std::fs::read(proc(&container, "environ")).expect("init runs");
        assert_eq!(lab::text(&environ), "");
        let arguments = std::fs::read(proc(&container, "cmdline")).expect("init runs");
        let arguments = lab::text(&arguments);
        let mut words = arguments.split_terminator('\0');
        assert_eq!(words.next(), Some("corten-init"));
        assert!(words.next().is_some_and(|plan| plan.parse::<u32>().is_ok()));
        assert_eq!(words.next(), None);
        closed(lab, container);
    });
}

fn write_through(path: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(b"#!/bin/sh\n")
}

#[test]
fn inits_program_is_a_memfd_that_nobody_can_write() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let mut container = lab.create(&folder, CreateOptions::default());
        let exe = proc(&container, "exe");
        let target = std::fs::read_link(&exe).expect("init runs");
        assert_eq!(target.to_string_lossy(), "/memfd:corten-init (deleted)");
        let program = std::fs::read(&exe).expect("root may read");

        // ETXTBSY while it runs, or the seal's EPERM.
        let error = write_through(&exe).expect_err("it runs");
        let codes = [Some(libc::ETXTBSY), Some(libc::EPERM)];
        assert!(codes.contains(&error.raw_os_error()), "{error}");

        // Kept open until init is over, which is how runc's binary was overwritten.
        let kept = File::open(&exe).expect("root may read");
        container.start().expect("it starts");
        let error = write_through(&format!("/proc/self/fd/{}", kept.as_raw_fd()));
        let error = error.expect_err("it is sealed");
        assert!(codes.contains(&error.raw_os_error()), "{error}");

        let other = lab.create(&folder, CreateOptions::default());
        let again = std::fs::read(proc(&other, "exe")).expect("root may read");
        assert!(program == again, "the program was changed");
        lab::delete(container);
        lab::delete(other);
    });
}

#[test]
fn a_running_container_holds_nothing_but_its_stdio() {
    lab::test(|lab| {
        let (_folder, mut container) = created(lab, false);
        container.start().expect("it starts");
        assert_eq!(fds(&container).into_keys().collect::<Vec<_>>(), [0, 1, 2]);
        for (_, name) in maps(&container) {
            assert!(
                !name.contains("corten") && !name.contains("state"),
                "{name}"
            );
        }
        closed(lab, container);
    });
}
