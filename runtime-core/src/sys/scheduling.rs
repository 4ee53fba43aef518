//! How a process is scheduled, see sched_setattr(2), ioprio_set(2), sched_setaffinity(2).

use std::path::Path;

use rustix::io::Errno;

use super::{call, file, last_errno};

/// What sched_setattr(2) takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Of the ordinary policies.
    pub nice: i32,
    /// Of `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Of `SCHED_DEADLINE`, in nanoseconds, as the next two.
    pub runtime: u64,
    /// By when the runtime must have been given.
    pub deadline: u64,
    /// How often.
    pub period: u64,
}

/// `struct sched_attr` of linux/sched/types.h, in the size of Linux 5.3.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// `sched_setattr(2)` of another process.
pub(crate) fn sched_setattr(pid: i32, attributes: &SchedAttributes) -> Result<(), Errno> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: attributes.policy,
        flags: attributes.flags,
        nice: attributes.nice,
        priority: attributes.priority,
        runtime: attributes.runtime,
        deadline: attributes.deadline,
        period: attributes.period,
        util_min: 0,
        util_max: 0,
    };
    call("sched_setattr", || {
        // SAFETY: the structure is valid for reads and says its own size.
        let rc = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// `ioprio_set(2)` of another process.
pub(crate) fn ioprio_set(pid: i32, priority: u32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    call("ioprio_set", || {
        // SAFETY: plain numbers.
        let rc = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, priority) };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// CPUs as bits, as many as any kernel is built for: see `NR_CPUS` in arch/x86/Kconfig.
type Cpus = [u64; 128];

/// Does something with the calling thread kept on the CPU that it is on, so that what it clones
/// begins there. It can run where it could before when this comes back; where that can't be
/// found out or changed, it is not kept at all.
///
/// A new process is placed on an idle CPU, which sleeps and has nothing of it in its caches.
/// That is a waste for one that its maker waits for.
pub(crate) fn on_this_cpu<T>(run: impl FnOnce() -> T) -> T {
    let Ok((before, words)) = affinity(0).and_then(with_offline) else {
        return run();
    };
    let kept = |here: Cpus| here != before && set_affinity(0, &here, words).is_ok();
    let was_kept = this_cpu().map(only).is_ok_and(kept);
    let done = run();
    if was_kept && let Err(errno) = set_affinity(0, &before, words) {
        // Its cpuset has changed meanwhile, and the kernel has chosen.
        log::debug!("sched_setaffinity: {errno}");
    }
    done
}

/// Moves another thread of this program, which has just been started, off the calling thread's CPU, if it may run on
/// another one.
///
/// A kernel that packs threads on few CPUs, for power or for the other guests of a virtual machine, queues a new one
/// behind its maker, also where a CPU is idle. It then begins when its maker sleeps.
pub(crate) fn off_this_cpu(thread: i32) {
    let apart = || {
        let (mut others, words) = affinity(0)?;
        let here = this_cpu()?;
        if let Some(word) = others.get_mut(here / 64) {
            *word &= !(1 << (here % 64));
        }
        // Without any CPU in it this is refused.
        set_affinity(thread, &others, words)
    };
    if let Err(errno) = apart() {
        log::debug!("sched_setaffinity: {errno}");
    }
}

/// Moves another thread of this program to the calling thread's CPU.
pub(crate) fn onto_this_cpu(thread: i32) {
    let moved = this_cpu().and_then(|here| set_affinity(thread, &only(here), here / 64 + 1));
    if let Err(errno) = moved {
        log::debug!("sched_setaffinity: {errno}");
    }
}

/// One CPU. Of a number that no kernel has there is none in it, which sched_setaffinity(2) refuses.
fn only(cpu: usize) -> Cpus {
    let mut cpus: Cpus = [0; 128];
    if let Some(word) = cpus.get_mut(cpu / 64) {
        *word = 1 << (cpu % 64);
    }
    cpus
}

/// On how many CPUs a thread may run; 0 is the calling one.
#[cfg(test)]
pub(super) fn cpus(thread: i32) -> Result<u32, Errno> {
    let (cpus, _) = affinity(thread)?;
    Ok(cpus.iter().map(|word| word.count_ones()).sum())
}

/// Where a thread may run, and how many words of it the kernel has; 0 is the calling one.
fn affinity(thread: i32) -> Result<(Cpus, usize), Errno> {
    let mut cpus: Cpus = [0; 128];
    let bytes = call("sched_getaffinity", || {
        let (at, len) = (cpus.as_mut_ptr(), size_of_val(&cpus));
        // SAFETY: the memory is valid for writes of that many bytes.
        let bytes = unsafe { libc::syscall(libc::SYS_sched_getaffinity, thread, len, at) };
        usize::try_from(bytes).map_err(|_| last_errno())
    })?;
    Ok((cpus, bytes / 8))
}

/// The same with those that are offline just now, which sched_getaffinity(2) leaves out: the
/// thread may run there when they are back.
fn with_offline((online, words): (Cpus, usize)) -> Result<(Cpus, usize), Errno> {
    // As a rule there is none, and the longer file need not be read.
    let offline = Path::new("/sys/devices/system/cpu/offline");
    let offline = file::read_once_at(rustix::fs::CWD, offline);
    if offline.is_ok_and(|list| list.trim_ascii().is_empty()) {
        return Ok((online, words));
    }
    let status = file::read(Path::new("/proc/thread-self/status"))?;
    let all = allowed(&String::from_utf8_lossy(&status)).ok_or(Errno::PROTO)?;
    Ok((all, words))
}

/// `Cpus_allowed` of proc_pid_status(5): words of 32 bits, the highest first.
fn allowed(status: &str) -> Option<Cpus> {
    let line = |line: &str| line.strip_prefix("Cpus_allowed:").map(str::to_owned);
    let mut cpus: Cpus = [0; 128];
    for (at, word) in status
        .lines()
        .find_map(line)?
        .trim()
        .rsplit(',')
        .enumerate()
    {
        let word = u64::from(u32::from_str_radix(word, 16).ok()?);
        *cpus.get_mut(at / 2)? |= word << (at % 2 * 32);
    }
    Some(cpus)
}

/// Of a thread; 0 is the calling one.
fn set_affinity(thread: i32, cpus: &Cpus, words: usize) -> Result<(), Errno> {
    let cpus = cpus.get(..words).unwrap_or(cpus);
    call("sched_setaffinity", || {
        let (at, len) = (cpus.as_ptr(), size_of_val(cpus));
        // SAFETY: the memory is valid for reads of that many bytes.
        let rc = unsafe { libc::syscall(libc::SYS_sched_setaffinity, thread, len, at) };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })
}

/// By a system call: rustix panics where the vDSO lacks getcpu, as that of User Mode Linux 7.2.
fn this_cpu() -> Result<usize, Errno> {
    let mut number = 0_u32;
    call("getcpu", || {
        let none = std::ptr::null_mut::<u32>();
        // SAFETY: the number is valid for writes; the kernel takes null for what is not asked.
        let rc = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut number, none, none) };
        if rc == 0 { Ok(()) } else { Err(last_errno()) }
    })?;
    Ok(number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_on_its_cpu_and_is_then_as_free_as_before() {
        let before = affinity(0).unwrap();
        let (during, here) = on_this_cpu(|| (affinity(0).unwrap().0, this_cpu().unwrap()));
        let bits = |cpus: &Cpus| cpus.iter().map(|word| word.count_ones()).sum::<u32>();
        assert_eq!(bits(&during), 1);
        assert_eq!(during[here / 64], 1 << (here % 64));
        assert_eq!(affinity(0).unwrap(), before);
    }

    #[test]
    fn a_cpu_that_is_offline_is_not_lost() {
        let status =
            |cpus: &str| format!("Name:\tx\nCpus_allowed:\t{cpus}\nCpus_allowed_list:\t0\n");
        let words = |cpus: &str| allowed(&status(cpus)).map(|cpus| [cpus[0], cpus[1]]);
        assert_eq!(words("f"), Some([0xf, 0]));
        assert_eq!(
            words("00000001,80000000,0000000f"),
            Some([0x8000_0000_0000_000f, 1])
        );
        assert_eq!(words("g"), None);
        assert_eq!(allowed("Name:\tx\n"), None);
        // Where all are online both files say the same.
        let own = file::read(Path::new("/proc/thread-self/status")).unwrap();
        let (online, words) = affinity(0).unwrap();
        let both = with_offline((online, words)).unwrap();
        let of_status = allowed(&String::from_utf8_lossy(&own)).unwrap();
        let is_within = online
            .iter()
            .zip(of_status)
            .all(|(own, all)| own & all == *own);
        assert!(is_within && both.1 == words);
    }
}
