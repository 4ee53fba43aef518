//! Pods as containerd asks for them where `sandboxer` is `shim`.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use corten_conformance::lane;
use corten_shim::proto::rpc::Status;
use corten_shim::proto::sandbox::{
    CreateSandboxRequest, IdMapping, LinuxPodSandboxConfig, NamespaceOption, PlatformResponse,
    PodSandboxConfig, SandboxMetricsResponse, SandboxRequest, SandboxStatusResponse,
    SecurityContext, StartSandboxResponse, UserNamespace,
};
use corten_shim::proto::stats::Metrics;
use corten_shim::proto::task::{PidResponse, WaitResponse};
use corten_shim::proto::{Any, Empty};
use prost::Message;
use serde_json::json;

use crate::fake::container::{NOT_FOUND, Web, read};
use crate::fake::{self, Client, Containerd, Version};

/// A pod in a network namespace that somebody else holds, as CRI does.
struct Pod {
    containerd: Containerd,
    bundle: PathBuf,
    task: Client,
    client: Client,
    network: Child,
    users: Option<UserNamespace>,
    /// The network was made in such a namespace, as containerd 2.1 does it.
    owns_network: bool,
}

impl Pod {
    fn new() -> Pod {
        let containerd = Containerd::new(Version::Protobuf);
        // There is no config.json: containerd has none for a sandbox.
        let bundle = containerd.bundle("pod", &[]);
        std::fs::remove_file(bundle.join("config.json")).unwrap();
        std::fs::create_dir(bundle.join("rootfs")).unwrap();
        let task = containerd.connect("pod", &bundle);
        let client = task.sandbox();
        let mut command = Command::new("unshare");
        let network = command.args(["-n", "sleep", "1000"]).spawn().unwrap();
        let apart = || (net(network.id()) != net(std::process::id())).then_some(());
        assert!(corten_conformance::wait::until(fake::LIMIT, apart).is_some());
        Pod {
            containerd,
            bundle,
            task,
            client,
            network,
            users: None,
            owns_network: false,
        }
    }

    /// Another network, in a user namespace, whose link this is.
    fn own_network(&mut self) -> PathBuf {
        self.network.kill().unwrap();
        self.network.wait().unwrap();
        let mut command = Command::new("unshare");
        self.network = command.args(["-U", "-n", "sleep", "1000"]).spawn().unwrap();
        let pid = self.network.id();
        let apart = || (net(pid) != net(std::process::id())).then_some(());
        assert!(corten_conformance::wait::until(fake::LIMIT, apart).is_some());
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{pid}/{map}"), "0 100000 65536").unwrap();
        }
        self.owns_network = true;
        std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap()
    }

    fn create(&mut self) -> Result<Empty, Status> {
        let request = self.request();
        self.client.call("CreateSandbox", &request)
    }

    fn request(&self) -> CreateSandboxRequest {
        let linux = LinuxPodSandboxConfig {
            security_context: self.users.clone().map(|users| SecurityContext {
                namespace_options: Some(NamespaceOption {
                    userns_options: Some(users),
                    ..NamespaceOption::default()
                }),
            }),
            ..LinuxPodSandboxConfig::default()
        };
        let config = PodSandboxConfig {
            hostname: "web-0".to_owned(),
            linux: Some(linux),
        };
        let netns = match self.users {
            Some(_) if !self.owns_network => String::new(),
            _ => format!("/proc/{}/ns/net", self.network.id()),
        };
        CreateSandboxRequest {
            sandbox_id: "pod".to_owned(),
            bundle_path: self.bundle.display().to_string(),
            options: Some(Any::pack("runtime.v1.PodSandboxConfig", &config)),
            netns_path: netns,
            ..CreateSandboxRequest::default()
        }
    }

    /// A call that only names the sandbox.
    fn call<T: Message + Default>(&mut self, method: &str) -> Result<T, Status> {
        self.client.call(method, &named("pod"))
    }

    fn run(&mut self) -> u32 {
        self.create().unwrap();
        let started: StartSandboxResponse = self.call("StartSandbox").unwrap();
        assert!(started.created_at.unwrap().seconds > 0);
        started.pid
    }

    fn state(&mut self) -> String {
        let status: SandboxStatusResponse = self.call("SandboxStatus").unwrap();
        status.state
    }

    /// Removes it, with which the shim ends.
    fn end(mut self) {
        let shim = self.task.shim_pid();
        let _: Empty = self.call("ShutdownSandbox").unwrap();
        fake::gone(shim);
        let rootfs = std::fs::read_dir(self.bundle.join("rootfs")).unwrap();
        assert_eq!(
            rootfs.count(),
            0,
            "containerd removes it as an empty directory"
        );
        self.network.kill().unwrap();
        self.network.wait().unwrap();
    }
}

fn named(id: &str) -> SandboxRequest {
    SandboxRequest {
        sandbox_id: id.to_owned(),
    }
}

fn net(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
}

