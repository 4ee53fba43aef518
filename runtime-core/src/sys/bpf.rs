//! bpf(2): loading a program, attaching it to a cgroup, exchanging it for another.
//!
//! Only what a device program needs. The kernel's names are in linux/bpf.h.

#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper elsewhere")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::{call, last_errno};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;

/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: programs of this cgroup and of all above it must agree.
const F_ALLOW_MULTI: u32 = 2;
/// `BPF_F_REPLACE`: this program takes the place of another one, at once.
const F_REPLACE: u32 = 4;

/// What the kernel lists a program as.
const NAME: [u8; 16] = *b"corten_devices\0\0";

/// How often a load is tried again when a signal stops the verifier (`EAGAIN`).
const LOAD_ATTEMPTS: usize = 8;

/// One eBPF instruction: the kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Insn {
    /// Class, operation and source kind.
    pub(crate) code: u8,
    /// Both registers, a nibble each, in the order of the machine's bit fields.
    registers: u8,
    /// Jump distance or memory offset.
    pub(crate) offset: i16,
    /// The constant operand.
    pub(crate) immediate: i32,
}

impl Insn {
    /// An instruction on the registers `destination` and `source`, 0 to 10.
    pub(crate) const fn new(
        code: u8,
        destination: u8,
        source: u8,
        offset: i16,
        immediate: i32,
    ) -> Insn {
        let registers = if cfg!(target_endian = "little") {
            (destination & 0xf) | (source << 4)
        } else {
            (source & 0xf) | (destination << 4)
        };
        Insn {
            code,
            registers,
            offset,
            immediate,
        }
    }

