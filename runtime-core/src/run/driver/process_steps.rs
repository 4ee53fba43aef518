//! The runtime half's steps on the container's process.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::OFlags;

use super::{Driver, Failed, out_of_step};
use crate::plan::RunOp;
use crate::run::netdevices::NetDevices;
use crate::sys::{file, process, scheduling};

impl Driver<'_> {
    /// Steps on the process: by its directory in /proc, or by its pid while its pidfd
    /// says that nobody reaped it. An embedder may wait for all of its children.
    pub(super) fn perform_on_process(&mut self, op: &RunOp) -> Result<(), Failed> {
        let process = self.made.process.as_ref().ok_or_else(out_of_step)?;
        let unreaped = || process::pidfd_send_signal(process.pidfd.as_fd(), 0);
        let own = || {
            let path = format!("/proc/{}", process.pid);
            let own = file::open_dir_at(rustix::fs::CWD, Path::new(&path))?;
            unreaped().map(|()| own)
        };
        let write =
            |name: &str, text: &str| file::write_at(own()?, Path::new(name), text.as_bytes());
        let read = |name: &str| file::read_at(own()?, Path::new(name));
        match op {
            RunOp::WriteUidMap(map) => Ok(write("uid_map", map)?),
            RunOp::WriteGidMap(map) => Ok(write("gid_map", map)?),
            RunOp::CheckUidMap(map) => same_map(read("uid_map")?, map),
            RunOp::CheckGidMap(map) => same_map(read("gid_map")?, map),
            RunOp::WriteTimeOffsets(offsets) => Ok(write("timens_offsets", offsets)?),
            RunOp::SetOomScoreAdj(score) => Ok(write("oom_score_adj", &score.to_string())?),
            RunOp::SetRlimit {
                resource,
                soft,
                hard,
            } => {
                unreaped()?;
                Ok(process::prlimit(process.pid, *resource, *soft, *hard)?)
            }
            RunOp::SetScheduler(attributes) => {
                unreaped()?;
                Ok(scheduling::sched_setattr(process.pid, attributes)?)
            }
            RunOp::SetIoPriority(priority) => {
                unreaped()?;
                Ok(scheduling::ioprio_set(process.pid, *priority)?)
            }
            RunOp::JoinResctrl(group) => {
                unreaped()?;
                group.join(process.pid).map_err(Failed::Because)
            }
            _ => Err(out_of_step().into()),
        }
    }

    pub(super) fn move_net_device(&mut self, name: &str, new_name: &str) -> Result<(), Failed> {
        let process = self.made.process.as_ref().ok_or_else(out_of_step)?;
        let devices = match &mut self.made.devices {
            Some(devices) => devices,
            none => {
                let path = format!("/proc/{}", process.pid);
                let own = file::open_dir_at(rustix::fs::CWD, Path::new(&path))?;
                process::pidfd_send_signal(process.pidfd.as_fd(), 0)?;
                let namespace = file::open_at(own, Path::new("ns/net"), OFlags::RDONLY)?;
                none.insert(NetDevices::new(namespace)?)
            }
        };
        let taken = devices.take(name, new_name);
        taken.map_err(|refusal| Failed::Because(refusal.to_string()))
    }
}

/// Whether an id map, as /proc shows it, is this one, in whatever order.
fn same_map(shown: Vec<u8>, wanted: &str) -> Result<(), Failed> {
    let lines = |text: &str| {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        let mut lines: Vec<Vec<String>> = text.lines().map(words).collect();
        lines.sort_unstable();
        lines
    };
    let shown = String::from_utf8_lossy(&shown);
    if lines(&shown) == lines(wanted) {
        return Ok(());
    }
    let shown: Vec<String> = lines(&shown).iter().map(|line| line.join(" ")).collect();
    let text = format!("the namespace that is joined has {}", shown.join(", "));
    Err(Failed::Because(text))
}
