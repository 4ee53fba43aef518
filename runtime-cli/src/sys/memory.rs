//! The memory of a program that is linked with musl.
//!
//! musl's own allocator is made against misuse more than for speed: with it `create` and `run` take longer than with
//! glibc. Of `dlmalloc` only the lock is ours: the crate's is a call into the C library each time, a tenth of all that a
//! start executes. Nearly always there is one thread; a second one is seldom here at the same moment.
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use dlmalloc::Dlmalloc;

#[global_allocator]
static MEMORY: Memory = Memory {
    taken: AtomicBool::new(false),
    pieces: UnsafeCell::new(Dlmalloc::new()),
};

struct Memory {
    taken: AtomicBool,
    pieces: UnsafeCell<Dlmalloc>,
}

// SAFETY: `pieces` is used by who has set `taken` alone.
unsafe impl Sync for Memory {}

impl Memory {
    fn with<T>(&self, work: impl FnOnce(&mut Dlmalloc) -> T) -> T {
        while self.taken.swap(true, Ordering::Acquire) {
            // It may have been stopped by a fault just now.
            std::thread::yield_now();
        }
        // SAFETY: this thread has set `taken`, and dlmalloc calls nothing that allocates.
        let result = work(unsafe { &mut *self.pieces.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}

// SAFETY: `Dlmalloc` gives pieces of the size and alignment asked for, which are disjoint until they are given back, and
// null where there is no memory. `with` lets one thread at a time use it.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by this function's contract.
        self.with(|pieces| unsafe { pieces.malloc(layout.size(), layout.align()) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by this function's contract.
        self.with(|pieces| unsafe { pieces.calloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: by this function's contract.
        self.with(|pieces| unsafe { pieces.free(piece, layout.size(), layout.align()) });
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by this function's contract.
        self.with(|pieces| unsafe { pieces.realloc(piece, layout.size(), layout.align(), size) })
    }
}
