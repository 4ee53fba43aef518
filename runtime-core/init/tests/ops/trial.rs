//! A plan of a few steps, run by the real program in namespaces of its own.
//!
//! `unshare` and a shell make the namespaces and what a test wants to find there; then they
//! become init, so that the child's pid is init's. A test looks at it in `/proc` while it waits
//! at a barrier, reads its report, or lets it execute a program.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corten_init::abi::{Barrier, OnError, Op, Slot, message, report};

use super::flat::{self, Failed, Frame, Hand, Report, Step};

/// What a run may take; each takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

const PLAN: i32 = 8;
const REPORT: i32 = 9;
const SOCKET: i32 = 7;
pub(crate) const EXEC_FIFO: i32 = 6;
pub(crate) const DONE: i32 = 5;

/// A step whose error ends init.
pub(crate) fn must(op: Op<Hand>) -> Step {
    (op, OnError::Fail)
}

/// A step that is skipped on these errnos, with the `steps` behind it.
pub(crate) fn skip_on(errnos: [u16; 3], steps: u8, op: Op<Hand>) -> Step {
    (op, OnError::Skip { errnos, steps })
}

/// A folder with a `rootfs` in it, and how init is to be started.
pub(crate) struct Trial {
    pub(crate) dir: PathBuf,
    before: String,
    namespaces: Vec<&'static str>,
    starter: &'static str,
    steps: Vec<Step>,
    args: Vec<String>,
    env: Vec<String>,
    keep_below: u64,
}

impl Trial {
    pub(crate) fn new(name: &str) -> Trial {
        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        assert!(
            root,
            "this test makes namespaces and mounts: it must run as root"
        );
        let dir = std::env::temp_dir().join(format!("corten-ops-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("rootfs")).unwrap();
        fifo(&dir.join("exec"));
        fifo(&dir.join("done"));
        let report = vec![0u8; report::size(64)];
        fs::write(dir.join("report"), report).unwrap();
        Trial {
            dir,
            before: String::new(),
            namespaces: vec!["--mount", "--propagation", "private"],
            starter: "",
            steps: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            keep_below: 3,
        }
    }

    /// The root file system's path.
    pub(crate) fn root(&self) -> String {
        self.dir.join("rootfs").to_str().unwrap().to_owned()
    }

    /// Shell commands in the new namespaces, in the trial's folder.
    pub(crate) fn before(mut self, commands: &str) -> Trial {
        self.before.push_str(commands);
        self.before.push('\n');
        self
    }

    /// A further namespace, as `unshare(1)` calls it.
    pub(crate) fn namespace(mut self, option: &'static str) -> Trial {
        self.namespaces.push(option);
        self
    }

    /// A program that starts init, such as `env --ignore-signal=PIPE`.
    pub(crate) fn started_by(mut self, starter: &'static str) -> Trial {
        self.starter = starter;
        self
    }

    pub(crate) fn keep_below(mut self, number: u64) -> Trial {
        self.keep_below = number;
        self
    }

    pub(crate) fn step(mut self, op: Op<Hand>) -> Trial {
        self.steps.push(must(op));
        self
    }

    pub(crate) fn steps(mut self, steps: impl IntoIterator<Item = Step>) -> Trial {
        self.steps.extend(steps);
        self
    }

    /// Binds the root file system on itself: the first step of most trials.
    pub(crate) fn bind_root(self) -> Trial {
        let (path, into) = (self.root(), Slot::ROOT);
        self.step(Op::BindRoot { path, into })
    }

    pub(crate) fn env(mut self, env: &[&str]) -> Trial {
        self.env = env.iter().map(ToString::to_string).collect();
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Trial {
        self.args = args.iter().map(ToString::to_string).collect();
        self
    }

    fn start(&self, output: fn() -> Stdio) -> (Child, UnixStream) {
        let frame = Frame {
            args: &self.args,
            env: &self.env,
            report_fd: REPORT,
            keep_below: self.keep_below,
            slots: &[
                (Slot::SOCKET, SOCKET),
                (Slot::EXEC_FIFO, EXEC_FIFO),
                (Slot::DONE, DONE),
            ],
        };
        fs::write(self.dir.join("plan"), flat::plan(&self.steps, &frame)).unwrap();
        let script = format!(
            "set -e\nexec {SOCKET}<&0 </dev/null\n{}\n\
             exec {PLAN}<plan {REPORT}<>report {EXEC_FIFO}<>exec {DONE}<>done\n\
             exec {} \"$1\" {PLAN}",
            self.before, self.starter
        );
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(LIMIT)).unwrap();
        let child = Command::new("unshare")
            .args(&self.namespaces)
            .args(["sh", "-c", &script, "sh"])
            .arg(program())
            .current_dir(&self.dir)
            .env("ROOT", self.root())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(output())
            .stderr(output())
            .spawn()
            .expect("unshare runs");
        (child, ours)
    }

    pub(crate) fn report(&self) -> Report {
        Report(fs::read(self.dir.join("report")).unwrap())
    }

    /// Runs the steps; init must then wait at a barrier.
    pub(crate) fn stop(mut self) -> Stopped {
        let barrier = Barrier::Ready;
        self.steps.push(must(Op::Wait { barrier }));
        let (child, socket) = self.start(Stdio::inherit);
        let mut stopped = Stopped {
            trial: self,
            child,
            socket,
        };
        stopped.hear_barrier(Barrier::Ready);
        stopped
    }

    /// Starts the steps and leaves them to the test.
    pub(crate) fn go(self) -> Stopped {
        let (child, socket) = self.start(Stdio::inherit);
        Stopped {
            trial: self,
            child,
            socket,
        }
    }

    /// Runs the steps; one of them must fail.
    pub(crate) fn fails(self) -> Failed {
        let (child, socket) = self.start(Stdio::piped);
        let output = child.wait_with_output().unwrap();
        drop(socket);
        let failed = self.report().failed();
        failed.unwrap_or_else(|| panic!("nothing failed: {output:?}"))
    }

    /// Runs the steps and the program behind them; what that printed.
    pub(crate) fn prints(mut self, args: &[&str]) -> String {
        self.steps.push(must(Op::Exec {}));
        let trial = self.args(args);
        let (child, socket) = trial.start(Stdio::piped);
        let output = child.wait_with_output().unwrap();
        drop(socket);
        assert!(
            output.status.success(),
            "{:?} {output:?}",
            trial.report().failed()
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // The mounts went with their namespace.
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}

/// Makes a fifo.
pub(crate) fn fifo(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status();
    assert!(status.unwrap().success(), "mkfifo {}", path.display());
}

/// The program as a file; the library executes the same bytes from memory.
fn program() -> PathBuf {
    let path = Path::new(corten_init::UNSTRIPPED).with_extension("");
    assert_eq!(fs::read(&path).unwrap(), corten_init::PROGRAM);
    path
}

/// An init that waits at its barrier.
pub(crate) struct Stopped {
    pub(crate) trial: Trial,
    child: Child,
    pub(crate) socket: UnixStream,
}

/// A line of mountinfo, proc_pid_mountinfo(5).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mount {
    pub(crate) device: String,
    pub(crate) root: String,
    pub(crate) point: String,
    pub(crate) options: String,
    /// `shared:1 master:2`
    pub(crate) optional: String,
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) super_options: String,
}

impl Mount {
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|word| word == option)
    }
}

