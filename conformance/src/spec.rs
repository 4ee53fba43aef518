//! Which words of the OCI runtime specification a check is by, in our own short form.
//!
//! Most checks share the section of their facility; what is special is listed by name.

use crate::check::Check;

/// A facility's section, or a check's sentence. The longest name that fits counts.
const SENTENCES: &[(&str, &str)] = &[
    (
        "lifecycle::",
        "runtime.md, Lifecycle: create, start, kill and delete happen in this order",
    ),
    (
        "features::",
        "features.md: the document tells what the runtime recognises",
    ),
    (
        "lifecycle::start_of_a_",
        "runtime.md, Start: an error unless the container is created",
    ),
    (
        "lifecycle::kill_of_a_",
        "runtime.md, Kill: an error unless it is created or running",
    ),
    (
        "lifecycle::delete_of_a_",
        "runtime.md, Delete: an error unless the container is stopped",
    ),
    (
        "lifecycle::state_has",
        "runtime.md, State: ociVersion, id, status, pid, bundle, annotations",
    ),
    (
        "lifecycle::a_created_container_has_not_run",
        "runtime.md, Create: process.args is not run before start",
    ),
    ("exec::", "runc's command line, exec"),
    (
        "exec_caller::",
        "runc's command line, exec; config.md, Process",
    ),
    (
        "exec_process::",
        "config.md, Process, for a process of runc's exec",
    ),
    (
        "exec_process::the_final_cpus",
        "config.md, Linux process: execCPUAffinity",
    ),
    (
        "exec_console::",
        "runc's command line, exec: --tty and --console-socket",
    ),
    (
        "exec_security::",
        "what a container must not do to a process that comes into it: see the CVE in the name",
    ),
    ("lifecycle::a_pid_file", "runc's command line, --pid-file"),
    (
        "readback::",
        "config-linux.md, Control groups: the limits are those of resources",
    ),
    (
        "update::",
        "runc's command line, update: only what is named changes",
    ),
    (
        "debug::",
        "runc's command line, --debug; the steps are Corten's",
    ),
    ("check::", "Corten's own command; user_namespaces(7)"),
    ("events::", "runc's command line, events"),
    ("events::ps_", "runc's command line, ps"),
    ("lifecycle::list_", "runc's command line, list"),
    ("lifecycle::run_", "runc's command line, run"),
    ("lifecycle::spec_", "runc's command line, spec"),
    (
        "process::",
        "config.md, Process: the process is what its object says",
    ),
    (
        "process::args_",
        "config.md, Process: args is argv as execvp has it",
    ),
    ("process::env_", "config.md, Process: env is environ"),
    (
        "process::cwd_",
        "config.md, Process: cwd is an absolute path in the container",
    ),
    (
        "process::rlimits_",
        "config.md, POSIX process: soft is enforced, hard is its ceiling",
    ),
    (
        "process::no_new_privileges",
        "config.md, Linux process: noNewPrivileges keeps it from gaining more",
    ),
    (
        "process::oom_score_adj",
        "config.md, Linux process: oomScoreAdj is set before the process runs",
    ),
    (
        "process::uid_gid",
        "config.md, POSIX user: uid, gid and additionalGids in the container",
    ),
    (
        "process::umask_",
        "config.md, POSIX user: umask, if it is given",
    ),
    (
        "process::each_capability",
        "config.md, Linux process: five sets of capabilities",
    ),
    (
        "mounts::",
        "config.md, Mounts: made in the order of the list",
    ),
    (
        "mounts::masked_",
        "config-linux.md, Masked paths: can't be read in the container",
    ),
    ("mounts::readonly_paths", "config-linux.md, Read-only paths"),
    (
        "mounts::propagation_",
        "config.md, Linux mount options: shared, slave, private and their recursive forms",
    ),
    (
        "mounts::a_missing_destination",
        "config.md, Mounts: the destination is made if it is missing",
    ),
    (
        "idmap::",
        "config.md, POSIX-platform mounts: uidMappings, gidMappings, idmap and ridmap",
    ),
    (
        "mountoptions::",
        "config.md, Linux mount options, and mount(8)",
    ),
    (
        "mountoptions::overlay_",
        "mount(8), overlay: any number of lower layers",
    ),
    (
        "tmpfs::",
        "config.md, Mounts, and what runc and crun make of a tmpfs without a mode",
    ),
    (
        "tmpfs::tmpcopyup_",
        "config.md, Linux mount options: tmpcopyup",
    ),
    (
        "namespaces::",
        "config-linux.md, Namespaces: new where it has no path, else joined; the runtime's where not listed",
    ),
    (
        "namespaces::a_user_namespace_has",
        "config-linux.md, User namespace mappings",
    ),
    (
        "namespaces::time_offsets",
        "config-linux.md, Offset for Time Namespace",
    ),
    (
        "namespaces::the_hostname",
        "config.md, Hostname: as the container's processes see it",
    ),
    (
        "namespaces::the_domainname",
        "config.md, Domainname: as the container's processes see it",
    ),
    (
        "joined::",
        "config-linux.md, Namespaces: one with a path is joined, and it must be of its type",
    ),
    (
        "netdevices::",
        "config-linux.md, Network devices: moved with their name or another, their addresses and attributes",
    ),
    (
        "netdevices::a_device_stays_in_a_joined",
        "config-linux.md, Network devices: not moved out before the namespace goes",
    ),
    (
        "pairwise::",
        "config-linux.md, Namespaces: each kind is new, joined or the runtime's, by itself",
    ),
    (
        "mount_namespace::",
        "config-linux.md, Namespaces: without one of its own the container has the runtime's",
    ),
    (
        "mount_namespace::a_joined_",
        "config-linux.md, Namespaces: one with a path is joined",
    ),
    (
        "joined::a_container_that_is_being_created",
        "a neighbour must not see into a container that is being made (CVE-2016-9962)",
    ),
    (
        "joined::a_created_container",
        "a neighbour must not see into a container that is being made (CVE-2016-9962)",
    ),
    (
        "rootfs::",
        "config.md, Root: path is the container's root, readonly makes it so",
    ),
    ("propagation::", "config-linux.md, Rootfs mount propagation"),
    (
        "devices::",
        "config-linux.md, Default devices: those that a runtime must supply",
    ),
    ("devices::a_configured_device", "config-linux.md, Devices"),
    ("devices::every_type_of_device", "config-linux.md, Devices"),
    (
        "devices::dev_of_the_image",
        "CVE-2026-41579, CVE-2026-47766: /dev of an image is a link out of it",
    ),
    (
        "devices::null_of_the_image",
        "CVE-2025-31133, CVE-2025-62161: /dev/null of an image is a link",
    ),
    (
        "devices::a_device_that_is_not_allowed",
        "config-linux.md, Allowed device list",
    ),
    (
        "cgroupmount::",
        "config-linux.md, Cgroup ownership; the cgroup2 file system, as runc mounts it",
    ),
    (
        "images::",
        "nothing of an image is trusted; the cases are named at the checks",
    ),
    (
        "races::",
        "CVE-2021-30465, CVE-2024-45310, CVE-2019-19921: a path is swapped while it is used",
    ),
    ("targets::", "config.md, Mounts: the listed order"),
    ("paths::", "config-linux.md, Masked Paths, Readonly Paths"),
    ("cgroup::", "config-linux.md, Control groups: cgroupsPath"),
    ("limits::", "config-linux.md, Control groups: resources"),
    ("pause::", "runtime.md, State; the commands are runc's"),
    ("systemd::", "config-linux.md, Control groups: cgroupsPath"),
    ("disks::hugepage", "config-linux.md, Huge page limits"),
    ("disks::", "config-linux.md, Block IO"),
    (
        "scheduling::",
        "config.md, Linux process: scheduler, ioPriority; config-linux.md, Memory policy, Personality",
    ),
    ("seccomp::", "config-linux.md, Seccomp"),
    (
        "sockets::",
        "runc's systemd integration: LISTEN_FDS and NOTIFY_SOCKET",
    ),
    (
        "lsm::",
        "config.md, Linux process: apparmorProfile, selinuxLabel; config-linux.md, Mount label",
    ),
    (
        "sysctl::",
        "config-linux.md, Sysctl: kernel parameters to be modified at runtime for the container",
    ),
    (
        "hooks::",
        "config.md, POSIX-platform Hooks: path, args, env, timeout, the state on stdin",
    ),
    (
        "hooks::all_kinds",
        "runtime.md, Lifecycle: the order of the hooks",
    ),
    (
        "hooks::a_hook_of_create_that_fails",
        "runtime.md, Lifecycle: generate an error, stop the container, go on with its destruction",
    ),
    (
        "hooks::a_poststart_hook_that_fails",
        "runtime.md 1.3.0, Lifecycle: generate an error, stop the container",
    ),
    (
        "hooks::a_poststop_hook_that_fails",
        "runtime.md, Lifecycle: log a warning, the others go on",
    ),
    ("console::", "config.md, Process: terminal, consoleSize"),
    (
        "regressions::",
        "what an earlier version of Corten got wrong",
    ),
    (
        "broken::",
        "runtime.md, Errors: the state is as if the operation had never been tried",
    ),
    (
        "errors::",
        "runtime.md, Errors: the state is as if the operation had never been tried",
    ),
];

/// What a check is by.
#[must_use]
pub fn sentence(check: &Check) -> &'static str {
    let path = check.path();
    let fitting = SENTENCES
        .iter()
        .filter(|(start, _)| path.starts_with(start));
    let longest = fitting.max_by_key(|(start, _)| start.len());
    longest.map_or("-", |(_, sentence)| sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn every_check_is_by_something_and_every_sentence_is_used() {
        for check in check::all() {
            assert_ne!(sentence(&check), "-", "{}", check.path());
        }
        for (start, _) in SENTENCES {
            assert!(
                check::all().any(|check| check.path().starts_with(start)),
                "{start}"
            );
        }
    }
}
