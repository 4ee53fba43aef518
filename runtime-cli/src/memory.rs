//! The memory of a program that is linked with musl.
//!
//! musl's own allocator is made against misuse more than for speed: with it `create` and `run` take longer than with
//! glibc. Of `dlmalloc` only the lock is ours: there are two threads at most, and the crate's is a call into the C
//! library each time, a tenth of all that a start executes.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

#[global_allocator]
static MEMORY: Memory = Memory(Mutex::new(Dlmalloc::new()));

struct Memory(Mutex<Dlmalloc>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Dlmalloc> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: `Dlmalloc` gives pieces of the size and alignment asked for, which are disjoint until they are given back. The
// lock lets one thread at a time use it, and locking allocates nothing.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by this function's contract.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by this function's contract.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: by this function's contract.
        unsafe { self.lock().free(piece, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by this function's contract.
        unsafe {
            self.lock()
                .realloc(piece, layout.size(), layout.align(), size)
        }
    }
}
