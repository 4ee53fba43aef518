//! What a caller chooses besides config.json, and configurations made in memory.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use corten_conformance::console::{ConsoleSocket, read_until};
use corten_conformance::facts;
use corten_core::{
    Bundle, Cgroups, Container, CreateOptions, Delete, ErrorKind, ExitStatus, Runtime,
};
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, MountBuilder, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder,
};
use rustix::process::{Resource, Rlimit};
use serde_json::{Value, json};

use crate::killed::{corten_under_strace, finish};
use crate::lab::{self, Lab};
use crate::sys;

/// Fails to compile if a type can't be shared between threads or polled.
const fn is_shared<T: Send + Sync>() {}
const fn is_polled<T: AsFd>() {}
const _: () = {
    is_shared::<Runtime>();
    is_shared::<Bundle>();
    is_shared::<Container>();
    is_shared::<CreateOptions>();
    is_shared::<corten_core::Error>();
    is_polled::<Container>();
};

fn options() -> CreateOptions {
    CreateOptions::default()
}

/// A configuration of few words.
fn small_spec(args: &[&str]) -> Spec {
    use LinuxNamespaceType::{Ipc, Mount, Pid, Uts};
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let process = ProcessBuilder::default()
        .args(args)
        .env(["PATH=/bin".to_owned(), "GREETING=hello".to_owned()])
        .cwd("/")
        .build();
    let namespaces = [Pid, Mount, Ipc, Uts].map(|kind| {
        let namespace = LinuxNamespaceBuilder::default().typ(kind).build();
        namespace.expect("a kind is all it needs")
    });
    let linux = LinuxBuilder::default().namespaces(namespaces).build();
    let proc = MountBuilder::default()
        .destination("/proc")
        .typ("proc")
        .source("proc")
        .build();
    SpecBuilder::default()
        .version("1.2.0")
        .root(
            RootBuilder::default()
                .path("elsewhere")
                .build()
                .expect("a root"),
        )
        .hostname("built")
        .process(process.expect("a process"))
        .mounts([proc.expect("a mount")])
        .linux(linux.expect("namespaces"))
        .build()
        .expect("a whole configuration")
}

#[test]
fn a_configuration_from_memory_runs() {
    lab::test(|lab| {
        let folder = lab.bundle(&[]);
        let bundle = lab::done(Bundle::from_spec(small_spec(&["/probe"]), folder.rootfs()));
        assert_eq!(bundle.rootfs(), folder.rootfs());
        let (exit, printed) = lab::run(&lab.runtime, "built", &bundle, options());
        assert_eq!(exit.status, ExitStatus::Code(0), "{printed}");
        let facts: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(facts["hostname"], "built");
        assert!(
            facts["env"].to_string().contains("GREETING=hello"),
            "{}",
            facts["env"]
        );
        // No file of it was needed, nor made.
        assert!(!folder.path().join("config.json").exists());
    });
}

#[test]
fn the_default_of_oci_spec_starts() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&[]);
        folder.busybox().expect("busybox-static is installed");
        let spec = Spec::default();
        folder.config = serde_json::to_value(&spec).expect("a configuration is JSON");
        let (mut reader, writer) = std::io::pipe().expect("there are descriptors");
        writer_says(&mut options(), writer, |mut options, mut input| {
            input.write_all(b"exit 21\n").expect("the reader is open");
            drop(input);
            options.stdio.stdin = Some(reader.try_clone().expect("a descriptor").into());
            let bundle = lab::done(Bundle::from_spec(spec, folder.rootfs()));
            let (exit, printed) = lab::run(&lab.runtime, "default", &bundle, options);
            assert_eq!(exit.status, ExitStatus::Code(21), "{printed}");
        });
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("UTF-8");
        assert_eq!(rest, "");
    });
}

/// Hands options and the writing end of standard input on.
fn writer_says(
    options: &mut CreateOptions,
    writer: std::io::PipeWriter,
    run: impl FnOnce(CreateOptions, std::io::PipeWriter),
) {
    run(std::mem::take(options), writer);
}

#[test]
fn standard_descriptors_are_the_given_ones() {
    lab::test(|lab| {
        let folder = lab.bundle(&["cat"]);
        let (input, mut to_input) = std::io::pipe().expect("there are descriptors");
        let mut with = options();
        with.stdio.stdin = Some(input.into());
        // More than a pipe holds would block here; this is less.
        to_input.write_all(&[b'x'; 5000]).expect("the pipe is open");
        drop(to_input);
        let (exit, printed) = lab.run(&folder, with);
        assert_eq!((exit.status, printed.len()), (ExitStatus::Code(0), 5000));

        let folder = lab.bundle(&["errors", "told"]);
        let (mut errors, writer) = std::io::pipe().expect("there are descriptors");
        let mut with = options();
        with.stdio.stderr = Some(writer.into());
        let (_, printed) = lab.run(&folder, with);
        let mut told = String::new();
        errors.read_to_string(&mut told).expect("UTF-8");
        assert_eq!((printed.as_str(), told.as_str()), ("", "told\n"));
    });
}

