//! What an error does to the plan.

use super::*;

fn failure(errno: i32) -> Failure {
    Failure::from(Errno(errno))
}

#[test]
fn an_error_ends_init_unless_its_step_says_otherwise() {
    let failed = (report::FAILED_STEP, None);
    assert_eq!(judge(OnError::Fail, failure(errno::ENOENT)), failed);
    let warned = (report::WARNED, Some(0));
    assert_eq!(judge(OnError::Warn, failure(errno::ENOENT)), warned);
}

#[test]
fn a_step_and_those_behind_it_are_skipped_for_its_errnos_only() {
    let skip = OnError::Skip {
        errnos: [2, 20, 0],
        steps: 3,
    };
    let skipped = (report::SKIPPED, Some(3));
    let failed = (report::FAILED_STEP, None);
    assert_eq!(judge(skip, failure(errno::ENOENT)), skipped);
    assert_eq!(judge(skip, failure(errno::ENOTDIR)), skipped);
    assert_eq!(judge(skip, failure(errno::EPERM)), failed);
}

#[test]
fn an_unused_errno_of_a_policy_matches_nothing() {
    let skip = OnError::Skip {
        errnos: [0; 3],
        steps: 1,
    };
    let failed = (report::FAILED_STEP, None);
    assert_eq!(judge(skip, failure(0)), failed);
    // Not cut to 16 bits either.
    assert_eq!(judge(skip, failure(1 << 16)), failed);
}
