//! The root file system as containerd wants it mounted.

use std::os::unix::fs::symlink;

use corten_conformance::lane;
use corten_shim::proto::task::Mount;

use crate::fake::container::{NOT_FOUND, Web};
use crate::fake::{self, Client, Containerd, Version};

#[test]
fn a_mount_follows_no_link_of_the_image_out_of_it() {
    lane::test(|| {
        let mut web = Web::new("cat /data/file; (echo x >/data/new) 2>&1; true");
        let folder = web.containerd.folder.clone();
        let (image, outside) = (folder.join("image"), folder.join("outside"));
        for folder in [
            &outside,
            &image.join("data"),
            &image.join("run/fake/outside"),
        ] {
            std::fs::create_dir_all(folder).unwrap();
        }
        symlink(&outside, image.join("absolute")).unwrap();
        symlink("../../../../data", image.join("run/fake/relative")).unwrap();
        let source = folder.join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("file"), "inside ").unwrap();
        for target in ["absolute", "run/fake/relative"] {
            web.request.rootfs.push(Mount {
                r#type: "bind".to_owned(),
                source: source.display().to_string(),
                target: target.to_owned(),
                // Each of these is a call of its own on what was mounted.
                options: ["rbind", "ro", "rprivate"].map(str::to_owned).into(),
            });
        }
        let mut stdout = web.stdout();
        web.create().unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        let rootfs = web.bundle.join("rootfs");
        assert!(rootfs.join("run/fake/outside/file").exists());
        web.start("").unwrap();
        web.wait("").unwrap();
        web.delete("").unwrap();
        assert!(!rootfs.join("run").exists());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        assert!(
            text.starts_with("inside ") && text.contains("Read-only"),
            "{text}"
        );
        web.client.shutdown();
    });
}

#[test]
fn a_mount_of_the_root_file_system_that_fails_undoes_the_others() {
    lane::test(|| {
        let mut web = Web::new("true");
        web.request.rootfs.push(Mount {
            r#type: "frobfs".to_owned(),
            target: "tmp".to_owned(),
            ..Default::default()
        });
        let error = web.create().unwrap_err();
        assert!(error.message.contains("frobfs"), "{}", error.message);
        assert_eq!(
            std::fs::read_dir(web.bundle.join("rootfs"))
                .unwrap()
                .count(),
            0
        );
        web.client.shutdown();
    });
}

