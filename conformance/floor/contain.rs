//! The child: from the clone to execve(2).

use core::ffi::{CStr, c_char};

use super::bundles::Kind;
use super::sys::{Word, call, nr};
use super::{CWD, Order, check, fail};

const MS_RDONLY: usize = 1;
const MS_NOSUID: usize = 2;
const MS_NODEV: usize = 4;
const MS_NOEXEC: usize = 8;
const MS_BIND: usize = 0x1000;
const MS_REC: usize = 0x4000;
const MS_PRIVATE: usize = 1 << 18;
const MS_SLAVE: usize = 1 << 19;
const AT_RECURSIVE: usize = 0x8000;
const S_IFCHR: usize = 0o020_000;
const ENOENT: isize = -2;
const ENOTDIR: isize = -20;
const EINVAL: isize = -22;
const NONE: Word = Word(0);

/// Makes the container around itself and becomes the program.
pub extern "C" fn child(order: &Order) -> ! {
    let kind = order.kind;
    call(
        nr::CLOSE_RANGE,
        &[Word(3), Word(u32::MAX as usize), Word(4)],
    ); // all close on exec
    call(nr::UMASK, &[Word(0)]);
    check(c"setsid", call(nr::SETSID, &[]));
    if kind.cgroup_namespace {
        const CLONE_NEWCGROUP: usize = 0x0200_0000;
        // Not in the clone: it would begin at the caller's cgroup.
        check(c"unshare", call(nr::UNSHARE, &[Word(CLONE_NEWCGROUP)]));
    }
    root(order);
    for one in kind.mounts {
        if one.make {
            check(
                c"mkdir",
                call(nr::MKDIRAT, &[CWD, one.target.into(), Word(0o755)]),
            );
        }
        let done = mount(
            one.source,
            one.target,
            Some(one.kind),
            one.flags,
            Some(one.data),
        );
        check(one.target, done);
    }
    for (source, target) in kind.binds {
        check(target, mount(source, target, None, MS_BIND | MS_REC, None));
        check(target, mount(c"", target, None, MS_PRIVATE | MS_REC, None));
    }
    devices();
    mask(kind);
    read_only(kind);
    names(kind);
    enter(kind);
    credentials(order);
    execute(order)
}

fn mount(from: &CStr, to: &CStr, kind: Option<&CStr>, flags: usize, data: Option<&CStr>) -> isize {
    let kind = kind.map_or(NONE, Word::from);
    let data = data.map_or(NONE, Word::from);
    call(
        nr::MOUNT,
        &[from.into(), to.into(), kind, Word(flags), data],
    )
}

fn attribute_read_only(path: &CStr, flags: usize) {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let attributes = [MOUNT_ATTR_RDONLY, 0, 0, 0];
    let (place, size) = (attributes.as_ptr(), Word(size_of_val(&attributes)));
    let done = call(
        nr::MOUNT_SETATTR,
        &[CWD, path.into(), Word(flags), place.into(), size],
    );
    check(path, done);
}

/// The bundle's root, a mount of its own, is the working directory from here on.
fn root(order: &Order) {
    check(c"slave", mount(c"", c"/", None, MS_SLAVE | MS_REC, None));
    check(c"chdir", call(nr::CHDIR, &[order.bundle.into()]));
    check(
        c"rootfs",
        mount(c"rootfs", c"rootfs", None, MS_BIND | MS_REC, None),
    );
    check(
        c"private",
        mount(c"", c"rootfs", None, MS_PRIVATE | MS_REC, None),
    );
    check(c"chdir", call(nr::CHDIR, &[c"rootfs".into()]));
}

fn devices() {
    const NODES: [(&CStr, usize, usize); 6] = [
        (c"dev/null", 1, 3),
        (c"dev/zero", 1, 5),
        (c"dev/full", 1, 7),
        (c"dev/random", 1, 8),
        (c"dev/urandom", 1, 9),
        (c"dev/tty", 5, 0),
    ];
    const LINKS: [(&CStr, &CStr); 5] = [
        (c"/proc/self/fd", c"dev/fd"),
        (c"/proc/self/fd/0", c"dev/stdin"),
        (c"/proc/self/fd/1", c"dev/stdout"),
        (c"/proc/self/fd/2", c"dev/stderr"),
        (c"pts/ptmx", c"dev/ptmx"),
    ];
    for (path, major, minor) in NODES {
        let node = [
            CWD,
            path.into(),
            Word(S_IFCHR | 0o666),
            Word(major << 8 | minor),
        ];
        check(path, call(nr::MKNODAT, &node));
    }
    for (target, path) in LINKS {
        check(
            path,
            call(nr::SYMLINKAT, &[target.into(), CWD, path.into()]),
        );
    }
}

/// Files get /dev/null on them, directories one empty file system for all. What is not there
/// needs no mask.
fn mask(kind: &Kind) {
    const EMPTY: usize = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    let mut empty: Option<&CStr> = None;
    for path in kind.masked {
        match mount(c"/dev/null", path, None, MS_BIND, None) {
            ENOENT => {}
            ENOTDIR => {
                let masked = match empty {
                    Some(first) => mount(first, path, None, MS_BIND, None),
                    None => mount(
                        c"tmpfs",
                        path,
                        Some(c"tmpfs"),
                        EMPTY,
                        Some(c"nr_inodes=1,mode=755"),
                    ),
                };
                check(path, masked);
                empty = empty.or(Some(path));
            }
            other => {
                check(path, other);
            }
        }
    }
}

