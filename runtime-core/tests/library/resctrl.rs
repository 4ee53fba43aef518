//! `linux.intelRdt`, on a folder that looks like resctrl: no machine of the tests has it.
//!
//! The test does what the kernel would do: it fills shared classes, and empties a group that
//! is about to be removed.

use std::path::{Path, PathBuf};

use corten_conformance::bundle::Bundle as Folder;
use corten_core::spec::IntelRdt;
use corten_core::{Container, CreateOptions, Delete, Error, ExecOptions, OldSchemata, Runtime};
use serde_json::{Value, json};

use crate::lab::{self, Lab};

/// The fake and a runtime that uses it.
struct Fake {
    root: PathBuf,
    runtime: Runtime,
}

impl Fake {
    fn new(lab: &Lab) -> Fake {
        let root = lab.folder().join("resctrl");
        std::fs::create_dir_all(root.join("mon_groups")).expect("the lab's folder is writable");
        std::fs::create_dir(root.join("info")).expect("the lab's folder is writable");
        let builder = Runtime::builder().root(lab.runtime.root()).resctrl(&root);
        let runtime = lab::done(builder.build());
        Fake { root, runtime }
    }

    /// A class that somebody has made.
    fn class(&self, name: &str, schemata: &str) -> PathBuf {
        let class = self.root.join(name);
        std::fs::create_dir_all(class.join("mon_groups")).expect("the fake is writable");
        std::fs::write(class.join("schemata"), schemata).expect("the fake is writable");
        class
    }

    fn create(&self, lab: &Lab, rdt: Value) -> Result<Container, Error> {
        let mut folder: Folder = lab.bundle(&["sleep"]);
        folder.config["linux"]["intelRdt"] = rdt;
        let bundle = lab::load(&folder);
        self.runtime
            .create(&lab.id(), &bundle, CreateOptions::default())
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// As the kernel does with what it has put there.
fn empty(group: &Path) {
    for file in ["schemata", "tasks"] {
        match std::fs::remove_file(group.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}

#[track_caller]
fn assert_begins(error: &Error, expected: &str) {
    let text = error.to_string();
    assert!(text.starts_with(expected), "{text}\nnot {expected}");
}

fn pid(container: &Container) -> String {
    lab::done(container.state()).pid.to_string()
}

#[test]
fn without_a_name_the_class_is_the_containers_own_and_goes_with_it() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let rdt = json!({
            "l3CacheSchema": "L3:0=ff;1=f0\nMB:0=70",
            "memBwSchema": "MB:0=50",
            "schemata": ["L2:0=3"],
        });
        let container = lab::done(fake.create(lab, rdt));
        let class = fake.root.join(container.id());
        assert_eq!(
            read(&class.join("schemata")),
            "L3:0=ff;1=f0\nMB:0=50\nL2:0=3\n"
        );
        assert_eq!(read(&class.join("tasks")), pid(&container));
        empty(&class);
        lab::delete(container);
        assert!(!class.exists());
        std::fs::remove_dir_all(fake.root).expect("the fake is writable");
    });
}

#[test]
fn a_class_with_a_name_is_made_once_and_stays() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let rdt = json!({ "closID": "gold", "schemata": ["L3:0=ff"] });
        let class = fake.root.join("gold");
        let first = lab::done(fake.create(lab, rdt.clone()));
        assert_eq!(read(&class.join("schemata")), "L3:0=ff\n");
        assert_eq!(read(&class.join("tasks")), pid(&first));
        lab::delete(first);
        // As the kernel shows it: all domains, padded.
        std::fs::write(class.join("schemata"), "    L3:0=00ff;1=0fff\n").expect("it is there");
        let second = lab::done(fake.create(lab, rdt));
        assert_eq!(read(&class.join("schemata")), "    L3:0=00ff;1=0fff\n");
        assert_eq!(read(&class.join("tasks")), pid(&second));
        lab::delete(second);
        std::fs::remove_dir_all(fake.root).expect("the fake is writable");
    });
}

