//! `start`: a shim for this container, new or its group's, and its address on stdout.
//!
//! containerd reads stdout and stderr together, so nothing but the answer is printed; and it
//! reads to the end, so the daemon gets neither.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use prost::Message as _;
use rustix::process::getppid;

use crate::args::Args;
use crate::bundle;
use crate::caller;
use crate::failure::Failure;
use crate::proto::Any;
use crate::proto::bootstrap::{BootstrapParams, BootstrapResult};
use crate::proto::options::Options;
use crate::socket::{self, Bound, Leave};

/// How containerd asks, and so how it wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// containerd 1.6: the bare address.
    Plain,
    /// containerd 1.7 to 2.2: JSON, with the version of the Task service to be used.
    Json(i32),
    /// containerd 2.3 and newer: protobuf both ways.
    Protobuf,
}

/// What containerd wants.
#[derive(Debug, PartialEq)]
struct Wanted {
    form: Form,
    options: Options,
    /// Where the daemon sends events.
    events: String,
    sockets: PathBuf,
    debug: bool,
}

pub(crate) fn start(args: &Args) -> Result<(), Failure> {
    let mut stdin = Vec::new();
    std::io::stdin()
        .read_to_end(&mut stdin)
        .map_err(|error| Failure::call("stdin", error))?;
    let env = |name: &str| std::env::var(name).ok();
    let wanted = wanted(args, &stdin, env, || {
        caller::is_containerd_2(&args.containerd)
    })?;
    let bundle = Path::new(".");
    let group = bundle::group(bundle, &args.id)?;
    // For a sandbox, whose creation is not told them, and for `delete`.
    bundle::keep(bundle, &wanted.options)?;
    let path = socket::path(&wanted.sockets, &args.address, &args.namespace, &group);
    let address = format!("unix://{}", path.display());
    if let Bound::New(listener) = socket::bind(&path)? {
        let launched = launch(args, &wanted, &listener);
        if let Err(failure) = launched {
            socket::leave(&listener, &path, Leave::Always)?;
            return Err(failure);
        }
    }
    // Up to 1.7 containerd finds the shim by this file after a restart; `delete` does too.
    std::fs::write(bundle.join("address"), &address)
        .map_err(|error| Failure::call("address", error))?;
    let mut out = std::io::stdout();
    out.write_all(&answer(wanted.form, address))
        .and_then(|()| out.flush())
        .map_err(|error| Failure::call("stdout", error))
}

/// Tells the forms of asking apart; `env` looks into the environment, `is_2` at the caller.
fn wanted(
    args: &Args,
    stdin: &[u8],
    env: impl Fn(&str) -> Option<String>,
    is_2: impl Fn() -> bool,
) -> Result<Wanted, Failure> {
    // Both are protobuf, so one can be read as the other; the names decide.
    let params = BootstrapParams::decode(stdin)
        .ok()
        .filter(|params| params.instance_id == args.id && params.namespace == args.namespace);
    if let Some(params) = params {
        let mut options = Options::default();
        for any in params.extensions.iter().filter_map(|e| e.value.as_ref()) {
            if any.is("containerd.runc.v1.Options") || any.is("runtimeoptions.v1.Options") {
                options = bundle::options(Some(any))?;
            }
        }
        return Ok(Wanted {
            form: Form::Protobuf,
            options,
            events: Some(params.containerd_ttrpc_address)
                .filter(|address| !address.is_empty())
                .or_else(|| env("TTRPC_ADDRESS"))
                .unwrap_or_default(),
            sockets: sockets(params.socket_dir, &env),
            debug: args.debug || params.log_level < 0,
        });
    }
    let options = match stdin {
        [] => Options::default(),
        bytes => {
            let any = Any::decode(bytes)
                .map_err(|error| Failure::invalid(format!("runtime options: {error}")))?;
            bundle::options(Some(&any))?
        }
    };
    // From 1.7 on all of these are set, and repeat the command line. 1.6 sets no variable but
    // TTRPC_ADDRESS: what it has of the others is of its own surroundings.
    let is_newer = env("MAX_SHIM_VERSION").is_some()
        && env("NAMESPACE").as_ref() == Some(&args.namespace)
        && env("GRPC_ADDRESS").as_ref() == Some(&args.address);
    let form = if is_newer {
        Form::Json(if is_2() { 3 } else { 2 })
    } else {
        Form::Plain
    };
    Ok(Wanted {
        form,
        options,
        events: env("TTRPC_ADDRESS").unwrap_or_default(),
        sockets: sockets(None, &env),
        debug: args.debug,
    })
}

