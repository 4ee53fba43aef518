//! The clone that makes the container's process.
//!
//! See clone(2), unix(7).

use core::arch::asm;
use core::cell::UnsafeCell;

use super::numbers as nr;
use super::socket::{MSG_NOSIGNAL, control, message_header};
use super::{Fd, Map, Result, check, fd, flag};

/// What the parent of the process says of it: where `clone3(2)` stores the pidfd, and sendmsg(2)
/// looks.
#[repr(C)]
struct Farewell {
    text: [u8; 8],
    iov: [u64; 2],
    control: [u64; 3],
    header: [u64; 7],
}

/// One for the process: init clones once at most.
struct Place(UnsafeCell<Farewell>);

// SAFETY: init has one thread, and who shares its memory uses none of this.
unsafe impl Sync for Place {}

static FAREWELL: Place = Place(UnsafeCell::new(Farewell {
    text: [0; 8],
    iov: [0; 2],
    control: [0; 3],
    header: [0; 7],
}));

/// `clone3(2)` with a pidfd and maybe a cgroup. Comes back in the child only, or with an error.
///
/// The parent sends `text`, with the child's pid in its last four bytes, and the pidfd to
/// `socket`, and exits: with 1 if that can't be sent. The kernel stores the pid at `offset` of
/// `report` too, before the child runs.
///
/// With `CLONE_VM` the child goes on with the memory that both have, its stack too. So the parent
/// uses nothing of that any more: all that it needs is in registers and in [`FAREWELL`].
pub fn clone_and_tell(
    flags: u64,
    cgroup: Option<Fd>,
    text: [u8; 8],
    socket: Fd,
    report: &Map,
    offset: usize,
) -> Result<()> {
    let told = FAREWELL.0.get();
    let parent_tid = report.address(offset);
    // SAFETY: it is this function's alone, which runs once: a static that nothing else names.
    let (pidfd, header) = unsafe {
        (*told).text = text;
        (*told).iov = [&raw const (*told).text as u64, 8];
        (*told).control = control(0);
        let control = &raw const (*told).control as u64;
        (*told).header = message_header(&raw const (*told).iov as u64, control, 24);
        // The number lies behind the two words of the head.
        (control.wrapping_add(16), &raw const (*told).header as u64)
    };
    let tid = parent_tid.map_or(0, |_| flag::CLONE_PARENT_SETTID);
    let into = cgroup.map_or(0, |_| flag::CLONE_INTO_CGROUP);
    let args = [
        flags | flag::CLONE_PIDFD | tid | into,
        pidfd,
        0,
        parent_tid.unwrap_or(0),
        0,
        0,
        0,
        0,
        0,
        0,
        cgroup.map_or(0, fd),
    ];
    let pid = (told as u64).wrapping_add(4);
    // SAFETY: the kernel reads `args`, and writes two places that live as long as the program. In
    // the parent nothing but these instructions follows, which touch only `FAREWELL`.
    let ret = unsafe { clone_or_exit(&args, pid, fd(socket), header) };
    check(ret).map(drop)
}

/// # Safety
/// `args` is `struct clone_args`; `pid` is a place for a number in what `header`, a
/// `struct msghdr`, names. All of it outlives the caller.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_or_exit(args: &[u64; 11], pid: u64, socket: u64, header: u64) -> i64 {
    let ret: i64;
    // SAFETY: by this function's contract; the parent never comes back.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jle 2f",
            "mov dword ptr [r12], eax",
            "mov eax, {sendmsg}",
            "mov rdi, r13",
            "mov rsi, r14",
            "mov edx, {nosignal}",
            "syscall",
            "xor edi, edi",
            "test rax, rax",
            "sets dil",
            "mov eax, {exit_group}",
            "syscall",
            "ud2",
            "2:",
            sendmsg = const nr::SENDMSG,
            nosignal = const MSG_NOSIGNAL,
            exit_group = const nr::EXIT_GROUP,
            inlateout("rax") nr::CLONE3 => ret,
            in("rdi") args.as_ptr(),
            in("rsi") size_of_val(args),
            in("r12") pid,
            in("r13") socket,
            in("r14") header,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    ret
}

/// # Safety
/// `args` is `struct clone_args`; `pid` is a place for a number in what `header`, a
/// `struct msghdr`, names. All of it outlives the caller.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_or_exit(args: &[u64; 11], pid: u64, socket: u64, header: u64) -> i64 {
    let ret: i64;
    // SAFETY: by this function's contract; the parent never comes back.
    unsafe {
        asm!(
            "svc 0",
            "cmp x0, #0",
            "b.le 2f",
            "str w0, [x20]",
            "mov x0, x21",
            "mov x1, x22",
            "mov x2, #{nosignal}",
            "mov x8, #{sendmsg}",
            "svc 0",
            "cmp x0, #0",
            "cset x0, lt",
            "mov x8, #{exit_group}",
            "svc 0",
            "brk 1",
            "2:",
            sendmsg = const nr::SENDMSG,
            nosignal = const MSG_NOSIGNAL,
            exit_group = const nr::EXIT_GROUP,
            in("x8") nr::CLONE3,
            inlateout("x0") args.as_ptr() as i64 => ret,
            in("x1") size_of_val(args),
            in("x20") pid,
            in("x21") socket,
            in("x22") header,
        );
    }
    ret
}
