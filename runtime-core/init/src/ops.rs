//! What each step does: one file per facility.

mod console;
mod copy;
mod credentials;
mod devices;
mod enter;
mod exec;
mod hooks;
mod mount;
mod namespaces;
mod process;
mod procfs;
mod seccomp;
mod trees;
mod walk;

use crate::abi::{Op, Slot};
use crate::execute::{FlatOp, Init, Outcome};
use crate::sys::{Errno, Strings, errno};

/// What steps put together for `execve(2)`: the program's path, at most 4096 bytes with its NUL;
/// `HOME=` and a field of /etc/passwd; the variable with the own pid.
static STRINGS: Strings<{ 4096 + process::LINE_MAX + 8 + 64 }> = Strings::new();

/// Runs one op.
pub(crate) fn run(init: &mut Init, op: &FlatOp) -> Outcome {
    match *op {
        Op::CloseFds {} => enter::close_fds(init),
        Op::ResetSignals {} => enter::reset_signals(),
        Op::NewSession {} => enter::new_session(),
        Op::Clone { flags, cgroup } => enter::clone(init, flags, cgroup),
        Op::Wait { barrier } => enter::wait(init, barrier),
        Op::WaitUntold {} => enter::wait_untold(init),
        Op::NonDumpable {} => enter::non_dumpable(),
        Op::BecomeRoot {} => credentials::become_root(),
        Op::Unshare { flags } => namespaces::unshare(flags),
        Op::OpenNamespace { path, kind, into } => namespaces::open(init, path, kind, into),
        Op::Join { from, kinds } => namespaces::join(init, from, kinds),
        Op::EnterTime { proc } => namespaces::enter_time(init, proc),
        Op::OpenProc { into } => namespaces::open_proc(init, into),
        Op::Close { slot } => init.close(slot),
        Op::WaitStart {} => exec::wait_start(init),
        Op::FindProgram {} => exec::find_program(init),
        Op::AddPid { name } => process::add_pid(init, name),
        Op::FindHome { uid } => process::find_home(init, uid),
        Op::Exec {} => exec::exec(init),
        Op::HookState {
            before,
            after,
            flags,
            into,
        } => hooks::make_state(init, [before, after], flags, into),
        Op::RunHook {
            path,
            args,
            env,
            inherit,
            timeout,
            state,
            lifeline,
        } => hooks::run(
            init,
            &hooks::Hook {
                path,
                args,
                env,
                inherit,
                timeout,
                state,
                lifeline,
            },
        ),
        _ => run_mount_op(init, op),
    }
}

/// Mounts and the root.
fn run_mount_op(init: &mut Init, op: &FlatOp) -> Outcome {
    match *op {
        Op::Propagation { kind } => mount::propagation(kind),
        Op::OpenRoot { path, into } => mount::open_root(init, path, into),
        Op::Chroot {} => mount::chroot(init),
        Op::PrivateParent { path } => mount::private_parent(init, path),
        Op::BindRoot { path, into } => mount::bind_root(init, path, into),
        Op::NewFs {
            kind,
            source,
            data,
            attrs,
            like,
            into,
        } => mount::new_fs(init, [kind, source, data, like], attrs, into),
        Op::OpenTree {
            path,
            recursive,
            nofollow,
            into,
        } => mount::open_tree(init, path, [recursive, nofollow], into),
        Op::SetAttr {
            mount,
            set,
            clear,
            propagation,
            recursive,
        } => mount::set_attr(init, mount, [set, clear, propagation], recursive),
        Op::Attach {
            mount,
            dir,
            path,
            place,
        } => mount::attach(init, mount, dir, path, place),
        Op::SetAttrAt {
            path,
            set,
            clear,
            propagation,
            recursive,
        } => mount::set_attr_at(init, path, [set, clear, propagation], recursive),
        Op::MountAt {
            kind,
            source,
            data,
            flags,
            path,
        } => mount::mount_at(init, [kind, source, data, path], flags),
        Op::Reconfigure { path, data } => mount::reconfigure(init, path, data),
        Op::PivotRoot {} => mount::pivot_root(init),
        Op::MoveRoot {} => mount::move_root(init),
        _ => run_tree_op(init, op),
    }
}

