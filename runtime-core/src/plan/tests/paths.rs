//! Where hidden paths are looked up.

use corten_init::abi::{Op, Slot};
use serde_json::{Value, json};

use super::cases::Case;
use crate::plan::Action;

/// Directory, path in it, and whether it is the kernel's, of some masked paths.
fn looked_up(mounts: &Value, paths: &[&str]) -> Vec<(Slot, String, bool)> {
    let case = Case::mounting("paths", mounts, json!({ "maskedPaths": paths }));
    let plan = case.plan().unwrap();
    let found = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Init(Op::MaskPath { dir, path, kernels }) => {
            Some((*dir, String::from_utf8(path.0.clone()).unwrap(), *kernels))
        }
        _ => None,
    });
    found.collect()
}

fn mount(kind: &str, on: &str) -> Value {
    json!({ "destination": on, "type": kind, "source": "/srv" })
}

#[test]
fn one_name_in_a_new_procfs_or_sysfs_is_not_opened_first() {
    let mounts = json!([
        mount("proc", "/proc"),
        mount("sysfs", "/sys"),
        mount("tmpfs", "/proc/acpi")
    ]);
    let paths = ["/proc/kcore", "/proc/acpi", "/sys/firmware"];
    let found = looked_up(&mounts, &paths);
    let expected = [
        (Slot::PROC_MOUNT, "kcore".to_owned(), true),
        (Slot::PROC_MOUNT, "acpi".to_owned(), true),
        (Slot::SYS_MOUNT, "firmware".to_owned(), true),
    ];
    assert_eq!(found, expected);
}

#[test]
fn more_than_a_name_is_walked_along() {
    let mounts = json!([mount("proc", "/proc")]);
    for path in [
        "/proc/a/b",
        "/proc/keys/",
        "/proc/./keys",
        "/proc//keys",
        "/proc/.",
        "/proc/",
    ] {
        let all = [path, "/proc/kcore"];
        let found = looked_up(&mounts, &all);
        assert!(!found[0].2 && !found[0].1.is_empty(), "{path}: {found:?}");
    }
    let climbing = looked_up(&mounts, &["/proc/..", "/proc/kcore"]);
    assert_eq!(climbing[0].0, Slot::ROOT);
}

#[test]
fn where_others_may_make_names_each_is_opened() {
    let proc = || mount("proc", "/proc");
    let bind = || mount("bind", "/proc");
    for (mounts, dir) in [
        (json!([]), Slot::ROOT),
        (json!([bind()]), Slot::PROC_MOUNT),
        (json!([mount("tmpfs", "/proc")]), Slot::PROC_MOUNT),
        (json!([proc(), bind()]), Slot::PROC_MOUNT),
        (json!([mount("proc", "/other")]), Slot::ROOT),
    ] {
        let found = looked_up(&mounts, &["/proc/kcore"]);
        assert_eq!(
            found,
            [(
                dir,
                "/proc/kcore"[if dir == Slot::ROOT { 0 } else { 5 }..].to_owned(),
                false
            )]
        );
    }
    // Other things in the image, and what is not below.
    let found = looked_up(
        &json!([proc()]),
        &["/process", "/etc/shadow", "/proc/kcore"],
    );
    assert!(
        found[..2]
            .iter()
            .all(|(dir, _, kernels)| (*dir, *kernels) == (Slot::ROOT, false))
    );
}