/// Where sockets are: as it was asked, or as containerd says to shims of before that.
fn sockets(asked: Option<String>, env: impl Fn(&str) -> Option<String>) -> PathBuf {
    [asked, env("SHIM_SOCKET_DIR")]
        .into_iter()
        .flatten()
        .find(|directory| !directory.is_empty())
        .unwrap_or_else(|| socket::DIRECTORY.to_owned())
        .into()
}

fn answer(form: Form, address: String) -> Vec<u8> {
    match form {
        Form::Plain => address.into_bytes(),
        Form::Json(version) => {
            serde_json::json!({"version": version, "address": address, "protocol": "ttrpc"})
                .to_string()
                .into_bytes()
        }
        Form::Protobuf => BootstrapResult {
            version: 3,
            address,
            protocol: "ttrpc".to_owned(),
        }
        .encode_to_vec(),
    }
}

/// Starts the daemon, with the listening socket as its stdin.
fn launch(args: &Args, wanted: &Wanted, listener: &UnixListener) -> Result<(), Failure> {
    if std::env::var_os("SCHED_CORE").is_some() {
        use rustix::thread::{CoreSchedulingScope, create_core_scheduling_cookie};
        create_core_scheduling_cookie(rustix::process::getpid(), CoreSchedulingScope::ProcessGroup)
            .map_err(|errno| Failure::call("core scheduling", errno))?;
    }
    let listener = listener
        .try_clone()
        .map_err(|error| Failure::call("listening socket", error))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("containerd-shim-corten-v2")
        .args(["-namespace", &args.namespace, "-id", &args.id])
        .args(["-address", &args.address])
        .args(wanted.debug.then_some("-debug"))
        .env("TTRPC_ADDRESS", &wanted.events)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let mut daemon = command
        .spawn()
        .map_err(|error| Failure::call("starting the shim", error))?;
    let adjusted = place(&wanted.options, &daemon);
    if adjusted.is_err() {
        // Its end is not waited for: it dies with nothing done, and init reaps it.
        daemon
            .kill()
            .map_err(|error| Failure::call("killing the shim", error))?;
    }
    adjusted
}

