//! Makes a container, and undoes that: what takes time of a Create, on a thread of its own.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_core::spec::NamespaceKind;
use corten_core::{Bundle, CreateOptions, Delete, Runtime, Watch};
use rustix::fs::{Mode, OFlags};
use rustix::io::DupFlags;

use crate::bundle;
use crate::failure::Failure;
use crate::mounts;
use crate::proto::options::Options;
use crate::proto::task::CreateTaskRequest;
use crate::stdio::{self, Files, Names, Owner};

/// What a creation is made of.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: CreateTaskRequest,
    pub(crate) options: Options,
    pub(crate) owner: Owner,
    pub(crate) runtime: Arc<Runtime>,
}

/// A process that was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) files: Files,
}

/// A container that was made.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) process: Made,
    pub(crate) shares_pids: bool,
    pub(crate) watch: Option<Watch>,
}

/// A folder that somebody may remove, or make again, while it is worked in.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

impl Folder {
    fn open(path: &Path) -> Result<Folder, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty());
        let fd = fd.map_err(|errno| Failure::call(path.display(), errno))?;
        let path = path.to_owned();
        Ok(Folder { path, fd })
    }

    /// Whether its path still leads to it.
    fn is_there(&self) -> bool {
        let id = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let now = rustix::fs::stat(&self.path).map(id);
        now.is_ok() && now == rustix::fs::fstat(&self.fd).map(id)
    }

    /// Where it is, if it was renamed.
    fn now(&self) -> PathBuf {
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        std::fs::read_link(link).unwrap_or_else(|_| self.path.clone())
    }
}

/// Makes a container.
///
/// containerd removes the bundle when it has waited too long: then nothing stays of it.
pub(crate) fn create(asked: &Asked) -> Result<Created, Failure> {
    let path = Path::new(&asked.request.bundle);
    let folder = Folder::open(path)?;
    bundle::keep(path, &asked.options)?;
    bundle::name_program(Path::new("."), path)?;
    let rootfs = path.join("rootfs");
    if !asked.request.rootfs.is_empty() {
        match std::fs::DirBuilder::new().mode(0o711).create(&rootfs) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Failure::call(rootfs.display(), error));
            }
            _ => {}
        }
    }
    let made = mounts::mount_all(&asked.request.rootfs, &rootfs)
        .and_then(|()| create_mounted(asked))
        .and_then(|created| {
            if folder.is_there() {
                return Ok(created);
            }
            end(created, &asked.runtime, &asked.request.id);
            let text = format!("{} was removed meanwhile", path.display());
            Err(Failure::not_found(text))
        });
    if made.is_err() {
        unmount(&folder.now().join("rootfs"));
    }
    made
}

/// Undoes a creation that nobody wants any more.
pub(crate) fn undo(created: Created, runtime: &Runtime, id: &str, bundle: &Path) {
    end(created, runtime, id);
    unmount(&bundle.join("rootfs"));
}

fn end(created: Created, runtime: &Runtime, id: &str) {
    let deleted = runtime
        .container(id)
        .and_then(|container| container.delete(Delete::Force));
    if let Err(error) = deleted {
        log::error!("{id}: {error:#}");
    }
    created.process.files.abandon();
}

fn unmount(rootfs: &Path) {
    if let Err(failure) = mounts::unmount_all(rootfs) {
        log::warn!("{failure}");
    }
}

fn create_mounted(asked: &Asked) -> Result<Created, Failure> {
    let mut files = Files::default();
    match create_with(asked, &mut files) {
        Ok(mut created) => {
            created.process.files = files;
            Ok(created)
        }
        Err(failure) => {
            files.abandon();
            Err(failure)
        }
    }
}

fn create_with(asked: &Asked, files: &mut Files) -> Result<Created, Failure> {
    let Asked {
        request,
        options,
        owner,
        runtime,
    } = asked;
    let folder = Path::new(&request.bundle);
    let bundle = Bundle::load(folder)?;
    let names = names(request);
    let mut wanted = CreateOptions::default();
    wanted.no_pivot = options.no_pivot_root;
    wanted.no_new_keyring = options.no_new_keyring;
    if !names.terminal {
        (wanted.stdio, *files) = stdio::open(&names, owner)?;
    }
    let (place, spare) = (stdio::null()?, spare()?);
    let mut container = runtime.create(&request.id, &bundle, wanted)?;
    for warning in container.warnings() {
        log::warn!("{}: {warning}", request.id);
    }
    let pid = container.pid();
    match finish(&mut container, &names, owner, folder, (files, place)) {
        Ok((pidfd, watch)) => Ok(Created {
            process: Made {
                pid,
                pidfd,
                files: Files::default(),
            },
            shares_pids: bundle
                .spec()
                .namespace(NamespaceKind::Pid)
                .is_none_or(|namespace| namespace.path.is_some()),
            watch,
        }),
        Err(failure) => {
            drop(spare);
            container.delete(Delete::Force)?;
            Err(failure)
        }
    }
}

pub(crate) fn names(request: &CreateTaskRequest) -> Names {
    Names {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    }
}

/// How many files the end of a container opens; a guess, see the test.
const SPARE: usize = 8;

/// Descriptors that are there to be closed: who has none left can't undo anything either.
fn spare() -> Result<Vec<OwnedFd>, Failure> {
    (0..SPARE).map(|_| stdio::null()).collect()
}

/// What can still fail when there is a container already.
fn finish(
    container: &mut corten_core::Container,
    names: &Names,
    owner: &Owner,
    folder: &Path,
    (files, place): (&mut Files, OwnedFd),
) -> Result<(OwnedFd, Option<Watch>), Failure> {
    let path = folder.join(bundle::INIT_PID);
    std::fs::write(&path, container.pid().to_string())
        .map_err(|error| Failure::call(path.display(), error))?;
    if let Some(master) = container.take_console() {
        *files = stdio::open_console(names, owner, master)?;
    }
    let pidfd = copy(container, place)?;
    // Without it, kills for want of memory are not told; that is no reason to refuse.
    let watch = container.watch();
    if let Err(error) = &watch {
        log::warn!("{}: {error:#}", owner.id);
    }
    Ok((pidfd, watch.ok()))
}

/// A copy of a pidfd in the place of what is there, so that it needs no further descriptor:
/// it must not be for want of one that a process is not known.
pub(crate) fn copy(process: &impl AsFd, mut place: OwnedFd) -> Result<OwnedFd, Failure> {
    let copied = rustix::io::dup3(process.as_fd(), &mut place, DupFlags::CLOEXEC);
    copied.map_err(|errno| Failure::call("pidfd", errno))?;
    Ok(place)
}
