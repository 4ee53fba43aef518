//! [`Runtime::check`]: every problem of a bundle at once, without making anything.
//!
//! What `create` would refuse is an error, found by the same code: the checks of the file,
//! planning for this machine, its obstacles. Then what only a look at the machine tells, and
//! what is allowed and yet most likely not meant.
//!
//! # Layout
//! - `fields`: fields that nobody knows
//! - `files`: the root file system, the program, sources of mounts, hooks
//! - `ids`: ids of the host that the caller may not map
//! - `risks`: settings that weaken the container

mod fields;
mod files;
mod ids;
mod risks;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::bundle::read_config;
use crate::cgroup::{self, Cgroup, CgroupError, CgroupMode};
use crate::container::{CreateOptions, Runtime};
use crate::error::Error;
use crate::host::{Facts, Host};
use crate::plan::Plan;
use crate::spec::{self, Spec};

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// `create` or `start` would fail.
    Error,
    /// It would not, but the container may not be what was meant.
    Warning,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Error => "error",
            Level::Warning => "warning",
        })
    }
}

/// Something to know of a bundle.
///
/// `Display` is one line, as the error of `create` would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The place in config.json, as `mounts[3].source`; empty for the file as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.level, self.message),
            path => write!(f, "{}: {path}: {}", self.level, self.message),
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, path: impl Into<String>, message: impl Into<String>) {
        let (path, message) = (path.into(), message.into());
        let finding = Finding {
            level,
            path,
            message,
        };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.add(Level::Error, path, message);
    }

    fn warning(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.add(Level::Warning, path, message);
    }

    /// A line that begins with its place.
    fn told(&mut self, level: Level, line: &str) {
        match line.split_once(": ").filter(|(path, _)| is_place(path)) {
            Some((path, message)) => self.add(level, path, message),
            None => self.add(level, "", line),
        }
    }

    /// What planning says of a place that the checks of the file have named says it again.
    fn told_unless_known(&mut self, line: &str) {
        let place = line.split(": ").next().unwrap_or_default();
        if !self.0.iter().any(|finding| finding.path == place) {
            self.told(Level::Error, line);
        }
    }
}

/// Whether this is a path in config.json and no word of a sentence.
fn is_place(path: &str) -> bool {
    let top = path.split(['.', '[']).next().unwrap_or_default();
    !path.contains(' ') && fields::is_known(top)
}

impl Runtime {
    /// Everything that is wrong or risky about the bundle in a directory, on this machine:
    /// errors first. Nothing is made or changed.
    ///
    /// ```no_run
    /// use corten_core::{CreateOptions, Runtime};
    ///
    /// let runtime = Runtime::builder().build()?;
    /// for finding in runtime.check("/bundles/web", &CreateOptions::default())? {
    ///     println!("{finding}");
    /// }
    /// # Ok::<(), corten_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// When there is no config.json to read, or /proc can't be read. That it is no JSON is a
    /// finding.
    pub fn check(
        &self,
        bundle: impl AsRef<Path>,
        options: &CreateOptions,
    ) -> Result<Vec<Finding>, Error> {
        let (bundle, bytes) = read_config(bundle.as_ref())?;
        let mut found = Findings::default();
        let spec = match spec::parse(&bytes) {
            Ok(spec) => spec,
            Err(error) => {
                found.told(Level::Error, &error.to_string());
                return Ok(found.0);
            }
        };
        for problem in spec::problems(&spec) {
            found.told(Level::Error, &problem.to_string());
        }
        for warning in spec::warnings(&spec) {
            found.told(Level::Warning, &warning);
        }
        fields::check(&mut found, &bytes, &spec);
        let rootfs = files::rootfs(&mut found, &spec, &bundle);
        self.check_plan(&mut found, &spec, &bundle, &rootfs, options)?;
        files::check(&mut found, &spec, &bundle, &rootfs);
        ids::check(&mut found, &spec);
        risks::check(&mut found, &spec);
        found.0.sort_by_key(|finding| finding.level);
        Ok(found.0)
    }

    /// What planning for this machine finds.
    fn check_plan(
        &self,
        found: &mut Findings,
        spec: &Spec,
        bundle: &Path,
        rootfs: &Path,
        options: &CreateOptions,
    ) -> Result<(), Error> {
        let host = Host::probe()?;
        let options = self.plan_options("container", options, false);
        let facts = match Facts::probe(spec, bundle, rootfs, &options) {
            Ok(facts) => facts,
            Err(error) => {
                found.told_unless_known(&error.to_string());
                return Ok(());
            }
        };
        let plan = match Plan::new(spec, &host, &facts, &options) {
            Ok(plan) => plan,
            Err(error) => {
                found.told_unless_known(&error.to_string());
                return Ok(());
            }
        };
        for obstacle in &plan.obstacles {
            found.told_unless_known(&obstacle.to_string());
        }
        for warning in &plan.warnings {
            found.told(Level::Warning, warning);
        }
        if let (Some(path), CgroupMode::V2) = (&facts.cgroup, host.cgroup) {
            if let Err(error) = cgroup::offers(&plan.limits) {
                found.told_unless_known(&error.to_string());
            }
            cgroup_in_use(found, path);
        }
        Ok(())
    }
}

/// A cgroup that is there already must be empty.
fn cgroup_in_use(found: &mut Findings, path: &Path) {
    let used = Cgroup::refuse_used(Path::new(cgroup::MOUNT), path);
    if let Err(error @ (CgroupError::NotEmpty { .. } | CgroupError::Frozen { .. })) = used {
        let text = error.to_string().replacen("cgroup ", cgroup::MOUNT, 1);
        found.told(Level::Error, &text);
    }
}