#[test]
fn a_class_that_means_something_else_is_refused() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let class = fake.class("gold", "    L3:0=00ff\n    MB:0= 20\n");
        let rdt = json!({ "closID": "gold", "schemata": ["L3:0=ff", "MB:0=30"] });
        let error = fake.create(lab, rdt).expect_err("20 is not 30");
        assert_begins(
            &error,
            &format!(
                "linux.intelRdt: make class of service {}: {}/schemata: has no MB:0=30, and \
                 others may use this class",
                class.display(),
                class.display()
            ),
        );
        assert!(!class.join("tasks").exists());
        std::fs::remove_dir_all(fake.root).expect("the fake is writable");
    });
}

#[test]
fn a_class_that_is_named_only_has_to_be_there() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let rdt = json!({ "closID": "gold" });
        let error = fake
            .create(lab, rdt.clone())
            .expect_err("nobody has made it");
        let class = fake.root.join("gold");
        assert_begins(
            &error,
            &format!(
                "linux.intelRdt: join class of service {}: {}/tasks: no such file or directory",
                class.display(),
                class.display()
            ),
        );
        let class = fake.class("gold", "L3:0=1\n");
        let container = lab::done(fake.create(lab, rdt));
        assert_eq!(read(&class.join("schemata")), "L3:0=1\n");
        assert_eq!(read(&class.join("tasks")), pid(&container));
        lab::delete(container);
        std::fs::remove_dir_all(fake.root).expect("the fake is writable");
    });
}

#[test]
fn a_monitoring_group_in_a_shared_class_is_the_containers_own() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let class = fake.class("gold", "L3:0=1\n");
        for (name, class) in [("gold", class), ("/", fake.root.clone())] {
            let rdt = json!({ "closID": name, "enableMonitoring": true });
            let container = lab::done(fake.create(lab, rdt));
            let group = class.join("mon_groups").join(container.id());
            assert_eq!(read(&group.join("tasks")), pid(&container));
            assert!(!class.join("tasks").exists());
            empty(&group);
            lab::delete(container);
            assert!(!group.exists());
            assert!(class.exists());
        }
        std::fs::remove_dir_all(fake.root).expect("the fake is writable");
    });
}

/// What the kernel says of the last command is a part of the error, and nothing is left.
#[test]
fn what_the_kernel_refuses_leaves_no_class() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let status = fake.root.join("info/last_cmd_status");
        std::fs::write(status, "no such thing\n").expect("the fake is writable");
        // In place of a group, there is a file.
        std::fs::remove_dir(fake.root.join("mon_groups")).expect("it is empty");
        std::fs::write(fake.root.join("mon_groups"), "").expect("the fake is writable");
        let rdt = json!({ "closID": "/", "enableMonitoring": true });
        let error = fake.create(lab, rdt).expect_err("there are no groups");
        let text = error.to_string();
        assert!(
            text.starts_with("linux.intelRdt: use class of service "),
            "{text}"
        );
        assert!(text.contains(": not a directory (no such thing)"), "{text}");
        // A class of the container's id that was there before is not its own.
        let next = Delete::Force;
        let id = "taken";
        fake.class(id, "L3:0=1\n");
        let mut folder = lab.bundle(&["sleep"]);
        folder.config["linux"]["intelRdt"] = json!({ "schemata": ["L3:0=1"] });
        let bundle = lab::load(&folder);
        let error = fake
            .runtime
            .create(id, &bundle, CreateOptions::default())
            .map(|container| lab::done(container.delete(next)))
            .expect_err("it is there");
        assert!(error.to_string().contains("file exists"), "{error}");
        assert!(fake.root.join(id).join("schemata").exists());
        std::fs::remove_dir_all(fake.root).expect("the fake is writable");
    });
}

