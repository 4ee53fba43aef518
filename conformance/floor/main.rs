//! floor: what the kernel charges for a container, and nothing more.
//!
//! Makes the container of one of three bundles that `conformance bench` writes (`bundles.rs`
//! says what is in them), runs a program in it, and takes it away: the raw system calls, one
//! behind the other. It reads no configuration, keeps no state, walks no path with care, and
//! undoes nothing on failure: no runtime can be this simple, and none can be much faster.
//!
//! ```text
//! floor KIND BUNDLE CGROUP NAME FILTER PROGRAM [ARGUMENT...]
//! ```
//!
//! CGROUP is the folder of the cgroup to be made, NAME the session keyring's, FILTER a file with
//! the compiled seccomp filter, or `-`. Without arguments it does nothing: that is the `true`
//! which the containers of the bench run. `calls N` makes N system calls, for the cost of a filter.
#![no_std]
#![no_main]
#![allow(unsafe_code, reason = "all of it is system calls")]

mod bundles;
mod cgroup;
mod contain;
mod sys;

use core::ffi::{CStr, c_char};

use bundles::Kind;
use sys::{CloneArgs, Word, call, nr};

const CWD: Word = Word(-100_isize as usize);
const O_CLOEXEC: usize = 0o2_000_000;

/// What the command line says.
pub struct Order {
    kind: &'static Kind,
    bundle: &'static CStr,
    cgroup: &'static CStr,
    keyring: &'static CStr,
    filter: &'static [u8],
    argv: *const *const c_char,
}

const CLONE_VM: u64 = 0x100;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const SIGCHLD: u64 = 17;

/// The child's stack, aligned as every call of a function expects it.
#[repr(align(16))]
#[allow(dead_code, reason = "the kernel writes to it")]
struct Stack {
    bytes: [u8; 32 << 10],
}

static mut STACK: Stack = Stack {
    bytes: [0; 32 << 10],
};
/// As many instructions as a filter can have, 4096.
static mut FILTER: [u8; 32 << 10] = [0; 32 << 10];

/// The program; `stack` is where the kernel has put argc and argv.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: argc comes first, then that many texts, which stay for ever.
    let argc = unsafe { *stack };
    let argument = |at: usize| unsafe { CStr::from_ptr(*stack.add(1 + at) as *const c_char) };
    if argc == 1 {
        exit(0)
    }
    if argument(1) == c"calls" {
        make_calls(argument(2))
    }
    if argc < 7 {
        fail(
            c"floor KIND BUNDLE CGROUP NAME FILTER PROGRAM [ARGUMENT...]",
            0,
        )
    }
    let order = Order {
        kind: bundles::named(argument(1)),
        bundle: argument(2),
        cgroup: argument(3),
        keyring: argument(4),
        filter: read_filter(argument(5)),
        // SAFETY: the list ends in a null, as execve(2) wants it.
        argv: unsafe { stack.add(7) }.cast(),
    };
    run(&order)
}

/// Makes so many system calls whose argument Docker's profile looks at, and ends.
fn make_calls(count: &CStr) -> ! {
    const ASK: Word = Word(0xffff_ffff);
    let digit = |sum: usize, digit: &u8| sum * 10 + usize::from(digit - b'0');
    for _ in 0..count.to_bytes().iter().fold(0, digit) {
        call(nr::PERSONALITY, &[ASK]);
    }
    exit(0)
}

fn run(order: &Order) -> ! {
    let cgroup = cgroup::make(order);
    let mut pidfd = -1;
    let args = CloneArgs {
        flags: order.kind.namespaces
            | (CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP),
        pidfd: &raw mut pidfd,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: SIGCHLD,
        stack: (&raw mut STACK).cast(),
        stack_size: 32 << 10,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup as u64,
    };
    check(c"clone3", sys::clone3(&args, contain::child, order));
    let code = wait(pidfd);
    cgroup::remove(order);
    exit(code)
}

/// Waits for the container's end. Its exit code, or 128 and the signal.
fn wait(pidfd: i32) -> usize {
    const P_PIDFD: usize = 3;
    const WEXITED: usize = 4;
    const CLD_EXITED: u32 = 1;
    let mut info = [0_u32; 32];
    let arguments = [
        Word(P_PIDFD),
        Word(pidfd as usize),
        info.as_mut_ptr().cast_const().into(),
        Word(WEXITED),
        Word(0),
    ];
    check(c"waitid", call(nr::WAITID, &arguments));
    // siginfo_t: signo, errno, code, padding, pid, uid, status.
    let [_, _, code, _, _, _, status, ..] = info;
    status as usize + if code == CLD_EXITED { 0 } else { 128 }
}

fn read_filter(path: &CStr) -> &'static [u8] {
    if path == c"-" {
        return &[];
    }
    let file = check(
        c"open the filter",
        call(nr::OPENAT, &[CWD, path.into(), Word(O_CLOEXEC)]),
    );
    let into = &raw mut FILTER;
    let read = call(
        nr::READ,
        &[Word(file), into.cast_const().into(), Word(32 << 10)],
    );
    let length = check(c"read the filter", read);
    call(nr::CLOSE, &[Word(file)]);
    // SAFETY: nobody writes to it from here on, and so much has been written.
    unsafe { core::slice::from_raw_parts(into.cast(), length) }
}

/// What the call returned, if it did not fail.
fn check(what: &CStr, result: isize) -> usize {
    if result < 0 {
        fail(what, result.unsigned_abs())
    }
    result as usize
}

/// Says what failed with which errno, and ends the program.
fn fail(what: &CStr, errno: usize) -> ! {
    let digits = [errno / 100, errno / 10 % 10, errno % 10].map(|digit| b'0' + digit as u8);
    say(b"floor: ");
    say(what.to_bytes());
    say(b": errno ");
    say(&digits);
    say(b"\n");
    exit(125)
}

fn say(text: &[u8]) {
    call(
        nr::WRITE,
        &[Word(2), text.as_ptr().into(), Word(text.len())],
    );
}

fn exit(code: usize) -> ! {
    loop {
        call(nr::EXIT_GROUP, &[Word(code)]);
    }
}
