//! Hooks on the host, as children of a program that has its own mind about children.

use std::path::Path;

use corten_conformance::bundle::Bundle as Folder;
use corten_core::CreateOptions;
use serde_json::json;

use crate::lab::{self, Lab};
use crate::snapshot::{Program, read};
use crate::sys;

const KINDS: [&str; 4] = ["prestart", "createRuntime", "poststart", "poststop"];

/// A bundle whose hooks on the host each run this line of shell with `$0` as their kind.
fn bundle(lab: &Lab, line: &str) -> Folder {
    let mut folder = lab.bundle(&["sleep"]);
    folder.config["hooks"] = json!({});
    for kind in KINDS {
        let env = json!(["PATH=/usr/bin:/bin"]);
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", line, kind], "env": env});
        folder.config["hooks"][kind] = json!([hook]);
    }
    folder
}

fn live(lab: &Lab, folder: &Folder) {
    let mut container = lab.create(folder, CreateOptions::default());
    lab::done(container.start());
    lab::delete(container);
}

#[test]
fn hooks_run_and_fail_the_same_where_children_are_reaped_by_the_kernel() {
    lab::test(|lab| {
        let seen = lab.folder().join("seen");
        let line = format!("echo $0 >>{}", seen.display());
        let (works, fails) = (bundle(lab, &line), bundle(lab, "echo no; exit 3"));
        sys::ignore(libc::SIGCHLD);
        live(lab, &works);
        assert_eq!(
            read(&seen.to_string_lossy()).lines().collect::<Vec<_>>(),
            KINDS
        );
        std::fs::remove_file(&seen).expect("just read");
        let bundle = lab::load(&fails);
        let failed = lab
            .runtime
            .create("fails", &bundle, CreateOptions::default());
        let text = format!("{:#}", failed.expect_err("its first hook fails"));
        let words = "hooks.prestart[0]: error running prestart hook #0: /bin/sh: exit status 3, \
                     output: no (step ";
        assert!(text.starts_with(words), "{text}");
    });
}

#[test]
fn a_hook_gets_nothing_of_the_program() {
    lab::test(|lab| {
        let seen = lab.folder().join("seen");
        let line = format!(
            "cat /proc/self/status >{0}.$0; env | sort >>{0}.$0; ls -l /proc/self/fd >>{0}.$0",
            seen.display()
        );
        let folder = bundle(lab, &line);
        std::env::set_current_dir("/run/tmp").expect("the lane made it");
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o137));
        sys::ignore(libc::SIGPIPE);
        sys::catch(libc::SIGUSR1);
        sys::block(libc::SIGUSR2);
        let null = std::fs::File::open("/dev/null").expect("the lane has one");
        sys::put_at(std::os::fd::AsFd::as_fd(&null), 77);
        live(lab, &folder);
        sys::close(77);
        for kind in KINDS {
            let text = read(&format!("{}.{kind}", seen.display()));
            let has = |line: &str| text.lines().any(|found| found == line);
            assert!(has("Umask:\t0022"), "{kind}: {text}");
            for set in ["SigBlk", "SigIgn", "SigCgt"] {
                assert!(has(&format!("{set}:\t0000000000000000")), "{kind}: {text}");
            }
            assert!(has("PATH=/usr/bin:/bin"), "{kind}: {text}");
            assert!(
                !text.contains("CARGO") && !text.contains(" 77 "),
                "{kind}: {text}"
            );
            std::fs::remove_file(format!("{}.{kind}", seen.display())).expect("just read");
        }
    });
}

#[test]
fn hooks_leave_no_descriptor_and_no_child() {
    lab::test(|lab| {
        let (works, fails) = (bundle(lab, "exit 0"), bundle(lab, "exit 1"));
        live(lab, &works);
        let before = Program::look();
        for _ in 0..5 {
            live(lab, &works);
            let bundle = lab::load(&fails);
            let failed = lab
                .runtime
                .create("fails", &bundle, CreateOptions::default());
            assert!(failed.is_err());
        }
        assert_eq!(Program::look(), before);
        let children = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
        assert_eq!(children.err(), Some(rustix::io::Errno::CHILD));
        assert!(!Path::new(lab.runtime.root()).join("fails").exists());
    });
}
