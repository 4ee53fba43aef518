//! On a real cgroup v2 hierarchy, mounted where only the test's own thread can see it.
//!
//! Root is needed; without it each test says so and is skipped. All cgroups made are
//! named `corten-test-*` and are gone afterwards, however the test ends.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

use super::fs::Events;
use super::settings::Absent;
use super::*;
use crate::spec::{DeviceRule, Resources};

const LONG: Duration = Duration::from_secs(30);

/// A hierarchy of the test's own thread, and a name for its cgroups.
struct Lane {
    mount: PathBuf,
    name: String,
}

impl Lane {
    /// The path of the test's cgroup `below` its own one.
    fn path(&self, below: &str) -> PathBuf {
        Path::new("/").join(&self.name).join(below)
    }

    fn file(&self, below: &str, file: &str) -> PathBuf {
        self.mount.join(&self.name).join(below).join(file)
    }

    fn create(&self, below: &str) -> Result<Cgroup, CgroupError> {
        Cgroup::create(&self.mount, &self.path(below), &[])
    }

    /// A process that sleeps in the cgroup `below`.
    fn sleeper(&self, below: &str) -> Child {
        let mut sleep = Command::new("sleep");
        // No pipe of the test's own: one left over would keep a reader waiting.
        sleep.arg("600").stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = sleep.spawn().unwrap();
        let cgroup = Cgroup::open(&self.mount, &self.path(below)).unwrap();
        if let Err(error) = cgroup.enter(child.id().cast_signed()) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{below}: {error:?}");
        }
        child
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let own = self.path("");
        if let Ok(cgroup) = Cgroup::open(&self.mount, &own) {
            cgroup.kill().unwrap();
            remove(&self.mount, &own, &[], LONG).unwrap();
        }
    }
}

/// Runs `test` with a hierarchy that no other thread sees.
fn in_a_lane(test: impl FnOnce(&Lane) + Send + 'static) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let name = format!(
        "corten-test-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let thread = std::thread::spawn(move || {
        #[allow(
            deprecated,
            reason = "the new name is unsafe, for a flag that is not used here"
        )]
        rustix::thread::unshare(UnshareFlags::NEWNS).unwrap();
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", slave).unwrap();
        let mount_point = std::env::temp_dir().join(&name);
        std::fs::create_dir(&mount_point).unwrap();
        mount("none", &mount_point, "cgroup2", MountFlags::empty(), None).unwrap();
        let lane = Lane {
            mount: mount_point.clone(),
            name,
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&lane)));
        drop(lane);
        rustix::mount::unmount(&mount_point, rustix::mount::UnmountFlags::DETACH).unwrap();
        std::fs::remove_dir(&mount_point).unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn reap(mut child: Child) -> std::process::ExitStatus {
    child.wait().unwrap()
}

#[test]
fn a_cgroup_is_made_with_those_above_it_and_removed_with_them() {
    in_a_lane(|lane| {
        let cgroup = lane.create("a/b").unwrap();
        let made = [lane.path(""), lane.path("a"), lane.path("a/b")];
        assert!(cgroup.made().iter().eq(made.iter()));
        assert!(lane.file("a/b", "cgroup.procs").exists());
        let made = cgroup.made().to_vec();
        drop(cgroup);
        remove(&lane.mount, &lane.path("a/b"), &made, LONG).unwrap();
        assert!(!lane.file("", "").exists());
        // Once more is no error.
        remove(&lane.mount, &lane.path("a/b"), &made, LONG).unwrap();
    });
}

#[test]
fn a_cgroup_above_that_is_still_used_is_left() {
    in_a_lane(|lane| {
        let one = lane.create("one").unwrap();
        let two = lane.create("two").unwrap();
        assert_eq!(two.made(), [lane.path("two")]);
        remove(&lane.mount, one.path(), one.made(), LONG).unwrap();
        assert!(!lane.file("one", "").exists());
        assert!(lane.file("two", "").exists());
    });
}

#[test]
fn a_cgroup_with_processes_is_refused_and_stays_as_it_was() {
    in_a_lane(|lane| {
        lane.create("a/below").unwrap();
        let child = lane.sleeper("a/below");
        let error = lane.create("a").unwrap_err();
        assert_eq!(
            error,
            CgroupError::NotEmpty {
                path: lane.path("a")
            }
        );
        assert!(
            error
                .to_string()
                .ends_with("container's cgroup is not empty")
        );
        lane.create("a/below/made").map(drop).unwrap();
        Cgroup::open(&lane.mount, &lane.path("a"))
            .unwrap()
            .kill()
            .unwrap();
        reap(child);
    });
}

