//! The configuration of a pod's own container, from what CRI asks for.

use std::os::fd::{AsRawFd as _, OwnedFd};

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::proto::sandbox::{
    CreateSandboxRequest, IdMapping, NamespaceOption, PodSandboxConfig, UserNamespace,
};
use crate::sys;

/// `NamespaceMode.NODE` of CRI: the machine's own.
const NODE: i32 = 2;

/// Who the process is: nobody, as in the usual pause image.
const NOBODY: u32 = 65535;

/// How unlikely it is to be killed for want of memory, where that can be said (kubelet's
/// value for it).
const OOM_SCORE: i32 = -998;

/// Where the program is in its root.
const PROGRAM: &str = "/pause";

/// The configuration of a pod's own container.
pub(super) fn config(
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

pub(super) fn namespace_options(pod: &PodSandboxConfig) -> NamespaceOption {
    let linux = pod.linux.as_ref();
    linux
        .and_then(|linux| linux.security_context.as_ref())
        .and_then(|context| context.namespace_options.clone())
        .unwrap_or_default()
}

/// The user namespace of a pod, if it gets one.
pub(super) fn users(asked: &NamespaceOption) -> Option<&UserNamespace> {
    let users = asked.userns_options.as_ref();
    users.filter(|users| users.mode != NODE)
}

/// A root that belongs to the pod's own root: the place of the program is made in it.
pub(super) fn root_options(pod: &PodSandboxConfig) -> Vec<String> {
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
