//! `linux.rootfsPropagation`: what the root and the mounts in it share with the host.
//!
//! See mount_namespaces(7). What is expected is what runc 1.3.6 makes of it.

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::check::checks;
use crate::facts;
use crate::lab::Lab;

checks!("propagation":
    the_root_has_the_propagation_that_is_asked_for,
    what_is_mounted_in_the_root_of_the_image_keeps_what_is_asked_for,
    a_bind_of_a_shared_mount_has_what_is_asked_for,
    a_new_mount_is_private_unless_all_are_to_be_shared,
    everything_can_be_made_unbindable,
    nothing_of_a_container_is_seen_on_a_host_that_shares_everything,
    without_a_pivot_the_propagation_is_the_same,
    without_a_pivot_the_root_may_not_be_private,
    an_unknown_propagation_is_refused,
);

/// Values of the field ("" for none), and how the root, a bind of what the host shares and a
/// new mount are then.
const VALUES: [(&str, Kind, Kind, Kind); 8] = [
    ("", Kind::Private, Kind::Slave, Kind::Private),
    ("private", Kind::Private, Kind::Shared, Kind::Private),
    ("rprivate", Kind::Private, Kind::Private, Kind::Private),
    ("slave", Kind::Private, Kind::Shared, Kind::Private),
    ("rslave", Kind::Private, Kind::Slave, Kind::Private),
    ("shared", Kind::Shared, Kind::Shared, Kind::Private),
    ("rshared", Kind::Shared, Kind::Shared, Kind::Shared),
    ("unbindable", Kind::Unbindable, Kind::Shared, Kind::Private),
];

/// The optional fields of a line of mountinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Private,
    Slave,
    Shared,
    Unbindable,
}

fn kind(facts: &Value, point: &str) -> Kind {
    let mount = facts::mount(facts, point);
    let fields = mount["optional"].as_array().expect("a list");
    let words: Vec<&str> = fields.iter().filter_map(Value::as_str).collect();
    let kinds = words
        .iter()
        .map(|word| word.split(':').next().unwrap_or_default());
    match kinds.collect::<Vec<_>>().as_slice() {
        [] => Kind::Private,
        ["master"] => Kind::Slave,
        ["shared"] => Kind::Shared,
        ["unbindable"] => Kind::Unbindable,
        _ => panic!("{point}: {words:?}"),
    }
}

/// Makes the lab's folder a mount that is shared, as everything is on a host with systemd.
struct Host<'lab>(&'lab Lab);

impl Host<'_> {
    fn new(lab: &Lab) -> Host<'_> {
        mount_bind(lab.folder(), lab.folder()).expect("root may");
        mount_change(lab.folder(), MountPropagationFlags::SHARED).expect("it is a mount");
        Host(lab)
    }

    /// A bundle with a mount in its image, and a bind of the host's.
    fn bundle(&self, value: &str) -> Bundle {
        let mut bundle = self.0.bundle();
        let below = bundle.rootfs().join("below");
        std::fs::create_dir(&below).expect("the lab is writable");
        mount_bind(self.0.folder(), &below).expect("root may");
        bundle.push(
            "/mounts",
            json!({"destination": "/data", "type": "bind", "source": below, "options": ["bind"]}),
        );
        if !value.is_empty() {
            bundle.config["linux"]["rootfsPropagation"] = json!(value);
        }
        bundle
    }

    fn done(&self, bundle: Bundle) {
        unmount(bundle.rootfs().join("below"), UnmountFlags::DETACH).expect("it is mounted");
    }

    fn facts(&self, value: &str) -> Value {
        let bundle = self.bundle(value);
        let output = self.0.run(&bundle);
        self.done(bundle);
        output.json()
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.0.folder(), UnmountFlags::DETACH) {
            eprintln!("{}: {error}", self.0.folder().display());
        }
    }
}