#[test]
fn an_overlay_of_more_layers_than_fit_into_a_page_is_mounted() {
    lane::test(|| {
        let mut web = Web::new("true");
        let image = web.containerd.folder.join("image");
        let mut layers = vec![];
        for number in 0..120 {
            let layer = web
                .containerd
                .folder
                .join(format!("snapshots/{number}/file-system"));
            std::fs::create_dir_all(&layer).unwrap();
            std::fs::write(layer.join(format!("layer-{number}")), "").unwrap();
            layers.push(layer.display().to_string());
        }
        layers.push(image.display().to_string());
        let last = web.request.rootfs[0].options.last_mut().unwrap();
        *last = format!("lowerdir={}", layers.join(":"));
        assert!(last.len() > 4096);
        web.create().unwrap();
        let rootfs = web.bundle.join("rootfs");
        assert!(rootfs.join("layer-0").exists() && rootfs.join("layer-119").exists());
        web.start("").unwrap();
        web.wait("").unwrap();
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn a_read_only_bind_is_read_only() {
    lane::test(|| {
        let mut web = Web::new("(echo x >/tmp/file) 2>&1; true");
        let image = web.containerd.folder.join("image");
        web.request.rootfs = vec![Mount {
            r#type: "bind".to_owned(),
            source: image.display().to_string(),
            target: String::new(),
            options: vec!["rbind".to_owned(), "ro".to_owned()],
        }];
        web.config["root"]["readonly"] = serde_json::json!(false);
        let mut stdout = web.stdout();
        web.run();
        web.wait("").unwrap();
        web.delete("").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        assert!(text.contains("Read-only"), "{text}");
        web.client.shutdown();
    });
}

#[test]
fn a_read_only_bind_keeps_what_its_source_is_mounted_with() {
    lane::test(|| {
        let mut web = Web::new("true");
        let source = web.containerd.folder.join("source");
        std::fs::create_dir(&source).unwrap();
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "nodev,nosuid,noatime", "none"]);
        assert!(command.arg(&source).status().unwrap().success());
        web.request.rootfs.push(Mount {
            r#type: "bind".to_owned(),
            source: source.display().to_string(),
            target: "tmp".to_owned(),
            options: ["bind", "ro", "noexec"].map(str::to_owned).into(),
        });
        web.create().unwrap();
        let target = web.bundle.join("rootfs/tmp").display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts.lines().find(|line| line.contains(&target)).unwrap();
        for word in ["ro", "nodev", "nosuid", "noatime", "noexec"] {
            let options = line.split(' ').nth(3).unwrap();
            assert!(options.split(',').any(|option| option == word), "{line}");
        }
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn a_root_file_system_that_somebody_is_in_does_not_hold_up_the_end() {
    lane::test(|| {
        let mut web = Web::new("exit 0");
        web.run();
        web.wait("").unwrap();
        let rootfs = web.bundle.join("rootfs");
        let mut command = std::process::Command::new("sleep");
        let mut visitor = command.arg("1000").current_dir(&rootfs).spawn().unwrap();
        web.delete("").unwrap();
        assert_eq!(std::fs::read_dir(&rootfs).unwrap().count(), 0);
        std::fs::remove_dir(&rootfs).unwrap();
        visitor.kill().unwrap();
        visitor.wait().unwrap();
        web.client.shutdown();
    });
}

#[test]
fn a_file_system_of_fuse_is_mounted_by_its_helper() {
    use std::os::unix::fs::PermissionsExt as _;

    lane::test(|| {
        let mut containerd = Containerd::new(Version::Json);
        let programs = containerd.folder.join("programs");
        std::fs::create_dir(&programs).unwrap();
        let helper = programs.join("mount.fuse3");
        let script = "#!/bin/sh\nPATH=/bin:/usr/bin\necho \"$@\" >/run/fake/args\n\
                      grep SigBlk /proc/self/status >>/run/fake/args\n\
                      [ \"$1\" = good ] || { echo not today >&2; exit 5; }\n\
                      mount --bind /run/fake/image \"$2\"\n";
        std::fs::write(&helper, script).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        containerd.programs = Some(programs);
        let mut web = Web::of(containerd, "web", "test -x /tmp/bin/busybox");
        web.request.rootfs.push(Mount {
            r#type: "fuse3.thing".to_owned(),
            source: "bad".to_owned(),
            target: "tmp".to_owned(),
            options: vec!["one".to_owned(), "two=2".to_owned()],
        });
        let error = web.create().unwrap_err();
        assert!(error.message.contains("not today"), "{}", error.message);
        assert!(!web.bundle.join("rootfs/bin").exists());
        web.request.rootfs[1].source = "good".to_owned();
        web.run();
        assert_eq!(web.wait("").unwrap(), 0);
        let target = web.bundle.join("rootfs/tmp");
        let expected = format!(
            "good {} -o one -o two=2 -t thing\nSigBlk:\t0000000000000000\n",
            target.display()
        );
        assert_eq!(std::fs::read_to_string("/run/fake/args").unwrap(), expected);
        web.delete("").unwrap();
        assert!(!web.bundle.join("rootfs/tmp").exists());
        web.client.shutdown();
    });
}

#[test]
fn what_others_have_mounted_in_a_bundle_stays_when_its_container_is_deleted() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let image = web.containerd.folder.join("image");
        web.config["root"]["path"] = image.display().to_string().into();
        web.request.rootfs.clear();
        let rootfs = web.bundle.join("rootfs");
        std::fs::create_dir(&rootfs).unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "tmpfs"]).arg(&rootfs).status();
        assert!(mounted.unwrap().success());
        std::fs::write(rootfs.join("file"), "").unwrap();
        web.create().unwrap();
        web.delete("").unwrap();
        web.request.stdout = "bad://scheme".to_owned();
        web.create().unwrap_err();
        assert!(rootfs.join("file").exists());
        web.client.shutdown();
    });
}