#[test]
fn the_shares_of_the_same_configuration_are_the_same_however_the_kernel_shows_them() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let info = fake.root.join("info/MB");
        std::fs::create_dir(&info).expect("the fake is writable");
        std::fs::write(info.join("bandwidth_gran"), "10\n").expect("the fake is writable");
        let class = fake.class("gold", "    MB:0=  20;1= 100\n    L3:0=00ff\n");
        // The folder has the root, which the second process needs.
        let mut folder = lab.bundle(&["sleep"]);
        folder.config["linux"]["intelRdt"] =
            json!({ "closID": "gold", "schemata": ["MB:0=15", "L3:0=0xFF"] });
        let bundle = lab::load(&folder);
        let options = CreateOptions::default();
        let container = lab::done(fake.runtime.create(&lab.id(), &bundle, options));
        // One more process is in the class too.
        let mut process = lab::done(container.process());
        process.args = vec!["/probe".to_owned(), "true".to_owned()];
        let tasks = class.join("tasks");
        std::fs::remove_file(&tasks).expect("the container joined");
        let mut more = lab::done(container.exec(process, Default::default()));
        assert_eq!(read(&tasks), more.pid().to_string());
        lab::done(more.wait());
        lab::delete(container);
        std::fs::remove_dir_all(fake.root).expect("the fake is writable");
    });
}

#[test]
fn an_update_changes_the_shares_of_the_containers_class() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let rdt = json!({ "l3CacheSchema": "L3:0=ff", "memBwSchema": "MB:0=50" });
        let mut container = lab::done(fake.create(lab, rdt));
        let class = fake.root.join(container.id());
        assert_eq!(read(&class.join("schemata")), "L3:0=ff\nMB:0=50\n");
        let rdt = IntelRdt {
            l3_cache_schema: Some("L3:0=f\nMB:0=1".into()),
            mem_bw_schema: Some("MB:0=20".into()),
            ..IntelRdt::default()
        };
        let before = lab::done(fake.runtime.update_schemata(&mut container, &rdt));
        let lines = ["L3:0=ff", "MB:0=50"].map(str::to_owned);
        assert_eq!(before, OldSchemata::Lines(lines.into()));
        assert_eq!(read(&class.join("schemata")), "L3:0=f\nMB:0=20\n");
        lab::done(fake.runtime.restore_schemata(&mut container, before));
        assert_eq!(read(&class.join("schemata")), "L3:0=ff\nMB:0=50\n");
        // Only what is named: the kernel leaves the rest, the fake has no other lines.
        let rdt = IntelRdt {
            mem_bw_schema: Some("MB:0=70".into()),
            ..IntelRdt::default()
        };
        drop(lab::done(
            fake.runtime.update_schemata(&mut container, &rdt),
        ));
        assert_eq!(read(&class.join("schemata")), "MB:0=70\n");
        empty(&class);
        lab::done(container.delete(Delete::Force));
        assert!(!class.exists());
        std::fs::remove_dir_all(&fake.root).expect("the fake is writable");
    });
}

#[test]
fn an_update_of_one_of_a_shared_class_is_for_all_of_it() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let gold = fake.class("gold", "    L3:0=ff\n    MB:0=50\n");
        let rdt = json!({ "closID": "gold", "enableMonitoring": true });
        std::fs::write(gold.join("tasks"), "").expect("the fake is writable");
        let mut container = lab::done(fake.create(lab, rdt));
        let rdt = IntelRdt {
            l3_cache_schema: Some("L3:0=3".into()),
            ..IntelRdt::default()
        };
        let before = lab::done(fake.runtime.update_schemata(&mut container, &rdt));
        let lines = ["L3:0=ff", "MB:0=50"].map(str::to_owned);
        assert_eq!(before, OldSchemata::Lines(lines.into()));
        assert_eq!(read(&gold.join("schemata")), "L3:0=3\n");
        let monitor = gold.join("mon_groups").join(container.id());
        empty(&monitor);
        lab::done(container.delete(Delete::Force));
        assert!(gold.exists() && !monitor.exists());
        std::fs::remove_dir_all(&fake.root).expect("the fake is writable");
    });
}

