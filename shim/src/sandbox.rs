//! The Sandbox service: a pod, as containerd asks for it where `sandboxer` is `shim`.
//!
//! Containers of a pod find its namespaces by a process id, so there must be a process. It is
//! this program ([`pause`]), in a container like any other but without an image: its root is a
//! tmpfs with nothing but the program. Its task is in the same table as the others, and what
//! happens to it is told by this service and by no event.

mod config;

use std::os::fd::OwnedFd;
use std::time::SystemTime;

use nix::libc;
use prost::Message as _;

use crate::bundle;
use crate::daemon::Shim;
use crate::engine::Key;
use crate::failure::{Code, Failure};
use crate::make::Asked;
use crate::proto::Any;
use crate::proto::sandbox::{
    CreateSandboxRequest, Metric, Platform, PlatformResponse, PodSandboxConfig,
    SandboxMetricsResponse, SandboxRequest, SandboxStatusResponse, StartSandboxResponse,
};
use crate::proto::task::{CreateTaskRequest, Mount};
use crate::server::Reply;
use crate::service::{Answer, read};
use crate::stats;
use crate::sys;
use crate::task::{Exit, Status, Task};
use crate::worker::Wanted;
use config::{config, namespace_options, root_options, users};

/// The name of the service.
pub(crate) const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";

/// What makes a task a sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    since: SystemTime,
    /// The user namespace that owns its network, which its configuration names by this file.
    _users: Option<OwnedFd>,
}

impl Shim {
    pub(crate) fn sandbox(&mut self, reply: Reply, method: &str, payload: &[u8]) -> Answer {
        if method == "CreateSandbox" {
            return self.create_sandbox(reply, read(payload)?);
        }
        let SandboxRequest { sandbox_id } = read(payload)?;
        let key = Key {
            id: sandbox_id,
            exec: String::new(),
        };
        match method {
            "StartSandbox" => self.start_init(reply, key).map(|()| None),
            "StopSandbox" => self.stop_sandbox(reply, &key.id),
            "WaitSandbox" => self.wait_for(reply, &key),
            "ShutdownSandbox" => self.shutdown_sandbox(reply, key),
            "SandboxStatus" => self.sandbox_status(&key.id),
            "SandboxMetrics" => self.sandbox_metrics(reply, key.id).map(|()| None),
            "PingSandbox" => self.sandbox_mut(&key.id).map(|_| Some(Vec::new())),
            "Platform" => Ok(Some(platform().encode_to_vec())),
            _ => {
                let text = format!("method {method} is not there");
                Err(Failure::new(Code::Unimplemented, text))
            }
        }
    }

    fn sandbox_mut(&mut self, id: &str) -> Result<&mut Task, Failure> {
        let found = self.tasks.get_mut(id).filter(|task| task.is_sandbox());
        found.ok_or_else(|| Failure::not_found(format!("sandbox {id} is not there")))
    }

    fn create_sandbox(&mut self, reply: Reply, request: CreateSandboxRequest) -> Answer {
        if !request.rootfs.is_empty() {
            let text = "a sandbox of this shim needs no root file system";
            return Err(Failure::invalid(text));
        }
        let pod = match &request.options {
            Some(any) if any.is("runtime.v1.PodSandboxConfig") => read(&any.value)?,
            _ => PodSandboxConfig::default(),
        };
        let id = request.sandbox_id.clone();
        self.create_as(reply, &id, move || asked(request, &pod))
    }

    /// What a Start answers, for a container or a sandbox.
    pub(crate) fn start_response(&self, id: &str, pid: i32) -> Vec<u8> {
        let sandbox = self.tasks.get(id).and_then(|task| task.sandbox.as_ref());
        let created = sandbox.map(|sandbox| sandbox.since);
        let pid = pid.unsigned_abs();
        // Without a time it is the answer for a container.
        StartSandboxResponse {
            pid,
            created_at: created.map(Into::into),
        }
        .encode_to_vec()
    }

    /// Ends all of the pod. Answers when its own process has ended.
    fn stop_sandbox(&mut self, reply: Reply, id: &str) -> Answer {
        if self.sandbox_mut(id)?.init.exit.is_some() {
            return Ok(Some(Vec::new()));
        }
        // One that would only come to be when the others are gone.
        let why = Failure::precondition(format!("sandbox {id} was stopped meanwhile"));
        self.call_off(&why, |_, _| true);
        let containers = self.tasks.iter().filter(|(_, task)| !task.is_sandbox());
        let others: Vec<String> = containers.map(|(id, _)| id.clone()).collect();
        for other in others {
            let id = other.clone();
            self.with(
                &other,
                Wanted::ByShim,
                |container| Ok(container.kill_all(libc::SIGKILL)?),
                move |_, done: Result<(), Failure>| {
                    if let Err(failure) = done {
                        log::debug!("{id}: {failure}");
                    }
                },
            )?;
        }
        let task = self.sandbox_mut(id)?;
        task.init.signal(libc::SIGKILL)?;
        // It is told more than it asks for: how the sandbox has ended.
        task.init.waiters.push(reply);
        Ok(None)
    }

