//! The thread beside a launch, and what it leaves.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd};

use rustix::process::{Pid, Signal};

use super::super::{Launch, Launched, launch};
use std::time::Instant;

use super::*;

const NETWORK: u64 = libc::CLONE_NEWNET as u64;
const IPC: u64 = libc::CLONE_NEWIPC as u64;

/// A process that sleeps in new namespaces.
fn sleep(program: &std::fs::File, namespaces: u64, guard: Option<Guard>) -> Launch<'_> {
    Launch {
        namespaces,
        cgroup: None,
        program: program.as_fd(),
        argument: c"1000",
        inherit: &[],
        nofile: None,
        guard,
    }
}

fn sleeper(namespaces: u64, guard: Option<Guard>) -> Launched {
    let program = std::fs::File::open("/bin/sleep").unwrap();
    let launched = launch(sleep(&program, namespaces, guard));
    launched.expect("this test makes namespaces: it must run as root")
}

/// As if the time were over.
fn is_late(guard: &Guard, birth: &Birth) {
    let place = (&raw const *birth).cast_mut();
    guard.shared.deadline.store(1, Ordering::Release);
    guard.shared.birth.store(place, Ordering::Release);
    look_at_the_time(&guard.shared);
}

fn end(launched: &Launched) {
    rustix::process::pidfd_send_signal(&launched.pidfd, Signal::KILL).unwrap();
    crate::sys::process::reap(&launched.pidfd);
}

/// `net:[4026531840]`
fn of_process(pid: &str, kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.into_os_string().into_string().unwrap()
}

fn namespaces(pid: Pid) -> [String; 3] {
    let pid = pid.to_string();
    ["net", "ipc", "uts"].map(|kind| of_process(&pid, kind))
}

/// Waits until it has made all, and says which.
fn made(guard: &Guard) -> Vec<String> {
    while !wait_zero(&guard.shared.unmade, LIMIT) {}
    let numbers = guard
        .shared
        .made
        .iter()
        .map(|fd| fd.load(Ordering::Acquire));
    let links = numbers.filter(|fd| *fd >= 0).map(|fd| of_fd(fd).unwrap());
    links.collect()
}

fn of_fd(fd: i32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    link.into_os_string().into_string().ok()
}

#[test]
fn a_child_is_born_in_the_namespaces_that_were_made_ahead() {
    let own = namespaces(rustix::process::getpid());
    let guard = Guard::start(NETWORK | IPC).unwrap();
    let [net, ipc] = made(&guard).try_into().unwrap();
    let launched = sleeper(NETWORK | IPC, Some(guard));
    let its = namespaces(launched.pid);
    end(&launched);
    let [_, _, uts] = &own;
    assert_eq!(its, [net, ipc, uts.clone()]);
    assert_eq!(namespaces(rustix::process::getpid()), own);
}

#[test]
fn a_child_has_new_namespaces_also_if_nobody_has_made_them_yet() {
    let own = namespaces(rustix::process::getpid());
    for _ in 0..20 {
        let guard = Guard::start(NETWORK | IPC).unwrap();
        let launched = sleeper(NETWORK | IPC, Some(guard));
        let its = namespaces(launched.pid);
        end(&launched);
        assert!(its[0] != own[0] && its[1] != own[1] && its[2] == own[2]);
    }
}

#[test]
fn a_namespace_that_the_launch_does_not_ask_for_is_not_joined() {
    let own = namespaces(rustix::process::getpid());
    let guard = Guard::start(NETWORK | IPC).unwrap();
    made(&guard);
    let launched = sleeper(IPC, Some(guard));
    let its = namespaces(launched.pid);
    end(&launched);
    assert!(its[0] == own[0] && its[1] != own[1] && its[2] == own[2]);
}

#[test]
fn a_child_that_may_not_join_what_was_made_is_born_in_new_ones() {
    let own = namespaces(rustix::process::getpid());
    let guard = Guard::start(NETWORK | IPC).unwrap();
    made(&guard);
    // As a filter on setns(2) refuses it.
    let null = std::fs::File::open("/dev/null").unwrap();
    let [net, ..] = &guard.shared.made;
    net.store(null.into_raw_fd(), Ordering::Release);
    let launched = sleeper(NETWORK | IPC, Some(guard));
    let its = namespaces(launched.pid);
    end(&launched);
    assert!(its[0] != own[0] && its[1] != own[1] && its[2] == own[2]);
}

