//! Calls that no safe crate has, each behind one safe function.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) pid: i32,
    /// The code, or 128 and the signal.
    pub(crate) status: u32,
}

/// Which children [`waitid`] looks at.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    Pidfd(BorrowedFd<'a>),
    /// The same, but it stays a zombie.
    LookAt(BorrowedFd<'a>),
    Pid(i32),
    /// Any that belongs to the calling thread: what it has made itself, what came to it from
    /// threads that are gone, and orphans. It stays a zombie.
    Look,
}

/// `waitid(2)` for children that have ended, without waiting.
///
/// rustix does not tell the pid, and nix fails for a child that a real-time signal killed.
pub(crate) fn waitid(which: Which<'_>) -> io::Result<Option<Ended>> {
    // A process that was cloned without a signal for its end is a child too.
    let mut options = libc::WEXITED | libc::WNOHANG | libc::__WALL;
    let (kind, id) = match which {
        Which::Pidfd(fd) => (libc::P_PIDFD, fd.as_raw_fd().unsigned_abs()),
        Which::LookAt(fd) => {
            options |= libc::WNOWAIT;
            (libc::P_PIDFD, fd.as_raw_fd().unsigned_abs())
        }
        Which::Pid(pid) => (libc::P_PID, pid.unsigned_abs()),
        Which::Look => {
            options |= libc::WNOWAIT | libc::__WNOTHREAD;
            (libc::P_ALL, 0)
        }
    };
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a siginfo_t that lives for the call; the kernel writes at most that.
    // A borrowed pidfd stays open for the call.
    let done = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), options) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zero is a valid siginfo_t, and the kernel wrote a whole one or nothing;
    // both fields belong to the variant that waitid(2) fills, or are zero.
    let (info, pid, status) = unsafe {
        let info = info.assume_init();
        (info, info.si_pid(), info.si_status())
    };
    if pid == 0 {
        return Ok(None);
    }
    let status = status.unsigned_abs();
    let status = match info.si_code {
        libc::CLD_EXITED => status,
        _ => 128 + status,
    };
    Ok(Some(Ended { pid, status }))
}

/// `pidfd_send_signal(2)` with any number; rustix takes the named ones only.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor stays open for the call; a null siginfo is allowed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Keeps the C library from giving each thread a heap of its own.
///
/// Threads here live for one operation, and what they leave in a heap would stay.
pub(crate) fn few_arenas() {
    // SAFETY: changes a number of malloc(3), before there is a second thread.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Lets children of this process go without being waited for; sigaction(2), `SIG_IGN`.
pub(crate) fn ignore_children() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler is installed, so none can run at a bad moment.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }
        .map(drop)
        .map_err(io::Error::from)
}

/// Whether a process may be made less likely to be killed for want of memory.
pub(crate) fn may_lower_oom_score() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}

/// Gives memory back that an idle program does not need: what malloc(3) holds, and the pages
/// of the program itself, which come back from the page cache when they are used.
pub(crate) fn trim() {
    // SAFETY: takes locks of malloc(3) and touches no memory that is in use.
    unsafe { libc::malloc_trim(0) };
    // SAFETY: the function is called for the first object, the program, with a pointer that is
    // valid for the call, and keeps none.
    unsafe { libc::dl_iterate_phdr(Some(forget_pages), std::ptr::null_mut()) };
}

/// Unmaps the pages of an object's segments that can't be written, and ends the walk: behind
/// the program there is only what the kernel maps, whose addresses may even wrap around.
///
/// Those are never relocated, so what is in the file is what was in memory.
unsafe extern "C" fn forget_pages(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    _: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller is `dl_iterate_phdr`, which passes a valid pointer.
    let info = unsafe { &*info };
    for number in 0..info.dlpi_phnum {
        // SAFETY: the object has this many headers.
        let header = unsafe { &*info.dlpi_phdr.add(number.into()) };
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = info.dlpi_addr + header.p_vaddr;
        let page = start & !(PAGE - 1);
        let length = start + header.p_memsz - page;
        // SAFETY: the range is mapped from a file, read-only, and was never written; a page of
        // it that is used next is read from there again. The kernel rounds the length up,
        // within the segment's last page.
        unsafe {
            let place = std::ptr::with_exposed_provenance_mut(page as usize);
            libc::madvise(place, length as usize, libc::MADV_DONTNEED);
        }
    }
    1
}

/// Segments are aligned to it on both architectures; a larger page makes madvise(2) refuse.
const PAGE: u64 = 4096;