    fn shutdown_sandbox(&mut self, reply: Reply, key: Key) -> Answer {
        let Ok(task) = self.sandbox_mut(&key.id) else {
            // containerd cleans up behind a creation that failed.
            return self.shutdown();
        };
        let serial = task.serial;
        self.delete_as(reply, key, serial, corten_core::Delete::Force);
        Ok(None)
    }

    fn sandbox_status(&mut self, id: &str) -> Answer {
        let task = self.sandbox_mut(id)?;
        let is_ready = task.status(&task.init) == Status::Running;
        let state = if is_ready {
            "SANDBOX_READY"
        } else {
            "SANDBOX_NOTREADY"
        };
        let answer = SandboxStatusResponse {
            sandbox_id: id.to_owned(),
            pid: task.init.pid.unsigned_abs(),
            state: state.to_owned(),
            created_at: task.sandbox.as_ref().map(|sandbox| sandbox.since.into()),
            exited_at: task.init.exit.map(Exit::timestamp),
        };
        Ok(Some(answer.encode_to_vec()))
    }

    fn sandbox_metrics(&mut self, reply: Reply, id: String) -> Result<(), Failure> {
        self.sandbox_mut(&id)?;
        self.with(
            &id.clone(),
            Wanted::By(reply),
            |container| Ok(stats::packed(container)?),
            move |shim, metrics: Result<Any, Failure>| {
                let answer = metrics.map(|data| {
                    let metrics = Some(Metric {
                        timestamp: Some(SystemTime::now().into()),
                        id,
                        data: Some(data),
                    });
                    SandboxMetricsResponse { metrics }.encode_to_vec()
                });
                shim.answer(reply, answer);
            },
        )
    }
}

/// What a sandbox is made of, with its configuration written.
fn asked(request: CreateSandboxRequest, pod: &PodSandboxConfig) -> Result<Asked, Failure> {
    let folder = std::path::Path::new(&request.bundle_path);
    let options = bundle::kept(folder)?;
    let users = match users(&namespace_options(pod)) {
        Some(_) => network_owner(&request.netns_path)?,
        None => None,
    };
    let program = std::fs::read_link("/proc/self/exe")
        .map_err(|error| Failure::call("/proc/self/exe", error))?;
    let config = config(&request, pod, &program.to_string_lossy(), users.as_ref())?;
    let path = folder.join("config.json");
    std::fs::write(&path, config.to_string())
        .map_err(|error| Failure::call(path.display(), error))?;
    Ok(Asked {
        request: CreateTaskRequest {
            id: request.sandbox_id,
            bundle: request.bundle_path,
            rootfs: vec![Mount {
                r#type: "tmpfs".to_owned(),
                source: "tmpfs".to_owned(),
                target: String::new(),
                options: root_options(pod),
            }],
            ..CreateTaskRequest::default()
        },
        options,
        sandbox: Some(Sandbox {
            since: SystemTime::now(),
            _users: users,
        }),
    })
}

/// The user namespace that owns a network; none if there is none yet, or if it is this one.
///
/// containerd makes the network of such a pod in a user namespace that has the same maps, which
/// nobody names.
fn network_owner(path: &str) -> Result<Option<OwnedFd>, Failure> {
    if path.is_empty() {
        return Ok(None);
    }
    let failed = |error| Failure::call(path, error);
    let network = std::fs::File::open(path).map_err(failed)?;
    let owner = sys::owning_user_namespace(&network).map_err(failed)?;
    let id = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let own = rustix::fs::stat("/proc/self/ns/user").map(id);
    let its = rustix::fs::fstat(&owner).map(id);
    Ok((own != its).then_some(owner))
}

/// In Go's words.
fn platform() -> PlatformResponse {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    PlatformResponse {
        platform: Some(Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
        }),
    }
}

/// The process of a sandbox: does nothing, reaps nothing (its orphans leave no zombies), and
/// ends by SIGTERM.
pub(crate) fn pause() -> Result<(), Failure> {
    let failed = |errno| Failure::call("pause", errno);
    sys::ignore_children().map_err(|error| Failure::call("pause", error))?;
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::Signal::SIGTERM);
    set.add(nix::sys::signal::Signal::SIGINT);
    set.thread_block().map_err(failed)?;
    sys::trim();
    set.wait().map(drop).map_err(failed)
}
