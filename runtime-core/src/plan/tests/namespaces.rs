//! Which namespace comes from where: all eight kinds, new or the host's, with and without a
//! new user namespace, with and without a cgroup.
//!
//! Joined namespaces and the time namespace are refused by this version before planning.

use std::fmt::Write as _;

use corten_init::abi::{Op, Slot};

use super::cases::{self, Case};
use super::golden::{assert_none, compare};
use crate::plan::namespaces::{KINDS, Origin, origin};
use crate::plan::{Action, Context, Plan, RunOp};
use crate::spec::{IdMapping, Namespace, NamespaceKind, Spec};

/// The smallest specification with these namespaces.
fn spec_with(kinds: &[NamespaceKind]) -> Spec {
    let mut spec = cases::case("minimal").spec;
    let linux = spec.linux.get_or_insert_default();
    linux.namespaces = kinds
        .iter()
        .map(|kind| Namespace {
            kind: *kind,
            path: None,
        })
        .collect();
    if kinds.contains(&NamespaceKind::User) {
        let map = IdMapping {
            container_id: 0,
            host_id: 100_000,
            size: 65536,
        };
        linux.uid_mappings = vec![map];
        linux.gid_mappings = vec![map];
    }
    spec
}

/// Where planning takes a kind from.
fn origin_of(case: &Case, kind: NamespaceKind) -> Origin {
    let context = Context {
        spec: &case.spec,
        process: case.spec.process.as_ref().unwrap(),
        host: &case.host,
        facts: &case.facts(),
        options: &case.options,
        warnings: Vec::new(),
        obstacles: Vec::new(),
    };
    origin(&context, kind)
}

/// `clone(mount pid)`: the names of `CLONE_NEW*` flags.
fn names(flags: u64) -> String {
    let known = KINDS.iter().filter(|(_, flag)| flags & flag != 0);
    let names: Vec<&str> = known.map(|(kind, _)| kind.as_str()).collect();
    let all = KINDS.iter().fold(0, |all, (_, flag)| all | flag);
    assert_eq!(flags & !all, 0, "flags that are no namespaces: {flags:#x}");
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(" ")
    }
}

/// The calls that make namespaces and enter the cgroup, in their order.
fn calls(plan: &Plan) -> String {
    let mut calls = Vec::new();
    for step in &plan.steps {
        match &step.action {
            Action::Run(RunOp::Launch {
                namespaces,
                into_cgroup,
                stage0,
            }) => {
                let cgroup = if *into_cgroup { ", cgroup" } else { "" };
                let what = if *stage0 { "stage 0" } else { "launch" };
                calls.push(format!("{what}({}{cgroup})", names(*namespaces)));
            }
            Action::Init(Op::Clone { flags, cgroup }) => {
                let into = match *cgroup {
                    Slot::CGROUP => ", cgroup",
                    Slot::NONE => "",
                    other => panic!("the cgroup in slot {other:?}"),
                };
                calls.push(format!("clone({}{into})", names(*flags)));
            }
            Action::Init(Op::Unshare { flags }) => {
                calls.push(format!("unshare({})", names(*flags)));
            }
            Action::Run(RunOp::WriteUidMap(_)) => calls.push("uid_map".to_owned()),
            Action::Run(RunOp::WriteGidMap(_)) => calls.push("gid_map".to_owned()),
            _ => {}
        }
    }
    calls.join(", ")
}

#[test]
fn every_kind_of_namespace_comes_from_where_the_table_says() {
    use NamespaceKind::{Mount, User};
    let mut text = String::new();
    for (kind, _) in KINDS {
        for new in [true, false] {
            for user in [false, true] {
                for cgroup in [true, false] {
                    // The user namespace is a row of its own, and there is always a mount
                    // namespace.
                    if (kind == User && user) || (kind == Mount && !new) {
                        continue;
                    }
                    let mut kinds = vec![Mount];
                    kinds.extend((user).then_some(User));
                    kinds.extend((new && kind != Mount).then_some(kind));
                    let mut case = Case::new("table", spec_with(&kinds));
                    case.options.no_cgroup = !cgroup;
                    let plan = case.plan().unwrap();
                    writeln!(
                        text,
                        "{:8} {:5} {:9} {:10} {:14} {:11} {}",
                        kind.as_str(),
                        if new { "new" } else { "host" },
                        if user { "user=new" } else { "user=host" },
                        if cgroup { "cgroup" } else { "no-cgroup" },
                        format!("{:?}", origin_of(&case, kind)),
                        format!("{:?}", plan.entry),
                        calls(&plan)
                    )
                    .unwrap();
                }
            }
        }
    }
    let file = cases::folder().join("tables/namespaces.txt");
    assert_none(&Vec::from_iter(compare(&file, &text)));
}

#[test]
fn each_new_namespace_is_made_exactly_once_and_no_other() {
    // All sets of kinds that have a mount namespace.
    for set in 0..1u32 << KINDS.len() {
        let chosen = |index: usize| set >> index & 1 == 1;
        let kinds: Vec<NamespaceKind> = (0..)
            .zip(KINDS)
            .filter_map(|(index, (kind, _))| chosen(index).then_some(kind))
            .collect();
        if !kinds.contains(&NamespaceKind::Mount) {
            continue;
        }
        for no_cgroup in [false, true] {
            let mut case = Case::new("set", spec_with(&kinds));
            case.options.no_cgroup = no_cgroup;
            let plan = case.plan().unwrap();
            let mut made: Vec<u64> = Vec::new();
            for step in &plan.steps {
                made.extend(match &step.action {
                    Action::Run(RunOp::Launch { namespaces, .. }) => Some(*namespaces),
                    Action::Init(Op::Clone { flags, .. } | Op::Unshare { flags }) => Some(*flags),
                    _ => None,
                });
            }
            for (kind, flag) in KINDS {
                let times = made.iter().filter(|flags| **flags & flag != 0).count();
                assert_eq!(
                    times,
                    usize::from(kinds.contains(&kind)),
                    "{kind} of {kinds:?}"
                );
            }
        }
    }
}
