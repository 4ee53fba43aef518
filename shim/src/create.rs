//! Create and Start: the root file system, standard files, and the library's `create`; and
//! the same for execs.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use corten_core::spec::{self, NamespaceKind};
use corten_core::{Bundle, CreateOptions, ExecOptions, Runtime, Watch};
use prost::Message as _;
use rustix::io::DupFlags;

use crate::bundle;
use crate::daemon::Shim;
use crate::engine::{Key, Ready, Source};
use crate::failure::{Code, Failure};
use crate::mounts;
use crate::proto::events::{TaskCreate, TaskExecAdded, TaskExecStarted, TaskIo, TaskStart};
use crate::proto::options::Options;
use crate::proto::task::{CreateTaskRequest, ExecProcessRequest, PidResponse, ProcessRequest};
use crate::sandbox::Sandbox;
use crate::server::Reply;
use crate::stdio::{self, Files, Names, Owner};
use crate::sys;
use crate::task::{Process, Task, wait_response};

/// A process that was made.
struct Made {
    pid: i32,
    pidfd: OwnedFd,
    files: Files,
}

/// A container that was made.
struct Created {
    process: Made,
    shares_pids: bool,
    watch: Option<Watch>,
}

impl Shim {
    pub(crate) fn create(&mut self, reply: Reply, request: CreateTaskRequest) {
        match bundle::options(request.options.as_ref()) {
            Ok(options) => self.create_as(reply, request, options, None),
            Err(failure) => self.answer(reply, Err(failure)),
        }
    }

    /// Creates a container, or a sandbox.
    pub(crate) fn create_as(
        &mut self,
        reply: Reply,
        request: CreateTaskRequest,
        options: Options,
        sandbox: Option<Sandbox>,
    ) {
        let runtime = match self.prepare(&request, &options) {
            Ok(runtime) => runtime,
            Err(failure) => return self.answer(reply, Err(failure)),
        };
        self.creating.insert(request.id.clone());
        let owner = Owner {
            id: request.id.clone(),
            namespace: self.namespace.clone(),
            uid: options.io_uid,
            gid: options.io_gid,
        };
        let asked = (request.clone(), owner.clone(), Arc::clone(&runtime));
        let mut task = Task::new(
            request.bundle.clone(),
            runtime,
            Process::new(names(&request)),
        );
        task.owner = owner;
        task.sandbox = sandbox;
        self.serial += 1;
        task.serial = self.serial;
        self.work(
            move || create(&asked.0, &options, &asked.1, &asked.2),
            move |shim, created| {
                shim.created(reply, &request, task, created);
                shim.answer_late(&request.id);
            },
        );
    }

    fn prepare(
        &mut self,
        request: &CreateTaskRequest,
        options: &Options,
    ) -> Result<Arc<Runtime>, Failure> {
        let id = &request.id;
        if self.tasks.contains_key(id) || self.creating.contains(id) {
            return Err(Failure::new(Code::AlreadyExists, format!("container {id}")));
        }
        if !request.checkpoint.is_empty() {
            let text = "restoring from a checkpoint is not supported by this shim";
            return Err(Failure::new(Code::Unimplemented, text));
        }
        let runtime = self.runtime(options)?;
        self.stay();
        Ok(runtime)
    }

    fn created(
        &mut self,
        reply: Reply,
        request: &CreateTaskRequest,
        mut task: Task,
        created: Result<Created, Failure>,
    ) {
        self.creating.remove(&request.id);
        let created = match created {
            Ok(created) => created,
            Err(failure) => return self.answer(reply, Err(failure)),
        };
        let key = Key {
            id: request.id.clone(),
            exec: String::new(),
        };
        let names = names(request);
        task.shares_pids = created.shares_pids;
        if let Some(watch) = created.watch {
            let token = self
                .poller
                .add(&watch, Ready::IN, Source::Oom(key.id.clone()));
            task.watch_token = token.ok();
            task.watch = Some(watch);
        }
        self.tasks.insert(key.id.clone(), task);
        self.stay();
        let Made { pid, pidfd, files } = created.process;
        let event = TaskCreate {
            container_id: request.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(TaskIo {
                stdin: names.stdin,
                stdout: names.stdout,
                stderr: names.stderr,
                terminal: names.terminal,
            }),
            checkpoint: String::new(),
            pid: pid.unsigned_abs(),
        };
        self.tell(&key.id, "/tasks/create", "TaskCreate", &event);
        self.attend(&key, pid, pidfd, files);
        self.answer(reply, Ok(pid_response(pid)));
    }

    pub(crate) fn start(&mut self, reply: Reply, request: &ProcessRequest) {
        let key = Key {
            id: request.id.clone(),
            exec: request.exec_id.clone(),
        };
        let begun = if key.exec.is_empty() {
            self.start_init(reply, key)
        } else {
            self.start_exec(reply, key)
        };
        if let Err(failure) = begun {
            self.answer(reply, Err(failure));
        }
    }

