//! Containers as containerd asks for them: bundles with busybox, fifos, requests.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use corten_conformance::wait;
use corten_core::spec;
use corten_shim::proto::Any;
use corten_shim::proto::Empty;
use corten_shim::proto::events::{TaskDelete, TaskExit};
use corten_shim::proto::rpc::Status;
use corten_shim::proto::task::{
    CreateTaskRequest, DeleteResponse, ExecProcessRequest, KillRequest, Mount, PidResponse,
    StateResponse, WaitResponse,
};
use prost::Message as _;
use serde_json::{Value, json};

use super::{Client, Containerd, Event, Version};

/// `containerd.v1.types.Status`.
pub(crate) const CREATED: i32 = 1;
pub(crate) const RUNNING: i32 = 2;
pub(crate) const STOPPED: i32 = 3;
pub(crate) const PAUSED: i32 = 4;
pub(crate) const DEADLINE_EXCEEDED: i32 = 4;
pub(crate) const NOT_FOUND: i32 = 5;
pub(crate) const ALREADY_EXISTS: i32 = 6;
pub(crate) const RESOURCE_EXHAUSTED: i32 = 8;
pub(crate) const FAILED_PRECONDITION: i32 = 9;

/// One container with all that belongs to it.
pub(crate) struct Web {
    pub(crate) containerd: Containerd,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) client: Client,
    pub(crate) config: Value,
    pub(crate) request: CreateTaskRequest,
}

impl Web {
    /// A container that runs this in a shell; nothing of it is made yet.
    pub(crate) fn new(script: &str) -> Web {
        Web::of(Containerd::new(Version::Json), "web", script)
    }

    pub(crate) fn of(containerd: Containerd, id: &str, script: &str) -> Web {
        let bundle = containerd.bundle(id, &[]);
        let client = containerd.connect(id, &bundle);
        Web::with(containerd, client, id, script)
    }

    /// One more container in the shim of this client.
    pub(crate) fn with(containerd: Containerd, client: Client, id: &str, script: &str) -> Web {
        let bundle = containerd.bundle(id, &[]);
        let text = spec::to_json(&spec::default_spec());
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["root"] = json!({"path": "rootfs"});
        let image = image(&containerd.folder);
        let request = CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.display().to_string(),
            rootfs: vec![overlay(&image, &bundle)],
            ..CreateTaskRequest::default()
        };
        Web {
            containerd,
            id: id.to_owned(),
            bundle,
            client,
            config,
            request,
        }
    }

    pub(crate) fn create(&mut self) -> Result<u32, Status> {
        let path = self.bundle.join("config.json");
        std::fs::write(path, self.config.to_string()).unwrap();
        let request = self.request.clone();
        let answer: PidResponse = self.client.call("Create", &request)?;
        Ok(answer.pid)
    }

    /// Calls a method for the container or an exec of it, and does not wait for the answer.
    pub(crate) fn ask(&mut self, method: &str, exec: &str) -> u32 {
        self.client.ask(method, &self.id, exec)
    }

    pub(crate) fn start(&mut self, exec: &str) -> Result<u32, Status> {
        let answer: PidResponse = self.client.name("Start", &self.id, exec)?;
        Ok(answer.pid)
    }

    /// Create and Start.
    #[track_caller]
    pub(crate) fn run(&mut self) -> u32 {
        let pid = self.create().unwrap();
        assert_eq!(self.start("").unwrap(), pid);
        pid
    }

    pub(crate) fn wait(&mut self, exec: &str) -> Result<u32, Status> {
        let answer: WaitResponse = self.client.name("Wait", &self.id, exec)?;
        Ok(answer.exit_status)
    }

    pub(crate) fn state(&mut self, exec: &str) -> Result<StateResponse, Status> {
        self.client.name("State", &self.id, exec)
    }

    pub(crate) fn delete(&mut self, exec: &str) -> Result<DeleteResponse, Status> {
        self.client.name("Delete", &self.id, exec)
    }

    pub(crate) fn kill(&mut self, exec: &str, signal: u32, all: bool) -> Result<Empty, Status> {
        let request = KillRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            signal,
            all,
        };
        self.client.call("Kill", &request)
    }

    pub(crate) fn add_exec(&mut self, exec: &str, script: &str) -> Result<Empty, Status> {
        self.add_exec_to(exec, script, "")
    }

    /// An exec with this as stdout.
    pub(crate) fn add_exec_to(
        &mut self,
        exec: &str,
        script: &str,
        stdout: &str,
    ) -> Result<Empty, Status> {
        let process = json!({
            "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0}
        });
        let request = ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
            stdout: stdout.to_owned(),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: process.to_string().into_bytes(),
            }),
            ..ExecProcessRequest::default()
        };
        self.client.call("Exec", &request)
    }

    /// The topics of the next events.
    #[track_caller]
    pub(crate) fn topics(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.containerd.event().topic).collect()
    }

    /// How many descriptors the shim has once its threads have gone.
    pub(crate) fn descriptors(&mut self) -> usize {
        let shim = self.client.shim_pid();
        let count = |name: &str| {
            let all = std::fs::read_dir(format!("/proc/{shim}/{name}"));
            all.unwrap().count()
        };
        let one = || (count("task") == 1).then_some(());
        assert!(wait::until(super::LIMIT, one).is_some());
        count("fd")
    }

    /// A fifo in the bundle.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.bundle.join(name);
        let status = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(status.success());
        path
    }

    /// Sends stdout to a fifo, whose reading end this is.
    pub(crate) fn stdout(&mut self) -> File {
        let path = self.fifo("stdout");
        self.request.stdout = path.display().to_string();
        // Both ends, so that the opening needs nobody; the writing one must not stay.
        open_reader(&path)
    }

    /// A program for `binary://`.
    pub(crate) fn logger(&self, script: &str) -> String {
        // Only in a query a plus is a space.
        let path = self.containerd.folder.join("logger+");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        format!("binary://{}", path.display())
    }

    /// Kills what runs, deletes, and ends the shim.
    pub(crate) fn end(mut self) {
        self.kill("", 9, true).unwrap();
        self.wait("").unwrap();
        self.delete("").unwrap();
        assert_eq!(
            std::fs::read_dir(self.bundle.join("rootfs"))
                .unwrap()
                .count(),
            0
        );
        self.client.shutdown();
    }
}

