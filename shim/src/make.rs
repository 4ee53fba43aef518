//! Makes a container, and undoes that: what takes time of a Create, on a thread of its own.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_core::spec::NamespaceKind;
use corten_core::{CreateOptions, Delete, ErrorKind, Runtime, Watch};
use rustix::fs::{Mode, OFlags};
use rustix::io::DupFlags;

use crate::bundle;
use crate::calloff::CallOff;
use crate::failure::Failure;
use crate::mounts;
use crate::proto::options::Options;
use crate::proto::task::CreateTaskRequest;
use crate::runtimes::Runtimes;
use crate::sandbox::Sandbox;
use crate::stdio::{self, Files, Names, Owner};

/// What is asked for: a container, or a sandbox.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: CreateTaskRequest,
    pub(crate) options: Options,
    pub(crate) sandbox: Option<Sandbox>,
}

/// What a creation is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) asked: Asked,
    pub(crate) owner: Owner,
    pub(crate) runtime: Arc<Runtime>,
    folder: Folder,
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
    pub(crate) plan: Plan,
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
pub(crate) fn create(
    asked: Asked,
    namespace: &str,
    runtimes: &Runtimes,
    off: &CallOff,
) -> Result<Created, Failure> {
    let plan = Plan {
        runtime: runtimes.find(&asked.options, namespace)?,
        owner: Owner {
            id: asked.request.id.clone(),
            namespace: namespace.to_owned(),
            uid: asked.options.io_uid,
            gid: asked.options.io_gid,
        },
        folder: Folder::open(Path::new(&asked.request.bundle))?,
        asked,
    };
    let path = Path::new(&plan.asked.request.bundle);
    bundle::keep(path, &plan.asked.options)?;
    bundle::name_program(Path::new("."), path)?;
    make_root(&plan)?;
    let rootfs = path.join("rootfs");
    let made = mounts::mount_all(&plan.asked.request.rootfs, &rootfs, off)
        .and_then(|()| create_mounted(&plan, off));
    match made {
        Ok((process, shares_pids, watch)) => {
            let created = Created {
                plan,
                process,
                shares_pids,
                watch,
            };
            if created.plan.folder.is_there() {
                return Ok(created);
            }
            let text = format!(
                "{} was removed meanwhile",
                created.plan.folder.path.display()
            );
            undo(created);
            Err(Failure::not_found(text))
        }
        Err(failure) => {
            unmount(&plan);
            Err(failure)
        }
    }
}

/// The folder that the root file system is mounted on.
fn make_root(plan: &Plan) -> Result<(), Failure> {
    if !plan.asked.request.rootfs.is_empty() {
        let rootfs = plan.folder.path.join("rootfs");
        match std::fs::DirBuilder::new().mode(0o711).create(&rootfs) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Failure::call(rootfs.display(), error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Undoes a creation that nobody wants any more.
pub(crate) fn undo(created: Created) {
    let id = &created.plan.asked.request.id;
    let found = created.plan.runtime.container(id);
    match found.and_then(|container| container.delete(Delete::Force)) {
        // Whoever has called the creation off was here before.
        Err(error) if error.kind() != ErrorKind::NotFound => log::error!("{id}: {error:#}"),
        _ => {}
    }
    created.process.files.abandon();
    unmount(&created.plan);
}

/// What is mounted in the bundle's folder, wherever that is now: on what has its path by now
/// others may have mounted something.
fn unmount(plan: &Plan) {
    if plan.asked.request.rootfs.is_empty() {
        return;
    }
    if let Err(failure) = mounts::unmount_all(&plan.folder.now().join("rootfs")) {
        log::warn!("{failure}");
    }
}

fn create_mounted(plan: &Plan, off: &CallOff) -> Result<(Made, bool, Option<Watch>), Failure> {
    let mut files = Files::default();
    match create_with(plan, off, &mut files) {
        Ok((mut process, shares_pids, watch)) => {
            process.files = files;
            Ok((process, shares_pids, watch))
        }
        Err(failure) => {
            files.abandon();
            Err(failure)
        }
    }
}

fn create_with(
    plan: &Plan,
    off: &CallOff,
    files: &mut Files,
) -> Result<(Made, bool, Option<Watch>), Failure> {
    let Plan {
        asked: Asked {
            request, options, ..
        },
        owner,
        runtime,
        ..
    } = plan;
    let folder = Path::new(&request.bundle);
    let bundle = runtime.load_and_begin(folder)?;
    let names = names(request);
    let mut wanted = CreateOptions::default();
    wanted.no_pivot = options.no_pivot_root;
    wanted.no_new_keyring = options.no_new_keyring;
    if !names.terminal {
        (wanted.stdio, *files) = stdio::open(&names, owner)?;
    }
    let (place, spare) = (stdio::null()?, spare()?);
    off.go_on(Some(runtime))?;
    let mut container = runtime.create(&request.id, &bundle, wanted)?;
    for warning in container.warnings() {
        log::warn!("{}: {warning}", request.id);
    }
    let pid = container.pid();
    match finish(&mut container, &names, owner, folder, (files, place)) {
        Ok((pidfd, watch)) => {
            let made = Made {
                pid,
                pidfd,
                files: Files::default(),
            };
            let own_pids = bundle.spec().namespace(NamespaceKind::Pid);
            let shares_pids = own_pids.is_none_or(|namespace| namespace.path.is_some());
            Ok((made, shares_pids, watch))
        }
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
