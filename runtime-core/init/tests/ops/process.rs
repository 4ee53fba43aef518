//! What the process is: names, directory, home, priorities, credentials.

use std::fs;
use std::time::{Duration, Instant};

use corten_init::abi::{Barrier, Kind, Op, report};
use corten_init::sys::errno;

use super::flat::Hand;
use super::trial::{Trial, must, skip_on};

const CLONE_NEWUSER: u64 = 0x1000_0000;

fn change_dir(path: &str) -> Op<Hand> {
    let path = path.to_owned();
    Op::ChangeDir { path }
}

#[test]
fn host_and_domain_name_are_set_in_the_namespace() {
    let name = |name: &str| name.to_owned();
    let printed = Trial::new("names")
        .namespace("--uts")
        .step(Op::SetHostname { name: name("web") })
        .step(Op::SetDomainname {
            name: name("example.org"),
        })
        .prints(&["/bin/sh", "-c", "uname -n; cat /proc/sys/kernel/domainname"]);
    assert_eq!(printed, "web\nexample.org");
    assert_ne!(
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
        "web\n"
    );
}

#[test]
fn the_loopback_device_is_up_with_its_addresses() {
    let init = Trial::new("loopback")
        .namespace("--net")
        .step(Op::LoopbackUp {})
        // Where it is up already nothing changes.
        .step(Op::LoopbackUp {})
        .stop();
    assert!(init.proc("net/fib_trie").contains("127.0.0.1"));
}

#[test]
fn a_working_directory_is_changed_to_through_ordinary_links() {
    let trial = Trial::new("cwd").before("mkdir -p there/deep; ln -s there link");
    let dir = trial.dir.to_str().unwrap().to_owned();
    let init = trial.step(change_dir(&format!("{dir}/link/deep"))).stop();
    let cwd = fs::read_link(format!("/proc/{}/cwd", init.pid())).unwrap();
    assert!(cwd.ends_with("there/deep"), "{}", cwd.display());
}

#[test]
fn a_working_directory_that_is_missing_is_not_made_by_the_change() {
    let trial = Trial::new("cwd-missing");
    let missing = trial.dir.join("missing").to_str().unwrap().to_owned();
    assert_eq!(
        trial.step(change_dir(&missing)).fails().errno,
        errno::ENOENT
    );
}

#[test]
fn a_file_is_no_working_directory() {
    let trial = Trial::new("cwd-file").before("touch file");
    let file = trial.dir.join("file").to_str().unwrap().to_owned();
    assert_eq!(trial.step(change_dir(&file)).fails().errno, errno::ENOTDIR);
}

#[test]
fn a_working_directory_is_never_reached_through_a_descriptor() {
    // CVE-2024-21626: a descriptor of the host's tree that was left open.
    for path in [
        "/proc/self/fd/3",
        "/proc/self/fd/3/etc",
        "/proc/self/cwd",
        "/proc/self/root/etc",
    ] {
        let failed = Trial::new(&format!("magic{}", path.replace('/', "-")))
            .before("exec 3</")
            .step(change_dir(path))
            .fails();
        assert_eq!(failed.errno, errno::ELOOP, "{path}");
    }
    let failed = Trial::new("magic-link").before("exec 3</; ln -s /proc/self/fd/3 link");
    let link = failed.dir.join("link").to_str().unwrap().to_owned();
    assert_eq!(failed.step(change_dir(&link)).fails().errno, errno::ELOOP);
}

/// What `HOME` becomes for uid 33 with this made of /etc; the trial's folder is `$PWD`.
fn home(name: &str, before: &str) -> String {
    let begin = Instant::now();
    let printed = Trial::new(name)
        .before("mount -t tmpfs none /etc")
        .before(before)
        .env(&["PATH=/bin"])
        .step(Op::FindHome { uid: 33 })
        .prints(&["/bin/sh", "-c", "echo \"$HOME\"; env"]);
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{name} takes too long"
    );
    let (home, env) = printed.split_once('\n').unwrap();
    assert_eq!(
        env.lines().filter(|line| line.starts_with("HOME=")).count(),
        1
    );
    assert!(env.lines().any(|line| line == "PATH=/bin"), "{env}");
    home.to_owned()
}

#[test]
fn home_is_what_passwd_says() {
    let passwd = "printf 'root:x:0:0::/root:\\nweb:x:33:33::/srv/web:\\n' >/etc/passwd";
    assert_eq!(home("home", passwd), "/srv/web");
}

