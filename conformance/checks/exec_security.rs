//! What has broken `exec` of container runtimes: each by its CVE.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use super::exec::{assert_refused, exec, facts_of, process_file, sleeping};
use crate::bundle::Bundle;
use crate::check::checks;
use crate::facts;
use crate::lab::Lab;
use crate::wait;

checks!("exec_security":
    cve_2016_3697_a_number_is_a_uid_whatever_the_image_calls_it,
    cve_2016_8867_a_user_other_than_root_has_no_capability,
    cve_2016_9962_nothing_of_the_process_is_seen_before_its_program,
    cve_2019_5736_the_runtimes_binary_is_out_of_reach,
    cve_2022_29162_nothing_becomes_inheritable,
    cve_2024_21626_no_directory_outside_can_be_the_working_directory,
    cve_2025_52565_a_terminal_is_one_of_a_real_devpts,
    cve_2026_30892_a_user_that_is_no_number_is_refused,
    the_environment_of_the_runtime_stays_outside,
    a_passwd_that_is_no_file_does_not_hang_it,
    a_hidden_proc_is_no_obstacle,
    a_library_of_the_image_is_not_loaded_by_the_runtime,
);

fn cve_2016_3697_a_number_is_a_uid_whatever_the_image_calls_it(lab: &Lab) {
    let mut bundle = lab.bundle();
    let passwd = "1000:x:0:0::/:/probe\nroot:x:0:0::/:/probe\n";
    bundle
        .file("etc/passwd", passwd)
        .expect("the lab is writable");
    let container = sleeping(lab, &mut bundle);
    let facts = facts_of(lab, &container, &["--user", "1000"]);
    assert_eq!(
        (&facts["uid"], &facts["euid"]),
        (&json!(1000), &json!(1000))
    );
}

fn cve_2016_8867_a_user_other_than_root_has_no_capability(lab: &Lab) {
    let mut bundle = lab.bundle();
    for set in ["ambient", "inheritable"] {
        bundle.config["process"]["capabilities"][set] = json!([]);
    }
    let container = sleeping(lab, &mut bundle);
    let facts = facts_of(lab, &container, &["--user", "1000"]);
    for set in ["effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(facts::capabilities(&facts, set), 0, "{set}");
    }
}

/// The container looks at every process that it sees, all the time.
fn cve_2016_9962_nothing_of_the_process_is_seen_before_its_program(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["snoop", "/tmp/enough"]);
    // The program itself may be looked at by its own kind: it is another user's.
    bundle.config["process"]["capabilities"] = json!({});
    let container = lab.start(&bundle);
    container.creation.wait_for_text("ready");
    for _ in 0..40 {
        drop(exec(lab, &container, &["--user", "1000"], &["/probe", "true"]).ok());
    }
    std::fs::write(bundle.rootfs().join("tmp/enough"), "").expect("the lab is writable");
    container.wait_for("stopped");
    let printed = container.printed();
    let seen = printed.lines().last().unwrap_or_default();
    assert_eq!(seen, "[]", "{printed}");
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cve_2019_5736_the_runtimes_binary_is_out_of_reach(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle
        .program("script", b"#!/proc/self/exe\n")
        .expect("the lab is writable");
    bundle.busybox().expect("the lab is writable");
    bundle.config["root"]["readonly"] = json!(false);
    let opener = "while :; do for p in /proc/[0-9]*; do : >>$p/exe; done; done 2>/dev/null";
    bundle.args(&["/bin/sh", "-c", opener]);
    let container = lab.start(&bundle);
    let before = bytes(lab.runtime.program());
    for _ in 0..20 {
        // Whatever comes of it: in the end it must not be the runtime that was run or written.
        drop(exec(lab, &container, &[], &["/script"]));
        drop(exec(lab, &container, &[], &["/probe", "true"]));
    }
    assert!(bytes(lab.runtime.program()) == before, "it was written to");
}

fn cve_2022_29162_nothing_becomes_inheritable(lab: &Lab) {
    let mut bundle = lab.bundle();
    for set in ["ambient", "inheritable"] {
        bundle.config["process"]["capabilities"][set] = json!([]);
    }
    let container = sleeping(lab, &mut bundle);
    for flags in [
        &["--cap", "CAP_SYS_ADMIN"][..],
        &["--cap", "CAP_KILL", "--user", "5"],
        &[],
    ] {
        let facts = facts_of(lab, &container, flags);
        assert_eq!(facts::capabilities(&facts, "inheritable"), 0, "{flags:?}");
    }
}

fn cve_2024_21626_no_directory_outside_can_be_the_working_directory(lab: &Lab) {
    let mut bundle = lab.bundle();
    for number in 3..31 {
        let link = bundle.rootfs().join(format!("tmp/{number}"));
        std::os::unix::fs::symlink(format!("/proc/self/fd/{number}"), link).expect("writable");
    }
    let container = sleeping(lab, &mut bundle);
    let mut cwds = Vec::new();
    for number in 3..31 {
        cwds.push(format!("/proc/self/fd/{number}"));
        cwds.push(format!("/tmp/{number}"));
    }
    cwds.extend([
        "/proc/self/fd/8/../../..".to_owned(),
        "/proc/1/cwd/../..".to_owned(),
    ]);
    for cwd in cwds {
        let output = exec(lab, &container, &["--cwd", &cwd], &["/probe", "list", "."]);
        // A peer may find itself in its own root.
        if lab.is_corten() || !output.status.success() {
            assert_refused(lab, &output, "change directory to");
        } else {
            assert!(output.stdout().contains("\"probe\""), "{cwd}: {output}");
        }
    }
    let process =
        json!({"args": ["/probe"], "cwd": "/proc/self/fd/7", "user": {"uid": 0, "gid": 0}});
    let file = process_file(lab, &process);
    let output = lab.runtime.call(&["exec", "-p", &file, &container.id]);
    if lab.is_corten() {
        assert_refused(
            lab,
            &output,
            "process.cwd: change directory to /proc/self/fd/7",
        );
    }
}

