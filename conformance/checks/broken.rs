//! Broken bundles: what is wrong with each, and the one line that says so.
//!
//! Every row is a check of its own. `create` and `run` must fail with exit code 1 and exactly
//! this line on stderr, and leave nothing: no state, no process, no mount, no cgroup. The texts
//! are Corten's own; another runtime must only fail as cleanly, or may take what it takes.
//!
//! In a text `BUNDLE`, `ROOTFS` and `LAB` stand for paths and `#` for a number of the plan.

use std::any::Any;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::cgroup::Stranger;
use crate::bundle::Bundle;
use crate::check::Need;
use crate::lab::Lab;
use crate::runtime::Output;
use crate::wait;

/// A way to break a bundle.
struct Broken {
    /// What is set in config.json, by JSON pointer. One that ends in `-` appends to a list,
    /// null takes away.
    edits: Value,
    /// The one line.
    text: &'static str,
    /// What config.json is instead.
    config: Config,
    /// A kind of namespace that the container does not get.
    without: &'static str,
    /// What else is done, and kept up until the runtime has answered.
    prepare: fn(&Lab, &mut Bundle) -> Guard,
    /// The commands that fail, before `--bundle BUNDLE ID`.
    calls: &'static [&'static [&'static str]],
    id: &'static str,
    /// A program that starts the runtime, with its words.
    under: &'static [&'static str],
    fails: When,
    others: Others,
}

/// What is taken back when a call is over.
type Guard = Box<dyn Any>;

