//! Hooks on the host: each is run by an init of its own, which is a small child of the
//! caller and waits for the hook.
//!
//! So a hook costs the same from a large program as from a small one, gets nothing of
//! it, and can't be reaped by it. How it went is in a report, not in an exit status. With
//! the caller's end, or when it is called off, the hook and its group are killed: nobody is
//! there to go on. See [`crate::plan::hooks`].

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use corten_init::abi::Slot;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::calloff::{CALLED_OFF, CallOff};
use super::report::Report;
use super::{InitProgram, failure};
use crate::error::errno_text;
use crate::host::Host;
use crate::plan::hooks::{name, supervisor};
use crate::plan::{Fds, Flat, Plan};
use crate::spec::Hook;
use crate::sys::launch::{Launch, launch};
use crate::sys::{file, ipc, process};

/// How long a hook's init may take to kill it.
const KILL_LIMIT: Duration = Duration::from_secs(12);

/// Where hooks run, and by what.
pub(crate) struct Hooks<'a> {
    pub(crate) program: &'a InitProgram,
    pub(crate) host: &'a Host,
    pub(crate) bundle: &'a Path,
    pub(crate) rootfs: &'a Path,
    pub(crate) call_off: CallOff<'a>,
}

impl Hooks<'_> {
    /// Runs one hook to its end; the error is a sentence about `what`.
    pub(crate) fn run(&self, what: &str, hook: &Hook, state: &str) -> Result<(), String> {
        let dirs = [self.bundle, self.rootfs];
        let plan = supervisor(hook, state, dirs, self.host.memfd_exec);
        match self.supervise(&plan) {
            Ok(report) => verdict(&plan, &report, what),
            Err(Errno::CANCELED) => Err(CALLED_OFF.to_owned()),
            Err(errno) => Err(errno_text(errno.raw_os_error())),
        }
        .map_err(|text| format!("error running {what}: {text}"))
    }

    /// Runs all hooks of one kind up to the first that fails.
    pub(crate) fn run_all(&self, kind: &str, hooks: &[Hook], state: &str) -> Result<(), String> {
        let mut all = hooks.iter().enumerate();
        all.try_for_each(|(index, hook)| self.run(&name(kind, index, hook), hook, state))
    }

    /// Runs all poststop hooks: one that fails is only a warning.
    pub(crate) fn poststop(&self, hooks: &[Hook], state: &str) {
        for (index, hook) in hooks.iter().enumerate() {
            if let Err(text) = self.run(&name("poststop", index, hook), hook, state) {
                log::warn!("{text}");
            }
        }
    }

    /// Starts the hook's init and waits for its end.
    fn supervise(&self, plan: &Plan) -> Result<Report, Errno> {
        let least = 3;
        let flags = self.host.memfd_exec.of_data();
        let report = Report::in_memory(plan.init_steps(), flags)?;
        let report_fd = ipc::copy_at_least(report.fd(), least)?;
        let null = file::open_at(rustix::fs::CWD, Path::new("/dev/null"), OFlags::RDWR)?;
        let null = ipc::at_least(null, least)?;
        let (lifeline, theirs) = ipc::socket_pair()?;
        let theirs = ipc::at_least(theirs, least)?;
        let fds = Fds {
            report: report_fd.as_raw_fd(),
            stdio: [null.as_raw_fd(); 3],
            slots: &[(Slot::SOCKET, theirs.as_raw_fd())],
        };
        let flat = ipc::sealed_memfd(c"corten-hook", &Flat::new(plan, &fds).0, flags)?;
        let flat = ipc::at_least(flat, least)?;
        let inherit = [
            fds.report,
            null.as_raw_fd(),
            flat.as_raw_fd(),
            theirs.as_raw_fd(),
        ];
        let argument = CString::new(flat.as_raw_fd().to_string()).map_err(|_| Errno::INVAL)?;
        let launched = launch(Launch {
            namespaces: 0,
            cgroup: None,
            program: self.program.file(self.host)?,
            argument: &argument,
            inherit: &inherit,
            nofile: self.program.nofile,
            guard: None,
        })?;
        drop((report_fd, null, flat, theirs));
        // As long as the hook may take: its own timeout is init's to watch.
        let waited = self.call_off.wait(&[launched.pidfd.as_fd()]);
        if waited.is_err() {
            // Not only closed: a fork of the caller may have a copy.
            ipc::shut_down(lifeline.as_fd())?;
            if !process::has_ended(launched.pidfd.as_fd(), Some(KILL_LIMIT))? {
                process::kill(launched.pidfd.as_fd())?;
            }
        }
        process::reap(&launched.pidfd);
        waited.map(|_| report)
    }
}

/// What the report of a hook's init says.
fn verdict(plan: &Plan, report: &Report, what: &str) -> Result<(), String> {
    let read = report
        .ending()
        .and_then(|ending| Ok((ending, report.records()?)));
    let ((failure, current), records) = read.map_err(|errno| errno_text(errno.raw_os_error()))?;
    let last = plan.init_steps().checked_sub(1);
    match failure {
        Some(failure) if Some(failure.index) == last => Err(failure::hook_text(&failure)),
        Some(failure) => {
            let step = plan.steps.get(failure.index);
            let step = step.map_or(what, |step| &step.what);
            Err(format!("{step}: {}", errno_text(failure.errno)))
        }
        None if current == last && records.last().is_some_and(|last| last.is_ok()) => Ok(()),
        None => Err("the process that waits for it was killed".to_owned()),
    }
}
