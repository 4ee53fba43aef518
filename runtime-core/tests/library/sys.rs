//! System calls that rustix does not have or calls unsafe, see rt_sigaction(2),
//! seccomp(2), fork(2), mmap(2) and dup(2).

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// How the kernel handles each of the 64 signals: handler, flags, restorer and mask.
pub(crate) fn dispositions() -> Vec<[usize; 4]> {
    let disposition = |signal: i32| {
        let mut action = [0_usize; 4];
        // SAFETY: a null new action only asks; the kernel's structure has 4 words here.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                std::ptr::null::<u8>(),
                action.as_mut_ptr(),
                8_usize,
            )
        };
        assert_eq!(rc, 0, "signal {signal}");
        action
    };
    (1..=64).map(disposition).collect()
}

/// Ignores a signal, for the whole process.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: SIG_IGN is no code of ours that could run in a handler.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Catches a signal with a handler that does nothing, for the whole process.
pub(crate) fn catch(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: a handler that does nothing is safe at any time.
    let before = unsafe { libc::signal(signal, nothing as *const () as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Blocks a signal in the calling thread.
pub(crate) fn block(signal: i32) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; all pointers are valid for the calls.
    let rc = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut())
    };
    assert_eq!(rc, 0);
}

/// Makes a descriptor of this number that is not close-on-exec, whatever was there.
pub(crate) fn put_at(fd: BorrowedFd<'_>, number: i32) {
    // SAFETY: the tests call it before anything of theirs has a descriptor.
    let rc = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    assert_eq!(rc, number);
}

/// Closes a descriptor by its number.
pub(crate) fn close(number: i32) {
    // SAFETY: the tests close what they made by `put_at`, which nothing owns.
    let rc = unsafe { libc::close(number) };
    assert_eq!(rc, 0);
}

/// Memory of small pages, all of them there and written to.
pub(crate) fn resident(len: usize) -> &'static mut [u8] {
    if len == 0 {
        // mmap(2) refuses it.
        return &mut [];
    }
    // SAFETY: a new private mapping, which is never unmapped; its bytes are zeros.
    let memory = unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED, "no memory");
        // A kernel without huge pages does not know the advice.
        libc::madvise(at, len, libc::MADV_NOHUGEPAGE);
        std::slice::from_raw_parts_mut(at.cast::<u8>(), len)
    };
    touch(memory);
    memory
}

/// Writes to every page.
pub(crate) fn touch(memory: &mut [u8]) {
    for byte in memory.iter_mut().step_by(4096) {
        // SAFETY: a reference is valid for writes; volatile so that the write happens.
        unsafe { std::ptr::write_volatile(byte, 1) };
    }
}

/// fork(2), a child that ends at once, and its end.
pub(crate) fn fork_and_wait() {
    // SAFETY: the child calls nothing but _exit, which is safe in a program with threads.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(0);
        }
        assert!(pid > 0);
        assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
    }
}

/// fork(2), a child with copies of all descriptors, which stays until it is killed.
pub(crate) fn fork_and_stay() -> i32 {
    // SAFETY: the child calls nothing but pause, which is safe in a program with threads.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            loop {
                libc::pause();
            }
        }
        assert!(pid > 0);
        pid
    }
}

/// Kills such a child, and waits for its end.
pub(crate) fn end(child: i32) {
    // SAFETY: neither call touches memory of this process; the child is not reaped yet.
    unsafe {
        assert_eq!(libc::kill(child, libc::SIGKILL), 0);
        assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
    }
}

/// From now on this ioctl(2) fails with `ENOTTY` in this process, as on a kernel that
/// does not know it.
pub(crate) fn hide_ioctl(request: u32) {
    const NUMBER: u32 = 0;
    // The low half of the second argument, on a little-endian machine.
    const REQUEST: u32 = 24;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let done = (libc::BPF_RET | libc::BPF_K) as u16;
    let insn = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let ioctl = u32::try_from(libc::SYS_ioctl).expect("a system call's number is small");
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOTTY.unsigned_abs();
    let mut filter = [
        insn(load, 0, 0, NUMBER),
        insn(equal, 0, 3, ioctl),
        insn(load, 0, 0, REQUEST),
        insn(equal, 0, 1, request),
        insn(done, 0, 0, refuse),
        insn(done, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 6,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program has 6 valid instructions and outlives the call, which copies it.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}