/// The caller's own descriptors from 3 on, each a file with its number in it.
fn own_descriptors(lab: &Lab, numbers: &[i32]) {
    for number in numbers {
        assert!(
            !std::path::Path::new(&format!("/proc/self/fd/{number}")).exists(),
            "descriptor {number} is in use: run this test without its caller's descriptors"
        );
        let path = lab.folder().join(format!("fd-{number}"));
        std::fs::write(&path, number.to_string()).expect("the lab is writable");
        // Above all numbers of interest.
        let file: OwnedFd = File::open(&path).expect("just written").into();
        let high = rustix::io::fcntl_dupfd_cloexec(&file, 900).expect("room");
        drop(file);
        sys::put_at(high.as_fd(), *number);
        std::fs::remove_file(path).expect("just written");
    }
}

#[test]
fn preserved_descriptors_and_no_others_reach_the_program() {
    lab::test(|lab| {
        own_descriptors(lab, &[3, 4, 5, 6, 77]);
        let mut with = options();
        with.preserve_fds = 2;
        let facts = lab.facts(&lab.bundle(&[]), with);
        let fds = facts["fds"].as_array().expect("a list");
        let numbers: Vec<_> = fds.iter().map(|fd| fd["fd"].clone()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4], "{facts:#}");
        for number in ["3", "4"] {
            let mut with = options();
            with.preserve_fds = 2;
            let (_, printed) = lab.run(&lab.bundle(&["print-fd", number]), with);
            assert_eq!(printed, number);
        }
        [3, 4, 5, 6, 77].into_iter().for_each(sys::close);
    });
}

#[test]
fn a_preserved_descriptor_that_is_not_open_is_refused() {
    lab::test(|lab| {
        own_descriptors(lab, &[3]);
        let bundle = lab::load(&lab.bundle(&[]));
        let mut with = options();
        with.preserve_fds = 2;
        let refused = lab.runtime.create("preserve", &bundle, with);
        let error = refused.expect_err("descriptor 4 is closed");
        assert_eq!(
            format!("{error:#}"),
            "preserve-fds: descriptor 4 is not open"
        );
        sys::close(3);
    });
}

#[test]
fn the_pidfd_socket_gets_the_pidfd_of_the_containers_process() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        let socket = ConsoleSocket::listen(&lab.folder().join("pidfd")).expect("a socket");
        let mut with = options();
        with.pidfd_socket = Some(socket.path().to_owned());
        let container = lab.create(&folder, with);
        let (word, pidfd) = socket.receive().expect("one message with one descriptor");
        assert_eq!(word, "standard");
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
        let info = info.expect("it is open");
        let wanted = format!("Pid:\t{}", container.pid());
        assert!(info.lines().any(|line| line == wanted), "{info}");
        lab::delete(container);
        std::fs::remove_file(socket.path()).expect("it is there");
    });
}

fn with_terminal(lab: &Lab, arguments: &[&str]) -> corten_conformance::bundle::Bundle {
    let mut folder = lab.bundle(arguments);
    folder.config["process"]["terminal"] = json!(true);
    folder.config["process"]["consoleSize"] = json!({"height": 30, "width": 100});
    folder
}

fn assert_is_the_terminal(container: &mut Container, master: &OwnedFd) {
    let size = rustix::termios::tcgetwinsize(master).expect("a pty");
    assert_eq!((size.ws_row, size.ws_col), (30, 100));
    container.start().expect("it starts");
    rustix::io::write(master, b"typed\n").expect("the master is writable");
    // Once from the echo, once from cat.
    read_until(master, |text| text.matches("typed").count() == 2).expect("an answer");
    let exit = {
        container.kill(libc::SIGKILL).expect("it runs");
        container.wait().expect("an own child")
    };
    assert_eq!(exit.status, ExitStatus::Signal(libc::SIGKILL));
}