/// Where config.json comes from.
enum Config {
    Edited,
    Raw(&'static str),
    Missing,
}

/// When it is found out.
#[derive(PartialEq)]
enum When {
    AtCreate,
    AtStart,
}

/// What other runtimes do with such a bundle.
#[derive(PartialEq)]
enum Others {
    Fail,
    /// runc and crun run it, or what it says is Corten's own.
    Take,
}

impl Broken {
    fn by(edits: Value, text: &'static str) -> Self {
        Self {
            edits,
            text,
            config: Config::Edited,
            without: "",
            prepare: |_, _| Box::new(()),
            calls: &[&["create"], &["run"]],
            id: "broken",
            under: &[],
            fails: When::AtCreate,
            others: Others::Fail,
        }
    }
}

/// Declares the rows: a name, what is needed of the machine, what is set apart from the edits,
/// the edits, the line.
macro_rules! broken {
    ($($name:ident $([$($need:expr),+])? $(($($part:ident: $value:expr),+))?
        {$($edits:tt)*} => $text:literal;)+) => {
        pub(crate) const CHECKS: &[$crate::check::Check] = &[
            $($crate::check::Check {
                facility: "broken",
                name: stringify!($name),
                needs: &[$($($need),+)?],
                run: |lab| refused(lab, &Broken {
                    $($($part: $value,)+)?
                    ..Broken::by(json!({$($edits)*}), $text)
                }),
            }),+
        ];
    };
}

broken! {
    // The file itself.
    no_config_json (config: Config::Missing) {}
        => "BUNDLE/config.json: open: no such file or directory";
    a_config_that_is_not_json
        (config: Config::Raw("{\n  \"ociVersion\": \"1.0.0\",\n  root\n}")) {}
        => "BUNDLE/config.json: not JSON: key must be a string at line 3 column 3";
    an_empty_config (config: Config::Raw("")) {}
        => "BUNDLE/config.json: not JSON: EOF while parsing a value at line 1 column 0";
    a_config_that_ends_too_early (config: Config::Raw("{\"ociVersion\": \"1.0.0\", \"root\": {")) {}
        => "BUNDLE/config.json: root: not JSON: EOF while parsing an object at line 1 column 33";
    a_value_of_the_wrong_type_deep_inside
        (config: Config::Raw("{\"ociVersion\": \"1.0.0\",\n\"process\": {\"user\": {\"uid\": \"root\"}}}")) {}
        => "BUNDLE/config.json: process.user.uid: invalid type: string \"root\", expected u32 at \
            line 2 column 34";
    a_uid_that_is_too_large (others: Others::Take)
        {"/process/user/uid": 4_294_967_296_u64}
        => "BUNDLE/config.json: process.user.uid: invalid value: integer `4294967296`, expected \
            u32 at line 166 column 23";
    a_version_of_the_specification_that_is_unknown (others: Others::Take)
        {"/ociVersion": "2.0.0"}
        => "ociVersion: \"2.0.0\" is unknown, expected 1.x.y";

    // The id.
    an_id_with_a_slash (id: "a/b") {} => "invalid container ID format: \"a/b\"";
    an_id_that_is_the_parent (id: "..") {} => "invalid container ID format: \"..\"";
    an_id_that_climbs_out (id: "../x") {} => "invalid container ID format: \"../x\"";
    an_id_with_a_space (id: "a b") {} => "invalid container ID format: \"a b\"";
    an_id_beyond_ascii (id: "ä") {} => "invalid container ID format: \"ä\"";
    a_duplicate_id (prepare: same_id) {} => "container with given ID already exists";

    // The root file system.
    a_missing_rootfs {"/root/path": "elsewhere"}
        => "root.path: BUNDLE/elsewhere: stat: no such file or directory";
    a_rootfs_that_is_a_file {"/root/path": "rootfs/probe"}
        => "root.path: ROOTFS/probe: open: not a directory";
    a_root_path_that_escapes_through_a_symlink (others: Others::Take, prepare: link_out)
        {"/root/path": "out/rootfs"}
        => "root.path: a symbolic link leads out of the bundle";
    a_proc_that_is_a_symlink (prepare: proc_is_a_link) {}
        => "mounts[0]: attach /proc: must be mounted on ordinary directory (step # of #)";
    a_read_only_root_without_a_place_to_mount_on (prepare: read_only_rootfs)
        {"/mounts/-": {"destination": "/new", "type": "tmpfs", "source": "tmpfs"}}
        => "mounts[7]: attach /new: read-only file system (step # of #)";

    // Mounts.
    an_unknown_file_system
        {"/mounts/-": {"destination": "/data", "type": "frobfs", "source": "none"}}
        => "mounts[7]: mount \"frobfs\" on /data: no such device (step # of #)";
    a_missing_mount_source
        {"/mounts/-": {"destination": "/data", "source": "/missing/source", "options": ["bind"]}}
        => "mounts[7]: bind /missing/source on /data: no such file or directory (step # of #)";
    an_unknown_mount_option
        {"/mounts/-": {"destination": "/data", "type": "tmpfs", "source": "tmpfs",
            "options": ["frob=1"]}}
        => "mounts[7]: mount \"tmpfs\" on /data with the mode of what it hides: tmpfs: Unknown \
            parameter 'frob': invalid argument (step # of #)";
    a_destination_through_a_dangling_symlink (prepare: dangling_link)
        {"/mounts/-": {"destination": "/link/data", "type": "tmpfs", "source": "tmpfs"}}
        => "mounts[7]: attach /link/data: no such file or directory (step # of #)";
    a_destination_that_is_a_file
        {"/mounts/-": {"destination": "/etc/passwd", "type": "tmpfs", "source": "tmpfs"}}
        => "mounts[7]: attach /etc/passwd: what is there is a file, the source a directory: not \
            a directory (step # of #)";
    a_destination_that_is_a_folder_for_a_file
        {"/mounts/-": {"destination": "/tmp", "source": "/etc/passwd", "options": ["bind"]}}
        => "mounts[7]: attach /tmp: what is there is a directory, the source a file: not a \
            directory (step # of #)";
    a_destination_below_a_file
        {"/mounts/-": {"destination": "/etc/passwd/x", "type": "tmpfs", "source": "tmpfs"}}
        => "mounts[7]: mount \"tmpfs\" on /etc/passwd/x with the mode of what it hides: not a \
            directory (step # of #)";
    a_mount_without_a_type
        {"/mounts/-": {"destination": "/data", "source": "tmpfs"}}
        => "mounts[7].type: missing";

    // The process.
    no_process (others: Others::Take) {"/process": null}
        => "process: must not be empty";
    an_empty_list_of_arguments {"/process/args": []}
        => "process.args: must not be empty";
    a_missing_executable {"/process/args": ["/missing"]}
        => "process.args[0]: exec /missing: no such file or directory (step # of #)";
    a_program_that_is_not_in_the_path {"/process/args": ["missing"]}
        => "process.args[0]: exec: \"missing\": executable file not found in $PATH (step # of #)";
    a_file_that_is_not_executable {"/process/args": ["/etc/passwd"]}
        => "process.args[0]: exec /etc/passwd: permission denied (step # of #)";
    a_folder_as_executable {"/process/args": ["/etc"]}
        => "process.args[0]: exec /etc: is a directory (step # of #)";
    a_script_whose_interpreter_is_missing (fails: When::AtStart, prepare: scripts)
        {"/process/args": ["/run.sh"]}
        => "process.args[0]: exec /run.sh: its interpreter /bin/nosh: no such file or directory \
            (step # of #)";
    an_elf_file_whose_loader_is_missing (fails: When::AtStart, prepare: scripts)
        {"/process/args": ["/program"]}
        => "process.args[0]: exec /program: its loader /lib/ld-missing.so.1: no such file or \
            directory (step # of #)";
    a_file_of_no_known_format (fails: When::AtStart, prepare: scripts)
        {"/process/args": ["/text"]}
        => "process.args[0]: exec /text: exec format error (step # of #)";
    an_executable_that_vanishes_after_create (fails: When::AtStart, calls: &[], prepare: busybox)
        {"/process/args": ["/bin/busybox", "true"]}
        => "process.args[0]: exec /bin/busybox: no such file or directory (step # of #)";
    an_interpreter_that_vanishes_after_create (fails: When::AtStart, calls: &[], prepare: busybox)
        {"/process/args": ["/run.sh"]}
        => "process.args[0]: exec /run.sh: its interpreter /bin/busybox: no such file or \
            directory (step # of #)";
    no_cwd {"/process/cwd": null}
        => "process.cwd: must not be empty";
    a_relative_cwd {"/process/cwd": "tmp"}
        => "process.cwd: must be an absolute path, not \"tmp\"";
    a_cwd_that_can_not_be_made {"/process/cwd": "/proc/missing/cwd"}
        => "process.cwd: change directory to /proc/missing/cwd: no such file or directory \
            (step # of #)";
    a_cwd_that_is_a_file {"/process/cwd": "/etc/passwd"}
        => "process.cwd: change directory to /etc/passwd: not a directory (step # of #)";
    a_soft_limit_above_the_hard_limit
        {"/process/rlimits": [{"type": "RLIMIT_NOFILE", "soft": 2048, "hard": 1024}]}
        => "process.rlimits[0]: RLIMIT_NOFILE: soft limit 2048 is above the hard limit 1024";
    an_unknown_limit
        {"/process/rlimits": [{"type": "RLIMIT_FROB", "soft": 1, "hard": 1}]}
        => "process.rlimits[0].type: \"RLIMIT_FROB\" is unknown, expected a name of getrlimit(2) \
            as RLIMIT_NOFILE";
    a_limit_above_the_hard_one_without_the_capability
        (under: &["prlimit", "--nofile=1024:1024", "setpriv", "--bounding-set=-sys_resource"])
        {"/process/rlimits": [{"type": "RLIMIT_NOFILE", "soft": 2048, "hard": 2048}]}
        => "process.rlimits[0]: set RLIMIT_NOFILE to 2048:2048: operation not permitted (step # \
            of #)";
    a_nul_byte_in_the_environment {"/process/env/-": "A=\u{0}"}
        => "process.env[2]: contains a nul byte";

    // Namespaces and ids.
    a_hostname_without_a_uts_namespace (without: "uts") {"/hostname": "db1"}
        => "hostname: needs a uts namespace (linux.namespaces)";
    an_unknown_namespace {"/linux/namespaces/-": {"type": "frob"}}
        => "BUNDLE/config.json: linux.namespaces[6].type: unknown variant `frob`, expected one \
            of `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup`, `time` at line 36 \
            column 22";
    a_namespace_twice {"/linux/namespaces/-": {"type": "pid"}}
        => "linux.namespaces[6]: duplicated ns \"pid\" (first in linux.namespaces[0])";
    a_namespace_path_that_is_not_a_namespace (without: "network")
        {"/linux/namespaces/-": {"type": "network", "path": "/etc/passwd"}}
        => "linux.namespaces[5].path: \"/etc/passwd\": not a network namespace";
    a_namespace_path_of_another_kind (without: "network")
        {"/linux/namespaces/-": {"type": "network", "path": "/proc/self/ns/ipc"}}
        => "linux.namespaces[5].path: \"/proc/self/ns/ipc\": not a network namespace";
    a_missing_namespace_path (without: "network")
        {"/linux/namespaces/-": {"type": "network", "path": "/not/there"}}
        => "linux.namespaces[5].path: \"/not/there\": no such file or directory";
    an_overlapping_id_map
        {"/linux/namespaces/-": {"type": "user"},
         "/linux/uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000},
            {"containerID": 999, "hostID": 200_000, "size": 10}],
         "/linux/gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000}]}
        => "linux.uidMappings[1]: container ids 999-1008 overlap with linux.uidMappings[0]";
    a_uid_that_is_not_mapped
        {"/linux/namespaces/-": {"type": "user"},
         "/linux/uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000}],
         "/linux/gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000}],
         "/process/user/uid": 1000}
        => "process.user.uid: 1000 is not mapped in the user namespace (linux.uidMappings)";
    id_maps_without_a_user_namespace (others: Others::Take)
        {"/linux/uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000}],
         "/linux/gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1000}]}
        => "linux.uidMappings: needs a user namespace (linux.namespaces)";
    a_sysctl_that_is_not_namespaced {"/linux/sysctl": {"kernel.pid_max": "4194304"}}
        => "linux.sysctl: sysctl \"kernel.pid_max\" is not in a separate kernel namespace";
    an_unknown_sysctl {"/linux/sysctl": {"net.ipv4.no_such_thing": "1"}}
        => "linux.sysctl[\"net.ipv4.no_such_thing\"]: set net/ipv4/no_such_thing to \"1\": no \
            such file or directory (step # of #)";

    // Seccomp.
    an_unknown_seccomp_action
        {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_FROB"}]}}
        => "BUNDLE/config.json: linux.seccomp.syscalls[0].action: unknown variant \
            `SCMP_ACT_FROB`, expected one of `SCMP_ACT_KILL`, `SCMP_ACT_KILL_PROCESS`, \
            `SCMP_ACT_KILL_THREAD`, `SCMP_ACT_TRAP`, `SCMP_ACT_ERRNO`, `SCMP_ACT_TRACE`, \
            `SCMP_ACT_ALLOW`, `SCMP_ACT_LOG`, `SCMP_ACT_NOTIFY` at line 55 column 35";
    an_argument_of_a_system_call_with_index_7
        {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 7, "value": 1, "op": "SCMP_CMP_EQ"}]}]}}
        => "linux.seccomp.syscalls[0].args[0].index: 7 is not an argument: 0 to 5";
    a_profile_that_denies_execve (others: Others::Take)
        {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}]}}
        => "linux.seccomp.syscalls[0]: SCMP_ACT_ERRNO for execve, which corten still needs to \
            exec /probe";
    an_unknown_architecture
        {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}}
        => "linux.seccomp.architectures[0]: \"SCMP_ARCH_VAX\" is not an architecture";

    // Limits and the cgroup.
    a_negative_memory_limit {"/linux/resources/memory": {"limit": -2}}
        => "linux.resources.memory.limit: -2 is out of range, expected -1 or more";
    a_controller_that_is_not_available [Need::Without("rdma")]
        {"/linux/resources/rdma": {"mlx0": {"hcaHandles": 1}},
         "/linux/cgroupsPath": "/broken"}
        => "linux.resources.rdma[\"mlx0\"]: rdma.max needs the rdma controller, which cgroup / \
            does not offer";
    fields_that_contradict_each_other
        {"/linux/resources/cpu": {"idle": 1},
         "/linux/resources/unified": {"cpu.weight": "100"}}
        => "linux.resources.unified[\"cpu.weight\"] and linux.resources.cpu.idle: unable to \
            apply both: an idle cgroup has no weight";
    a_pids_limit_that_stops_a_hook [Need::Controller("pids")]
        {"/linux/resources/pids": {"limit": 1},
         "/hooks": {"createContainer": [{"path": "/bin/true"}]}}
        => "hooks.createContainer[0]: error running createContainer hook #0: /bin/true: resource \
            temporarily unavailable (step # of #)";
    a_pids_limit_that_stops_init [Need::Controller("pids")] (prepare: no_pids)
        {"/linux/cgroupsPath": "/nopids/box"}
        => "linux.namespaces: start init in new namespaces (mount pid network ipc uts) and in \
            the cgroup: resource temporarily unavailable: pids.max of it (linux.resources.pids) \
            or of one above is reached (step # of #)";
    a_memory_limit_too_small_for_init [Need::Controller("memory")]
        {"/linux/resources/memory": {"limit": 4096}}
        => "linux.namespaces: start init in new namespaces (mount pid network ipc uts) and in \
            the cgroup: cannot allocate memory: memory.max of it (linux.resources.memory) or of \
            one above is too small (step # of #)";
    a_cgroup_that_is_not_empty (prepare: used_cgroup) {"/linux/cgroupsPath": "/used"}
        => "linux.cgroupsPath: cgroup /used: container's cgroup is not empty";
    a_cgroup_that_is_frozen (prepare: frozen_cgroup) {"/linux/cgroupsPath": "/ice"}
        => "linux.cgroupsPath: cgroup /ice: container's cgroup unexpectedly frozen";

    // Devices.
    a_device_node_that_is_not_permitted (under: &["setpriv", "--bounding-set=-mknod"])
        {"/linux/devices": [{"path": "/dev/frob", "type": "c", "major": 240, "minor": 7}]}
        => "linux.devices: make /dev/null (c 1:3): operation not permitted (step # of #)";
    a_device_of_an_unknown_type
        {"/linux/devices": [{"path": "/dev/x", "type": "x", "major": 1, "minor": 5}]}
        => "linux.devices[0].type: \"x\" is unknown, expected b, c, u or p";

    // Hooks.
    a_hook_that_fails {"/hooks": {"createRuntime": [{"path": "/bin/false"}]}}
        => "hooks.createRuntime[0]: error running createRuntime hook #0: /bin/false: exit status \
            1 (step # of #)";
    a_hook_that_hangs
        {"/hooks": {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "97"], "timeout": 1}]}}
        => "hooks.createRuntime[0]: error running createRuntime hook #0: /bin/sleep: hook ran \
            past specified timeout of 1.0s (step # of #)";
    a_hook_that_is_missing {"/hooks": {"createRuntime": [{"path": "/nothing/here"}]}}
        => "hooks.createRuntime[0]: error running createRuntime hook #0: /nothing/here: no such \
            file or directory (step # of #)";
    a_hook_with_a_relative_path {"/hooks": {"createRuntime": [{"path": "bin/true"}]}}
        => "hooks.createRuntime[0].path: must be an absolute path, not \"bin/true\"";

    // The terminal.
    a_terminal_without_a_console_socket (calls: &[&["create"], &["run", "--detach"]])
        {"/process/terminal": true}
        => "cannot allocate tty if corten will detach without setting console socket";
    a_console_socket_that_is_missing
        (calls: &[&["create", "--console-socket", "/nobody.sock"],
            &["run", "--detach", "--console-socket", "/nobody.sock"]])
        {"/process/terminal": true}
        => "console socket /nobody.sock: connect: no such file or directory";
    a_console_socket_without_a_terminal
        (others: Others::Take, calls: &[&["create", "--console-socket", "/nobody.sock"]]) {}
        => "cannot use console socket if corten will not detach or allocate tty";
}