fn the_root_has_the_propagation_that_is_asked_for(lab: &Lab) {
    let host = Host::new(lab);
    for (value, root, _, _) in VALUES {
        assert_eq!(kind(&host.facts(value), "/"), root, "{value:?}");
    }
}

fn what_is_mounted_in_the_root_of_the_image_keeps_what_is_asked_for(lab: &Lab) {
    let host = Host::new(lab);
    for (value, _, bind, _) in VALUES {
        assert_eq!(kind(&host.facts(value), "/below"), bind, "{value:?}");
    }
}

fn a_bind_of_a_shared_mount_has_what_is_asked_for(lab: &Lab) {
    let host = Host::new(lab);
    for (value, _, bind, _) in VALUES {
        assert_eq!(kind(&host.facts(value), "/data"), bind, "{value:?}");
    }
}

fn a_new_mount_is_private_unless_all_are_to_be_shared(lab: &Lab) {
    let host = Host::new(lab);
    for (value, _, _, new) in VALUES {
        let facts = host.facts(value);
        for point in ["/proc", "/dev", "/dev/pts"] {
            assert_eq!(kind(&facts, point), new, "{value:?} {point}");
        }
    }
}

/// With binds it can't work: nothing could be bound.
fn everything_can_be_made_unbindable(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["linux"]["rootfsPropagation"] = json!("runbindable");
    for field in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][field] = json!([]);
    }
    bundle.without_mount("/sys/fs/cgroup");
    let facts = lab.facts(&bundle);
    for point in ["/", "/proc", "/dev/shm"] {
        assert_eq!(kind(&facts, point), Kind::Unbindable, "{point}");
    }
}

/// Mounts without their numbers.
fn mounts() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("the lane has a /proc");
    let words = |line: &str| line.split(' ').skip(2).collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect()
}

fn nothing_of_a_container_is_seen_on_a_host_that_shares_everything(lab: &Lab) {
    let host = Host::new(lab);
    for (value, _, _, _) in VALUES {
        let mut bundle = host.bundle(value);
        bundle.probe(&["sleep"]);
        // In the folder, but not on the image's own mount.
        bundle.push(
            "/mounts",
            json!({"destination": "/tmp/new", "type": "tmpfs", "source": "tmpfs"}),
        );
        let before = mounts();
        let container = lab.start(&bundle);
        assert_eq!(mounts(), before, "{value:?}");
        drop(container.call(&["delete", "--force"]).ok());
        assert_eq!(mounts(), before, "{value:?}");
        drop(container);
        host.done(bundle);
    }
}

fn without_a_pivot_the_propagation_is_the_same(lab: &Lab) {
    let host = Host::new(lab);
    for (value, root, bind, _) in VALUES {
        if value.ends_with("private") {
            continue;
        }
        let bundle = host.bundle(value);
        let output = lab.command(&["run", "--no-pivot"], &bundle, &lab.id());
        host.done(bundle);
        let facts = output.json();
        assert_eq!(kind(&facts, "/"), root, "{value:?}");
        assert_eq!(kind(&facts, "/below"), bind, "{value:?}");
    }
}

fn without_a_pivot_the_root_may_not_be_private(lab: &Lab) {
    for value in ["private", "rprivate"] {
        let mut bundle = lab.bundle();
        bundle.config["linux"]["rootfsPropagation"] = json!(value);
        let output = lab.command(&["run", "--no-pivot"], &bundle, &lab.id());
        assert!(!output.status.success(), "{output}");
        let text = output.stderr();
        assert!(
            text.contains("[r]private is not safe without pivot_root"),
            "{output}"
        );
    }
}

fn an_unknown_propagation_is_refused(lab: &Lab) {
    let mut bundle = lab.bundle();
    bundle.config["linux"]["rootfsPropagation"] = json!("sideways");
    let output = lab.run(&bundle);
    assert!(!output.status.success(), "{output}");
    assert!(output.stderr().contains("ropagation"), "{output}");
}
