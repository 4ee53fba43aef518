//! corten-init: runs the steps of a flat plan inside the new container.
//!
//! Built by the package's build script, not by cargo: see `build.rs`.
#![no_std]
#![no_main]

mod abi;
mod execute;
mod head;
mod ops;
#[path = "sys/entry.rs"]
mod entry;
mod sys;

/// Runs the plan whose descriptor is written in `plan`, in decimal.
fn main(plan: &core::ffi::CStr) -> ! {
    let mut fd = 0i32;
    for digit in plan.to_bytes() {
        fd = fd.wrapping_mul(10).wrapping_add(digit.wrapping_sub(b'0') as i32);
    }
    sys::exit(execute::run(sys::Fd(fd)))
}
