//! Why a runtime fails a check, where that is known.

/// A check, or a whole file of them, and the reason.
pub(super) const NOTES: &[(&str, &str)] = &[
    (
        "lifecycle::a_create_killed_at_any_time_is_cleaned_up_by_delete_force",
        "the cgroup, with crun a process too, stays behind when the creator is killed before it has written its state",
    ),
    (
        "lifecycle::a_run_killed_at_any_time_is_cleaned_up_by_delete_force",
        "the same with `run`",
    ),
    (
        "lifecycle::kill_takes_names_and_numbers_of_signals",
        "crun knows no names in lower case",
    ),
    (
        "lifecycle::list_shows_every_container_with_its_status",
        "crun's table has other columns",
    ),
    (
        "lifecycle::a_created_container_holds_no_fd_of_its_creator",
        "crun passes the caller's descriptors on until execve",
    ),
    (
        "lifecycle::init_is_not_a_file_of_the_host",
        "crun's own binary is /proc/PID/exe of a created container; it protects it in another way",
    ),
    (
        "process::the_real_uid_of_the_caller_is_not_inherited",
        "crun asks access(2), which goes by the real uid",
    ),
    (
        "features::every_mount_option_it_names_is_taken",
        "runc gives the kernel `defaults` for a tmpfs, crun fails with `rdiratime`",
    ),
    (
        "features::the_flags_of_seccomp_it_supports_can_be_used",
        "crun's document has no flags",
    ),
    (
        "exec_process::no_signal_is_ignored_or_blocked",
        "runc and crun pass on what their caller, or their language, ignores",
    ),
    (
        "exec_process::the_process_has_the_directory_environment_and_user_of_the_container",
        "crun starts in /",
    ),
    (
        "exec_process::no_new_privs_is_set_by_its_flag_and_by_the_container",
        "crun does without, unless the flag asks for it",
    ),
    (
        "exec_process::rlimits_and_oom_score_are_those_of_the_container",
        "crun leaves its caller's limits",
    ),
    (
        "exec_process::personality_scheduler_and_io_priority_are_those_of_the_container",
        "crun sets none of them",
    ),
    (
        "exec_process::the_final_cpus_of_the_container_are_those_of_the_process",
        "crun takes them from a process.json only",
    ),
    (
        "exec::a_process_file_has_a_umask",
        "runc keeps the container's",
    ),
    (
        "exec_caller::no_group_of_the_caller_comes_along_where_setgroups_is_forbidden",
        "runc and crun keep the caller's groups",
    ),
    (
        "exec_caller::cpus_nice_and_limits_of_the_caller_are_not_inherited",
        "crun leaves its caller's limits",
    ),
    (
        "exec_caller::what_is_not_permitted_is_not_had_with_no_new_privileges",
        "crun does not set no_new_privs here",
    ),
    (
        "exec_console::the_console_socket_gets_the_master_of_a_terminal_of_the_container",
        "crun's message does not name the terminal",
    ),
    (
        "exec_security::cve_2026_30892_a_user_that_is_no_number_is_refused",
        "to runc 4294967296 is root",
    ),
    (
        "cgroup::fields_that_contradict_each_other_are_refused",
        "the last one wins; crun leaves a cgroup behind",
    ),
    (
        "update::an_update_is_known_to_the_next_one",
        "runc before 1.3, and crun, keep nothing of an update for the next one",
    ),
    (
        "update::a_quota_or_a_period_alone_keeps_the_other",
        "crun forgets the other one",
    ),
    (
        "update::shares_and_burst_are_updated",
        "runc before 1.2 and crun have no --cpu-burst",
    ),
    (
        "update::a_cgroup_becomes_idle_and_awake_again",
        "runc before 1.2 and crun have no --cpu-idle",
    ),
    (
        "update::an_update_that_fails_changes_nothing",
        "what was written before the failure stays",
    ),
    (
        "update::shares_of_the_cache_are_refused_where_there_is_no_resctrl",
        "crun says nothing",
    ),
    (
        "update::",
        "crun takes no amounts with a unit, and updates device rules too",
    ),
    (
        "events::an_oom_kill_is_an_event",
        "runc loses the event when the container ends with it, crun has no `events`",
    ),
    (
        "events::",
        "crun has no `events`, and a `ps` without options",
    ),
    (
        "mounts::a_destination_below_a_dangling_symlink_is_made_inside_the_root",
        "crun follows no dangling link",
    ),
    (
        "races::a_link_that_becomes_a_folder_leads_nothing_to_the_host",
        "crun makes nothing below a link that leads nowhere",
    ),
    (
        "races::in_a_user_namespace_a_folder_that_becomes_a_link_leads_nothing_to_the_host",
        "runc wants a fifo of the host for one of `linux.devices`",
    ),
    (
        "races::a_proc_that_becomes_a_link_is_masked_nevertheless",
        "crun looks the paths up from the root, and masks what lies there",
    ),
    (
        "cgroupmount::the_hosts_cgroup_tree_keeps_its_options",
        "runc and crun mount the tree anew, which takes the host's options away",
    ),
    (
        "targets::a_hundred_mounts_are_made_in_a_user_namespace",
        "crun attaches binds before all other mounts",
    ),
    (
        "targets::the_hosts_root_can_be_the_root",
        "runc and crun pivot into a root that is at / already, which the kernel refuses",
    ),
    (
        "paths::a_read_only_file_keeps_the_other_flags_of_its_mount",
        "crun leaves a file writable whose folder becomes read-only later",
    ),
    (
        "paths::a_path_below_a_file_is_as_one_that_is_missing",
        "runc and crun ignore only what is missing otherwise",
    ),
    (
        "paths::a_thousand_paths_are_read_only",
        "crun opens all of them at once",
    ),
    (
        "console::the_terminal_is_dev_console_and_the_controlling_terminal",
        "crun's /dev/console is a link to the pty",
    ),
    (
        "console::a_bound_dev_gets_the_terminal_of_the_containers_devpts",
        "crun wants a /dev/null in it",
    ),
    (
        "console::in_a_user_namespace_there_is_a_terminal_too",
        "the same",
    ),
    (
        "images::a_passwd_that_is_a_fifo_is_not_waited_for",
        "runc and crun wait for somebody to write into it",
    ),
    (
        "console::the_console_message_names_the_pty",
        "crun sends no name with the master",
    ),
    (
        "console::run_in_the_foreground_connects_the_callers_terminal",
        "crun leaves ONLCR set on the inner terminal",
    ),
    (
        "cgroup::a_read_only_cgroup_stays_the_hosts",
        "crun gives it to the container's root in every user namespace",
    ),
    (
        "cgroup::a_writable_cgroup_belongs_to_the_root_of_its_user_namespace",
        "runc delegates only with systemd as the cgroup manager",
    ),
    (
        "pause::a_paused_container_is_not_started",
        "crun starts it, and it goes on when it is resumed",
    ),
    (
        "pause::what_is_not_paused_is_not_resumed",
        "crun resumes a running container without a word",
    ),
    (
        "disks::hugepage_limits_are_the_configured_ones",
        "crun limits the pages in use, not the reserved ones",
    ),
    (
        "disks::hugepage_limits_of_a_size_the_machine_lacks_are_an_error",
        "crun leaves the cgroup behind when it fails late",
    ),
    (
        "errors::with_a_log_file_the_error_goes_there_too",
        "crun's log has lines that are no JSON",
    ),
    (
        "broken::a_read_only_root_without_a_place_to_mount_on",
        "crun mounts the root anew, writable",
    ),
    ("broken::a_relative_cwd", "crun takes it as below /"),
    (
        "broken::a_nul_byte_in_the_environment",
        "crun leaves out what comes after it",
    ),
    (
        "broken::a_controller_that_is_not_available",
        "crun ignores the limit",
    ),
    (
        "broken::a_cgroup_that_is_not_empty",
        "crun shares the cgroup with what is in it",
    ),
    (
        "broken::a_cgroup_that_is_frozen",
        "crun waits for it to be thawed",
    ),
    (
        "broken::a_device_of_an_unknown_type",
        "crun makes no such device, and says nothing",
    ),
    (
        "broken::",
        "crun leaves the cgroup behind when it fails late",
    ),
    (
        "joined::a_joined_user_namespace_may_be_described_by_its_own_maps",
        "crun does not compare them",
    ),
    (
        "joined::a_joined_user_namespace_needs_no_pid_namespace",
        "runc needs a /proc of the container's own",
    ),
    (
        "joined::a_joined_time_namespace_has_its_clocks",
        "crun can't join one",
    ),
    (
        "mount_namespace::without_a_mount_namespace_the_root_is_entered_and_nothing_else_changes",
        "runc needs a /proc in the root, and makes all mounts of the host slaves",
    ),
    (
        "mount_namespace::without_a_mount_namespace_nothing_is_left_on_the_host",
        "runc and crun mount on the host, and leave it there",
    ),
    (
        "mount_namespace::without_a_mount_namespace_the_hosts_own_root_can_be_the_root",
        "runc and crun replace /dev/ptmx of the host",
    ),
    (
        "mount_namespace::a_user_namespace_needs_no_mount_namespace",
        "runc and crun want to mount",
    ),
    (
        "mount_namespace::a_joined_mount_namespace_stays_as_it_is",
        "runc and crun pivot its root, for whoever else is in it",
    ),
    (
        "mount_namespace::a_joined_mount_namespace_has_its_own_view_of_the_root",
        "runc needs a /proc in the root",
    ),
    (
        "mount_namespace::a_joined_mount_namespace_can_not_lead_the_root_to_the_host",
        "runc follows the link, and makes the host's / private",
    ),
    (
        "joined::no_group_of_the_caller_comes_along_into_a_user_namespace",
        "runc keeps them in a user namespace that is joined",
    ),
    (
        "joined::the_hosts_name_is_not_changed_by_way_of_a_path",
        "runc and crun change it",
    ),
    (
        "joined::a_joined_user_namespace_may_forbid_setgroups",
        "runc and crun leave additionalGids out in silence",
    ),
    (
        "pairwise::any_two_choices_for_two_kinds_of_namespaces_go_together",
        "runc needs a /proc in the root, crun wants to mount without a mount namespace of its own",
    ),
    (
        "netdevices::a_name_may_leave_a_number_to_the_kernel",
        "runc 1.3 does not know the field; crun looks for a device of the name as it stands",
    ),
    (
        "netdevices::two_devices_of_one_name_are_refused_before_any_moves",
        "runc 1.3 does not know the field; crun takes the first",
    ),
    (
        "netdevices::a_name_that_is_taken_in_the_container_is_an_error",
        "runc 1.3 does not know the field; crun loses the device",
    ),
    (
        "netdevices::a_create_that_fails_gives_the_devices_back",
        "crun loses them",
    ),
    (
        "netdevices::devices_without_a_network_namespace_are_refused",
        "runc 1.3 does not know the field; crun ignores it",
    ),
    ("netdevices::", "runc 1.3 does not know the field"),
    (
        "propagation::what_is_mounted_in_the_root_of_the_image_keeps_what_is_asked_for",
        "crun makes all of it private",
    ),
    (
        "propagation::a_bind_of_a_shared_mount_has_what_is_asked_for",
        "crun's default is private",
    ),
    (
        "propagation::without_a_pivot_the_propagation_is_the_same",
        "crun's default is private; with runc the host loses its /proc when all is shared",
    ),
    (
        "propagation::without_a_pivot_the_root_may_not_be_private",
        "crun does it",
    ),
    (
        "propagation::an_unknown_propagation_is_refused",
        "crun ignores it",
    ),
    (
        "joined::id_maps_for_the_hosts_own_user_namespace_are_refused",
        "crun leaves the cgroup behind when it fails late",
    ),
    (
        "joined::a_path_that_is_no_namespace_of_its_type_is_refused",
        "crun leaves the cgroup behind when it fails late",
    ),
    (
        "namespaces::time_offsets_go_with_a_new_user_namespace",
        "crun can't write the offsets there",
    ),
    (
        "namespaces::time_offsets_that_make_no_sense_are_refused",
        "crun ignores clocks that it does not know",
    ),
    (
        "joined::a_fifo_in_place_of_a_namespace_is_not_waited_for",
        "both peers open it, and hang",
    ),
    (
        "devices::a_later_device_rule_wins",
        "runc refuses such a rule, in the words of cgroup v1",
    ),
    (
        "devices::a_device_of_an_unknown_type_is_refused",
        "crun takes every other type for a character device",
    ),
    (
        "devices::in_a_user_namespace_a_configured_device_is_the_hosts",
        "crun makes a node of its own before it enters the user namespace, which nobody there may open",
    ),
    (
        "devices::in_a_user_namespace_a_device_that_the_host_lacks_is_named",
        "crun makes it",
    ),
    (
        "devices::a_configured_device_takes_the_place_of_a_default_one",
        "with runc the rule that allows the default device goes with it",
    ),
    (
        "devices::in_a_user_namespace_a_fifo_is_made",
        "runc wants one of that path on the host",
    ),
    (
        "tmpfs::tmpcopyup_brings_what_is_hidden",
        "runc copies by way of /tmp, which is read-only for a check; the same for all of `tmpcopyup`",
    ),
    (
        "mountoptions::attributes_of_the_source_stay_unless_they_are_named",
        "both peers set all attributes anew; mount(8) keeps those that are not named since version 2.39",
    ),
    (
        "mountoptions::a_recursive_attribute_reaches_the_mounts_below",
        "crun can't set rnodiratime",
    ),
    (
        "mountoptions::nosymfollow_is_set_and_taken_away",
        "crun takes it for an option of the file system",
    ),
    (
        "mountoptions::shared_and_unbindable_are_applied",
        "crun makes every mount private unless something else is asked for, and shared is not applied",
    ),
    (
        "mountoptions::in_a_user_namespace_a_lock_of_the_source_can_not_be_undone_inside",
        "crun opens sources in the host's user namespace, where they get no lock",
    ),
    (
        "mountoptions::src_nofollow_mounts_the_link_itself",
        "runc has no such option, nor dest-nofollow or copy-symlink",
    ),
    (
        "mountoptions::a_bind_ignores_what_is_for_a_file_system",
        "runc refuses it",
    ),
    (
        "mountoptions::the_root_can_be_remounted",
        "runc takes it for a mount over the root",
    ),
    (
        "idmap::an_option_can_have_the_map",
        "runc knows only uidMappings and gidMappings; the same for a relative map",
    ),
    (
        "idmap::a_plain_bind_of_a_tree_with_mounts_works_in_a_user_namespace",
        "runc binds in the container's mount namespace, where what is mounted below is locked",
    ),
    (
        "idmap::a_map_is_for_uids_and_gids",
        "crun leaves the cgroup behind when it fails late; the same for the other errors here",
    ),
    (
        "regressions::what_is_made_in_the_root_does_not_depend_on_the_callers_umask",
        "runc makes directories with its caller's umask",
    ),
    (
        "regressions::a_device_of_the_image_is_taken_if_it_is_the_right_one",
        "runc makes its links anew and stumbles over those of the image",
    ),
    (
        "regressions::a_state_that_can_not_be_looked_up_is_no_stopped_container",
        "runc takes any error of the look-up for a process that is gone",
    ),
    (
        "regressions::a_frozen_created_container_is_paused_and_not_started",
        "crun starts it: it will run once thawed",
    ),
    (
        "regressions::kill_reaches_what_the_first_process_left_in_the_hosts_pid_namespace",
        "crun looks at the first process only",
    ),
    (
        "sockets::sockets_of_the_service_manager_are_passed_with_their_number",
        "crun passes them without LISTEN_FDS",
    ),
    (
        "sockets::sockets_come_before_preserved_descriptors",
        "crun passes them without LISTEN_FDS",
    ),
    (
        "sockets::sockets_for_another_process_are_not_passed",
        "crun does not look at LISTEN_PID",
    ),
    (
        "sockets::readiness_is_told_by_a_detached_run",
        "crun does not tell the main process",
    ),
    (
        "sockets::a_foreground_run_is_itself_the_main_process",
        "crun does not tell the main process",
    ),
    (
        "sockets::a_container_that_ends_before_it_is_ready_ends_the_wait",
        "runc waits for ever: the process that it looks for is its own zombie",
    ),
    (
        "sockets::without_a_service_manager_there_is_no_notify_socket",
        "runc waits for ever, as above; crun's socket is at the host's path",
    ),
    (
        "lsm::a_profile_or_label_whose_module_is_missing_is_refused",
        "crun takes an empty label for one, and writes it",
    ),
    (
        "scheduling::a_memory_policy_is_set",
        "runc before 1.4 does not know the field",
    ),
    (
        "hooks::all_kinds_run_in_their_order",
        "runc before 1.5 runs poststart hooks at the end of `create`",
    ),
    (
        "hooks::a_hook_that_is_missing_or_killed_is_told_as_such",
        "crun takes a hook that can't be executed for one that was successful",
    ),
    (
        "hooks::a_poststart_hook_that_fails_fails_start_and_ends_the_container",
        "runc before 1.5 runs poststart hooks at the end of `create`",
    ),
    (
        "hooks::a_poststop_hook_that_fails_is_a_warning_and_the_others_run",
        "with runc `delete` fails and the others do not run",
    ),
    (
        "hooks::a_create_killed_in_the_middle_of_a_hook_is_cleaned_up",
        "the cgroup stays behind when the creator is killed before it has written its state",
    ),
    (
        "hooks::a_hook_that_takes_too_long_is_killed_with_all_it_started",
        "the peers kill only the hook itself; runc then waits for its children to close their output",
    ),
    (
        "devices::a_configured_device_takes_the_place_of_a_default_one",
        "runc opens the container's /dev/null again, whatever it is",
    ),
    (
        "devices::a_device_of_an_unknown_type_is_refused",
        "crun takes it for a character device",
    ),
    (
        "devices::in_a_user_namespace_a_configured_device_is_the_hosts",
        "nobody can open the node that crun makes there",
    ),
    (
        "devices::in_a_user_namespace_a_device_that_the_host_lacks_is_named",
        "nobody can open the node that crun makes there",
    ),
    (
        "devices::in_a_user_namespace_a_fifo_is_made",
        "runc binds the host's, which has none",
    ),
    (
        "seccomp::a_denied_call_gets_the_errno_of_its_rule",
        "crun keeps compiled filters, and takes one that differs only in the errno",
    ),
    (
        "seccomp::a_profile_that_was_seen_before_is_not_taken_for_another",
        "crun keeps compiled filters, and takes one that differs only in the errno",
    ),
    (
        "seccomp::a_profile_that_denies_what_init_still_needs_is_refused_by_name",
        "crun makes none of these calls under the filter",
    ),
    (
        "seccomp::every_process_of_exec_is_filtered_and_told_to_the_listener",
        "crun sends 0 for both pids, and not the version of config.json",
    ),
    (
        "seccomp::a_listener_that_nobody_needs_is_not_asked",
        "crun connects to it all the same",
    ),
];

/// The note of a check.
pub(super) fn of(path: &str) -> Option<&'static str> {
    let own = NOTES.iter().find(|(check, _)| *check == path);
    let whole = |(check, _): &&(&str, &str)| check.ends_with("::") && path.starts_with(check);
    let found = own.or_else(|| NOTES.iter().find(whole));
    found.map(|(_, note)| *note)
}
