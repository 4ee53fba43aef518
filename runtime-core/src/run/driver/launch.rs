//! The start of init: what it gets, and the clone.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use corten_init::abi::Slot;
use rustix::io::Errno;

use super::{Driver, Failed, Process};
use crate::cgroup::Cgroup;
use crate::error::errno_text;
use crate::plan::{Fds, Flat};
use crate::run::link::Link;
use crate::run::report::Report;
use crate::sys::launch::{Launch, NotBorn, launch};
use crate::sys::{file, ipc, scheduling};

impl Driver<'_> {
    /// Makes or takes all that init gets, each with a number of at least `least`.
    fn pass(&mut self, least: RawFd, pass_cgroup: bool) -> Result<Passed, Failed> {
        let high = |fd: OwnedFd| ipc::at_least(fd, least);
        // Only what waits for `start` is asked by somebody else how it went.
        let steps = self.plan.init_steps();
        let report = match self.made.fifos {
            Some(_) => Report::make(self.dir, steps)?,
            None => Report::in_memory(steps, self.host.memfd_exec.of_data())?,
        };
        let report_fd = ipc::copy_at_least(report.fd(), least)?;
        self.made.report = Some(report);
        let (ours, theirs) = ipc::socket_pair()?;
        self.made.link = Some(Link(ours));
        let mut slots = vec![(Slot::SOCKET, high(theirs)?)];
        if let Some([exec, done]) = self.made.fifos.take() {
            slots.push((Slot::EXEC_FIFO, high(exec)?));
            slots.push((Slot::DONE, high(done)?));
        }
        for (slot, fd) in self.made.passed.drain(..) {
            slots.push((slot, high(fd)?));
        }
        if let (Some(cgroup), true) = (&self.made.cgroup, pass_cgroup) {
            slots.push((Slot::CGROUP, ipc::copy_at_least(cgroup.dir(), least)?));
        }
        Ok(Passed {
            report: report_fd,
            slots,
            stdio: self.stdio(least)?,
        })
    }

    pub(super) fn launch(
        &mut self,
        namespaces: u64,
        into_cgroup: bool,
        stage0: bool,
    ) -> Result<(), Failed> {
        let least = 3 + i32::try_from(self.plan.preserve_fds).unwrap_or(i32::MAX - 3);
        let passed = self.pass(least, stage0 && !into_cgroup)?;
        let slots = passed.slots();
        let fds = Fds {
            report: passed.report.as_raw_fd(),
            stdio: passed.stdio(),
            slots: &slots,
        };
        let flat = Flat::new(self.plan, &fds);
        let flat = ipc::sealed_memfd(c"corten-plan", &flat.0, self.host.memfd_exec.of_data())?;
        let flat = ipc::at_least(flat, least)?;
        let mut inherit = passed.numbers();
        inherit.push(flat.as_raw_fd());
        inherit.extend(3..least);
        let argument = CString::new(flat.as_raw_fd().to_string()).map_err(|_| Errno::INVAL)?;
        let request = Launch {
            namespaces,
            cgroup: self
                .made
                .cgroup
                .as_ref()
                .filter(|_| into_cgroup)
                .map(Cgroup::dir),
            program: self.program.file(self.host)?,
            argument: &argument,
            inherit: &inherit,
            nofile: self.program.nofile,
            // What a container lives in is not for a stage 0 that makes it.
            guard: self.made.guard.take().filter(|_| !stage0),
        };
        let launched = if self.keeper.stays_on_cpu() {
            scheduling::on_this_cpu(|| launch(request))
        } else {
            launch(request)
        };
        let launched = match launched {
            Err(NotBorn::Child(Errno::TIMEDOUT)) if into_cgroup && self.is_frozen() => {
                return Err(Failed::Because("its cgroup is frozen".to_owned()));
            }
            launched => launched.map_err(|why| not_born(into_cgroup, why))?,
        };
        // It is waited for when init is told to go on, by which time it has gone as a rule.
        self.made.guard = launched.guard;
        if stage0 {
            self.made.stage0 = Some(launched.pidfd);
        } else {
            let pid = launched.pid.as_raw_nonzero().get();
            self.made.process = Some(Process {
                pid,
                pidfd: launched.pidfd,
            });
        }
        Ok(())
    }

    /// Descriptors for 0, 1 and 2: the given ones, else the caller's own, else /dev/null.
    fn stdio(&mut self, least: i32) -> Result<Vec<Stdio>, Errno> {
        let own = crate::host::own_stdio();
        let given = std::mem::take(&mut self.stdio);
        let pick = |(given, own): (Option<OwnedFd>, Option<BorrowedFd<'static>>)| match (given, own)
        {
            (Some(fd), _) => Ok(Stdio::Given(ipc::at_least(fd, least)?)),
            (None, Some(fd)) => Ok(Stdio::Own(fd.as_raw_fd())),
            (None, None) => {
                let null = file::open_at(
                    rustix::fs::CWD,
                    Path::new("/dev/null"),
                    rustix::fs::OFlags::RDWR,
                )?;
                Ok(Stdio::Given(ipc::at_least(null, least)?))
            }
        };
        given.into_iter().zip(own).map(pick).collect()
    }
}

/// In a cgroup a lack of something is most likely a limit.
fn not_born(into_cgroup: bool, why: NotBorn) -> Failed {
    let errno = match why {
        NotBorn::Child(errno) => errno,
        NotBorn::Guard(errno) => {
            let text = errno_text(errno.raw_os_error());
            return Failed::Because(format!("a thread of the caller: {text}"));
        }
    };
    let limit = match errno {
        Errno::NOMEM => "memory.max of it (linux.resources.memory) or of one above is too small",
        Errno::AGAIN => "pids.max of it (linux.resources.pids) or of one above is reached",
        _ => return errno.into(),
    };
    if !into_cgroup {
        return errno.into();
    }
    let text = errno_text(errno.raw_os_error());
    Failed::Because(format!("{text}: {limit}"))
}

/// The descriptors that init gets, open until it runs.
struct Passed {
    report: OwnedFd,
    slots: Vec<(Slot, OwnedFd)>,
    stdio: Vec<Stdio>,
}

impl Passed {
    fn slots(&self) -> Vec<(Slot, RawFd)> {
        let number = |(slot, fd): &(Slot, OwnedFd)| (*slot, fd.as_raw_fd());
        self.slots.iter().map(number).collect()
    }

    fn stdio(&self) -> [RawFd; 3] {
        [0, 1, 2].map(|at: usize| self.stdio.get(at).map_or(-1, Stdio::number))
    }

    /// All of them.
    fn numbers(&self) -> Vec<RawFd> {
        let slots = self.slots.iter().map(|(_, fd)| fd.as_raw_fd());
        let report = std::iter::once(self.report.as_raw_fd());
        report.chain(slots).chain(self.stdio()).collect()
    }
}

/// Where a standard descriptor comes from.
enum Stdio {
    Given(OwnedFd),
    Own(RawFd),
}

impl Stdio {
    fn number(&self) -> RawFd {
        match self {
            Stdio::Given(fd) => fd.as_raw_fd(),
            Stdio::Own(number) => *number,
        }
    }
}