    pub(crate) fn start_init(&mut self, reply: Reply, key: Key) -> Result<(), Failure> {
        let task = self.task_mut(&key.id)?;
        if task.init.starting || task.init.started || task.init.exit.is_some() {
            return Err(Failure::precondition("process is not in created state"));
        }
        task.init.starting = true;
        let runtime = Arc::clone(&task.runtime);
        let id = key.id.clone();
        self.work(
            move || Ok(runtime.container(&id)?.start()?),
            move |shim, started: Result<(), Failure>| {
                let process = match shim.process_mut(&key) {
                    Ok(process) => process,
                    Err(failure) => return shim.answer(reply, Err(failure)),
                };
                process.starting = false;
                process.started = started.is_ok();
                let pid = process.pid;
                if started.is_ok() {
                    let event = TaskStart {
                        container_id: key.id.clone(),
                        pid: pid.unsigned_abs(),
                    };
                    shim.tell(&key.id, "/tasks/start", "TaskStart", &event);
                }
                let answer = started.map(|()| shim.start_response(&key.id, pid));
                shim.answer(reply, answer);
                shim.settle(&key);
            },
        );
        Ok(())
    }

    /// Exec: only notes what is to be run.
    pub(crate) fn add_exec(&mut self, request: ExecProcessRequest) -> Result<Vec<u8>, Failure> {
        let task = self.task_mut(&request.id)?;
        let exec = request.exec_id;
        if exec.is_empty() || task.execs.contains_key(&exec) {
            return Err(Failure::new(Code::AlreadyExists, format!("id {exec}")));
        }
        if task.init.exit.is_some() {
            return Err(Failure::precondition("cannot exec in a stopped container"));
        }
        if task.paused || task.pausing {
            return Err(Failure::precondition("cannot exec in a paused container"));
        }
        let spec = request.spec.unwrap_or_default();
        let mut process = Process::new(Names {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        });
        process.spec = Some(spec.value);
        task.execs.insert(exec.clone(), process);
        let event = TaskExecAdded {
            container_id: request.id,
            exec_id: exec,
        };
        let id = &event.container_id;
        self.tell(id, "/tasks/exec-added", "TaskExecAdded", &event);
        Ok(Vec::new())
    }

    fn start_exec(&mut self, reply: Reply, key: Key) -> Result<(), Failure> {
        let task = self.task_mut(&key.id)?;
        if task.init.has_ended() {
            let text = format!("container {} init process is not running", key.id);
            return Err(Failure::precondition(text));
        }
        let (runtime, serial) = (Arc::clone(&task.runtime), task.serial);
        let owner = task.owner.clone();
        let process = self.process_mut(&key)?;
        let Some(spec) = process.spec.take().filter(|_| !process.starting) else {
            return Err(Failure::precondition("process was started before"));
        };
        process.starting = true;
        let names = process.names.clone();
        let id = key.id.clone();
        self.work(
            move || exec(&runtime, &id, &spec, &names, &owner),
            move |shim, made| shim.exec_started(reply, &key, serial, made),
        );
        Ok(())
    }

    fn exec_started(&mut self, reply: Reply, key: &Key, serial: u64, made: Result<Made, Failure>) {
        // There may be another container of that name by now.
        let task = self.tasks.get(&key.id);
        let task = task.filter(|task| task.serial == serial);
        let (known, over) = (
            task.is_some(),
            task.is_none_or(|task| task.init.has_ended()),
        );
        let made = match made {
            Ok(made) if over => Err(self.end_late(key, made)),
            other => other,
        };
        let process = match self.process_mut(key) {
            Ok(process) if known => process,
            _ => {
                let gone = || Failure::not_found("container not created");
                return self.answer(reply, Err(made.err().unwrap_or_else(gone)));
            }
        };
        process.starting = false;
        match made {
            Err(failure) => {
                let exit = process.fail();
                let waiters = std::mem::take(&mut process.waiters);
                for waiter in waiters {
                    self.answer(waiter, Ok(wait_response(exit)));
                }
                self.answer(reply, Err(failure));
            }
            Ok(Made { pid, pidfd, files }) => {
                process.started = true;
                let event = TaskExecStarted {
                    container_id: key.id.clone(),
                    exec_id: key.exec.clone(),
                    pid: pid.unsigned_abs(),
                };
                self.tell(&key.id, "/tasks/exec-started", "TaskExecStarted", &event);
                self.attend(key, pid, pidfd, files);
                self.answer(reply, Ok(pid_response(pid)));
            }
        }
    }

