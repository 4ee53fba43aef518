//! Images that mean harm: links, fifos and other traps where a runtime looks.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use crate::bundle::Bundle;
use crate::check::checks;
use crate::console::ConsoleSocket;
use crate::facts;
use crate::lab::Lab;

checks!("images":
    proc_or_sys_that_is_a_link_is_refused,
    a_cwd_that_is_a_descriptor_of_the_runtime_is_refused,
    a_cwd_that_leads_to_a_descriptor_of_the_runtime_is_refused,
    a_passwd_that_is_a_fifo_is_not_waited_for,
    a_passwd_that_is_huge_is_not_read_whole,
    a_console_that_is_a_link_leads_nowhere,
    pts_that_is_a_link_gives_no_false_terminal,
    ptmx_that_is_a_link_gives_no_false_terminal,
    init_that_is_run_as_the_process_does_nothing,
    a_process_of_another_user_has_no_capabilities_by_itself,
    an_id_of_more_than_32_bits_is_refused,
    delete_removes_nothing_behind_a_link,
);

/// CVE-2018-1002100 and its kin: what is written to /proc would be written elsewhere.
fn proc_or_sys_that_is_a_link_is_refused(lab: &Lab) {
    for name in ["proc", "sys"] {
        for target in ["/tmp", "tmp", "/proc/self/root", "/", "missing"] {
            let bundle = lab.bundle_of(&["true"]);
            let place = bundle.rootfs().join(name);
            std::fs::remove_dir(&place).expect("it is empty");
            symlink(target, &place).expect("a fresh root");
            let output = lab.run(&bundle);
            assert!(!output.status.success(), "{name} -> {target}: {output}");
            if lab.is_corten() {
                let text = output.stderr();
                let words = "must be mounted on ordinary directory";
                assert!(text.contains(words), "{name} -> {target}: {output}");
            }
        }
    }
}

/// CVE-2024-21626.
fn a_cwd_that_is_a_descriptor_of_the_runtime_is_refused(lab: &Lab) {
    for number in 3..=30 {
        let mut bundle = lab.bundle();
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let output = lab.run(&bundle);
        assert!(!output.status.success(), "{number}: {output}");
    }
}

/// The same by a link of the image's.
fn a_cwd_that_leads_to_a_descriptor_of_the_runtime_is_refused(lab: &Lab) {
    for number in [3, 5, 7, 8, 10, 12] {
        for tail in ["", "/..", "/../../.."] {
            let mut bundle = lab.bundle();
            let target = format!("/proc/self/fd/{number}{tail}");
            symlink(target, bundle.rootfs().join("work")).expect("a fresh root");
            bundle.config["process"]["cwd"] = json!("/work");
            let output = lab.run(&bundle);
            if output.status.success() {
                // The folder above a missing one is one of the container's procfs.
                let facts = output.json();
                let cwd = facts["cwd"].as_str().unwrap_or_default();
                assert!(cwd.starts_with("/proc"), "{number}{tail}: {cwd}");
            }
        }
    }
}

/// HOME is looked up there.
fn with_passwd(lab: &Lab, make: impl FnOnce(&Path)) {
    let bundle = lab.bundle();
    let passwd = bundle.rootfs().join("etc/passwd");
    std::fs::remove_file(&passwd).expect("it is there");
    make(&passwd);
    // There is a limit for the call.
    let facts = lab.facts(&bundle);
    assert!(facts::has(&facts["env"], "HOME=/"), "{}", facts["env"]);
}

fn a_passwd_that_is_a_fifo_is_not_waited_for(lab: &Lab) {
    with_passwd(lab, |path| {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).expect("root may");
    });
}

fn a_passwd_that_is_huge_is_not_read_whole(lab: &Lab) {
    with_passwd(lab, |path| {
        let file = std::fs::File::create(path).expect("the lab is writable");
        // One line without an end, all of it a hole.
        file.set_len(1 << 40).expect("a sparse file");
    });
}

/// A bundle without mounts in /dev, so that all there is the image's, and with a terminal.
fn bare_dev(lab: &Lab) -> Bundle {
    let mut bundle = lab.bundle_of(&["true"]);
    for place in ["/dev", "/dev/shm", "/dev/mqueue"] {
        bundle.without_mount(place);
    }
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["terminal"] = json!(true);
    bundle
}

/// Creates it with a console socket. If that works, whether a pty's master came.
fn terminal(lab: &Lab, bundle: &Bundle) -> Option<bool> {
    let path = lab.folder().join(format!("socket-{}", lab.id()));
    let socket = ConsoleSocket::listen(&path).expect("a socket");
    let path = path.to_string_lossy();
    let id = lab.id();
    let created = lab.command(&["create", "--console-socket", &path], bundle, &id);
    let real = created.status.success().then(|| {
        let (_, master) = socket.receive().expect("a master comes");
        rustix::pty::ptsname(&master, Vec::new()).is_ok()
    });
    drop(lab.runtime.call(&["delete", "--force", &id]));
    real
}