/// Breaks a bundle and looks how it is refused.
fn refused(lab: &Lab, broken: &Broken) {
    if broken.others == Others::Take && !lab.is_corten() {
        return;
    }
    let mut bundle = lab.bundle();
    if !broken.without.is_empty() {
        bundle.without_namespace(broken.without);
    }
    let edits = broken.edits.as_object().into_iter().flatten();
    edits.for_each(|(pointer, value)| edit(&mut bundle.config, pointer, value.clone()));
    let guard = (broken.prepare)(lab, &mut bundle);
    match broken.config {
        Config::Edited => bundle.write().expect("the lab is writable"),
        Config::Raw(text) => {
            std::fs::write(bundle.path().join("config.json"), text).expect("the lab is writable");
        }
        Config::Missing => {}
    }
    if broken.fails == When::AtStart {
        fails_at_start(lab, broken, &bundle);
    }
    let before = lab.state_directory();
    for words in broken.calls {
        // Those that fail at start are created well.
        if broken.fails == When::AtStart && *words == ["create"] {
            continue;
        }
        let output = call(lab, broken, words, &bundle);
        failed(lab, &bundle, &output, broken.text);
        assert_eq!(output.stdout(), "", "{output}");
        assert_eq!(lab.state_directory(), before, "{words:?}");
    }
    drop(guard);
}

