//! The three bundles, as `src/bench/bundles.rs` of the harness writes them for the runtimes.
//!
//! A test compares what the probe sees in floor's container with what it sees in corten's.

use core::ffi::CStr;

/// What a bundle asks for.
pub struct Kind {
    /// Flags of the clone.
    pub namespaces: u64,
    pub cgroup_namespace: bool,
    pub mounts: &'static [Mount],
    /// Files beside rootfs, and where they go.
    pub binds: &'static [(&'static CStr, &'static CStr)],
    pub masked: &'static [&'static CStr],
    pub read_only: &'static [&'static CStr],
    pub read_only_root: bool,
    pub hostname: Option<&'static [u8]>,
    /// The soft and the hard one.
    pub open_files: Option<u64>,
    /// Whether devices may only be used by rule.
    pub devices: bool,
    /// Files of the cgroup. A controller that is not there has none.
    pub limits: &'static [(&'static CStr, &'static [u8])],
    /// The bounding, the effective and the permitted set.
    pub capabilities: u64,
    pub no_new_privs: bool,
    pub environment: &'static [&'static CStr],
}

/// A mount, its target without the slash. `make`: it does not exist yet.
pub struct Mount {
    pub kind: &'static CStr,
    pub source: &'static CStr,
    pub target: &'static CStr,
    pub make: bool,
    pub flags: usize,
    pub data: &'static CStr,
}

const NEWNS: u64 = 0x0002_0000;
const NEWUTS: u64 = 0x0400_0000;
const NEWIPC: u64 = 0x0800_0000;
const NEWPID: u64 = 0x2000_0000;
const NEWNET: u64 = 0x4000_0000;

const RDONLY: usize = 1;
const NOSUID: usize = 2;
const NODEV: usize = 4;
const NOEXEC: usize = 8;
const RELATIME: usize = 1 << 21;
const STRICTATIME: usize = 1 << 24;

const fn mount(kind: &'static CStr, target: &'static CStr, flags: usize) -> Mount {
    Mount {
        kind,
        source: kind,
        target,
        make: false,
        flags,
        data: c"",
    }
}

const DEV: Mount = Mount {
    data: c"mode=755,size=65536k",
    ..mount(c"tmpfs", c"dev", NOSUID | STRICTATIME)
};
const PTS: Mount = Mount {
    make: true,
    data: c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    ..mount(c"devpts", c"dev/pts", NOSUID | NOEXEC)
};
const SHM: Mount = Mount {
    make: true,
    source: c"shm",
    data: c"mode=1777,size=65536k",
    ..mount(c"tmpfs", c"dev/shm", NOSUID | NODEV | NOEXEC)
};
const MQUEUE: Mount = Mount {
    make: true,
    ..mount(c"mqueue", c"dev/mqueue", NOSUID | NODEV | NOEXEC)
};
const SYS: Mount = mount(c"sysfs", c"sys", RDONLY | NOSUID | NODEV | NOEXEC);
const CGROUP: Mount = Mount {
    source: c"cgroup",
    ..mount(
        c"cgroup2",
        c"sys/fs/cgroup",
        RDONLY | NOSUID | NODEV | NOEXEC | RELATIME,
    )
};

const READ_ONLY: &[&CStr] = &[
    c"proc/bus",
    c"proc/fs",
    c"proc/irq",
    c"proc/sys",
    c"proc/sysrq-trigger",
];
const PATH: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static MINIMAL: Kind = Kind {
    namespaces: NEWNS | NEWPID,
    cgroup_namespace: false,
    mounts: &[mount(c"proc", c"proc", 0), DEV],
    binds: &[],
    masked: &[],
    read_only: &[],
    read_only_root: false,
    hostname: None,
    open_files: None,
    devices: false,
    limits: &[],
    capabilities: 0,
    no_new_privs: false,
    environment: &[PATH, c"HOME=/"],
};

/// What `runc spec` writes.
static DEFAULT: Kind = Kind {
    namespaces: NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS,
    cgroup_namespace: true,
    mounts: &[
        mount(c"proc", c"proc", 0),
        DEV,
        PTS,
        SHM,
        MQUEUE,
        SYS,
        CGROUP,
    ],
    masked: &[
        c"proc/acpi",
        c"proc/asound",
        c"proc/kcore",
        c"proc/keys",
        c"proc/latency_stats",
        c"proc/timer_list",
        c"proc/timer_stats",
        c"proc/sched_debug",
        c"sys/firmware",
        c"proc/scsi",
    ],
    read_only: READ_ONLY,
    read_only_root: true,
    hostname: Some(b"runc"),
    open_files: Some(1024),
    // AUDIT_WRITE, KILL, NET_BIND_SERVICE.
    devices: true,
    capabilities: 1 << 29 | 1 << 5 | 1 << 10,
    no_new_privs: true,
    environment: &[PATH, c"TERM=xterm", c"HOME=/"],
    ..MINIMAL
};

/// What Docker makes of `docker run` without options, but for its network.
static DOCKER: Kind = Kind {
    namespaces: NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS,
    cgroup_namespace: true,
    mounts: &[
        mount(c"proc", c"proc", NOSUID | NODEV | NOEXEC),
        DEV,
        PTS,
        SYS,
        CGROUP,
        MQUEUE,
        SHM,
    ],
    binds: &[
        (c"../resolv.conf", c"etc/resolv.conf"),
        (c"../hostname", c"etc/hostname"),
        (c"../hosts", c"etc/hosts"),
    ],
    masked: &[
        c"proc/acpi",
        c"proc/asound",
        c"proc/interrupts",
        c"proc/kcore",
        c"proc/keys",
        c"proc/latency_stats",
        c"proc/sched_debug",
        c"proc/scsi",
        c"proc/timer_list",
        c"proc/timer_stats",
        c"sys/devices/virtual/powercap",
        c"sys/firmware",
    ],
    read_only: READ_ONLY,
    hostname: Some(b"docker"),
    open_files: Some(1024),
    limits: &[
        (c"memory.max", b"536870912"),
        (c"pids.max", b"1000"),
        (c"cpu.max", b"100000 100000"),
    ],
    // Docker's fourteen: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
    // NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
    devices: true,
    capabilities: 0xa804_25fb,
    environment: &[PATH, c"HOSTNAME=docker", c"HOME=/"],
    ..MINIMAL
};

/// The bundle of this name.
pub fn named(name: &CStr) -> &'static Kind {
    match name.to_bytes() {
        b"minimal" => &MINIMAL,
        b"default" => &DEFAULT,
        b"docker" => &DOCKER,
        _ => super::fail(c"no such bundle", 0),
    }
}