#[test]
fn home_is_the_root_where_passwd_does_not_say() {
    for (name, before) in [
        ("home-none", ""),
        ("home-other", "echo root:x:0:0::/root: >/etc/passwd"),
        ("home-empty", "echo web:x:33:33::: >/etc/passwd"),
        ("home-short", "echo web:x:33 >/etc/passwd"),
        ("home-directory", "mkdir /etc/passwd"),
        ("home-dangling", "ln -s nothing /etc/passwd"),
        ("home-circle", "ln -s passwd /etc/passwd"),
        ("home-device", "ln -s /dev/zero /etc/passwd"),
    ] {
        assert_eq!(home(name, before), "/", "{name}");
    }
}

#[test]
fn a_fifo_in_the_place_of_passwd_does_not_hang_init() {
    assert_eq!(home("home-fifo", "mkfifo /etc/passwd"), "/");
}

#[test]
fn a_link_through_proc_in_the_place_of_passwd_is_not_followed() {
    let before =
        "echo web:x:33:33::/stolen: >secret; exec 3<secret; ln -s /proc/self/fd/3 /etc/passwd";
    assert_eq!(home("home-magic", before), "/");
}

#[test]
fn a_passwd_of_a_gibibyte_is_read_no_further_than_its_first_mebibyte() {
    let before = "truncate -s 1G /etc/passwd; echo web:x:33:33::/far: >>/etc/passwd";
    assert_eq!(home("home-sparse", before), "/");
    let before = "mount -o remount,size=100% /etc; yes root:x:0:0::/root: | head -c 2M >/etc/passwd
                  echo web:x:33:33::/far: >>/etc/passwd";
    assert_eq!(home("home-long", before), "/");
}

#[test]
fn a_line_of_a_mebibyte_is_passed_over() {
    let before =
        "(printf web:x:33:33:; head -c 1000000 /dev/zero | tr '\\0' a; echo :/no:) >/etc/passwd
                  echo web:x:33:33::/srv: >>/etc/passwd";
    assert_eq!(home("home-line", before), "/srv");
}

#[test]
fn umask_nice_and_affinity_are_set() {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"))
        .unwrap();
    let init = Trial::new("process")
        .started_by("nice -n 7 taskset -c 0")
        .step(Op::SetUmask { mask: 0o027 })
        .step(Op::SetNice { nice: -5 })
        .step(Op::AllCpus {})
        .stop();
    assert_eq!(init.status("Umask"), "0027");
    let stat = init.proc("stat");
    // Field 19 of proc_pid_stat(5); the first behind the name is the third.
    let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16);
    assert_eq!(nice, Some("-5"));
    // If this program itself is held to some CPUs, that does not count for init.
    assert!(init.status("Cpus_allowed_list").len() >= own.len());
}