    /// An exec that was started behind the end of its container, which was told: it is ended,
    /// and reaped as an orphan.
    fn end_late(&mut self, key: &Key, made: Made) -> Failure {
        if let Err(error) = sys::pidfd_send_signal(made.pidfd.as_fd(), nix::libc::SIGKILL) {
            log::debug!("{key:?}: {error}");
        }
        self.work(
            move || {
                made.files.abandon();
                Ok(())
            },
            |_, _: Result<(), Failure>| {},
        );
        let text = format!("container {} init process is not running", key.id);
        Failure::precondition(text)
    }

    /// The runtime for these options: all containers with the same share one.
    fn runtime(&mut self, options: &Options) -> Result<Arc<Runtime>, Failure> {
        let root = bundle::state_root(&options.root, &self.namespace);
        let key = (root.clone(), options.systemd_cgroup);
        if let Some(runtime) = self.runtimes.get(&key) {
            return Ok(Arc::clone(runtime));
        }
        let cgroups = if options.systemd_cgroup {
            corten_core::Cgroups::Systemd
        } else {
            corten_core::Cgroups::Fs
        };
        let mut builder = Runtime::builder().root(root).cgroups(cgroups);
        if let Some([soft, hard]) = crate::sys::nofile() {
            builder = builder.nofile(soft, hard);
        }
        let runtime = Arc::new(builder.build()?);
        self.runtimes.insert(key, Arc::clone(&runtime));
        Ok(runtime)
    }
}

fn names(request: &CreateTaskRequest) -> Names {
    Names {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    }
}

fn pid_response(pid: i32) -> Vec<u8> {
    let pid = pid.unsigned_abs();
    PidResponse { pid }.encode_to_vec()
}

/// Makes a container; on its own thread.
fn create(
    request: &CreateTaskRequest,
    options: &Options,
    owner: &Owner,
    runtime: &Runtime,
) -> Result<Created, Failure> {
    let folder = Path::new(&request.bundle);
    bundle::keep(folder, options)?;
    bundle::name_program(Path::new("."), folder)?;
    let rootfs = folder.join("rootfs");
    if !request.rootfs.is_empty() {
        match std::fs::DirBuilder::new().mode(0o711).create(&rootfs) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Failure::call(rootfs.display(), error));
            }
            _ => {}
        }
    }
    let made = mounts::mount_all(&request.rootfs, &rootfs)
        .and_then(|()| create_mounted(request, options, owner, runtime));
    if made.is_err()
        && let Err(failure) = mounts::unmount_all(&rootfs)
    {
        log::warn!("{failure}");
    }
    made
}

fn create_mounted(
    request: &CreateTaskRequest,
    options: &Options,
    owner: &Owner,
    runtime: &Runtime,
) -> Result<Created, Failure> {
    let mut files = Files::default();
    match create_with(request, options, owner, runtime, &mut files) {
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

fn create_with(
    request: &CreateTaskRequest,
    options: &Options,
    owner: &Owner,
    runtime: &Runtime,
    files: &mut Files,
) -> Result<Created, Failure> {
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
            container.delete(corten_core::Delete::Force)?;
            Err(failure)
        }
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
fn copy(process: &impl AsFd, mut place: OwnedFd) -> Result<OwnedFd, Failure> {
    let copied = rustix::io::dup3(process.as_fd(), &mut place, DupFlags::CLOEXEC);
    copied.map_err(|errno| Failure::call("pidfd", errno))?;
    Ok(place)
}

/// Starts an exec; on its own thread.
fn exec(
    runtime: &Runtime,
    id: &str,
    process: &[u8],
    names: &Names,
    owner: &Owner,
) -> Result<Made, Failure> {
    let mut files = Files::default();
    match exec_with(runtime, id, process, names, owner, &mut files) {
        Ok((pid, pidfd)) => Ok(Made { pid, pidfd, files }),
        Err(failure) => {
            files.abandon();
            Err(failure)
        }
    }
}

fn exec_with(
    runtime: &Runtime,
    id: &str,
    process: &[u8],
    names: &Names,
    owner: &Owner,
    files: &mut Files,
) -> Result<(i32, OwnedFd), Failure> {
    let mut process = spec::parse_process(process)
        .map_err(|error| Failure::invalid(format!("process: {error}")))?;
    process.terminal = names.terminal;
    // Before what can take long, when the name may be another container's.
    let container = runtime.container(id)?;
    let mut wanted = ExecOptions::default();
    if !names.terminal {
        (wanted.stdio, *files) = stdio::open(names, owner)?;
    }
    let place = stdio::null()?;
    let mut started = container.exec(process, wanted)?;
    let console = started.take_console();
    let opened = console.map_or(Ok(None), |master| {
        stdio::open_console(names, owner, master).map(Some)
    });
    match opened.and_then(|opened| Ok((opened, copy(&started, place)?))) {
        Ok((opened, pidfd)) => {
            if let Some(opened) = opened {
                *files = opened;
            }
            Ok((started.pid(), pidfd))
        }
        Err(failure) => {
            started.kill(nix::libc::SIGKILL)?;
            started.wait()?;
            Err(failure)
        }
    }
}