/// A container whose /dev/pts is not what it should be.
fn with_pts(lab: &Lab, kind: &str) -> Bundle {
    let mut bundle = lab.bundle();
    bundle.without_mount("/dev/pts");
    bundle.without_mount("/dev");
    bundle.without_mount("/dev/shm");
    bundle.without_mount("/dev/mqueue");
    let pts = bundle.rootfs().join("dev/pts");
    std::fs::create_dir_all(&pts).expect("the lab is writable");
    let ptmx = pts.join("ptmx");
    match kind {
        "file" => std::fs::write(&ptmx, "").expect("the lab is writable"),
        "link" => {
            std::os::unix::fs::symlink("/victim", &ptmx).expect("the lab is writable");
            bundle
                .file("victim", "untouched")
                .expect("the lab is writable");
        }
        _ => std::fs::remove_dir(&pts).expect("it is empty"),
    }
    bundle
}

fn cve_2025_52565_a_terminal_is_one_of_a_real_devpts(lab: &Lab) {
    for kind in ["file", "link", "missing"] {
        let mut bundle = with_pts(lab, kind);
        let container = sleeping(lab, &mut bundle);
        let path = lab.folder().join("console.sock");
        let _socket = crate::console::ConsoleSocket::listen(&path).expect("a socket");
        let text = path.to_string_lossy().into_owned();
        let flags = ["-d", "-t", "--console-socket", &text];
        let output = exec(lab, &container, &flags, &["/probe", "true"]);
        assert_refused(lab, &output, "process.terminal: open a pty in /dev/pts");
        let victim = container.rootfs().join("victim");
        if kind == "link" {
            assert_eq!(bytes(&victim), b"untouched");
        }
        std::fs::remove_file(path).expect("the lab is writable");
    }
}

fn cve_2026_30892_a_user_that_is_no_number_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let wrong = [
        "",
        "5:",
        ":5",
        " 5",
        "5 ",
        "0x5",
        "-1",
        "+5",
        "root",
        "4294967295",
        "4294967296",
    ];
    for user in wrong {
        let output = exec(lab, &container, &["--user", user], &["/probe"]);
        if lab.is_corten() {
            let text = format!("--user: {user:?}: expected numbers from 0 to 4294967294");
            assert_refused(lab, &output, &text);
        } else if output.status.success() && user.len() > 6 {
            // What is taken for another number must not be root's.
            assert_ne!(output.json()["uid"], 0, "{user:?}");
        }
    }
    let wrong = ["", "-1", "0x5", "4294967295", "4294967296"];
    for gid in wrong.iter().filter(|_| lab.is_corten()) {
        let output = exec(lab, &container, &["-g", gid], &["/probe"]);
        assert_refused(lab, &output, "--additional-gids: ");
    }
}

fn the_environment_of_the_runtime_stays_outside(lab: &Lab) {
    let mut bundle = lab.bundle();
    let container = sleeping(lab, &mut bundle);
    let mut command = lab.runtime.command();
    command.env("SECRET", "of the host").env("LISTEN_FDS", "0");
    command.args(["exec", &container.id, "/probe"]);
    let facts = lab.runtime.spawn(command).finish(wait::CALL).json();
    let env = facts["env"].to_string();
    for word in ["SECRET", "LISTEN_", "CORTEN", "_LIBCONTAINER"] {
        assert!(!env.contains(word), "{env}");
    }
}

fn a_passwd_that_is_no_file_does_not_hang_it(lab: &Lab) {
    if !lab.is_corten() {
        return; // runc waits for a fifo for ever.
    }
    let mut bundle = lab.bundle();
    let passwd = bundle.rootfs().join("etc/passwd");
    std::fs::remove_file(&passwd).expect("the lab is writable");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, fifo, mode, 0).expect("root may");
    let container = sleeping(lab, &mut bundle);
    let env = &facts_of(lab, &container, &["--user", "1000"])["env"];
    assert!(facts::has(env, "HOME=/"), "{env}");
}

fn a_hidden_proc_is_no_obstacle(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.push(
        "/mounts",
        json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}),
    );
    for list in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][list] = json!([]);
    }
    let container = lab.try_create({
        bundle.probe(&["sleep"]);
        &bundle
    });
    if !container.creation.status.success() {
        assert!(!lab.is_corten(), "{}", container.creation);
        return; // The peers write to its /proc.
    }
    drop(container.call(&["start"]).ok());
    let output = exec(lab, &container, &[], &["/probe", "exit", "5"]);
    if lab.is_corten() {
        assert_eq!(output.code(), 5, "{output}");
    }
}

fn a_library_of_the_image_is_not_loaded_by_the_runtime(lab: &Lab) {
    let mut bundle = lab.bundle();
    // A file that would run or break whatever loads it.
    for name in [
        "etc/ld.so.preload",
        "etc/nsswitch.conf",
        "lib/x86_64-linux-gnu/libc.so.6",
    ] {
        bundle.file(name, "/evil.so").expect("the lab is writable");
        let path = bundle.rootfs().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let container = sleeping(lab, &mut bundle);
    let flags = ["--user", "1000", "-e", "LD_PRELOAD=/evil.so"];
    let output = exec(lab, &container, &flags, &["/probe", "exit", "8"]);
    assert_eq!(
        (output.code(), output.stderr().as_str()),
        (8, ""),
        "{output}"
    );
}