#[test]
fn a_cgroup_that_another_creation_is_about_to_use_is_refused_and_left_to_it() {
    in_a_lane(|lane| {
        let first = lane.create("a").unwrap();
        let error = lane.create("a").unwrap_err();
        let path = lane.path("a");
        assert_eq!(error, CgroupError::Taken { path });
        assert!(lane.file("a", "").exists());
        drop(first);
        lane.create("a").map(drop).unwrap();
    });
}

#[test]
fn a_frozen_cgroup_is_refused_also_when_one_above_it_is() {
    in_a_lane(|lane| {
        lane.create("a").map(drop).unwrap();
        let a = Cgroup::open(&lane.mount, &lane.path("a")).unwrap();
        a.freeze(LONG).unwrap();
        for below in ["a", "a/b"] {
            let error = lane.create(below).unwrap_err();
            assert_eq!(
                error,
                CgroupError::Frozen {
                    path: lane.path(below)
                }
            );
            assert!(
                error
                    .to_string()
                    .ends_with("container's cgroup unexpectedly frozen")
            );
        }
        assert!(
            !lane.file("a/b", "").exists(),
            "a failed create leaves nothing"
        );
        a.thaw().unwrap();
        lane.create("a/b").unwrap();
    });
}

#[test]
fn a_controller_that_is_missing_is_named_with_field_and_cgroup() {
    in_a_lane(|lane| {
        let limit = [Setting::new("nothing.max", "1", "linux.resources.nothing")];
        let error = Cgroup::create(&lane.mount, &lane.path("a"), &limit).unwrap_err();
        assert_eq!(
            error.to_string(),
            "linux.resources.nothing: nothing.max needs the nothing controller, \
             which cgroup / does not offer"
        );
        assert!(!lane.file("", "").exists());
    });
}

/// A controller that this machine's hierarchy offers, if any.
fn some_controller(lane: &Lane) -> Option<String> {
    let all = std::fs::read_to_string(lane.mount.join("cgroup.controllers")).unwrap();
    let one = all.split_whitespace().next().map(str::to_owned);
    if one.is_none() {
        println!("skipped: cgroup v2 has no controller here");
    }
    one
}

#[test]
fn controllers_are_enabled_all_the_way_down() {
    in_a_lane(|lane| {
        let Some(controller) = some_controller(lane) else {
            return;
        };
        lane.create("a/b/c").unwrap();
        let has = std::fs::read_to_string(lane.file("a/b/c", "cgroup.controllers")).unwrap();
        assert!(has.split_whitespace().any(|c| c == controller), "{has:?}");
    });
}

#[test]
fn a_cgroup_with_processes_can_give_no_controllers_and_is_named() {
    in_a_lane(|lane| {
        let Some(controller) = some_controller(lane) else {
            return;
        };
        lane.create("a").unwrap();
        let child = lane.sleeper("a");
        // Without a limit that needs it, it is left out.
        lane.create("a/free").unwrap();
        let limit = [Setting::new(
            format!("{controller}.x"),
            "1",
            "linux.resources.x",
        )];
        let error = Cgroup::create(&lane.mount, &lane.path("a/b"), &limit).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::BUSY));
        assert_eq!(
            error.to_string(),
            format!(
                "linux.resources.x: {controller}.x needs the {controller} controller, which \
                 cgroup {} can't enable for its children while it has processes of its own",
                lane.path("a").display()
            )
        );
        assert!(!lane.file("a/b", "").exists());
        Cgroup::open(&lane.mount, &lane.path("a"))
            .unwrap()
            .kill()
            .unwrap();
        reap(child);
    });
}