/// Lets a command have these files as descriptors 3 and following.
pub(crate) fn pass<const N: usize>(command: &mut Command, files: [OwnedFd; N]) {
    let place = move || {
        // First out of the way of the numbers that they get.
        let mut copies = [-1; N];
        for (copy, file) in copies.iter_mut().zip(&files) {
            // SAFETY: fcntl(2) with numbers only, on a file that `files` keeps open.
            *copy = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3 + FEW) };
            if *copy < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for (number, copy) in (3..).zip(copies) {
            // SAFETY: dup2(2) in a process that executes another program next; what it
            // replaces is used by nobody.
            if unsafe { libc::dup2(copy, number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure runs after a fork; it makes system calls on numbers and allocates
    // nothing.
    unsafe { command.pre_exec(place) };
}

/// Soft and hard `RLIMIT_NOFILE` as the shim was given it, once it has another.
static NOFILE: OnceLock<[u64; 2]> = OnceLock::new();

/// Lets the shim have as many descriptors as it may: each container takes some ten, and the usual
/// soft limit of 1024, made for select(2), would end that at a hundred. The container's own stays.
pub(crate) fn raise_nofile() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if current != maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        let number = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
        NOFILE.get_or_init(|| [number(current), number(maximum)]);
    }
}

/// Soft and hard `RLIMIT_NOFILE` of what the shim starts, if it is not the shim's own.
pub(crate) fn nofile() -> Option<[u64; 2]> {
    NOFILE.get().copied()
}

/// Lets a command begin as the shim itself did: with no signal blocked, since the shim blocks
/// those that it reads, and with the limit of descriptors of then.
pub(crate) fn as_begun(command: &mut Command) {
    let nofile = nofile();
    let begin = move || {
        if let Some([soft, hard]) = nofile {
            let limit = libc::rlimit {
                rlim_cur: soft,
                rlim_max: hard,
            };
            // SAFETY: the limit lives for the call.
            check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
        }
        nix::sys::signal::SigSet::empty()
            .thread_set_mask()
            .map_err(io::Error::from)
    };
    // SAFETY: the closure runs after a fork; it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(begin) };
}

/// More than are ever passed.
const FEW: i32 = 16;

/// Lets a command begin in a user namespace of its own, which has no maps yet.
pub(crate) fn in_user_namespace(command: &mut Command) {
    // SAFETY: unshare(2) takes a number only.
    let unshare = || check(unsafe { libc::unshare(libc::CLONE_NEWUSER) });
    // SAFETY: the closure runs after a fork; it makes one system call and allocates nothing.
    unsafe { command.pre_exec(unshare) };
}

/// The user namespace that owns a namespace; ioctl_ns(2), `NS_GET_USERNS`.
pub(crate) fn owning_user_namespace(namespace: &File) -> io::Result<OwnedFd> {
    /// From linux/nsfs.h.
    const GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument.
    let owner = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_USERNS) };
    check(owner)?;
    // SAFETY: the kernel has just made the descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(owner) })
}

/// Maps the ids of a detached mount by a user namespace, and may make it read-only;
/// `mount_setattr(2)`.
pub(crate) fn map_ids(tree: &OwnedFd, namespace: &OwnedFd, read_only: bool) -> io::Result<()> {
    let access = if read_only {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | access,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd().unsigned_abs().into(),
    };
    mount_setattr(tree, &attributes)
}

/// Sets some attributes of one mount and leaves the others as they are; `mount_setattr(2)`.
pub(crate) fn change_mount(mount: &OwnedFd, set: u32, clear: u32) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set.into(),
        attr_clr: clear.into(),
        propagation: 0,
        userns_fd: 0,
    };
    mount_setattr(mount, &attributes)
}

fn mount_setattr(mount: &OwnedFd, attributes: &libc::mount_attr) -> io::Result<()> {
    // SAFETY: the path is a C string, the attributes are as long as is said, and all
    // descriptors are open for the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the calling thread a working directory that others don't share; `unshare(2)`.
pub(crate) fn own_working_directory() -> io::Result<()> {
    // SAFETY: CLONE_FS separates working directory, root and umask of this thread; nothing
    // that Rust knows of is shared by them.
    check(unsafe { libc::unshare(libc::CLONE_FS) })
}

/// The number of a loop device that nobody uses; it is made if there is none.
pub(crate) fn loop_free(control: &File) -> io::Result<u32> {
    /// `LOOP_CTL_GET_FREE`, from linux/loop.h.
    const GET_FREE: libc::c_ulong = 0x4C82;
    // SAFETY: the request takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// `struct loop_config` of linux/loop.h, whose `loop_info64` is left at zero but for the flags.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// `lo_device` to `lo_encrypt_key_size`: five u64 and three u32.
    before: [u32; 13],
    flags: u32,
    /// `lo_file_name`, `lo_crypt_name`, `lo_encrypt_key`, `lo_init`.
    names: [u8; 64 + 64 + 32 + 16],
    reserved: [u64; 8],
}

/// Connects a loop device with a file, until nobody uses the device any more.
pub(crate) fn loop_configure(
    device: &File,
    image: &File,
    read_only: bool,
    direct_io: bool,
) -> io::Result<()> {
    /// `LOOP_CONFIGURE` and the flags, from linux/loop.h.
    const CONFIGURE: libc::c_ulong = 0x4C0A;
    const READ_ONLY: u32 = 1;
    const AUTOCLEAR: u32 = 4;
    const DIRECT_IO: u32 = 16;
    let config = LoopConfig {
        fd: image.as_raw_fd().unsigned_abs(),
        block_size: 0,
        before: [0; 13],
        flags: AUTOCLEAR
            | if read_only { READ_ONLY } else { 0 }
            | if direct_io { DIRECT_IO } else { 0 },
        names: [0; 176],
        reserved: [0; 8],
    };
    // SAFETY: the kernel reads one `loop_config`, which `config` is, field for field; both
    // files are open for the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) })
}

fn check(done: libc::c_int) -> io::Result<()> {
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
