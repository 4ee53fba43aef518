//! The compiled program against a plain reading of the rules.

use super::*;

/// What the kernel asks a device program.
#[derive(Debug, Clone, Copy)]
struct Request {
    kind: u8,
    access: u8,
    major: u32,
    minor: u32,
}

/// Runs `program` as the kernel would; panics at what the verifier refuses.
fn run(program: &[Insn], request: Request) -> bool {
    let context = [
        u32::from(request.access) << 16 | u32::from(request.kind),
        request.major,
        request.minor,
    ];
    let mut registers = [None; 11];
    let mut at = 0;
    loop {
        let insn = program[at];
        at += 1;
        let (to, from) = insn.destination_and_source();
        let (to, from) = (usize::from(to), usize::from(from));
        let operand = insn.immediate.cast_unsigned();
        let value = |register: usize| -> u32 { registers[register].expect("is set") };
        let mut jump = false;
        match insn.code {
            LOAD_WORD => {
                assert_eq!(from, usize::from(CONTEXT));
                assert!(registers[from].is_none(), "the context is overwritten");
                registers[to] = Some(context[usize::try_from(insn.offset).unwrap() / 4]);
            }
            AND => registers[to] = Some(value(to) & operand),
            OR_REGISTER => registers[to] = Some(value(to) | value(from)),
            SHIFT_LEFT => registers[to] = Some(value(to) << operand),
            SHIFT_RIGHT => registers[to] = Some(value(to) >> operand),
            MOVE => registers[to] = Some(operand),
            MOVE_REGISTER => registers[to] = Some(value(from)),
            JUMP_IF_EQUAL => jump = value(to) == operand,
            JUMP_UNLESS_EQUAL => jump = value(to) != operand,
            EXIT => return value(0) != 0,
            code => panic!("unknown instruction {code:#x}"),
        }
        if jump {
            // Only forwards: the verifier refuses what may not end.
            at += usize::try_from(insn.offset).expect("jumps forwards");
        }
    }
}

/// The rules read plainly: each part by the last rule that names it and the device.
fn evaluate(rules: &[Rule], request: Request) -> bool {
    let matches = |rule: &&Rule, part: u8| {
        (rule.kind == Kind::Any || rule.kind as u8 == request.kind)
            && rule.major.is_none_or(|major| major == request.major)
            && rule.minor.is_none_or(|minor| minor == request.minor)
            && rule.access & part != 0
    };
    [MKNOD, READ, WRITE]
        .into_iter()
        .filter(|part| request.access & part != 0)
        .all(|part| {
            rules
                .iter()
                .rfind(|rule| matches(rule, part))
                .is_some_and(|r| r.allow)
        })
}

/// The greatest numbers of a device.
const LAST_MAJOR: u32 = (1 << 12) - 1;
const LAST_MINOR: u32 = (1 << 20) - 1;

fn requests() -> impl Iterator<Item = Request> {
    const MAJORS: [u32; 8] = [0, 1, 2, 3, 5, 136, 200, LAST_MAJOR];
    const MINORS: [u32; 8] = [0, 1, 2, 3, 5, 136, 200, LAST_MINOR];
    let pairs = MAJORS.iter().flat_map(|a| MINORS.map(|b| (*a, b)));
    pairs.flat_map(|(major, minor)| {
        (1..=2).flat_map(move |kind| {
            (1..=7).map(move |access| Request {
                kind,
                access,
                major,
                minor,
            })
        })
    })
}

fn compare(rules: &[Rule]) {
    let (default, left) = effective(rules.to_vec());
    let program = compile(default, &left);
    for request in requests() {
        assert_eq!(
            run(&program, request),
            evaluate(rules, request),
            "{rules:?} {request:?}"
        );
    }
}

/// All rules over a few kinds, numbers and accesses.
fn all_rules() -> Vec<Rule> {
    let mut all = Vec::new();
    for allow in [false, true] {
        for kind in [Kind::Any, Kind::Block, Kind::Char] {
            for major in [None, Some(1), Some(LAST_MAJOR), Some(u32::MAX)] {
                for minor in [None, Some(3), Some(LAST_MINOR)] {
                    for access in [READ, READ | WRITE, MKNOD, ALL] {
                        all.push(Rule {
                            allow,
                            kind,
                            major,
                            minor,
                            access,
                        });
                    }
                }
            }
        }
    }
    all
}

#[test]
fn every_single_rule_means_the_same_compiled_and_read() {
    compare(&[]);
    for rule in all_rules() {
        compare(&[rule]);
    }
}

