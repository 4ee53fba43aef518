//! `corten check`, seen as a command; what it finds is tested with the library.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::json;

use crate::check::checks;
use crate::lab::Lab;
use crate::wait;

checks!("check":
    a_caller_that_is_not_root_may_map_its_subordinate_ids_only,
);

/// A file of the machine that is another one for a while.
struct Instead(PathBuf);

impl Instead {
    fn of(lab: &Lab, path: &str, text: &str) -> Self {
        let name = path.replace('/', "-");
        let file = lab.folder().join(name);
        std::fs::write(&file, text).expect("the lab is writable");
        mount_bind(&file, path).expect("root may, in the lane");
        Self(path.into())
    }
}

impl Drop for Instead {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::empty()).expect("it is mounted");
    }
}

fn a_caller_that_is_not_root_may_map_its_subordinate_ids_only(lab: &Lab) {
    // No other runtime has the command.
    if !lab.is_corten() || !Path::new("/etc/subuid").exists() {
        return;
    }
    let mut bundle = lab.bundle_of(&["true"]);
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let maps = json!([
        {"containerID": 0, "hostID": 4321, "size": 1},
        {"containerID": 1, "hostID": 700_000, "size": 1000},
    ]);
    bundle.config["linux"]["uidMappings"] = maps.clone();
    bundle.config["linux"]["gidMappings"] = maps;
    bundle.write().expect("the lab is writable");
    let told = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=4321", "--regid=4321", "--clear-groups", "--"]);
        command
            .arg(lab.runtime.program())
            .args(["check", "--bundle"]);
        command.arg(bundle.path());
        let output = lab.runtime.spawn(command).finish(wait::CALL);
        let lines = output.stdout();
        let lines = lines.lines().filter(|line| line.contains("Mappings["));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let uids = Instead::of(lab, "/etc/subuid", "4321:700000:500\n4321:700500:500\n");
    let gids = Instead::of(lab, "/etc/subgid", "4321:700000:999\nother:700000:1000\n");
    let expected = "error: linux.gidMappings[1].hostID: host ids 700000-700999: neither the \
                    caller's own gid 4321 nor among its subordinate ones (/etc/subgid)";
    assert_eq!(told(), [expected]);
    drop((uids, gids));
    let _uids = Instead::of(lab, "/etc/subuid", "");
    let _gids = Instead::of(lab, "/etc/subgid", "4321:600000:200000\n");
    let expected = "error: linux.uidMappings[1].hostID: host ids 700000-700999: neither the \
                    caller's own uid 4321 nor among its subordinate ones (/etc/subuid)";
    assert_eq!(told(), [expected]);
}
