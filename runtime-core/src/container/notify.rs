//! `NOTIFY_SOCKET`: a socket of the container's own, in a directory of its state.
//!
//! Made here: the directory, its place in the container, and the variable. Who asked for it
//! binds `notify/notify.sock` before `start`, and passes on what comes. See sd_notify(3).

use std::borrow::Cow;
use std::path::Path;

use rustix::fs::Mode;

use super::CreateOptions;
use super::dir::StateDir;
use crate::bundle::Bundle;
use crate::error::Error;
use crate::spec::Mount;
use crate::sys::call;

/// The directory's name, on the host and below the container's /run.
pub(super) const NAME: &str = "notify";
/// The socket in it.
pub(super) const SOCKET: &str = "notify/notify.sock";

/// The bundle as the caller's options want it, for a container in this state directory.
pub(super) fn bundle<'a>(
    bundle: &'a Bundle,
    options: &CreateOptions,
    dir: &Path,
) -> Cow<'a, Bundle> {
    if !options.notify_socket {
        return Cow::Borrowed(bundle);
    }
    let mut spec = bundle.spec().clone();
    spec.mounts.push(Mount {
        destination: format!("/run/{NAME}"),
        kind: Some("bind".to_owned()),
        source: Some(dir.join(NAME).display().to_string()),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"]
            .map(str::to_owned)
            .to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        process.env.push(format!("NOTIFY_SOCKET=/run/{SOCKET}"));
    }
    Cow::Owned(bundle.with_spec(spec))
}

/// Makes the directory; whoever is in the container may pass through it.
pub(super) fn make(dir: &StateDir) -> Result<(), Error> {
    let failed = |what| move |errno| dir.failed(NAME, what, errno);
    let mode = Mode::from_raw_mode(0o755);
    call("mkdirat", || rustix::fs::mkdirat(dir.fd(), NAME, mode)).map_err(failed("mkdir"))?;
    // The embedder's umask may have taken bits away.
    call("fchmodat", || {
        rustix::fs::chmodat(dir.fd(), NAME, mode, rustix::fs::AtFlags::empty())
    })
    .map_err(failed("chmod"))
}
