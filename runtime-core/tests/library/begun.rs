//! What is begun for a container before its bundle is read.

use std::collections::BTreeSet;
use std::path::Path;

use corten_conformance::wait;
use corten_core::{Bundle, Container, CreateOptions, Delete};
use serde_json::json;

use crate::lab::{self, LIMIT, Lab, done};

/// `net:[4026531840]` of a process, or of a thread of this one.
fn network(process: &str) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{process}/ns/net")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// The network namespaces of this program's threads.
fn networks() -> BTreeSet<String> {
    let threads = std::fs::read_dir("/proc/self/task").expect("it has threads");
    let name = |thread: std::io::Result<std::fs::DirEntry>| thread.expect("a thread").file_name();
    let of = |name: std::ffi::OsString| network(&format!("self/task/{}", name.to_string_lossy()));
    threads.map(name).filter_map(of).collect()
}

/// Threads and descriptors.
fn counts() -> [usize; 2] {
    ["task", "fd"].map(|what| {
        let entries = std::fs::read_dir(format!("/proc/self/{what}"));
        entries.expect("/proc is there").count()
    })
}

/// Waits for it.
#[track_caller]
fn until(is_so: impl Fn() -> bool) {
    let so = wait::until(LIMIT, || is_so().then_some(()));
    assert!(so.is_some(), "{:?} {:?}", networks(), counts());
}

fn load(lab: &Lab, folder: &Path) -> Bundle {
    done(lab.runtime.load_and_begin(folder))
}

fn create(lab: &Lab, bundle: &Bundle) -> Container {
    done(
        lab.runtime
            .create(&lab.id(), bundle, CreateOptions::default()),
    )
}

fn of_container(container: &Container) -> String {
    network(&container.pid().to_string()).expect("it is alive")
}

#[test]
fn the_network_namespace_of_a_container_is_the_one_that_was_begun_for_it() {
    lab::test(|lab| {
        let folder = lab.bundle(&["sleep"]);
        folder.write().expect("the lab is writable");
        let own = network("self").expect("/proc is there");
        let bundle = load(lab, folder.path());
        until(|| networks().len() == 2);
        let begun = networks().into_iter().find(|network| *network != own);
        let first = create(lab, &bundle);
        assert_eq!(Some(of_container(&first)), begun);
        until(|| networks().len() == 1);
        // There was one: another container has another, whichever thread makes it.
        let second = std::thread::scope(|scope| {
            let runtime = &lab.runtime;
            let create = || done(runtime.create("other", &bundle, CreateOptions::default()));
            scope.spawn(create).join().expect("no panic")
        });
        let others = [of_container(&first), of_container(&second), own];
        assert_eq!(BTreeSet::from(others).len(), 3);
        lab::delete(first);
        lab::delete(second);
    });
}

#[test]
fn a_list_that_is_not_the_containers_has_no_effect_on_it() {
    lab::test(|lab| {
        let mut folder = lab.bundle(&["sleep"]);
        let is_network = |namespace: &serde_json::Value| namespace["type"] == "network";
        let list = folder.config["linux"]["namespaces"].as_array_mut();
        list.expect("a list")
            .retain(|namespace| !is_network(namespace));
        folder.write().expect("the lab is writable");
        let path = folder.path().join("config.json");
        let text = std::fs::read_to_string(&path).expect("it was just written");
        let before = json!({"namespaces": [{"type": "network"}]});
        let text = text.replacen('{', &format!("{{\"before\": {before},"), 1);
        std::fs::write(&path, text).expect("the lab is writable");
        let bundle = load(lab, folder.path());
        until(|| networks().len() == 2);
        let container = create(lab, &bundle);
        assert_eq!(Some(of_container(&container)), network("self"));
        lab::delete(container);
        until(|| networks().len() == 1);
    });
}

#[test]
fn nothing_is_left_of_what_was_begun_for_nobody() {
    lab::test(|lab| {
        let folder = lab.bundle(&["true"]);
        folder.write().expect("the lab is writable");
        let run = || {
            let mut container = done(lab.runtime.run(
                "one",
                &load(lab, folder.path()),
                CreateOptions::default(),
            ));
            done(container.wait());
            done(container.delete(Delete::IfStopped));
        };
        // The runtime keeps init's file from now on.
        run();
        let before = counts();
        for used in [false, true] {
            let bundle = load(lab, folder.path());
            if used {
                let refused = lab.runtime.create("a/b", &bundle, CreateOptions::default());
                refused.expect_err("that is no id");
            } else {
                until(|| networks().len() == 2);
            }
            drop(bundle);
            until(|| counts() == before);
        }
        run();
        until(|| counts() == before);
    });
}
