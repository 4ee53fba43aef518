//! The kernel's door: one raw system call, the clone, and where the program begins.
//!
//! Numbers from the kernel's `syscall_64.tbl` and `unistd.h`, flags from its UAPI headers.

use core::arch::{asm, naked_asm};
use core::ffi::CStr;

macro_rules! numbers {
    ($($name:ident $x86_64:literal $aarch64:literal)*) => {
        /// Numbers of system calls.
        pub mod nr {$(
            #[cfg(target_arch = "x86_64")]
            pub const $name: usize = $x86_64;
            #[cfg(target_arch = "aarch64")]
            pub const $name: usize = $aarch64;
        )*}
    };
}

numbers! {
    READ 0 63
    WRITE 1 64
    CLOSE 3 57
    IOCTL 16 29
    SOCKET 41 198
    EXECVE 59 221
    CHDIR 80 49
    UMASK 95 166
    SETSID 112 157
    SETGROUPS 116 159
    SETRESUID 117 147
    SETRESGID 119 149
    CAPSET 126 91
    PERSONALITY 135 92
    PIVOT_ROOT 155 41
    PRCTL 157 167
    MOUNT 165 40
    UMOUNT2 166 39
    SETHOSTNAME 170 161
    EXIT_GROUP 231 94
    WAITID 247 95
    KEYCTL 250 219
    OPENAT 257 56
    MKDIRAT 258 34
    MKNODAT 259 33
    UNLINKAT 263 35
    SYMLINKAT 266 36
    PPOLL 271 73
    UNSHARE 272 97
    PRLIMIT64 302 261
    SECCOMP 317 277
    BPF 321 280
    CLONE3 435 435
    CLOSE_RANGE 436 436
    MOUNT_SETATTR 442 442
}

/// What a system call takes: a number, or where something lies.
#[derive(Clone, Copy)]
pub struct Word(pub usize);

impl From<usize> for Word {
    fn from(number: usize) -> Self {
        Self(number)
    }
}

impl From<&CStr> for Word {
    fn from(text: &CStr) -> Self {
        Self(text.as_ptr() as usize)
    }
}

impl<T> From<*const T> for Word {
    fn from(place: *const T) -> Self {
        Self(place as usize)
    }
}

/// A system call. What it returns is below zero, an errno, if it failed.
pub fn call(number: usize, arguments: &[Word]) -> isize {
    let mut a = [0; 6];
    for (to, from) in a.iter_mut().zip(arguments) {
        *to = from.0;
    }
    let result: isize;
    // SAFETY: the kernel keeps every other register. What it writes to are places that the
    // caller has given for it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a[0], in("rsi") a[1],
             in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0] => result, in("x1") a[1],
             in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    result
}

/// `struct clone_args`.
#[repr(C)]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: *mut i32,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: *mut u8,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// `clone3(2)` of a child that has a stack of its own and begins in `child(argument)`.
pub fn clone3<T>(args: &CloneArgs, child: extern "C" fn(&T) -> !, argument: &T) -> isize {
    let result: isize;
    // SAFETY: the child leaves by `child`, which never returns, and has another stack, so
    // nothing of this frame is touched twice.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r12", "call r13",
             "ud2", "2:",
             inlateout("rax") nr::CLONE3 => result, in("rdi") args, in("rsi") size_of_val(args),
             in("r12") argument, in("r13") child, lateout("rcx") _, lateout("r11") _);
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", "cbnz x0, 2f", "mov x29, xzr", "mov x0, x20", "blr x21", "brk 1", "2:",
             in("x8") nr::CLONE3, inlateout("x0") args => result, in("x1") size_of_val(args),
             in("x20") argument, in("x21") child);
    }
    result
}

/// The first instruction: the stack pointer is the only argument.
#[unsafe(naked)]
// SAFETY: the linker looks for this name; nothing else has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {main}", "ud2", main = sym super::main);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x29, xzr", "mov x0, sp", "bl {main}", "brk 1", main = sym super::main);
}

/// `memset(3)`, to which the compiler makes calls.
///
/// # Safety
/// As in C.
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    for at in 0..len {
        // SAFETY: inside the caller's range. Volatile, or this would become a call of itself.
        unsafe { to.add(at).write_volatile(byte as u8) };
    }
    to
}

/// `memcpy(3)`, to which the compiler makes calls.
///
/// # Safety
/// As in C.
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    for at in 0..len {
        // SAFETY: inside the caller's ranges.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
    }
    to
}

/// `strlen(3)`, to which the compiler makes calls.
///
/// # Safety
/// As in C.
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: up to the zero byte that the caller promises.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    super::exit(134)
}