/// Puts the daemon into its cgroup, and makes it a later victim of the OOM killer than
/// containers.
fn place(options: &Options, daemon: &Child) -> Result<(), Failure> {
    if !options.shim_cgroup.is_empty() {
        let relative = options.shim_cgroup.trim_start_matches('/');
        let procs = Path::new("/sys/fs/cgroup")
            .join(relative)
            .join("cgroup.procs");
        std::fs::write(&procs, daemon.id().to_string())
            .map_err(|error| Failure::call(procs.display(), error))?;
    }
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let score = std::fs::read_to_string(format!("/proc/{parent}/oom_score_adj"))
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
        .unwrap_or(0);
    let score = score.saturating_add(1).min(1000);
    let path = format!("/proc/{}/oom_score_adj", daemon.id());
    match std::fs::write(&path, score.to_string()) {
        // Without the privilege to lower it the daemon keeps the score that it inherited.
        Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
            Err(Failure::call(path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::bootstrap::Extension;

    fn args() -> Args {
        Args {
            namespace: "default".to_owned(),
            id: "web".to_owned(),
            address: "/run/c.sock".to_owned(),
            ..Args::default()
        }
    }

    fn options() -> Any {
        let options = Options {
            shim_cgroup: "/shims".to_owned(),
            ..Options::default()
        };
        Any::pack("containerd.runc.v1.Options", &options)
    }

    const MODERN: [(&str, &str); 4] = [
        ("MAX_SHIM_VERSION", "2"),
        ("TTRPC_ADDRESS", "/run/c.sock.ttrpc"),
        ("GRPC_ADDRESS", "/run/c.sock"),
        ("NAMESPACE", "default"),
    ];

    fn variable(all: &[(&str, &str)], name: &str) -> Option<String> {
        let found = all.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    }

    fn modern(name: &str) -> Option<String> {
        variable(&MODERN, name)
    }

    #[test]
    fn containerd_1_6_is_known_by_its_poor_environment() {
        // What a pod's manifest or a systemd unit may well set.
        let others: [&[(&str, &str)]; 5] = [
            &[],
            &[("NAMESPACE", "kube-system")],
            &[("GRPC_ADDRESS", "0.0.0.0:50051")],
            &[("NAMESPACE", "default"), ("GRPC_ADDRESS", "/run/c.sock")],
            &[("MAX_SHIM_VERSION", "2"), ("NAMESPACE", "kube-system")],
        ];
        for other in others {
            let env = |name: &str| variable(&[&MODERN[1..2], other].concat(), name);
            let wanted = wanted(&args(), &[], env, || true).unwrap();
            assert_eq!(wanted.form, Form::Plain, "{other:?}");
        }
        assert_eq!(answer(Form::Plain, "unix:///x".to_owned()), b"unix:///x");
    }

    #[test]
    fn sockets_are_where_the_parameters_or_the_environment_say() {
        let asked = |asked: &str, set: &str| {
            let set = set.to_owned();
            sockets(Some(asked.to_owned()), |_| Some(set.clone()))
        };
        assert_eq!(asked("/a", "/b"), Path::new("/a"));
        assert_eq!(asked("", "/b"), Path::new("/b"));
        assert_eq!(asked("", ""), Path::new(socket::DIRECTORY));
    }

    #[test]
    fn options_on_stdin_are_read_and_answered_with_json() {
        // 1.7 refuses version 3.
        for (is_2, version) in [(false, 2), (true, 3)] {
            let stdin = options().encode_to_vec();
            let wanted = wanted(&args(), &stdin, modern, || is_2).unwrap();
            assert_eq!(wanted.form, Form::Json(version));
            assert_eq!(wanted.options.shim_cgroup, "/shims");
            let answer = answer(wanted.form, "unix:///x".to_owned());
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["version"], version);
            assert_eq!(answer["protocol"], "ttrpc");
        }
    }

    #[test]
    fn parameters_of_containerd_2_3_are_told_from_options_by_their_names() {
        let params = BootstrapParams {
            instance_id: "web".to_owned(),
            namespace: "default".to_owned(),
            containerd_ttrpc_address: "/run/c.sock.ttrpc".to_owned(),
            extensions: vec![Extension {
                value: Some(options()),
            }],
            socket_dir: Some("/run/other".to_owned()),
            ..BootstrapParams::default()
        };
        let wanted = wanted(&args(), &params.encode_to_vec(), modern, || true).unwrap();
        assert_eq!(wanted.form, Form::Protobuf);
        assert_eq!(wanted.options.shim_cgroup, "/shims");
        assert_eq!(wanted.sockets, Path::new("/run/other"));
        assert_eq!(wanted.events, "/run/c.sock.ttrpc");
        let answer = answer(wanted.form, "unix:///x".to_owned());
        let result = BootstrapResult::decode(&*answer).unwrap();
        assert_eq!((result.version, &*result.address), (3, "unix:///x"));
    }
}