#[test]
fn settings_are_written_and_a_refused_one_names_field_file_and_value() {
    in_a_lane(|lane| {
        let cgroup = lane.create("a").unwrap();
        let depth = |value| Setting::new("cgroup.max.depth", value, "linux.resources.unified");
        cgroup.apply(&[depth("3")]).unwrap();
        let read = std::fs::read_to_string(lane.file("a", "cgroup.max.depth")).unwrap();
        assert_eq!(read, "3\n");
        let error = cgroup.apply(&[depth("many")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "linux.resources.unified: write \"many\" to cgroup.max.depth of cgroup {}",
                lane.path("a").display()
            )
        );
        assert_eq!(error.errno(), Some(Errno::INVAL));
        let absent = Setting::new("nothing.max", "1", "linux.resources.nothing");
        assert_eq!(
            cgroup.apply(&[absent]).unwrap_err().errno(),
            Some(Errno::NOENT)
        );
        let no_limit = Setting {
            absent: Absent::Fine,
            ..Setting::new("nothing.max", "max", "linux.resources.nothing")
        };
        cgroup.apply(&[no_limit]).unwrap();
        let instead = Setting {
            absent: Absent::Instead {
                file: "cgroup.max.depth",
                value: "7".into(),
            },
            ..Setting::new("nothing.max", "1", "linux.resources.nothing")
        };
        cgroup.apply(&[instead]).unwrap();
        let read = std::fs::read_to_string(lane.file("a", "cgroup.max.depth")).unwrap();
        assert_eq!(read, "7\n");
        // Also an empty value is written: to this file it means nothing.
        assert_eq!(
            cgroup.apply(&[depth("")]).unwrap_err().errno(),
            Some(Errno::INVAL)
        );
    });
}

#[test]
fn a_limit_that_is_used_up_is_refused_only_where_that_is_asked_for() {
    in_a_lane(|lane| {
        let cgroup = lane.create("a").unwrap();
        let depth = |value: &str| Setting {
            above: Some("cgroup.max.descendants"),
            ..Setting::new("cgroup.max.depth", value, "linux.resources.depth")
        };
        std::fs::write(lane.file("a", "cgroup.max.descendants"), "5").unwrap();
        let error = cgroup.apply(&[depth("5")]).unwrap_err();
        let path = lane.path("a");
        assert_eq!(
            error.to_string(),
            format!(
                "linux.resources.depth: cgroup {}: the limit 5 is not above the 5 in use",
                path.display()
            )
        );
        let read = || std::fs::read_to_string(lane.file("a", "cgroup.max.depth")).unwrap();
        assert_eq!(read(), "max\n");
        cgroup.apply(&[depth("6")]).unwrap();
        assert_eq!(read(), "6\n");
        // What tells no number has nothing to say against it.
        std::fs::write(lane.file("a", "cgroup.max.descendants"), "max").unwrap();
        cgroup.apply(&[depth("1")]).unwrap();
        assert_eq!(read(), "1\n");
    });
}

#[test]
fn kill_reaches_what_is_below_and_remove_waits_for_it() {
    in_a_lane(|lane| {
        let a = lane.create("a").unwrap();
        lane.create("a/b/c").unwrap();
        lane.create("a/x").unwrap();
        let children = [lane.sleeper("a/x"), lane.sleeper("a/b/c")];
        let mut pids: Vec<i32> = children.iter().map(|c| c.id().cast_signed()).collect();
        pids.sort_unstable();
        let mut found = a.procs().unwrap();
        found.sort_unstable();
        assert_eq!(found, pids);
        assert!(a.events().unwrap().populated);
        assert!(!a.wait_empty(Duration::from_millis(20)).unwrap());
        a.kill().unwrap();
        assert!(a.wait_empty(LONG).unwrap());
        remove(&lane.mount, a.path(), a.made(), LONG).unwrap();
        for child in children {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(reap(child).signal(), Some(9));
        }
    });
}

#[test]
fn a_frozen_cgroup_is_killed() {
    in_a_lane(|lane| {
        let a = lane.create("a").unwrap();
        let child = lane.sleeper("a");
        a.freeze(LONG).unwrap();
        assert_eq!(
            a.events().unwrap(),
            Events {
                populated: true,
                frozen: true
            }
        );
        a.kill().unwrap();
        assert!(a.wait_empty(LONG).unwrap());
        reap(child);
    });
}

#[test]
fn remove_kills_nothing_and_names_what_is_left_in_time() {
    in_a_lane(|lane| {
        let a = lane.create("a").unwrap();
        lane.create("a/empty").unwrap();
        lane.create("a/busy").unwrap();
        let child = lane.sleeper("a/busy");
        let began = Instant::now();
        let timeout = Duration::from_millis(50);
        let error = remove(&lane.mount, a.path(), a.made(), timeout).unwrap_err();
        assert!(began.elapsed() < LONG);
        let (path, pid) = (lane.path("a"), child.id());
        let text = format!(
            "cgroup {}: not removed after 50ms: still has process {pid} (state ",
            path.display()
        );
        assert!(error.to_string().starts_with(&text), "{error}");
        assert!(!lane.file("a/empty", "").exists());
        a.kill().unwrap();
        reap(child);
    });
}

