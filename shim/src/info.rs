//! `-v` and `-info`: what this is.

use std::io::{Read as _, Write as _};

use corten_core::features;
use corten_core::host::Host;
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
    let host = Host::probe()?;
    let info = RuntimeInfo {
        name: NAME.to_owned(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("CORTEN_COMMIT").to_owned(),
        }),
        options,
        features: Some(Any {
            type_url: FEATURES.to_owned(),
            value: features(&host).to_string().into_bytes(),
        }),
    };
    print(&info.encode_to_vec())
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::call("stdout", error))
}
