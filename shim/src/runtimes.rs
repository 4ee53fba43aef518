//! [`Runtimes`]: the library, once for each place where containers have their state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use corten_core::Runtime;

use crate::bundle;
use crate::failure::Failure;
use crate::proto::options::Options;

/// A state directory, and whether systemd makes the cgroups.
type Place = (PathBuf, bool);

/// All containers with the same options share one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runtimes {
    known: Arc<Mutex<BTreeMap<Place, Arc<Runtime>>>>,
}

impl Runtimes {
    /// The runtime for these options. Making one looks at files, so it takes time.
    pub(crate) fn find(&self, options: &Options, namespace: &str) -> Result<Arc<Runtime>, Failure> {
        let root = bundle::state_root(&options.root, namespace);
        let key = (root.clone(), options.systemd_cgroup);
        // Nothing that is done with the lock can fail halfway.
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = known().get(&key) {
            return Ok(Arc::clone(runtime));
        }
        let cgroups = if options.systemd_cgroup {
            corten_core::Cgroups::Systemd
        } else {
            corten_core::Cgroups::Fs
        };
        let mut builder = Runtime::builder().root(root).cgroups(cgroups);
        if let Some([soft, hard]) = crate::sys::nofile() {
            builder = builder.nofile(soft, hard);
        }
        let made = Arc::new(builder.build()?);
        Ok(Arc::clone(known().entry(key).or_insert(made)))
    }
}
