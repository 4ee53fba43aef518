//! Plans of a profile whose filter is known.

use std::sync::Arc;

use super::cases::{Case, case};
use super::properties::plans;
use crate::plan::Plan;
use crate::seccomp::{decode, encode};
use crate::spec::{Compiled, SeccompAction, SeccompRule, parse_known};

/// The case as its config.json is read where the profiles in `kept` are known.
fn read_again(case: &mut Case, kept: &[(Box<str>, Arc<Compiled>)]) {
    let json = crate::spec::to_json(&case.spec);
    let find = |text: &str| {
        let known = kept.iter().find(|(its, _)| **its == *text);
        known.map(|(text, compiled)| decode(text, &encode(text, compiled)).unwrap())
    };
    let read = parse_known(json.as_bytes(), find).unwrap();
    assert_eq!(read, case.spec, "{}", case.name);
    case.spec = read;
}

#[test]
fn a_plan_with_a_known_profile_is_the_one_without() {
    let mut known = Vec::new();
    for (mut case, plan) in plans() {
        read_again(&mut case, &[]);
        let first = case.plan().unwrap();
        let kept = first.filter.clone();
        assert_eq!(
            Plan {
                filter: None,
                ..first
            },
            plan,
            "{}",
            case.name
        );
        let Some(kept) = kept else {
            continue;
        };
        read_again(&mut case, &[kept]);
        assert_eq!(case.plan().unwrap(), plan, "{}", case.name);
        known.push(case.name);
    }
    // Not one of those with a listener.
    assert!(
        known.len() > 2 && !known.iter().any(|name| name.contains("notify")),
        "{known:?}"
    );
}

#[test]
fn a_known_profile_that_denies_init_a_call_says_so_each_time() {
    let mut case = case("seccomp");
    let linux = case.spec.linux.as_mut().unwrap();
    let mut profile = linux
        .seccomp
        .as_ref()
        .unwrap()
        .seccomp()
        .unwrap()
        .into_owned();
    profile.syscalls.insert(0, deny("execve"));
    linux.seccomp = Some(profile.into());
    let error = case.plan().unwrap_err();
    // No such plan is carried out, so none is kept; here it is by force.
    let text: Box<str> = {
        let linux = case.spec.linux.as_ref().unwrap();
        serde_json::to_string(&linux.seccomp).unwrap().into()
    };
    let json = format!("{{\"linux\": {{\"seccomp\": {text}}}}}");
    let passes_nothing = Compiled {
        program: vec![6, 0],
        flags: None,
        passes: 0,
        warnings: vec![],
    };
    let read = parse_known(json.as_bytes(), |_| Some(passes_nothing)).unwrap();
    case.spec.linux.as_mut().unwrap().seccomp = read.linux.unwrap().seccomp;
    assert_eq!(case.plan().unwrap_err(), error);
}

fn deny(call: &str) -> SeccompRule {
    SeccompRule {
        names: vec![call.to_owned()],
        action: SeccompAction::KillProcess,
        errno_ret: None,
        args: Vec::new(),
    }
}