/// A call of the runtime, by another program where one is asked for.
fn call(lab: &Lab, broken: &Broken, words: &[&str], bundle: &Bundle) -> Output {
    let mut command = match broken.under {
        [] => lab.runtime.command(),
        [program, words @ ..] => {
            let mut command = Command::new(program);
            command.args(words).arg(lab.runtime.program());
            command.arg("--root").arg(lab.runtime.root());
            command
        }
    };
    command.args(words).arg("--bundle").arg(bundle.path());
    command.arg(broken.id).stdin(Stdio::null());
    lab.runtime.spawn(command).finish(wait::CALL)
}

/// The peers' `start` does not always wait for what comes of it.
fn fails_at_start(lab: &Lab, broken: &Broken, bundle: &Bundle) {
    let container = lab.create(bundle);
    if broken.calls.is_empty() {
        std::fs::remove_file(bundle.rootfs().join("bin/busybox")).expect("it was there");
    }
    let output = container.call(&["start"]);
    if lab.is_corten() {
        failed(lab, bundle, &output, broken.text);
    }
}

fn edit(config: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a JSON pointer");
    let list = (name == "-").then(|| parent.rsplit_once('/').expect("a list in an object"));
    let (parent, name) = list.unwrap_or((parent, name));
    let mut place = config;
    for word in parent.split('/').skip(1) {
        place = &mut place[word];
    }
    match (list.is_some(), value) {
        (true, value) => {
            let list = place[name].as_array_mut();
            list.expect("a list is appended to").push(value);
        }
        (false, Value::Null) => drop(place.as_object_mut().map(|object| object.remove(name))),
        (false, value) => place[name] = value,
    }
}

