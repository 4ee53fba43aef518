//! What a container has used, and its processes.

use super::Container;
use crate::cgroup::stats::Stats;
use crate::error::Error;

impl Container {
    /// What the processes of the container have used, from its cgroup.
    ///
    /// # Errors
    /// When the container has no cgroup, or one of its files can't be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        let cgroup = self.saved.open_cgroup();
        let cgroup =
            cgroup.ok_or_else(|| Error::other("a container without a cgroup has no statistics"))?;
        Ok(cgroup.stats()?)
    }

    /// The process ids of all that runs in the container's cgroup and in those below it, as
    /// the caller's pid namespace numbers them, in order; none when it has ended.
    ///
    /// Without a cgroup only the first process is known.
    ///
    /// # Errors
    /// When the cgroup can't be read.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = match (&self.saved.cgroup, self.saved.open_cgroup()) {
            (_, Some(cgroup)) => cgroup.procs()?,
            (Some(_), None) => Vec::new(),
            (None, None) => [self.pid()].into_iter().filter(|pid| *pid > 0).collect(),
        };
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }
}