/// CVE-2025-52565: the pty, or what is bound on the console, is something else.
fn a_console_that_is_a_link_leads_nowhere(lab: &Lab) {
    let victim = lab.folder().join("victim");
    std::fs::write(&victim, "of the host").expect("the lab is writable");
    let before = std::fs::metadata(&victim).expect("it is there");
    let targets = [victim.clone(), PathBuf::from("/etc/passwd")];
    for target in targets {
        let bundle = bare_dev(lab);
        symlink(&target, bundle.rootfs().join("dev/console")).expect("a fresh root");
        assert_ne!(terminal(lab, &bundle), Some(false), "{}", target.display());
        let after = std::fs::metadata(&victim).expect("it is there");
        let of = std::os::linux::fs::MetadataExt::st_mode;
        assert_eq!(of(&before), of(&after));
        let uid = std::os::linux::fs::MetadataExt::st_uid;
        assert_eq!(uid(&before), uid(&after));
    }
}

fn pts_that_is_a_link_gives_no_false_terminal(lab: &Lab) {
    for target in ["/tmp", "../tmp", "/proc/self/fd", "/missing"] {
        let bundle = bare_dev(lab);
        bundle.file("tmp/ptmx", "").expect("the lab is writable");
        bundle.file("tmp/0", "").expect("the lab is writable");
        symlink(target, bundle.rootfs().join("dev/pts")).expect("a fresh root");
        assert_ne!(terminal(lab, &bundle), Some(false), "{target}");
    }
}

fn ptmx_that_is_a_link_gives_no_false_terminal(lab: &Lab) {
    let mut bundle = bare_dev(lab);
    bundle.without_mount("/dev/pts");
    bundle.file("dev/pts/0", "").expect("the lab is writable");
    symlink("/dev/null", bundle.rootfs().join("dev/pts/ptmx")).expect("a fresh root");
    assert_ne!(terminal(lab, &bundle), Some(false));
}

/// CVE-2019-5736: /proc/self/exe, where the runtime may be found.
fn init_that_is_run_as_the_process_does_nothing(lab: &Lab) {
    let program = lab.runtime.program();
    let before = std::fs::read(program).expect("it is there");
    for script in [false, true] {
        let mut bundle = lab.bundle();
        bundle.args(&["/proc/self/exe", "write-file", "/owned", "text"]);
        if script {
            bundle
                .program("run.sh", b"#!/proc/self/exe\n")
                .expect("the lab is writable");
            bundle.args(&["/run.sh"]);
        }
        bundle.config["root"]["readonly"] = json!(false);
        let output = lab.run(&bundle);
        assert!(!output.status.success(), "{output}");
        assert!(!bundle.rootfs().join("owned").exists(), "{output}");
    }
    let after = std::fs::read(program).expect("it is there");
    assert!(before == after, "the runtime is another program now");
}

/// CVE-2016-8867: ambient ones that nobody has asked for.
fn a_process_of_another_user_has_no_capabilities_by_itself(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let sets = bundle.config["process"]["capabilities"].as_object_mut();
    sets.expect("an object").remove("ambient");
    let facts = lab.facts(&bundle);
    for set in ["effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(facts::capabilities(&facts, set), 0, "{set}");
    }
}

/// CVE-2024-40635: cut to 32 bits, it is root.
fn an_id_of_more_than_32_bits_is_refused(lab: &Lab) {
    for id in [4_294_967_296_i64, -1, 4_294_967_295 + 1001] {
        for field in ["uid", "gid"] {
            let mut bundle = lab.bundle_of(&["true"]);
            bundle.config["process"]["user"][field] = json!(id);
            let output = lab.run(&bundle);
            assert!(!output.status.success(), "{field} {id}: {output}");
        }
        let mut bundle = lab.bundle_of(&["true"]);
        bundle.config["process"]["user"]["additionalGids"] = json!([id]);
        let output = lab.run(&bundle);
        assert!(!output.status.success(), "group {id}: {output}");
    }
}

/// CVE-2024-23652: what is cleaned up is somebody else's.
fn delete_removes_nothing_behind_a_link(lab: &Lab) {
    let victim = lab.folder().join("victim");
    std::fs::create_dir(&victim).expect("the lab is writable");
    std::fs::write(victim.join("file"), "").expect("the lab is writable");
    let mut bundle = lab.bundle_of(&["sleep"]);
    bundle.config["root"]["readonly"] = json!(false);
    let mount = json!({
        "destination": "/mnt/deep", "type": "bind", "source": victim, "options": ["bind"],
    });
    bundle.push("/mounts", mount);
    let container = lab.start(&bundle);
    let state = lab.runtime.root().join(&container.id);
    symlink(&victim, state.join("link")).expect("root may");
    // Of the image, where the runtime has made a folder.
    std::fs::rename(bundle.rootfs().join("mnt"), bundle.rootfs().join("old")).expect("root may");
    symlink(&victim, bundle.rootfs().join("mnt")).expect("root may");
    drop(container.call(&["delete", "--force"]).ok());
    assert!(!state.exists());
    assert!(victim.join("file").exists());
}
