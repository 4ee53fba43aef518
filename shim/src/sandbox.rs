//! The Sandbox service: a pod, as containerd asks for it where `sandboxer` is `shim`.
//!
//! Containers of a pod find its namespaces by a process id, so there must be a process. It is
//! this program ([`pause`]), in a container like any other but without an image: its root is a
//! tmpfs with nothing but the program. Its task is in the same table as the others, and what
//! happens to it is told by this service and by no event.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::SystemTime;

use nix::libc;
use prost::Message as _;
use serde_json::{Value, json};

use crate::bundle;
use crate::daemon::Shim;
use crate::engine::Key;
use crate::failure::{Code, Failure};
use crate::proto::Any;
use crate::proto::sandbox::{
    CreateSandboxRequest, IdMapping, Metric, NamespaceOption, Platform, PlatformResponse,
    PodSandboxConfig, SandboxMetricsResponse, SandboxRequest, SandboxStatusResponse,
    StartSandboxResponse, UserNamespace,
};
use crate::proto::task::{CreateTaskRequest, Mount};
use crate::server::Reply;
use crate::service::{Answer, read};
use crate::stats;
use crate::sys;
use crate::task::{Exit, Status, Task};

/// The name of the service.
pub(crate) const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";

/// `NamespaceMode.NODE` of CRI: the machine's own.
const NODE: i32 = 2;

/// Who the process is: nobody, as in the usual pause image.
const NOBODY: u32 = 65535;

/// How unlikely it is to be killed for want of memory, where that can be said (kubelet's
/// value for it).
const OOM_SCORE: i32 = -998;

/// What makes a task a sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    since: SystemTime,
    /// The user namespace that owns its network, which its configuration names by this file.
    _users: Option<OwnedFd>,
}

/// Where the program is in its root.
const PROGRAM: &str = "/pause";

