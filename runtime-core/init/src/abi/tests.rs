//! What is written to a plan is what is read from it.

use super::*;

/// Numbers without a pattern, the same ones each time (Marsaglia's xorshift64).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn known_codes() -> Vec<u16> {
    (0..=u16::MAX)
        .filter(|code| Op::<Flat>::from_words(*code, &[0; ARGS]).is_some())
        .collect()
}

#[test]
fn every_op_reads_back_as_it_was_written() {
    let mut state = 1;
    let codes = known_codes();
    assert!(codes.len() > 40, "{codes:?}");
    for code in codes {
        for _ in 0..100 {
            let words = [(); ARGS].map(|()| random(&mut state));
            let op = Op::<Flat>::from_words(code, &words).unwrap();
            assert_eq!(op.code(), code);
            assert_eq!(Op::from_words(code, &op.to_words()), Some(op));
        }
    }
}

#[test]
fn every_field_of_an_op_has_a_word_of_its_own() {
    let span = |offset| Span { offset, len: 9 };
    let node = Op::<Flat>::MakeNode {
        dir: Slot::DEV,
        name: span(1),
        mode: 2,
        major: 3,
        minor: 4,
        uid: 5,
        gid: 6,
    };
    assert_eq!(node.to_words(), [7, 1 | 9 << 32, 2, 3, 4, 5, 6, 0]);
    let attr = Op::<Flat>::SetAttr {
        mount: Slot::MOUNT,
        set: 1,
        clear: u64::MAX,
        propagation: 3,
        recursive: true,
    };
    assert_eq!(attr.to_words(), [10, 1, u64::MAX, 3, 1, 0, 0, 0]);
    let nice = Op::<Flat>::SetNice { nice: -20 };
    assert_eq!(nice.to_words().first(), Some(&0xffff_ffec));
    assert_eq!(Op::from_words(nice.code(), &nice.to_words()), Some(nice));
}

#[test]
fn every_policy_of_a_step_reads_back_as_it_was_written() {
    let policies = [
        OnError::Fail,
        OnError::Warn,
        OnError::Skip {
            errnos: [2, 20, 0],
            steps: 0,
        },
        OnError::Skip {
            errnos: [u16::MAX, 1, u16::MAX],
            steps: u8::MAX,
        },
    ];
    for code in known_codes() {
        let op = Op::<Flat>::from_words(code, &[3; ARGS]).unwrap();
        for on_error in policies {
            let step = FlatStep {
                op: op.clone(),
                on_error,
            };
            assert_eq!(FlatStep::from_words(&step.to_words()), Some(step));
        }
    }
}

#[test]
fn an_unknown_op_is_no_step() {
    let mut words = [0; STEP_WORDS];
    assert_eq!(FlatStep::from_words(&words), None);
    words[0] = 0xffff;
    assert_eq!(FlatStep::from_words(&words), None);
}

#[test]
fn random_words_never_panic() {
    let mut state = 7;
    for _ in 0..100_000 {
        let mut words = [(); STEP_WORDS].map(|()| random(&mut state));
        words[0] &= 0x7f | random(&mut state) << 16;
        if let Some(step) = FlatStep::from_words(&words) {
            assert_eq!(FlatStep::from_words(&step.to_words()), Some(step));
        }
    }
}

#[test]
fn every_kind_of_failure_has_its_number_and_an_unknown_number_is_plain() {
    let mut last = 0;
    for number in 0..1000 {
        let kind = Kind::from_number(number);
        if kind != Kind::Plain {
            assert_eq!(kind as u32, number);
            last = number;
        }
    }
    // They are counted without a gap.
    assert!((1..=last).all(|number| Kind::from_number(number) != Kind::Plain));
    assert_eq!(Kind::from_number(u32::MAX), Kind::Plain);
}

#[test]
fn the_fields_of_plan_and_report_lie_one_behind_the_other() {
    assert_eq!(header::SLOTS, header::STDIO + 3);
    assert_eq!(header::STEPS, header::SLOTS + SLOTS);
    assert_eq!(report::STEPS % 8, 0);
    assert_eq!(report::STEP % 8, 0);
    assert_eq!(report::STEPS, report::DETAIL + DETAIL_MAX);
    assert_eq!(report::size(2), report::STEPS + 2 * report::STEP);
    assert_eq!(report::size(usize::MAX), usize::MAX);
}

#[test]
fn the_slots_with_names_are_different_ones() {
    let named = [
        Slot::SOCKET,
        Slot::EXEC_FIFO,
        Slot::DONE,
        Slot::CGROUP,
        Slot::ROOT,
        Slot::NULL,
        Slot::EMPTY,
        Slot::DEV,
        Slot::PTY_MASTER,
        Slot::PTY,
        Slot::MOUNT,
    ];
    let mut numbers = named.map(|slot| usize::from(slot.0)).to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), named.len());
    assert!(numbers.iter().all(|number| *number < SLOTS));
    assert!(usize::from(Slot::NONE.0) >= SLOTS);
}
