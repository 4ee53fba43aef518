//! Broken bundles: one line on stderr that says what is wrong, exit code 1, and nothing
//! left behind. The texts are Corten's own; another runtime must only fail as cleanly.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::Lab;
use crate::runtime::Output;

checks!("errors":
    a_bundle_without_config_json_is_refused,
    a_config_that_is_not_json_is_refused_with_line_and_column,
    a_value_of_the_wrong_type_is_refused_with_its_path,
    a_missing_rootfs_is_refused,
    a_rootfs_that_is_a_file_is_refused,
    an_unknown_file_system_is_refused_by_name,
    a_missing_mount_source_is_refused_by_name,
    a_missing_executable_is_refused_at_create,
    an_executable_that_was_removed_is_refused_at_create,
    a_program_that_is_not_in_the_path_is_refused_at_create,
    a_file_that_is_not_executable_is_refused,
    a_folder_as_executable_is_refused,
    a_script_whose_interpreter_is_missing_names_the_interpreter,
    an_elf_file_whose_loader_is_missing_names_the_loader,
    a_file_of_no_known_format_is_refused,
    a_cwd_that_can_not_be_made_is_refused,
    a_cwd_that_is_a_file_is_refused,
    a_hostname_without_a_uts_namespace_is_refused,
    a_soft_limit_above_the_hard_limit_is_refused,
    an_overlapping_id_map_is_refused,
    an_invalid_id_is_refused,
    a_duplicate_id_is_refused_and_the_first_container_lives,
    an_unknown_container_is_told_as_such,
    an_executable_that_vanishes_after_create_fails_the_start,
    an_interpreter_that_vanishes_after_create_fails_the_start,
    an_unknown_option_of_a_mount_is_refused_by_name,
    a_version_of_the_specification_that_is_unknown_is_refused,
    an_empty_list_of_arguments_is_refused,
    a_wrong_number_of_arguments_shows_the_usage,
    an_unknown_capability_is_only_a_warning,
    with_a_log_file_the_error_goes_there_too,
);

/// Tries `create` and expects that it fails with this one line, and leaves nothing.
///
/// In the text `BUNDLE` and `ROOTFS` stand for the paths and `#` for a number of the plan.
fn refused(lab: &Lab, bundle: &Bundle, text: &str) {
    bundle.write().expect("the lab is writable");
    refused_as_it_is(lab, bundle, text);
}

fn refused_as_it_is(lab: &Lab, bundle: &Bundle, text: &str) {
    let path = bundle.path().to_string_lossy();
    let output = lab.runtime.call(&["create", "--bundle", &path, "broken"]);
    failed(lab, bundle, &output, text);
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn failed(lab: &Lab, bundle: &Bundle, output: &Output, text: &str) {
    assert_eq!(output.stdout(), "", "{output}");
    if lab.is_corten() {
        assert_eq!(output.code(), 1, "{output}");
        let text = text
            .replace("ROOTFS", &bundle.rootfs().to_string_lossy())
            .replace("BUNDLE", &bundle.path().to_string_lossy());
        assert_eq!(
            without_numbers(&output.stderr()),
            format!("corten: {text}\n")
        );
    } else {
        // runc ends with 255 where the program can't be executed.
        assert_ne!(output.code(), 0, "{output}");
        assert_ne!(output.stderr(), "");
    }
}

/// `(step 12 of 41)` as `(step # of #)`: a new step must not change every text here.
fn without_numbers(text: &str) -> String {
    let Some((before, place)) = text.rsplit_once("(step ") else {
        return text.to_owned();
    };
    let numbers = place.trim_end().trim_end_matches(')').split(" of ");
    let all_numbers = numbers.clone().all(|number| number.parse::<u32>().is_ok());
    assert!(numbers.count() == 2 && all_numbers, "{text}");
    format!("{before}(step # of #)\n")
}

fn a_bundle_without_config_json_is_refused(lab: &Lab) {
    let bundle = lab.bundle();
    let text = "BUNDLE/config.json: open: no such file or directory";
    refused_as_it_is(lab, &bundle, text);
}

fn a_config_that_is_not_json_is_refused_with_line_and_column(lab: &Lab) {
    let bundle = lab.bundle();
    std::fs::write(
        bundle.path().join("config.json"),
        "{\n  \"ociVersion\": \"1.0.0\",\n  root\n}",
    )
    .expect("the lab is writable");
    let text = "BUNDLE/config.json: not JSON: key must be a string at line 3 column 3";
    refused_as_it_is(lab, &bundle, text);
}

fn a_value_of_the_wrong_type_is_refused_with_its_path(lab: &Lab) {
    let bundle = lab.bundle();
    let config = "{\"ociVersion\": \"1.0.0\",\n\"process\": {\"user\": {\"uid\": \"root\"}}}";
    std::fs::write(bundle.path().join("config.json"), config).expect("the lab is writable");
    let text = "BUNDLE/config.json: process.user.uid: invalid type: string \"root\", \
                expected u32 at line 2 column 34";
    refused_as_it_is(lab, &bundle, text);
}

fn a_missing_rootfs_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["root"]["path"] = json!("elsewhere");
    refused(
        lab,
        &bundle,
        "root.path: BUNDLE/elsewhere: stat: no such file or directory",
    );
}