#[test]
fn lists_of_rules_mean_the_same_compiled_and_read() {
    let all = all_rules();
    // A fixed walk through lists of 2 to 12 rules; the step has no factor in common
    // with the number of rules, so all are met, in every neighbourhood.
    let mut at = 0;
    for round in 0..600 {
        let list: Vec<Rule> = (0..2 + round % 11)
            .map(|_| {
                at = (at + 61 + round) % all.len();
                all[at]
            })
            .collect();
        compare(&list);
    }
}

fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        kind: Some(kind.to_owned()),
        major: Some(major),
        minor: Some(minor),
        access: Some(access.to_owned()),
    }
}

fn allows(rules: &[DeviceRule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let program = device_program(rules, []).unwrap().unwrap();
    let request = Request {
        kind: kind as u8,
        access,
        major,
        minor,
    };
    run(&program.instructions, request)
}

#[test]
fn without_rules_only_the_usual_devices_are_allowed() {
    let deny_all = DeviceRule {
        access: Some("rwm".into()),
        ..DeviceRule::default()
    };
    for rules in [&[][..], &[deny_all]] {
        for (major, minor) in [
            (1, 3),
            (1, 5),
            (1, 7),
            (1, 8),
            (1, 9),
            (5, 0),
            (5, 2),
            (136, 7),
        ] {
            assert!(allows(rules, Kind::Char, major, minor, READ | WRITE));
        }
        assert!(allows(rules, Kind::Block, 8, 0, MKNOD));
        assert!(!allows(rules, Kind::Block, 8, 0, READ));
        assert!(!allows(rules, Kind::Char, 1, 1, WRITE));
        assert!(!allows(rules, Kind::Block, 1, 3, READ));
    }
}

#[test]
fn more_rules_than_a_jump_reaches_mean_what_they_say() {
    let rules: Vec<DeviceRule> = (0..40_000)
        .map(|n| rule(true, "c", 300, n, "rwm"))
        .collect();
    for (minor, allowed) in [(0, true), (20_000, true), (39_999, true), (40_000, false)] {
        assert_eq!(
            allows(&rules, Kind::Char, 300, minor, READ),
            allowed,
            "{minor}"
        );
        assert!(!allows(&rules, Kind::Block, 300, minor, READ), "{minor}");
    }
}

#[test]
fn rules_that_allow_everything_need_no_program() {
    let everything = rule(true, "a", -1, -1, "rwm");
    assert_eq!(device_program(&[everything], []).unwrap(), None);
}

#[test]
fn a_denied_write_is_denied_to_a_reader_and_writer_too() {
    let rules = [
        rule(true, "a", -1, -1, "rwm"),
        rule(false, "c", 10, 229, "w"),
    ];
    assert!(allows(&rules, Kind::Char, 10, 229, READ));
    assert!(!allows(&rules, Kind::Char, 10, 229, READ | WRITE));
}

#[test]
fn a_hole_in_a_wildcard_is_a_hole() {
    let rules = [rule(true, "b", 8, -1, "rw"), rule(false, "b", 8, 1, "w")];
    assert!(allows(&rules, Kind::Block, 8, 0, READ | WRITE));
    assert!(allows(&rules, Kind::Block, 8, 1, READ));
    assert!(!allows(&rules, Kind::Block, 8, 1, READ | WRITE));
}

#[test]
fn a_device_of_the_config_takes_the_place_of_the_usual_one() {
    let deny = [rule(false, "c", 1, 5, "rwm")];
    assert!(allows(&deny, Kind::Char, 1, 5, READ));
    let program = device_program(&deny, ["/dev/zero"]).unwrap().unwrap();
    let request = Request {
        kind: Kind::Char as u8,
        access: READ,
        major: 1,
        minor: 5,
    };
    assert!(!run(&program.instructions, request));
}

#[test]
fn a_wrong_rule_is_refused_by_its_place() {
    let refused = |rule| {
        let rules = [
            DeviceRule {
                access: Some("r".into()),
                ..DeviceRule::default()
            },
            rule,
        ];
        device_program(&rules, []).unwrap_err().to_string()
    };
    assert_eq!(
        refused(rule(true, "u", 1, 1, "r")),
        "linux.resources.devices[1].type: invalid cgroup device type \"u\""
    );
    assert_eq!(
        refused(rule(true, "c", 4_294_967_296, 1, "r")),
        "linux.resources.devices[1].major: 4294967296 is not a device number"
    );
    assert_eq!(
        refused(rule(true, "c", 1, -2, "r")),
        "linux.resources.devices[1].minor: -2 is not a device number"
    );
    assert_eq!(
        refused(rule(true, "c", 1, 1, "rx")),
        "linux.resources.devices[1].access: unknown device access 'x'"
    );
    assert_eq!(
        refused(DeviceRule::default()),
        "linux.resources.devices[1].access: cannot be empty"
    );
}
