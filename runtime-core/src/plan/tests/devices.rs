//! Which nodes need a word about their owner.

use corten_init::abi::Op;
use serde_json::{Value, json};

use super::cases::Case;
use crate::plan::Action;

/// The owners of nodes that are made, by their names.
fn owners(mounts: &Value, adjust: impl FnOnce(&mut Case)) -> Vec<(String, u32, u32)> {
    let linux = json!({
        "devices": [
            { "path": "/dev/own", "type": "c", "major": 1, "minor": 3, "uid": 7, "gid": 8 },
            { "path": "/dev/below/it", "type": "c", "major": 1, "minor": 3 },
        ],
    });
    let mut case = Case::mounting("devices", mounts, linux);
    adjust(&mut case);
    let plan = case.plan().unwrap();
    let nodes = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Init(Op::MakeNode { name, uid, gid, .. }) => {
            let name = String::from_utf8(name.0.clone()).unwrap();
            Some((name, *uid, *gid))
        }
        _ => None,
    });
    nodes.collect()
}

fn dev(options: &[&str]) -> Value {
    json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": options })
}

#[test]
fn in_a_new_dev_only_a_node_of_another_owner_is_given_one() {
    let remount = json!({ "destination": "/dev", "options": ["remount", "bind", "noexec"] });
    let shm = json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm" });
    let mounts = json!([dev(&["mode=755", "gid=5"]), shm, remount]);
    for (name, uid, gid) in owners(&mounts, |_| ()) {
        let expected = match name.as_str() {
            "own" => (7, 8),
            "it" => (0, 0),
            _ => (u32::MAX, u32::MAX),
        };
        assert_eq!((uid, gid), expected, "{name}");
    }
}

#[test]
fn elsewhere_the_owner_of_every_node_is_said() {
    let bind = json!({ "destination": "/dev/x", "type": "bind", "source": "/srv" });
    let over = json!({ "destination": "/dev", "type": "overlay", "source": "o" });
    for mounts in [
        json!([]),
        json!([bind]),
        // The mode is that of the image's.
        json!([dev(&[])]),
        json!([dev(&["mode=755", "tmpcopyup"])]),
        json!([dev(&["mode=2755"])]),
        json!([dev(&["mode=755", "mode=02755"])]),
        json!([dev(&["mode=rwx"])]),
        json!([dev(&["mode=755"]), over]),
    ] {
        let owners = owners(&mounts, |_| ());
        assert_eq!(owners.len(), 8, "{mounts}");
        let said = |(_, uid, gid): &(String, u32, u32)| *uid != u32::MAX && *gid != u32::MAX;
        assert!(owners.iter().all(said), "{mounts}: {owners:?}");
    }
}

#[test]
fn who_is_not_root_with_roots_group_says_the_owner() {
    let mounts = json!([dev(&["mode=755"])]);
    for (euid, egid) in [(0, 5), (5, 0)] {
        let owners = owners(&mounts, |case| {
            (case.host.euid, case.host.egid) = (euid, egid);
        });
        assert!(owners.iter().all(|(_, uid, _)| *uid != u32::MAX));
    }
}