fn a_rootfs_that_is_a_file_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["root"]["path"] = json!("rootfs/probe");
    refused(
        lab,
        &bundle,
        "root.path: ROOTFS/probe: open: not a directory",
    );
}

fn an_unknown_file_system_is_refused_by_name(lab: &Lab) {
    let mut bundle = lab.bundle();
    let mount = json!({"destination": "/data", "type": "frobfs", "source": "none"});
    bundle.config["mounts"] = json!([mount]);
    refused(
        lab,
        &bundle,
        "mounts[0]: mount \"frobfs\" on /data: no such device (step # of #)",
    );
}

fn a_missing_mount_source_is_refused_by_name(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["mounts"] =
        json!([{"destination": "/data", "source": "/missing/source", "options": ["bind"]}]);
    refused(
        lab,
        &bundle,
        "mounts[0]: bind /missing/source on /data: no such file or directory (step # of #)",
    );
}

fn a_missing_executable_is_refused_at_create(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.args(&["/missing"]);
    refused(
        lab,
        &bundle,
        "process.args[0]: exec /missing: no such file or directory (step # of #)",
    );
}

fn an_executable_that_was_removed_is_refused_at_create(lab: &Lab) {
    let bundle = lab.bundle();
    std::fs::remove_file(bundle.rootfs().join("probe")).expect("the lab is writable");
    let container = lab.try_create(&bundle);
    assert!(
        !container.creation.status.success(),
        "{}",
        container.creation
    );
}

fn a_program_that_is_not_in_the_path_is_refused_at_create(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.args(&["missing"]);
    let text =
        "process.args[0]: exec: \"missing\": executable file not found in $PATH (step # of #)";
    refused(lab, &bundle, text);
}

fn a_file_that_is_not_executable_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.args(&["/etc/passwd"]);
    refused(
        lab,
        &bundle,
        "process.args[0]: exec /etc/passwd: permission denied (step # of #)",
    );
}

fn a_folder_as_executable_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.args(&["/etc"]);
    refused(
        lab,
        &bundle,
        "process.args[0]: exec /etc: is a directory (step # of #)",
    );
}