impl Shim {
    pub(crate) fn sandbox(&mut self, reply: Reply, method: &str, payload: &[u8]) -> Answer {
        if method == "CreateSandbox" {
            self.create_sandbox(reply, &read(payload)?)?;
            return Ok(None);
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

    fn create_sandbox(
        &mut self,
        reply: Reply,
        request: &CreateSandboxRequest,
    ) -> Result<(), Failure> {
        if !request.rootfs.is_empty() {
            let text = "a sandbox of this shim needs no root file system";
            return Err(Failure::invalid(text));
        }
        let pod = match &request.options {
            Some(any) if any.is("runtime.v1.PodSandboxConfig") => read(&any.value)?,
            _ => PodSandboxConfig::default(),
        };
        let folder = std::path::Path::new(&request.bundle_path);
        let options = bundle::kept(folder)?;
        let users = match users(&namespace_options(&pod)) {
            Some(_) => network_owner(&request.netns_path)?,
            None => None,
        };
        let program = std::fs::read_link("/proc/self/exe")
            .map_err(|error| Failure::call("/proc/self/exe", error))?;
        let config = config(request, &pod, &program.to_string_lossy(), users.as_ref())?;
        let path = folder.join("config.json");
        std::fs::write(&path, config.to_string())
            .map_err(|error| Failure::call(path.display(), error))?;
        let asked = CreateTaskRequest {
            id: request.sandbox_id.clone(),
            bundle: request.bundle_path.clone(),
            rootfs: vec![Mount {
                r#type: "tmpfs".to_owned(),
                source: "tmpfs".to_owned(),
                target: String::new(),
                options: root_options(&pod),
            }],
            ..CreateTaskRequest::default()
        };
        let sandbox = Sandbox {
            since: SystemTime::now(),
            _users: users,
        };
        self.create_as(reply, asked, options, Some(sandbox));
        Ok(())
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
        let containers = self.tasks.iter().filter(|(_, task)| !task.is_sandbox());
        let others: Vec<String> = containers.map(|(id, _)| id.clone()).collect();
        for other in others {
            let id = other.clone();
            self.with(
                &other,
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

fn namespace_options(pod: &PodSandboxConfig) -> NamespaceOption {
    let linux = pod.linux.as_ref();
    linux
        .and_then(|linux| linux.security_context.as_ref())
        .and_then(|context| context.namespace_options.clone())
        .unwrap_or_default()
}

/// The user namespace of a pod, if it gets one.
fn users(asked: &NamespaceOption) -> Option<&UserNamespace> {
    let users = asked.userns_options.as_ref();
    users.filter(|users| users.mode != NODE)
}

/// A root that belongs to the pod's own root: the place of the program is made in it.
fn root_options(pod: &PodSandboxConfig) -> Vec<String> {
    let mut options = vec!["size=64k".to_owned(), "mode=755".to_owned()];
    if let Some(users) = users(&namespace_options(pod)) {
        let root = |maps: &[IdMapping]| {
            let map = maps.iter().find(|map| map.container_id == 0);
            map.map_or(0, |map| map.host_id)
        };
        options.push(format!("uid={}", root(&users.uids)));
        options.push(format!("gid={}", root(&users.gids)));
    }
    options
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

/// The configuration of a pod's own container.
fn config(
    request: &CreateSandboxRequest,
    pod: &PodSandboxConfig,
    program: &str,
    owner: Option<&OwnedFd>,
) -> Result<Value, Failure> {
    let linux = pod.linux.clone().unwrap_or_default();
    let asked = namespace_options(pod);
    let users = users(&asked);
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {
                "uid": nobody(users.map(|users| &*users.uids))?,
                "gid": nobody(users.map(|users| &*users.gids))?,
            },
            "args": [PROGRAM, "pause"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [{
            "destination": PROGRAM,
            "type": "bind",
            "source": program,
            "options": ["bind", "ro", "nosuid", "nodev"],
        }],
        "annotations": request.annotations,
        "linux": {
            "namespaces": namespaces(&asked, &request.netns_path, owner),
            "sysctl": linux.sysctls,
        },
    });
    if let Some(users) = users {
        config["linux"]["uidMappings"] = mappings(&users.uids);
        config["linux"]["gidMappings"] = mappings(&users.gids);
    }
    if asked.network != NODE && !pod.hostname.is_empty() {
        config["hostname"] = json!(pod.hostname);
    }
    if !linux.cgroup_parent.is_empty() {
        let path = cgroups_path(&linux.cgroup_parent, &request.sandbox_id);
        config["linux"]["cgroupsPath"] = json!(path);
    }
    if sys::may_lower_oom_score() {
        config["process"]["oomScoreAdj"] = json!(OOM_SCORE);
    }
    Ok(config)
}

fn namespaces(asked: &NamespaceOption, netns_path: &str, owner: Option<&OwnedFd>) -> Vec<Value> {
    let mut all = vec![json!({"type": "mount"})];
    if users(asked).is_some() {
        all.push(match owner {
            Some(owner) => {
                let path = format!("/proc/{}/fd/{}", std::process::id(), owner.as_raw_fd());
                json!({"type": "user", "path": path})
            }
            None => json!({"type": "user"}),
        });
    }
    if asked.network != NODE {
        all.push(json!({"type": "uts"}));
        all.push(match netns_path {
            "" => json!({"type": "network"}),
            path => json!({"type": "network", "path": path}),
        });
    }
    if asked.ipc != NODE {
        all.push(json!({"type": "ipc"}));
    }
    // Containers join it only if they are to share one.
    if asked.pid != NODE {
        all.push(json!({"type": "pid"}));
    }
    all
}

/// In the words of the runtime specification.
fn mappings(maps: &[IdMapping]) -> Value {
    maps.iter()
        .map(|map| {
            json!({"containerID": map.container_id, "hostID": map.host_id, "size": map.length})
        })
        .collect()
}

/// The id of nobody, or the highest that there is in a user namespace with these maps.
fn nobody(maps: Option<&[IdMapping]>) -> Result<u32, Failure> {
    let Some(maps) = maps else {
        return Ok(NOBODY);
    };
    let last = |map: &IdMapping| map.container_id.checked_add(map.length.checked_sub(1)?);
    let ids = maps.iter().filter_map(last).map(|last| last.min(NOBODY));
    ids.max()
        .ok_or_else(|| Failure::invalid("a user namespace of a pod without ids"))
}

/// Below the pod's cgroup, in the words of whoever makes it: a slice is systemd's.
fn cgroups_path(parent: &str, id: &str) -> String {
    let base = parent.rsplit('/').next().unwrap_or_default();
    if base.ends_with(".slice") {
        format!("{base}:cri-containerd:{id}")
    } else {
        format!("{}/{id}", parent.trim_end_matches('/'))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::sandbox::{LinuxPodSandboxConfig, SecurityContext};

    fn request() -> CreateSandboxRequest {
        CreateSandboxRequest {
            sandbox_id: "pod".to_owned(),
            netns_path: "/run/netns/cni-1".to_owned(),
            ..CreateSandboxRequest::default()
        }
    }

    fn pod(options: NamespaceOption) -> PodSandboxConfig {
        PodSandboxConfig {
            hostname: "web".to_owned(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: "/kubepods/burstable/pod1".to_owned(),
                security_context: Some(SecurityContext {
                    namespace_options: Some(options),
                }),
                sysctls: [("net.core.somaxconn".to_owned(), "9".to_owned())].into(),
            }),
        }
    }

    fn kinds(config: &Value) -> Vec<&str> {
        let all = config["linux"]["namespaces"].as_array().unwrap();
        all.iter().map(|ns| ns["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_pod_has_the_namespaces_hostname_sysctls_and_cgroup_that_cri_asks_for() {
        let pod = pod(NamespaceOption::default());
        let config = config(&request(), &pod, "/bin/shim", None).unwrap();
        assert_eq!(kinds(&config), ["mount", "uts", "network", "ipc", "pid"]);
        assert_eq!(config["linux"]["namespaces"][2]["path"], "/run/netns/cni-1");
        assert_eq!(config["hostname"], "web");
        assert_eq!(config["linux"]["sysctl"]["net.core.somaxconn"], "9");
        let cgroup = &config["linux"]["cgroupsPath"];
        assert_eq!(*cgroup, "/kubepods/burstable/pod1/pod");
    }

    #[test]
    fn a_pod_on_the_machines_namespaces_makes_none_of_them() {
        let pod = pod(NamespaceOption {
            network: NODE,
            pid: NODE,
            ipc: NODE,
            userns_options: None,
        });
        let config = config(&request(), &pod, "/bin/shim", None).unwrap();
        assert_eq!(kinds(&config), ["mount"]);
        assert_eq!(config["hostname"], Value::Null, "it is the machine's");
    }

    #[test]
    fn a_pod_with_a_user_namespace_is_nobody_in_it() {
        let map = |container_id, length| IdMapping {
            host_id: 100_000,
            container_id,
            length,
        };
        let users = |maps: &[IdMapping]| {
            let asked = NamespaceOption {
                userns_options: Some(UserNamespace {
                    mode: 0,
                    uids: maps.to_vec(),
                    gids: vec![map(0, 65536)],
                }),
                ..NamespaceOption::default()
            };
            config(&request(), &pod(asked), "/bin/shim", None)
        };
        let config = users(&[map(0, 5), map(10, 5)]).unwrap();
        assert_eq!(kinds(&config)[..2], ["mount", "user"]);
        let user = json!({"uid": 14, "gid": NOBODY});
        assert_eq!(config["process"]["user"], user);
        let second = json!({"containerID": 10, "hostID": 100_000, "size": 5});
        assert_eq!(config["linux"]["uidMappings"][1], second);
        assert!(users(&[]).is_err());
        assert!(users(&[map(u32::MAX, 2)]).is_err());
    }

    #[test]
    fn a_slice_is_named_as_systemd_wants_it() {
        let parent = "/kubepods.slice/kubepods-pod1.slice";
        let path = cgroups_path(parent, "pod");
        assert_eq!(path, "kubepods-pod1.slice:cri-containerd:pod");
    }
}
