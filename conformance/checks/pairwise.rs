//! Namespaces in combination: every two choices for two kinds occur together at least once.

use std::collections::BTreeSet;
use std::os::linux::fs::MetadataExt as _;
use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::lab::{Container, Lab};
use crate::wait;

checks!("pairwise":
    any_two_choices_for_two_kinds_of_namespaces_go_together,
);

/// Where a namespace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum From {
    Host,
    New,
    /// By path; the host owns it.
    Joined,
    /// By path; the user namespace that is joined, too, owns it.
    Inside,
}

/// In config.json and in /proc/PID/ns. The user namespace is the first.
const KINDS: [(&str, &str); 8] = [
    ("user", "user"),
    ("mount", "mnt"),
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

type Row = Vec<From>;

fn choices(kind: usize) -> &'static [From] {
    let all = &[From::Host, From::New, From::Joined, From::Inside];
    if kind == 0 { &all[..3] } else { all }
}

/// Only what a joined user namespace owns can be inside.
fn is_possible(pair: [(usize, From); 2]) -> bool {
    let [(kind, user), (_, other)] = pair;
    kind != 0 || user == From::Joined || other != From::Inside
}

/// All pairs that a row has.
fn pairs(row: &[From]) -> impl Iterator<Item = [(usize, From); 2]> + '_ {
    (0..row.len()).flat_map(move |a| (a + 1..row.len()).map(move |b| [(a, row[a]), (b, row[b])]))
}

/// Rows in which every possible pair occurs: each is the best of what can be made of the
/// pairs that are left.
fn rows() -> Vec<Row> {
    let kinds = 0..KINDS.len();
    let all = kinds.clone().flat_map(|a| {
        (a + 1..KINDS.len()).flat_map(move |b| {
            choices(a)
                .iter()
                .flat_map(move |x| choices(b).iter().map(move |y| [(a, *x), (b, *y)]))
        })
    });
    let mut left: BTreeSet<[(usize, From); 2]> = all.filter(|pair| is_possible(*pair)).collect();
    let mut rows = Vec::new();
    while let Some(first) = left.first().copied() {
        let mut row: Vec<Option<From>> = vec![None; KINDS.len()];
        for (kind, from) in first {
            row[kind] = Some(from);
        }
        if first.iter().any(|(_, from)| *from == From::Inside) {
            row[0] = Some(From::Joined);
        }
        for kind in 0..KINDS.len() {
            if row[kind].is_none() {
                let fits = |from: &From| {
                    row[0].is_none_or(|user| user == From::Joined) || *from != From::Inside
                };
                let new_pairs = |from: From| {
                    let known = (0..KINDS.len()).filter_map(|other| Some((other, row[other]?)));
                    let pair = |other: (usize, From)| {
                        let mut pair = [other, (kind, from)];
                        pair.sort_unstable();
                        pair
                    };
                    known.filter(|other| left.contains(&pair(*other))).count()
                };
                let best = choices(kind)
                    .iter()
                    .copied()
                    .filter(fits)
                    .max_by_key(|from| new_pairs(*from));
                row[kind] = best;
            }
        }
        let row: Row = row.into_iter().flatten().collect();
        for pair in pairs(&row) {
            left.remove(&pair);
        }
        rows.push(row);
    }
    rows
}

/// A process in namespaces that others can join: those of the host's user namespace, or of
/// one of its own. Its mount namespace is a copy of the host's.
struct Pod(Child);

impl Pod {
    fn new(lab: &Lab, own_users: bool) -> Pod {
        let ready = lab.folder().join("ready");
        let time = if has("time") { "--time" } else { "" };
        // The child is the first process of the pid namespace, and in the time namespace.
        let script = format!(
            "until grep -q . /proc/self/uid_map; do sleep 0.01; done; \
             exec unshare --mount --propagation slave --net --ipc --uts --cgroup {time} \
             --pid --fork --kill-child sh -c 'touch {}; exec sleep 600'",
            ready.display()
        );
        let user: &[&str] = if own_users {
            &["unshare", "--user"]
        } else {
            &[]
        };
        let words = [user, &["sh", "-c", &script]].concat();
        let child = Command::new(words[0]).args(&words[1..]).spawn();
        let pod = Pod(child.expect("unshare is there"));
        if own_users {
            pod.map_ids();
        }
        let seen = wait::until(wait::CALL, || ready.exists().then_some(()));
        assert!(seen.is_some(), "{script}");
        std::fs::remove_file(ready).expect("the lab is writable");
        pod
    }

    /// The host's ids are those of the namespace: with its own it could drop no groups.
    fn map_ids(&self) {
        let path = self.path("user");
        let apart = wait::until(wait::CALL, || {
            (number(&path) != number("/proc/self/ns/user")).then_some(())
        });
        assert!(apart.is_some(), "{path}");
        for file in ["gid_map", "uid_map"] {
            let path = format!("/proc/{}/{file}", self.0.id());
            std::fs::write(path, "0 0 65536").expect("root may");
        }
    }

