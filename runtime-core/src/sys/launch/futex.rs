//! Words that tell another thread of something, and waits for them. See futex(2).
//!
//! With raw calls only, also for the time: a thread of the kernel's alone can use them, and a C library looks up where the
//! kernel keeps its clock when it is first asked, which takes longer than one call.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::raw_call;

const SECOND: u64 = 1_000_000_000;

/// How long a wait looks at the word itself before it gives its CPU away, in nanoseconds. To be woken takes as long where the
/// CPU has nothing else to do: an idle one has to be told by the other, in a virtual machine through the host.
const MOMENT: u64 = 50_000;

/// How often at most.
const LOOKS: u32 = 1000;

/// As the kernel does it to the word of who has left.
pub(super) fn wake(word: &AtomicU32) {
    word.store(0, Ordering::Release);
    let futex = [word.as_ptr() as u64, libc::FUTEX_WAKE as u64, 1, 0, 0];
    raw_call(libc::SYS_futex, futex);
}

/// Waits until the word has another value, for so many nanoseconds at most. Whether the time is over.
pub(super) fn wait_while(word: &AtomicU32, value: u32, nanoseconds: u64) -> bool {
    let timeout = timespec(nanoseconds);
    // Not a private futex: the kernel wakes the word of who has left as a shared one.
    let wait = [
        word.as_ptr() as u64,
        libc::FUTEX_WAIT as u64,
        u64::from(value),
        &raw const timeout as u64,
        0,
    ];
    raw_call(libc::SYS_futex, wait) == -i64::from(libc::ETIMEDOUT)
}

/// Looks at the word for a moment, and gives the CPU to nobody: for what another CPU is just about to tell.
pub(super) fn is_zero_soon(word: &AtomicU32) -> bool {
    let start = monotonic();
    // The clock may be refused, and then stands still.
    for _ in 0..LOOKS {
        if word.load(Ordering::Acquire) == 0 {
            return true;
        }
        if monotonic().saturating_sub(start) > MOMENT {
            break;
        }
        std::hint::spin_loop();
    }
    false
}

/// Waits until the word is zero; false when the time is over first.
pub(in crate::sys) fn wait_zero(word: &AtomicU32, limit: Duration) -> bool {
    let end = monotonic() + nanoseconds(limit);
    loop {
        let value = word.load(Ordering::Acquire);
        if value == 0 {
            return true;
        }
        let left = end.saturating_sub(monotonic());
        if left == 0 || wait_while(word, value, left) {
            return word.load(Ordering::Acquire) == 0;
        }
    }
}

pub(super) const fn nanoseconds(time: Duration) -> u64 {
    time.as_secs() * SECOND + time.subsec_nanos() as u64
}

fn timespec(nanoseconds: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (nanoseconds / SECOND) as _,
        tv_nsec: (nanoseconds % SECOND) as _,
    }
}

/// `clock_gettime(CLOCK_MONOTONIC)` in nanoseconds.
pub(super) fn monotonic() -> u64 {
    let mut now = timespec(0);
    let clock = libc::CLOCK_MONOTONIC as u64;
    let at = &raw mut now as u64;
    raw_call(libc::SYS_clock_gettime, [clock, at, 0, 0, 0]);
    now.tv_sec as u64 * SECOND + now.tv_nsec as u64
}