#[test]
fn an_update_gives_a_container_without_a_class_its_own() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let folder: Folder = lab.bundle(&["sleep"]);
        let bundle = lab::load(&folder);
        let made = fake
            .runtime
            .create(&lab.id(), &bundle, CreateOptions::default());
        let mut container = lab::done(made);
        let rdt = IntelRdt {
            l3_cache_schema: Some("L3:0=f".into()),
            ..IntelRdt::default()
        };
        // Somebody else's of that name is left alone.
        let class = fake.class(container.id(), "L3:0=1\n");
        let refused = fake.runtime.update_schemata(&mut container, &rdt);
        let text = refused.expect_err("it is there").to_string();
        assert!(
            text.starts_with("linux.intelRdt: ") && text.contains("file exists"),
            "{text}"
        );
        assert_eq!(read(&class.join("schemata")), "L3:0=1\n");
        std::fs::remove_dir_all(&class).expect("the fake is writable");
        let before = lab::done(fake.runtime.update_schemata(&mut container, &rdt));
        assert_eq!(before, OldSchemata::None);
        assert_eq!(read(&class.join("schemata")), "L3:0=f\n");
        // The fake keeps the last one only.
        assert_eq!(read(&class.join("tasks")), pid(&container));
        empty(&class);
        lab::done(container.delete(Delete::Force));
        assert!(!class.exists());
        std::fs::remove_dir_all(&fake.root).expect("the fake is writable");
    });
}

#[test]
fn a_class_that_an_update_has_made_can_be_taken_back() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let mut container = lab.create(&lab.bundle(&["sleep"]), CreateOptions::default());
        let rdt = IntelRdt {
            l3_cache_schema: Some("L3:0=f".into()),
            ..IntelRdt::default()
        };
        let class = fake.root.join(container.id());
        for _ in 0..2 {
            let before = lab::done(fake.runtime.update_schemata(&mut container, &rdt));
            empty(&class);
            lab::done(fake.runtime.restore_schemata(&mut container, before));
            assert!(!class.exists());
        }
        // What somebody makes now is not the container's.
        let class = fake.class(container.id(), "L3:0=1\n");
        lab::done(container.delete(Delete::Force));
        assert_eq!(read(&class.join("schemata")), "L3:0=1\n");
        std::fs::remove_dir_all(&fake.root).expect("the fake is writable");
    });
}

#[test]
fn an_update_reaches_processes_in_cgroups_of_the_containers_own() {
    lab::test(|lab| {
        let fake = Fake::new(lab);
        let mut folder: Folder = lab.bundle(&["sleep"]);
        folder.config["linux"]["cgroupsPath"] = json!("/shares");
        let mut container = lab.create(&folder, CreateOptions::default());
        lab::done(container.start());
        let process = lab::done(container.process());
        let mut other = lab::done(container.exec(process, ExecOptions::default()));
        let below = Path::new("/sys/fs/cgroup/shares/below");
        std::fs::create_dir(below).expect("the lane's cgroups are writable");
        let moved = std::fs::write(below.join("cgroup.procs"), other.pid().to_string());
        moved.expect("the lane's cgroups are writable");
        let rdt = IntelRdt {
            l3_cache_schema: Some("L3:0=f".into()),
            ..IntelRdt::default()
        };
        drop(lab::done(
            fake.runtime.update_schemata(&mut container, &rdt),
        ));
        // The fake keeps the last one only, and the walk goes down.
        let class = fake.root.join(container.id());
        assert_eq!(read(&class.join("tasks")), other.pid().to_string());
        empty(&class);
        lab::done(other.kill(libc::SIGKILL));
        lab::done(other.wait());
        lab::done(container.delete(Delete::Force));
        std::fs::remove_dir_all(&fake.root).expect("the fake is writable");
    });
}