#[test]
fn a_limit_of_resources_is_set() {
    let init = Trial::new("rlimit")
        .step(Op::SetRlimit {
            // RLIMIT_CORE
            resource: 4,
            soft: 4096,
            hard: 8192,
        })
        .stop();
    let limits = init.proc("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.unwrap().split_whitespace().skip(4).collect();
    assert_eq!(words, ["4096", "8192", "bytes"]);
}

#[test]
fn a_session_keyring_is_joined_by_its_name() {
    let name = "_ses.trial".to_owned();
    let printed = Trial::new("keyring")
        .steps([skip_on([38, 122, 1], 0, Op::SessionKeyring { name })])
        .step(Op::SetUmask { mask: 0 })
        .prints(&["/bin/sh", "-c", "grep -c _ses.trial /proc/keys || true"]);
    // A kernel without keyrings skips the step.
    let has_keys = std::path::Path::new("/proc/keys").exists();
    assert_eq!(printed == "1", has_keys, "{printed}");
}

#[test]
fn credentials_are_exactly_what_the_steps_say() {
    const KILL: u64 = 1 << 5;
    const CHOWN: u64 = 1;
    let init = Trial::new("credentials")
        .steps([
            must(Op::BoundingSet {
                keep: KILL | CHOWN,
                last: 40,
            }),
            must(Op::KeepCaps {}),
            must(Op::SetGroups {
                gids: vec![7, 5, 4_294_967_294],
            }),
            must(Op::SetGid { gid: 100 }),
            must(Op::SetUid { uid: 1000 }),
            must(Op::SetCaps {
                effective: KILL,
                permitted: KILL | CHOWN,
                inheritable: CHOWN,
            }),
            must(Op::RaiseAmbient { cap: 0 }),
            must(Op::NoNewPrivs {}),
        ])
        .stop();
    let caps = ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"]
        .map(|field| u64::from_str_radix(&init.status(field), 16).unwrap());
    assert_eq!(caps, [KILL | CHOWN, KILL, KILL | CHOWN, CHOWN, CHOWN]);
    assert_eq!(init.status("Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(init.status("Gid"), "100\t100\t100\t100");
    assert_eq!(init.status("Groups"), "5 7 4294967294");
    assert_eq!(init.status("NoNewPrivs"), "1");
}

#[test]
fn an_empty_list_of_groups_is_none() {
    let init = Trial::new("groups")
        .step(Op::SetGroups { gids: Vec::new() })
        .stop();
    assert_eq!(init.status("Groups"), "");
}

#[test]
fn the_bounding_set_ends_with_the_highest_capability_that_the_kernel_knows() {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let last: u32 = last.trim().parse().unwrap();
    let init = Trial::new("bounding")
        .step(Op::BoundingSet { keep: 0, last })
        .stop();
    assert_eq!(init.status("CapBnd"), "0000000000000000");
    let failed = Trial::new("bounding-far")
        .step(Op::BoundingSet {
            keep: 0,
            last: last + 1,
        })
        .fails();
    assert_eq!(failed.errno, errno::EINVAL);
}

#[test]
fn an_ambient_capability_that_is_not_inheritable_is_refused_and_can_be_a_warning() {
    let raise = || Op::RaiseAmbient { cap: 5 };
    let failed = Trial::new("ambient").step(raise()).fails();
    assert_eq!((failed.errno, failed.kind), (errno::EPERM, Kind::Plain));
    let init = Trial::new("ambient-warn")
        .steps([(raise(), corten_init::abi::OnError::Warn)])
        .stop();
    let outcome = init.trial.report().outcome(0);
    assert_eq!(outcome, (report::WARNED, errno::EPERM));
}

#[test]
fn a_new_user_namespaces_root_is_become_with_no_groups_left() {
    let mut init = Trial::new("become")
        .step(Op::SetGroups { gids: vec![5] })
        .step(Op::Unshare {
            flags: CLONE_NEWUSER,
        })
        .step(Op::Wait {
            barrier: Barrier::Entered,
        })
        .step(Op::SetGroups { gids: vec![] })
        .step(Op::BecomeRoot {})
        .step(Op::Wait {
            barrier: Barrier::Ready,
        })
        .go();
    init.hear_barrier(Barrier::Entered);
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", init.pid()), "0 100000 1000").unwrap();
    }
    init.go_on();
    init.hear_barrier(Barrier::Ready);
    assert_eq!(init.status("Groups"), "");
    assert_eq!(init.status("Uid"), "100000\t100000\t100000\t100000");
}

#[test]
fn the_personality_is_that_of_the_plan() {
    const LINUX32: u32 = 8;
    let init = Trial::new("personality")
        .step(Op::SetPersonality { persona: LINUX32 })
        .stop();
    assert_eq!(init.proc("personality").trim(), "00000008");
}

#[test]
fn memory_comes_from_the_nodes_of_the_plan() {
    const MPOL_INTERLEAVE: u32 = 3;
    let set = |name: &str, nodes: &[u32]| {
        let nodes = nodes.to_vec();
        let mode = MPOL_INTERLEAVE;
        Trial::new(name).step(Op::SetMemoryPolicy { mode, nodes })
    };
    if fs::metadata("/proc/self/numa_maps").is_err() {
        let failed = set("mempolicy-none", &[1, 0]).fails();
        assert_eq!(failed.errno, errno::ENOSYS);
        return;
    }
    let init = set("mempolicy", &[1, 0]).stop();
    assert!(init.proc("numa_maps").contains(" interleave:0 "));
    // The last bit counts: node 63 is not there, so the kernel says no.
    let failed = set("mempolicy-last", &[0, 1 << 31]).fails();
    assert_eq!(failed.errno, errno::EINVAL);
    assert_eq!(set("mempolicy-empty", &[]).fails().errno, errno::EINVAL);
}
