//! `-v` and `-info`: what this is.

use std::io::{Read as _, Write as _};

use prost::Message as _;

use crate::failure::Failure;
use crate::proto::Any;
use crate::proto::bootstrap::{RuntimeInfo, RuntimeVersion};

/// The runtime's name as containerd knows it.
const NAME: &str = "io.containerd.corten.v2";

/// How Go's typeurl names the JSON of the runtime specification's features.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// `-v`: text for people.
pub(crate) fn version() -> Result<(), Failure> {
    let text = format!(
        "containerd-shim-corten-v2:\n  Version:  {}\n  Revision: {}\n",
        env!("CARGO_PKG_VERSION"),
        env!("CORTEN_COMMIT")
    );
    print(text.as_bytes())
}

/// `-info`: a `RuntimeInfo` on stdout; runtime options, or nothing, are on stdin.
pub(crate) fn info() -> Result<(), Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::call("stdin", error))?;
    let options = match bytes.as_slice() {
        [] => None,
        bytes => {
            let options = Any::decode(bytes);
            Some(options.map_err(|error| Failure::invalid(format!("runtime options: {error}")))?)
        }
    };
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("CORTEN_COMMIT").to_owned(),
        }),
        options,
        features: Some(Any {
            type_url: FEATURES.to_owned(),
            value: features().to_string().into_bytes(),
        }),
    };
    print(&info.encode_to_vec())
}

/// What containerd looks at: idmapped and recursive mounts, user namespaces.
fn features() -> serde_json::Value {
    serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "mountOptions": [
            "bind", "rbind", "ro", "rw", "rro", "rrw", "nosuid", "rnosuid", "nodev", "rnodev",
            "noexec", "rnoexec", "noatime", "rnoatime", "nodiratime", "rnodiratime", "relatime",
            "rrelatime", "strictatime", "rstrictatime", "nosymfollow", "rnosymfollow", "idmap",
            "ridmap", "private", "rprivate", "shared", "rshared", "slave", "rslave",
            "unbindable", "runbindable", "tmpcopyup"
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "cgroup": {"v1": false, "v2": true, "systemd": true, "systemdUser": true},
            "seccomp": {"enabled": true},
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true}
        }
    })
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::call("stdout", error))
}
