//! What is process-wide, as one value that can be compared.
//!
//! proc_pid_status(5), proc_pid_stat(5), rt_sigaction(2), prctl(2).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::sys;

/// What of this process others could have changed.
#[derive(Debug, PartialEq)]
pub(crate) struct Process {
    cwd: PathBuf,
    dispositions: Vec<[usize; 4]>,
    dumpable: String,
    oom_score_adj: String,
    subreaper: String,
    /// Lines of /proc/self/status of the process: umask, ids, capabilities, ...
    status: Vec<String>,
}

impl Process {
    pub(crate) fn look() -> Process {
        const LINES: [&str; 8] = [
            "Umask:",
            "Uid:",
            "Gid:",
            "Groups:",
            "SigIgn:",
            "SigCgt:",
            "NoNewPrivs:",
            "CapEff:",
        ];
        Process {
            cwd: std::env::current_dir().expect("there is one"),
            dispositions: sys::dispositions(),
            dumpable: format!("{:?}", rustix::process::dumpable_behavior()),
            oom_score_adj: read("/proc/self/oom_score_adj"),
            subreaper: format!("{:?}", rustix::process::child_subreaper()),
            status: lines(&read("/proc/self/status"), &LINES),
        }
    }
}

/// The same with what each thread has for itself, and the descriptors.
#[derive(Debug, PartialEq)]
pub(crate) struct Program {
    process: Process,
    /// Signal mask, affinity, capabilities, nice of every thread.
    threads: BTreeMap<String, Vec<String>>,
    fds: BTreeMap<String, String>,
    limits: String,
    session: String,
    namespaces: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
}

impl Program {
    pub(crate) fn look() -> Program {
        let mut fds = links("/proc/self/fd");
        // The descriptor by which they were listed.
        fds.retain(|_, target| !target.ends_with("/fd"));
        // Process group, session and terminal.
        let stat = read("/proc/self/stat");
        let session = stat.rsplit(") ").next().unwrap_or_default();
        let session = session
            .split(' ')
            .skip(1)
            .take(4)
            .collect::<Vec<_>>()
            .join(" ");
        Program {
            process: Process::look(),
            threads: threads(),
            fds,
            limits: read("/proc/self/limits"),
            session,
            namespaces: links("/proc/self/ns"),
            environment: std::env::vars().collect(),
        }
    }
}

/// What each thread has for itself, by its folder in /proc.
pub(crate) fn threads() -> BTreeMap<String, Vec<String>> {
    const LINES: [&str; 9] = [
        "SigBlk:",
        "Cpus_allowed:",
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
        "Seccomp:",
    ];
    let tasks = std::fs::read_dir("/proc/self/task").expect("there is a /proc");
    let one = |task: std::io::Result<std::fs::DirEntry>| {
        let task = task.expect("a directory entry").path();
        let mut facts = lines(&read(&task.join("status").to_string_lossy()), &LINES);
        let stat = read(&task.join("stat").to_string_lossy());
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        facts.push(format!("nice {:?}", fields.split(' ').nth(16)));
        (task.to_string_lossy().into_owned(), facts)
    };
    tasks.map(one).collect()
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn lines(text: &str, wanted: &[&str]) -> Vec<String> {
    let is_wanted = |line: &&str| wanted.iter().any(|prefix| line.starts_with(prefix));
    text.lines().filter(is_wanted).map(str::to_owned).collect()
}

fn links(folder: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).expect("there is a /proc");
    let link = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let target = std::fs::read_link(&path).ok()?;
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, target.to_string_lossy().into_owned()))
    };
    entries.filter_map(link).collect()
}