#[test]
fn only_a_child_that_is_known_and_has_not_left_is_killed_for_the_time_it_takes() {
    let program = std::fs::File::open("/bin/sleep").unwrap();
    let outcome = |before: bool| {
        let birth = Birth::new(&sleep(&program, 0, None), &[]);
        let guard = Guard::start(0).unwrap();
        if before {
            is_late(&guard, &birth);
        }
        let made = with_signals_blocked(|| birth.give()).unwrap();
        if !before {
            is_late(&guard, &birth);
        }
        assert_eq!(guard.dismiss(), task::KILL);
        guard.wait();
        let killed = guard.shared.killed.load(Ordering::Acquire);
        birth.outcome(made, killed)
    };
    for before in [true, false] {
        end(&outcome(before).unwrap());
    }

    let other = sleeper(0, None);
    let birth = Birth::new(&sleep(&program, 0, None), &[]);
    let guard = Guard::start(0).unwrap();
    let number = other.pidfd.as_raw_fd();
    birth.child.pidfd.store(number, Ordering::Release);
    is_late(&guard, &birth);
    assert!(guard.shared.killed.load(Ordering::Acquire));
    crate::sys::process::reap(&other.pidfd);
}

#[test]
fn lo_is_up_in_a_network_namespace_that_was_made_ahead() {
    let guard = Guard::start(NETWORK).unwrap();
    made(&guard);
    let launched = sleeper(NETWORK, Some(guard));
    let state = format!("/proc/{}/net/fib_trie", launched.pid);
    // The kernel gives it its address as it comes up. The thread may still be at it.
    let limit = Instant::now() + LIMIT;
    let is_up = || {
        std::fs::read_to_string(&state)
            .unwrap()
            .contains("127.0.0.1")
    };
    while !is_up() && Instant::now() < limit {
        std::thread::yield_now();
    }
    assert!(is_up());
    end(&launched);
}

#[test]
fn what_makes_namespaces_is_not_on_its_makers_cpu() {
    let own = scheduling::cpus(0).unwrap();
    let of_guard = |namespaces| {
        let guard = Guard::start(namespaces).unwrap();
        scheduling::cpus(guard.thread).unwrap()
    };
    // There is another one.
    if own > 1 {
        assert_eq!(of_guard(IPC), own - 1);
    }
    assert_eq!(of_guard(0), own);
    assert_eq!(scheduling::cpus(0).unwrap(), own);
}

#[test]
fn what_nobody_is_born_in_is_gone_with_its_guard() {
    let guard = Guard::start(NETWORK).unwrap();
    let [net] = made(&guard).try_into().unwrap();
    drop(guard);
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = fds.filter_map(|fd| of_fd(fd.ok()?.file_name().to_str()?.parse().ok()?));
    assert!(links.into_iter().all(|link| link != net));
}

/// Major and minor number of the kernel's release.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// The object that a number which was just opened stands for; closed again.
fn opened(fd: i64) -> String {
    let fd = i32::try_from(fd).unwrap();
    // SAFETY: the number was just opened, by who calls this.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let flags = rustix::io::fcntl_getfd(&fd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    of_fd(fd.as_raw_fd()).unwrap()
}

#[test]
fn a_namespace_is_the_same_by_the_pidfd_and_by_its_path() {
    let pidfd = own_pidfd();
    for (kind, name) in KINDS.iter().zip(["net", "ipc", "uts"]) {
        let wanted = of_process("thread-self", name);
        assert_eq!(opened(kind.by_path()), wanted);
        if kernel() >= (6, 11) {
            assert_eq!(opened(kind.by_pidfd(pidfd)), wanted);
        }
        for own in [pidfd, -1] {
            assert_eq!(opened(kind.open(own)), wanted, "{name} by {own}");
        }
    }
    assert_eq!(pidfd >= 0, kernel() >= (6, 9));
    if pidfd >= 0 {
        raw_call(libc::SYS_close, [pidfd as u64, 0, 0, 0, 0]);
    }
}

#[test]
fn a_fork_has_no_such_thread_and_waits_for_none() {
    let guard = Guard::start(NETWORK).unwrap();
    // SAFETY: the child makes system calls only.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_here = guard.is_here();
        drop(guard);
        // SAFETY: it ends this process alone.
        unsafe { libc::_exit(i32::from(is_here)) };
    }
    let pidfd = crate::sys::process::pidfd_open(child).unwrap();
    let ended = crate::sys::process::has_ended(pidfd.as_fd(), Some(LIMIT));
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    let status = crate::sys::process::wait_child(pidfd.as_fd()).unwrap().0;
    assert_eq!(ended, Ok(true), "it waits");
    assert!(matches!(status, crate::sys::process::Ended::Code(0)));
    assert!(guard.is_here());
}