fn read_only(kind: &Kind) {
    for path in kind.read_only {
        match mount(path, path, None, MS_BIND | MS_REC, None) {
            ENOENT => {}
            other => {
                check(path, other);
                attribute_read_only(path, AT_RECURSIVE);
            }
        }
    }
}

/// The host name, and the loopback interface is up.
fn names(kind: &Kind) {
    const AF_INET: Word = Word(2);
    const SOCK_DGRAM: Word = Word(2 | super::O_CLOEXEC);
    const SIOCSIFFLAGS: Word = Word(0x8914);
    if let Some(name) = kind.hostname {
        let done = call(nr::SETHOSTNAME, &[name.as_ptr().into(), Word(name.len())]);
        check(c"sethostname", done);
        // struct ifreq: a name of 16 bytes, the flags IFF_UP.
        let mut request = [0_u8; 40];
        [request[0], request[1], request[16]] = [b'l', b'o', 1];
        let socket = check(c"socket", call(nr::SOCKET, &[AF_INET, SOCK_DGRAM, NONE]));
        let up = call(
            nr::IOCTL,
            &[Word(socket), SIOCSIFFLAGS, request.as_ptr().into()],
        );
        check(c"lo", up);
        call(nr::CLOSE, &[Word(socket)]);
    }
}

/// The bundle's root becomes the only one.
fn enter(kind: &Kind) {
    const MNT_DETACH: Word = Word(2);
    let here = Word::from(c".");
    if kind.read_only_root {
        attribute_read_only(c".", 0);
    }
    check(c"pivot_root", call(nr::PIVOT_ROOT, &[here, here]));
    check(c"umount", call(nr::UMOUNT2, &[here, MNT_DETACH]));
    check(c"chdir", call(nr::CHDIR, &[c"/".into()]));
}

fn credentials(order: &Order) {
    const PR_CAPBSET_DROP: Word = Word(24);
    const PR_SET_NO_NEW_PRIVS: Word = Word(38);
    const RLIMIT_NOFILE: Word = Word(7);
    const KEYCTL_JOIN_SESSION_KEYRING: Word = Word(1);
    let kind = order.kind;
    let joined = call(
        nr::KEYCTL,
        &[KEYCTL_JOIN_SESSION_KEYRING, order.keyring.into()],
    );
    check(c"keyctl", joined);
    call(nr::UMASK, &[Word(0o022)]);
    if let Some(files) = kind.open_files {
        let limit = [files, files];
        let new = limit.as_ptr().into();
        check(
            c"prlimit",
            call(nr::PRLIMIT64, &[NONE, RLIMIT_NOFILE, new, NONE]),
        );
    }
    if !kind.no_new_privs {
        // It takes a privilege then.
        filter(order);
    }
    for capability in (0..).filter(|bit| kind.capabilities >> bit & 1 == 0) {
        let drop = [PR_CAPBSET_DROP, Word(capability), NONE, NONE, NONE];
        match call(nr::PRCTL, &drop) {
            // The kernel has no more.
            EINVAL => break,
            done => check(c"bounding set", done),
        };
    }
    check(c"setgroups", call(nr::SETGROUPS, &[NONE, NONE]));
    check(c"setresgid", call(nr::SETRESGID, &[NONE, NONE, NONE]));
    check(c"setresuid", call(nr::SETRESUID, &[NONE, NONE, NONE]));
    const VERSION_3: u32 = 0x2008_0522;
    let (low, high) = (kind.capabilities as u32, (kind.capabilities >> 32) as u32);
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable, of the low and then of the high half.
    let data = [low, low, 0, high, high, 0];
    check(
        c"capset",
        call(nr::CAPSET, &[header.as_ptr().into(), data.as_ptr().into()]),
    );
    if kind.no_new_privs {
        let set = [PR_SET_NO_NEW_PRIVS, Word(1), NONE, NONE, NONE];
        check(c"no_new_privs", call(nr::PRCTL, &set));
        filter(order);
    }
}

fn filter(order: &Order) {
    const SECCOMP_SET_MODE_FILTER: Word = Word(1);
    if order.filter.is_empty() {
        return;
    }
    // struct sock_fprog: how many instructions of 8 bytes, and where.
    let program = [order.filter.len() / 8, order.filter.as_ptr() as usize];
    let arguments = [SECCOMP_SET_MODE_FILTER, NONE, program.as_ptr().into()];
    check(c"seccomp", call(nr::SECCOMP, &arguments));
}

fn execute(order: &Order) -> ! {
    let mut environment: [*const c_char; 8] = [core::ptr::null(); 8];
    for (to, from) in environment.iter_mut().zip(order.kind.environment) {
        *to = from.as_ptr();
    }
    // SAFETY: the list has at least one text.
    let program = unsafe { CStr::from_ptr(*order.argv) };
    let arguments = [
        program.into(),
        order.argv.into(),
        environment.as_ptr().into(),
    ];
    let failed = call(nr::EXECVE, &arguments);
    fail(program, failed.unsigned_abs())
}