/// Runs in the foreground and expects the one line.
fn run_fails(lab: &Lab, bundle: &Bundle, text: &str) {
    let output = lab.run(bundle);
    failed(lab, bundle, &output, text);
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn a_script_whose_interpreter_is_missing_names_the_interpreter(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle
        .program("run.sh", b"#!/bin/nosh -x\n")
        .expect("the lab is writable");
    bundle.args(&["/run.sh"]);
    let text = "process.args[0]: exec /run.sh: its interpreter /bin/nosh: \
                no such file or directory (step # of #)";
    run_fails(lab, &bundle, text);
}

/// The least ELF file that names a loader: header, one PT_INTERP, the name.
fn elf_with_loader(loader: &str) -> Vec<u8> {
    let name: Vec<u8> = loader.bytes().chain([0]).collect();
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let machine: u16 = if cfg!(target_arch = "aarch64") {
        183
    } else {
        62
    };
    file.extend(2_u16.to_le_bytes()); // ET_EXEC
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for number in [0_u64, 64, 0] {
        file.extend(number.to_le_bytes()); // entry, program headers, section headers
    }
    file.extend(0_u32.to_le_bytes());
    for number in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(3_u32.to_le_bytes()); // PT_INTERP
    file.extend(4_u32.to_le_bytes());
    let length = name.len() as u64;
    for number in [120_u64, 0, 0, length, length, 1] {
        file.extend(number.to_le_bytes());
    }
    file.extend(name);
    file
}

fn an_elf_file_whose_loader_is_missing_names_the_loader(lab: &Lab) {
    let mut bundle = lab.bundle();
    let file = elf_with_loader("/lib/ld-missing.so.1");
    bundle
        .program("program", &file)
        .expect("the lab is writable");
    bundle.args(&["/program"]);
    let text = "process.args[0]: exec /program: its loader /lib/ld-missing.so.1: \
                no such file or directory (step # of #)";
    run_fails(lab, &bundle, text);
}

fn a_file_of_no_known_format_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle
        .program("text", b"just text\n")
        .expect("the lab is writable");
    bundle.args(&["/text"]);
    run_fails(
        lab,
        &bundle,
        "process.args[0]: exec /text: exec format error (step # of #)",
    );
}

fn a_cwd_that_can_not_be_made_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["cwd"] = json!("/proc/missing/cwd");
    refused(
        lab,
        &bundle,
        "process.cwd: change directory to /proc/missing/cwd: no such file or directory (step # of #)",
    );
}

fn a_cwd_that_is_a_file_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["cwd"] = json!("/etc/passwd");
    refused(
        lab,
        &bundle,
        "process.cwd: change directory to /etc/passwd: not a directory (step # of #)",
    );
}

fn a_hostname_without_a_uts_namespace_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["hostname"] = json!("db1");
    bundle.without_namespace("uts");
    refused(
        lab,
        &bundle,
        "hostname: needs a uts namespace (linux.namespaces)",
    );
}

fn a_soft_limit_above_the_hard_limit_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 2048, "hard": 1024}]);
    let text = "process.rlimits[0]: RLIMIT_NOFILE: soft limit 2048 is above the hard limit 1024";
    refused(lab, &bundle, text);
}

fn an_overlapping_id_map_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([
        {"containerID": 0, "hostID": 100_000, "size": 1000},
        {"containerID": 999, "hostID": 200_000, "size": 10},
    ]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    let text = "linux.uidMappings[1]: container ids 999-1008 overlap with linux.uidMappings[0]";
    refused(lab, &bundle, text);
}

fn an_invalid_id_is_refused(lab: &Lab) {
    let bundle = lab.bundle();
    for id in ["a/b", ".", "..", "a b", "ä", "../x"] {
        let output = lab.command(&["create"], &bundle, id);
        failed(
            lab,
            &bundle,
            &output,
            &format!("invalid container ID format: {id:?}"),
        );
    }
    assert_eq!(lab.state_directory(), [""; 0]);
}

fn a_duplicate_id_is_refused_and_the_first_container_lives(lab: &Lab) {
    let bundle = lab.bundle_of(&["sleep"]);
    let container = lab.start(&bundle);
    for words in [&["create"][..], &["run"]] {
        let output = lab.command(words, &bundle, &container.id);
        failed(
            lab,
            &bundle,
            &output,
            "container with given ID already exists",
        );
    }
    assert_eq!(container.state()["status"], "running");
}

fn an_unknown_container_is_told_as_such(lab: &Lab) {
    let bundle = lab.bundle();
    for words in [&["state"][..], &["start"], &["kill"], &["delete"]] {
        let output = lab.runtime.call(&[words, &["missing"]].concat());
        failed(lab, &bundle, &output, "container does not exist");
    }
}