/// A container of the pod, with its namespaces as CRI names them.
fn container(pod: &Pod, pid: u32, script: &str) -> Web {
    let address = format!("unix://{}", pod.task.path.display());
    let mut web = Web::with(
        Containerd::again(&pod.containerd),
        Client::new(3, &address),
        "web",
        script,
    );
    let path = |kind: &str| format!("/proc/{pid}/ns/{kind}");
    web.config["linux"]["namespaces"] = json!([
        {"type": "mount"}, {"type": "cgroup"},
        {"type": "network", "path": path("net")}, {"type": "ipc", "path": path("ipc")},
        {"type": "uts", "path": path("uts")}, {"type": "pid", "path": path("pid")},
    ]);
    web.config.as_object_mut().unwrap().remove("hostname");
    web
}

#[test]
fn a_pod_is_created_started_watched_stopped_and_shut_down() {
    lane::test(|| {
        let mut pod = Pod::new();
        let pid = pod.run();
        assert_eq!(net(pid), net(pod.network.id()));
        assert_eq!(pod.state(), "SANDBOX_READY");
        let _: Empty = pod.call("PingSandbox").unwrap();
        let platform: PlatformResponse = pod.call("Platform").unwrap();
        assert_eq!(platform.platform.unwrap().os, "linux");
        let metrics: SandboxMetricsResponse = pod.call("SandboxMetrics").unwrap();
        let metrics = metrics.metrics.unwrap();
        assert_eq!(metrics.id, "pod");
        let metrics = Metrics::decode(&*metrics.data.unwrap().value).unwrap();
        assert_eq!(metrics.pids.unwrap().current, 1);
        let waiting = pod.client.send("WaitSandbox", &named("pod"));
        let mut other = pod.client.sandbox();
        let _: Empty = other.call("StopSandbox", &named("pod")).unwrap();
        let exit: WaitResponse = pod.client.receive(waiting).unwrap();
        assert_eq!(exit.exit_status, 137);
        assert_eq!(pod.state(), "SANDBOX_NOTREADY");
        let _: Empty = pod.call("StopSandbox").unwrap();
        assert!(pod.containerd.next_event().is_none(), "it is no task");
        pod.end();
    });
}

#[test]
fn containers_find_the_namespaces_of_their_pod() {
    lane::test(|| {
        let mut pod = Pod::new();
        let pid = pod.run();
        let mut web = container(&pod, pid, "cat /proc/sys/kernel/hostname; sleep 1000");
        let mut stdout = web.stdout();
        let init = web.run();
        assert_eq!(read(&mut stdout, 6), "web-0\n");
        assert_eq!(net(init), net(pid));
        // Process 1 is the pod's: it leaves no zombies of those that come to it.
        web.add_exec("parent", "(exec 3<>/dev/null; sleep 0.01) & exit 0")
            .unwrap();
        web.start("parent").unwrap();
        assert_eq!(web.wait("parent").unwrap(), 0);
        fake::children(pid, &[]);
        // The pod's end is that of its containers.
        let _: Empty = pod.call("StopSandbox").unwrap();
        assert_eq!(web.wait("").unwrap(), 137);
        web.delete("").unwrap();
        pod.end();
    });
}

#[test]
fn a_pod_that_was_never_started_or_still_runs_can_be_shut_down() {
    lane::test(|| {
        for start in [false, true] {
            let mut pod = Pod::new();
            if start {
                pod.run();
            } else {
                pod.create().unwrap();
            }
            pod.end();
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

#[test]
fn a_container_that_is_being_created_keeps_the_shim_of_a_pod_that_is_shut_down() {
    lane::test(|| {
        let mut pod = Pod::new();
        pod.run();
        let address = format!("unix://{}", pod.task.path.display());
        let containerd = Containerd::again(&pod.containerd);
        let mut web = Web::with(containerd, Client::new(3, &address), "web", "exit 4");
        let (begun, fifo) = (web.fifo("begun"), web.fifo("hook"));
        let wait = format!("echo >{}; read x <{}", begun.display(), fifo.display());
        web.config["hooks"] = json!({
            "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", wait]}]
        });
        std::fs::write(web.bundle.join("config.json"), web.config.to_string()).unwrap();
        let creating = web.client.send("Create", &web.request.clone());
        std::fs::read(&begun).unwrap();
        let _: Empty = pod.call("ShutdownSandbox").unwrap();
        std::fs::write(&fifo, "\n").unwrap();
        let _: PidResponse = web.client.receive(creating).unwrap();
        web.start("").unwrap();
        assert_eq!(web.wait("").unwrap(), 4);
        web.delete("").unwrap();
        web.client.shutdown();
        pod.network.kill().unwrap();
        pod.network.wait().unwrap();
    });
}

#[test]
fn a_container_that_is_being_made_when_its_pod_is_stopped_comes_to_nothing() {
    lane::test(|| {
        let mut pod = Pod::new();
        let pid = pod.run();
        let mut web = container(&pod, pid, "sleep 1000");
        let begun = web.fifo("begun");
        let wait = format!("echo >{}; sleep 1000", begun.display());
        web.config["hooks"] = json!({
            "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", wait]}]
        });
        std::fs::write(web.bundle.join("config.json"), web.config.to_string()).unwrap();
        let creating = web.client.send("Create", &web.request.clone());
        std::fs::read(&begun).unwrap();
        let _: Empty = pod.call("StopSandbox").unwrap();
        let refused = web.client.receive::<PidResponse>(creating).unwrap_err();
        assert!(
            refused.message.contains("sandbox pod was stopped"),
            "{}",
            refused.message
        );
        assert_eq!(web.state("").unwrap_err().code, NOT_FOUND);
        assert!(!web.bundle.join("rootfs/bin").exists(), "mounted");
        pod.end();
    });
}