/// One line of Corten's, exit code 1.
pub(super) fn failed(lab: &Lab, bundle: &Bundle, output: &Output, text: &str) {
    if !lab.is_corten() {
        // runc ends with 255 where the program can't be executed.
        assert_ne!(output.code(), 0, "{output}");
        assert_ne!(output.stderr(), "");
        return;
    }
    assert_eq!(output.code(), 1, "{output}");
    let text = text
        .replace("ROOTFS", &bundle.rootfs().to_string_lossy())
        .replace("BUNDLE", &bundle.path().to_string_lossy())
        .replace("LAB", &lab.folder().to_string_lossy());
    let told = without_numbers(&output.stderr());
    assert_eq!(told, format!("corten: {text}\n"));
}

/// `(step 12 of 41)` as `(step # of #)`: a new step must not change every text here.
pub(super) fn without_numbers(text: &str) -> String {
    let Some((before, place)) = text.rsplit_once("(step ") else {
        return text.to_owned();
    };
    let numbers = place.trim_end().trim_end_matches(')').split(" of ");
    let all_numbers = numbers.clone().all(|number| number.parse::<u32>().is_ok());
    assert!(numbers.count() == 2 && all_numbers, "{text}");
    format!("{before}(step # of #)\n")
}

/// A container, deleted with the value.
struct Named(Command);