/// Programs for a `PATH`: a helper that mounts, with this script.
fn helper(containerd: &mut Containerd, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;

    let programs = containerd.folder.join("programs");
    std::fs::create_dir(&programs).unwrap();
    let helper = programs.join("mount.fuse3");
    std::fs::write(
        &helper,
        format!("#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n"),
    )
    .unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    containerd.programs = Some(programs);
}

fn thing() -> Mount {
    Mount {
        r#type: "fuse3.thing".to_owned(),
        source: "thing".to_owned(),
        target: "tmp".to_owned(),
        options: Vec::new(),
    }
}

#[test]
fn a_helper_that_does_not_end_is_killed_when_nobody_waits_for_its_container() {
    lane::test(|| {
        let mut containerd = Containerd::new(Version::Json);
        helper(
            &mut containerd,
            "sleep 1000 & echo $! >/run/fake/pid.new\n\
                                 mv /run/fake/pid.new /run/fake/pid; wait",
        );
        let mut web = Web::of(containerd, "web", "sleep 1000");
        web.request.rootfs.push(thing());
        std::fs::write(web.bundle.join("config.json"), web.config.to_string()).unwrap();
        web.client.send("Create", &web.request.clone());
        let pid = || std::fs::read_to_string("/run/fake/pid").ok();
        let pid = corten_conformance::wait::until(fake::LIMIT, pid).unwrap();
        let address = format!("unix://{}", web.client.path.display());
        web.client = Client::new(3, &address);
        assert_eq!(web.state("").unwrap_err().code, NOT_FOUND);
        fake::gone(pid.trim().parse().unwrap());
        assert!(!web.bundle.join("rootfs/bin").exists(), "mounted");
        web.client.shutdown();
    });
}

#[test]
fn a_daemon_that_a_helper_leaves_with_its_output_open_holds_up_nothing() {
    lane::test(|| {
        let mut containerd = Containerd::new(Version::Json);
        helper(
            &mut containerd,
            "mount --bind /run/fake/image \"$2\"; sleep 1000 & exit 0",
        );
        let mut web = Web::of(containerd, "web", "test -x /tmp/bin/busybox");
        web.request.rootfs.push(thing());
        web.run();
        assert_eq!(web.wait("").unwrap(), 0);
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn a_root_file_system_is_mapped_for_a_user_namespace() {
    use std::os::unix::fs::MetadataExt as _;

    lane::test(|| {
        for kind in ["overlay", "bind"] {
            let mut web = Web::new("true");
            let mount = &mut web.request.rootfs[0];
            if kind == "bind" {
                mount.r#type = kind.to_owned();
                mount.source = web.containerd.folder.join("image").display().to_string();
                mount.options = vec!["rbind".to_owned()];
            }
            for map in ["uidmap=0:100000:65536", "gidmap=0:200000:65536"] {
                mount.options.push(map.to_owned());
            }
            web.create().unwrap();
            let file = web.bundle.join("rootfs/bin/busybox");
            let data = std::fs::metadata(file).unwrap();
            assert_eq!((data.uid(), data.gid()), (100_000, 200_000), "{kind}");
            assert!(!web.bundle.join("rootfs.idmapped").exists());
            web.delete("").unwrap();
            assert_eq!(
                std::fs::read_dir(web.bundle.join("rootfs"))
                    .unwrap()
                    .count(),
                0
            );
            web.client.shutdown();
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}
