//! Standard input and output of a process: from the names that containerd gives to files.
//!
//! The container gets pipes, never containerd's fifos: a reader that is gone or slow must not
//! be felt in the container as SIGPIPE, and a shim that holds both ends of a fifo keeps it
//! alive while containerd restarts.
//!
//! # Layout
//! - `copy`: moves bytes between two files without waiting
//! - `logger`: `binary://`

pub(crate) mod copy;
pub(crate) mod logger;

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use rustix::fs::{Gid, Uid};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::failure::Failure;
use copy::Direction;
use logger::Logger;

/// What containerd names: fifos, or a URI in `stdout`. Empty is /dev/null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// Who owns the container's ends of the pipes, and for whom a logger works.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owner {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// One stream to be copied.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) direction: Direction,
    pub(crate) from: OwnedFd,
    pub(crate) to: Arc<OwnedFd>,
    /// Whether a write may wait, as for a disk.
    pub(crate) blocks: bool,
    /// The other end of an output fifo: held so that a reader may go and come back.
    pub(crate) reader: Option<OwnedFd>,
}

/// The shim's side of a process's standard files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) streams: Vec<Stream>,
    /// The shim's own writing end of the stdin fifo: without it a client that attaches and
    /// leaves would end the input for all.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) logger: Option<Logger>,
    pub(crate) console: Option<OwnedFd>,
}

impl Files {
    /// Lets go of everything; waits until a logger has ended.
    pub(crate) fn abandon(mut self) {
        let logger = self.logger.take();
        // First the ends of the pipes: a logger ends with its input.
        drop(self);
        if let Some(logger) = logger {
            logger.stop();
        }
    }
}

/// Where output goes.
enum Target {
    Null,
    /// A file that can't be polled: a write to it may wait.
    File(Arc<OwnedFd>),
    /// Both ends of a fifo: where to write, and what is held.
    Fifo(OwnedFd, OwnedFd),
}

impl Target {
    /// Where to write, whether that may wait, and what is held; nothing for /dev/null.
    fn parts(self) -> Option<(Arc<OwnedFd>, bool, Option<OwnedFd>)> {
        match self {
            Target::Null => None,
            Target::File(file) => Some((file, true, None)),
            Target::Fifo(writer, reader) => Some((Arc::new(writer), false, Some(reader))),
        }
    }
}

/// Makes pipes for a process without terminal: what it gets, and what stays here.
pub(crate) fn open(names: &Names, owner: &Owner) -> Result<(corten_core::Stdio, Files), Failure> {
    let mut files = Files::default();
    match open_into(&mut files, names, owner) {
        Ok(stdio) => Ok((stdio, files)),
        Err(failure) => {
            files.abandon();
            Err(failure)
        }
    }
}

fn open_into(
    files: &mut Files,
    names: &Names,
    owner: &Owner,
) -> Result<corten_core::Stdio, Failure> {
    let mut stdio = corten_core::Stdio {
        stdin: Some(null()?),
        stdout: Some(null()?),
        stderr: Some(null()?),
    };
    if let Some(uri) = names.stdout.strip_prefix("binary://") {
        // The logger reads the pipes itself.
        let (logger, stdout, stderr) = logger::start(uri, owner)?;
        files.logger = Some(logger);
        stdio.stdout = Some(stdout);
        stdio.stderr = Some(stderr);
    } else {
        let (stdout, stderr) = targets(names)?;
        stdio.stdout = output(stdout, owner, files)?;
        stdio.stderr = output(stderr, owner, files)?;
    }
    if !names.stdin.is_empty() {
        let (from, hold) = input_fifo(&names.stdin)?;
        let (reader, writer) = pipe(owner)?;
        rustix::io::ioctl_fionbio(&writer, true).map_err(|errno| Failure::call("pipe", errno))?;
        stdio.stdin = Some(reader);
        files.stdin = Some(hold);
        files.streams.push(Stream {
            direction: Direction::Input,
            from,
            to: Arc::new(writer),
            blocks: false,
            reader: None,
        });
    }
    Ok(stdio)
}

/// The streams of a pty; there is one output.
pub(crate) fn open_console(
    names: &Names,
    owner: &Owner,
    master: OwnedFd,
) -> Result<Files, Failure> {
    let mut files = Files::default();
    match open_console_into(&mut files, names, owner, master) {
        Ok(()) => Ok(files),
        Err(failure) => {
            files.abandon();
            Err(failure)
        }
    }
}