#[test]
fn take_console_gives_the_master_once() {
    lab::test(|lab| {
        let folder = with_terminal(lab, &["cat"]);
        let mut container = lab.create(&folder, options());
        let master = container.take_console().expect("there is a terminal");
        assert!(container.take_console().is_none());
        assert_is_the_terminal(&mut container, &master);
        lab::delete(container);

        let mut plain = lab.create(&lab.bundle(&["true"]), options());
        assert!(plain.take_console().is_none());
        lab::delete(plain);
    });
}

#[test]
fn the_console_socket_gets_the_master() {
    lab::test(|lab| {
        let folder = with_terminal(lab, &["cat"]);
        let socket = ConsoleSocket::listen(&lab.folder().join("console")).expect("a socket");
        let mut with = options();
        with.console_socket = Some(socket.path().to_owned());
        let mut container = lab.create(&folder, with);
        assert!(container.take_console().is_none());
        let (name, master) = socket.receive().expect("one message with one descriptor");
        assert!(name.starts_with("/dev/pts/"), "{name}");
        assert_is_the_terminal(&mut container, &master);
        lab::delete(container);
        std::fs::remove_file(socket.path()).expect("it is there");
    });
}

#[test]
fn sockets_that_nobody_listens_on_and_terminals_that_are_not_there_are_refused() {
    lab::test(|lab| {
        let nowhere = lab.folder().join("nowhere");
        let refused = |folder: &corten_conformance::bundle::Bundle, with| {
            let created = lab.runtime.create("refused", &lab::load(folder), with);
            format!("{:#}", created.expect_err("it must be refused"))
        };
        let mut with = options();
        with.console_socket = Some(nowhere.clone());
        let text = refused(&lab.bundle(&["true"]), with);
        assert_eq!(text, "console socket: process.terminal is not true");
        let mut with = options();
        with.console_socket = Some(nowhere.clone());
        let text = refused(&with_terminal(lab, &["true"]), with);
        assert!(
            text.contains("/nowhere") && text.contains("no such file"),
            "{text}"
        );
        let mut with = options();
        with.pidfd_socket = Some(nowhere);
        let text = refused(&lab.bundle(&["true"]), with);
        assert!(
            text.contains("/nowhere") && text.contains("no such file"),
            "{text}"
        );
        lab.assert_no_process("afterwards");
    });
}

#[test]
fn sixty_four_descriptors_are_enough() {
    lab::test(|lab| {
        let few = Rlimit {
            current: Some(64),
            maximum: Some(64),
        };
        let mut folder = lab.bundle(&["exit", "4"]);
        let plan = lab.runtime.plan("few", &lab::load(&folder), &options());
        let peak = plan.expect("the default configuration").peak_fds;
        assert!(peak < 64 - 3, "{peak}");
        rustix::process::setrlimit(Resource::Nofile, few).expect("lower is always allowed");
        // Its own would be higher than the caller's.
        folder.config["process"]["rlimits"] = json!([]);
        let (exit, _) = lab.run(&folder, options());
        assert_eq!(exit.status, ExitStatus::Code(4));
        lab::in_user_namespace(&mut folder);
        let (exit, _) = lab.run(&folder, options());
        assert_eq!(exit.status, ExitStatus::Code(4));
    });
}

#[test]
fn too_few_descriptors_are_an_error_that_leaves_nothing() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        let bundle = lab::load(&folder);
        let limit = |current: u64| {
            let limit = Rlimit {
                current: Some(current),
                maximum: Some(1024),
            };
            rustix::process::setrlimit(Resource::Nofile, limit).expect("a lower soft limit");
        };
        let (mut failed, mut worked) = (0, 0);
        for current in 3..40 {
            limit(current);
            let created = lab.runtime.create("few", &bundle, options());
            limit(1024);
            match created {
                Ok(container) => {
                    worked += 1;
                    lab::delete(container);
                }
                Err(error) => {
                    failed += 1;
                    let text = format!("{error:#}");
                    let wanted = ["too many open files", "bad file descriptor"];
                    assert!(wanted.iter().any(|w| text.contains(w)), "{current}: {text}");
                }
            }
            lab.assert_clean_but(&[folder.path()]);
        }
        println!("{failed} limits too low, {worked} enough");
        assert!(failed > 0 && worked > 0);
    });
}

#[test]
fn a_user_namespace_has_its_id_maps() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&[]);
        lab::in_user_namespace(&mut folder);
        let facts = lab.facts(&folder, options());
        let map = json!([[0, 100_000, 1000], [1000, 200_000, 500]]);
        assert_eq!((&facts["uid_map"], &facts["gid_map"]), (&map, &map));
        assert_eq!(facts["uid"], 0);
        assert_eq!(facts::capabilities(&facts, "effective"), 0x2000_0420);
        folder.probe(&["exit", "17"]);
        for _ in 0..20 {
            let (exit, _) = lab.run(&folder, options());
            assert_eq!(exit.status, ExitStatus::Code(17));
            // The process is the caller's child although another made it.
            assert!(exit.rusage.is_some());
        }
    });
}

