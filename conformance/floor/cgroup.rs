//! The container's cgroup: made with its limits and its device program, removed when empty.

use super::sys::{Word, call, nr};
use super::{CWD, O_CLOEXEC, Order, check};

const O_WRONLY: usize = 1;
const O_DIRECTORY: usize = if cfg!(target_arch = "x86_64") {
    0o200_000
} else {
    0o40_000
};
const ENOENT: isize = -2;
const EBUSY: isize = -16;

/// Makes it, and returns it open.
pub fn make(order: &Order) -> usize {
    let path = Word::from(order.cgroup);
    check(
        c"make the cgroup",
        call(nr::MKDIRAT, &[CWD, path, Word(0o755)]),
    );
    let open = call(nr::OPENAT, &[CWD, path, Word(O_DIRECTORY | O_CLOEXEC)]);
    let group = check(c"open the cgroup", open);
    for (name, value) in order.kind.limits {
        let file = call(
            nr::OPENAT,
            &[Word(group), (*name).into(), Word(O_WRONLY | O_CLOEXEC)],
        );
        if file == ENOENT {
            continue;
        }
        let file = Word(check(c"open a limit", file));
        check(
            c"write a limit",
            call(nr::WRITE, &[file, value.as_ptr().into(), Word(value.len())]),
        );
        call(nr::CLOSE, &[file]);
    }
    if order.kind.devices {
        attach_devices(group);
    }
    group
}

/// Waits until nobody is in it, and removes it.
pub fn remove(order: &Order) {
    const AT_REMOVEDIR: usize = 0x200;
    loop {
        let removed = call(
            nr::UNLINKAT,
            &[CWD, order.cgroup.into(), Word(AT_REMOVEDIR)],
        );
        if removed != EBUSY {
            check(c"remove the cgroup", removed);
            return;
        }
        // All were killed with their pid namespace, and reaped before its first process: so
        // this is for a millisecond, if it is ever.
        let moment = [0_u64, 1_000_000];
        call(
            nr::PPOLL,
            &[Word(0), Word(0), moment.as_ptr().into(), Word(0), Word(0)],
        );
    }
}

/// `struct bpf_insn`: code, registers, where to jump, operand.
#[repr(C)]
#[derive(Clone, Copy)]
struct Insn(u8, u8, i16, i32);

const LOAD_WORD: u8 = 0x61;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const EXIT: Insn = Insn(0x95, 0, 0, 0);

/// The character devices that every container may use, `None` being any minor number.
const ALLOWED: [(i32, Option<i32>); 9] = [
    (1, Some(3)),
    (1, Some(8)),
    (1, Some(7)),
    (5, Some(0)),
    (1, Some(5)),
    (1, Some(9)),
    (136, None),
    (5, Some(2)),
    (10, Some(200)),
];

/// What a device program of a container says: mknod of anything, use of [`ALLOWED`].
/// Registers: 2 the kind, 3 the access, 4 and 5 the numbers.
const fn device_program() -> [Insn; 55] {
    let mut program = [EXIT; 55];
    program[0] = Insn(LOAD_WORD, 0x12, 0, 0);
    program[1] = Insn(MOVE_REGISTER, 0x23, 0, 0);
    program[2] = Insn(AND, 2, 0, 0xffff);
    program[3] = Insn(SHIFT_RIGHT, 3, 0, 16);
    program[4] = Insn(LOAD_WORD, 0x14, 4, 0);
    program[5] = Insn(LOAD_WORD, 0x15, 8, 0);
    let mut at = 6;
    let mut rule = 0;
    while rule < ALLOWED.len() {
        let (major, minor) = ALLOWED[rule];
        let rest = if minor.is_some() { 4 } else { 3 };
        program[at] = Insn(JUMP_UNLESS_EQUAL, 2, rest, 2);
        program[at + 1] = Insn(JUMP_UNLESS_EQUAL, 4, rest - 1, major);
        at += 2;
        if let Some(minor) = minor {
            program[at] = Insn(JUMP_UNLESS_EQUAL, 5, 2, minor);
            at += 1;
        }
        program[at] = Insn(MOVE, 0, 0, 1);
        at += 2;
        rule += 1;
    }
    // mknod alone: access 1.
    program[at] = Insn(MOVE, 0, 0, 1);
    program[at + 1] = Insn(JUMP_UNLESS_EQUAL, 3, 1, 1);
    program[at + 3] = Insn(MOVE, 0, 0, 0);
    program
}

fn attach_devices(group: usize) {
    const BPF_PROG_LOAD: Word = Word(5);
    const BPF_PROG_ATTACH: Word = Word(8);
    const CGROUP_DEVICE: u64 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    static PROGRAM: [Insn; 55] = device_program();
    let load = [
        CGROUP_DEVICE | (PROGRAM.len() as u64) << 32,
        PROGRAM.as_ptr() as u64,
        c"Apache-2.0".as_ptr() as u64,
    ];
    let size = Word(size_of_val(&load));
    let program = check(
        c"load",
        call(nr::BPF, &[BPF_PROG_LOAD, load.as_ptr().into(), size]),
    );
    let attach = [
        group as u32,
        program as u32,
        ATTACH_CGROUP_DEVICE,
        ALLOW_MULTI,
    ];
    let size = Word(size_of_val(&attach));
    check(
        c"attach",
        call(nr::BPF, &[BPF_PROG_ATTACH, attach.as_ptr().into(), size]),
    );
}