fn open_console_into(
    files: &mut Files,
    names: &Names,
    owner: &Owner,
    master: OwnedFd,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::call("pty", error);
    rustix::io::ioctl_fionbio(&master, true).map_err(|errno| failed(errno.into()))?;
    let copy = || master.try_clone().map_err(failed);
    if let Some(uri) = names.stdout.strip_prefix("binary://") {
        let (logger, stdout, stderr) = logger::start(uri, owner)?;
        drop(stderr);
        files.logger = Some(logger);
        rustix::io::ioctl_fionbio(&stdout, true).map_err(|errno| failed(errno.into()))?;
        files.streams.push(Stream {
            direction: Direction::Output,
            from: copy()?,
            to: Arc::new(stdout),
            blocks: false,
            reader: None,
        });
    } else if let Some((to, blocks, reader)) = targets(names)?.0.parts() {
        files.streams.push(Stream {
            direction: Direction::Output,
            from: copy()?,
            to,
            blocks,
            reader,
        });
    }
    if !names.stdin.is_empty() {
        let (from, hold) = input_fifo(&names.stdin)?;
        files.stdin = Some(hold);
        files.streams.push(Stream {
            direction: Direction::Input,
            from,
            to: Arc::new(copy()?),
            blocks: false,
            reader: None,
        });
    }
    files.console = Some(master);
    Ok(())
}

/// What stdout and stderr name. The scheme is that of stdout and counts for both.
fn targets(names: &Names) -> Result<(Target, Target), Failure> {
    if let Some(path) = names.stdout.strip_prefix("file://") {
        let path = Path::new(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| Failure::call(folder.display(), error))?;
        }
        // One that is there already may be a fifo.
        if is_fifo(path).is_ok_and(|is_fifo| is_fifo) {
            return Ok((fifo(path)?, fifo(path)?));
        }
        let file = Arc::new(file(path, OpenOptions::new().create(true).mode(0o644))?);
        return Ok((Target::File(Arc::clone(&file)), Target::File(file)));
    }
    Ok((target(&names.stdout)?, target(&names.stderr)?))
}

fn target(name: &str) -> Result<Target, Failure> {
    let path = Path::new(match name.split_once("://") {
        None => name,
        Some(("fifo", path)) => path,
        Some((scheme, _)) => {
            return Err(Failure::invalid(format!("unknown STDIO scheme {scheme}")));
        }
    });
    if path.as_os_str().is_empty() {
        return Ok(Target::Null);
    }
    if is_fifo(path).map_err(|error| Failure::call(path.display(), error))? {
        return fifo(path);
    }
    Ok(Target::File(Arc::new(file(path, &mut OpenOptions::new())?)))
}

fn is_fifo(path: &Path) -> std::io::Result<bool> {
    Ok(std::fs::metadata(path)?.file_type().is_fifo())
}

/// A file to append to. The opening of a fifo or a device may wait for somebody else, which
/// nobody could end: so that fails, and only a write may wait.
fn file(path: &Path, options: &mut OpenOptions) -> Result<OwnedFd, Failure> {
    let file = nonblocking(options.append(true), path)?;
    rustix::io::ioctl_fionbio(&file, false)
        .map_err(|errno| Failure::call(path.display(), errno))?;
    Ok(file)
}

fn fifo(path: &Path) -> Result<Target, Failure> {
    // The reading end first: without one the writing end would have to wait for a reader.
    let reader = nonblocking(OpenOptions::new().read(true), path)?;
    let writer = nonblocking(OpenOptions::new().write(true), path)?;
    Ok(Target::Fifo(writer, reader))
}

/// Both ends of a stdin fifo.
fn input_fifo(name: &str) -> Result<(OwnedFd, OwnedFd), Failure> {
    let path = Path::new(name.strip_prefix("fifo://").unwrap_or(name));
    let reader = nonblocking(OpenOptions::new().read(true), path)?;
    let writer = nonblocking(OpenOptions::new().write(true), path)?;
    Ok((reader, writer))
}

fn nonblocking(options: &mut OpenOptions, path: &Path) -> Result<OwnedFd, Failure> {
    let file: File = options
        .custom_flags(O_NONBLOCK | O_NOCTTY)
        .open(path)
        .map_err(|error| Failure::call(path.display(), error))?;
    Ok(file.into())
}

/// The container's end of an output; the other one goes to `files`.
fn output(target: Target, owner: &Owner, files: &mut Files) -> Result<Option<OwnedFd>, Failure> {
    let Some((to, blocks, reader)) = target.parts() else {
        return null().map(Some);
    };
    let (from, container) = pipe(owner)?;
    rustix::io::ioctl_fionbio(&from, true).map_err(|errno| Failure::call("pipe", errno))?;
    files.streams.push(Stream {
        direction: Direction::Output,
        from,
        to,
        blocks,
        reader,
    });
    Ok(Some(container))
}

/// A pipe whose ends the container's user may open again through /proc/self/fd.
fn pipe(owner: &Owner) -> Result<(OwnedFd, OwnedFd), Failure> {
    let failed = |errno| Failure::call("pipe", errno);
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    if (owner.uid, owner.gid) != (0, 0) {
        for end in [&reader, &writer] {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            rustix::fs::fchown(end.as_fd(), Some(uid), Some(gid)).map_err(failed)?;
        }
    }
    Ok((reader, writer))
}

/// What reads as empty, and takes everything.
pub(crate) fn null() -> Result<OwnedFd, Failure> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from)
        .map_err(|error| Failure::call("/dev/null", error))
}