#[test]
fn without_cgroups_there_is_no_cgroup_and_limits_are_refused() {
    lab::test(|lab| {
        let builder = Runtime::builder().root(lab.runtime.root());
        let runtime = builder.cgroups(Cgroups::Disabled).build().expect("a root");
        let mut folder = lab.bundle(&["sleep"]);
        folder.config["linux"]["resources"] = json!({});
        let bundle = lab::load(&folder);
        let mut container = runtime.create("bare", &bundle, options()).expect("it can");
        container.start().expect("it starts");
        let cgroup = |pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
        let own = cgroup(std::process::id() as i32).expect("there is a /proc");
        assert_eq!(cgroup(container.pid()).expect("it runs"), own);
        container.delete(Delete::Force).expect("root may");
        folder.config["linux"]["resources"] = json!({"pids": {"limit": 5}});
        let refused = runtime.create("bare", &lab::load(&folder), options());
        let error = refused.expect_err("a limit needs a cgroup");
        assert_eq!(error.kind(), ErrorKind::Config, "{error:#}");
        assert!(
            format!("{error:#}").contains("linux.resources"),
            "{error:#}"
        );
    });
}

#[test]
fn a_plan_changes_nothing_and_names_what_asks_for_a_step() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        let bundle = lab::load(&folder);
        let plan = lab::done(lab.runtime.plan("plan", &bundle, &options()));
        let text = plan.to_string();
        assert!(
            text.contains("mounts[0]") && text.contains("process.args[0]"),
            "{text}"
        );
        let json: Value = serde_json::from_str(&plan.to_json()).expect("JSON");
        assert!(json.is_object(), "{json:#}");
        lab.assert_clean_but(&[folder.path()]);
    });
}

#[test]
fn a_trace_has_a_span_for_each_step_of_both_halves() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        let mut silent = lab.create(&folder, options());
        silent.start().expect("it starts");
        let none = silent.trace().expect("the report is there");
        assert_eq!(none, corten_core::Trace::default(), "nobody asked");
        lab::delete(silent);
        let mut wanted = options();
        wanted.trace = true;
        let mut container = lab.create(&folder, wanted);
        container.start().expect("it starts");
        container.wait().expect("an own child");
        let json = container.trace().expect("the report is there").to_json();
        let trace: Value = serde_json::from_str(&json).expect("JSON");
        let events = trace["traceEvents"].as_array().expect("a list");
        let plan = lab.runtime.plan("x", &lab::load(&folder), &options());
        let steps = plan.expect("a plan").steps.len();
        assert_eq!(events.len(), steps, "{trace:#}");
        for half in ["init", "runtime"] {
            assert!(events.iter().any(|event| event["cat"] == half), "{half}");
        }
        lab::delete(container);
    });
}

#[test]
fn the_flags_of_a_filter_are_those_of_the_configuration() {
    lab::test(|lab| {
        let log = lab.folder().join("calls");
        let output = log.to_string_lossy().into_owned();
        for (flags, wanted) in [
            (json!(null), "SECCOMP_FILTER_FLAG_SPEC_ALLOW, "),
            (json!([]), "SECCOMP_SET_MODE_FILTER, 0, "),
            (
                json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]),
                "SECCOMP_FILTER_FLAG_TSYNC|SECCOMP_FILTER_FLAG_LOG, ",
            ),
        ] {
            let mut folder = lab.bundle(&["true"]);
            folder.config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO"}],
            });
            if !flags.is_null() {
                folder.config["linux"]["seccomp"]["flags"] = flags;
            }
            folder.write().expect("the lab's folder is writable");
            let options = ["-f", "-o", &output, "-e", "trace=seccomp"];
            let mut command = corten_under_strace(lab, &options);
            command
                .args(["run", "--bundle"])
                .arg(folder.path())
                .arg("a");
            assert!(finish(command).success());
            let text = std::fs::read_to_string(&log).expect("strace writes it");
            // Others only ask what the kernel knows.
            let loads = |line: &&str| line.contains("SET_MODE_FILTER") && line.ends_with("= 0");
            let loads: Vec<&str> = text.lines().filter(loads).collect();
            assert_eq!(loads.len(), 1, "{text}");
            assert!(loads[0].contains(wanted), "{text}");
            std::fs::remove_file(&log).expect("just read");
        }
    });
}