#[test]
fn a_pod_that_is_ended_while_it_is_made_ends_when_it_is() {
    lane::test(|| {
        for method in ["StopSandbox", "ShutdownSandbox"] {
            let mut pod = Pod::new();
            let shim = pod.task.shim_pid();
            // The last thing that a creation writes: it hangs until somebody reads.
            let hold = pod.bundle.join("init.pid");
            let made = Command::new("mkfifo").arg(&hold).status().unwrap();
            assert!(made.success());
            let creating = pod.client.send("CreateSandbox", &pod.request());
            let ping = pod.client.send("PingSandbox", &named("other"));
            assert_eq!(pod.client.next().0, ping, "the creation is under way");
            let mut other = pod.client.sandbox();
            let ending = other.send(method, &named("pod"));
            let _: PlatformResponse = other.call("Platform", &named("other")).unwrap();
            let pid: u32 = std::fs::read_to_string(&hold).unwrap().parse().unwrap();
            pod.client.receive::<Empty>(creating).unwrap();
            other.receive::<Empty>(ending).unwrap();
            fake::gone(pid);
            if method == "StopSandbox" {
                assert_eq!(pod.state(), "SANDBOX_NOTREADY");
                pod.end();
            } else {
                fake::gone(shim);
                pod.network.kill().unwrap();
                pod.network.wait().unwrap();
            }
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

#[test]
fn a_pod_with_a_user_namespace_owns_its_network_and_containers_join_both() {
    lane::test(|| {
        for made_before in [false, true] {
            let mut pod = Pod::new();
            let map = IdMapping {
                host_id: 100_000,
                container_id: 0,
                length: 65_536,
            };
            pod.users = Some(UserNamespace {
                mode: 0,
                uids: vec![map],
                gids: vec![map],
            });
            let users = made_before.then(|| pod.own_network());
            let pid = pod.run();
            let user = format!("/proc/{pid}/ns/user");
            if let Some(users) = users {
                assert_eq!(std::fs::read_link(&user).unwrap(), users);
            }
            let own = std::fs::metadata(format!("/proc/{pid}")).unwrap();
            assert_eq!((own.uid(), own.gid()), (165_535, 165_535));
            let mut web = container(&pod, pid, "cat /proc/self/uid_map; id -u");
            let all = web.config["linux"]["namespaces"].as_array_mut().unwrap();
            all.push(json!({"type": "user", "path": user}));
            let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            web.config["linux"]["uidMappings"] = maps.clone();
            web.config["linux"]["gidMappings"] = maps;
            // It has a sysfs, which only who owns the network may mount.
            for map in ["uidmap=0:100000:65536", "gidmap=0:100000:65536"] {
                web.request.rootfs[0].options.push(map.to_owned());
            }
            let mut stdout = web.stdout();
            web.run();
            assert_eq!(web.wait("").unwrap(), 0);
            web.delete("").unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
            let words: Vec<_> = text.split_whitespace().collect();
            assert_eq!(words, ["0", "100000", "65536", "0"]);
            pod.end();
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

#[test]
fn a_pod_that_can_not_be_created_says_why_and_its_shim_ends() {
    lane::test(|| {
        let mut pod = Pod::new();
        let error = pod
            .call::<StartSandboxResponse>("StartSandbox")
            .unwrap_err();
        assert_eq!(error.code, NOT_FOUND);
        assert_eq!(
            pod.call::<Empty>("PingSandbox").unwrap_err().code,
            NOT_FOUND
        );
        pod.network.kill().unwrap();
        pod.network.wait().unwrap();
        let error = pod.create().unwrap_err();
        assert!(error.message.contains("namespaces"), "{}", error.message);
        pod.end();
    });
}

#[test]
fn what_is_left_of_a_pod_whose_shim_was_killed_is_removed_by_delete() {
    lane::test(|| {
        let mut pod = Pod::new();
        let pid = pod.run();
        fake::kill(pod.task.shim_pid());
        pod.containerd.delete("pod", &pod.bundle);
        fake::gone(pid);
        let rootfs = std::fs::read_dir(pod.bundle.join("rootfs")).unwrap();
        assert_eq!(rootfs.count(), 0);
        pod.network.kill().unwrap();
        pod.network.wait().unwrap();
    });
}