impl Drop for Named {
    fn drop(&mut self) {
        let status = self.0.status().expect("the runtime is there");
        assert!(status.success(), "{:?}: {status}", self.0);
    }
}

/// A container that has the id.
fn same_id(lab: &Lab, bundle: &mut Bundle) -> Guard {
    drop(lab.command(&["create"], bundle, "broken").ok());
    let mut command = lab.runtime.command();
    command.args(["delete", "--force", "broken"]);
    Box::new(Named(command))
}

fn nothing() -> Guard {
    Box::new(())
}

/// A folder beside the bundle's own, which a link in the bundle leads to.
fn link_out(lab: &Lab, bundle: &mut Bundle) -> Guard {
    let outside = lab.folder().join("outside");
    std::fs::create_dir_all(&outside).expect("the lab is writable");
    std::fs::rename(bundle.rootfs(), outside.join("rootfs")).expect("the lab is writable");
    std::os::unix::fs::symlink("../outside", bundle.path().join("out")).expect("the same");
    nothing()
}

fn proc_is_a_link(_: &Lab, bundle: &mut Bundle) -> Guard {
    std::fs::remove_dir(bundle.rootfs().join("proc")).expect("it is empty");
    std::os::unix::fs::symlink("tmp", bundle.rootfs().join("proc")).expect("it is writable");
    nothing()
}