fn an_executable_that_vanishes_after_create_fails_the_start(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.busybox().expect("busybox");
    bundle.args(&["/bin/busybox", "true"]);
    let container = lab.create(&bundle);
    std::fs::remove_file(bundle.rootfs().join("bin/busybox")).expect("it was there");
    let output = container.call(&["start"]);
    let text = "process.args[0]: exec /bin/busybox: no such file or directory (step # of #)";
    if lab.is_corten() {
        failed(lab, &bundle, &output, text);
    }
}

fn an_interpreter_that_vanishes_after_create_fails_the_start(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.busybox().expect("busybox");
    bundle
        .program("run.sh", b"#!/bin/busybox sh\n")
        .expect("the lab is writable");
    bundle.args(&["/run.sh"]);
    let container = lab.create(&bundle);
    std::fs::remove_file(bundle.rootfs().join("bin/busybox")).expect("it was there");
    let output = container.call(&["start"]);
    let text = "process.args[0]: exec /run.sh: its interpreter /bin/busybox: \
                no such file or directory (step # of #)";
    if lab.is_corten() {
        failed(lab, &bundle, &output, text);
    }
}

fn an_unknown_option_of_a_mount_is_refused_by_name(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["mounts"] = json!([
        {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["frob=1"]},
    ]);
    refused(
        lab,
        &bundle,
        "mounts[0]: mount \"tmpfs\" on /data with the mode of what it hides: tmpfs: \
                Unknown parameter 'frob': invalid argument (step # of #)",
    );
}

fn a_version_of_the_specification_that_is_unknown_is_refused(lab: &Lab) {
    // runc takes any version.
    if lab.is_corten() {
        let mut bundle = lab.bundle();
        bundle.config["ociVersion"] = json!("2.0.0");
        refused(
            lab,
            &bundle,
            "ociVersion: \"2.0.0\" is unknown, expected 1.x.y",
        );
    }
}

fn an_empty_list_of_arguments_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.args(&[]);
    refused(lab, &bundle, "process.args: must not be empty");
}

fn a_wrong_number_of_arguments_shows_the_usage(lab: &Lab) {
    let output = lab.runtime.call(&["create"]);
    assert!(!output.status.success(), "{output}");
    if lab.is_corten() {
        assert_eq!(output.code(), 1);
        assert!(output.stdout().contains("--bundle"), "{output}");
        let text = "\"create\" requires exactly 1 argument(s)";
        assert!(
            output.stderr().lines().any(|line| line.ends_with(text)),
            "{output}"
        );
    }
}

fn an_unknown_capability_is_only_a_warning(lab: &Lab) {
    let mut bundle = lab.bundle_of(&["true"]);
    for set in ["bounding", "permitted", "effective"] {
        bundle.push(
            &format!("/process/capabilities/{set}"),
            json!("CAP_FROBNICATE"),
        );
    }
    let output = lab.run(&bundle).ok();
    if lab.is_corten() {
        let told = output.stderr();
        assert!(
            told.starts_with("corten: warning: ") && told.contains("CAP_FROBNICATE"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

fn with_a_log_file_the_error_goes_there_too(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.args(&["/missing"]);
    bundle.write().expect("the lab is writable");
    let log = lab.folder().join("log.json");
    let mut command = lab.runtime.command();
    command
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json", "create", "--bundle"]);
    command.arg(bundle.path()).arg("broken");
    let output = lab.runtime.spawn(command).finish(crate::wait::CALL);
    assert_eq!(output.code(), 1, "{output}");
    let text = std::fs::read_to_string(&log).expect("the log file");
    let last = text.lines().last().expect("a line");
    let line: serde_json::Value = serde_json::from_str(last).expect("JSON");
    let message = line["msg"].as_str().unwrap_or_default();
    assert!(
        message.contains("/missing") && message.contains("no such file"),
        "{text}"
    );
    if lab.is_corten() {
        let chain = "process.args[0]: exec /missing: no such file or directory (step # of #)";
        assert_eq!(without_numbers(&output.stderr()), format!("{chain}\n"));
        assert!(
            without_numbers(message).trim_end().ends_with(chain),
            "{text}"
        );
        assert_eq!(line["level"], "error");
        let mode = std::fs::metadata(&log)
            .expect("the log file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}
