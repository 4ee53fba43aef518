//! A bundle: the folder that containerd makes for a container, and what the shim keeps there.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::proto::Any;
use crate::proto::options::{Options, Wrapper};

/// Where the state of containers is if the options do not say. Not the Go shim's folder:
/// runc could not read what is in it.
const ROOT: &str = "/run/containerd/corten";

/// The options of a creation, as they are kept for `delete`.
const OPTIONS: &str = "options.json";

/// Written as JSON by containerd 2, and as plain text by `start`.
const ADDRESSES: [&str; 2] = ["bootstrap.json", "address"];

/// The process id of the container's first process.
pub(crate) const INIT_PID: &str = "init.pid";

/// Reads the options of a creation; containerd sends none, runc's, or a wrapper of TOML.
pub(crate) fn options(any: Option<&Any>) -> Result<Options, Failure> {
    use prost::Message as _;

    let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
        return Ok(Options::default());
    };
    let wrong = |error| Failure::invalid(format!("{}: {error}", any.type_url));
    if any.is("containerd.runc.v1.Options") {
        return Options::decode(&*any.value).map_err(wrong);
    }
    if any.is("runtimeoptions.v1.Options") {
        let wrapper = Wrapper::decode(&*any.value).map_err(wrong)?;
        let text = if wrapper.config_body.is_empty() && !wrapper.config_path.is_empty() {
            std::fs::read_to_string(&wrapper.config_path)
                .map_err(|error| Failure::call(&wrapper.config_path, error))?
        } else {
            String::from_utf8_lossy(&wrapper.config_body).into_owned()
        };
        return from_toml(&text);
    }
    Err(Failure::invalid(format!(
        "runtime options of unknown type {}",
        any.type_url
    )))
}

/// The lines `Key = value` that CRI's configuration has for runc: flat, without arrays.
fn from_toml(text: &str) -> Result<Options, Failure> {
    let mut options = Options::default();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '[']) {
            continue;
        }
        let wrong = || Failure::invalid(format!("runtime options: {line}"));
        let (key, value) = line.split_once('=').ok_or_else(wrong)?;
        let value = value.trim();
        let word = value.trim_matches(['"', '\'']).to_owned();
        let switch = || value.parse::<bool>().map_err(|_| wrong());
        let number = || value.parse::<u32>().map_err(|_| wrong());
        match key.trim() {
            "NoPivotRoot" => options.no_pivot_root = switch()?,
            "NoNewKeyring" => options.no_new_keyring = switch()?,
            "ShimCgroup" => options.shim_cgroup = word,
            "IoUid" => options.io_uid = number()?,
            "IoGid" => options.io_gid = number()?,
            "BinaryName" => options.binary_name = word,
            "Root" => options.root = word,
            "SystemdCgroup" => options.systemd_cgroup = switch()?,
            // Checkpoints, and what a newer containerd knows.
            _ => log::debug!("runtime options: {line}"),
        }
    }
    Ok(options)
}

/// Where containerd notes the program of a shim; without it, it looks for one of the runtime's name.
const PROGRAM: &str = "shim-binary-path";

/// Notes the program of this shim, whose own bundle is `own`, for one more container of its pod.
///
/// containerd 2 connects such a container with the shim and notes nothing. For a runtime that is
/// set by `runtime_path` it would look for another shim when it starts again: without one it
/// takes the container for ended and removes its bundle, with one it would have that clean up.
pub(crate) fn name_program(own: &Path, bundle: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let Ok(program) = std::fs::read(own.join(PROGRAM)) else {
        return Ok(());
    };
    let path = bundle.join(PROGRAM);
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        file => file.and_then(|mut file| io::Write::write_all(&mut file, &program)),
    }
    .map_err(|error| Failure::call(path.display(), error))
}

/// Where containers of this namespace have their state.
pub(crate) fn state_root(options_root: &str, namespace: &str) -> PathBuf {
    let root = if options_root.is_empty() {
        ROOT
    } else {
        options_root
    };
    Path::new(root).join(namespace)
}

