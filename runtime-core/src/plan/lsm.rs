//! `process.apparmorProfile`, `process.selinuxLabel`, `linux.mountLabel`.
//!
//! A profile or label is what the process gets by its next execve(2): it is written to an
//! attribute of init's own, by a procfs that nobody else sees. See apparmor(7), selinux(8),
//! proc_pid_attr(5).

use corten_init::abi::{Op, Slot};

use super::{Context, PlanError, Step, process};

const APPARMOR: &str = "process.apparmorProfile";
const SELINUX: &str = "process.selinuxLabel";
const MOUNT: &str = "linux.mountLabel";

/// A container must not run without the confinement that it was to have.
pub(super) fn check(cx: &mut Context<'_>) {
    let asked = [
        (
            APPARMOR,
            cx.process.apparmor_profile.is_some(),
            "AppArmor",
            cx.host.apparmor,
        ),
        (
            SELINUX,
            cx.process.selinux_label.is_some(),
            "SELinux",
            cx.host.selinux,
        ),
        (MOUNT, mount_label(cx).is_some(), "SELinux", cx.host.selinux),
    ];
    for (field, is_asked, module, is_there) in asked {
        if is_asked && !is_there {
            let what = format!("{module} is disabled or not supported on this host");
            cx.obstacles.push(PlanError::host(field, what));
        }
    }
}

/// What is written to the procfs; the session keyring too, where it has a label.
pub(super) fn labels(cx: &Context<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(profile) = &cx.process.apparmor_profile {
        let what = format!("be confined by AppArmor profile {profile} on exec");
        let command = format!("exec {profile}");
        steps.push(write("apparmor/exec", &command, APPARMOR, what));
    }
    if let Some(label) = &cx.process.selinux_label {
        if let Some(join) = process::keyring(cx) {
            let what = format!("label keyrings {label}");
            steps.push(write("keycreate", label, SELINUX, what));
            steps.push(join);
            // Later keys are the program's own affair.
            steps.push(write(
                "keycreate",
                "",
                SELINUX,
                "label keyrings as usual".to_owned(),
            ));
        }
        let what = format!("be labelled {label} on exec");
        steps.push(write("exec", label, SELINUX, what));
    }
    steps
}

fn write(attribute: &str, value: &str, origin: &str, what: String) -> Step {
    let op = Op::WriteAttribute {
        proc: Slot::PROC,
        name: format!("attr/{attribute}").into(),
        value: value.into(),
    };
    Step::init(op, origin, what)
}

/// Whether the session keyring is joined among [`labels`].
pub(super) fn has_keyring(cx: &Context<'_>) -> bool {
    cx.process.selinux_label.is_some()
}

pub(super) fn mount_label<'a>(cx: &Context<'a>) -> Option<&'a str> {
    let linux = cx.spec.linux.as_ref();
    linux.and_then(|linux| linux.mount_label.as_deref())
}

/// The mount option that gives all files of a new file system a label. Those of the kernel
/// itself have labels of their own; message queues take one only for the directory.
pub(super) fn context_option(cx: &Context<'_>, kind: &str) -> Option<String> {
    let kernels = matches!(kind, "proc" | "sysfs" | "cgroup" | "cgroup2" | "mqueue");
    let label = mount_label(cx).filter(|_| !kernels);
    label.map(|label| format!("context=\"{label}\""))
}

/// The label of a new file system that takes no option for it.
pub(super) fn label_root(cx: &Context<'_>, kind: &str, mount: Slot) -> Option<Step> {
    let label = mount_label(cx).filter(|_| kind == "mqueue")?;
    let op = Op::LabelRoot {
        mount,
        label: label.into(),
    };
    Some(Step::init(op, MOUNT, format!("label the {kind} {label}")))
}

/// The empty file system over masked directories, where it has a label.
pub(super) fn mask_source(cx: &Context<'_>) -> Option<Step> {
    /// ro, nosuid, nodev and noexec of mount_setattr(2).
    const ATTRS: u64 = 1 | 2 | 4 | 8;
    let label = mount_label(cx)?;
    let op = Op::NewFs {
        kind: "tmpfs".into(),
        source: "tmpfs".into(),
        data: format!("nr_inodes=1\0mode=0755\0context={label}\0ro\0").into(),
        attrs: ATTRS,
        like: "".into(),
        into: Slot::EMPTY,
    };
    let what = "make an empty tmpfs for masks";
    Some(Step::init(op, MOUNT, what))
}
