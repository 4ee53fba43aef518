//! What a container has used.

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
}
