//! Which namespace comes from where: all eight kinds, new, joined or the host's, with the
//! host's, a new or a joined user namespace, with and without a cgroup.

use std::fmt::Write as _;

use corten_init::abi::{Op, Slot};

use super::cases::{self, Case};
use super::golden::{assert_none, compare};
use crate::host::Joined;
use crate::plan::enter::CLONE_VM;
use crate::plan::namespaces::{Origin, begun_early, origin};
use crate::plan::{Action, Context, Plan, RunOp};
use crate::spec::{IdMapping, Namespace, NamespaceKind, Spec};

/// Where a test's configuration takes a kind of namespace from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Host,
    New,
    /// By path; owned by the host, as far as there is a choice.
    Joined,
    /// By path; owned by the user namespace that is joined, too.
    Inside,
    /// By path; the caller's own.
    Own,
}

impl From {
    fn word(self) -> &'static str {
        match self {
            From::Host => "host",
            From::New => "new",
            From::Joined => "joined",
            From::Inside => "inside",
            From::Own => "own",
        }
    }
}

/// The smallest specification with these namespaces.
fn spec_with(kinds: &[(NamespaceKind, From)]) -> Spec {
    let mut spec = cases::case("minimal").spec;
    let linux = spec.linux.get_or_insert_default();
    let named = kinds.iter().filter(|(_, from)| *from != From::Host);
    linux.namespaces = named
        .map(|(kind, from)| Namespace {
            kind: *kind,
            path: (*from != From::New).then(|| format!("/run/{kind}")),
        })
        .collect();
    if kinds.contains(&(NamespaceKind::User, From::New)) {
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

fn case_with(kinds: &[(NamespaceKind, From)]) -> Case {
    let mut case = Case::new("table", spec_with(kinds));
    let named = kinds
        .iter()
        .filter(|(_, from)| !matches!(from, From::Host | From::New));
    case.joined = named
        .map(|(kind, from)| {
            let joined = Joined {
                own: *from == From::Own,
                inside_user: *from == From::Inside,
                ..Joined::default()
            };
            (*kind, joined)
        })
        .collect();
    case
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

/// `mount pid`: the names of `CLONE_NEW*` flags.
fn names(flags: u64) -> String {
    let known = NamespaceKind::ALL.iter();
    let known = known.filter(|kind| flags & kind.clone_flag() != 0);
    let names: Vec<&str> = known.map(|kind| kind.as_str()).collect();
    let all = NamespaceKind::ALL.iter();
    let all = all.fold(0, |all, kind| all | kind.clone_flag());
    assert_eq!(flags & !all, 0, "flags that are no namespaces: {flags:#x}");
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(" ")
    }
}

/// The calls that make and join namespaces and enter the cgroup, in their order.
fn calls(plan: &Plan) -> String {
    let call = |action: &Action| {
        Some(match action {
            Action::Run(RunOp::Launch {
                namespaces,
                into_cgroup,
                stage0,
            }) => {
                let cgroup = if *into_cgroup { ", cgroup" } else { "" };
                let what = if *stage0 { "stage 0" } else { "launch" };
                format!("{what}({}{cgroup})", names(*namespaces))
            }
            Action::Init(Op::Clone { flags, cgroup }) => {
                let into = match *cgroup {
                    Slot::CGROUP => ", cgroup",
                    Slot::NONE => "",
                    other => panic!("the cgroup in slot {other:?}"),
                };
                let memory = if flags & CLONE_VM == 0 {
                    ""
                } else {
                    ", memory"
                };
                format!("clone({}{memory}{into})", names(*flags & !CLONE_VM))
            }
            Action::Init(Op::Unshare { flags }) => format!("unshare({})", names(*flags)),
            Action::Init(Op::Join { kinds, .. }) => format!("join({})", names(*kinds)),
            Action::Init(Op::EnterTime { .. }) => "enter(time)".to_owned(),
            Action::Run(RunOp::WriteUidMap(_)) => "uid_map".to_owned(),
            Action::Run(RunOp::WriteGidMap(_)) => "gid_map".to_owned(),
            _ => return None,
        })
    };
    let calls: Vec<String> = plan
        .steps
        .iter()
        .filter_map(|step| call(&step.action))
        .collect();
    calls.join(", ")
}

/// What one kind of namespace can be, where the user namespace is this.
fn choices(kind: NamespaceKind, user: From) -> Vec<From> {
    let mut choices = vec![From::New, From::Joined, From::Own, From::Host];
    if user == From::Joined && kind != NamespaceKind::User {
        choices.insert(2, From::Inside);
    }
    choices
}

#[test]
fn every_kind_of_namespace_comes_from_where_the_table_says() {
    use NamespaceKind::{Mount, User};
    let mut text = String::new();
    for kind in NamespaceKind::ALL {
        for user in [From::Host, From::New, From::Joined] {
            // The user namespace is a row of its own.
            if kind == User && user != From::Host {
                continue;
            }
            for from in choices(kind, user) {
                for cgroup in [true, false] {
                    let mut kinds = vec![(kind, from)];
                    kinds.extend((kind != User).then_some((User, user)));
                    // Nearly every container has a mount namespace.
                    kinds.extend((kind != Mount).then_some((Mount, From::New)));
                    let mut case = case_with(&kinds);
                    case.options.no_cgroup = !cgroup;
                    let plan = case.plan().unwrap();
                    writeln!(
                        text,
                        "{:8} {:6} {:11} {:9} {:13} {:10} {}",
                        kind.as_str(),
                        from.word(),
                        format!("user={}", user.word()),
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

/// Every combination of all kinds, each the host's, new, joined or joined and inside. The
/// ipc and uts namespaces are as the network namespace.
fn combinations() -> impl Iterator<Item = Vec<(NamespaceKind, From)>> {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts};
    const FROM: [From; 4] = [From::Host, From::New, From::Joined, From::Inside];
    let count = FROM.len().pow(6);
    (0..count).filter_map(move |number| {
        let digit = |place: u32| FROM[number / FROM.len().pow(place) % FROM.len()];
        let [user, pid, network, cgroup, time, mount] = [0, 1, 2, 3, 4, 5].map(digit);
        let others = [pid, network, cgroup, time, mount];
        let inside = user == From::Joined || !others.contains(&From::Inside);
        (user != From::Inside && inside).then_some(vec![
            (User, user),
            (Mount, mount),
            (Pid, pid),
            (Network, network),
            (Ipc, network),
            (Uts, network),
            (Cgroup, cgroup),
            (Time, time),
        ])
    })
}

#[test]
fn each_namespace_is_made_or_joined_exactly_once_and_no_other() {
    for kinds in combinations() {
        let plan = case_with(&kinds).plan().unwrap();
        let (mut made, mut joined) = (Vec::new(), Vec::new());
        for step in &plan.steps {
            match &step.action {
                Action::Run(RunOp::Launch { namespaces, .. }) => made.push(*namespaces),
                Action::Init(Op::Clone { flags, .. } | Op::Unshare { flags }) => made.push(*flags),
                Action::Init(Op::Join { kinds, .. }) => joined.push(*kinds),
                _ => {}
            }
        }
        for (kind, from) in &kinds {
            let times = |list: &[u64]| {
                list.iter()
                    .filter(|flags| **flags & kind.clone_flag() != 0)
                    .count()
            };
            let expected = match from {
                From::New => (1, 0),
                From::Joined | From::Inside => (0, 1),
                From::Host | From::Own => (0, 0),
            };
            assert_eq!(
                (times(&made), times(&joined)),
                expected,
                "{kind} of {kinds:?}"
            );
        }
    }
}

/// Where in the plan a step is.
fn position(plan: &Plan, wanted: impl Fn(&Action) -> bool) -> Option<usize> {
    plan.steps.iter().position(|step| wanted(&step.action))
}

#[test]
fn what_is_begun_before_there_is_a_plan_is_what_the_clone_would_make() {
    use NamespaceKind::{Ipc, Mount, Network, Pid, Uts};
    let mut begun = 0;
    for kinds in combinations() {
        let case = case_with(&kinds);
        let Some(flags) = begun_early(case.spec.namespaces()) else {
            continue;
        };
        begun += 1;
        for kind in NamespaceKind::ALL {
            let is_made = flags & kind.clone_flag() != 0;
            let in_clone = origin_of(&case, kind) == Origin::InClone;
            assert_eq!(
                is_made,
                in_clone && !matches!(kind, Mount | Pid),
                "{kinds:?}"
            );
        }
        let calls = calls(&case.plan().unwrap());
        assert!(calls.contains("launch("), "{kinds:?}: {calls}");
    }
    assert!(begun > 0);
    let without_network = [Ipc, Uts, Mount, Pid].map(|kind| (kind, From::New));
    assert_eq!(begun_early(spec_with(&without_network).namespaces()), None);
    let network = [(Network, From::New)];
    assert_eq!(
        begun_early(spec_with(&network).namespaces()),
        Some(Network.clone_flag())
    );
}

#[test]
fn what_the_host_owns_is_joined_before_the_user_namespace_and_what_that_owns_after() {
    let user = NamespaceKind::User.clone_flag();
    for kinds in combinations() {
        let plan = case_with(&kinds).plan().unwrap();
        let enters_user = position(&plan, |action| match action {
            Action::Init(Op::Clone { flags, .. }) => flags & user != 0,
            Action::Init(Op::Join { kinds, .. }) => *kinds == user,
            _ => false,
        });
        let clones = position(&plan, |action| {
            matches!(action, Action::Init(Op::Clone { .. }))
        });
        for (kind, from) in &kinds {
            let joins = position(
                &plan,
                |action| matches!(action, Action::Init(Op::Join { kinds, .. }) if *kinds == kind.clone_flag()),
            );
            let (Some(joins), Some(enters)) = (joins, enters_user) else {
                continue;
            };
            if *kind != NamespaceKind::User {
                assert_eq!(joins > enters, *from == From::Inside, "{kind} of {kinds:?}");
            }
            assert!(
                clones.is_none_or(|clones| joins < clones),
                "{kind} of {kinds:?}"
            );
        }
    }
}

#[test]
fn memory_is_shared_with_stage_0_unless_a_user_or_time_namespace_forbids_it() {
    use NamespaceKind::{Time, User};
    for kinds in combinations() {
        let plan = case_with(&kinds).plan().unwrap();
        let of_host = |(kind, from): &(NamespaceKind, From)| {
            !matches!(kind, User | Time) || *from == From::Host
        };
        for step in &plan.steps {
            if let Action::Init(Op::Clone { flags, .. }) = step.action {
                let is_shared = flags & CLONE_VM != 0;
                assert_eq!(is_shared, kinds.iter().all(of_host), "{kinds:?}");
            }
        }
    }
}

#[test]
fn nobody_can_look_into_init_from_the_first_namespace_that_is_joined() {
    let hides = |action: &Action| matches!(action, Action::Init(Op::NonDumpable {}));
    let joins = |action: &Action| matches!(action, Action::Init(Op::Join { .. }));
    let user = NamespaceKind::User.clone_flag();
    for kinds in combinations() {
        let plan = case_with(&kinds).plan().unwrap();
        if let Some(first) = position(&plan, joins) {
            assert!(position(&plan, hides).unwrap() < first, "{kinds:?}");
        }
        let joins_user = |action: &Action| matches!(action, Action::Init(Op::Join { kinds, .. }) if *kinds == user);
        if let Some(at) = position(&plan, joins_user) {
            assert!(hides(&plan.steps[at + 1].action), "{kinds:?}");
        }
    }
}

#[test]
fn what_belongs_to_the_hosts_own_namespace_is_refused_by_name() {
    use NamespaceKind::{User, Uts};
    let map = IdMapping {
        container_id: 0,
        host_id: 100_000,
        size: 65536,
    };
    let refused = |kind, field: &str, edit: &dyn Fn(&mut Spec)| {
        let mut case = case_with(&[(NamespaceKind::Mount, From::New), (kind, From::Own)]);
        assert!(case.plan().is_ok());
        edit(&mut case.spec);
        let error = case.plan().unwrap_err().to_string();
        let expected = format!("{field}: needs a {kind} namespace that is not the host's");
        assert_eq!(error, expected);
    };
    refused(Uts, "hostname", &|spec| {
        spec.hostname = Some("db1".to_owned());
    });
    refused(Uts, "domainname", &|spec| {
        spec.domainname = Some("local".to_owned());
    });
    refused(User, "linux.uidMappings", &|spec| {
        spec.linux.get_or_insert_default().uid_mappings = vec![map];
    });
    refused(User, "linux.gidMappings", &|spec| {
        spec.linux.get_or_insert_default().gid_mappings = vec![map];
    });
}
