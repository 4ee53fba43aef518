//! How a shim begins and ends: `start` in all forms, sockets, groups, `delete`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::fake::container::{RUNNING, Web};
use crate::fake::{self, Client, Containerd, Version, kill, run, shim};
use corten_conformance::lane;
use corten_shim::proto::bootstrap::RuntimeInfo;
use corten_shim::proto::task::ConnectResponse;
use corten_shim::proto::{Any, Empty};
use prost::Message as _;

#[test]
fn each_containerd_gets_an_answer_that_it_understands() {
    lane::test(|| {
        for (version, service) in [
            (Version::Old, 2),
            (Version::Json, 2),
            (Version::Two, 3),
            (Version::Protobuf, 3),
        ] {
            let containerd = Containerd::new(version);
            let bundle = containerd.bundle("web", &[]);
            let (said, address) = containerd.start("web", &bundle);
            assert_eq!(said, service);
            assert!(
                address.starts_with("unix:///run/containerd/s/"),
                "{address}"
            );
            // What containerd up to 1.7 looks for after a restart.
            let noted = std::fs::read_to_string(bundle.join("address")).unwrap();
            assert_eq!(noted, address);
            // Both services are there, whatever was said.
            for service in [2, 3] {
                let pid = Client::new(service, &address).shim_pid();
                let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
                assert_eq!(exe, Path::new(shim()));
            }
            Client::new(2, &address).shutdown();
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

#[test]
fn containerd_2_gets_json_with_version_3_and_calls_the_task_service_of_that() {
    lane::test(|| {
        let containerd = Containerd::new(Version::Two);
        let bundle = containerd.bundle("web", &[]);
        let (version, address) = containerd.start("web", &bundle);
        assert_eq!(version, 3);
        let noted = std::fs::read_to_string(bundle.join("bootstrap.json")).unwrap();
        let noted: serde_json::Value = serde_json::from_str(&noted).unwrap();
        let expected = serde_json::json!({
            "version": 3, "address": address, "protocol": "ttrpc"
        });
        assert_eq!(noted, expected);
        // Its calls name the service of that version, see the client.
        let client = Client::new(version, &address);
        let mut web = Web::with(containerd, client, "web", "read x; exit 3");
        let stdin = web.fifo("stdin");
        web.request.stdin = stdin.display().to_string();
        web.run();
        assert_eq!(web.state("").unwrap().status, RUNNING);
        web.add_exec("one", "exit 4").unwrap();
        web.start("one").unwrap();
        assert_eq!(web.wait("one").unwrap(), 4);
        web.delete("one").unwrap();
        std::fs::write(&stdin, "\n").unwrap();
        assert_eq!(web.wait("").unwrap(), 3);
        web.delete("").unwrap();
        let expected = [
            "create",
            "start",
            "exec-added",
            "exec-started",
            "exit",
            "exit",
            "delete",
        ];
        let expected = expected.map(|name| format!("/tasks/{name}"));
        assert_eq!(web.topics(7), expected);
        web.client.shutdown();
        let done = web.containerd.delete("web", &web.bundle);
        assert_eq!(done.exit_status, 137, "it runs behind each end");
    });
}

#[test]
fn sockets_are_where_containerd_2_3_wants_them() {
    lane::test(|| {
        let mut containerd = Containerd::new(Version::Protobuf);
        containerd.sockets = Some("/run/elsewhere".into());
        let bundle = containerd.bundle("web", &[]);
        let client = containerd.connect("web", &bundle);
        assert!(client.path.starts_with("/run/elsewhere"));
        client.shutdown();
    });
}

#[test]
fn a_socket_is_for_its_owner_and_goes_with_its_shim() {
    lane::test(|| {
        let containerd = Containerd::new(Version::Json);
        let bundle = containerd.bundle("web", &[]);
        let client = containerd.connect("web", &bundle);
        let path = client.path.clone();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        client.shutdown();
        assert!(!path.exists());
    });
}

#[test]
fn containers_of_a_pod_share_a_shim_and_others_do_not() {
    lane::test(|| {
        let containerd = Containerd::new(Version::Json);
        let pod = [("io.kubernetes.cri.sandbox-id", "pod")];
        let first = containerd.bundle("first", &pod);
        let second = containerd.bundle("second", &pod);
        let other = containerd.bundle("other", &[]);
        let mut one = containerd.connect("first", &first);
        let mut two = containerd.connect("second", &second);
        let mut three = containerd.connect("other", &other);
        assert_eq!(one.shim_pid(), two.shim_pid());
        assert_ne!(one.shim_pid(), three.shim_pid());
        // The end of one connection is nothing to the others.
        drop(one);
        two.shim_pid();
        two.shutdown();
        three.shutdown();
    });
}

#[test]
fn containerd_finds_the_program_of_a_shim_by_each_container_of_a_pod() {
    lane::test(|| {
        let mut first = Web::of(Containerd::new(Version::Json), "first", "sleep 1000");
        // containerd does that, but not for a container that it connects with the shim itself.
        let program = first.bundle.join("shim-binary-path");
        std::fs::write(&program, shim()).unwrap();
        first.run();
        let address = format!("unix://{}", first.client.path.display());
        let client = Client::new(3, &address);
        let mut second = Web::with(first.containerd.again(), client, "second", "true");
        second.run();
        let noted = second.bundle.join("shim-binary-path");
        assert_eq!(std::fs::read_to_string(&noted).unwrap(), shim());
        second.wait("").unwrap();
        second.delete("").unwrap();
        // What is there stays.
        std::fs::write(&noted, "/opt/shim").unwrap();
        second.run();
        assert_eq!(std::fs::read_to_string(&noted).unwrap(), "/opt/shim");
        second.wait("").unwrap();
        second.delete("").unwrap();
        first.end();
    });
}

#[test]
fn the_older_annotation_of_a_group_goes_first() {
    lane::test(|| {
        let containerd = Containerd::new(Version::Json);
        let both = [
            ("io.kubernetes.cri.sandbox-id", "pod"),
            ("io.containerd.runc.v2.group", "group"),
        ];
        let first = containerd.bundle("first", &both);
        let second = containerd.bundle("second", &both[1..]);
        let one = containerd.connect("first", &first);
        let two = containerd.connect("second", &second);
        assert_eq!(one.path, two.path);
        two.shutdown();
    });
}

#[test]
fn a_killed_shim_leaves_a_socket_that_delete_removes() {
    lane::test(|| {
        let containerd = Containerd::new(Version::Json);
        let bundle = containerd.bundle("web", &[]);
        let mut client = containerd.connect("web", &bundle);
        kill(client.shim_pid());
        assert!(client.path.exists());
        let answer = containerd.delete("web", &bundle);
        assert_eq!(answer.exit_status, 137);
        assert!(!client.path.exists());
        // And again: containerd runs it after each end.
        containerd.delete("web", &bundle);
    });
}

#[test]
fn layers_that_a_killed_shim_was_mapping_are_unmounted_before_the_bundle_goes() {
    lane::test(|| {
        let containerd = Containerd::new(Version::Json);
        let bundle = containerd.bundle("web", &[]);
        let mut client = containerd.connect("web", &bundle);
        kill(client.shim_pid());
        let (image, layer) = (bundle.join("image"), bundle.join("rootfs.idmapped/0"));
        for folder in [&image, &layer] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(image.join("file"), "").unwrap();
        let bound = Command::new("mount")
            .arg("--bind")
            .args([&image, &layer])
            .status();
        assert!(bound.unwrap().success() && layer.join("file").exists());
        containerd.delete("web", &bundle);
        assert!(!layer.join("file").exists());
        assert!(image.join("file").exists());
    });
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    lane::test(|| {
        let containerd = Containerd::new(Version::Json);
        let bundle = containerd.bundle("web", &[]);
        let mut client = containerd.connect("web", &bundle);
        kill(client.shim_pid());
        let again = containerd.connect("web", &bundle);
        assert_eq!(again.path, client.path);
        again.shutdown();
    });
}

#[test]
fn a_shim_that_is_about_to_end_stays_for_who_has_found_it() {
    lane::test(|| {
        let mut web = Web::new("true");
        // While containerd takes no events a shim that was asked to end waits for it.
        std::fs::remove_file(web.containerd.folder.join("ttrpc")).unwrap();
        web.containerd.hang_up();
        web.run();
        web.wait("").unwrap();
        web.delete("").unwrap();
        let pid = web.client.shim_pid();
        let _: Empty = web.client.name("Shutdown", "", "").unwrap();
        web.client = web.containerd.connect("web", &web.bundle);
        web.containerd.listen_again();
        while web.containerd.event().topic != "/tasks/delete" {}
        web.run();
        assert_eq!(web.client.shim_pid(), pid);
        web.wait("").unwrap();
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn the_shim_is_a_likelier_victim_than_containerd_and_lives_on_its_own() {
    lane::test(|| {
        let containerd = Containerd::new(Version::Json);
        let bundle = containerd.bundle("web", &[]);
        let mut client = containerd.connect("web", &bundle);
        let pid = client.shim_pid();
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let expected = (own.trim().parse::<i32>().unwrap() + 1).min(1000);
        assert_eq!(read("oom_score_adj").trim(), expected.to_string());
        let stat = read("stat");
        let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
        assert_eq!(group, pid.to_string(), "a process group of its own");
        client.shutdown();
    });
}

#[test]
fn the_shim_goes_into_the_cgroup_of_its_options() {
    lane::test(|| {
        let mut containerd = Containerd::new(Version::Json);
        std::fs::create_dir("/sys/fs/cgroup/shims").unwrap();
        containerd.options.shim_cgroup = "/shims".to_owned();
        let bundle = containerd.bundle("web", &[]);
        let mut client = containerd.connect("web", &bundle);
        let pid = client.shim_pid();
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(cgroup.contains("/shims\n"), "{cgroup}");
        client.shutdown();
        std::fs::remove_dir("/sys/fs/cgroup/shims").unwrap();
    });
}

#[test]
fn sigterm_and_sigint_end_a_shim_with_its_socket() {
    lane::test(|| {
        for signal in ["-TERM", "-INT"] {
            let containerd = Containerd::new(Version::Json);
            let bundle = containerd.bundle("web", &[]);
            let mut client = containerd.connect("web", &bundle);
            let pid = client.shim_pid();
            let mut command = Command::new("kill");
            let sent = command.args([signal, &pid.to_string()]).status().unwrap();
            assert!(sent.success());
            fake::gone(pid);
            assert!(!client.path.exists());
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

#[test]
fn unknown_calls_are_unimplemented() {
    lane::test(|| {
        let containerd = Containerd::new(Version::Json);
        let bundle = containerd.bundle("web", &[]);
        let mut client = containerd.connect("web", &bundle);
        let answer: Result<ConnectResponse, _> = client.name("Frob", "", "");
        assert_eq!(answer.unwrap_err().code, 12);
        client.shutdown();
    });
}

#[test]
fn without_a_namespace_nothing_happens() {
    let output = run(Command::new(shim()).args(["-id", "x", "start"]), &[]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("namespace"));
}

#[test]
fn info_tells_features_and_gives_options_back() {
    let output = run(Command::new(shim()).arg("-info"), &[]);
    assert!(output.status.success());
    let info = RuntimeInfo::decode(&*output.stdout).unwrap();
    assert_eq!(
        (info.options, &*info.name),
        (None, "io.containerd.corten.v2")
    );
    let features = info.features.unwrap();
    let features: serde_json::Value = serde_json::from_slice(&features.value).unwrap();
    let idmap = &features["linux"]["mountExtensions"]["idmap"]["enabled"];
    assert_eq!(*idmap, true);

    let options = Any {
        type_url: "containerd.runc.v1.Options".to_owned(),
        value: vec![8, 1],
    };
    let output = run(Command::new(shim()).arg("-info"), &options.encode_to_vec());
    let info = RuntimeInfo::decode(&*output.stdout).unwrap();
    assert_eq!(info.options, Some(options));

    let version = run(Command::new(shim()).arg("-v"), &[]);
    assert!(String::from_utf8_lossy(&version.stdout).contains("Version:"));
}