#[test]
fn a_deep_and_wide_tree_made_by_a_container_is_removed_with_few_fds() {
    in_a_lane(|lane| {
        let a = lane.create("a").unwrap();
        // Deeper than a path may be long, by fd and one level at a time.
        let mut here = rustix::fs::openat(a.dir(), ".", OFLAGS, Mode::empty()).unwrap();
        let name = "n".repeat(250);
        for _ in 0..40 {
            rustix::fs::mkdirat(&here, "side", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&here, &name, Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, &name, OFLAGS, Mode::empty()).unwrap();
        }
        drop(here);
        remove(&lane.mount, a.path(), a.made(), LONG).unwrap();
        assert!(!lane.file("a", "").exists());
    });
}

const OFLAGS: rustix::fs::OFlags = rustix::fs::OFlags::DIRECTORY;

#[test]
fn neighbours_may_come_and_go_below_one_another_s_cgroups() {
    in_a_lane(|lane| {
        let (mount, base) = (lane.mount.clone(), lane.path("shared"));
        // Threads of the lane's thread share its mounts only if they are its children.
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (mount, base) = (&mount, &base);
                scope.spawn(move || {
                    for round in 0..25 {
                        let path = base.join(format!("{thread}-{round}"));
                        let cgroup = Cgroup::create(mount, &path, &[]).unwrap();
                        assert!(!cgroup.events().unwrap().populated);
                        remove(mount, &path, cgroup.made(), LONG).unwrap();
                    }
                });
            }
        });
    });
}

/// Tries to open the device node `path` from within `cgroup`.
fn opens(lane: &Lane, cgroup: &str, path: &Path, how: &str) -> bool {
    let script = r#"echo $$ > "$1" && eval "exec 3$3 \"\$2\"""#;
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([
            lane.file(cgroup, "cgroup.procs").as_path(),
            path,
            Path::new(how),
        ])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.success()
}

#[test]
fn a_denied_device_does_not_open_and_an_allowed_one_does() {
    in_a_lane(|lane| {
        // Nodes of our own, where nodev is not: null (1:3) and kmsg (1:11).
        let dev = std::env::temp_dir().join(format!("{}-dev", lane.name));
        std::fs::create_dir(&dev).unwrap();
        mount("none", &dev, "tmpfs", MountFlags::empty(), None).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        for (name, minor) in [("null", 3), ("kmsg", 11)] {
            let device = rustix::fs::makedev(1, minor);
            let path = dev.join(name);
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, device).unwrap();
        }
        let (null, kmsg) = (dev.join("null"), dev.join("kmsg"));
        let read_kmsg = DeviceRule {
            allow: true,
            kind: Some("c".into()),
            major: Some(1),
            minor: Some(11),
            access: Some("r".into()),
        };
        for below in ["usual", "more"] {
            let cgroup = lane.create(below).unwrap();
            assert!(
                opens(lane, below, &kmsg, "<"),
                "the test itself may open it"
            );
            let rules = if below == "more" {
                vec![read_kmsg.clone()]
            } else {
                Vec::new()
            };
            let program = device_program(&rules, []).unwrap().unwrap();
            attach(cgroup.dir().as_fd(), &program).unwrap();
        }
        assert!(opens(lane, "usual", &null, "<>"));
        assert!(!opens(lane, "usual", &kmsg, "<"));
        assert!(opens(lane, "more", &null, "<>"));
        assert!(opens(lane, "more", &kmsg, "<"));
        assert!(!opens(lane, "more", &kmsg, ">"));
        assert!(!opens(lane, "more", &kmsg, "<>"));
        rustix::mount::unmount(&dev, rustix::mount::UnmountFlags::DETACH).unwrap();
        std::fs::remove_dir(&dev).unwrap();
    });
}

/// A loop in the cgroup that opens null and a device that does not exist, until it is
/// stopped, and writes down what went wrong.
fn opener(lane: &Lane, dev: &Path) -> Child {
    let script = r#"echo $$ >"$1" && cd "$2" && while [ ! -e stop ]; do
        true <null; true <nobody; done 2>errors"#;
    let mut loops = Command::new("sh");
    loops.args(["-c", script, "sh"]);
    loops.args([lane.file("usual", "cgroup.procs").as_path(), dev]);
    loops.stdout(Stdio::null()).stderr(Stdio::null());
    loops.spawn().unwrap()
}