impl Stopped {
    /// The next message, with its kind and number, and a descriptor if one came along.
    pub(crate) fn hear(&mut self) -> (u8, u8, i32, Option<OwnedFd>) {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; message::LEN];
        let mut iov = [std::io::IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        // With a time limit, a stop of this program interrupts the call.
        let received = loop {
            match rustix::net::recvmsg(self.socket.as_fd(), &mut iov, &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        let passed = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let length = received.unwrap().bytes;
        let failed = self.trial.report().failed();
        assert_eq!(length, message::LEN, "init is gone: {failed:?}");
        let [kind, which, _, _, a, b, c, d] = bytes;
        (kind, which, i32::from_ne_bytes([a, b, c, d]), passed)
    }

    pub(crate) fn hear_barrier(&mut self, barrier: Barrier) -> usize {
        let (kind, which, step, _) = self.hear();
        assert_eq!((kind, which), (message::BARRIER, barrier as u8));
        usize::try_from(step).unwrap()
    }

    /// Lets init go on.
    pub(crate) fn go_on(&mut self) {
        self.socket.write_all(&[0]).unwrap();
    }

    /// Waits for init's end; its exit status.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The text of a file of `/proc/PID`.
    pub(crate) fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid())).unwrap()
    }

    /// A field of `/proc/PID/status`.
    pub(crate) fn status(&self, field: &str) -> String {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.strip_prefix(':'))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// A path below the root file system, as init sees it before the pivot.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let root = format!("/proc/{}/root{}", self.pid(), self.trial.root());
        Path::new(&root).join(path.trim_start_matches('/'))
    }

    /// A path as init sees it.
    pub(crate) fn own_path(&self, path: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.pid());
        Path::new(&root).join(path.trim_start_matches('/'))
    }

    /// All mounts, in their order.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        let parse = |line: &str| {
            let (left, right) = line.split_once(" - ").unwrap();
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            Mount {
                device: left[2].to_owned(),
                root: left[3].to_owned(),
                point: left[4].to_owned(),
                options: left[5].to_owned(),
                optional: left[6..].join(" "),
                kind: right[0].to_owned(),
                source: right[1].to_owned(),
                super_options: right[2].to_owned(),
            }
        };
        self.proc("mountinfo").lines().map(parse).collect()
    }

    /// The mounts on a path of the root file system.
    pub(crate) fn mounts_on(&self, path: &str) -> Vec<Mount> {
        let point = format!("{}{path}", self.trial.root());
        let point = point.trim_end_matches('/');
        let mut mounts = self.mounts();
        mounts.retain(|mount| mount.point == point);
        mounts
    }

    /// The only mount on a path of the root file system.
    pub(crate) fn mount_on(&self, path: &str) -> Mount {
        let mut mounts = self.mounts_on(path);
        assert_eq!(mounts.len(), 1, "on {path}: {mounts:?}");
        mounts.remove(0)
    }

    /// Reads what is left on the socket until its end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).unwrap();
        rest
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may be over already.
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}
