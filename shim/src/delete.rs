//! `delete`: nothing is left of a container whose shim is gone, and containerd gets the events
//! that this had for it.
//!
//! containerd also runs it after each normal end, so that there is nothing is no error.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use corten_core::Runtime;
use prost::Message as _;

use crate::args::Args;
use crate::bundle;
use crate::deliver::deliver;
use crate::failure::Failure;
use crate::mounts;
use crate::proto::task::DeleteResponse;
use crate::socket;

/// What a process that was killed by SIGKILL exits with.
const KILLED: u32 = 137;

pub(crate) fn delete(args: &Args) -> Result<(), Failure> {
    crate::logging::install(args.debug);
    let bundle = bundle_path(args)?;
    // First, since containerd ends a `delete` that takes long: what is left of a container is
    // looked for again.
    let delivered = deliver(args, &bundle);
    let root = bundle::state_root(&bundle::kept(&bundle)?.root, &args.namespace);
    let runtime = Runtime::builder().root(root).build()?;
    // The rest is done all the same: what containerd is told decides about the bundle only.
    let deleted = runtime.delete_leftovers(&args.id);
    if let Err(error) = &deleted {
        log::warn!("{}: {error:#}", args.id);
    }
    let rootfs = bundle.join("rootfs");
    for folder in [mounts::layers_of(&rootfs), rootfs] {
        if let Err(failure) = mounts::unmount_all(&folder) {
            log::warn!("{}: {failure}", args.id);
        }
    }
    remove_socket(&bundle);
    let pid = std::fs::read_to_string(bundle.join(bundle::INIT_PID))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    // containerd keeps the bundle if this fails, and asks again when it is started again.
    let exit = delivered?.filter(|exit| exit.pid == pid);
    let answer = DeleteResponse {
        pid,
        exit_status: exit.as_ref().map_or(KILLED, |exit| exit.exit_status),
        exited_at: exit
            .and_then(|exit| exit.exited_at)
            .or_else(|| Some(SystemTime::now().into())),
    };
    use std::io::Write as _;
    std::io::stdout()
        .write_all(&answer.encode_to_vec())
        .map_err(|error| Failure::call("stdout", error))
}

fn bundle_path(args: &Args) -> Result<PathBuf, Failure> {
    if !args.bundle.as_os_str().is_empty() {
        return Ok(args.bundle.clone());
    }
    // As the Go shim: beside the working directory, which is the bundle of some container.
    let here = std::env::current_dir().map_err(|error| Failure::call(".", error))?;
    Ok(here.parent().unwrap_or(Path::new("/")).join(&args.id))
}

/// A shim that was killed has left its socket.
fn remove_socket(bundle: &Path) {
    let Some(address) = bundle::shim_address(bundle) else {
        return;
    };
    if let Err(failure) = socket::remove_dead(socket::file(&address)) {
        log::warn!("{failure}");
    }
}
