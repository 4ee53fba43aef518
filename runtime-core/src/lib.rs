//! An OCI bundle in, a contained process out.
pub mod spec;
mod cgroup;
mod sys;