/// What becomes of a mount that is not attached yet.
fn run_tree_op(init: &mut Init, op: &FlatOp) -> Outcome {
    match *op {
        Op::CopyUp { path, mount } => copy::copy_up(init, path, mount),
        Op::MountTrees { path } => trees::mount_trees(init, path),
        Op::KeepTree { mount, name } => trees::keep_tree(init, mount, name),
        Op::Idmap {
            mount,
            map,
            recursive,
        } => trees::idmap(init, mount, map, recursive),
        _ => run_device_op(init, op),
    }
}

/// Directories, hidden paths, device nodes and the console.
fn run_device_op(init: &mut Init, op: &FlatOp) -> Outcome {
    match *op {
        Op::OpenNull { into } => devices::open_null(init, into),
        Op::OpenDir { path, into } => mount::open_dir(init, path, into),
        Op::MaskPath { dir, path, kernels } => mount::mask_path(init, dir, path, kernels),
        Op::ReadonlyPath { dir, path } => mount::readonly_path(init, dir, path),
        Op::MakeNode {
            dir,
            name,
            mode,
            major,
            minor,
            uid,
            gid,
        } => devices::make_node(
            init,
            dir,
            name,
            devices::Node {
                mode,
                major,
                minor,
                uid,
                gid,
            },
        ),
        Op::BindNode {
            dir,
            name,
            source,
            kind,
            major,
            minor,
        } => devices::bind_node(init, dir, [name, source], kind, [major, minor]),
        Op::MakeLink {
            dir,
            name,
            target,
            existing,
        } => devices::make_link(init, dir, [name, target], existing),
        Op::OpenPty { uid, rows, columns } => console::open_pty(init, uid, rows, columns),
        Op::BindConsole {} => console::bind_console(init),
        Op::SendConsole {} => console::send_console(init, Slot::PTY_MASTER),
        Op::UseConsole {} => console::use_console(init),
        _ => run_process_op(init, op),
    }
}

/// What the process is, names and credentials.
fn run_process_op(init: &mut Init, op: &FlatOp) -> Outcome {
    match *op {
        Op::SetHostname { name } => process::set_hostname(init, name),
        Op::SetDomainname { name } => process::set_domainname(init, name),
        Op::LoopbackUp {} => process::loopback_up(),
        Op::ChangeDir { path } => process::change_dir(init, path),
        Op::SessionKeyring { name } => process::session_keyring(init, name),
        Op::WriteAttribute { proc, name, value } => {
            procfs::write_attribute(init, proc, name, value)
        }
        Op::LabelRoot { mount, label } => mount::label_root(init, mount, label),
        Op::WriteProc { proc, path, value } => procfs::write(init, proc, path, value),
        Op::SetUmask { mask } => process::set_umask(mask),
        Op::SetNice { nice } => process::set_nice(nice),
        Op::SetMemoryPolicy { mode, nodes } => process::set_memory_policy(init, mode, nodes),
        Op::SetPersonality { persona } => process::set_personality(persona),
        Op::AllCpus {} => process::all_cpus(),
        Op::SetRlimit {
            resource,
            soft,
            hard,
        } => process::set_rlimit(resource, soft, hard),
        Op::SetCpus { cpus } => process::set_cpus(init, cpus),
        Op::BoundingSet { keep, last } => credentials::bounding_set(keep, last),
        Op::KeepCaps {} => credentials::keep_caps(),
        Op::SetGroups { gids } => credentials::set_groups(init, gids),
        Op::SetGid { gid } => credentials::set_gid(gid),
        Op::SetUid { uid } => credentials::set_uid(uid),
        Op::SetCaps {
            effective,
            permitted,
            inheritable,
        } => credentials::set_caps(effective, permitted, inheritable),
        Op::RaiseAmbient { cap } => credentials::raise_ambient(cap),
        Op::NoNewPrivs {} => credentials::no_new_privs(),
        Op::LoadSeccomp {
            program,
            flags,
            clock,
            listener,
        } => seccomp::load(init, program, flags, clock, listener),
        Op::PassListener { from } => seccomp::pass_listener(init, from),
        // An op that is in none of these functions: a bug of corten, and never a success.
        _ => Err(Errno(errno::ENOSYS).into()),
    }
}