    /// The destination and the source register.
    #[cfg(test)]
    pub(crate) const fn destination_and_source(self) -> (u8, u8) {
        let (low, high) = (self.registers & 0xf, self.registers >> 4);
        if cfg!(target_endian = "little") {
            (low, high)
        } else {
            (high, low)
        }
    }
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` and `BPF_PROG_DETACH` read.
#[repr(C)]
struct ProgAttach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
struct ProgQuery {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_GET_FD_BY_ID` reads.
#[repr(C)]
struct GetById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` reads and writes.
#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    before: [u64; 8],
    name: [u8; 16],
}

/// Loads a device program.
///
/// `EPERM` without the privilege (`CAP_BPF` and more in the first user namespace).
/// The kernel accounts for the memory in the caller's cgroup since 5.11, so
/// `RLIMIT_MEMLOCK` needs no raising.
pub(crate) fn load_device_program(program: &[Insn]) -> Result<OwnedFd, Errno> {
    const LICENSE: &core::ffi::CStr = c"Apache-2.0";
    let attr = ProgLoad {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        insns: program.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: NAME,
        prog_ifindex: 0,
        expected_attach_type: ATTACH_CGROUP_DEVICE,
    };
    let mut attempts = LOAD_ATTEMPTS;
    loop {
        attempts -= 1;
        // SAFETY: the kernel reads `size_of::<ProgLoad>()` bytes of `attr`, `insn_cnt`
        // instructions at `insns` and a C string at `license`; `attr`, `program` and the
        // constant outlive the call, and the kernel keeps no pointer. No log buffer is
        // given, so nothing is written.
        let loaded = call("bpf", || unsafe {
            check(libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_LOAD,
                &raw const attr,
                size_of::<ProgLoad>(),
            ))
        });
        match loaded {
            Err(Errno::AGAIN) if attempts > 0 => {}
            Err(errno) => return Err(errno),
            Ok(fd) => {
                // SAFETY: a successful BPF_PROG_LOAD returns a new fd (close-on-exec) that
                // nobody else owns.
                return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
}

/// Attaches a device program to a cgroup, beside those that are there, or in the place of
/// one of them: then each access is asked of either the old or the new one.
///
/// The attachment outlives both fds: the cgroup holds it until it is removed.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let attr = ProgAttach {
        // An open fd is never negative.
        target_fd: cgroup.as_raw_fd().unsigned_abs(),
        attach_bpf_fd: program.as_raw_fd().unsigned_abs(),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI | replaced.map_or(0, |_| F_REPLACE),
        replace_bpf_fd: replaced.map_or(0, |old| old.as_raw_fd().unsigned_abs()),
    };
    // SAFETY: the kernel reads `size_of::<ProgAttach>()` bytes of `attr`, which outlives
    // the call; both fds are open for as long as they are borrowed.
    call("bpf", || unsafe {
        check(libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attr,
            size_of::<ProgAttach>(),
        ))
    })
    .map(|_| ())
}

/// Detaches a device program from a cgroup; one that is not there any more is fine.
pub(crate) fn detach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let attr = ProgAttach {
        target_fd: cgroup.as_raw_fd().unsigned_abs(),
        attach_bpf_fd: program.as_raw_fd().unsigned_abs(),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: 0,
        replace_bpf_fd: 0,
    };
    // SAFETY: the kernel reads `size_of::<ProgAttach>()` bytes of `attr`, which outlives
    // the call; both fds are open for as long as they are borrowed.
    let detached = call("bpf", || unsafe {
        check(libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_DETACH,
            &raw const attr,
            size_of::<ProgAttach>(),
        ))
    });
    match detached {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The device programs of Corten that are attached to this cgroup itself.
pub(crate) fn own_device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    /// As many as the kernel lets there be, `BPF_CGROUP_MAX_PROGS`.
    const MOST: usize = 64;
    let mut ids = [0u32; MOST];
    let mut query = ProgQuery {
        target_fd: cgroup.as_raw_fd().unsigned_abs(),
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        prog_cnt: 64,
        padding: 0,
    };
    // SAFETY: the kernel reads and writes `size_of::<ProgQuery>()` bytes of `query`, and
    // writes at most `prog_cnt` numbers to `ids`; both outlive the call.
    call("bpf", || unsafe {
        check(libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            &raw mut query,
            size_of::<ProgQuery>(),
        ))
    })?;
    let found = ids.iter().take(query.prog_cnt as usize);
    let mut own = Vec::new();
    for id in found {
        let program = match program_by_id(*id) {
            // Somebody has taken it away meanwhile.
            Err(Errno::NOENT) => continue,
            program => program?,
        };
        if name_of(&program)? == NAME {
            own.push(program);
        }
    }
    Ok(own)
}

fn program_by_id(prog_id: u32) -> Result<OwnedFd, Errno> {
    let attr = GetById {
        prog_id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: the kernel reads `size_of::<GetById>()` bytes of `attr`, which outlives the call.
    let fd = call("bpf", || unsafe {
        check(libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_GET_FD_BY_ID,
            &raw const attr,
            size_of::<GetById>(),
        ))
    })?;
    // SAFETY: it is a new fd (close-on-exec) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn name_of(program: &OwnedFd) -> Result<[u8; 16], Errno> {
    let mut info = ProgInfo::default();
    let mut attr = GetInfo {
        bpf_fd: program.as_raw_fd().unsigned_abs(),
        info_len: size_of::<ProgInfo>() as u32,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the kernel reads and writes `size_of::<GetInfo>()` bytes of `attr`, and at most
    // `info_len` bytes of `info`; both outlive the call. The lengths in `info` are 0, so that
    // no other buffer is written.
    call("bpf", || unsafe {
        check(libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw mut attr,
            size_of::<GetInfo>(),
        ))
    })?;
    Ok(info.name)
}

/// The result of libc's `syscall`, whose answers here all fit an `int`.
fn check(rc: libc::c_long) -> Result<i32, Errno> {
    if rc < 0 {
        return Err(last_errno());
    }
    i32::try_from(rc).map_err(|_| Errno::OVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_has_the_kernels_layout() {
        assert_eq!(size_of::<Insn>(), 8);
        let insn = Insn::new(0x61, 2, 1, 4, 0);
        assert_eq!(insn.destination_and_source(), (2, 1));
        assert_eq!((insn.code, insn.offset, insn.immediate), (0x61, 4, 0));
    }

    #[test]
    fn the_attributes_have_no_padding() {
        assert_eq!(size_of::<ProgLoad>(), 72);
        assert_eq!(size_of::<ProgAttach>(), 20);
        assert_eq!(size_of::<ProgQuery>(), 32);
        assert_eq!(size_of::<GetById>(), 12);
        assert_eq!(size_of::<GetInfo>(), 16);
        assert_eq!(size_of::<ProgInfo>(), 80);
    }
}
