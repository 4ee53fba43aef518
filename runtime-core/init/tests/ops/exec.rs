//! Finding the program, the wait for `start`, execve and what is said when it fails.

use std::fs;
use std::io::{Read, Write};

use corten_init::abi::{Kind, Op};
use corten_init::sys::errno;

use super::flat::Failed;
use super::trial::{Trial, fifo, must};

/// Scripts in the trial's folder: each prints its own path.
const SCRIPTS: &str = "umask 022
    script() { mkdir -p \"$(dirname \"$1\")\"; printf '#!/bin/sh\\necho \"$0\"\\n' >\"$1\"; chmod +x \"$1\"; }
    script one/prog; script two/prog; script two/other; script here
    mkdir -p denied isdir/prog; printf '#!/bin/sh\\n' >denied/prog";

fn trial(name: &str, path: Option<&str>) -> Trial {
    let trial = Trial::new(name).before(SCRIPTS);
    let dir = trial.dir.to_str().unwrap().to_owned();
    let path = path.map(|path| format!("PATH={}", path.replace('@', &dir)));
    let env: Vec<&str> = path.as_deref().into_iter().collect();
    let trial = trial.env(&env);
    trial
        .step(Op::ChangeDir { path: dir })
        .step(Op::FindProgram {})
}

/// The path of the script that runs, below the trial's folder.
fn runs(name: &str, path: &str, program: &str) -> String {
    let trial = trial(name, Some(path));
    let dir = trial.dir.to_str().unwrap().to_owned();
    let printed = trial.prints(&[program]);
    printed.replace(&dir, "@")
}

fn not_found(name: &str, path: Option<&str>, program: &str) -> Failed {
    trial(name, path).args(&[program]).fails()
}

#[test]
fn the_first_program_in_the_path_that_may_be_executed_runs() {
    for (name, path, program, script) in [
        ("path-first", "@/one:@/two", "prog", "@/one/prog"),
        ("path-second", "@/one:@/two", "other", "@/two/other"),
        ("path-missing", "/nothing:@/two", "prog", "@/two/prog"),
        ("path-denied", "@/denied:@/two", "prog", "@/two/prog"),
        ("path-isdir", "@/isdir:@/two", "prog", "@/two/prog"),
        ("path-slash", "@/two/", "prog", "@/two//prog"),
        ("path-relative", "two", "prog", "two/prog"),
        ("path-empty-part", "/nothing::/none", "here", "./here"),
        ("path-empty-end", "/nothing:", "here", "./here"),
    ] {
        assert_eq!(runs(name, path, program), script, "{name}");
    }
}

#[test]
fn a_name_with_a_slash_is_taken_as_it_is() {
    assert_eq!(runs("slash", "@/one", "two/prog"), "two/prog");
    assert_eq!(runs("slash-here", "@/one", "./here"), "./here");
    let failed = not_found("slash-missing", Some("@/one"), "./prog");
    assert_eq!((failed.errno, failed.kind), (errno::ENOENT, Kind::Plain));
    assert_eq!(failed.detail, "./prog");
}

#[test]
fn an_empty_path_and_no_path_find_nothing() {
    for (name, path) in [("path-empty", Some("")), ("path-none", None)] {
        let failed = not_found(name, path, "here");
        assert_eq!(
            (failed.errno, failed.kind),
            (errno::ENOENT, Kind::NotInPath),
            "{name}"
        );
        assert_eq!(failed.detail, "here");
    }
}

#[test]
fn a_program_that_is_only_where_it_may_not_be_executed_is_denied() {
    let failed = not_found("denied", Some("@/denied:/nothing"), "prog");
    assert_eq!(
        (failed.errno, failed.kind),
        (errno::EACCES, Kind::NotInPath)
    );
    let failed = not_found("denied-slash", Some(""), "./denied/prog");
    assert_eq!(
        (failed.errno, failed.kind),
        (errno::EACCES, Kind::NotExecutable)
    );
    let failed = not_found("directory", Some(""), "./isdir/prog");
    assert_eq!(
        (failed.errno, failed.kind),
        (errno::EISDIR, Kind::NotExecutable)
    );
}

#[test]
fn a_directory_of_the_path_that_is_too_long_is_passed_over() {
    let path = format!("/{}:@/two", "long/".repeat(1000));
    assert_eq!(runs("path-long", &path, "prog"), "@/two/prog");
}

#[test]
fn a_program_on_a_file_system_without_execution_is_denied() {
    let trial = Trial::new("noexec")
        .before("mkdir mnt; mount -t tmpfs -o noexec,mode=755 x mnt; cp /bin/true mnt/prog");
    let program = trial.dir.join("mnt/prog").to_str().unwrap().to_owned();
    let failed = trial.step(Op::FindProgram {}).args(&[&program]).fails();
    assert_eq!(
        (failed.errno, failed.kind),
        (errno::EACCES, Kind::NotExecutable)
    );
}

/// What execve's failure is said to be about.
fn exec_fails(name: &str, before: &str) -> Failed {
    let trial = Trial::new(name).before(before);
    let program = trial.dir.join("prog").to_str().unwrap().to_owned();
    let failed = trial
        .step(Op::FindProgram {})
        .step(Op::Exec {})
        .args(&[&program])
        .fails();
    assert_eq!(failed.step, 1);
    failed
}

#[test]
fn a_missing_interpreter_is_named() {
    let script = "printf '#! /no/such/shell -x\\n' >prog; chmod +x prog";
    let failed = exec_fails("interpreter", script);
    assert_eq!(
        (failed.errno, failed.kind),
        (errno::ENOENT, Kind::Interpreter)
    );
    assert_eq!(failed.detail, "/no/such/shell");
}

#[test]
fn an_interpreter_that_may_not_be_executed_is_named() {
    let script = "touch shell; printf '#!%s\\n' \"$PWD/shell\" >prog; chmod +x prog";
    let failed = exec_fails("interpreter-denied", script);
    assert_eq!(
        (failed.errno, failed.kind),
        (errno::EACCES, Kind::Interpreter)
    );
    assert!(failed.detail.ends_with("/shell"), "{failed:?}");
}

#[test]
fn a_missing_loader_is_named() {
    // Any dynamic program, with its loader's name made wrong.
    let program =
        "sed 's|/lib64/ld-linux|/lib64/no-linux|;s|/lib/ld-linux|/lib/no-linux|' /usr/bin/env >prog
                   chmod +x prog; ! cmp -s prog /usr/bin/env";
    let failed = exec_fails("loader", program);
    assert_eq!((failed.errno, failed.kind), (errno::ENOENT, Kind::Loader));
    assert!(failed.detail.contains("/no-linux"), "{failed:?}");
}

#[test]
fn a_file_of_no_known_format_is_the_programs_own_fault() {
    let failed = exec_fails("format", "echo text >prog; chmod +x prog");
    assert_eq!((failed.errno, failed.kind), (8, Kind::Plain), "ENOEXEC");
    assert!(failed.detail.ends_with("/prog"), "{failed:?}");
}

#[test]
fn arguments_that_are_too_long_are_not_the_loaders_fault() {
    let big = "a".repeat(200_000);
    for (name, program) in [("big", "/usr/bin/env"), ("big-script", "./prog")] {
        let trial = Trial::new(name).before("printf '#!/bin/sh\\n' >prog; chmod +x prog");
        let failed = trial
            .step(Op::FindProgram {})
            .step(Op::Exec {})
            .args(&[program, &big])
            .fails();
        assert_eq!((failed.errno, failed.kind), (7, Kind::Plain), "E2BIG");
        assert_eq!(failed.detail, program);
    }
}

#[test]
fn the_program_gets_its_arguments_and_environment_and_nothing_else() {
    let printed = Trial::new("args")
        .env(&["A=1", "B=two words", "EMPTY="])
        .prints(&["/usr/bin/env"]);
    assert_eq!(printed, "A=1\nB=two words\nEMPTY=");
    let printed = Trial::new("args-many").prints(&["/bin/echo", "", "two words", "ü\n"]);
    assert_eq!(printed, " two words ü");
}

#[test]
fn init_waits_for_a_byte_and_keeps_done_open_until_the_exec() {
    let trial = Trial::new("start");
    fifo(&trial.dir.join("hold"));
    let mut init = trial
        .steps([
            must(Op::CloseFds {}),
            must(Op::WaitStart {}),
            must(Op::Exec {}),
        ])
        .args(&["/bin/sh", "-c", "read line </dev/fd/3; exit 7"])
        .before("exec 3<>hold")
        .keep_below(4)
        .go();
    let dir = init.trial.dir.clone();
    let mut exec = fs::OpenOptions::new()
        .write(true)
        .open(dir.join("exec"))
        .unwrap();
    // Before the byte: once init is gone, nobody else has it open, and this would wait.
    let mut done = fs::File::open(dir.join("done")).unwrap();
    exec.write_all(&[0]).unwrap();
    // Its end: nobody has it open any more.
    let mut rest = Vec::new();
    done.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    let report = init.trial.report();
    assert_eq!((report.current(), report.failed()), (Some(2), None));
    fs::write(dir.join("hold"), "\n").unwrap();
    assert_eq!(init.end(), Some(7));
}