    fn path(&self, file: &str) -> String {
        let file = match file {
            "pid" => "pid_for_children",
            "time" => "time_for_children",
            other => other,
        };
        format!("/proc/{}/ns/{file}", self.0.id())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.0.kill().and_then(|()| self.0.wait()).is_err() {
            eprintln!("process {} does not end", self.0.id());
        }
    }
}

fn has(file: &str) -> bool {
    std::path::Path::new("/proc/self/ns").join(file).exists()
}

fn number(path: &str) -> u64 {
    std::fs::metadata(path)
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .st_ino()
}

fn any_two_choices_for_two_kinds_of_namespaces_go_together(lab: &Lab) {
    let pods = Pods {
        host: Pod::new(lab, false),
        users: Pod::new(lab, true),
    };
    let rows = rows();
    assert!(rows.len() < 40, "{}", rows.len());
    for row in rows {
        let row: Vec<_> = KINDS
            .into_iter()
            .zip(row)
            .filter(|((_, file), _)| has(file))
            .collect();
        let bundle = pods.bundle(lab, &row);
        let container = lab.try_create(&bundle);
        assert!(
            container.creation.status.success(),
            "{row:?}: {}",
            container.creation
        );
        let started = container.call(&["start"]);
        assert!(started.status.success(), "{row:?}: {started}");
        for ((_, file), from) in &row {
            pods.compare(&container, file, *from, &row);
        }
    }
}

struct Pods {
    host: Pod,
    users: Pod,
}

type Named = [((&'static str, &'static str), From)];

impl Pods {
    fn path(&self, file: &str, from: From) -> Option<String> {
        match from {
            From::Host | From::New => None,
            From::Joined if file == "user" => Some(self.users.path(file)),
            From::Joined => Some(self.host.path(file)),
            From::Inside => Some(self.users.path(file)),
        }
    }

    /// A bundle that needs no mount: not every combination could have it.
    fn bundle(&self, lab: &Lab, row: &Named) -> Bundle {
        let mut bundle = lab.bundle_of(&["sleep"]);
        bundle.config["mounts"] = json!([]);
        bundle.config["root"]["readonly"] = json!(false);
        bundle.config["linux"] = json!({"namespaces": []});
        bundle
            .config
            .as_object_mut()
            .expect("an object")
            .remove("hostname");
        for ((kind, file), from) in row {
            let namespace = match self.path(file, *from) {
                Some(path) => json!({"type": kind, "path": path}),
                None if *from == From::New => json!({"type": kind}),
                None => continue,
            };
            bundle.push("/linux/namespaces", namespace);
            if (*kind, *from) == ("user", From::New) {
                for field in ["uidMappings", "gidMappings"] {
                    bundle.config["linux"][field] = MAP.clone();
                }
                bundle.give_to(100_000).expect("root may");
            }
        }
        bundle
    }

    fn compare(&self, container: &Container<'_>, file: &str, from: From, row: &Named) {
        let path = format!("/proc/{}/ns/{file}", container.pid());
        let is = number(&path);
        let host = number(&format!("/proc/self/ns/{file}"));
        let all = [&self.host, &self.users].map(|pod| number(&pod.path(file)));
        match from {
            From::Host => assert_eq!(is, host, "{file} of {row:?}"),
            From::New => {
                assert!(is != host && !all.contains(&is), "{file} of {row:?}");
                if file != "user" {
                    let user = number(&format!("/proc/{}/ns/user", container.pid()));
                    let owner = crate::sys::namespace_owner(&path).expect("it runs");
                    assert_eq!(owner, user, "{file} of {row:?}");
                }
            }
            From::Joined | From::Inside => {
                let wanted = self.path(file, from).expect("a path");
                assert_eq!(is, number(&wanted), "{file} of {row:?}");
            }
        }
    }
}

static MAP: std::sync::LazyLock<Value> =
    std::sync::LazyLock::new(|| json!([{"containerID": 0, "hostID": 100_000, "size": 5000}]));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_possible_pair_is_in_a_row_and_there_are_few() {
        let rows = rows();
        let seen: BTreeSet<_> = rows.iter().flat_map(|row| pairs(row)).collect();
        // Seven kinds of four choices in pairs, and with three of the user namespace, two of
        // which have nothing inside.
        assert_eq!(seen.len(), 21 * 16 + 7 * (4 + 3 + 3));
        assert!(rows.len() <= 32, "{}", rows.len());
        let inside = rows.iter().filter(|row| row.contains(&From::Inside));
        assert!(inside.clone().count() > 0 && inside.clone().all(|row| row[0] == From::Joined));
    }
}