/// Keeps the options for `delete`, which may be another process after this one was killed.
pub(crate) fn keep(bundle: &Path, options: &Options) -> Result<(), Failure> {
    let value = json!({
        "no_pivot_root": options.no_pivot_root,
        "no_new_keyring": options.no_new_keyring,
        "shim_cgroup": options.shim_cgroup,
        "io_uid": options.io_uid,
        "io_gid": options.io_gid,
        "binary_name": options.binary_name,
        "root": options.root,
        "systemd_cgroup": options.systemd_cgroup,
    });
    let path = bundle.join(OPTIONS);
    std::fs::write(&path, value.to_string()).map_err(|error| Failure::call(path.display(), error))
}

/// The options that [`keep`] kept; none if it did not.
pub(crate) fn kept(bundle: &Path) -> Result<Options, Failure> {
    let path = bundle.join(OPTIONS);
    let value: Value = match std::fs::read(&path) {
        // A shim that was killed while it wrote had created nothing.
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Value::Null,
        Err(error) => return Err(Failure::call(path.display(), error)),
    };
    let word = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let switch = |name: &str| value[name].as_bool().unwrap_or_default();
    let number = |name: &str| value[name].as_u64().and_then(|n| u32::try_from(n).ok());
    Ok(Options {
        no_pivot_root: switch("no_pivot_root"),
        no_new_keyring: switch("no_new_keyring"),
        shim_cgroup: word("shim_cgroup"),
        io_uid: number("io_uid").unwrap_or_default(),
        io_gid: number("io_gid").unwrap_or_default(),
        binary_name: word("binary_name"),
        root: word("root"),
        systemd_cgroup: switch("systemd_cgroup"),
    })
}

/// The address of the shim as containerd noted it.
pub(crate) fn shim_address(bundle: &Path) -> Option<String> {
    ADDRESSES.iter().find_map(|name| {
        let text = std::fs::read_to_string(bundle.join(name)).ok()?;
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let noted = value.and_then(|value| value["address"].as_str().map(str::to_owned));
        Some(noted.unwrap_or(text))
    })
}

/// The annotations of config.json that say which containers share a shim, in this order.
const GROUPS: [&str; 2] = [
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

/// The group of the container in this bundle; its own id without an annotation.
pub(crate) fn group(bundle: &Path, id: &str) -> Result<String, Failure> {
    #[derive(serde::Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: Option<std::collections::BTreeMap<String, String>>,
    }
    let path = bundle.join("config.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        // A sandbox, whose containers have its id in their annotations.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(id.to_owned()),
        Err(error) => return Err(Failure::call(path.display(), error)),
    };
    let config: Annotated = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::invalid(format!("{}: {error}", path.display())))?;
    let mut annotations = config.annotations.unwrap_or_default();
    let group = GROUPS.iter().find_map(|name| annotations.remove(*name));
    Ok(group.unwrap_or_else(|| id.to_owned()))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn options_are_read_as_they_were_kept() {
        let folder = std::env::temp_dir().join(format!("corten-kept-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(kept(&folder).unwrap(), Options::default());
        let options = Options {
            no_pivot_root: true,
            no_new_keyring: true,
            shim_cgroup: "/a".to_owned(),
            io_uid: 1,
            io_gid: 2,
            binary_name: "b".to_owned(),
            root: "/c".to_owned(),
            systemd_cgroup: true,
        };
        keep(&folder, &options).unwrap();
        assert_eq!(kept(&folder).unwrap(), options);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn options_of_cri_come_as_toml_in_a_wrapper() {
        let wrapper = Wrapper {
            type_url: String::new(),
            config_path: String::new(),
            config_body: b"BinaryName = \"/usr/bin/x\"\n# no\nSystemdCgroup = true\nIoUid = 7\n"
                .to_vec(),
        };
        let any = Any {
            type_url: "runtimeoptions.v1.Options".to_owned(),
            value: wrapper.encode_to_vec(),
        };
        let options = options(Some(&any)).unwrap();
        assert_eq!(options.binary_name, "/usr/bin/x");
        assert!(options.systemd_cgroup);
        assert_eq!(options.io_uid, 7);
    }

    #[test]
    fn no_options_and_runcs_are_taken_and_others_are_not() {
        assert_eq!(options(None).unwrap(), Options::default());
        let runc = Options {
            no_new_keyring: true,
            ..Options::default()
        };
        let any = Any::pack("containerd.runc.v1.Options", &runc);
        assert_eq!(options(Some(&any)).unwrap(), runc);
        let other = Any::pack("x.Options", &runc);
        assert!(
            options(Some(&other))
                .unwrap_err()
                .text
                .contains("x.Options")
        );
    }
}
