//! A filter's listener, sent to `linux.seccomp.listenerPath`.
//!
//! See "The Container Process State" in config-linux.md of the OCI specification, and
//! seccomp_unotify(2).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use crate::error::errno_text;
use crate::plan::hooks::HookState;
use crate::sys::{call, ipc};

/// What the listener is told besides its descriptor: of the process `pid` in a container with
/// this status, whose own process is `container`.
pub(super) fn container_process_state(
    state: &HookState<'_>,
    status: &str,
    container: i32,
    pid: i32,
    metadata: &str,
) -> String {
    let metadata = match metadata {
        "" => String::new(),
        some => format!(r#","metadata":{}"#, quoted(some)),
    };
    let version = quoted(state.oci_version);
    let state = state.json(status, Some(container));
    format!(
        r#"{{"ociVersion":{version},"fds":["seccompFd"],"pid":{pid}{metadata},"state":{state}}}"#
    )
}

/// Sends a listener with this text, on a connection of its own.
pub(super) fn send_listener(path: &Path, text: &str, listener: &OwnedFd) -> Result<(), String> {
    let failed = |what: &str, errno: Errno| {
        let cause = match errno {
            Errno::CONNREFUSED if !is_socket(path) => "it is not a socket".to_owned(),
            errno => errno_text(errno.raw_os_error()),
        };
        format!(
            "failed to {what} seccomp agent at {}: {cause}",
            path.display()
        )
    };
    let socket = ipc::connect(path).map_err(|errno| failed("connect with", errno))?;
    ipc::send_all_with(socket.as_fd(), text.as_bytes(), listener.as_fd())
        .map_err(|errno| failed("send the listener to", errno))
}

fn is_socket(path: &Path) -> bool {
    let found = call("stat", || rustix::fs::stat(path));
    found.is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket
    })
}

/// As JSON has it: a string, so there is nothing that can't be written.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
