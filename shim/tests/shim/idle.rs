//! What a shim costs that has nothing to do.

use corten_conformance::{lane, wait};

use crate::fake::container::Web;
use crate::fake::{self, Client};

/// What a shim of one container may have, in kB: as users get it, which scripts/test.sh tries. A
/// debug build is larger.
fn most() -> u64 {
    match std::env::var_os("CORTEN_SHIM") {
        Some(_) => 2000,
        None => 4000,
    }
}

/// A line of smaps_rollup, in kB; proc_pid_smaps(5).
fn memory(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// Waits until something has at most this size: memory is given back when it was quiet for a
/// while.
#[track_caller]
fn becomes(what: &str, most: u64, now: impl Fn() -> u64) -> u64 {
    let is_small = || Some(now()).filter(|now| *now <= most);
    let became = wait::until(fake::LIMIT, is_small);
    became.unwrap_or_else(|| panic!("{what}: {}, and not {most}", now()))
}

#[test]
fn a_shim_of_one_container_has_at_most_2_mb_and_four_threads() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let _stdout = web.stdout();
        web.run();
        web.add_exec("one", "true").unwrap();
        web.start("one").unwrap();
        assert_eq!(web.wait("one").unwrap(), 0);
        web.delete("one").unwrap();
        let shim = web.client.shim_pid();
        becomes("kB", most(), || memory(shim, "Pss:"));
        let threads = || std::fs::read_dir(format!("/proc/{shim}/task")).unwrap();
        becomes("threads", 4, || threads().count() as u64);
        web.end();
    });
}

#[test]
fn each_further_container_costs_a_shim_at_most_100_kb() {
    const MORE: u64 = 10;
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let shim = web.client.shim_pid();
        becomes("kB", most(), || memory(shim, "Pss:"));
        // Of the program itself other shims may have a part, now or then.
        let own = memory(shim, "Pss_Anon:");
        let address = format!("unix://{}", web.client.path.display());
        let mut others: Vec<Web> = (0..MORE)
            .map(|number| {
                let client = Client::new(3, &address);
                let id = format!("web-{number}");
                Web::with(web.containerd.again(), client, &id, "sleep 1000")
            })
            .collect();
        for other in &mut others {
            other.run();
        }
        becomes("kB", own + 100 * MORE, || memory(shim, "Pss_Anon:"));
        for other in &mut others {
            other.kill("", 9, true).unwrap();
            other.wait("").unwrap();
            other.delete("").unwrap();
        }
        web.end();
    });
}