/// A link to where nothing can be made.
fn dangling_link(_: &Lab, bundle: &mut Bundle) -> Guard {
    let link = bundle.rootfs().join("link");
    std::os::unix::fs::symlink("/proc/nothing/here", link).expect("the lab is writable");
    nothing()
}

/// A mount that is not there after the check.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::empty()).expect("a mount");
    }
}

fn read_only_rootfs(_: &Lab, bundle: &mut Bundle) -> Guard {
    use rustix::mount::{MountFlags, mount_bind, mount_remount};
    let root = bundle.rootfs();
    mount_bind(&root, &root).expect("root may");
    mount_remount(&root, MountFlags::BIND | MountFlags::RDONLY, "").expect("root may");
    Box::new(Mounted(root))
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

/// What can't be executed, and why not is only known by trying.
fn scripts(_: &Lab, bundle: &mut Bundle) -> Guard {
    let elf = elf_with_loader("/lib/ld-missing.so.1");
    let files: [(&str, &[u8]); 3] = [
        ("run.sh", b"#!/bin/nosh -x\n"),
        ("program", &elf),
        ("text", b"just text\n"),
    ];
    for (name, contents) in files {
        bundle.program(name, contents).expect("the lab is writable");
    }
    nothing()
}

fn busybox(_: &Lab, bundle: &mut Bundle) -> Guard {
    bundle.busybox().expect("busybox");
    let script = bundle.program("run.sh", b"#!/bin/busybox sh\n");
    script.expect("the lab is writable");
    nothing()
}

const CGROUP: &str = "/sys/fs/cgroup";

/// A cgroup that is not the runtime's and must be there still.
struct Group(&'static str);

impl Group {
    fn new(name: &'static str) -> Self {
        std::fs::create_dir(Path::new(CGROUP).join(name)).expect("the lane's cgroup is writable");
        Self(name)
    }

    fn set(&self, file: &str, value: &str) {
        let path = Path::new(CGROUP).join(self.0).join(file);
        std::fs::write(path, value).expect("the lane's cgroup is writable");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir(Path::new(CGROUP).join(self.0));
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

fn used_cgroup(_: &Lab, _: &mut Bundle) -> Guard {
    let group = Group::new("used");
    let stranger = Stranger::in_group(&Path::new(CGROUP).join("used"));
    // Dropped in this order.
    Box::new((stranger, group))
}

fn frozen_cgroup(_: &Lab, _: &mut Bundle) -> Guard {
    let group = Group::new("ice");
    group.set("cgroup.freeze", "1");
    Box::new(group)
}

/// No process may be made below this one.
fn no_pids(_: &Lab, _: &mut Bundle) -> Guard {
    std::fs::write(Path::new(CGROUP).join("cgroup.subtree_control"), "+pids").expect("the lane's");
    let group = Group::new("nopids");
    group.set("pids.max", "0");
    Box::new(group)
}
