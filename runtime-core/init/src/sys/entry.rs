//! Where the kernel enters init, and what the compiler expects of a C library.
//!
//! Only in the program, never in the library: a second `memcpy` there would replace
//! that of the program which links it.

use core::arch::{asm, naked_asm};
use core::ffi::{CStr, c_char};

/// The first instruction: the stack pointer is the only argument.
#[unsafe(naked)]
// SAFETY: the linker looks for this name; nothing else has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {main}", "ud2", main = sym enter);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x29, xzr", "mov x0, sp", "bl {main}", "brk 1", main = sym enter);
}

unsafe extern "C" fn enter(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc and then argv on a new program's stack.
    let plan = unsafe {
        let argc = *stack;
        let second = *stack.add(2) as *const c_char;
        if argc < 2 { c"" } else { CStr::from_ptr(second) }
    };
    super::main(plan)
}

/// `memcpy(3)`.
///
/// # Safety
/// As in C.
// SAFETY: the compiler emits calls to this name; nothing else has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's ranges, forwards; the direction flag is clear in this ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    for i in 0..len {
        // SAFETY: inside the caller's ranges.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
    to
}

/// `memset(3)`.
///
/// # Safety
/// As in C.
// SAFETY: the compiler emits calls to this name; nothing else has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's range, forwards; the direction flag is clear in this ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8,
             options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    for i in 0..len {
        // SAFETY: inside the caller's range.
        unsafe { to.add(i).write_volatile(byte as u8) };
    }
    to
}

/// `memmove(3)`.
///
/// # Safety
/// As in C.
// SAFETY: the compiler emits calls to this name; nothing else has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: a forward copy is right: `to` is not inside the source.
        return unsafe { memcpy(to, from, len) };
    }
    let mut i = len;
    while i > 0 {
        i = i.wrapping_sub(1);
        // SAFETY: inside the caller's ranges, last byte first.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
    to
}

/// `memcmp(3)`.
///
/// # Safety
/// As in C.
// SAFETY: the compiler emits calls to this name; nothing else has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: inside the caller's ranges.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return (x as i32).wrapping_sub(y as i32);
        }
    }
    0
}

/// `bcmp(3)`.
///
/// # Safety
/// As in C.
// SAFETY: the compiler emits calls to this name; nothing else has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's ranges.
    unsafe { memcmp(a, b, len) }
}

/// `strlen(3)`.
///
/// # Safety
/// As in C.
// SAFETY: the compiler emits calls to this name; nothing else has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut len = 0usize;
    // SAFETY: up to the NUL that the caller promises.
    while unsafe { string.add(len).read_volatile() } != 0 {
        len = len.wrapping_add(1);
    }
    len
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    super::sys::exit(134)
}