#[test]
fn a_device_program_takes_the_place_of_another_in_one_step() {
    in_a_lane(|lane| {
        let dev = std::env::temp_dir().join(format!("{}-swap", lane.name));
        std::fs::create_dir(&dev).unwrap();
        mount("none", &dev, "tmpfs", MountFlags::empty(), None).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        for (name, minor) in [("null", 3), ("kmsg", 11), ("nobody", 99)] {
            let device = rustix::fs::makedev(1, minor);
            let path = dev.join(name);
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, device).unwrap();
        }
        let kmsg = dev.join("kmsg");
        let cgroup = lane.create("usual").unwrap();
        let rules = Resources::parse(
            br#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#,
        );
        let more = other_device_program(&rules.unwrap().devices).unwrap();
        let usual = other_device_program(&[]).unwrap();
        attach(cgroup.dir(), &usual).unwrap();
        let mut child = opener(lane, &dev);
        let told = || std::fs::read_to_string(dev.join("errors")).unwrap_or_default();
        let until = Instant::now() + LONG;
        let mut swaps = 0;
        // Some hundreds of each while the other process goes on.
        while (swaps < 500 || told().lines().count() < 500) && Instant::now() < until {
            replace(cgroup.dir(), &more).unwrap();
            replace(cgroup.dir(), &usual).unwrap();
            swaps += 2;
        }
        assert!(!opens(lane, "usual", &kmsg, "<"));
        replace(cgroup.dir(), &more).unwrap();
        assert!(opens(lane, "usual", &kmsg, "<"));
        replace(cgroup.dir(), &usual).unwrap();
        assert!(!opens(lane, "usual", &kmsg, "<"));
        std::fs::write(dev.join("stop"), "").unwrap();
        child.wait().unwrap();
        // Allowed it would be ENXIO, and null is never denied.
        let told = told();
        assert!(told.lines().count() >= 500, "{}", told.lines().count());
        for line in told.lines() {
            let expected = line.contains("nobody") && line.ends_with("Operation not permitted");
            assert!(expected, "{line}");
        }
        // One program, however often.
        assert_eq!(
            crate::sys::bpf::own_device_programs(cgroup.dir())
                .unwrap()
                .len(),
            1
        );
        rustix::mount::unmount(&dev, rustix::mount::UnmountFlags::DETACH).unwrap();
        std::fs::remove_dir(&dev).unwrap();
    });
}

#[test]
fn a_device_program_takes_the_place_of_all_that_were_ours() {
    in_a_lane(|lane| {
        let cgroup = lane.create("several").unwrap();
        let usual = other_device_program(&[]).unwrap();
        let own = || crate::sys::bpf::own_device_programs(cgroup.dir()).unwrap();
        for count in 1..=3 {
            attach(cgroup.dir(), &usual).unwrap();
            assert_eq!(own().len(), count);
        }
        replace(cgroup.dir(), &usual).unwrap();
        assert_eq!(own().len(), 1);
    });
}

#[test]
fn a_device_program_for_a_cgroup_that_is_none_is_an_error_of_attach() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let program = device_program(&[], []).unwrap().unwrap();
    let dir = std::fs::File::open("/").unwrap();
    let error = attach(dir.as_fd(), &program).unwrap_err();
    assert_eq!(
        error,
        CgroupError::DeviceProgram {
            what: "attach",
            errno: Errno::BADF
        }
    );
    assert!(!error.is_not_permitted());
}

#[test]
fn the_mode_is_told_by_what_is_mounted() {
    in_a_lane(|lane| {
        assert_eq!(mode(&lane.mount), CgroupMode::V2);
        assert_eq!(mode(&std::env::temp_dir()), CgroupMode::None);
        assert_eq!(mode(Path::new("/nonexistent")), CgroupMode::None);
    });
}

#[test]
fn the_own_cgroup_is_the_v2_line() {
    let own = |text: &str| parse_own(text.as_bytes()).map(|p| p.to_str().unwrap().to_owned());
    assert_eq!(
        own("1:cpu:/x\n0::/user.slice/a:b\n").unwrap(),
        "/user.slice/a:b"
    );
    assert_eq!(own("0::/gone (deleted)\n").unwrap(), "/gone");
    assert!(
        own("0::/../outside\n")
            .unwrap_err()
            .to_string()
            .contains("namespace")
    );
    assert!(own("1:cpu:/x\n").unwrap_err().to_string().contains("0::"));
    assert!(own_cgroup().unwrap().is_absolute());
}