/// The reading end of a fifo that nobody writes to yet.
pub(crate) fn open_reader(path: &Path) -> File {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .unwrap();
    rustix::io::ioctl_fionbio(&file, false).unwrap();
    file
}

const O_NONBLOCK: i32 = 0o4000;

/// Reads this much.
pub(crate) fn read(file: &mut File, length: usize) -> String {
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// A root file system with busybox, made once.
fn image(folder: &Path) -> PathBuf {
    let image = folder.join("image");
    if !image.exists() {
        for name in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            std::fs::create_dir_all(image.join(name)).unwrap();
        }
        let busybox = image.join("bin/busybox");
        std::fs::copy("/bin/busybox", &busybox).unwrap();
        for name in [
            "sh", "sleep", "echo", "cat", "true", "head", "seq", "id", "stty",
        ] {
            std::os::unix::fs::symlink("busybox", image.join("bin").join(name)).unwrap();
        }
    }
    image
}

/// What the overlayfs snapshotter asks for.
pub(crate) fn overlay(image: &Path, bundle: &Path) -> Mount {
    let (upper, work) = (bundle.join("upper"), bundle.join("work"));
    std::fs::create_dir_all(&upper).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    Mount {
        r#type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: String::new(),
        options: vec![
            "index=off".to_owned(),
            format!("workdir={}", work.display()),
            format!("upperdir={}", upper.display()),
            format!("lowerdir={}", image.display()),
        ],
    }
}

impl Event {
    /// The exit that this tells.
    #[track_caller]
    pub(crate) fn exit(&self) -> TaskExit {
        assert_eq!(self.topic, "/tasks/exit");
        assert_eq!(self.body.type_url, "containerd.events.TaskExit");
        TaskExit::decode(&*self.body.value).unwrap()
    }

    #[track_caller]
    pub(crate) fn delete(&self) -> TaskDelete {
        assert_eq!(self.topic, "/tasks/delete");
        TaskDelete::decode(&*self.body.value).unwrap()
    }
}
